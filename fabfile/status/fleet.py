"""`inv fleet.status`: every host side by side, one line each."""

from __future__ import annotations

import json as json_
from typing import NamedTuple

from invoke import Context, Exit
from rich.text import Text

from ..engine import Host, Problem, as_data, console, mark
from ..engine.known import RUNBOOK
from ..engine.pool import chosen_fleet, everywhere
from . import looked


class Row(NamedTuple):
    """One host: whether it answers, its faults, the least days of a certificate, its load, what it was made with.

    `version` is the runbook's commit that last changed it; `yours` says whether that is the one checked out here.
    """

    host: str
    reachable: bool
    faults: tuple[str, ...]
    days: int | None = None
    load: str = ""
    version: str = ""
    yours: bool = False

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        state = "unreachable" if not self.reachable else "well" if not self.faults else f"{len(self.faults)} faults"
        days = "-" if self.days is None else str(self.days)
        version = f"{self.version[:9]}{'' if self.yours else '*'}" if self.version else "-"
        return self.host, state.replace("1 faults", "1 fault"), days, self.load or "-", version


HELP = {"fleet": "the fleet.yml to use; else GATEHOUSE_FLEET, else ./fleet.yml", "json": "print the same as JSON"}
COLUMNS = ("host", "state", "days", "load", "version")


def status(_c: Context, fleet: str = "", json: bool = False) -> None:
    """Every host side by side: faults, the certificate that ends first, load, version; exit 1 if any is bad.

    JSON: an object a host, with `reachable`, `faults` (texts), `days`, `load`, `version` and `yours`.
    """
    found = chosen_fleet(fleet, "fab -H vps status")
    ours = mark.commit(RUNBOOK)
    rows = [
        Row(name, False, (answer.message,)) if isinstance(answer, Problem) else answer
        for name, answer in everywhere(found, list(found.hosts), lambda host: row(host, ours), "looking")
    ]
    if json:
        print(json_.dumps([as_data(one) for one in rows], indent=2))
    else:
        _show(rows)
    if any(one.faults for one in rows):
        raise Exit(code=1)


def row(host: Host, ours: mark.Commit | None) -> Row:
    """What `status` finds there, in one line.  Raises the engine's Problems."""
    screen = looked(host)
    made = screen.made.trees.get("runbook")
    faults = tuple(f"{one.layer} {one.name}: {one.fault}" for one in screen.faults)
    return Row(
        host.name, True, faults, screen.days, screen.load, made.name if made else "", bool(made) and made == ours
    )


def _show(rows: list[Row]) -> None:
    table = [COLUMNS, *(row.cells for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    styles = ["dim", *("bold red" if row.faults else "" for row in rows)]
    for at, (cells, style) in enumerate(zip(table, styles, strict=True)):
        text = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        console.print(Text(text.rstrip(), style))
        for fault in rows[at - 1].faults[:3] if at else ():
            console.print(Text(f"  {fault}", "red"))
    if any(one.version and not one.yours for one in rows):
        console.print("* made with another commit than the one checked out here", style="dim")
    if bad := [one.host for one in rows if one.reachable and one.faults]:
        console.print(f"next: fab -H {bad[0]} status", markup=False)
