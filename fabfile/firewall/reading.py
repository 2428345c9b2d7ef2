"""The rules in force, as an operator reads them: who may come in, from where, until when, and how many did."""

from __future__ import annotations

import json as json_
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from invoke import Exit
from rich.markup import escape

from ..engine import Host, as_data, console, query
from ..model import Fleet
from ..model.ways import SSH, WORLD, ways_to
from .passing import moment
from .rules import JUMPS, NOW, RULES, end_of

# The kernel keeps rules of other programs apart (nftables' own tables, the older iptables); they work all the same.
QUESTION = """
exec 2> /dev/null
say() { printf '%s\\t%s\\n' "$1" "$2"; }
say clock "$(date +%s)"
sshd -T | awk '$1 == "port" { print "ssh\\t" $2 }'
for family in 4 6; do
    tool=iptables; [ "$family" = 4 ] || tool=ip6tables
    for table in filter nat mangle raw; do
        "$tool-save" -c -t "$table" | while IFS= read -r line; do say "$family $table" "$line"; done
    done
    grep '^-A' "/etc/iptables/rules.v$family" | while IFS= read -r line; do say "$family boot" "$line"; done
done
! command -v nft > /dev/null || nft list tables | grep -v -E '^table ip6? (filter|nat|mangle|raw|security)$' |
    while IFS= read -r line; do say nft "$line"; done
sort -u /proc/net/ip_tables_names /proc/net/ip6_tables_names | while IFS= read -r line; do say legacy "$line"; done
"""

EVERYBODY = "everybody"
ELSE = "everything else"


@dataclass
class Row:
    """Who may come in, or is kept out.

    what: a port (`22/tcp`, `80,443/tcp`), or another word for what comes; source: a network, or everybody; until: epoch
    in seconds, 0 for ever; packets: by family, only where the rule is there; name: the host of the fleet that it is.
    """

    verdict: str
    what: str
    source: str = EVERYBODY
    until: int = 0
    packets: dict[str, int] = field(default_factory=dict)
    name: str = ""


@dataclass
class Rules:
    """All that filters on a host.  `faults` are what should not be so; `ssh` are the ports that sshd has."""

    ssh: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    bans: dict[str, int] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@query(help={"json": "print the rules, bans, what is not ours and faults as JSON"})
def show(c, json=False):
    """On call: who may come in, from where, until when, packets by family; bans; and every rule that is not ours.

    Exit code 1 when the rules are not in force, let in other hosts of the fleet than their roles want, or would not be
    the same after a boot.
    """
    host = Host.of(c)
    rules = read(host.ask(QUESTION))
    meet(rules, host.fleet, host.name)
    if json:
        print(json_.dumps({"host": host.name, "well": not rules.faults, **as_data(rules)}, indent=2))
    else:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="")
        for title in ("", "what", "from", "until", "IPv4", "IPv6"):
            table.add_column(title, justify="right" if title.startswith("IP") else "left")
        for row in rules.rows:
            until = moment(row.until) if row.until else "for good"
            counts = [str(row.packets.get(family, "-")) for family in ("4", "6")]
            table.add_row(row.verdict, row.what, f"{row.name} {row.source}".lstrip(), until, *counts)
        console.print(table)
        for jail, count in rules.bans.items():
            console.print(f"fail2ban: {jail} holds {count}  (fab -H {host.name} fail2ban.status)", markup=False)
        for other in rules.others:
            console.print(f"[yellow]not ours:[/] {escape(other)}")
        for fault in rules.faults:
            console.print(f"[bold red]{escape(fault)}[/]")
    if rules.faults:
        raise Exit(code=1)


