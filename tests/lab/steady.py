"""Visitors at a steady pace, of four kinds, and what became of each of their requests, second by second.

HTTP/1.1 and HTTP/2, each over a connection that is kept and over one a request.  curl is the client: it does what
RFC 9113 (6.8) and RFC 9112 (9.3.1) let a client do when a server lets an idle connection go, and nothing more.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from .machine import Stranger

KEPT, ONCE = 8, 3
"""Requests a second to each page: over a connection that is kept, and over one a request; of either version."""

PROGRAM = r"""
place=$1 kept=$2
shift 2
# By standard error, which waits for nothing: what else is told comes in blocks.
told='%{stderr}%{http_code} %{http_version} %{exitcode} %{errormsg}\n'
ask() { curl --silent --max-time 20 -o /dev/null -w "$told" "$@" 2>&1; }
# A file for each of them: mawk writes a line in pieces.
told() {
    mawk -W interactive -v page="$1" -v how="$2" '{ print systime(), page, how, $0 }' > "$(mktemp "$place/told.XXXXXX")"
}
for page do
    for version in http1.1 http2; do
        ask --$version --rate "$kept/s" "https://$page[1-1000000]" | told "$page" kept &
        while [ ! -e "$place/end" ]; do
            ask --$version "https://${page}once"
            sleep "0.$((1000 / once))"
        done | told "$page" once &
    done
done
until [ -e "$place/end" ]; do sleep 0.2; done
pkill -g 0 -x curl
wait
: > "$place/over"
"""

LINE = re.compile(r"(\d+) (\S+) (kept|once) (\d{3}) ([\d.]+ \d+ .*)")


@dataclass(frozen=True)
class Answer:
    """One request: when it ended (the stranger's clock, Unix seconds), which page, and what came."""

    second: int
    page: str
    how: str
    code: int
    text: str


@dataclass
class Visits:
    """What became of the requests; it stands when the visitors have gone."""

    answers: list[Answer] = field(default_factory=list)

    def failed(self, site: str, *allowed: int) -> list[Answer]:
        """The answers of a site that are neither 200 nor one of the allowed codes."""
        return [each for each in self.answers if each.page.startswith(site) and each.code not in (200, *allowed)]

    def codes(self, site: str) -> Counter[int]:
        """How many answers of each code a site gave."""
        return Counter(each.code for each in self.answers if each.page.startswith(site))

    def kinds(self, site: str) -> set[tuple[str, str]]:
        """The kinds of visitors that were answered: (`kept` or `once`, version of HTTP)."""
        return {(each.how, each.text.split()[0]) for each in self.answers if each.page.startswith(site) and each.code}


@contextlib.contextmanager
def visitors(stranger: Stranger, *pages: str) -> Iterator[Visits]:
    """Let them ask for these pages (`example.com/?`, a number is appended) for as long as the block lasts."""
    visits, place = Visits(), f"/tmp/steady-{time.monotonic_ns()}"
    stranger.put({f"{place}.sh": PROGRAM.encode()})
    words = shlex.join([place, str(KEPT), *pages])
    stranger.check(f"mkdir {place}; once={ONCE} setsid sh {place}.sh {words} > {place}/log 2>&1 < /dev/null &")
    try:
        yield visits
    finally:
        stranger.check(f"touch {place}/end; for i in $(seq 300); do [ ! -e {place}/over ] || break; sleep 0.1; done")
        lines = stranger.check(f"cat {place}/log >&2; cat {place}/told.*; rm -rf {place} {place}.sh").splitlines()
        visits.answers += [answer for line in lines for answer in _read(line)]


def _read(line: str) -> Iterator[Answer]:
    """The answer that a line tells; none where a visitor was sent away in the middle of its last one."""
    if told := LINE.fullmatch(line):
        yield Answer(int(told[1]), told[2], told[3], int(told[4]), told[5])
