"""Who is shut out, by which layer, since when and until when."""

from __future__ import annotations

import json as json_
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from invoke import Exit
from rich.markup import escape

from ..engine import Host, as_data, console, query
from .addresses import asked

# One fail2ban-client for all questions: each start of one costs more than all the answers.
STATUS = r"""
jails=$(fail2ban-client status)
jails=$(printf '%s\n' "$jails" | sed -n 's/.*Jail list:[[:space:]]*//p' | tr -d ,)
{
    for jail in $jails; do printf 'status %s\nget %s banip --with-time\n' "$jail" "$jail"; done
    echo exit
} | fail2ban-client -i | sed 's/^\(fail2ban> \)*//'
for tool in iptables ip6tables; do "$tool" -w -S | grep f2b- | sed 's/^/rule /'; done
config=/etc/haproxy/haproxy.cfg socket=/run/haproxy/admin.sock
if [ -S "$socket" ] && command -v socat > /dev/null; then
    for kind in http_req_rate conn_rate conn_cur; do
        limit=$(sed -n "s/.*sc0_$kind gt \([0-9]*\) }.*/\1/p" "$config" | sort -n | head -n 1)
        [ -z "$limit" ] || echo "show table clients data.$kind gt $limit" | socat - "UNIX-CONNECT:$socket" |
            sed -n "s/^0x.* key=\([^ ]*\) .*$kind[^=]*=\([0-9]*\).*/limited \1 $kind \2 $limit/p"
    done
fi
"""

KINDS = {
    "http_req_rate": "requests in 10 s: it is answered 429",
    "conn_rate": "connections in 10 s: it is turned away",
    "conn_cur": "connections at once: it is turned away",
}


@dataclass
class Ban:
    """One address in one jail.  Times are the host's own, as fail2ban writes them.

    layer: what keeps it out; empty when fail2ban says banned and no rule is there.
    """

    address: str
    since: str
    until: str
    layer: str = ""


@dataclass
class Jail:
    """What a jail has seen since fail2ban started, and whom it holds."""

    name: str
    failing: int = 0
    failures: int = 0
    total: int = 0
    bans: list[Ban] = field(default_factory=list)


@dataclass
class Limited:
    """A client (IPv4 address or IPv6 /64) that HAProxy turns away at this moment, and for what."""

    client: str
    count: int
    limit: int
    what: str


@dataclass
class ShutOut:
    """All who are shut out.  `left` are rules of bans that no jail knows of."""

    jails: list[Jail] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    limited: list[Limited] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """Bans without a rule, and rules without a ban."""
        return len(self.left) + sum(not ban.layer for jail in self.jails for ban in jail.bans)


@query(help={"json": "print jails, bans, rules without a ban and who is limited as JSON"})
def status(c, json=False):
    """On call: every jail, who is banned there, by what, since when and until when (in the host's own time).

    And whom HAProxy's limits turn away right now.  Exit code 1 when a ban has no rule, or a rule no ban.
    """
    host = Host.of(c)
    found = read(asked(host, STATUS))
    if json:
        print(json_.dumps({"host": host.name, "well": not found.faults, **as_data(found)}, indent=2))
    else:
        _show(host, found)
    if found.faults:
        raise Exit(code=1)


def _show(host: Host, found: ShutOut) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="")
    for title in ("jail", "banned", "ever banned", "failing now", "failures seen"):
        table.add_column(title, justify="left" if title == "jail" else "right")
    for jail in found.jails:
        table.add_row(jail.name, *map(str, (len(jail.bans), jail.total, jail.failing, jail.failures)))
    console.print(table)
    for jail in found.jails:
        for ban in jail.bans:
            by = ban.layer or "[bold red]nothing: its rule is gone[/]"
            console.print(f"{ban.address}  banned by {jail.name} since {ban.since} until {ban.until}  ({by})")
    for limited in found.limited:
        console.print(f"{limited.client}  {limited.count} {limited.what} (HAProxy's limit: {limited.limit})")
    for rule in found.left:
        console.print(f"[bold red]no jail knows of this rule:[/] {escape(rule)}")
    if found.faults:
        console.print(f"type: fab -H {host.name} -- sudo systemctl restart fail2ban", markup=False)


def read(text: str) -> ShutOut:
    """What STATUS prints: fail2ban-client's tree for each jail and a line for each ban, rules, rows of HAProxy."""
    rules = [line.removeprefix("rule ") for line in text.splitlines() if line.startswith("rule ")]
    ports = {found[2]: found[1] for rule in rules if (found := re.search(r"--dports? (\S+) -j f2b-(\S+)$", rule))}
    held = {
        (found[1], found[2].partition("/")[0]): rule
        for rule in rules
        if (found := re.match(r"-A f2b-(\S+) -s (\S+) .*-j (?:REJECT|DROP)", rule))
    }
    jails = list(read_jails(text))
    for jail in jails:
        for ban in jail.bans:
            if held.pop((jail.name, ban.address), None):
                ban.layer = f"iptables, {'port ' + ports[jail.name] if jail.name in ports else 'every port'}"
    limited = [
        Limited(key.removeprefix("::ffff:"), int(count), int(limit), KINDS[kind])
        for _, key, kind, count, limit in (line.split() for line in text.splitlines() if line.startswith("limited "))
    ]
    return ShutOut(jails, list(held.values()), limited)


def read_jails(text: str) -> Iterator[Jail]:
    """The jails and their bans, in their order."""
    jail = None
    for line in text.splitlines():
        if found := re.search(r"Status for the jail: (\S+)", line):
            if jail:
                yield jail
            jail = Jail(found[1])
        elif jail is None:
            continue
        elif found := re.search(r"Currently failed:\s+(\d+)", line):
            jail.failing = int(found[1])
        elif found := re.search(r"Total failed:\s+(\d+)", line):
            jail.failures = int(found[1])
        elif found := re.search(r"Total banned:\s+(\d+)", line):
            jail.total = int(found[1])
        elif found := re.fullmatch(r"(\S+)\s+(\S+ \S+) \+ -?\d+ = (\S+ \S+)", line.strip()):
            jail.bans.append(Ban(*found.groups()))
    if jail:
        yield jail
