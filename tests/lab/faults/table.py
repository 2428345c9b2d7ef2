"""A pytest plugin: gathers what the tests of the faults have seen, and makes the table of `inv faults`.

`pytest --faults FILE` keeps in FILE what the tests that carry `@pytest.mark.fault("F-..")` saw, whatever else is run,
and writes a page beside it; `--only all` runs those alone, `--only F-10,F-31` those of these faults. FILE holds the
last outcome of each test, with the commit it was seen at, so one of them can be run again alone; with `--only`, which
looks at all files, a test that is no more is forgotten. `--outcomes FILE` keeps this run's alone, for machines.
"""

from __future__ import annotations

import datetime
import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .catalogue import FAULTS

CHECKOUT = Path(__file__).resolve().parents[3]
HEAD = """\
# Faults

Written by `inv faults`: every fault that a single host can meet, made to happen on a lab host, and what was seen.
What cannot run in the lab says why, and is not counted. *held* tells how many of its tests were run, when not all were;
*by* who runs it: `ci` with every change (where some tests of it may be left out), `demand` with `inv faults` alone;
*at* the commit and day of that of its tests which was run longest ago.

"""


@dataclass
class Check:
    """What one test saw of a fault when it ran last."""

    held: bool = True
    seen: list[str] = field(default_factory=list)
    by: str = "demand"
    commit: str = ""
    day: str = ""


@dataclass
class Outcome:
    """What became of one fault: the last outcome of each of its tests that was run; `tests` is how many it has."""

    tests: int = 0
    checks: dict[str, Check] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        """Whether every test of it that was run passed."""
        return all(check.held for check in self.checks.values())

    @property
    def whole(self) -> bool:
        """Whether no test of it was left out."""
        return len(self.checks) >= self.tests

    @property
    def seen(self) -> list[str]:
        """What its tests saw, each thing once, what failed first."""
        checks = sorted(self.checks.values(), key=lambda check: check.held)
        return list(dict.fromkeys(text for check in checks for text in check.seen))

    @property
    def text(self) -> str:
        """The cell `seen`; tests that said nothing saw what is expected."""
        return "; ".join(self.seen) or f"as expected ({len(self.checks)} checks)"

    @property
    def by(self) -> str:
        """Who runs it, or some tests of it, with every change."""
        return "ci" if any(check.by == "ci" for check in self.checks.values()) else "demand"

    @property
    def oldest(self) -> Check:
        """The check that was longest ago."""
        return min(self.checks.values(), key=lambda check: check.day, default=Check())

    def merged(self, later: Outcome, names: set[str] | None) -> Outcome:
        """With what a later run saw; `names` are all its tests, where that run knows them."""
        checks = self.checks | later.checks
        if names is None:
            return Outcome(max(self.tests, later.tests), checks)
        return Outcome(len(names), {name: check for name, check in checks.items() if name in names})


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gatehouse")
    group.addoption("--faults", type=Path, metavar="FILE", help="keep what the tests of faults saw in FILE")
    group.addoption("--only", default="", metavar="F-10,F-31", help="the tests of these faults alone, or of `all`")
    group.addoption("--outcomes", type=Path, metavar="FILE", help="with --faults: what this run saw, as JSON")
    group.addoption("--demand", action="store_true", help="run the long tests as well, which CI leaves out")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--faults") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Gatherer(config))


@pytest.hookimpl(tryfirst=True)  # before -k: all tests of a fault are counted, whichever are run
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose: the long ones with --demand alone, and with --only those that show these faults."""
    only = set(filter(None, config.getoption("--only").split(",")))
    shows = {item: [name for mark in item.iter_markers("fault") for name in mark.args] for item in items}
    tests = defaultdict[str, list[str]](list)
    for item, names in shows.items():
        for name in names:
            tests[name].append(item.nodeid)
    wanted: list[pytest.Item] = []
    rest: list[pytest.Item] = []
    for item, names in shows.items():
        for name in names:
            if name not in FAULTS or FAULTS[name].not_here:
                raise pytest.UsageError(f"{item.nodeid}: {name} is no fault that can be shown here")
            item.user_properties += [("fault", name), (f"tests of {name}", tests[name])]
        long = item.get_closest_marker("demand") is not None
        item.user_properties.append(("by", "demand" if long else "ci"))
        meant = not only or (bool(names) and ("all" in only or bool(only & {*names})))
        (wanted if meant and (not long or config.getoption("--demand")) else rest).append(item)
    items[:] = wanted
    if rest:
        config.hook.pytest_deselected(items=rest)


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says in a few words what was seen of the fault; it stands in the table."""

    def say(text: str) -> None:
        request.node.user_properties.append(("seen", text))

    return say


