"""A run over the fleet: all hosts are looked at first, then made tier by tier; who fails stops only who needs him."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from invoke import Exit

from .. import credentials, flows, sshd
from ..engine import Host, Problem, console, steps
from ..engine.known import Cards
from ..engine.pool import Crew
from ..engine.problems import NotLed, Stopped
from ..engine.report import errors, problem
from ..engine.stop import stoppable
from ..model import Fleet
from .board import Board
from .order import tiers, waits_for
from .rows import Row

Body = Callable[[Any], None]


class Making:
    """Some hosts of a fleet become what their roles say; with `dry` nothing is touched, and told what would change."""

    def __init__(self, fleet: Fleet, names: Sequence[str], workers: int, as_json: bool, dry: bool) -> None:
        self.fleet, self.names, self.workers, self.dry = fleet, tuple(names), workers, dry
        self.rows = {name: Row(name, fleet.machine(name).roles) for name in names}
        self.crew = Crew(fleet, names, dry)
        self.board = Board(self.crew.hosts, as_json)
        self.cards: Cards = {}
        self._unled: dict[str, str] | None = None if dry else {}
        for name, host in self.crew.hosts.items():
            host.enrol()
            host.cards, host.watch = self.cards, functools.partial(self.board.busy, name)

    @property
    def stopped(self) -> bool:
        """Whether the operator typed Ctrl-C."""
        return self.crew.stopping

    def run(self) -> list[Row]:
        """All of it, and what became of each host.  It never raises for what happens on a host, nor for Ctrl-C."""
        with self.crew, self.board.showing(), stoppable(self._stop), suppress(KeyboardInterrupt):
            self._side_by_side("looking", self.names, self._first_round)
            if self._unled:
                self._lead()
            # Who changes nothing waits for nobody.
            for tier in (self.names,) if self.dry else tiers(self.fleet, self.names):
                self._side_by_side("checking" if self.dry else "making", self._fit(tier), self._whole)
        return [*self.rows.values()]

    def _first_round(self, c: Any) -> None:
        """One look, and what other hosts must know of this one before they can be made."""
        host = Host.of(c)
        assert host.facts
        if not self.dry and "web" in self.fleet.roles(host.name):
            steps(c, *credentials.STEPS)

    def _lead(self) -> None:
        """Bastions hear to whom they shall lead now; then those hosts are tried again that could not be reached."""
        assert self._unled
        (names, gates), self._unled = ([*self._unled], sorted({*self._unled.values()})), None
        self._side_by_side("leading", gates, lambda c: steps(c, *sshd.STEPS))
        self.crew.anew(gates)
        self._side_by_side("looking", names, self._first_round)

    def _whole(self, c: Any) -> None:
        flows.whole(c)  # type: ignore[no-untyped-call]
        self.rows[Host.of(c).name].whole = True

    def _fit(self, tier: Sequence[str]) -> list[str]:
        """Those of a tier that go on; of the others it is told for whom they wait."""
        unwell = [row.host for row in self.rows.values() if row.outcome in ("failed", "waits") and not row.whole]
        for name in tier:
            if name not in unwell and not self.dry and (missing := waits_for(self.fleet, name, unwell)):
                self.rows[name].ends("waits", f"for {', '.join(missing)}")
        return [name for name in tier if self.rows[name].outcome not in ("failed", "waits")]

    def _side_by_side(self, what: str, names: Sequence[str], body: Body) -> None:
        if names:
            self.board.tier(what, names)
            self.crew.each(names, functools.partial(self._do, body), self._ended, self.workers)

    def _do(self, body: Body, host: Host) -> None:
        """A part of the run on one host, in a thread of its own; what it tells is kept, and said in one piece."""
        with console.capture() as said, errors.capture() as wrong:
            try:
                with host.running("bootstrap"):
                    body(host.visit.connection)
                self._known(host)
            except Problem as error:
                problem(error, host.name)
                self._failed(host.name, error)
            except Exit:  # of a step that has told why
                self._failed(host.name, Problem(_why(host)))
            except Exception as error:  # a fault of ours, in which the other hosts have no part
                errors.print(traceback.format_exc(), markup=False)
                self._failed(host.name, Problem(f"{type(error).__name__}: {error}"))
            finally:
                if host.last:
                    self.rows[host.name].add(host.last)
        self.board.say(said.get(), wrong.get())

    def _known(self, host: Host) -> None:
        """What the others may know of it now."""
        assert host.last
        if any(line.outcome == "changed" for line in host.last.lines):
            host.forget()
        self.cards[host.name] = host.facts.card

    def _ended(self, name: str, answer: object) -> None:
        self.board.ended(name)
        if isinstance(answer, Stopped):
            return
        if isinstance(answer, NotLed) and self._unled is not None and answer.gate in self.crew.hosts:
            self._unled[name] = answer.gate
            return
        if isinstance(answer, Problem):
            with errors.capture() as wrong:
                problem(answer, name)
            self.board.say("", wrong.get())
            self._failed(name, answer)
        elif self.rows[name].whole:
            self.rows[name].comes_to_its_end()

    def _failed(self, name: str, error: Problem) -> None:
        self.cards.setdefault(name, error)
        self.rows[name].ends("stopped" if self.stopped else "failed", error.message)

    def _stop(self) -> str:
        self.crew.stop()
        return f"stopping; these are finished first: {self.board.doing}  (Ctrl-C again: leave them to that alone)"


def _why(host: Host) -> str:
    """Of a run that a step ended: which, and its reason."""
    assert host.last
    line = next(line for line in reversed(host.last.lines) if line.outcome in ("failed", "stopped"))
    return f"{line.step}: {line.reasons[0]}"
