"""Who may speak to whom in a fleet: the one source of every host's firewall and of the matrix that is proved."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from .balancer import MEMBER, Route
from .fleet import Fleet
from .site import Site

WORLD = "world"
"""Everybody, as a source."""

SSH, HTTP, HTTPS = 22, 80, 443
VARNISH, STATIC, PLAIN = 8081, 8083, 8084
"""Varnish hears of the visitor by the PROXY protocol at its first port, and at PLAIN in a header."""
BACKSTAGE = 8085
"""Where HAProxy finds a balancer's Apache, on the same host."""
DATABASE, REDIS, NFS, SYNC = 3306, 6379, 2049, 873
MEMCACHED = range(20000, 30000)
"""Where the ports lie of the sites' memcached, one each."""


class Way(NamedTuple):
    """One opening: `source`, a host or WORLD, may open TCP connections to `port` of the host `target`.

    SSH stands for the ports that sshd really has.  `what` is the program that answers, in a word.
    """

    target: str
    port: int
    source: str
    what: str


def pages(fleet: Fleet) -> int:
    """The port at which the fleet's edges come to Varnish: nginx does not speak the PROXY protocol to web servers."""
    return PLAIN if fleet.edge.server == "nginx" else VARNISH


def port_of(fleet: Fleet, route: Route, host: str) -> int:
    """The port at which a balancer finds `host` for this route; an app host's Varnish needs no PROXY header there."""
    return route.port or (PLAIN if fleet.machine(host).serves else MEMBER)


def ways(fleet: Fleet) -> tuple[Way, ...]:
    """Every opening of the fleet but those of `open:` in fleet.yml and of firewall.allow."""
    return tuple(sorted({way for name in fleet.hosts for way in ways_to(fleet, name)}))


def ways_to(fleet: Fleet, host: str) -> tuple[Way, ...]:
    """Who may come to `host`, and where to.  It needs no fleet.yml: a host by itself is a web server."""
    roles, found = fleet.roles(host), list[Way]()
    bastions = [bastion.name for bastion in fleet.bastions(host)]
    found += [Way(host, SSH, source, "ssh") for source in bastions or [WORLD]]
    if {"edge", "balancer"} & roles:
        found += [Way(host, port, WORLD, "web") for port in (HTTP, HTTPS)]
    found += [Way(host, pages(fleet), edge.name, "varnish") for edge in fleet.edges_of(host)]
    own = {*fleet.machine(host).roles}
    routes = fleet.balancer.routes_to(host).values() if fleet.balancer else ()
    what = "varnish" if fleet.machine(host).serves else "member"
    for balancer in fleet.balancers_of(host):
        found += [Way(host, port_of(fleet, route, host), balancer.name, what) for route in routes]
    if "static" in own:
        edges = [edge.name for edge in fleet.edges if edge.name != host and fleet.together(edge.name, host)]
        found += [Way(host, STATIC, edge, "static") for edge in edges]
    if "database" in own:
        stored = {web.name for site in fleet.all_sites if site.database for web in fleet.webs_of(site)}
        found += [Way(host, DATABASE, web, "mariadb") for web in stored - {host}]
    if "cache" in own:
        found += _to_cache(fleet, host)
    if "files" in own:
        port, what = (NFS, "nfs") if fleet.files.mount == "nfs" else (SYNC, "rsync")
        found += [Way(host, port, reader.name, what) for reader in fleet.readers]
    return tuple(sorted({*found}))


def _to_cache(fleet: Fleet, host: str) -> list[Way]:
    """Redis knows its sites by their passwords; memcached knows nobody, so that a port is for a site's hosts alone."""
    if fleet.cache.server == "redis":
        return [Way(host, REDIS, web.name, "redis") for web in fleet.webs if web.name != host]
    sites = [site for site in fleet.all_sites if site.php]
    return [
        Way(host, cache_port(fleet, site), web.name, "memcached")
        for site in sites
        for web in fleet.webs_of(site)
        if web.name != host
    ]


def cache_port(fleet: Fleet, site: Site) -> int:
    """The port of a site's memcached: fleet.yml's, else by its owner's name, so that it is the same on every host."""
    digest = hashlib.sha256(site.owner.encode()).digest()
    return fleet.cache.ports.get(site.owner, MEMCACHED[int.from_bytes(digest[:8]) % len(MEMCACHED)])


def listener(local: str) -> tuple[str, int]:
    """Address and port of a listening socket as ss(8) prints it; the address is empty for every one of the host's."""
    where, _, port = local.rpartition(":")
    text = where.partition("%")[0].strip("[]")
    if text in ("*", "0.0.0.0", "::"):  # noqa: S104  (read, not bound)
        return "", int(port)
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address), int(port)


def misplaced(fleet: Fleet, host: str, address: str, port: int, ssh_ports: Collection[int] = (SSH,)) -> str:
    """Why no program of `host` may listen there (see `listener`); empty when one may.

    What the world comes to may listen on every address; what hosts of the fleet come to, on the private one alone: so
    that it is the second lock, and stays shut when the firewall is off for a moment.
    """
    if (address and ip_address(address).is_loopback) or port in ssh_ports or f"{port}/tcp" in fleet.open:
        return ""
    sources = {way.source for way in ways_to(fleet, host) if way.port == port and port != SSH}
    if WORLD in sources:
        return ""
    private = str(fleet.machine(host).address)
    if not sources:
        return "listens to the world"
    return "" if address == private else f"listens on more than its private address {private}"
