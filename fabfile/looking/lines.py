"""One line of a layer's log, read: HAProxy's, Apache's two, and PHP's.  What is none of them is None."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import NamedTuple
from zoneinfo import ZoneInfo

PHASES = ("request", "queue", "connect", "answer")

# HAProxy configuration manual, 8.5 "Session state at disconnection": who ended it, and what it was waiting for.
ENDED_BY = {
    "C": "the client gave up",
    "S": "the server broke it off, or could not be reached",
    "P": "HAProxy refused it",
    "L": "HAProxy answered it itself",
    "R": "HAProxy ran out of a resource",
    "I": "HAProxy met a fault of its own",
    "D": "HAProxy ended it, because the server was marked down",
    "U": "HAProxy ended it, because a better server came back",
    "K": "an administrator ended it",
    "c": "the client was too slow",
    "s": "the server was too slow",
}
WHILE = {
    "R": "before the request was complete",
    "Q": "while it waited in the queue",
    "C": "while connecting to the server",
    "H": "before the answer's headers came",
    "D": "in the middle of the answer",
    "L": "at the end of the answer",
    "T": "while it was held back",
}

_HAPROXY = re.compile(
    r"(?P<at>\d+\.\d+) \S+ haproxy\[\d+\]: (?P<client>\S+):\d+ \[\S+\] (?P<frontend>[^ ~]+)~? "
    r"(?P<backend>[^ /]+)/(?P<server>\S+) (?P<timers>[-+0-9/]+) (?P<status>-?\d+) (?P<size>\+?\d+) "
    r"\S+ \S+ (?P<state>\S{4}) \S+ \S+ \{(?P<host>[^ |}]*)\|(?P<id>[^ }]*)\} \{(?P<cache>[^}]*)\} "
    r'"(?P<method>\S+)(?: (?P<target>.*?))?(?: (?P<version>HTTP/[0-9.]+))?"?'
)
# HTTP/2 names the site in the request itself, and so may HTTP/1.1; it stands in `host` anyway.
_SITE = re.compile(r"^https?://[^/?]*")
_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_ACCESS = re.compile(
    rf"(?P<client>\S+) \S+ .*?\[(?P<time>\d\d/\w{{3}}/\d{{4}}:[\d:]{{8}} [-+]\d{{4}})\] {_QUOTED} "
    rf"(?P<status>\d{{3}}) (?P<size>\d+|-) {_QUOTED} {_QUOTED} (?P<id>\S+)"
)
_ERROR = re.compile(
    r"\[(?P<time>\w{3} \w{3} [ \d]\d [\d:]{8}(?:\.\d+)? \d{4})\] \[(?P<module>[^:\]]*):(?P<level>[^\]]*)\] "
    r"\[pid \d+(?::(?P<id>[0-9a-f-]{36}))?(?::tid \d+)?\] (?P<text>.*)"
)
_CLIENT = re.compile(r"\[client \S+\] ")
_PHP = re.compile(r"\[(?P<time>\d\d-\w{3}-\d{4} [\d:]{8}) (?P<zone>[\w/+:-]{1,40})\] (?P<text>.*)")


class Passed(NamedTuple):
    """A request as HAProxy saw it.  Times in seconds since 1970, `took` and the phases in milliseconds.

    A phase is -1 when the request never came so far.  `cache` is HIT, MISS, PASS or STALE, and empty without Varnish.
    """

    id: str
    at: float
    client: str
    host: str
    method: str
    target: str
    version: str
    status: int
    size: int
    frontend: str
    backend: str
    server: str
    cache: str
    state: str
    took: int
    phases: tuple[int, int, int, int]

    @property
    def began(self) -> float:
        """When the request began to be served."""
        return self.at - max(self.took, 0) / 1000

    @property
    def spent(self) -> dict[str, int]:
        """Where the time went, in milliseconds: the phases that took any; `data` is what it took to send the answer."""
        parts = dict(zip(PHASES, self.phases, strict=True))
        if min(self.phases) >= 0:
            parts["data"] = self.took - sum(self.phases)
        return {name: spent for name, spent in parts.items() if spent > 0}

    @property
    def ending(self) -> str:
        """In words how it ended, when that was not as it should (HAProxy's termination state); else nothing."""
        who, when = ENDED_BY.get(self.state[0], ""), WHILE.get(self.state[1], "")
        return who if self.state[0] in "LP" else f"{who} {when}".strip()


class Served(NamedTuple):
    """A request as Apache saw it."""

    id: str
    at: float
    client: str
    request: str
    status: int


class Fault(NamedTuple):
    """What Apache or PHP wrote into its error log; `id` is empty where the line names no request."""

    layer: str
    at: float
    text: str
    id: str = ""


def passed(line: str) -> Passed | None:
    """A line of HAProxy's, as `journalctl -o short-unix` shows it; `log-format` in haproxy.cfg is its other half."""
    found = _HAPROXY.fullmatch(line)
    if not found:
        return None
    *phases, took = (int(number) for number in found["timers"].split("/"))
    if len(phases) != len(PHASES):
        return None
    return Passed(
        id=found["id"],
        at=float(found["at"]),
        client=found["client"],
        host=found["host"],
        method=found["method"],
        target=_SITE.sub("", found["target"] or "", count=1),
        version=found["version"] or "",
        status=int(found["status"]),
        size=int(found["size"]),
        frontend=found["frontend"],
        backend=found["backend"],
        server=found["server"],
        cache=found["cache"].strip("-"),
        state=found["state"],
        took=took,
        phases=(phases[0], phases[1], phases[2], phases[3]),
    )


def served(line: str) -> Served | None:
    """A line of a site's access_log."""
    if not (found := _ACCESS.fullmatch(line)):
        return None
    at = datetime.strptime(found["time"], "%d/%b/%Y:%H:%M:%S %z").timestamp()
    return Served(found["id"].strip("-"), at, found["client"], found[3], int(found["status"]))


def error(line: str, offset: str) -> Fault | None:
    """A line of a site's error_log, which names no zone: `offset` is the host's, such as +0100."""
    if not (found := _ERROR.fullmatch(line)):
        return None
    form = "%a %b %d %H:%M:%S.%f %Y %z" if "." in found["time"] else "%a %b %d %H:%M:%S %Y %z"
    at = datetime.strptime(f"{found['time']} {offset}", form).timestamp()
    return Fault("apache", at, f"{found['module']}: {_CLIENT.sub('', found['text'], 1)}", found["id"] or "")


def php(lines: list[str]) -> list[Fault]:
    """The lines of a php_errors.log; one without a time, as in a stack trace, belongs to the one before it."""
    faults: list[Fault] = []
    for line in lines:
        found = _PHP.fullmatch(line)
        at = _moment(found["time"], found["zone"]) if found else None
        if found and at is not None:
            faults.append(Fault("php", at, found["text"]))
        elif faults:
            last = faults.pop()
            faults.append(Fault("php", last.at, f"{last.text}\n{line}"))
    return faults


def _moment(text: str, zone: str) -> float | None:
    try:
        place = timezone(timedelta()) if zone == "UTC" else ZoneInfo(zone)
        return datetime.strptime(text, "%d-%b-%Y %H:%M:%S").replace(tzinfo=place).timestamp()
    except (ValueError, KeyError, OSError):
        return None
