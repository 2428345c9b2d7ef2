"""What the operator sees: one line a step, one summary a run; data instead when `--json` asks for it."""

from __future__ import annotations

import difflib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from ..model import Refusal
from .problems import Problem

if TYPE_CHECKING:
    from rich.status import Status

STYLES = {
    "kept": "dim",
    "changed": "yellow",
    "waits": "yellow",
    "would change": "cyan",
    "failed": "bold red",
    "stopped": "bold red",
}

console = Console(highlight=False, emoji=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


@dataclass
class Line:
    """The outcome of one step."""

    step: str
    outcome: str
    reasons: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Report:
    """The lines of one run on one host.

    `watch` is told what is being done, by who shows many hosts at once; that one sums up, too, and what is kept without
    a word needs no line.
    """

    host: str
    run: str
    as_json: bool = False
    lines: list[Line] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    watch: Callable[[str, str], None] | None = None
    trips: int = 0
    seconds: float = 0.0
    _status: Status | None = None

    @property
    def failed(self) -> bool:
        """Whether a step failed, be it one that stopped nobody."""
        return any(line.outcome == "failed" for line in self.lines)

    def busy(self, step: str, what: str = "") -> None:
        """Say what is being done now, on a terminal."""
        if self.watch:
            self.watch(step, what)
            return
        if self.as_json or not console.is_terminal:
            return
        text = f"{escape(self.host)}  {escape(step)}  [dim]{escape(what[:100])}[/]"
        if self._status is None:
            self._status = console.status(text, spinner="dots")
            self._status.start()
        self._status.update(text)

    def quiet(self) -> None:
        """Nothing is being done now."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def step(self, line: Line, diffs: list[str] = [], noted: bool = False) -> None:  # noqa: B006
        """One step ended; `noted`: with something to read, though all may be kept."""
        self.lines.append(line)
        if self.as_json or (self.watch and line.outcome == "kept" and not noted):
            return
        self.quiet()
        shown = "; ".join(line.reasons[:3]) + (f"; and {len(line.reasons) - 3} more" if len(line.reasons) > 3 else "")
        outcome = f"[{STYLES[line.outcome]}]{line.outcome:<12}[/]"
        console.print(f"{escape(self.host):<8}  {line.step:<22}  {outcome}  {escape(shown)}".rstrip())
        for diff in diffs:
            for text in diff.splitlines():
                style = {"+": "green", "-": "red", "@": "cyan"}.get(text[:1], "")
                console.print(escape("    " + text), style=style)

    def summary(self, trips: int) -> None:
        """The line that ends a run."""
        self.quiet()
        self.trips, self.seconds = trips, time.monotonic() - self.began
        if self.watch:
            return
        counts = Counter(line.outcome for line in self.lines)
        if self.as_json:
            print(
                json.dumps(
                    {
                        "host": self.host,
                        "run": self.run,
                        "steps": [vars(line) for line in self.lines],
                        "kept": counts["kept"],
                        "changed": counts["changed"],
                        "would_change": counts["would change"],
                        "failed": counts["failed"],
                        "stopped": counts["stopped"],
                        "round_trips": trips,
                        "seconds": round(self.seconds, 2),
                    },
                    indent=2,
                )
            )
            return
        planned = f"{counts['would change']} would change" if counts["would change"] else f"{counts['changed']} changed"
        failed = f"{counts['failed']} failed" + (", 1 stopped" if counts["stopped"] else "")
        console.print(
            f"{escape(self.host)}  {self.run}  {counted(len(self.lines), 'step')}: {counts['kept']} kept, {planned}, "
            f"{failed} ({counted(trips, 'round trip')}, {self.seconds:.1f} s)"
        )


def problem(error: Problem, host: str = "") -> None:
    """An error: what happened, the tool's last lines, and the next thing to type."""
    errors.print(f"[bold red]{escape(host + ': ' if host else '')}{escape(error.message)}[/]")
    for line in error.details.splitlines():
        errors.print(escape("    " + line), style="dim")
    if error.next_step:
        errors.print(f"next: {escape(error.next_step)}")
    sys.stderr.flush()


def refused(refusal: Refusal) -> None:
    """Bad input, as it tells itself."""
    errors.print(str(refusal), markup=False)


def table(cells: Sequence[Sequence[str]], styles: Sequence[str]) -> None:
    """Rows of text under a first one that names the columns; `styles` are those of the rows below it."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row, style in zip(cells, ("dim", *styles), strict=True):
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.print(Text(text.rstrip(), style))


def diff(path: str, former: bytes, new: bytes) -> str:
    """A unified diff of a file that would change."""
    before, after = (text.decode(errors="replace").splitlines(keepends=True) for text in (former, new))
    return "".join(
        line if line.endswith("\n") else line + "\n"
        for line in difflib.unified_diff(before, after, path, path + " (new)")
    )


def as_data(value: Any) -> Any:
    """What JSON has for it: for a record an object with its fields, whatever is in them."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: as_data(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: as_data(each) for name, each in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: as_data(each) for name, each in value.items()}
    return [as_data(each) for each in value] if isinstance(value, list | tuple) else value


def counted(number: int, noun: str) -> str:
    """`1 site`, `10 sites`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
