"""What became of each host of a run over the fleet: a table for people, a list of objects for machines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import shorten

from ..engine.report import Line, Report, as_data, table

WIDTH = 140
"""Characters of an outcome in the table; all of it stands above, where the host told it."""

STYLES = {"would change": "cyan", "waits": "yellow", "failed": "bold red", "stopped": "bold red"}


@dataclass
class Row:
    """One host.  `outcome` is well, would change, failed, waits (for hosts that are not well) or stopped.

    `whole` says whether its steps came to their end, so that those that wait for it may begin; one of them may have
    failed all the same, if it stops nobody.
    """

    host: str
    roles: tuple[str, ...]
    outcome: str = "stopped"
    reason: str = "nothing was begun"
    whole: bool = False
    changed: int = 0
    would_change: int = 0
    kept: int = 0
    failed: int = 0
    round_trips: int = 0
    seconds: float = 0.0
    steps: list[Line] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """Count in a run on the host: its first round, or the rest, which comes to the same steps again."""
        told = {line.step for line in self.steps}
        self.steps += [line for line in report.lines if line.outcome != "kept" or line.step not in told]
        self.round_trips += report.trips
        self.seconds = round(self.seconds + report.seconds, 2)
        counts = Counter(line.outcome for line in self.steps)
        self.changed, self.would_change = counts["changed"], counts["would change"]
        self.kept, self.failed = counts["kept"], counts["failed"]

    def ends(self, outcome: str, reason: str = "") -> None:
        """How it ended, in a word, and why."""
        self.outcome, self.reason = outcome, reason

    def comes_to_its_end(self) -> None:
        """All its steps were taken; one that failed without stopping the others is told."""
        bad = next((line for line in self.steps if line.outcome == "failed"), None)
        if bad:
            self.ends("failed", f"{bad.step}: {bad.reasons[0]}")
        else:
            self.ends("would change" if self.would_change else "well")

    @property
    def well(self) -> bool:
        """Whether nothing failed."""
        return self.outcome in ("well", "would change")


def show(rows: Sequence[Row], as_json: bool, dry: bool) -> None:
    """What ends a run over the fleet."""
    if as_json:
        print(json.dumps([as_data(row) for row in rows], indent=2))
        return
    cells: list[tuple[str, ...]] = [
        ("host", "roles", "would change" if dry else "changed", "kept", "seconds", "outcome")
    ]
    for row in rows:
        numbers = row.would_change if dry else row.changed, row.kept, f"{row.seconds:.1f}"
        outcome = shorten(f"{row.outcome}: {row.reason}" if row.reason else row.outcome, WIDTH)
        cells.append((row.host, " ".join(row.roles), *map(str, numbers), outcome))
    table(cells, [STYLES.get(row.outcome, "") for row in rows])
