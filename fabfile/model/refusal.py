"""
What is said when data is wrong: every problem at once, each with its place, what was expected and a right example.

    sites/example.com.yml:12: php.children: must be a whole number from 1 to 500, not "many"
      for example:  children: 5

The tree is small: a validator raises `Wrong` (it knows the value, not the file), the loaders turn it into a
`Problem` (it knows the place), and one `Refusal` carries all problems of all files to the operator.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

SHOWN = 25  # problems printed in full; a thousand lines would hide the first
QUOTED_MAX = 80  # characters of a wrong value that are shown


class Wrong(ValueError):
    """
    A value that a grammar does not accept. Pydantic wraps it; the loader unwraps it.

    `at` is the way on from the validated field to the fault: (1,) is the second value of a list. `example` is a value.
    """

    def __init__(self, message: str, example: Any = None, at: tuple[str | int, ...] | None = None) -> None:
        super().__init__(message)
        self.message, self.example, self.at = message, example, at


class Problem(NamedTuple):
    """One thing that is wrong, where it is, and what would be right."""

    message: str
    file: Path | None = None
    line: int | None = None
    key: str = ""
    expected: str = ""
    example: str = ""
    next: str = ""

    def __str__(self) -> str:
        return "\n".join((self.sentence(), *self.advice()))

    def sentence(self) -> str:
        """Place and message."""
        place = "" if self.file is None else shown_path(self.file)
        if place and self.line is not None:
            place += f":{self.line}"
        return ": ".join(part for part in (place, self.key, self.message) if part)

    def advice(self) -> tuple[str, ...]:
        """The lines under it: a right example, the next thing to type."""
        lines = (("for example", self.example), ("next", self.next))
        return tuple(f"  {what}:  {text}" for what, text in lines if text)


class Refusal(Exception):
    """The data is not accepted; nothing has been touched. `exit_code` is what fab and inv leave with."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem] | Problem | str) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines: list[str] = []
        shown = self._shown()
        for problem, after in zip_longest(shown, shown[1:]):
            lines.append(problem.sentence())
            if after is None or (problem.file, problem.advice()) != (after.file, after.advice()):
                lines.extend(problem.advice())  # once under problems that share it
        if len(self.problems) > len(shown):
            lines.append(f"... and {len(self.problems) - len(shown)} more problems")
        return "\n".join(lines)

    def _shown(self) -> list[Problem]:
        """All problems, or, of too many, the first of every file: one bad file must not hide the others."""
        if len(self.problems) <= SHOWN:
            return list(self.problems)
        room = max(1, SHOWN // len({problem.file for problem in self.problems}))
        counts: Counter[Path | None] = Counter()
        shown = []
        for problem in self.problems:
            counts[problem.file] += 1
            if counts[problem.file] <= room:
                shown.append(problem)
        return shown[:SHOWN]


def quoted(text: str) -> str:
    """`text` in double quotes, short, with everything invisible escaped: it must not garble the terminal."""
    short = text if len(text) <= QUOTED_MAX else text[: QUOTED_MAX - 3] + "..."
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in json.dumps(short, ensure_ascii=False))


def shown_path(path: Path) -> str:
    """`path` as the operator would type it: relative when it is below the working directory."""
    try:
        text = str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        text = str(path)
    return text if text.isprintable() else quoted(text)


def there(path: Path) -> bool:
    """Whether `path` exists; yes as well where it cannot be told, so that whoever opens it says why."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
    return True
