"""An errand: steps and runs.  What a step wishes is collected, and goes over as one script when the step ends."""

from __future__ import annotations

import base64
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy

from ..model import Fleet
from . import access, changes, script
from .changes import Change
from .facts import Facts
from .known import Known
from .problems import CheckRefused, Locked, Problem, StepFailed, Stopped
from .remote import Answer, Visit
from .report import Line, Report, diff
from .stop import stoppable

ADVICE = {
    "No space left on device": "make room on the host (`status` shows which disk, or its inodes, are full)",
    "Read-only file system": "find out why it is read-only (dmesg, /etc/fstab), mount it read-write",
    "Operation not permitted": "see whether somebody made it immutable (lsattr) and why (chattr -i)",
    "Device or resource busy": "see what is mounted there (findmnt)",
}

MENTIONED = 30
"""Lines in a run's entry in the history about what it did beside /etc."""


class Errand(Known):
    """The runs of one invocation on one host: what is wished, sent, held back and told."""

    def __init__(self, name: str, fleet: Fleet, visit: Visit, dry: bool = False) -> None:
        super().__init__(name, fleet, visit, dry)
        self._facts: Facts | None = None
        self._real = Facts()
        self._pending: list[Change] = []
        self._planned: list[Change] = []
        self._held: list[Change] = []
        self._refused: CheckRefused | None = None
        self._waits = False
        self._kept: list[str] = []
        self._done: list[str] = []
        self._notes: list[str] = []
        self._diffs: list[str] = []
        self._step = ""
        self._doing = ""
        self._changed = False
        self._beside: list[str] = []
        self.packages_ahead: Callable[[], changes.Install] | None = None
        """What the steps to come would install; `steps` says it."""

    @property
    def facts(self) -> Facts:
        """The snapshot; the first use takes the look, and a use after an installation sends that first.

        Raises WrongSystem on anything but a Debian release that the chapters know, and Outdated when a run would take
        the host back to what a newer checkout has changed.
        """
        if self._pending and not self.dry and isinstance(self._pending[-1], changes.Install | changes.Run):
            self.flush()
        if self._facts is None:
            change = not self.dry and self.report is not None
            self._busy("looking")
            self._facts = self._look(change)
            if change and self._facts.unproved:
                self._send(access.taken_back("what another run had not proved"))
                self._facts = self._look(change)
            if change and self._facts.unended and not self._changed:
                self.keep_found()  # or what is changed by hand later would pass for that run's
            if self.dry:
                self._real = deepcopy(self._facts)
        return self._facts

    @contextmanager
    def running(self, run: str, as_json: bool = False) -> Iterator[Report]:
        """One run: what a person typed.  It ends with the history of /etc and the summary line."""
        if self.report is not None:
            yield self.report
            return
        self.report = Report(self.name, run, as_json, watch=self.watch)
        self.visit.trips = 0
        self.visit.who = f"{self.visit.me}: {run}"
        self._changed, self._beside = False, []
        try:
            with stoppable(self._stop):
                try:
                    yield self.report
                    self._settle()
                except BaseException as error:
                    # What it changed before it failed belongs into the history too; the failure itself is what is told.
                    with suppress(Problem):
                        self._keep_history("stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "failed")
                    raise
                self._keep_history("failed" if self.report.failed else "")
        finally:
            self.report.summary(self.visit.trips)
            self.last, self.report = self.report, None

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One step: what its body wishes goes over as one script at its end."""
        assert self.report is not None
        if self._step:
            yield
            return
        began, self._step = time.monotonic(), name
        self._kept, self._done, self._notes, self._diffs, self._waits = [], [], [], [], False
        self._busy("")
        try:
            yield
            self.flush()
            outcome, reasons = self._outcome()
            line = Line(name, outcome, [*self._notes, *reasons], self._seconds(began))
            self.report.step(line, self._diffs, noted=bool(self._notes))
        except BaseException as found:
            self._pending.clear()
            self._held.clear()
            self._refused = None
            self._facts = None
            error = self._left() if isinstance(found, KeyboardInterrupt) else found
            if isinstance(error, Stopped):
                error.next_step = f"fab -H {shlex.quote(self.name)} {self._run_name()}  (it goes on from there)"
            reason = error.message if isinstance(error, Problem) else str(error) or type(error).__name__
            outcome = "stopped" if isinstance(error, Stopped) else "failed"
            self.report.step(Line(name, outcome, [reason], self._seconds(began)))
            if error is not found:
                raise error from None
            raise
        finally:
            self._step = ""

    @property
    def idle(self) -> bool:
        """Whether nothing that this step wished so far, or an earlier one that waits, is still to be done."""
        return not self._pending and not self._held

    def forget(self) -> None:
        """What is known of the host is old: the next question takes another look."""
        self._facts = None

    def at(self, what: str) -> None:
        """What is being done now, for who waits for it."""
        self._busy(what)

    def note(self, text: str) -> None:
        """Something the operator should read behind the step's line."""
        self._notes.append(text)

    def flush(self) -> None:
        """Send what is wished so far."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        if self.dry:
            self._done += [change.summary for change in pending]
            self._plan(pending)
            return
        assert self._facts is not None
        pending, self._held, self._refused = [*self._held, *self._packed(pending)], [], None
        first, self._changed = not self._changed, True
        words = ((self._run_name(), self.visit.me.partition(" since ")[0]), self._mark()) if first else ()
        self._beside += beside(pending)
        try:
            answer = self._send(script.apply(pending, self._facts, *words))
        except CheckRefused as error:
            self._hold(pending, error)
            return
        self._done += [change.summary for change in pending]
        self._facts.stale = ()
        if script.looks_again(pending):
            self._facts = self._checked(Facts.of(answer.records))
        else:
            self._facts.take(answer.records)

    def _packed(self, pending: list[Change]) -> list[Change]:
        """The first installation brings along what later steps want."""
        first = next((index for index, change in enumerate(pending) if isinstance(change, changes.Install)), None)
        if first is not None:
            install = pending[first]
            assert isinstance(install, changes.Install)
            if self.packages_ahead and (later := self.packages_ahead()).names:
                answers = (*install.answers, *later.answers)
                pending[first] = install._replace(held=True, answers=answers, ahead=later.names)
        return pending

    def _wish(self, needed: tuple[Change, ...], kept: str = "") -> None:
        if not needed and kept:
            self._kept.append(kept)
        for change in needed:
            self._pending.append(change)
            assert self._facts is not None
            change.predict(self._facts)

    def _hold(self, pending: list[Change], error: CheckRefused) -> None:
        """A check judges a whole service, and what it refuses may lie in a file that the flow's next step writes anew.

        So the step's files wait and are judged again with those, before the service takes any of them: nothing is in
        place yet.  What is more than files does not wait; nor does a step that is typed alone.
        """
        files = changes.PutFile | changes.PutLink | changes.Remove | changes.Rename | changes.MakeDirectory
        if self._run_name() == self._step or not (self.dry or all(isinstance(change, files) for change in pending)):
            raise error
        self._held, self._refused, self._waits = pending, error, True
        self.note("its check refused it alone: it waits for the next step")

    def _settle(self) -> None:
        """At the end of a run nothing may wait any more."""
        error, self._refused = self._refused, None
        self._held.clear()
        if error:
            raise error

    def _plan(self, pending: list[Change]) -> None:
        """A dry run: what would be judged is judged, what would be replaced is shown."""
        box = script.plan(pending, self._planned, self._real)
        self._planned += pending
        if not box.lines:
            return
        try:
            records: Iterable[str] = self._send(box).records
            checks = {change.check for change in pending if isinstance(change, script.Candidate)}
            if {change.check for change in self._held if isinstance(change, script.Candidate)} <= checks:
                self._held, self._refused = [], None
        except CheckRefused as error:
            self._hold([*self._held, *pending], error)
            records = error.records
        former: dict[str, bytes] = {}
        for record in records:
            if record.startswith("was\t"):
                path, _, encoded = record[4:].partition("\n")
                former[path] = base64.b64decode(encoded)
        for change in pending:
            if isinstance(change, changes.PutFile) and change.path in former:
                self._diffs.append(diff(change.path, former[change.path], change.content))
            elif isinstance(change, changes.Remove) and change.path in former:
                self._diffs.append(diff(change.path, former[change.path], b""))

    def _send(self, box: script.Box, anyway: bool = False) -> Answer:
        """One request; raises StepFailed with the operation, its exit code and the last lines of its tool."""
        self._doing = self._step

        def tell(record: str) -> None:
            kind, _, text = record.partition("\t")
            if kind == "op":
                self._doing = text.partition("\t")[2]
                self._busy(self._doing)
            elif kind == "say":
                self._busy(f"{self._doing}: {text}")
            elif kind == "unjudged":
                self.note(f"not judged: {text}")

        answer = self.visit.send(box, change=not self.dry, tell=tell, anyway=anyway)
        stopped = next((record[8:] for record in answer.records if record.startswith("stopped\t")), None)
        if answer.code and stopped is not None:
            raise Stopped(f"stopped before: {stopped}; what was done stands, nothing more was begun")
        if answer.code:
            failed = next((record for record in answer.records if record.startswith("failed\t")), "failed\t\t")
            head, _, tail = failed.partition("\n")
            code = head.rpartition("\t")[2] or answer.code
            task = self._step or self._run_name()
            again = f"fab -H {shlex.quote(self.name)} {task}"
            refused = any(record.startswith("refused\t") for record in answer.records)
            error = (CheckRefused if refused else StepFailed)(
                f"{self._doing}: exit code {code}", advice(tail) + again, tail
            )
            if isinstance(error, CheckRefused):
                error.records = tuple(answer.records)
            raise error
        return answer

    def keep_found(self) -> None:
        """Before this run changes anything: end the entry of one that could not, and keep /etc as it was found."""
        if not self.dry:
            self._send(script.found(self._run_name()))

    def break_off(self, why: str) -> None:
        """The entry of a run that was ended from outside goes into the history of /etc, and says why."""
        with suppress(Locked):  # then whoever holds it now has done this already
            self._send(script.ended(f"broken off: {why}"))

    def _keep_history(self, how: str) -> None:
        if self._changed and self.visit.ready:
            self._send(script.ended(how, _first(self._beside)), anyway=True)

    def _stop(self) -> str:
        self.visit.stop()
        if self.visit.ready:
            return "stopping"
        return f"stopping: {self.name} finishes this first: {self._doing}  (Ctrl-C again: leave it to that alone)"

    def _left(self) -> Stopped:
        """The second Ctrl-C: the line goes, and with it the host's reason to begin anything more."""
        self.visit.close()
        return Stopped(f"left at once: {self.name} ends by itself what it is at ({self._doing}), and does no more")

    def _busy(self, what: str) -> None:
        if self.report is not None:
            self.report.busy(self._step or self.report.run, what)

    def _outcome(self) -> tuple[str, list[str]]:
        """Of the step that ends: in a word, and why."""
        if self._waits and not self.dry:
            return "waits", [change.summary for change in self._held]
        if self._done:
            return "would change" if self.dry else "changed", self._done
        return "kept", [self._only_kept()]

    def _only_kept(self) -> str:
        first = self._kept[0] if self._kept else "nothing to do"
        return first + (f", and {len(self._kept) - 1} more as wished" if len(self._kept) > 1 else "")

    def _run_name(self) -> str:
        return self.report.run if self.report else self._step

    @staticmethod
    def _seconds(began: float) -> float:
        return round(time.monotonic() - began, 2)


def beside(pending: Iterable[Change]) -> list[str]:
    """What of these changes the history of /etc cannot tell, and undo cannot take back."""
    files = changes.PutFile | changes.PutLink | changes.Remove | changes.Rename | changes.MakeDirectory
    return [
        change.summary
        for change in pending
        if not isinstance(change, changes.Load) and not (isinstance(change, files) and change.path.startswith("/etc/"))
    ]


def _first(lines: list[str]) -> list[str]:
    return [*lines[:MENTIONED], *([f"and {len(lines) - MENTIONED} more"] if len(lines) > MENTIONED else [])]


def advice(said: str) -> str:
    """What must be done on the host before the same can be typed again, by what its tools said."""
    for words, do in ADVICE.items():
        if words in said:
            return f"{do}, then: "
    return ""
