"""`inv site.new`: the file of a new site, with the keys that people change and what each means."""

from __future__ import annotations

import os
from pathlib import Path

from invoke import Collection, Context, task
from pydantic import ValidationError

from .engine import console
from .engine.pool import told
from .model import Fleet, Problem, Refusal, Site, find_fleet
from .model.names import both_forms, site_domain
from .model.refusal import Wrong, shown_path

TEXT = """\
# {shown}: what differs from the defaults.  sites/example.com.yml has every key; a key that is left out has its default.
# Make it so, on each of its hosts:  fab -H HOST site.apply {domain}

domain: {domain}

# subdomains: [www, shop]     # names in front of the domain, each with a directory of its own; default [www]
# aliases: [example.org]      # other full host names of this site
# database: true              # a MariaDB database and user of the site's own, both called {owner}
# hosts: [web1]               # the machines that serve it, of fleet.yml; default: every web server

# php:                        # or `php: false`
#   children: 5               # workers at most
#   memory_limit: 128M        # of one request
#   upload_limit: 8M          # one request's body and each file in it

# cache:
#   keep_cookies: [PHPSESSID] # cookies that reach PHP; requests with one of them are not cached
#   bypass: [/admin/]         # beginnings of paths that are never cached

# deploy:                     # fab -H HOST site.deploy {domain} --source DIR
#   docroot: public           # where an application has its web root; default: its top
#   shared: [uploads]         # what outlives releases
#   before: [php migrate.php] # commands in a new release before it serves
#   smoke: /                  # the page that must answer 200, or the former release comes back
"""


def inv_tasks() -> Collection:
    """The namespace for tasks.py."""
    options = {"domain": "the bare domain, without www; an IDN as it is read", "fleet": FLEET}
    return Collection("site", task(positional=["domain"], help=options)(told(new)))


FLEET = "the fleet.yml to use; else GATEHOUSE_FLEET, else ./fleet.yml"


def new(_c: Context, domain: str, fleet: str = "") -> None:
    """Write sites/DOMAIN.yml with the keys that people change, each with its comment; exit code 2 if it is there."""
    explicit = fleet or os.environ.get("GATEHOUSE_FLEET", "")
    found = find_fleet(None, Path(explicit) if explicit else None, Path.cwd())
    path = write(found, domain)
    host = next(iter(found.hosts), "HOST")
    console.print(f"{shown_path(path)} is written: look into it, then type", markup=False)
    console.print(f"  fab -H {host} site.apply {path.stem}", markup=False)


def write(fleet: Fleet, text: str) -> Path:
    """The new file.  Raises Refusal for what is no domain, and for one that a site has already."""
    try:
        site = Site(domain=site_domain(text))
    except Wrong as wrong:
        raise Refusal(Problem(wrong.message, key="domain", example=str(wrong.example or "example.com"))) from None
    except ValidationError as error:
        reason = error.errors()[0].get("ctx", {}).get("error")
        raise Refusal(Problem(str(reason or error.errors()[0]["msg"]), key="domain", example="example.com")) from None
    path = fleet.sites / f"{site}.yml"
    for other in fleet.all_sites:
        if name := next((name for name in site.names if name in other.names), None):
            what = f"{both_forms(name)} is a name of {other.both}"
            raise Refusal(Problem(f"{what}, in {shown_path(fleet.sites)}", key="domain"))
        if other.owner == site.owner:
            raise Refusal(Problem(f"its user would be {site.owner}, which is that of {other.both}", key="domain"))
    fleet.sites.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEXT.format(shown=site.shown, domain=site.domain, owner=site.owner))
    except FileExistsError:
        raise Refusal(Problem("is there already, and stays as it is", path)) from None
    except OSError as error:
        raise Refusal(Problem(f"cannot be written: {error.strerror}", path)) from None
    return path
