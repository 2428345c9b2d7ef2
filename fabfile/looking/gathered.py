"""One round trip for what a host says of a site's requests; and which of them one wants to see."""

from __future__ import annotations

import re

from ..engine import Host
from ..model import Problem, Refusal, Site
from . import asking, screen
from .joined import Request, join
from .lines import Fault, error, passed, php, served
from .times import shown

MOST = 10_000
"""Requests that one look may bring."""


class Wanted:
    """Which requests one wants to see: of these statuses (404, 5xx), of this number, with this text."""

    def __init__(self, status: str = "", number: str = "", text: str = "") -> None:
        """As they were typed.  Raises Refusal."""
        self.number, self.text = number.lower(), text
        self.statuses = tuple(status.lower().split(",")) if status else ()
        if not all(re.fullmatch(r"[1-5](xx|[0-9][0-9])", each) for each in self.statuses):
            raise Refusal(
                Problem(f"--status {status!r}: must be an HTTP status or a class", example="--status 404,5xx")
            )
        if number and not re.fullmatch(r"[0-9a-f][0-9a-f-]{3,35}", self.number):
            raise Refusal(
                Problem(f"--id {number!r}: must be the beginning of a request's number", example="--id 3f2a9c1e")
            )
        self._status = re.compile(asking.codes(self.statuses))

    def takes(self, request: Request) -> bool:
        """Is it one of these?"""
        said = [screen.line(request).plain, request.id, *(fault.text for fault in request.faults)]
        return bool(
            self._status.fullmatch(str(request.status))
            and request.id.startswith(self.number)
            and any(self.text in each for each in said)
        )

    def takes_fault(self, fault: Fault) -> bool:
        """Is this fault, which belongs to no request, to be shown?  Not where one asked for certain requests."""
        return not self.statuses and not self.number and self.text in fault.text


class Gathered:
    """What a host said of a site's requests."""

    def __init__(self, answer: str, behind: bool = False) -> None:
        kinds: dict[str, list[str]] = {}
        for line in answer.split("\n"):
            kind, _, text = line.partition("\t")
            kinds.setdefault(kind, []).append(text)
        value = {kind: texts[0] for kind, texts in kinds.items()}
        self.since, self.until = int(value["since"]), int(value["until"])
        self.begins = int(value.get("begins") or 0)
        self.behind = behind
        fronts = [front for text in kinds.get("haproxy", ()) if (front := passed(text))]
        backs = [back for text in kinds.get("apache", ()) if (back := served(text))]
        faults = [fault for text in kinds.get("error", ()) if (fault := error(text, value["zone"]))]
        faults += php(kinds.get("php", []))
        self.requests, loose = join(fronts, backs, faults, self.behind)
        self.loose = [fault for fault in loose if self.since <= fault.at <= self.until]

    def summary(self, host: str, site: Site, count: int, cut: bool) -> str:
        """The last line: how many, since when, and what is not in it."""
        text = f"{host}  {site.shown}  {count} request{'' if count == 1 else 's'} since {shown(self.since)[:-4]}"
        if cut:
            text += "; there are more, of which these are the newest: --lines"
        if self.begins > self.since:
            text += f"; HAProxy's log begins at {shown(self.begins)[:-4]}"
        if self.behind:
            text += "; HAProxy is on another host"
        return text


def gathered(host: Host, site: Site, since: str, until: str, wanted: Wanted, lines: int) -> Gathered:
    """One round trip: the site's lines of that time, at most so many requests."""
    # What is to be looked for in faults as well cannot be chosen on the host.
    most = MOST if wanted.text else lines
    behind = asking.behind(host)
    words = (asking.front(site, wanted.statuses, wanted.number), asking.back(wanted.statuses, wanted.number))
    names = " ".join(site.names)
    return Gathered(
        host.ask(asking.LINES, since, until, site.root, site.owner, str(most), *words, "yes" * behind, names), behind
    )
