"""What `inv` does: the whole fleet, this checkout, its lab and its guide.  (`fab` is for a server.)"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from invoke import Collection, Exit, task

from fabfile.cert.fleet import inv_tasks as certificates
from tests.lab.tasks import ns as lab_tasks

GUIDE = Path(__file__).parent / "docs" / "tutorials.md"
TUTORIALS = {"T1": "The perfect webserver", "T2": "Secure web application architecture"}


@task(help={"lab": "the tests on lab hosts as well (minutes)", "keep": "leave the tests' lab up", "k": "pytest's -k"})
def test(c, lab=False, keep=False, k=""):
    """Run the fast tests; with --lab those on real hosts as well."""
    flags = (["--lab"] if lab else ["-n auto"]) + ["--keep-lab"] * keep + ([f"-k '{k}'"] if k else [])
    c.run(" ".join([f"{sys.executable} -m pytest", *flags]), pty=sys.stdout.isatty())


@task(help={"only": "F-10,F-45: these alone", "quick": "those that CI runs as well", "keep": "leave the tests' lab up"})
def faults(c, only="", quick=False, keep=False):
    """Make every fault of the catalogue happen on lab hosts; print what was seen, and write docs/faults.md."""
    from tests.lab.faults.catalogue import FAULTS

    names = [name.strip().upper() for name in only.split(",") if name.strip()]
    if unknown := [name for name in names if name not in FAULTS]:
        raise Exit(f"no such fault: {', '.join(unknown)}\n  for example:  inv faults --only F-10,F-45", code=2)
    parts = [f"test_{name.replace('-', '').lower()}_" for name in names]
    chosen = ["-k", f"'{' or '.join(parts)}'"] if parts else []
    flags = ["--lab", "--faults", "docs/faults.json", *["--keep-lab"] * keep, *["-m", "'not demand'"] * quick, *chosen]
    c.run(" ".join([sys.executable, "-m", "pytest", "-q", *flags]), pty=sys.stdout.isatty())


@task
def lint(c):
    """Check style and types: ruff, mypy."""
    for tool in ("ruff check", "mypy"):
        c.run(f"{sys.executable} -m {tool}", pty=sys.stdout.isatty())


@task
def guide(_context):
    """Write docs/tutorials.md from the tasks' docstrings: tutorial step, task, what differs from it and why."""
    GUIDE.parent.mkdir(exist_ok=True)
    GUIDE.write_text(guide_text())


class Entry(NamedTuple):
    """One step of a tutorial and the task that does it today; the fields are the guide's columns."""

    tutorial: str
    step: str
    task: str
    what: str
    difference: str


def guide_text() -> str:
    """The guide: a table a tutorial."""
    parts = ["# From the tutorials to the tasks\n\nWritten by `inv guide` from the tasks' own docstrings.\n"]
    entries = list(tutorial_entries())
    for tutorial, title in TUTORIALS.items():
        rows = _in_order([each for each in entries if each.tutorial == tutorial])
        parts.append(f"## {tutorial}: {title}\n\n| step | task | what it does | what differs, and why |")
        parts.append("| --- | --- | --- | --- |")
        parts += [f"| {row.step} | `{row.task}` | {row.what} | {row.difference} |" for row in rows]
        parts.append("")
    return "\n".join(parts)


def tutorial_entries() -> Iterator[Entry]:
    """Every task whose docstring reads "T2 step 4, T1 Apache: what it does", blank line, "what differs"."""
    from fabfile import ns as runbook

    for name in runbook.task_names:
        first, _, difference = (runbook[name].__doc__ or "").strip().partition("\n\n")
        references, _, what = _cell(first).partition(": ")
        if not re.match(r"T\d\b", references):
            continue
        for reference in re.split(r", (?=T\d)", references):
            tutorial, _, step = reference.partition(" ")
            yield Entry(tutorial, step or "throughout", name, what, _cell(difference))


def _cell(text: str) -> str:
    """Text that stays within one cell of a Markdown table and means nothing else there."""
    line = " ".join(text.split()).replace("|", r"\|")
    return re.sub(r"`[^`]*`|[<*_]", lambda found: found[0] if found[0][0] == "`" else "\\" + found[0], line)


def _in_order(entries: list[Entry]) -> list[Entry]:
    """By the number of the step; what has none comes together, as the runbook comes to it."""
    steps = [entry.step for entry in entries]
    return sorted(entries, key=lambda one: ([int(n) for n in re.findall(r"\d+", one.step)], steps.index(one.step)))


ns = Collection(test, faults, lint, guide, certificates(), lab=lab_tasks)
