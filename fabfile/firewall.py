"""Firewall: SSH, HTTP and HTTPS come in, nothing else does, over IPv4 and IPv6 alike.  (T2, step 5)

The rules live in a chain of their own, GATEHOUSE, to which INPUT jumps: fail2ban's chains stand before it and are never
touched.  Both families come from one list.

A second chain, GATEHOUSE-INNER, hangs from OUTPUT on the loopback: a layer of the stack is spoken to by the one before
it and by root, and by no site's program, which could claim any visitor's address there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from .engine import Host, task
from .engine.facts import User

RULES = {4: "/etc/iptables/rules.v4", 6: "/etc/iptables/rules.v6"}
WEB_PORTS = (80, 443)

INNER = {6082: (), 8080: ("vcache",), 8081: ("haproxy",), 8082: ("haproxy",)}
"""Inner ports, and who may open a connection to them besides root: Varnish's console, Apache, Varnish, lego."""

# New connections alone: what the kernel itself sends for one that ended has no owner any more.
INNER_JUMP = "-A OUTPUT -o lo -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j GATEHOUSE-INNER"
INNER_APPLY = """
for tool in iptables ip6tables; do
    jump=$2
    ! "$tool" -C ${2#-A } || jump=
    printf '%s\\n' '*filter' ':GATEHOUSE-INNER - [0:0]' "$jump" "$1" COMMIT | "$tool-restore" --noflush
done
"""

# iptables-restore --noflush sets policies and refills our chain in one commit, and leaves all other chains alone.
# The text's line "#jump" becomes the jump from INPUT where that is missing.
APPLY = """
iptables-save -t filter > "$former/rules4"
ip6tables-save -t filter > "$former/rules6"
load_rules() {
    jump=
    "$1" -C INPUT -j GATEHOUSE || jump='-A INPUT -j GATEHOUSE'
    printf '%s\\n' "$2" | sed "s/^#jump$/$jump/" | "$1-restore" --noflush
}
load_rules iptables "$1"
load_rules ip6tables "$2"
"""
REVERT = """
for family in 4 6; do
    tool=iptables; [ "$family" = 4 ] || tool=ip6tables
    # Nothing there: it was killed before it began. Half of it: refused as a whole, and nothing had been applied.
    [ ! -s "$former/rules$family" ] || "$tool-restore" < "$former/rules$family"
done
# The former rules are older than the newest bans; fail2ban knows them all.
! systemctl -q is-active fail2ban || systemctl restart fail2ban
"""


def chain(family: int, ssh_ports: Iterable[int], operators: Iterable[str]) -> list[str]:
    """The rules of our chain for one family (4 or 6), in the very words of iptables-save(8)."""
    icmp = {4: ["-p icmp -m icmp --icmp-type 8 -j ACCEPT"], 6: ["-p ipv6-icmp -j ACCEPT"]}[family]
    dhcp = {4: [], 6: ["-d fe80::/64 -p udp -m udp --dport 546 -j ACCEPT"]}[family]
    mine = [network for network in map(ip_network, operators) if network.version == family]
    ports = sorted(ssh_ports)
    return [
        "-i lo -j ACCEPT",
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-m conntrack --ctstate INVALID -j DROP",
        *icmp,
        *dhcp,
        *(f"-s {network} -p tcp -m tcp --dport {port} -j ACCEPT" for network in mine for port in ports),
        *(f"-p tcp -m tcp --dport {port} -j ACCEPT" for port in ports),
        f"-p tcp -m multiport --dports {','.join(map(str, WEB_PORTS))} -j ACCEPT",
        "-j DROP",
    ]


def inner(users: Mapping[str, User]) -> list[str]:
    """The rules of the inner chain, in the words of iptables-save(8); none before the layers have their users.

    By number, as the kernel keeps them: a file of rules that names a user who went would fail as a whole at boot.
    Raises nothing; the match is iptables-extensions(8), owner.
    """
    if not {name for names in INNER.values() for name in names} <= users.keys():
        return []
    speakers = {port: (0, *sorted(users[name].uid for name in names)) for port, names in INNER.items()}
    return [
        *(
            f"-p tcp -m tcp --dport {port} -m owner --uid-owner {uid} -j ACCEPT"
            for port, uids in speakers.items()
            for uid in uids
        ),
        f"-p tcp -m multiport --dports {','.join(map(str, INNER))} -j REJECT --reject-with tcp-reset",
    ]


