"""What gatehouse-renew says on a host, as rows; and the table that a person sees of one host or of many."""

from __future__ import annotations

import json as json_
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar

from invoke import Exit
from rich.markup import escape

from ..engine import Host, as_data, console
from ..model import Balancer, Refusal, Site, chosen_site

INSTALLED = "command -v gatehouse-renew >/dev/null || { echo 'it has no certificates yet: bootstrap it'; exit 1; }\n"
# The exit code travels as a line of its own: a name that failed must not hide what became of the others.
RENEW = INSTALLED + "gatehouse-renew --porcelain --wait 900 \"$@\" 2>&1 || printf 'exit\\t\\t%s\\n' $?"
LIST = INSTALLED + "gatehouse-renew --list"
VERIFY = INSTALLED + "gatehouse-renew --verify \"$@\" || [ $? = 1 ]"
NONE = "-"
ALL = "--all"  # a value to Invoke, not a flag: it knows no positional argument that may be left out


@dataclass(frozen=True)
class Outcome:
    """What became of one name on one host; a host that could not be asked has no domain."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("host", "domain", "outcome", "")

    host: str
    domain: str
    outcome: str
    text: str

    @property
    def bad(self) -> bool:
        """Did it fail?  Exit code 1 then."""
        return self.outcome in ("failed", "waits")

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as it is shown."""
        return self.host, self.domain or NONE, self.outcome, self.text


@dataclass(frozen=True)
class Certificate:
    """One certificate on one host, in four truths: what lego left, what lies in HAProxy's directory (`disk`), what
    HAProxy has in memory, and what a visitor is shown (`wire`).

    Whole days left of each (None: there is none), and their SHA-1; `until` is the end of the one on disk.  `state` is
    the program's own word, see `gatehouse-renew --help`; `text` says what to type.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("host", "domain", "lego", "disk", "memory", "wire", "until", "state", "")

    host: str
    domain: str
    lego: int | None
    disk: int | None
    memory: int | None
    wire: int | None
    until: str
    state: str
    text: str
    sha1: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def unknown(cls, host: str, why: str) -> Certificate:
        """A host that could not be asked."""
        return cls(host, "", None, None, None, None, "", "failed", why)

    @property
    def bad(self) -> bool:
        """Is something wrong with it?  One that is due is not: it has its time."""
        return self.state not in ("ok", "due")

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as it is shown."""
        days = (NONE if days is None else str(days) for days in (self.lego, self.disk, self.memory, self.wire))
        return self.host, self.domain or NONE, *days, self.until or NONE, self.state, self.text


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at for one name, and whether it is as it should be; `what` is in one word."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("host", "name", "what", "", "")

    host: str
    name: str
    what: str
    well: bool
    text: str

    @property
    def bad(self) -> bool:
        """Is it wrong?  Exit code 1 then."""
        return not self.well

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as it is shown."""
        return self.host, self.name or NONE, self.what, "ok" if self.well else "wrong", self.text


Row = Outcome | Certificate | Finding

NEXT = {
    "differs": "cert.renew {0}",
    "late": "cert.renew {0}",
    "failed": "cert.preflight {0}",
    "missing": "cert.preflight {0}",
    "expired": "cert.renew {0}",
    "broken": "cert.renew {0}",
    "unserved": "status",
}
"""What to type, by state."""


def renewed(host: Host, *words: str) -> list[Row]:
    """Run the program with these words; what became of each name.  Raises the engine's Problems."""
    return read_outcomes(host.name, host.ask(RENEW, *words))


def listed(host: Host) -> list[Row]:
    """Every certificate of the host.  Raises the engine's Problems."""
    return read_list(host.name, host.ask(LIST))


def verified(host: Host, *domains: str) -> list[Row]:
    """What is wrong with each certificate, or that nothing is.  Raises the engine's Problems."""
    lines = (line.split("\t") for line in host.ask(VERIFY, *domains).splitlines())
    return [Finding(host.name, domain, "certificate", word == "ok", text) for word, domain, text in lines]


def read_outcomes(host: str, answer: str) -> list[Row]:
    """The last word on each name, in the program's order; a line that is none is a failure of the host itself."""
    rows: dict[str, Row] = {}
    strange: list[str] = []
    for line in answer.splitlines():
        outcome, _, rest = line.partition("\t")
        domain, tab, text = rest.partition("\t")
        if not tab:
            strange.append(line)
        elif outcome != "exit":
            rows[domain] = Outcome(host, domain, outcome, text)
        elif text != "1":
            strange.append(f"exit code {text}")
    return [*rows.values(), *([Outcome(host, "", "failed", "; ".join(strange))] if strange else [])]


def read_list(host: str, answer: str) -> list[Row]:
    """The lines of `--list`."""
    rows: list[Row] = []
    for line in answer.splitlines():
        domain, disk, wire, until, _life, state, on_disk, on_wire, note, lego, memory, *more = line.split("\t")
        end = datetime.fromtimestamp(int(until), UTC).strftime("%Y-%m-%d") if until != "0" else ""
        prints = dict(zip(("lego", "disk", "memory", "wire"), (more[0], on_disk, more[1], on_wire), strict=True))
        text = "" if note == NONE else note
        if state in NEXT:
            text += f"{': ' if text else ''}fab -H {host} {NEXT[state].format(domain)}"
        lego_, disk_, memory_, wire_ = map(_days, (lego, disk, memory, wire))
        known = {truth: print_ for truth, print_ in prints.items() if print_ != NONE}
        rows.append(Certificate(host, domain, lego_, disk_, memory_, wire_, end, state, text, known))
    return rows


def words(sites: Sequence[Site | Balancer], domain: str) -> tuple[str, ...]:
    """The program's words for what one typed: a site's domain in either form, or --all.  Raises Refusal for another."""
    if domain == ALL:
        return ("--now",)
    if domain.startswith("-"):
        raise Refusal(f"{domain} is neither a site's domain nor {ALL}; for the options, put --help before the task")
    return (chosen_site(sites, domain).domain,)


def show(rows: Iterable[Row], json: bool = False) -> None:
    """One table, or JSON.  Ends with exit code 1 when a row is bad."""
    rows = list(rows)
    if json:
        print(json_.dumps([as_data(row) for row in rows], indent=2))
    elif not rows:
        console.print("no certificate is asked for here")
    else:
        lines = [rows[0].COLUMNS, *(row.cells for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        styles = ["dim", *("bold red" if row.bad else "none" for row in rows)]
        for line, style in zip(lines, styles, strict=True):
            text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            console.print(escape(text.rstrip()), style=style)
    if any(row.bad for row in rows):
        raise Exit(code=1)


def _days(text: str) -> int | None:
    return None if text == NONE else int(text)
