"""The mark: every run that changes a host leaves there which version of the runbook and of its sites it was made with.

A run from an older version is refused, since it would silently undo what the newer one did.  The look reads the mark
and the first change of a run writes it, so it costs no round trip.  Two operators at the same commit never notice it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

FORMAT = 1
"""Of what the engine remembers in /var/lib/gatehouse: raised when an older engine would misread it."""

ANYWAY = "GATEHOUSE_OLDER"
"""The environment variable with which an operator goes back on purpose."""


class Commit(NamedTuple):
    """A git commit: its full name, and its time in seconds since 1970."""

    name: str
    time: int

    def __str__(self) -> str:
        return f"{self.name[:9]} of {datetime.fromtimestamp(self.time, UTC):%Y-%m-%d %H:%M} UTC"


class Mark(NamedTuple):
    """What a run was made with: each tree (`runbook`, `sites`) that is under git, and who typed it."""

    trees: Mapping[str, Commit] = MappingProxyType({})
    by: str = ""
    version: int = FORMAT

    def text(self) -> str:
        """As it stands on the host."""
        trees = (f"{name} {commit.name} {commit.time}\n" for name, commit in self.trees.items())
        return f"format {self.version}\n{''.join(trees)}by {self.by}\n"


def read(lines: Iterable[str]) -> Mark:
    """The mark on a host; one without trees when there is none.  Lines that nobody knows are passed over."""
    trees, by, version = dict[str, Commit](), "", FORMAT
    for line in lines:
        word, _, rest = line.partition(" ")
        name, _, time = rest.partition(" ")
        if word == "by":
            by = rest
        elif word == "format" and rest.isdecimal():
            version = int(rest)
        elif time.isdecimal():
            trees[word] = Commit(name, int(time))
    return Mark(trees, by, version)


def commit(directory: Path) -> Commit | None:
    """What is checked out there; None where it is not under git, or has no commit yet."""
    name, _, time = _git(directory, "log", "-1", "--format=%H %ct", "HEAD").partition(" ")
    return Commit(name, int(time)) if time.isdecimal() else None


def newer(there: Mark, places: Mapping[str, Path]) -> str:
    """Why the host's mark forbids a run with what is checked out at `places`; empty when it does not.

    A commit that is later than ours forbids, unless ours contains it (then the clocks of two laptops differ).
    """
    if there.version > FORMAT:
        return f"a newer runbook than this one (its format is {there.version}, ours {FORMAT})"
    for name, place in places.items():
        theirs, ours = there.trees.get(name), commit(place)
        if theirs and ours and theirs.time > ours.time and not _contains(place, theirs):
            return f"a newer commit of its {name}: {theirs}; {place} is at {ours}"
    return ""


def _contains(directory: Path, other: Commit) -> bool:
    return _git(directory, "merge-base", "HEAD", other.name) == other.name


def _git(directory: Path, *words: str) -> str:
    """What git says, or nothing: no git, no repository, no such commit."""
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *words], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
