"""One request, with what every layer said of it: joined by the number that HAProxy gives it (X-Request-ID)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .lines import Fault, Passed, Served

SECOND = 1.0
"""PHP's log tells the time to the second."""


@dataclass
class Request:
    """What happened to one request.  On a web server behind another host's HAProxy there is only what Apache saw."""

    front: Passed | None = None
    back: list[Served] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The request's number."""
        return self.front.id if self.front else self.back[0].id

    @property
    def at(self) -> float:
        """When it began, in seconds since 1970."""
        return self.front.began if self.front else self.back[0].at

    @property
    def status(self) -> int:
        """What the client was answered; -1 when it went before that."""
        return self.front.status if self.front else self.back[-1].status

    def spans(self, moment: float) -> bool:
        """Was it with Apache in the second that began at `moment`?"""
        end = self.front.at if self.front else self.at
        return bool(self.back) and self.at < moment + SECOND and moment <= end


def join(
    fronts: Iterable[Passed], backs: Iterable[Served], faults: Iterable[Fault], behind: bool = False
) -> tuple[list[Request], list[Fault]]:
    """The requests by their beginning, and the faults that belong to none of them.

    PHP writes no number: a fault of its is a request's when that one alone was with Apache in that second.
    Where there is HAProxy, it decides what a request is; `behind` another host's, Apache does.
    """
    requests = {front.id: Request(front) for front in fronts}
    for back in backs:
        if behind and back.id:
            requests.setdefault(back.id, Request())
        if back.id in requests:
            requests[back.id].back.append(back)
    ordered = sorted(requests.values(), key=lambda one: one.at)
    loose = []
    for fault in sorted(set(faults), key=lambda one: one.at):
        owner = requests.get(fault.id) if fault.id else _alone(ordered, fault)
        if owner:
            owner.faults.append(fault)
        else:
            loose.append(fault)
    return ordered, loose


def _alone(requests: Sequence[Request], fault: Fault) -> Request | None:
    """The one request that was with Apache at that time; none when there were several, or when PHP did not write it."""
    if fault.layer != "php":
        return None
    there = [request for request in requests if request.spans(fault.at)]
    return there[0] if len(there) == 1 else None
