"""Members in the operator's hands: how each is, and taking one out of the traffic and back in.  (T3, on call)"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from invoke import Exit

from ..engine import Guarded, Host, console, query
from ..model import Problem, Refusal, nearest
from ..model.refusal import quoted
from .manager import LOOK, RECORD, SET, Row, asked, change, look, read
from .pools import Pool, front, pools

COLUMNS = ("route", "member", "state", "set", "busy", "served", "sent", "received")

WHICH = {
    "member": "a host's name in fleet.yml",
    "route": "this route alone, such as /paid_user; without it, every route that leads to the host",
}


@query(help={"json": "print the same as JSON"})
def status(c, json=False):
    """On call: each route's members and spares, how each is, what was set by hand, and what passes through.

    Counts are since the last reload; `served` are requests that it was chosen for, `sent` and `received` bytes. Exit
    code 1 when a member is not well, or a route has nobody left.
    """
    host = Host.of(c)
    front(host)
    found = look(host)
    told = [
        dict(zip(COLUMNS, (r.route, r.member, r.state, r.set, r.busy, r.served, r.sent, r.received), strict=True))
        for r in found
    ]
    if json:
        console.print_json(data=told)
    else:
        lines = [[*map(str, cells)] for cells in (COLUMNS, *(row.values() for row in told))]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            console.print("  ".join(cells).rstrip(), markup=False)
    if any(not row.up for row in found):
        raise Exit(code=1)


@query(
    positional=["member"],
    help={**WHICH, "wait": "seconds to wait for the end of its requests", "force": "even when no other is left"},
    within={"wait": (0, 3600)},
)
def drain(c, member, route="", wait=60, force=False):
    """On call: lead no new visitor to a member, until balancer.ready; over reloads and reboots.

    On a route that is sticky, who is bound to it stays. Refuses (exit code 3) to take away the last one that serves.
    Waits for the requests under way; exit code 1 when some are left after `wait` seconds.
    """
    host = Host.of(c)
    found = _leaving(host, member, route, force, "be drained")
    if not found:
        return
    change(host, {(one.pool, member): (one.spare, True) for one in found})
    console.print(f"{host.name}  {member} is drained: it gets no new visitors")
    _await(host, member, wait, lambda: sum(one.busy for one in _of(look(host), {one.pool for one in found}, member)))


@query(positional=["member"], help=WHICH)
def ready(c, member, route=""):
    """On call: lead visitors to a member again, as fleet.yml has it: as a member, or as a hot spare.

    Nobody is led to it before its health check succeeds; exit code 1 when it has not within 10 seconds.
    """
    host = Host.of(c)
    chosen = _chosen(host, member, route)
    fresh = {(pool.name, member): (one.spare, False) for pool in pools(host) if (one := pool.member(member))}
    wanted = {key: state for key, state in fresh.items() if key[0] in chosen}
    if host.dry:
        console.print(f"{host.name}  {member} would be led to again")
        return
    rows = _of(change(host, wanted), chosen, member)
    end = time.monotonic() + 10
    while not all(row.up for row in rows) and time.monotonic() < end:
        time.sleep(0.5)
        rows = _of(look(host), chosen, member)
    for row in rows:
        console.print(f"{host.name}  {row.route} {member}: {row.state}", markup=False)
    if not all(row.up for row in rows):
        raise Exit(code=1)


@query(positional=["member"], help={**WHICH, "force": "even when no other member is left"})
def spare(c, member, route="", force=False):
    """On call: make a member a hot spare, which serves while no other can; until balancer.ready.

    Refuses (exit code 3) for the last member that serves.
    """
    host = Host.of(c)
    found = _leaving(host, member, route, force, "stand by")
    if not found:
        return
    rows = change(host, {(one.pool, member): (True, False) for one in found})
    for row in _of(rows, {one.pool for one in found}, member):
        console.print(f"{host.name}  {row.route} {member}: {row.state}", markup=False)


def finish(host: Host, pool: str, url: str, member: str, wait: int) -> None:
    """Drain a member that fleet.yml does not have any more; nothing is remembered.  Ends with code 1 after `wait` s."""
    asked(host, SET, RECORD, f"{pool} {url} w_status_N=1 - -")
    console.print(f"{host.name}  {member} is drained: it gets no new visitors")
    _await(host, member, wait, lambda: int(read(asked(host, LOOK)).get((pool, url), {}).get("busy", 0)))


def _await(host: Host, member: str, wait: int, busy: Callable[[], int]) -> None:
    """Until no request is under way; ends with code 1 after `wait` seconds."""
    end = time.monotonic() + wait
    while left := busy():
        if time.monotonic() >= end:
            console.print(f"{host.name}  still under way to {member} after {wait} s: {left}")
            raise Exit(code=1)
        time.sleep(0.5)
    console.print(f"{host.name}  no request to {member} is under way")


def _chosen(host: Host, member: str, route: str) -> set[str]:
    """The pools that are meant.  Raises Refusal for a route or member that fleet.yml does not have."""
    front(host)
    found = pools(host)
    if route:
        found = (of_route(host, route),)
    names = {pool.name for pool in found if pool.member(member)}
    if not names:
        known = sorted({each.host for pool in found for each in pool.members})
        where = f"route {route}" if route else f"routes of {host.name}"
        message = f"the {where} {'leads' if route else 'lead'} to no host {quoted(member)}"
        raise Refusal(Problem(message, example=", ".join(nearest(member, known))))
    return names


def of_route(host: Host, route: str) -> Pool:
    """The pool behind a route.  Raises Refusal, with the nearest ones."""
    front(host)
    wanted = route.rstrip("/") or "/"
    for pool in pools(host):
        if pool.path == wanted:
            return pool
    near = ", ".join(nearest(route, [pool.path for pool in pools(host)]))
    raise Refusal(Problem(f"there is no route {quoted(route)}", key="balancer.routes", example=near))


def _of(rows: Iterable[Row], chosen: set[str], member: str) -> list[Row]:
    return [row for row in rows if row.pool in chosen and row.member == member]


def _leaving(host: Host, member: str, route: str, force: bool, what: str) -> list[Row]:
    """The member's row of each route that is meant, where it shall serve no more; none in a dry run, which says so.

    Raises Refusal for what fleet.yml does not have, and Guarded, unless it is forced, where it is the last one.
    """
    chosen = _chosen(host, member, route)
    rows = look(host)
    if not force:
        _guard(host, rows, chosen, member)
    if host.dry:
        console.print(f"{host.name}  {member} would {what}")
        return []
    return _of(rows, chosen, member)


def _guard(host: Host, rows: list[Row], chosen: set[str], member: str) -> None:
    """Raises Guarded where nobody would serve a route any more."""
    for pool in sorted(chosen):
        others = [row for row in rows if row.pool == pool and row.member != member]
        if not any(row.state in ("serves", "stands by") for row in others):
            path = next(row.route for row in rows if row.pool == pool)
            raise Guarded(
                f"{member} is the last one that serves {path}",
                f"see what is with the others: fab -H {host.name} balancer.status; all the same: --force",
            )
