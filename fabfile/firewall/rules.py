"""The firewall's rules as text, in the very words of iptables-save(8)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network, ip_network

from ..engine import User
from ..model.ways import BACKSTAGE, MEMCACHED, PLAIN, STATIC

Network = IPv4Network | IPv6Network
Openings = Mapping[str, Sequence[Network]]
"""Ports such as `8443/tcp`, and the networks that may come; none: everybody."""

Opening = tuple[str, int]
"""An address, empty for everybody's, and the TCP port to which who has it may come."""

RULES = {4: "/etc/iptables/rules.v4", 6: "/etc/iptables/rules.v6"}
TOOLS = {4: "iptables", 6: "ip6tables"}
NOW = "GATEHOUSE-NOW"
"""The chain of what an operator allowed or denied for a while (see passing.py)."""

INNER = {6082: "", 8080: "web", 8081: "edge", 8082: "edge"}
"""Inner ports, and whose role's program may open a connection to them besides root: Varnish's console, Apache, Varnish,
lego."""

FRONT = {"haproxy": "haproxy", "nginx": "www-data"}
"""As which user an edge's server speaks to what is behind it."""
BALANCER = "web_daemon"
"""As which user a balancer's Apache does."""
CACHE = "vcache"
"""As which user Varnish speaks to Apache."""

JUMPS = {
    "GATEHOUSE": "-A INPUT -j GATEHOUSE",
    # The first packet of either side alone: what the kernel itself sends for a connection that ended has no owner.
    "GATEHOUSE-INNER": "-A OUTPUT -o lo -p tcp -m tcp --tcp-flags SYN SYN -j GATEHOUSE-INNER",
    "GATEHOUSE-OUTER": "-A OUTPUT ! -o lo -p tcp -m tcp --tcp-flags SYN SYN -j GATEHOUSE-OUTER",
}
"""Our chains, and how one comes there."""


def chain(
    family: int,
    ssh_ports: Iterable[int],
    operators: Iterable[str],
    more: Openings | None = None,
    ways: Iterable[Opening] = (("", 80), ("", 443)),
    bastions: Iterable[str] = (),
) -> list[str]:
    """The rules of our chain for one family (4 or 6).  `more` are the ports that fleet.yml opens besides.

    `ways` are the ports that others may come to besides SSH.  With `bastions` SSH is for who comes through them alone.
    """
    icmp = {4: ["-p icmp -m icmp --icmp-type 8 -j ACCEPT"], 6: ["-p ipv6-icmp -j ACCEPT"]}[family]
    dhcp = {4: [], 6: ["-d fe80::/64 -p udp -m udp --dport 546 -j ACCEPT"]}[family]
    mine = of_family(family, operators)
    ports = sorted(ssh_ports)
    ways = sorted(ways)
    web = ",".join(str(port) for source, port in ways if not source)
    through = of_family(family, bastions)
    if bastions:
        doors = [f"-s {bastion} -p tcp -m tcp --dport {port} -j ACCEPT" for bastion in through for port in ports]
    else:
        doors = [f"-s {network} -p tcp -m tcp --dport {port} -j ACCEPT" for network in mine for port in ports]
        doors += [f"-p tcp -m tcp --dport {port} -j ACCEPT" for port in ports]
    return [
        "-i lo -j ACCEPT",
        f"-j {NOW}",
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-m conntrack --ctstate INVALID -j DROP",
        *icmp,
        *dhcp,
        *doors,
        *([f"-p tcp -m multiport --dports {web} -j ACCEPT"] if web else []),
        *(
            f"-s {source} -p tcp -m tcp --dport {port} -j ACCEPT"
            for address, port in ways
            if address
            for source in of_family(family, [address])
        ),
        *(rule for port, sources in (more or {}).items() for rule in openings(family, port, sources)),
        "-j DROP",
    ]


def of_family(family: int, addresses: Iterable[str]) -> list[str]:
    """Those of one family, as networks."""
    return [str(network) for network in map(ip_network, addresses) if network.version == family]


def inner(
    users: Mapping[str, User], roles: Collection[str] = ("edge", "web"), front: str = FRONT["haproxy"]
) -> list[str]:
    """The rules between the layers; none before the layers have their users.

    Any local user reaches the loopback.  One who spoke to Varnish or Apache directly could name any address as its own
    (PROXY protocol, X-Forwarded-For) and have a stranger banned; one who listened there while the daemon is away would
    get what is meant for all sites, or a challenge of the CA.  So it is judged whose process opens a connection, and
    whose answers: root's, who opened all these ports (iptables-extensions(8), owner).  By number, as the kernel keeps
    them: a file of rules that names a user who went would fail as a whole at boot.
    """
    here = {role: user for role, user in (("edge", front), ("web", CACHE)) if role in roles}
    if not here or not {*here.values()} <= users.keys():
        return []
    between = dict(INNER)
    if "balancer" in roles and front != BALANCER:
        between[BACKSTAGE] = "edge"
    if front == FRONT["nginx"]:
        between[PLAIN] = "edge"
    if "static" in roles and "edge" in roles:
        between[STATIC] = "edge"
    speakers = {port: (0, users[here[role]].uid) if role in here else (0,) for port, role in between.items()}
    ports = ",".join(map(str, between))
    return [
        *(
            f"-p tcp -m tcp --dport {port} -m owner --uid-owner {uid} -j ACCEPT"
            for port, uids in speakers.items()
            for uid in uids
        ),
        f"-p tcp -m multiport --dports {ports} -j REJECT --reject-with tcp-reset",
        f"-p tcp -m multiport --sports {ports} -m owner ! --uid-owner 0 -j DROP",
    ]