class Gatherer:
    """Collects the outcomes of one run, of all its workers."""

    def __init__(self, config: pytest.Config) -> None:
        self.path: Path = config.getoption("--faults")
        self.outcomes: Path | None = config.getoption("--outcomes")
        self.forgets = bool(config.getoption("--only"))
        self.now, self.names = dict[str, Outcome](), dict[str, set[str]]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told: list[tuple[str, Any]] = [(str(key), value) for key, value in report.user_properties]
        for name in [value for key, value in told if key == "fault"]:
            self.names[name] = set(dict(told)[f"tests of {name}"])
            outcome = self.now.setdefault(name, Outcome(len(self.names[name])))
            if report.failed or report.skipped:
                check = outcome.checks.setdefault(report.nodeid, Check())
                check.held = False
                check.seen.append(f"{report.nodeid.rpartition('::')[2]}: {_reason(report)}")
            elif report.when == "call":
                outcome.checks[report.nodeid] = Check(seen=[value for key, value in told if key == "seen"])
            if ("by", "ci") in told and report.nodeid in outcome.checks:
                outcome.checks[report.nodeid].by = "ci"

    def pytest_sessionfinish(self) -> None:
        kept = read(self.path) if self.path.exists() else {}
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False
        ).stdout.strip()
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        self.now = {name: self.now[name] for name in FAULTS if name in self.now}
        for name, outcome in self.now.items():
            for check in outcome.checks.values():
                check.commit, check.day = commit, day
            kept[name] = kept.get(name, Outcome()).merged(outcome, self.names[name] if self.forgets else None)
        if self.outcomes:
            self.outcomes.write_text(json.dumps(as_data(self.now), indent=1, ensure_ascii=False) + "\n")
        kept = {name: kept[name] for name in FAULTS if name in kept}
        write(self.path, kept)
        self.path.with_suffix(".md").write_text(markdown(kept))

    def pytest_terminal_summary(self) -> None:
        show(self.now)


def read(path: Path) -> dict[str, Outcome]:
    """The outcomes that a file keeps."""
    return {
        name: Outcome(found["tests"], {test: Check(**check) for test, check in found["checks"].items()})
        for name, found in json.loads(path.read_text()).items()
    }


def write(path: Path, outcomes: dict[str, Outcome]) -> None:
    """Keep outcomes, a line a test, so that a difference between two runs can be read."""
    faults = []
    for name, outcome in outcomes.items():
        checks = [
            f"  {json.dumps(test)}: {json.dumps(asdict(check), ensure_ascii=False)}"
            for test, check in sorted(outcome.checks.items())
        ]
        faults.append(f'"{name}": {{"tests": {outcome.tests}, "checks": {{\n' + ",\n".join(checks) + "\n}}")
    path.write_text("{\n" + ",\n".join(faults) + "\n}\n")


def as_data(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """The outcomes for a machine: the catalogue's words and what was seen; `not_held` is what a script looks at."""
    rows = [
        {"id": name, "fault": FAULTS[name].what, "expected": FAULTS[name].expected, **_row(outcome)}
        for name, outcome in outcomes.items()
    ]
    held = [name for name, outcome in outcomes.items() if outcome.held]
    return {
        "held": len(held),
        "run": len(outcomes),
        "not_held": [name for name in outcomes if name not in held],
        "faults": rows,
    }


def sentence(outcomes: dict[str, Outcome]) -> str:
    """The last line: how many of those that were run held."""
    held = sum(outcome.held for outcome in outcomes.values())
    part = sum(not outcome.whole for outcome in outcomes.values())
    return f"{held} of {len(outcomes)} held" + (f"; of {part} a part was run" if part else "")


WIDTH = 100
"""Columns of the table where there is no terminal, or a narrower one."""


def show(outcomes: dict[str, Outcome], console: Console | None = None) -> None:
    """The table for a person, at least WIDTH columns wide."""
    console = console or Console(highlight=False)
    console.width = max(console.width, WIDTH)
    table = Table(box=None, header_style="bold", pad_edge=False, expand=True)
    table.add_column("id", no_wrap=True)
    table.add_column("fault", ratio=3)
    table.add_column("expected", ratio=3)
    table.add_column("seen", ratio=4, overflow="fold")
    table.add_column("", no_wrap=True)
    for name, outcome in outcomes.items():
        fault = FAULTS[name]
        verdict = Text("held" if outcome.whole else "held in part", "green")
        verdict = verdict if outcome.held else Text("NOT HELD", "bold red")
        table.add_row(name, Text(fault.what), Text(fault.expected), Text(outcome.text), verdict)
    console.print()
    console.print(table)
    console.print(sentence(outcomes))


def markdown(outcomes: dict[str, Outcome]) -> str:
    """docs/faults.md: every fault of the catalogue, also what was not run and what cannot be."""
    rows = ["| id | fault | expected | seen | held | by | at |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for name, fault in FAULTS.items():
        outcome = outcomes.get(name)
        if outcome:
            held = "yes" if outcome.held else "**no**"
            part = "" if outcome.whole else f", {len(outcome.checks)} of {outcome.tests}"
            oldest = outcome.oldest
            cells = [outcome.text, held + part, outcome.by, f"{oldest.commit}, {oldest.day}"]
        else:
            cells = [fault.not_here or "not run yet", "-", "-", "-"]
        rows.append("| " + " | ".join(map(_cell, [name, fault.what, fault.expected, *cells])) + " |")
    return HEAD + "\n".join(rows) + f"\n\n**{sentence(outcomes)}.**\n"


def _row(outcome: Outcome) -> dict[str, Any]:
    names = ("held", "whole", "tests", "seen", "by")
    return {name: getattr(outcome, name) for name in names} | {
        "checks": len(outcome.checks),
        "commit": outcome.oldest.commit,
        "day": outcome.oldest.day,
    }


def _reason(report: pytest.TestReport) -> str:
    crash: Any = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    return text.splitlines()[0][:160] if text else report.outcome


def _cell(text: str) -> str:
    """Text that stays within one cell of a Markdown table and means nothing else there; `code` and **no** stay."""
    line = " ".join(text.split()).replace("|", r"\|")
    plain = re.compile(r"`[^`]*`|^\*\*no\*\*$|[<*_\[]")
    return plain.sub(lambda found: found[0] if len(found[0]) > 1 else "\\" + found[0], line)
