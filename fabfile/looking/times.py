"""When: what one types after --since and --until, and how a moment is shown."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ..model import Problem, Refusal

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 3650 * 86400


def moment(text: str, option: str) -> str:
    """For the host: `-3600`, seconds before its own now; or a moment in seconds since 1970.

    Takes 90s, 15m, 1h, 2d, or an ISO 8601 time, which is yours where it names no zone.  Raises Refusal.
    """
    if ago := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
        seconds = int(ago[1]) * UNITS[ago[2]]
        if 0 < seconds <= LONGEST:
            return f"-{seconds}"
    try:
        when = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        pass
    else:
        if not text.isdecimal() and 0 <= when.timestamp() < 1 << 33:
            return str(int(when.timestamp()))
    raise Refusal(
        Problem(
            f"{option} {text!r}: must be a time ago, such as 90s, 15m, 1h, 2d, or an ISO time",
            example=f"{option} 2026-01-31T14:30",
        )
    )


def shown(seconds: float) -> str:
    """A moment in the operator's own time: the time of day, with the date before it when that is not today's."""
    when = datetime.fromtimestamp(seconds).astimezone()
    day = "" if when.date() == datetime.now().astimezone().date() else f"{when:%Y-%m-%d} "
    return f"{day}{when:%H:%M:%S}.{when.microsecond // 1000:03d}"


def iso(seconds: float) -> str:
    """A moment as data: ISO 8601, UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