def inner_holds(live: Iterable[str], rules: Iterable[str]) -> bool:
    """Whether the inner rules in force (iptables-save) are these, and are jumped to."""
    live = list(live)
    found = [line.removeprefix("-A GATEHOUSE-INNER ") for line in live if line.startswith("-A GATEHOUSE-INNER ")]
    return INNER_JUMP in live and found == list(rules)


def holds(live: Iterable[str], rules: Iterable[str]) -> bool:
    """Whether the rules in force (iptables-save) are ours: policy, jump and chain."""
    live = list(live)
    return (
        any(line.startswith(":INPUT DROP") for line in live)
        and "-A INPUT -j GATEHOUSE" in live
        and [line.removeprefix("-A GATEHOUSE ") for line in live if line.startswith("-A GATEHOUSE ")] == list(rules)
    )


def _rules(host: Host) -> dict[int, list[str]]:
    return {family: chain(family, host.facts.ssh_ports, host.operators) for family in RULES}


@task
def install(c):
    """T2 step 5: iptables, and the service that loads the rules at boot.

    Its question whether to save the present rules is answered with no: that would keep bans and other programs' rules.
    """
    host = Host.of(c)
    if "iptables-persistent" not in host.facts.packages:
        host.run(
            "answer iptables-persistent",
            'for family in v4 v6; do echo "$1 $1/autosave_$family boolean false"; done | debconf-set-selections',
            "iptables-persistent",
        )
    host.packages("iptables", "iptables-persistent", "netfilter-persistent")


@task
def operators(c):
    """Remember the address that you come from, so that neither the rules nor a ban shut you out."""
    Host.of(c).remember_operators()


@task
def apply(c):
    """T2 step 5: loopback, answers to what we asked, SSH on the port it really has, 80 and 443; then DROP.

    The tutorial appends its rules one by one and could lock you out half-way.  Here both families change in one commit
    each, the way back is armed on the host first, and a second SSH connection must get in before it is disarmed.
    """
    host = Host.of(c)
    rules = _rules(host)
    if holds(host.facts.rules4, rules[4]) and holds(host.facts.rules6, rules[6]):
        return
    host.access("load the rules", APPLY, REVERT, _restore(rules[4]), _restore(rules[6]))


@task
def persist(c):
    """T2 step 5: the same rules at every boot, written by us.

    `netfilter-persistent save` would also keep fail2ban's bans and other programs' rules.
    """
    host = Host.of(c)
    _persist(host)
    host.service("netfilter-persistent")


def _persist(host: Host) -> None:
    rules = _rules(host)
    for family, path in RULES.items():
        tool = {4: "iptables-restore", 6: "ip6tables-restore"}[family]
        host.template(
            path,
            rules=rules[family],
            inner=inner(host.facts.users),
            inner_jump=INNER_JUMP,
            check=f"{tool} --test {path}",
            mode=0o640,
        )


@task
def layers(c):
    """T2 step 5: on the loopback, only a layer speaks to the one behind it; a site's program has no business there.

    Needs Varnish's and HAProxy's users, so `bootstrap` comes here again once they are installed.
    """
    host = Host.of(c)
    rules = inner(host.facts.users)
    if not rules:
        host.note("no layers to guard yet")
        return
    if not all(inner_holds(live, rules) for live in (host.facts.rules4, host.facts.rules6)):
        host.run(
            "guard the inner ports", INNER_APPLY, "\n".join(f"-A GATEHOUSE-INNER {rule}" for rule in rules), INNER_JUMP
        )
    _persist(host)


def _restore(rules: list[str]) -> str:
    """The input of iptables-restore --noflush."""
    return "\n".join(
        [
            "*filter",
            ":INPUT DROP [0:0]",
            ":FORWARD DROP [0:0]",
            ":OUTPUT ACCEPT [0:0]",
            ":GATEHOUSE - [0:0]",
            "#jump",
            *(f"-A GATEHOUSE {rule}" for rule in rules),
            "COMMIT",
        ]
    )


STEPS = (install, operators, apply, persist, layers)
