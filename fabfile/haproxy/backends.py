"""To whom HAProxy leads visitors: the Varnish of this host, or those of the web servers behind an edge; files apart."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from ..engine import Host
from ..model import Balancer, Fleet, Site
from ..model.ways import STATIC, VARNISH

ALL = "varnish"
"""The backend of all web servers, which most sites use."""
FILES = "static"
"""That of the static hosts, for those sites."""


APACHE = "apache"
"""That of a balancer's Apache on the same host, for the balancer's site."""


class Server(NamedTuple):
    """One Varnish as HAProxy knows it; `stay` is what the cookie of its visitors says."""

    name: str
    address: str
    weight: int = 100

    @property
    def stay(self) -> str:
        """A word for the cookie that tells nobody how hosts are called here."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:8]


class Backend(NamedTuple):
    """Servers among which a visitor of some sites is led to one."""

    name: str
    servers: tuple[Server, ...]


def balanced(host: Host) -> bool:
    """Is this host an edge, with web servers to choose from?"""
    return any(edge.name == host.name for edge in host.fleet.edges)


def backends(host: Host) -> tuple[Backend, ...]:
    """One for all web servers, and one for each other set of them that a site names; without an edge, just Varnish."""
    if not balanced(host):
        return (Backend(ALL, (Server(ALL, f"127.0.0.1:{VARNISH}"),)),)
    fleet = host.fleet
    sets = {ALL: fleet.webs} | {backend_of(fleet, site): fleet.webs_of(site) for site in host.fronted}
    return tuple(
        Backend(
            name,
            tuple(
                Server(web.name, _address(host, web.name, VARNISH), web.weight)
                for web in servers
                if fleet.together(web.name, host.name)
            ),
        )
        for name, servers in sorted(sets.items())
    )


def fronts(host: Host) -> tuple[Balancer, ...]:
    """The cluster front whose Apache is behind this HAProxy, on the same host."""
    front, roles = host.fleet.balancer, host.fleet.roles(host.name)
    return (front,) if front and {"balancer", "edge"} <= roles else ()


def backend_of(fleet: Fleet, site: Site) -> str:
    """The backend that leads to the site's web servers."""
    names = [web.name for web in fleet.webs_of(site)]
    return ALL if names == [web.name for web in fleet.webs] else ":".join((ALL, *names))


def statics(host: Host) -> tuple[Server, ...]:
    """The static hosts to which this edge leads who asks for a file; none: files are the web servers' too."""
    return tuple(Server(one.name, _address(host, one.name, STATIC)) for one in host.fleet.statics_behind(host.name))


def files_of(backend: str) -> str:
    """The backend of files that goes with one of pages: the same web servers stand in when no static host is up."""
    return FILES + backend.removeprefix(ALL)


def _address(host: Host, other: str, port: int) -> str:
    machine = host.fleet.hosts[other]
    return f"{'127.0.0.1' if machine.address is None or other == host.name else machine.bracketed}:{port}"
