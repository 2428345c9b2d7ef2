"""Firewall: SSH, HTTP and HTTPS come in, nothing else does, over IPv4 and IPv6 alike.  (T2, step 5)

The rules live in chains of their own, GATEHOUSE, to which INPUT jumps, and GATEHOUSE-INNER, which hangs from OUTPUT on
the loopback: fail2ban's chains stand before them and are never touched.  Both families come from one list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from .engine import Host, Unit, User, task

RULES = {4: "/etc/iptables/rules.v4", 6: "/etc/iptables/rules.v6"}
WEB_PORTS = (80, 443)

INNER = {6082: (), 8080: ("vcache",), 8081: ("haproxy",), 8082: ("haproxy",)}
"""Inner ports, and who may open a connection to them besides root: Varnish's console, Apache, Varnish, lego."""

JUMPS = {
    "GATEHOUSE": "-A INPUT -j GATEHOUSE",
    # The first packet of either side alone: what the kernel itself sends for a connection that ended has no owner.
    "GATEHOUSE-INNER": "-A OUTPUT -o lo -p tcp -m tcp --tcp-flags SYN SYN -j GATEHOUSE-INNER",
}
"""Our chains, and how one comes there."""

FAILSAFE = "/usr/local/sbin/gatehouse-failsafe"
FAILSAFE_UNIT = "/etc/systemd/system/gatehouse-failsafe.service"

# iptables-restore --noflush sets policies and refills our chains in one commit, and leaves all other chains alone.
# Jumps to them that are there already, from whichever version of this, go in the same commit.
APPLY = """
iptables-save -t filter > "$former/rules4"
ip6tables-save -t filter > "$former/rules6"
load_rules() {
    jumps=$("$1" -S | sed -n 's/^-A \\(.* -j GATEHOUSE\\(-INNER\\)\\?\\)$/-D \\1/p')
    printf '%s\\n' '*filter' "$jumps" "$2" COMMIT | "$1-restore" --noflush
}
load_rules iptables "$1"
load_rules ip6tables "$2"
"""
ANSWER = """
answer() { for family in v4 v6; do echo "$1 $1/autosave_$family boolean false"; done | debconf-set-selections; }
patient answer "$1"
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
    """The rules between the layers, in the words of iptables-save(8); none before the layers have their users.

    Any local user reaches the loopback.  One who spoke to Varnish or Apache directly could name any address as its own
    (PROXY protocol, X-Forwarded-For) and have a stranger banned; one who listened there while the daemon is away would
    get what is meant for all sites, or a challenge of the CA.  So it is judged whose process opens a connection, and
    whose answers: root's, who opened all these ports (iptables-extensions(8), owner).  By number, as the kernel keeps
    them: a file of rules that names a user who went would fail as a whole at boot.
    """
    if not {name for names in INNER.values() for name in names} <= users.keys():
        return []
    speakers = {port: (0, *sorted(users[name].uid for name in names)) for port, names in INNER.items()}
    ports = ",".join(map(str, INNER))
    return [
        *(
            f"-p tcp -m tcp --dport {port} -m owner --uid-owner {uid} -j ACCEPT"
            for port, uids in speakers.items()
            for uid in uids
        ),
        f"-p tcp -m multiport --dports {ports} -j REJECT --reject-with tcp-reset",
        f"-p tcp -m multiport --sports {ports} -m owner ! --uid-owner 0 -j DROP",
    ]


def holds(live: Iterable[str], rules: Mapping[str, Iterable[str]]) -> bool:
    """Whether the rules in force (iptables-save) are ours: policy, jumps and chains."""
    live = list(live)
    return any(line.startswith(":INPUT DROP") for line in live) and all(
        [line for line in live if line.endswith(f" -j {chain}")] == [JUMPS[chain]]
        and [line for line in live if line.startswith(f"-A {chain} ")] == [f"-A {chain} {rule}" for rule in wanted]
        for chain, wanted in rules.items()
    )


def _rules(host: Host) -> dict[int, dict[str, list[str]]]:
    facts = host.facts
    return {
        family: {"GATEHOUSE": chain(family, facts.ssh_ports, host.operators), "GATEHOUSE-INNER": inner(facts.users)}
        for family in RULES
    }


@task
def install(c):
    """T2 step 5: iptables, and the service that loads the rules at boot.

    Its question whether to save the present rules is answered with no: that would keep bans and other programs' rules.
    """
    host = Host.of(c)
    if "iptables-persistent" not in host.facts.packages:
        host.run(
            "answer iptables-persistent",
            ANSWER,
            "iptables-persistent",
        )
    host.packages("iptables", "iptables-persistent", "netfilter-persistent")


@task
def operators(c):
    """Remember the address that you come from, so that neither the rules nor a ban shut you out."""
    Host.of(c).remember_operators()


@task
def failsafe(c):
    """At boot, where the rules could not be loaded: SSH comes in and nothing else, instead of everything.

    `status` then names the unit gatehouse-failsafe as failed, and `firewall` mends it.
    """
    host = Host.of(c)
    host.template(FAILSAFE, check=f"sh -n {FAILSAFE}", mode=0o755)
    host.template(FAILSAFE_UNIT)
    host.service("gatehouse-failsafe")


@task
def apply(c):
    """T2 step 5: loopback, answers to what we asked, SSH on the port it really has, 80 and 443; then DROP.

    The tutorial appends its rules one by one and could lock you out half-way.  Here both families change in one commit
    each, the way back is armed on the host first, and a second SSH connection must get in before it is disarmed.
    """
    _apply(Host.of(c))


@task
def persist(c):
    """T2 step 5: the same rules at every boot, written by us.

    `netfilter-persistent save` would also keep fail2ban's bans and other programs' rules.
    """
    _persist(Host.of(c))


@task
def layers(c):
    """T2 step 5: on the loopback, only a layer speaks to the one behind it; a site's program has no business there.

    Needs Varnish's and HAProxy's users, so `bootstrap` comes here again once they are installed.
    """
    host = Host.of(c)
    if not inner(host.facts.users):
        host.note("no layers to guard yet")
        return
    _apply(host)
    _persist(host)


def _apply(host: Host) -> None:
    rules = _rules(host)
    if not (holds(host.facts.rules4, rules[4]) and holds(host.facts.rules6, rules[6])):
        host.access("load the rules", APPLY, REVERT, _restore(rules[4]), _restore(rules[6]))


def _persist(host: Host) -> None:
    rules = _rules(host)
    for family, path in RULES.items():
        tool = {4: "iptables-restore", 6: "ip6tables-restore"}[family]
        # Loaded where there is no traffic: `--test` takes a rule for a chain that is not there.
        host.template(path, jumps=JUMPS, rules=rules[family], check=f"unshare --net {tool} {path}", mode=0o640)
    if host.facts.units.get("netfilter-persistent.service", Unit()).active == "failed":
        # A start alone would flush the bans; a restart takes fail2ban along, which brings them back.
        host.run("load the rules as at boot", "systemctl restart netfilter-persistent")
    host.service("netfilter-persistent")


def _restore(rules: Mapping[str, Iterable[str]]) -> str:
    """The table's lines for iptables-restore."""
    return "\n".join(
        [
            ":INPUT DROP [0:0]",
            ":FORWARD DROP [0:0]",
            ":OUTPUT ACCEPT [0:0]",
            *(f":{chain} - [0:0]" for chain in rules),
            *(JUMPS[chain] for chain in rules),
            *(f"-A {chain} {rule}" for chain, wanted in rules.items() for rule in wanted),
        ]
    )


STEPS = (install, operators, apply, persist, failsafe)