def read(answer: str) -> Rules:
    """What QUESTION prints: rules with their counters, those of the next boot, and other programs' tables."""
    rules = Rules()
    lines = [line.partition("\t")[::2] for line in answer.splitlines()]
    clock = int(next((text for key, text in lines if key == "clock"), "0"))
    rules.ssh = [int(text) for key, text in lines if key == "ssh"]
    live = {family: [text for key, text in lines if key == f"{family} filter"] for family in "46"}
    boot = {family: [text for key, text in lines if key == f"{family} boot"] for family in "46"}
    rows: dict[tuple[str, str, str, int], Row] = {}
    for family, texts in live.items():
        for row in _rows(family, texts):
            if 0 < row.until <= clock:
                continue
            rows.setdefault((row.verdict, row.what, row.source, row.until), row).packets.update(row.packets)
        rules.faults += _faults(family, texts, boot[family])
        rules.others += (f"IPv{family} {rule}" for rule in _others(texts))
    rules.rows = sorted(rows.values(), key=lambda row: row.what == ELSE)
    rules.bans = dict(Counter(jail for texts in live.values() for jail in _bans(texts)))
    for key, text in lines:
        kind, _, where = key.partition(" ")
        if where in ("nat", "mangle", "raw") and re.match(r"\[\d+:\d+\] -A ", text):
            rules.others.append(f"IPv{kind} table {where}: {_plain(text)}")
        elif key in ("nft", "legacy"):
            rules.others.append(f"{'nftables' if key == 'nft' else 'iptables-legacy'}: {text}")
    return rules


def meet(rules: Rules, fleet: Fleet, host: str) -> None:
    """Name the hosts of the fleet that `host` lets in, and tell which of them its roles want and which they do not."""
    names = {str(machine.address): machine.name for machine in fleet.hosts.values() if machine.address}
    for row in rules.rows:
        network, _, length = row.source.partition("/")
        row.name = names.get(network, "") if length in ("32", "128") else ""
    wanted = {
        (way.source, port): way.what
        for way in ways_to(fleet, host)
        for port in (rules.ssh if way.port == SSH else [way.port])
    }
    there = {
        (WORLD if row.source == EVERYBODY else row.name, int(port))
        for row in rules.rows
        if row.verdict == "in" and not row.until and row.what.endswith("/tcp")
        for port in row.what.removesuffix("/tcp").split(",")
    }
    for source, port in sorted(wanted.keys() - there):
        rules.faults.append(f"{source} cannot come to {port}/tcp ({wanted[source, port]}); type: firewall")
    for source, port in sorted(there - wanted.keys()):
        if source and (WORLD, port) not in wanted and f"{port}/tcp" not in fleet.open:
            rules.faults.append(f"{source} may come to {port}/tcp, and no role wants it; type: firewall")


def _rows(family: str, lines: Iterable[str]) -> Iterator[Row]:
    for line in lines:
        found = re.match(rf"\[(\d+):\d+\] -A (GATEHOUSE|{NOW}) (.*) ?-j (ACCEPT|DROP)$", line)
        if not found or "--ctstate" in line or "-i lo" in line:
            continue  # what belongs to a connection, and the loopback: nobody asks
        count, rule = int(found[1]), found[3]
        protocol = re.search(r"-p (\S+)", rule)
        ports = re.search(r"--dports? (\S+)", rule)
        source = re.search(r"-s (\S+)", rule)
        what = "every port" if source else ELSE
        if protocol:
            what = f"{ports[1]}/{protocol[1]}" if ports else "ping" if "icmp-type" in rule else protocol[1]
        verdict = "in" if found[4] == "ACCEPT" else "out"
        yield Row(verdict, what, source[1] if source else EVERYBODY, end_of(rule), {family: count})


def _bans(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if found := re.search(r" -A f2b-(\S+) -s \S+ .*-j (REJECT|DROP)", line):
            yield found[1]


def _others(lines: Iterable[str]) -> Iterator[str]:
    """Rules that neither we nor fail2ban made."""
    for line in lines:
        rule = _plain(line)
        known = re.match(r"-A (GATEHOUSE|f2b-)", rule) or re.search(r"-j f2b-\S+$", rule) or rule in JUMPS.values()
        if line.startswith("[") and not known:
            yield rule


def _faults(family: str, lines: list[str], boot: list[str]) -> Iterator[str]:
    if not any(line.startswith(":INPUT DROP") for line in lines):
        yield f"IPv{family}: what no rule lets in is let in all the same; type: firewall"
    ours = [rule for rule in map(_plain, lines) if rule in JUMPS.values() or rule.startswith("-A GATEHOUSE")]
    if not set(JUMPS.values()) & set(ours):
        yield f"IPv{family}: our rules are not in force; type: firewall"
    elif sorted(ours) != sorted(boot):
        yield f"IPv{family}: the next boot would load other rules ({RULES[int(family)]}); type: firewall"


def _plain(line: str) -> str:
    """The rule without its counters."""
    return re.sub(r"^\[\d+:\d+\] ", "", line)
