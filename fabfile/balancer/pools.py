"""What Apache leads to: a pool of hosts behind each route, by address and port.  (T3 Proxy)"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from ..engine import Host
from ..model import Balancer, Problem, Refusal, Route
from ..model.balancer import slug
from ..model.ways import HTTP, port_of


class Member(NamedTuple):
    """A host behind a route, as Apache knows it.

    It is known by its address: a name that vanished from DNS would be an error of every request, and not a member that
    cannot be reached.
    """

    host: str
    address: str
    port: int
    spare: bool
    variable: str
    """What holds the state that an operator gave it, in RECORD."""

    @property
    def url(self) -> str:
        """As Apache writes it: without HTTP's own port."""
        shown = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{shown}" if self.port == HTTP else f"http://{shown}:{self.port}"

    @property
    def usual(self) -> str:
        """Its state, in the letters of BalancerMember's `status`, when nobody set another."""
        return "+H-N" if self.spare else "-H-N"

    @property
    def stay(self) -> str:
        """A word for the cookie that tells nobody how hosts are called here."""
        return hashlib.sha256(self.host.encode()).hexdigest()[:8]


class Pool(NamedTuple):
    """The hosts behind one route."""

    path: str
    name: str
    route: Route
    members: tuple[Member, ...]

    @property
    def pattern(self) -> str:
        """How its paths begin, in a regular expression."""
        return "/" if self.path == "/" else re.escape(self.path) + "(/|$)"

    def member(self, host: str) -> Member | None:
        """The one that is this host."""
        return next((member for member in self.members if member.host == host), None)


def front(host: Host) -> Balancer:
    """What fleet.yml says of the cluster front.  Raises Refusal where `host` is none."""
    found = host.fleet.balancer
    if found is None or "balancer" not in host.fleet.roles(host.name):
        ones = [one.name for one in host.fleet.having("balancer")]
        example = f"fab -H {ones[0]} balancer.status" if ones else "balancer1: {roles: [balancer]}"
        raise Refusal(Problem(f"{host.name} is no balancer", key="roles", example=example))
    return found


def alone(host: Host) -> bool:
    """Whether Apache ends TLS here itself; else HAProxy does, on the same host."""
    return "edge" not in host.fleet.roles(host.name)


def pools(host: Host) -> tuple[Pool, ...]:
    """A pool a route, the longest path first."""
    return tuple(_pool(host, path, route) for path, route in front(host).longest_first.items())


def _pool(host: Host, path: str, route: Route) -> Pool:
    name = slug(path)
    members = tuple(
        Member(
            each,
            str(host.fleet.machine(each).address),
            port_of(host.fleet, route, each),
            each in route.spares,
            f"state.{name}.{each}",
        )
        for each in route.hosts
    )
    return Pool(path, name, route, members)
