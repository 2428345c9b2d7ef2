"""Sites: a user and a tree each.  (T1, "Server setup": /var/www)"""

from __future__ import annotations

from .engine import Guarded, Host, console, query, task
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
    for site in host.sites:
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
    host.user(APACHE, home="/var/www", groups=[site.owner for site in host.sites])


@task
def tree(c):
    """T1 "Server setup": /var/www/<domain> with log, mail, public_html/{_,www} and tmp, and a page to look at.

    The site's directory and its log belong to root, since root's programs write there; mail, public_html and tmp
    are the site's own, and root never opens anything below them.
    """
    host = Host.of(c)
    for site in host.sites:
        owner = site.owner
        host.directory(site.root, mode=0o750, group=owner)
        host.directory(f"{site.root}/log", mode=0o750, group=owner)
        for private in ("mail", "tmp"):
            host.directory(f"{site.root}/{private}", mode=0o700, owner=owner, group=owner)
        host.seed(f"{site.root}/public_html", owner=owner, group=APACHE, mode=0o750, files=pages(site))
        # PHP writes this one as the site's user, who could not make it: what is in it is the site's.
        if (errors := f"{site.root}/log/php_errors.log") not in host.facts.files:
            host.file(errors, "", mode=0o640, owner=owner, group=owner)


@task(help={"days": "days for which the logs of sites are kept"}, within={"days": (1, 3650)})
def logs(c, days=14):
    """T1 "Server setup": a log directory a site; here they do not grow for ever."""
    host = Host.of(c)
    host.packages("logrotate")
    host.template(LOGROTATE, check=f"logrotate --debug {LOGROTATE}", days=int(days))


@query(name="list")
def show(c):
    """The sites of this host: names, user and PHP settings that are looser than the default."""
    host = Host.of(c)
    for site in host.sites:
        loose = site.php.loosened if site.php else ("no PHP",)
        console.print(f"{site.shown}  {site.owner}  {' '.join(site.names[1:])}", *loose, sep="  ")


def pages(site: Site) -> dict[str, str]:
    """A placeholder for the bare domain and for every subdomain."""
    names = {"_": site.shown, "www": f"www.{site.shown}"} | {sub: f"{sub}.{site.shown}" for sub in site.subdomains}
    return {f"{sub}/index.html": render("/var/www/index.html", {"name": name}) for sub, name in names.items()}


STEPS = (users, tree, logs)
