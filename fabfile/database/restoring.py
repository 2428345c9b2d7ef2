"""A dump comes back: beside what is there first, then in its place; and the drill that proves that it would."""

from __future__ import annotations

from pathlib import Path

from ..engine import Guarded, Host, flow
from ..engine.asking import confirmed
from ..model import Problem, Refusal, Site
from . import dumping
from .accounts import RESTORER, RIGHTS
from .dumping import KEEP, judged, stamped, there, whole
from .places import KEPT, refuse_elsewhere, shell, with_database

RECEIVE = r"""
set -e
umask 077
mkdir -p "${1%/*}"
rm -f "${1%/*}"/*.in
cat > "$1"
[ "$(stat -c %s "$1")" = "$2" ] && gzip -t "$1" || { rm "$1"; echo "it did not come whole" >&2; exit 1; }
"""


@flow(
    run="db.restore",
    positional=["domain"],
    help={
        "domain": "the site's domain",
        "from_": "a file here: what db.dump --to, or another mariadb-dump through gzip, has written",
        "kept": "a dump on the host, by its name, or `newest`",
        "yes": "do not ask",
        "json": "print the outcome of every step as JSON",
    },
)
def restore(c, domain, from_="", kept="", yes=False, json=False):  # noqa: ARG001
    """On call: put a dump in the place of all that a site's database holds; that is dumped first, and kept.

    It is loaded beside what is there, as a user that reaches nothing else, and its rows are counted; then its tables
    take the place of the others by one renaming. A dump that is cut or changed is refused before anything is touched
    (exit code 2). The site answers all the while; purge its pages then.
    """
    host = Host.of(c)
    site = with_database(host, domain, "db.restore")
    if bool(from_) == bool(kept):
        raise Refusal(f"--from FILE, or --kept NAME\n  for example:  db.restore {site} --kept newest")
    size = whole(Path(from_)) if from_ else 0
    name = "" if from_ else _name(host, site, kept)
    if name:
        size, _, _ = judged(host, name)
    if not yes and not host.dry:
        what = f"all that the database of {site.shown} on {host.name} holds is replaced by {Path(from_ or name).name}"
        confirmed(what, (site.domain, site.shown))
    with host.step("db.restore"):
        there(host, site)
        former = stamped(host, site)
        if from_:
            name = f"{former}.in"
            if not host.dry:
                with Path(from_).open("rb") as source:
                    host.stream(RECEIVE, name, str(Path(from_).stat().st_size), source=source)
        host.user(RESTORER)
        words = (site.owner, name, former, RIGHTS, str(size), str(KEEP), "0")
        host.run(f"restore {Path(from_ or name).name} into {site.owner}", shell("dump", "load", "restore"), *words)
        host.note(f"what it held before: {former}")


@flow(
    run="db.drill",
    positional=["domain"],
    help={
        "domain": "the site's domain; without it, every site with a database here",
        "json": "print the outcome of every step as JSON",
    },
)
def drill(c, domain="", json=False):  # noqa: ARG001
    """On call: prove that a site's newest dump on the host restores: into a database of its own, which goes again.

    Its rows are counted as the dump says, and read again: the same text, or exit code 1.  What is there is not touched.
    """
    host = Host.of(c)
    refuse_elsewhere(host, f"db.drill {domain}".strip())
    sites = [with_database(host, domain, "db.drill")] if domain else [site for site in host.sites if site.database]
    found = dumping.kept(host)
    for site in sites:
        if not found.get(site.owner):
            raise Guarded(f"{host.name} has no dump of {site}", f"fab -H {host.name} db.dump {site}")
    judgements = {site: judged(host, f"{KEPT}/{found[site.owner][0]}") for site in sites}
    for site, (size, tables, rows) in judgements.items():
        name = found[site.owner][0]
        with host.step(f"db.drill {site}"):
            host.user(RESTORER)
            program = shell("dump", "load", "drill")
            host.run(f"restore {name} aside", program, site.owner, f"{KEPT}/{name}", RIGHTS, str(size))
            host.note(f"{name}: {rows} rows in {tables} tables")


def _name(host: Host, site: Site, name: str) -> str:
    """The path of a dump of this site on the host.  Raises Refusal with those that there are."""
    names = dumping.kept(host).get(site.owner, [])
    if name == "newest" and names:
        return f"{KEPT}/{names[0]}"
    if name not in names:
        there_are = ", ".join(names[:5]) or "none"
        message = f"{host.name} has no dump {name} of {site}; it has: {there_are}"
        raise Refusal(Problem(message, next=f"fab -H {host.name} db.restore {site} --kept NAME"))
    return f"{KEPT}/{name}"
