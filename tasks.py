"""What `inv` does: the whole fleet, this checkout, its lab and its guide.  (`fab` is for a server.)"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from invoke import Collection, Exit, task

from fabfile.cert.fleet import inv_tasks as certificates
from fabfile.diagram import HELP as DIAGRAM
from fabfile.diagram import diagram
from fabfile.fleet import inv_tasks as fleet_tasks
from fabfile.image import inv_tasks as images
from fabfile.model import GONE
from fabfile.newsite import inv_tasks as sites
from fabfile.varnish.fleet import inv_tasks as caches
from tests.lab.tasks import ns as lab_tasks

GUIDE = Path(__file__).parent / "docs" / "tutorials.md"
FAULTS_FILE = Path(__file__).parent / "docs" / "faults.json"
NOTHING_RUN = 5  # pytest's exit code when no test was chosen
TUTORIALS = {
    "T1": "The perfect webserver",
    "T2": "Secure web application architecture",
    "T3": "Apache web cluster",
    "T4": "Apache web application security",
    "T5": "The web stack, a virtual machine a service",
}


@task(help={"lab": "the tests on lab hosts as well (minutes)", "keep": "leave the tests' lab up", "k": "pytest's -k"})
def test(c, lab=False, keep=False, k=""):
    """Run the pure tests, in seconds; with --lab those of our programs and those on real hosts as well."""
    flags = (["--lab", "--rendered"] if lab else ["-n auto"]) + ["--keep-lab"] * keep + ([f"-k '{k}'"] if k else [])
    c.run(" ".join([f"{sys.executable} -m pytest", *flags]), pty=sys.stdout.isatty())


@task(
    help={
        "only": "F-10,F-45: these alone; those of the input, such as F-31, need no lab",
        "quick": "those that CI runs as well",
        "keep": "leave the tests' lab up",
        "labs": "labs side by side: two are done sooner, where there are cores and memory for them",
        "json": "print what was seen as JSON; pytest's own words go to standard error",
    }
)
def faults(c, only="", quick=False, keep=False, labs=1, json=False):
    """Make every fault of the catalogue happen; print what was seen; write docs/faults.md.  Exit code 1: not held."""
    names = chosen_faults(only)
    with tempfile.TemporaryDirectory() as directory:
        outcomes = Path(directory) / "outcomes.json"
        # With `=`: else pytest takes a file that is there for a place of tests, and knows none of our options.
        flags = ["--lab", f"--faults={FAULTS_FILE}", f"--outcomes={outcomes}", *["--keep-lab"] * keep]
        flags += ["--only", ",".join(names) or "all", *["--demand"] * (not quick)]
        flags += ["-n", str(labs), "--dist", "worksteal"] if labs > 1 else []
        line = shlex.join([sys.executable, "-m", "pytest", "-q", *flags])
        with c.cd(str(FAULTS_FILE.parents[1])):
            where = {"out_stream": sys.stderr} if json else {"pty": sys.stdout.isatty()}
            done = c.run(line, warn=True, **where)
        if json and outcomes.exists():
            print(outcomes.read_text(), end="")
    if done.exited == NOTHING_RUN:
        raise Exit(f"no test shows {', '.join(names) or 'a fault'} here", code=2)
    if done.exited:
        raise Exit(code=1)


def chosen_faults(only: str) -> list[str]:
    """The faults of `--only`.  Raises Exit with code 2 for one that is not in the catalogue or cannot be shown here."""
    from tests.lab.faults.catalogue import FAULTS

    names = [name.strip().upper() for name in only.split(",") if name.strip()]
    if unknown := [name for name in names if name not in FAULTS]:
        raise Exit(f"no such fault: {', '.join(unknown)}\n  for example:  inv faults --only F-10,F-45", code=2)
    if away := [f"{name} cannot be shown here: {FAULTS[name].not_here}" for name in names if FAULTS[name].not_here]:
        raise Exit("\n".join(away), code=2)
    return names


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
    for word, (why, instead) in GONE.items():
        yield Entry("T4", f"{word}, which is gone", f"runtime: {instead}", "takes its place", _cell(why))


def _cell(text: str) -> str:
    """Text that stays within one cell of a Markdown table and means nothing else there."""
    line = " ".join(text.split()).replace("|", r"\|")
    return re.sub(r"`[^`]*`|[<*_]", lambda found: found[0] if found[0][0] == "`" else "\\" + found[0], line)


def _in_order(entries: list[Entry]) -> list[Entry]:
    """By the number of the step; what has none comes together, as the runbook comes to it."""
    steps = [entry.step for entry in entries]
    return sorted(entries, key=lambda one: ([int(n) for n in re.findall(r"\d+", one.step)], steps.index(one.step)))


ns = Collection(
    test, faults, lint, guide, certificates(), sites(), caches(), fleet_tasks(), images(), task(help=DIAGRAM)(diagram),
    lab=lab_tasks,
)
