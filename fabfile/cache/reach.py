"""An app host's way to the cache host: where its pools keep their sessions, and what a site's code is told."""

from __future__ import annotations

from ..credentials import HANDED, SECRETS
from ..engine import Host, Problem, render, task
from ..engine.cards import cards
from ..engine.filled import MARK, filled
from ..model import Machine, Site
from ..model.ways import REDIS, cache_port
from .handing import INI, PASSWORD, TIMEOUT, certificate, forgotten, handed, place
from .places import CERTIFICATE, INCLUDES, PASSWORDS, keeper, keeps
from .redis import REDIS as LOCAL
from .redis import ROSTER, UNIT

LEAVE = """
apt purge redis-server
rm -f "$@"
read_units
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
            host.directory(place(site.owner), mode=0o750, group=site.owner)
            _tell(host, site, one, pem)
        else:
            host.absent(*forgotten(site.owner))
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
    told, trusted, secret = INI.format(owner=owner), certificate(owner), f"{PASSWORDS}/{owner}"
    if pem:
        host.file(trusted, pem.strip() + "\n", mode=0o640, group=owner)
    ca = trusted if redis and trusted in host.facts.files else ""
    values = {
        "site": site,
        "server": host.fleet.cache.server,
        "host": one.bracketed if redis else str(one.address),
        "port": REDIS if redis else cache_port(host.fleet, site),
        "user": f"{owner}.{host.name}" if redis else "",
        "password": MARK if redis else "",
        "ca": ca,
        "timeout": TIMEOUT,
    }
    text = render.render(INI, values)
    if not redis:
        host.file(told, text, mode=0o640, owner=owner)
    elif secret in host.facts.files:
        filled(host, told, text, secret, owner=owner)
    else:
        host.note(f"{site} has no password yet: fab -H {host.name} credentials")
    handed(host, site, host.fleet.cache.server, ca=ca)
    host.absent(PASSWORD.format(owner=owner))


def _come_home(host: Host) -> None:
    """There is no cache host any more: `sessions` hands out its own; nobody is told of the other."""
    for site in host.chosen:
        if INI.format(owner=site.owner) in host.facts.files:
            host.absent(INI.format(owner=site.owner), certificate(site.owner))
