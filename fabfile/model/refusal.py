"""
What is said when data is wrong: every problem at once, each with its place, what was expected and a right example.

    sites/example.com.yml:12: php.children: must be a whole number from 1 to 500, not "many"
      for example:  children: 5

The tree is small: a validator raises `Wrong` (it knows the value, not the file), the loaders turn it into a
`Problem` (it knows the place), and one `Refusal` carries all problems of all files to the operator.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SHOWN = 25  # problems printed in full; a thousand lines would hide the first
QUOTED_MAX = 80  # characters of a wrong value that are shown


class Wrong(ValueError):  # noqa: N818  (a verdict on a value, never seen by a caller)
    """
    A value that a grammar does not accept. Pydantic wraps it; the loader unwraps it.

    `at` points below or beside the validated field when the fault is there, for example ("aliases", 1).
    """

    def __init__(self, message: str, example: str | None = None, at: tuple[str | int, ...] | None = None) -> None:
        super().__init__(message)
        self.message, self.example, self.at = message, example, at


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where it is, and what would be right."""

    message: str
    file: Path | None = None
    line: int | None = None
    key: str = ""
    expected: str = ""
    example: str = ""
    next: str = ""

    def __str__(self) -> str:
        place = "" if self.file is None else shown_path(self.file)
        if place and self.line is not None:
            place += f":{self.line}"
        text = ": ".join(part for part in (place, self.key, self.message) if part)
        if self.example:
            text += f"\n  for example:  {self.example}"
        if self.next:
            text += f"\n  next:  {self.next}"
        return text


class Refusal(Exception):  # noqa: N818  (it is the operator's word for it, not an internal fault)
    """The data is not accepted; nothing has been touched. `exit_code` is what fab and inv leave with."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem] | Problem | str) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"... and {len(self.problems) - SHOWN} more problems")
        return "\n".join(lines)


def quoted(text: str) -> str:
    """`text` in double quotes, short, with everything invisible escaped: it must not garble the terminal."""
    short = text if len(text) <= QUOTED_MAX else text[: QUOTED_MAX - 3] + "..."
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in json.dumps(short, ensure_ascii=False))


def shown_path(path: Path) -> str:
    """`path` as the operator would type it: relative when it is below the working directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
