"""Shifting: a server gets more of the visitors, or fewer, little by little, as long as it answers as the others do.

T1 puts HAProxy in front so that a new backend can be given more load little by little; here somebody watches, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from ..engine import Host, Problem, console, query
from ..engine.problems import Stopped
from .traffic import FULL, Server, apply, arrive, beside, guard, look, of

FEW = 2
"""So many failed requests may be chance."""
MARGIN = 0.01
"""How much of all requests may fail more than with the others."""
GLANCE = 1.0
"""Seconds between two looks: what is wrong is seen long before a step is over."""
ARRIVAL = 20
"""Seconds that the health check of a server which was away may take."""


class Tally(NamedTuple):
    """What became of the requests that some servers got in a while."""

    answers: int = 0
    failures: int = 0
    refused: int = 0
    broken: int = 0

    @classmethod
    def of(cls, servers: Iterable[Server]) -> Tally:
        """What they have counted so far."""
        rows = list(servers)
        return cls(
            sum(row.answers for row in rows),
            sum(row.failures for row in rows),
            sum(row.refused for row in rows),
            sum(row.broken for row in rows),
        )

    def since(self, former: Tally) -> Tally | None:
        """What came after `former`; None when a reload let the counters begin anew."""
        now, then = self._counts, former._counts
        if any(one < other for one, other in zip(now, then, strict=True)):
            return None
        return Tally(*(one - other for one, other in zip(now, then, strict=True)))

    @property
    def _counts(self) -> tuple[int, int, int, int]:
        return self.answers, self.failures, self.refused, self.broken

    @property
    def requests(self) -> int:
        """All of them, also those that got no answer."""
        return self.answers + self.refused + self.broken

    @property
    def failed(self) -> int:
        """Those that went wrong."""
        return self.failures + self.refused + self.broken

    @property
    def rate(self) -> float:
        """The part that failed, from 0 to 1."""
        return self.failed / self.requests if self.requests else 0.0

    def __str__(self) -> str:
        return f"{self.failed} of {self.requests} ({100 * self.rate:.1f}%)"

    @property
    def kinds(self) -> str:
        """The numbers, by what went wrong."""
        return (
            f"{self.failures} answers with 5xx, {self.refused} connections failed, {self.broken} answers broken or late"
        )


def worse(gaining: Tally, others: Tally) -> bool:
    """Do clearly more requests fail where load was added than where it was not?"""
    return gaining.failed >= FEW and gaining.rate > others.rate + MARGIN


def stages(weight: int, to: int, step: int) -> list[int]:
    """The weights on the way, the last one included."""
    way = range(weight, to, step if to > weight else -step)
    return [*way[1:], to] if weight != to else []


@query(
    positional=["server"],
    help={
        "server": "a web server's name in fleet.yml",
        "to": "its share at the end, in percent of a full one",
        "step": "percent a step",
        "every": "seconds a step",
    },
    within={"to": (0, FULL), "step": (1, FULL), "every": (1, 3600)},
)
def shift(c, server, to=FULL, step=10, every=30):
    """T1 HAProxy: give a server more load little by little, or less, and go back when more requests fail there.

    Failed are answers with 5xx, connections and answers that did not come. Whoever gains load is compared with the
    others, once a second; when clearly more fails there, the weight goes back to where it was, with the numbers, and
    the exit code is 1. A server that is drained or in maintenance begins at 0. Ctrl-C leaves the weight where it is.
    """
    climb(Host.of(c), server, to, step, every)


def climb(host: Host, server: str, to: int, step: int, every: int) -> None:
    """The same on a host.  Raises Problem, with everything as it was, when clearly more fails where load was added."""
    rows = look(host, server)
    found = of(rows, server)
    if to == 0:
        guard(host, rows, server)
    ramp = Ramp(host, server, 0 if found[0].admin else found[0].weight, found)
    way = stages(ramp.at, to, step)
    if host.dry or not way:
        console.print(
            f"{host.name}  {server} {'would go' if way else 'is at'} {' '.join(f'{w}%' for w in way or [to])}"
        )
        return
    try:
        if to > ramp.at:
            arrive(host, found, server, ARRIVAL)
        for weight in way:
            ramp.step(weight, every)
    except KeyboardInterrupt:
        raise Stopped(
            f"stopped: {server} is at {ramp.told} and stays there; it began at {ramp.began}%",
            f"go on: fab -H {host.name} haproxy.shift {server} --to {to}; back: --to {ramp.began}",
        ) from None
    console.print(f"{host.name}  {server} is at {to}%")


class Ramp:
    """One server on its way."""

    def __init__(self, host: Host, name: str, weight: int, found: list[Server]) -> None:
        self.host, self.name, self.began, self.at = host, name, weight, weight
        self.former = {0: "ready", 1: "maint"}.get(found[0].admin, "drain")
        self.weight, self.found, self.told = found[0].weight, found, f"{weight}%"

    def step(self, weight: int, seconds: int) -> None:
        """Set the weight and watch for a while.  Raises Problem, with everything as it was, when more fails."""
        gains = weight > self.at
        self.told = f"{self.at}% or {weight}% (haproxy.servers tells)"
        rows = apply(self.host, self.found, weight, "" if self.at else "ready")
        self.told, self.at = f"{weight}%", weight
        former, end = self._tallies(rows, gains), time.monotonic() + seconds
        gaining = others = Tally()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(GLANCE, left))
            rows = self._look()
            now = self._tallies(rows, gains)
            mine, rest = (one.since(other) for one, other in zip(now, former, strict=True))
            if mine is None or rest is None:
                former = now
                continue
            gaining, others = mine, rest
            down = [one for one in of(rows, self.name) if not one.up]
            if worse(gaining, others) or (gains and down):
                self._back(gaining, others, gains, down)
        mine, rest = (gaining, others) if gains else (others, gaining)
        console.print(
            f"{self.host.name}  {self.name} at {weight}%: {mine} requests failed; with the others {rest}", markup=False
        )

    def _look(self) -> list[Server]:
        rows = look(self.host)
        if any(one.weight != self.at or one.admin for one in of(rows, self.name)):
            raise Problem(
                f"somebody else has set {self.name} meanwhile: it is left as it is",
                f"fab -H {self.host.name} haproxy.servers",
            )
        return rows

    def _tallies(self, rows: list[Server], gains: bool) -> tuple[Tally, Tally]:
        """Whoever gains load first, then the others."""
        mine = of(rows, self.name)
        others = {(one.backend, one.name): one for own in mine for one in beside(rows, own)}.values()
        return (Tally.of(mine), Tally.of(others)) if gains else (Tally.of(others), Tally.of(mine))

    def _back(self, gaining: Tally, others: Tally, gains: bool, down: list[Server]) -> None:
        """To where it was.  Raises Problem."""
        reached = self.at
        apply(self.host, self.found, self.weight, self.former)
        who, rest = (self.name, "the others") if gains else ("the others", self.name)
        why = f"{who}: {gaining} requests failed; {rest}: {others}" if gaining.requests else ""
        state = f"{self.name} is {down[0].status} ({down[0].check})" if down else ""
        was = f"{self.began}%" if self.former == "ready" else {"maint": "maintenance", "drain": "drain"}[self.former]
        raise Problem(
            f"{self.name} is back at {was}: at {reached}%, {'; '.join(filter(None, (state, why)))}",
            f"find out why: fab -H {self.name if gains else self.host.name} status; then the same again",
            f"{who}: {gaining.kinds}" if gaining.requests else "",
        )
