"""An app host's way to the cache host: where its pools keep their sessions, and what a site's code is told."""

from __future__ import annotations

from ..credentials import HANDED, SECRETS
from ..engine import Host, Problem, render, task
from ..engine.cards import cards
from ..engine.filled import MARK, filled
from ..model import Machine, Site
from ..model.ways import REDIS, cache_port
from .places import CERTIFICATE, INCLUDES, PASSWORDS, include, keeper, keeps
from .redis import REDIS as LOCAL
from .redis import ROSTER, UNIT

TIMEOUT = 0.5
"""Seconds that a page waits for the cache, once; without an answer it goes on without a session."""

POOL = f"{INCLUDES}/{{owner}}.conf"
INI, HANDLER = f"{HANDED}/{{owner}}/cache.ini", f"{HANDED}/{{owner}}/sessions.php"

LEAVE = """
apt purge redis-server
rm -f "$@"
systemctl daemon-reload
"""


@task
def reach(c):
    """T5 VM3: how the sites of an app host reach the cache host, for their sessions and as a file for their code.

    The password was made here and stays here; the cache host must show its own certificate. Without an answer in half
    a second a page goes on without a session.
    """
    host = Host.of(c)
    if "web" not in host.fleet.roles(host.name):
        return
    one = keeper(host)
    if one is None:
        _come_home(host)
        return
    pem = _certificate(host, one) if host.fleet.cache.server == "redis" else ""
    for path in (SECRETS, INCLUDES):
        host.directory(path, mode=0o700)
    host.directory(HANDED)
    for site in host.chosen:
        if site.php:
            host.directory(_place(site.owner), mode=0o750, group=site.owner)
            _tell(host, site, one, pem)
        else:
            host.absent(*_handed(site.owner))
    if LOCAL in host.facts.files and not keeps(host, "redis"):
        host.run("the Redis that was here goes", LEAVE, LOCAL, ROSTER, UNIT)


def _certificate(host: Host, one: Machine) -> str:
    """The cache host's own; empty as long as it has none, or says nothing."""
    pem = cards(host, [one]).get(one.name, {}).get(CERTIFICATE, "")
    if not pem and not isinstance(host.cards.get(one.name), Problem):
        host.note(f"{one} has no certificate yet: once {one} is bootstrapped, this again")
    return pem


def _tell(host: Host, site: Site, one: Machine, pem: str) -> None:
    """A site's files: for its pool, for its sessions, for its code."""
    redis, owner = host.fleet.cache.server == "redis", site.owner
    told, trusted, handler = _handed(owner)
    if pem:
        host.file(trusted, pem.strip() + "\n", mode=0o640, group=owner)
    values = {
        "site": site,
        "server": host.fleet.cache.server,
        "host": one.bracketed if redis else str(one.address),
        "port": REDIS if redis else cache_port(host.fleet, site),
        "user": f"{owner}.{host.name}" if redis else "",
        "password": MARK if redis else "",
        "ca": trusted if redis and trusted in host.facts.files else "",
        "timeout": TIMEOUT,
        "ini": told,
        "handler": handler,
    }
    text = render.render(INI, values)
    if not redis:
        host.file(told, text, mode=0o640, owner=owner)
    elif f"{PASSWORDS}/{owner}" in host.facts.files:
        filled(host, told, text, f"{PASSWORDS}/{owner}", owner=owner)
    else:
        host.note(f"{site} has no password yet: fab -H {host.name} credentials")
    host.file(handler, render.render(HANDLER, values), mode=0o640, group=owner)
    host.file(include(owner), render.render(POOL, values), mode=0o600)


def _place(owner: str) -> str:
    return f"{HANDED}/{owner}"


def _handed(owner: str) -> tuple[str, ...]:
    return tuple(f"{_place(owner)}/{name}" for name in ("cache.ini", CERTIFICATE, "sessions.php"))


def forgotten(owner: str) -> tuple[str, ...]:
    """What goes with a site that is removed."""
    return _handed(owner)


def _come_home(host: Host) -> None:
    """There is no cache host any more: `sessions` makes the pools' files anew, and nobody is told of anything."""
    for site in host.chosen:
        if _handed(site.owner)[2] in host.facts.files:
            host.absent(*_handed(site.owner), include(site.owner))
