"""Lengths of time as people type them: `90s`, `30m`, `2h`, `7d`, `4w`."""

from __future__ import annotations

import re

from .refusal import Problem, Refusal, quoted

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration(text: str, option: str, most: str) -> int:
    """Seconds; at least one, at most `most`.  Raises Refusal, which names the option."""
    seconds = _seconds(text.strip())
    if 1 <= seconds <= _seconds(most):
        return seconds
    raise Refusal(
        Problem(
            f"{option} {quoted(text)}: must be a whole number and s, m, h, d or w, at most {most}",
            example=f"{option} 2h",
        )
    )


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhdw])", text)
    return int(found[1]) * UNITS[found[2]] if found else 0
