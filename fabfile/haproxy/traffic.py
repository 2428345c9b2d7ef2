"""The servers behind HAProxy: what it thinks of each, and taking one out of the traffic and back in."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from csv import DictReader
from typing import NamedTuple

from invoke import Exit

from ..engine import Guarded, Host, Problem, StepFailed, console, query
from ..model import Problem as Wrong
from ..model import Refusal, nearest
from ..model.refusal import quoted
from .backends import ALL, FILES, backends, balanced, statics

RECORD = "/etc/haproxy/servers.state"
"""What was set, in HAProxy's own format (management manual, "show servers state"), which it reads when it starts."""
NOTHING = "1\n"
"""A record of nothing: the format's version. HAProxy 2.6 wants the file to be there."""

FULL = 100
PROVEN = 3.5
"""Seconds after which a check has begun and ended: it comes every second, and may take two."""
COLUMNS = ("server", "status", "check", "weight", "set", "waiting", "active", "served", "errors", "seconds")

TALK = """
talk() { printf '%s\\n' "$1" | socat -T 5 - UNIX-CONNECT:/run/haproxy/admin.sock; }
"""
# -1: every proxy; 4: servers alone; -1: every server.
LOOK = TALK + "talk 'show stat -1 4 -1'; talk 'show servers state'\n"
# HAProxy says nothing when it obeys. Into the record goes what differs from the configuration, and no more: an address,
# or a server's health, would be believed after the configuration or the world has changed (haproxy/haproxy#1412).
SET = (
    TALK
    + """
exec 8>> /run/gatehouse.servers
flock 8
said=$(talk "$1")
[ -z "$(printf %s "$said" | tr -d '[:space:]')" ] || { printf '%s\\n' "$said"; exit 1; }
talk 'show servers state' | awk '
    NR == 1 { print 1 }
    $1 == "#" { print }
    NF > 19 && $1 != "#" {
        $7 = $7 % 2 ? 1 : int($7 / 8) % 2 ? 8 : 0
        if (!$7 && $8 == $9) next
        $5 = "-"; $6 = 2; $10 = $11 = $12 = 0; $13 = 4; $14 = 6
        print
    }' > "$2.new"
sync "$2.new"
mv -fT "$2.new" "$2"
"""
    + LOOK
)

# What a worker of before a reload still carries, the new one does not know of (management manual, "@!<pid>").
LEAVING = """
master() { printf '%s\\n' "$1" | socat -T 5 - UNIX-CONNECT:/run/haproxy-master.sock; }
for worker in $(master 'show proc' | awk '/^#/ { old = /old workers/; next } old { print $1 }'); do
    master "@!$worker show stat -1 4 -1"
done
"""

TAKING_AWAY = {
    "server": "a web server's or static host's name in fleet.yml",
    "wait": "seconds to wait for the end of its requests",
    "force": "even when no other is left that could serve its sites",
}

MAINTENANCE, DRAINING = 1, 8
"""Bits of srv_admin_state: what was forced at the socket."""


class Server(NamedTuple):
    """A server as HAProxy tells of it; counts since HAProxy started or was reloaded last.

    `weight` is its share now, `full` that of the configuration. `refused` are connections that failed, `broken` answers
    that did not come in time or not whole, `failures` answers with 5xx, all of `answers`.
    """

    backend: str
    name: str
    status: str
    check: str
    weight: int
    full: int
    admin: int
    waiting: int
    active: int
    served: int
    refused: int
    broken: int
    answers: int
    failures: int
    seconds: int

    @property
    def up(self) -> bool:
        """Its checks succeed, or it has none."""
        return self.status.startswith(("UP", "DRAIN", "no check"))

    @property
    def serves(self) -> bool:
        """New visitors are led to it."""
        return self.up and not self.admin and self.weight > 0

    @property
    def set(self) -> str:
        """What was set by hand and differs from the configuration."""
        if self.admin & MAINTENANCE:
            return "maintenance"
        if self.admin & DRAINING:
            return "drain"
        return f"{self.weight}%" if self.weight != self.full else ""

    @property
    def row(self) -> dict[str, str | int]:
        """What is shown of it."""
        told = (self.status, self.check, self.weight, self.set, self.waiting, self.active, self.served)
        name = f"{self.backend}/{self.name}"
        return dict(zip(COLUMNS, (name, *told, self.refused + self.broken, self.seconds), strict=True))


