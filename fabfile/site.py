"""Sites: a user and a tree each.  (T1, "Server setup": /var/www)"""

from __future__ import annotations

import time

from .engine import Guarded, Host, task
from .engine.render import render
from .model import Site

APACHE = "www-data"
LOGROTATE = "/etc/logrotate.d/gatehouse-sites"


@task
def users(c):
    """T1 PHP-FPM: a system user a site, with a group of its own, no password and no shell.

    T1 puts them all into `nobody`. Apache joins each site's group: the door to a site's tree is open for the two of
    them alone, whatever modes the site gives its own files. A user of that name that is not the site's own, or a
    stranger in its group, stops the step.
    """
    host = Host.of(c)
    for site in host.chosen:
        user = host.facts.users.get(site.owner)
        if user and user.home != site.root:
            raise Guarded(
                f"{site} wants the user {site.owner}, which {host.name} has already, with the home {user.home}",
                f"give the site another one in its file in sites/: owner: {site.owner[:28]}-web",
            )
        if members := {*host.facts.groups.get(site.owner, ())} - {APACHE, site.owner}:
            raise Guarded(
                f"the group {site.owner} of {site} has other members on {host.name}: {', '.join(sorted(members))}",
                f"they could read the site; if that is a mistake: gpasswd --delete USER {site.owner}",
            )
        host.user(site.owner, home=site.root)
    host.user(APACHE, home="/var/www", groups=[site.owner for site in host.chosen])


@task
def tree(c):
    """T1 "Server setup": /var/www/<domain> with log, mail, public_html/{_,www} and tmp, and a page to look at.

    The site's directory, its log and `releases` belong to root, since root's programs write there; mail, tmp, shared
    and each release are the site's own, and root never opens anything below them. public_html is a link to the release
    that serves: T1 has one directory there, in which a visitor sees half of what is being copied.
    """
    host = Host.of(c)
    host.packages("rsync")
    for site in host.chosen:
        owner = site.owner
        host.directory(site.root, mode=0o750, group=owner)
        host.directory(f"{site.root}/log", mode=0o750, group=owner)
        host.directory(f"{site.root}/releases", mode=0o750, group=owner)
        for private in ("mail", "tmp"):
            host.directory(f"{site.root}/{private}", mode=0o700, owner=owner, group=owner)
        host.directory(f"{site.root}/shared", mode=0o750, owner=owner, group=APACHE)
        _first_release(host, site)
        # PHP writes this one as the site's user, who could not make it: what is in it is the site's.
        if (errors := f"{site.root}/log/php_errors.log") not in host.facts.files:
            host.file(errors, "", mode=0o640, owner=owner, group=owner)


def _first_release(host: Host, site: Site) -> None:
    """A page to look at, unless something serves.  An earlier Gatehouse made public_html a directory: it stays one
    until the first deploy.
    """
    now = host.facts.files.get(site.served)
    if now and (now.kind != "l" or f"{site.root}/{now.target}" in host.facts.files):
        return
    first = now.target if now else time.strftime("releases/%Y%m%d-%H%M%S", time.gmtime(host.facts.clock))
    host.seed(f"{site.root}/{first}", owner=site.owner, group=APACHE, mode=0o750, files=pages(site))
    host.file(f"{site.root}/{first}.from", "a page to look at, until the first deploy\n", mode=0o600)
    host.link(site.served, first)


@task(help={"days": "days for which the logs of sites are kept"}, within={"days": (1, 3650)})
def logs(c, days=14):
    """T1 "Server setup": a log directory a site; here they do not grow for ever."""
    host = Host.of(c)
    host.packages("logrotate")
    host.template(LOGROTATE, check=f"logrotate --debug {LOGROTATE}", days=int(days))


def pages(site: Site) -> dict[str, str]:
    """A placeholder for the bare domain and for every subdomain."""
    names = {room: site.shown if room == "_" else f"{room}.{site.shown}" for room in site.rooms}
    return {f"{room}/index.html": render("/var/www/index.html", {"name": name}) for room, name in names.items()}


STEPS = (users, tree, logs)
