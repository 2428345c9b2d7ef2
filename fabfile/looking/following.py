"""A site's requests as they come."""

from __future__ import annotations

import time

from ..engine import Host
from ..model import Site
from . import asking, screen
from .gathered import Wanted
from .joined import join
from .lines import Fault, Passed, Served, error, passed, php, served


class Following:
    """What comes, as it comes.  A request is shown a moment after HAProxy's line, with what else came by then."""

    PATIENCE = 1.0
    """Seconds that the other layers' lines may come later than HAProxy's."""

    KEPT = 60.0
    """Seconds that a fault waits for the request that it names, which may take long."""

    GUESSED = 3.0
    """Seconds that a fault which names none waits."""

    def __init__(self, host: Host, site: Site, wanted: Wanted, json: bool) -> None:
        self.host, self.site, self.wanted, self.json = host, site, wanted, json
        self.zone, self.behind = "+0000", asking.behind(host)
        self.fronts: list[tuple[float, Passed]] = []
        self.backs: list[tuple[float, Served]] = []
        self.faults: list[tuple[float, Fault]] = []

    def run(self) -> None:
        """Until Ctrl-C, which is how it ends: exit code 0."""
        front = asking.front(self.site, self.wanted.statuses, self.wanted.number)
        self.host.follow(asking.FOLLOW, self.hear, self.site.owner, self.site.root, front, "yes" * self.behind)

    def hear(self, kind: str, text: str) -> None:
        """Take one record in, and show what is due."""
        now = time.monotonic()
        if kind == "zone":
            self.zone = text
        elif kind == "haproxy" and (front := passed(text)):
            self.fronts.append((now, front))
        elif kind == "apache" and (back := served(text)):
            self.backs.append((now, back))
        elif kind == "error" and (fault := error(text, self.zone)):
            self.faults.append((now, fault))
        elif kind == "php":
            self._hear_php(now, text)
        self._show(now)

    def _hear_php(self, now: float, text: str) -> None:
        for fault in php([text]):
            self.faults.append((now, fault))
            return
        if self.faults and self.faults[-1][1].layer == "php":
            at, last = self.faults.pop()
            self.faults.append((at, Fault("php", last.at, f"{last.text}\n{text}")))

    def _show(self, now: float) -> None:
        due = now - self.PATIENCE
        ready = [front for at, front in self.fronts if at <= due]
        backs = [back for at, back in self.backs if not self.behind or at <= due]
        overdue = {fault for at, fault in self.faults if at < now - (self.KEPT if fault.id else self.GUESSED)}
        if ready or overdue or (self.behind and backs):
            faults = [fault for _, fault in self.faults]
            requests, loose = join(ready, backs, faults, self.behind)
            for request in requests:
                if self.wanted.takes(request):
                    screen.show(request, self.json)
            shown_ids = {request.id for request in requests}
            self.fronts = [(at, front) for at, front in self.fronts if at > due]
            self.backs = [(at, back) for at, back in self.backs if back.id not in shown_ids and at > now - self.KEPT]
            for fault in loose:
                if fault in overdue and self.wanted.takes_fault(fault):
                    screen.show(fault, self.json)
            left = set(loose) - overdue
            self.faults = [(at, fault) for at, fault in self.faults if fault in left]
