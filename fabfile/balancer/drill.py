"""Would the spare really take over?  A member is cut off on purpose while visitors come, and what is lost is counted.

It is cut off at the balancer, by rules of its firewall which the host takes back by itself, whatever becomes of the
laptop; the member itself is not touched.
"""

from __future__ import annotations

import asyncio
import json as json_
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from invoke import Exit

from ..engine import Guarded, Host, Problem, as_data, console, query
from .manager import Row, look
from .pools import Member, Pool, front
from .states import of_route
from .visitors import Visitors, reasons, slowest

EVENTS = {
    "stopped": ("its service is stopped", "-j REJECT --reject-with tcp-reset"),
    "gone": ("the host is gone", "-j DROP"),
    "hung": ("it takes connections and says nothing", "--tcp-flags PSH PSH -j DROP"),
}
"""What may become of a member, and how its balancer is made to see it so."""

CHAIN = "GATEHOUSE-DRILL"
# $1: iptables or ip6tables; $2: address; $3: port; $4: the rest of the rule.
CUT = f"""
"$1" -N {CHAIN} 2> /dev/null || "$1" -F {CHAIN}
"$1" -A {CHAIN} -d "$2" -p tcp -m tcp --dport "$3" $4
"$1" -C OUTPUT -j {CHAIN} 2> /dev/null || "$1" -I OUTPUT 1 -j {CHAIN}
"""
MEND = f"""
for tool in iptables ip6tables; do
    while "$tool" -D OUTPUT -j {CHAIN} 2> /dev/null; do :; done
    "$tool" -F {CHAIN} 2> /dev/null && "$tool" -X {CHAIN} || :
done
"""

BEFORE, AFTER = 2.0, 2.0
"""Seconds of visits before the member goes, and after it is back."""
BACK = 30.0
"""Seconds in which it must serve again."""


class Figures(NamedTuple):
    """What an event cost.  `lost` requests got no answer or one with 5xx; `lost_twice` after one more try as well."""

    event: str
    requests: int
    lost: int
    lost_twice: int
    slowest: float
    back: float
    """Seconds until the member served again once it could be reached."""
    elsewhere: int
    """Requests for which others of the route were chosen."""
    why: dict[str, int]


@query(
    positional=["route"],
    help={
        "route": "as in fleet.yml, such as /paid_user",
        "event": "stopped, gone or hung; without it, one after the other",
        "rate": "requests a second",
        "seconds": "how long the member is away, each time",
        "page": "what is asked for, when it is not the route's own path",
        "json": "print the figures as JSON",
    },
    within={"rate": (1, 1000), "seconds": (3, 60)},
)
def drill(c, route, event="", rate=100, seconds=8, page="", json=False):
    """On call: at a quiet hour, cut a route's first member off while visitors come, and count what was lost.

    It is refused, then gone, then hung, as its balancer sees it; visitors come from where you are, at a steady rate,
    and whose request of GET is lost tries once more, as browsers do. Exit code 1 when a request is lost even so, or the
    member is not back. Refuses (exit code 3) where nobody is there to take over.
    """
    host = Host.of(c)
    pool = of_route(host, route)
    if event and event not in EVENTS:
        raise Problem(f"--event {event}: there is no such event", f"one of {', '.join(EVENTS)}")
    member = _first(host, pool)
    events = [event] if event else [*EVENTS]
    if host.dry:
        console.print(f"{host.name}  {member.host} would be cut off for {seconds} s: {', '.join(events)}")
        return
    if json:
        host.watch = lambda *_: None  # the figures are the answer, and no run's report
    with host.running("balancer.drill", json), host.step("balancer.drill"):
        found = [_event(host, pool, member, each, rate, seconds, page) for each in events]
    if json:
        print(json_.dumps({"route": pool.path, "member": member.host, "rate": rate,
                           "events": [as_data(each) for each in found]}, indent=2))  # fmt: skip
    else:
        for each in found:
            _tell(host, member, each)
    if any(each.lost_twice for each in found):
        raise Exit(code=1)


def _first(host: Host, pool: Pool) -> Member:
    """Who is cut off.  Raises Guarded where nobody else would serve."""
    rows = [row for row in look(host) if row.pool == pool.name]
    serving = [row for row in rows if row.state == "serves"]
    if not serving or len([row for row in rows if row.state in ("serves", "stands by")]) < 2:
        raise Guarded(
            f"nobody would take over {pool.path}: {', '.join(f'{row.member} {row.state}' for row in rows)}",
            f"fab -H {host.name} balancer.status",
        )
    return next(one for one in pool.members if one.host == serving[0].member)


def _event(host: Host, pool: Pool, member: Member, event: str, rate: int, seconds: int, page: str) -> Figures:
    """One event from beginning to end."""
    at = str(host.visit.connection.host)
    visitors = Visitors(at, front(host).server_name, page or pool.path, rate)
    before = look(host)
    with _coming(visitors):
        time.sleep(BEFORE)
        if visitors.done and all(one.lost for one in visitors.done):
            raise Problem(
                f"{visitors.path} of {visitors.name} is not answered at {at} as it is: {visitors.done[0]}",
                f"fab -H {host.name} balancer.status",
            )
        tool = "ip6tables" if ":" in member.address else "iptables"
        try:
            host.shut(f"{member.host} was cut off ({event})", CUT, MEND, tool, member.address, str(member.port),
                      EVENTS[event][1], seconds=seconds + 20)  # fmt: skip
            time.sleep(seconds)
        finally:
            host.take_back(f"{member.host} can be reached again")
        back = _back(host, pool, member)
        time.sleep(AFTER)
    took_over = _served(look(host), pool, member) - _served(before, pool, member)
    lost = [one for one in visitors.done if one.lost or one.tries > 1]
    twice = [one for one in visitors.done if one.lost]
    slow, why = round(slowest(visitors.done), 1), reasons(lost)
    return Figures(event, len(visitors.done), len(lost), len(twice), slow, round(back, 1), took_over, why)


@contextmanager
def _coming(visitors: Visitors) -> Iterator[None]:
    """Visitors come meanwhile; all have their answer, or none, when this ends."""
    thread = threading.Thread(target=lambda: asyncio.run(visitors.come()), daemon=True)
    thread.start()
    try:
        yield
    finally:
        visitors.leave()
        thread.join()


def _back(host: Host, pool: Pool, member: Member) -> float:
    """Seconds until it serves again.  Raises Problem when it does not."""
    began = time.monotonic()
    while time.monotonic() < began + BACK:
        row = next(row for row in look(host) if (row.pool, row.member) == (pool.name, member.host))
        if row.state == "serves":
            return time.monotonic() - began
        time.sleep(0.3)
    raise Problem(f"{member.host} is not back after {BACK:.0f} s: {row.state}", f"fab -H {host.name} balancer.status")


def _served(rows: list[Row], pool: Pool, member: Member) -> int:
    """Requests for which others were chosen."""
    return sum(row.served for row in rows if row.pool == pool.name and row.member != member.host)


def _tell(host: Host, member: Member, found: Figures) -> None:
    what = EVENTS[found.event][0]
    console.print(
        f"{host.name}  {member.host}, {what}: {found.requests} requests, {found.lost} lost, {found.lost_twice} after "
        "one more try; "
        f"the slowest took {found.slowest} s; {found.elsewhere} went elsewhere; it was back after {found.back} s",
        markup=False,
        soft_wrap=True,
    )
    for why, count in found.why.items():
        console.print(f"{host.name}    {count} x {why}", markup=False)
