"""What is open, or shut out, for a while.

The kernel itself ends such a rule (iptables-extensions(8), time), so nobody need be awake; the files of the next boot
have it too, and `check` takes it for what should be.  What shall stay belongs into fleet.yml (`open:`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_network
from typing import NamedTuple

from ..engine import Guarded, Host, task
from ..model import Problem, Refusal, duration
from ..model.ways import SSH, STATIC, WORLD, ways_to
from .loading import load, persist
from .rules import INNER, Network, openings, passing, shutting, without_end

OPEN_FOR, SHUT_FOR, MOST = "2h", "1d", "30d"
PROTOCOLS = ("tcp", "udp")
LEAST = {4: 8, 6: 16}
"""The shortest prefix that may be shut out: more is not somebody, it is the Internet."""

LISTENS = 'ss -Hln --"$1" "sport = :$2" | awk \'$4 !~ /^(127\\.|\\[::1\\]|\\[::ffff:127)/\' | head -n 1'


class Door(NamedTuple):
    """A port, from 1 to 65535, and its protocol."""

    port: int
    protocol: str

    def __str__(self) -> str:
        return f"{self.port}/{self.protocol}"


@task(
    positional=["what"],
    help={
        "what": "a port; or the address or network that `firewall.deny` shut out",
        "proto": "tcp or udp",
        "from_": "the address or network that may come; without it, everybody may",
        "for_": f"how long: 30m, 2h, 7d, at most {MOST}; without it {OPEN_FOR}",
    },
)
def allow(c, what, proto="tcp", from_="", for_=""):
    """On call: open a port for a while: it shuts by itself, also when the host rebooted meanwhile.

    Or let in again whom `firewall.deny` shut out.  For good: `open:` in fleet.yml, then `fab -H HOST firewall`.
    """
    door = _door(what, proto)
    if door is None:
        if from_ or for_:
            raise Refusal(f"allow {what} takes back what `firewall.deny` did: it has neither --from nor --for")
        network = _network(what)
        shut = shutting(network)
        _take_back(Host.of(c), f"{network} is let in again", lambda rule: without_end(rule) == shut)
        return
    sources = (_network(from_, "--from"),) if from_ else ()
    seconds = duration(for_ or OPEN_FOR, "--for", MOST)
    host = Host.of(c)
    between = {*INNER, *({STATIC} & {way.port for way in ways_to(host.fleet, host.name)})}
    if door.protocol == "tcp" and door.port in between:
        raise Guarded(f"port {door.port} is between the layers: nobody outside has business there")
    if door.protocol == "tcp" and door.port in _everybodys(host):
        host.note(f"{door} is open anyway, to everybody")
        return
    until = host.facts.clock + seconds
    rules = {
        family: _others(live, openings(family, str(door), sources)) + openings(family, str(door), sources, until)
        for family, live in _live(host).items()
    }
    load(host, f"{door} is open to {from_ or 'everybody'} until {moment(until)}", rules)
    persist(host)
    if not host.dry and not host.ask(LISTENS, door.protocol, str(door.port)):
        host.note(f"nothing listens on {door} yet")


@task(
    positional=["what"],
    help={
        "what": "an address or network to shut out of every port; or a port that `firewall.allow` opened",
        "proto": "tcp or udp, for a port",
        "for_": f"how long an address is shut out: 30m, 2h, 7d, at most {MOST}; without it {SHUT_FOR}",
    },
)
def deny(c, what, proto="tcp", for_=""):
    """On call: shut an address or a whole network out for a while; or shut a port again that `firewall.allow` opened.

    What it has under way ends as well; what this host asks of it is still answered.  Refuses operators, the fleet's
    hosts and this host (exit code 3).
    """
    door = _door(what, proto)
    if door is None:
        network = _network(what)
        seconds = duration(for_ or SHUT_FOR, "--for", MOST)
        _shut_out(Host.of(c), network, seconds)
        return
    if for_:
        raise Refusal(f"deny {what} takes back what `firewall.allow` did: it has no --for")
    host = Host.of(c)
    everybodys = _everybodys(host) if door.protocol == "tcp" else set()
    if door.port in everybodys & {*host.facts.ssh_ports}:
        raise Guarded(f"port {door.port} is how one gets in: it stays open")
    if door.port in everybodys:
        raise Guarded(f"port {door.port} is the sites'", f"one site: fab -H {host.name} site.suspend DOMAIN")
    if str(door) in host.fleet.open:
        next_step = f"take it out of `open:` in fleet.yml, then: fab -H {host.name} firewall"
        raise Guarded(f"{door} is open for good", next_step)
    (way,) = openings(4, str(door), ())
    _take_back(host, f"{door} is shut again", lambda rule: without_end(rule).endswith(way))


def moment(epoch: int) -> str:
    """A time as the operator's own clock shows it."""
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(epoch))