def outer(
    family: int,
    users: Mapping[str, User],
    behind: Iterable[Opening],
    own: Iterable[int],
    front: str = FRONT["haproxy"],
    roots: Iterable[Opening] = (),
) -> list[str]:
    """The same between hosts: who may speak to what lies behind an edge, and whose is the one that answers here.

    What lies behind an edge believes whom it names as its visitor (PROXY protocol), and lets in every program there:
    without these rules a site's own program on that edge could name anybody.  `behind` are such places; none before
    `front`, the edge's server, has its user.  `own` are the ports at which edges come to us.
    `roots` are places that let in this host for its root alone: what answers there cannot tell its sites apart.
    """
    rules = [
        f"-d {network} -p tcp -m tcp --dport {port} -m owner ! --uid-owner 0 -j REJECT --reject-with tcp-reset"
        for address, port in roots
        for network in of_family(family, [address])
    ]
    for address, port in behind if front in users else ():
        for network in of_family(family, [address]):
            there = f"-d {network} -p tcp -m tcp --dport {port}"
            rules += [f"{there} -m owner --uid-owner {uid} -j ACCEPT" for uid in (0, users[front].uid)]
            rules.append(f"{there} -j REJECT --reject-with tcp-reset")
    rules += [f"-p tcp -m tcp --sport {port} -m owner ! --uid-owner 0 -j DROP" for port in own]
    return rules


def apart(family: int, users: Mapping[str, User], address: str, ports: Mapping[str, int]) -> list[str]:
    """Who may speak to the sites' memcached at `address`: each site's own user to its own port (`ports`, by owner).

    memcached knows nobody by a password, and its host only which host comes.
    """
    rules = []
    for network in of_family(family, [address]):
        there, all_of_them = f"-d {network} -p tcp -m tcp --dport", f"{MEMCACHED[0]}:{MEMCACHED[-1]}"
        rules.append(f"{there} {all_of_them} -m owner --uid-owner 0 -j ACCEPT")
        own = sorted((port, users[owner].uid) for owner, port in ports.items() if owner in users)
        rules += [f"{there} {port} -m owner --uid-owner {uid} -j ACCEPT" for port, uid in own]
        rules.append(f"{there} {all_of_them} -j REJECT --reject-with tcp-reset")
    return rules


def openings(family: int, port: str, sources: Iterable[Network], until: int = 0) -> list[str]:
    """The rules that let in who comes to a port such as `8443/tcp`; those of this family."""
    number, _, protocol = port.partition("/")
    way = f"-p {protocol} -m {protocol} --dport {number}{_until(until)} -j ACCEPT"
    if not (sources := list(sources)):
        return [way]
    return [f"-s {network} {way}" for network in sources if network.version == family]


def shutting(network: Network, until: int = 0) -> str:
    """The rule that shuts a network out, with what it has under way.  Its answers to us still come."""
    return f"-s {network} -m conntrack --ctdir ORIGINAL{_until(until)} -j DROP"


def _until(epoch: int) -> str:
    """The kernel itself ends a rule (iptables-extensions(8), time; always UTC there)."""
    return f" -m time --datestop {datetime.fromtimestamp(epoch, UTC):%Y-%m-%dT%H:%M:%S}" if epoch else ""


def end_of(rule: str) -> int:
    """The epoch at which the kernel ends this rule; 0: never."""
    _, found, rest = rule.partition(" --datestop ")
    return round(datetime.fromisoformat(rest.split()[0]).replace(tzinfo=UTC).timestamp()) if found else 0


def without_end(rule: str) -> str:
    """The rule as if it were for ever."""
    before, found, rest = rule.partition(" -m time --datestop ")
    return before + rest[rest.index(" ") :] if found else rule


def passing(live: Iterable[str], clock: int = 0) -> list[str]:
    """What was allowed or denied for a while, by the rules in force (iptables-save); not what ended before `clock`."""
    rules = [line.removeprefix(f"-A {NOW} ") for line in live if line.startswith(f"-A {NOW} ")]
    return [rule for rule in rules if not 0 < end_of(rule) <= clock]


def holds(live: Iterable[str], rules: Mapping[str, Iterable[str]]) -> bool:
    """Whether the rules in force (iptables-save) are ours: policy, jumps and chains."""
    live = list(live)
    strange = {jump for chain, jump in JUMPS.items() if chain not in rules} & {*live}
    return not strange and any(line.startswith(":INPUT DROP") for line in live) and all(
        [line for line in live if chain in JUMPS and line.endswith(f" -j {chain}")]
        == ([JUMPS[chain]] if chain in JUMPS else [])
        and any(line.startswith(f":{chain} ") for line in live)
        and [line for line in live if line.startswith(f"-A {chain} ")] == [f"-A {chain} {rule}" for rule in wanted]
        for chain, wanted in rules.items()
    )


def table(rules: Mapping[str, Iterable[str]]) -> str:
    """The table's lines for iptables-restore."""
    return "\n".join(
        [
            ":INPUT DROP [0:0]",
            ":FORWARD DROP [0:0]",
            ":OUTPUT ACCEPT [0:0]",
            *(f":{chain} - [0:0]" for chain in rules),
            *(JUMPS[chain] for chain in rules if chain in JUMPS),
            *(f"-A {chain} {rule}" for chain, wanted in rules.items() for rule in wanted),
        ]
    )