@query(help={"json": "print the same as JSON"})
def servers(c, json=False):
    """On call: what HAProxy thinks of each server behind it, what was set by hand, and what passes through.

    `weight` is in percent of a full share. lego has no health check. static/HOST:pages is a web server that stands in
    when no static host is up.
    """
    host = Host.of(c)
    fronts(host)
    rows = [server.row for server in read_servers(_asked(host, LOOK))]
    if json:
        console.print_json(data=rows)
        return
    lines = [[*map(str, cells)] for cells in (COLUMNS, *(row.values() for row in rows))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        console.print("  ".join(cells).rstrip(), markup=False)


@query(
    positional=["server"],
    help={**TAKING_AWAY},
    within={"wait": (0, 3600)},
)
def drain(c, server, wait=60, force=False):
    """On call: lead no new visitor to a server; those who have a session there stay. It is so until haproxy.ready.

    Refuses (exit code 3) to take away the last one that serves. Waits for the requests under way and tells how many are
    left; exit code 1 when some are after `wait` seconds.
    """
    host = Host.of(c)
    take_away(host, server, "drain", wait, force)
    console.print(f"{host.name}  who has a session there stays: haproxy.maintenance {server} moves them too")


@query(
    positional=["server"],
    help={**TAKING_AWAY},
    within={"wait": (0, 3600)},
)
def maintenance(c, server, wait=60, force=False):
    """On call: lead nobody to a server any more, not even those who have a session there, until haproxy.ready.

    What is under way there ends by itself; refusals and exit codes are those of haproxy.drain.
    """
    take_away(Host.of(c), server, "maint", wait, force)


@query(
    positional=["server"],
    help={
        "server": "a web server's or static host's name in fleet.yml",
        "wait": "seconds to wait for its health check",
    },
    within={"wait": (0, 3600)},
)
def ready(c, server, wait=20):
    """On call: lead visitors to a server again, with the weight it had; with its full share when that was none.

    Waits until its health check succeeds; when it does not, nobody is led to it, and the exit code is 1.
    """
    host = Host.of(c)
    found = chosen(host, server)
    weight = found[0].weight or FULL
    if host.dry:
        console.print(f"{host.name}  {server} would be led to again, at {weight}%")
        return
    arrive(host, found, server, wait)
    apply(host, found, weight, "ready")
    more = f"; for more: haproxy.shift {server} --to {FULL}" if weight < FULL else ""
    console.print(f"{host.name}  {server} is led to, at {weight}%{more}")


def take_away(host: Host, name: str, state: str, wait: int, force: bool) -> None:
    """Into `drain` or `maint`, and wait for the requests under way.  Raises Guarded for the last one that serves."""
    rows = look(host, name)
    found = of(rows, name)
    guard(host, rows, name, force)
    word = {"drain": "drained", "maint": "in maintenance"}[state]
    if host.dry:
        console.print(f"{host.name}  {name} would be {word}")
        return
    found = of(apply(host, found, None, state), name)
    console.print(f"{host.name}  {name} is {word}: it gets no new visitors")
    began, told = time.monotonic(), -1
    while left := sum(one.active for one in found) or _leaving(host, name):
        if time.monotonic() >= began + wait:
            console.print(f"{host.name}  still under way to {name} after {wait} s: {left}")
            raise Exit(code=1)
        if left != told:
            console.print(f"{host.name}  under way to {name}: {left}")
        told = left
        time.sleep(0.5)
        found = of(look(host), name)
    console.print(f"{host.name}  no request to {name} is under way")


def _leaving(host: Host, name: str) -> int:
    """Requests to this server in workers of before a reload."""
    blocks = _asked(host, LEAVING).split("\n\n")
    return sum(one.active for block in blocks if "," in block for one in of(read_servers(block.lstrip()), name))


def arrive(host: Host, found: list[Server], name: str, wait: int) -> None:
    """Return when its checks succeed, with nobody led to it yet.  Raises Problem, with all as it was, after `wait` s.

    HAProxy takes a server that leaves maintenance for up until its next check fails, so that it is drained for a while.
    """
    away = bool(found[0].admin & MAINTENANCE)
    rows = of(apply(host, found, None, "drain"), name) if away else found
    well, end = time.monotonic(), time.monotonic() + wait
    while not all(one.up for one in rows) or (away and time.monotonic() < well + PROVEN):
        if not all(one.up for one in rows):
            well = time.monotonic()
        if time.monotonic() >= end:
            if away:
                apply(host, found, None, "maint")
            stays = f"; it stays {'in maintenance' if away else 'as it was'}"
            raise Problem(f"{name} is not up: {rows[0].status} ({rows[0].check}){stays}", f"fab -H {name} status")
        time.sleep(0.5)
        rows = of(look(host), name)


def guard(host: Host, rows: Iterable[Server], name: str, force: bool = False) -> None:
    """Raises Guarded where nobody would serve any more without this server."""
    rows = list(rows)
    alone = [one for one in of(rows, name) if not any(other.serves for other in beside(rows, one))]
    if not alone:
        return
    if not balanced(host):
        raise Guarded(
            f"{name} is the only server here: without it every site is down",
            f"one site: fab -H {host.name} site.suspend DOMAIN",
        )
    if not force:
        where = " and ".join(_sites(one.backend) for one in alone)
        raise Guarded(
            f"{name} is the last server that serves {where}",
            f"see what is with the others: fab -H {host.name} haproxy.servers; "
            f"all the same: haproxy.drain {name} --force",
        )


def _sites(backend: str) -> str:
    if backend == FILES:
        return "files"
    if backend == ALL:
        return "the sites of all web servers"
    return f"the sites of {', '.join(backend.split(':')[1:])} alone"


# ---------------------------------------------------------------------- what HAProxy is asked and told


def chosen(host: Host, name: str) -> list[Server]:
    """The server of this name, in every backend that has it."""
    return of(look(host, name), name)


def look(host: Host, name: str = "") -> list[Server]:
    """Every server of pages and of files.  Raises Refusal when `name` is none of them, before anything is asked."""
    fronts(host)
    known = {server.name for backend in backends(host) for server in backend.servers}
    known |= {server.name for server in statics(host)}
    if name and name not in known:
        near = ", ".join(nearest(name, sorted(known)))
        raise Refusal(Wrong(f"HAProxy of {host.name} leads to no server {quoted(name)}", example=near))
    rows = _settable(_asked(host, LOOK))
    if name and not any(row.name == name for row in rows):
        raise Problem(f"HAProxy of {host.name} does not know {name} yet", f"fab -H {host.name} haproxy")
    return rows


def fronts(host: Host) -> None:
    """Raises Refusal, with the right host, where there is no HAProxy."""
    if host.fleet.edge.server == "nginx":
        raise Refusal(Wrong(f"the edge {host.name} is nginx: it has no servers to list, drain or shift", key="edge"))
    if "edge" not in host.fleet.roles(host.name):
        edges = [edge.name for edge in host.fleet.edges] or ["vps"]
        raise Refusal(Wrong(f"{host.name} has no HAProxy", example=f"fab -H {edges[0]} haproxy.servers"))


def of(rows: Iterable[Server], name: str) -> list[Server]:
    """The rows of this server."""
    return [row for row in rows if row.name == name]


def beside(rows: Iterable[Server], server: Server) -> list[Server]:
    """The other servers of its backend."""
    return [row for row in rows if row.backend == server.backend and row.name != server.name]


def apply(host: Host, servers: Iterable[Server], weight: int | None, state: str = "") -> list[Server]:
    """Set weight (in percent) and state (`ready`, `drain`, `maint`), remember it on the host; every server, afterwards.

    The weight comes first, so that no server is led to with more than it shall have.
    """
    commands = []
    for server in servers:
        what = f"set server {server.backend}/{server.name}"
        commands += [f"{what} weight {weight}"] if weight is not None else []
        commands += [f"{what} state {state}"] if state else []
    answer = _asked(host, SET, "; ".join(commands), RECORD)
    return _settable(answer)


def _settable(answer: str) -> list[Server]:
    """The servers of pages, and those of files; in further backends of files they follow these."""
    return [row for row in read_servers(answer) if row.backend == FILES or row.backend.partition(":")[0] == ALL]


def _asked(host: Host, question: str, *args: str) -> str:
    try:
        return host.ask("set -e\n" + question, *args)
    except StepFailed as error:
        raise Problem(f"HAProxy on {host.name} gives no answer", f"fab -H {host.name} haproxy", error.details) from None


def read_servers(answer: str) -> list[Server]:
    """HAProxy's `show stat` (management manual, 9.1), then its `show servers state`."""
    told, _, states = answer.partition("\n\n")
    forced = dict(_states(states))
    return [
        _server(line, forced.get((line["pxname"], line["svname"])))
        for line in DictReader(told.removeprefix("# ").splitlines())
    ]


def _server(line: dict[str, str], forced: tuple[int, int, int] | None) -> Server:
    def count(key: str) -> int:
        return int(line.get(key) or 0)

    weight, full, admin = forced or (count("weight"), count("weight"), 0)
    return Server(
        backend=line["pxname"],
        name=line["svname"],
        status=line["status"],
        check=line["check_status"],
        weight=weight,
        full=full,
        admin=admin,
        waiting=count("qcur"),
        active=count("scur"),
        served=count("stot"),
        refused=count("econ"),
        broken=count("eresp"),
        answers=sum(count(f"hrsp_{kind}") for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other")),
        failures=count("hrsp_5xx"),
        seconds=count("lastchg"),
    )


def _states(text: str) -> Iterator[tuple[tuple[str, str], tuple[int, int, int]]]:
    """(backend, server): its weight, that of the configuration, and what was forced."""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 19 and fields[0] != "#":
            yield (fields[1], fields[3]), (int(fields[7]), int(fields[8]), int(fields[6]) & (MAINTENANCE | DRAINING))