def _everybodys(host: Host) -> set[int]:
    """The ports that everybody may come to by what the host is."""
    ports = {way.port for way in ways_to(host.fleet, host.name) if way.source == WORLD}
    return ports - {SSH} | {*host.facts.ssh_ports} if SSH in ports else ports


def _shut_out(host: Host, network: Network, seconds: int) -> None:
    ours = [*host.operators, *host.facts.addresses, "127.0.0.0/8", "::1"]
    ours += [str(machine.address) for machine in host.fleet.hosts.values() if machine.address]
    for own in map(ip_network, ours):
        if own.version == network.version and own.overlaps(network):
            raise Guarded(f"{network} holds {own}, an operator's or one of our own: not shut out")
    until = host.facts.clock + seconds
    rules = _live(host)
    family = network.version
    rules[family] = [shutting(network, until), *_others(rules[family], [shutting(network)])]
    load(host, f"{network} is shut out until {moment(until)}", rules)
    persist(host)


def _take_back(host: Host, label: str, found: Callable[[str], bool]) -> None:
    rules = _live(host)
    left = {family: [rule for rule in live if not found(rule)] for family, live in rules.items()}
    if left == rules:
        host.note("nothing to take back: `firewall.show` has what is allowed and denied for a while")
        return
    load(host, label, left)
    persist(host)


def _live(host: Host) -> dict[int, list[str]]:
    facts = host.facts
    return {4: passing(facts.rules4, facts.clock), 6: passing(facts.rules6, facts.clock)}


def _others(rules: list[str], same: list[str]) -> list[str]:
    """Those that differ from these by more than their end."""
    return [rule for rule in rules if without_end(rule) not in same]


def _door(what: str, proto: str) -> Door | None:
    number, slash, protocol = what.strip().partition("/")
    if not number.isdecimal() or (slash and protocol not in PROTOCOLS):
        return None
    protocol = protocol or proto
    if protocol not in PROTOCOLS:
        raise Refusal(Problem(f"--proto {proto}: must be tcp or udp", example="--proto udp"))
    if not 1 <= int(number) <= 65535:
        raise Refusal(Problem(f"{what} is no port: they go from 1 to 65535", example="8443"))
    return Door(int(number), protocol)


def _network(text: str, option: str = "") -> Network:
    given, text = f"{option} {text}".strip(), text.strip()
    try:
        network = ip_network(text)
    except ValueError:
        try:
            wide = ip_network(text, strict=False)
        except ValueError:
            expected = "must be an address or a network" + ("" if option else ", or a port")
            raise Refusal(Problem(f"{given}: {expected}", example="203.0.113.0/24")) from None
        alone = text.partition("/")[0]
        problem = Problem(f"{given} has bits behind its prefix: is it {alone} or {wide}?", example=str(wide))
        raise Refusal(problem) from None
    if network.prefixlen < LEAST[network.version]:
        raise Refusal(Problem(f"{given} is too wide: at least /8 (IPv4) or /16 (IPv6)", example="203.0.113.0/24"))
    return network
