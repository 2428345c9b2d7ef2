"""Sites: a user and a tree each.  (T1, "Server setup": /var/www)"""

from __future__ import annotations

import time

from .engine import Guarded, Host, task
from .engine.render import render
from .model import Site

APACHE = "www-data"
LOGROTATE = "/etc/logrotate.d/gatehouse-sites"
CRON_DENY = "/etc/cron.deny"

TMP = "/etc/gatehouse/tmp"
TMP_PROGRAM = "/usr/local/sbin/gatehouse-tmp"
TMP_UNIT = "/etc/systemd/system/gatehouse-tmp.service"

SLICE = "/etc/systemd/system/gatehouse.slice"

MOUNTED = "/srv/sites"
"""Where another host's /var/www is seen over NFS."""

FROM_AFAR = ("public_html", "releases", "shared")
"""Of a site's tree, what is the files host's where there is one; the rest is each host's own."""


@task
def users(c):
    """T1 PHP-FPM: a system user a site, with a group of its own, no password and no shell.

    T1 puts them all into `nobody`. Apache joins each site's group: the door to a site's tree is open for the two of
    them alone, whatever modes the site gives its own files. A user of that name that is not the site's own, or a
    stranger in its group, stops the step. In a fleet with a files host a user has the same number on every host.
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
        host.user(site.owner, home=site.root, uid=_number(host, site), near=site.uid)
    host.user(APACHE, home="/var/www", groups=[site.owner for site in host.chosen])
    no_jobs_of_their_own(host)


def no_jobs_of_their_own(host: Host) -> None:
    """crontab(1) is none of the sites' business: cron runs jobs outside of every sandbox and limit.

    Root gives a site its jobs, in a file of /etc/cron.d that names its user.
    """
    homes = {name for name, user in host.facts.users.items() if user.home.startswith("/var/www/")}
    names = sorted(homes | {site.owner for site in host.chosen})
    host.file(CRON_DENY, "".join(f"{name}\n" for name in ("# Managed by Gatehouse: the users of sites.", *names)))


def _number(host: Host, site: Site) -> int | None:
    """The number of the site's user, where hosts must agree on it.  Raises Guarded where this one cannot."""
    if "shared" not in host.fleet.roles(host.name):
        return None
    user = host.facts.users.get(site.owner)
    if user and (user.uid, user.gid) not in ((site.uid, site.uid), (-1, -1)):
        raise Guarded(
            f"{site.owner} has the number {user.uid}, group {user.gid}, on {host.name}; on all hosts of this fleet it "
            f"is {site.uid}, since files on other hosts are known by number alone",
            f"on {host.name}, while nothing of {site} runs: usermod --uid {site.uid} {site.owner}; "
            f"groupmod --gid {site.uid} {site.owner}; find /var/www /etc/gatehouse -xdev '(' -uid {user.uid} "
            f"-exec chown -h {site.uid} {{}} + ')' , '(' -gid {user.gid} -exec chgrp -h {site.uid} {{}} + ')'",
        )
    others = (one for one in host.facts.users.values() if one.name != site.owner)
    if other := next((one for one in others if one.uid == site.uid), None):
        raise Guarded(
            f"{site.uid}, the number of {site.owner}, is {other.name}'s on {host.name}",
            f"give the site another one in its file in sites/: uid: {site.uid + 1}",
        )
    return site.uid


@task
def tree(c):
    """T1 "Server setup": /var/www/<domain> with log, mail, public_html/{_,www} and tmp, and a page to look at.

    The site's directory, its log and `releases` belong to root, since root's programs write there; mail, tmp, shared
    and each release are the site's own, and root never opens anything below them. public_html is a link to the release
    that serves: T1 has one directory there, in which a visitor sees half of what is being copied.

    T5 VM1, VM2, VM5: a files host has releases and shared for all; on the others they are links to where it is mounted,
    or follow it (files.follow), and log, mail and tmp are each host's own.
    """
    host = Host.of(c)
    host.packages("rsync")
    for site in host.chosen:
        owner = site.owner
        host.directory(site.root, mode=0o750, group=owner)
        if "web" in host.fleet.roles(host.name):
            host.directory(f"{site.root}/log", mode=0o750, group=owner)
            for private in ("mail", "tmp"):
                host.directory(f"{site.root}/{private}", mode=0o700, owner=owner, group=owner)
            # PHP writes this one as the site's user, who could not make it: what is in it is the site's.
            if (errors := f"{site.root}/log/php_errors.log") not in host.facts.files:
                host.file(errors, "", mode=0o640, owner=owner, group=owner)
        if not host.fleet.keeps_files(host.name) and host.fleet.files.mount == "nfs":
            _from_afar(host, site)
            continue
        host.directory(f"{site.root}/releases", mode=0o750, group=owner)
        host.directory(f"{site.root}/shared", mode=0o750, owner=owner, group=APACHE)
        if host.fleet.keeps_files(host.name):
            _first_release(host, site)


@task
def tmp(c):
    """T4: each site's tmp/ is a file system of its own, in memory: who fills it fills nobody else's, and no disk.

    Of a size that the site's file says (`limits.tmp_mb`); it is empty after a boot, as Debian 13's own /tmp is.
    """
    host = Host.of(c)
    if "web" not in host.fleet.roles(host.name):
        return
    there = {*host.facts.users, *(site.owner for site in host.chosen)}
    host.template(TMP_PROGRAM, mode=0o755)
    lines = (f"tmp {site.tmp_mb} {site.owner} {site.root}\n" for site in host.sites if site.owner in there)
    host.file(TMP, "# Managed by Gatehouse: tmp MB OWNER TREE\n" + "".join(lines))
    host.template(TMP_UNIT)
    mount(host)


def mount(host: Host) -> None:
    """Each tmp/ is mounted, and has its size."""
    host.service("gatehouse-tmp", reload_on=[TMP], restart_on=[TMP_UNIT, TMP_PROGRAM])


@task(name="slice")
def code(c):
    """T4: sites' code has a share of the processor of its own, apart from what serves all sites (systemd.slice(5)).

    PHP-FPM, what Apache starts for sites and sites' own programs are in it: whoever takes all of the processor takes it
    from there. Apache itself, HAProxy, Varnish, the database and SSH are in other slices.
    """
    host = Host.of(c)
    if "web" in host.fleet.roles(host.name):
        file = host.template(SLICE)
        host.run("systemd knows the slice of sites' code", "read_units", name="gatehouse.slice", on=[file])


def _from_afar(host: Host, site: Site) -> None:
    """Links to the files host's tree: nobody need ask it in order to see what is here."""
    for name in FROM_AFAR:
        path = f"{site.root}/{name}"
        now = host.facts.files.get(path)
        if now and (now.kind == "d" or (now.kind == "l" and now.target.startswith("releases/"))):
            keeper = host.fleet.one("files")
            raise Guarded(
                f"{host.name} has a {name} of {site} itself, and in this fleet {keeper} has it for all",
                f"when the site is deployed there (fab -H {keeper} site.deploy {site} --source DIR) and what shared/ "
                f"holds was copied, on {host.name}: mkdir -m 0700 {site.root}.own && "
                f"mv {' '.join(f'{site.root}/{each}' for each in FROM_AFAR)} {site.root}.own/",
            )
        host.link(path, f"{MOUNTED}/{site}/{name}")


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


STEPS = (users, tree, tmp, code, logs)
