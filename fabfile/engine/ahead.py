"""What the steps to come will install.

One call of apt costs seconds, whatever it brings: dpkg's triggers, needrestart's look at every process, two commits of
etckeeper.  So the first step of a run that installs anything brings the packages of those after it along.  Nobody lists
them: the bodies of those steps are gone through on a copy of the host as it would be then, which is never spoken to.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from typing import Any

from invoke import Exit

from .changes import Change, Install
from .host import Host
from .report import Report


class Rehearsal(Host):
    """The host as it would be; what is wished for it comes true at once, and nowhere else."""

    def __init__(self, host: Host) -> None:
        vars(self).update(vars(host))
        self.packed, self.answers = dict[str, None](), dict[str, None]()
        self.dry, self._step, self._facts = True, "rehearsal", deepcopy(host.facts)
        self._pending, self._kept, self._done, self._notes = [], [], [], []
        self.report = Report(self.name, "rehearsal", watch=lambda *_: None)
        self.visit: Any = None

    def _wish(self, needed: tuple[Change, ...], kept: str = "") -> None:  # noqa: ARG002
        for change in needed:
            if isinstance(change, Install):
                self.packed.update(dict.fromkeys(change.names))
                self.answers.update(dict.fromkeys(change.answers))
            change.predict(self.facts)


def packages(c: Any, host: Host, steps: Iterable[Any]) -> Install:
    """What these steps would install if they began with the host's facts as they stand.

    A step that must ask the host before it knows is left there: it installs what it wants when its turn comes.
    """
    rehearsal = Rehearsal(host)
    with rehearsal.standing_in(c):
        for step in steps:
            with suppress(Exception, Exit):
                step.body.__wrapped__(c)
    return Install((*rehearsal.packed,), answers=(*rehearsal.answers,))
