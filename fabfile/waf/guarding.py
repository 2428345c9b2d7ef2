"""fleet.yml's limits, exclusions and whitelist in the words of Apache's modules."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, ip_network
from itertools import product
from typing import NamedTuple

from ..engine import Host
from ..model import Balancer, Problem, Refusal
from ..model.waf import Exclusion, Limits

DECIDING = (949100, 949110, 959100, 200002, 200003, 200004, 200005)
"""The rules that refuse: the core rule set's sums, and a body that mod_security cannot read as what it says it is."""

HASTY = {933210: "it takes a link in Markdown, [text](/address), for a call of PHP"}
"""Rules of paranoia level 1 that refuse what ordinary people write, and what."""

ANY = 9999
"""The filter that there is not.  No number below 0: to mod_security, `=-1` is one less than before."""

TOLD = 4
"""Header fields with which HAProxy, as the door on the same host, tells of the visitor."""

EVERYWHERE = "every route"


class Way(NamedTuple):
    """A route as mod_security sees it.  `pattern` is what its paths look like, decoded and without `..`.

    `filter` is the number of the characters that its paths may hold; ANY: whatever they like.
    """

    number: int
    path: str
    pattern: str
    reason: str
    limits: Limits
    filter: int


class Excluded(NamedTuple):
    """Rules that are not asked on the route of that number, 0 for all.  `words`: what becomes of which rule."""

    number: int
    where: str
    reason: str
    words: tuple[str, ...]


def guarded(host: Host) -> Balancer:
    """What fleet.yml says of the balancer on this host.  Raises Refusal where it is none."""
    found = host.fleet.balancer
    if found is None or "balancer" not in host.fleet.roles(host.name):
        message = f"{host.name} is no balancer, and has no web application firewall"
        raise Refusal(Problem(message, key="roles", example="lb1: {roles: [balancer]}"))
    return found


def beginning(path: str) -> str:
    """A regular expression for the paths of a route: as ProxyPass has it, whole segments."""
    return "^/" if path == "/" else f"^{re.escape(path)}(?:/|$)"


def ways(balancer: Balancer) -> list[Way]:
    """The routes, shortest first: of what is said of a path the last holds, and that is of the longest that fits."""
    found = []
    texts = [text for text, _ in _texts(balancer)]
    for number, (path, route) in enumerate(reversed(balancer.longest_first.items()), 1):
        limits = route.limits.over(balancer.limits) if route.limits else balancer.limits
        chosen = texts.index(limits.punctuation) if limits.punctuation else ANY
        reason = route.limits.reason if route.limits else ""
        found.append(Way(number, path, beginning(path), reason, limits, chosen))
    return found


def filters(balancer: Balancer) -> list[tuple[int, str, bool]]:
    """What paths may hold: the number of the filter, its characters as within [ ], and whether + is one of them.

    mod_security's urlDecode makes a space of a +.
    """
    return [(number, characters, "+" in text) for number, (text, characters) in enumerate(_texts(balancer))]


def _texts(balancer: Balancer) -> list[tuple[str, str]]:
    """Each punctuation that is wished somewhere, once; and the same as within the brackets of an expression."""
    every = [
        balancer.limits,
        *(route.limits.over(balancer.limits) for route in balancer.routes.values() if route.limits),
    ]
    wished = dict.fromkeys(limits.punctuation for limits in every if limits.punctuation)
    return [(text, "A-Za-z0-9" + "".join(map(_within_brackets, text.replace("+", "+ ")))) for text in wished]


def _within_brackets(character: str) -> str:
    """As a code: some would end the brackets, some mod_security's or Apache's argument."""
    return f"\\x{ord(character):02x}"


def exclusions(balancer: Balancer) -> list[Excluded]:
    """All of them, those of every route first."""
    found = [Excluded(0, EVERYWHERE, each.reason, _words(each)) for each in balancer.waf.exclusions]
    for way in ways(balancer):
        found += [
            Excluded(way.number, way.path, each.reason, _words(each)) for each in balancer.routes[way.path].exclude
        ]
    return found


def _words(exclusion: Exclusion) -> tuple[str, ...]:
    if not exclusion.parameters:
        return tuple(f"ruleRemoveById={rule}" for rule in exclusion.rules)
    pairs = product(exclusion.rules, exclusion.parameters)
    return tuple(f"ruleRemoveTargetById={rule};ARGS:{name}" for rule, name in pairs)


def whitelist(networks: Iterable[str], release: str) -> tuple[list[str], list[str]]:
    """What mod_evasive takes for these networks, and those that it cannot know.

    Debian 12's knows IPv4 by whole bytes with *, and single addresses of IPv6.  Debian 13's knows any network, by the
    family of the connection's address: at a socket for both, who comes over IPv4 has one of IPv6 (RFC 4291, 2.5.5.2).
    """
    known: dict[str, None] = {}
    unknown = []
    for text in networks:
        network = ip_network(text)
        if release != "12":
            single = network.num_addresses == 1
            known[str(network.network_address) if single else str(network)] = None
            if isinstance(network, IPv4Network):
                known[f"::ffff:{network.network_address}" + ("" if single else f"/{96 + network.prefixlen}")] = None
        elif isinstance(network, IPv4Network) and network.prefixlen >= 8:
            known |= dict.fromkeys(_with_stars(network))
        elif network.num_addresses == 1:
            known[str(network.network_address)] = None
        else:
            unknown.append(text)
    return list(known), unknown


def _with_stars(network: IPv4Network) -> Iterable[str]:
    whole = -(-network.prefixlen // 8) * 8
    for part in network.subnets(new_prefix=whole):
        numbers = str(part.network_address).split(".")
        yield ".".join([*numbers[: whole // 8], *["*"] * (4 - whole // 8)])
