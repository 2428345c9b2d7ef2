"""The rules go to the host: in force under guard, and into the files of the next boot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..engine import Guarded, Host, Unit
from ..engine.remote import way_in
from ..model.ways import PLAIN, SSH, STATIC, SYNC, WORLD, cache_port, pages, ways_to
from .rules import BALANCER, FRONT, JUMPS, NOW, RULES, TOOLS, apart, chain, holds, inner, outer, passing, table

Rules = dict[int, dict[str, list[str]]]
"""By family, by chain."""

# iptables-restore --noflush sets policies and refills our chains in one commit, and leaves all other chains alone.
# Jumps to them that are there already, from whichever version of this, go in the same commit.
APPLY = """
iptables-save -t filter > "$former/rules4"
ip6tables-save -t filter > "$former/rules6"
load_rules() {
    jumps=$("$1" -S | sed -n 's/^-A \\(.* -j GATEHOUSE\\(-INNER\\|-OUTER\\)\\?\\)$/-D \\1/p')
    printf '%s\\n' '*filter' "$jumps" "$2" COMMIT | "$1-restore" --noflush
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


def wanted(host: Host, operators: Iterable[str] | None = None) -> Rules:
    """The rules as they should be.  What was allowed or denied for a while is kept as it is in force.

    `operators`: the networks that always reach SSH, where they are not the host's own.
    """
    facts, fleet, roles = host.facts, host.fleet, host.fleet.roles(host.name)
    operators = host.operators if operators is None else operators
    open_to = [
        ("" if way.source == WORLD else str(fleet.machine(way.source).address), way.port)
        for way in ways_to(fleet, host.name)
        if way.port != SSH
    ]
    bastions = [str(bastion.address) for bastion in fleet.bastions(host.name)]
    behind = [(str(web.address), pages(fleet)) for web in fleet.webs_behind(host.name)]
    behind += [(str(one.address), STATIC) for one in fleet.statics_behind(host.name) if one.name != host.name]
    front = server(host)
    if fleet.balancer and front == BALANCER:
        behind += [(str(web.address), PLAIN) for web in fleet.webs if fleet.balancer.routes_to(web.name)]
    own = [way.port for way in ways_to(fleet, host.name) if way.port in (pages(fleet), PLAIN, STATIC)]
    keeper = fleet.one("files")
    follows = keeper and not fleet.keeps_files(host.name) and fleet.files.mount == "sync"
    roots = [(str(keeper.address), SYNC)] if keeper and follows else []
    rules = {}
    for family, live in ((4, facts.rules4), (6, facts.rules6)):
        rules[family] = {
            NOW: passing(live),
            "GATEHOUSE": chain(family, facts.ssh_ports, operators, fleet.open, open_to, bastions),
            "GATEHOUSE-INNER": layers(host),
        }
        if behind or own or roots:
            rules[family]["GATEHOUSE-OUTER"] = outer(family, facts.users, behind, sorted({*own}), front, roots)
        if "web" in roles and (cache := fleet.one("cache")) and fleet.cache.server == "memcached":
            ports = {site.owner: cache_port(fleet, site) for site in host.sites if site.php}
            where = "GATEHOUSE-INNER" if cache.name == host.name else "GATEHOUSE-OUTER"
            rules[family].setdefault(where, []).extend(apart(family, facts.users, str(cache.address), ports))
    return rules


def server(host: Host) -> str:
    """As which user what visitors meet speaks to what is behind it: HAProxy, nginx, or a balancer's Apache."""
    roles = host.fleet.roles(host.name)
    return BALANCER if "balancer" in roles and "edge" not in roles else FRONT[host.fleet.edge.server]


def layers(host: Host) -> list[str]:
    """The rules between the layers of this host."""
    roles = host.fleet.roles(host.name)
    return inner(host.facts.users, roles | {"edge"} if "balancer" in roles else roles, server(host))


def guard(host: Host) -> None:
    """Raises Guarded where the host shall let in nobody but its bastions, and who types this came another way.

    Who comes another way to one that does so already was let in for a while, by firewall.allow.  Where nobody came at
    all, a host at its first boot, nobody is shut out.
    """
    if not host.facts.client:
        return
    doors = {f"-A GATEHOUSE -p tcp -m tcp --dport {port} -j ACCEPT" for port in host.facts.ssh_ports}
    rules = (*host.facts.rules4, *host.facts.rules6)
    if not host.bastions or (any(rule.startswith(":GATEHOUSE ") for rule in rules) and not doors & {*rules}):
        return
    names = [bastion.name for bastion in host.fleet.bastions(host.name)]
    address = str(host.fleet.machine(host.name).address)
    if host.facts.client not in host.bastions:
        raise Guarded(
            f"you came to {host.name} from {host.facts.client}, and it shall let in nobody but {' and '.join(names)} "
            f"({', '.join(host.bastions)}): you would be shut out",
            f"{way_in(host.name, names)}; and as its HostName: {address}",
        )
    if host.login.asked not in ("", address):
        raise Guarded(
            f"{names[0]} was asked for {host.login.asked}, and shall lead to {address} alone: you would be shut out",
            f"in your ssh_config, below `Host {host.name}`: HostName {address}; then fab -H {host.name} trust",
        )


def load(host: Host, label: str = "load the rules", now: Mapping[int, list[str]] | None = None) -> None:
    """Both families, in one commit each, unless they are in force; `now` replaces what holds for a while.

    The way back is armed on the host first, and a second SSH connection must get in before it is disarmed.
    """
    rules = wanted(host)
    for family, passed in (now or {}).items():
        rules[family][NOW] = passed
    facts = host.facts
    if holds(facts.rules4, rules[4]) and holds(facts.rules6, rules[6]):
        return
    if not now:  # what has ended goes as soon as there is anything to load
        rules[4][NOW], rules[6][NOW] = passing(facts.rules4, facts.clock), passing(facts.rules6, facts.clock)
    host.access(label, APPLY, REVERT, table(rules[4]), table(rules[6]))
    if host.dry:  # the files that follow are shown as they would be
        facts.rules4, facts.rules6 = (tuple(table(rules[family]).splitlines()) for family in RULES)


def check(family: int) -> str:
    """What judges a file of rules: loaded where there is no traffic, since `--test` takes any name for a chain."""
    return f"unshare --net {TOOLS[family]}-restore {RULES[family]}"


def take(host: Host, label: str, texts: Iterable[str]) -> None:
    """The rules of these files, one a family, are in force once a second SSH connection got in under them."""
    tables = (text.partition("*filter\n")[2].partition("\nCOMMIT")[0] for text in texts)
    host.access(label, APPLY, REVERT, *tables)


def persist(host: Host) -> None:
    """The files that netfilter-persistent loads at boot say the same."""
    rules = wanted(host)
    for family, path in RULES.items():
        host.template(path, jumps=JUMPS, rules=rules[family], check=check(family), mode=0o640)
    if host.facts.units.get("netfilter-persistent.service", Unit()).active == "failed":
        # A start alone would flush the bans; a restart takes fail2ban along, which brings them back.
        host.run("load the rules as at boot", "systemctl restart netfilter-persistent")
    host.service("netfilter-persistent")
