"""What the load tools say, read: h2load(1) and its log, slowhttptest(1)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def h2load(said: str) -> dict[str, float]:
    """Requests that were answered 2xx, those that were not, seconds, and requests a second.

    Only 2xx counts: a refusal is quickly said.  Raises ValueError where it says nothing of the kind, or none was.
    """
    ended = re.search(r"finished in ([\d.]+)(us|ms|s), ([\d.]+) req/s", said)
    total = re.search(r"requests: \d+ total, \d+ started, (\d+) done,.* (\d+) errored, (\d+) timeout", said)
    codes = re.search(r"status codes: (\d+) 2xx", said)
    if not (ended and total and codes):
        raise ValueError(f"h2load said nothing of its requests: {said[-300:]!r}")
    seconds = float(ended[1]) / {"s": 1, "ms": 1e3, "us": 1e6}[ended[2]]
    good, done = int(codes[1]), int(total[1])
    if not good or not seconds:
        raise ValueError(f"no request was answered with a page: {total[0]}; {codes[0]}")
    failed = max(done - good, 0) + int(total[3])
    # Its own rate is of the time that was to be measured; with -D it begins when all clients are there.
    return {"requests": good, "failed": failed, "seconds": seconds, "rate": float(ended[3]) * good / done}


def percentile(values: Iterable[float], part: float) -> float:
    """The least value within which so many of 100 are.  Raises ValueError of nothing."""
    found = sorted(values)
    if not found:
        raise ValueError("no request was answered")
    return found[max(math.ceil(len(found) * part / 100), 1) - 1]


def log(said: str) -> list[float]:
    """Milliseconds of each request that was answered 2xx, from h2load's --log-file: start, status, microseconds."""
    rows = (line.split("\t") for line in said.splitlines())
    return [int(row[2]) / 1000 for row in rows if len(row) == 3 and row[1].startswith("2")]


def slowhttptest(said: str) -> dict[str, int]:
    """Of its last look: connections that are open, that the server has closed, and that were refused.

    Raises ValueError where it says nothing of them.
    """
    plain = COLOURS.sub("", said)
    found = {word: re.findall(rf"{word}: +(\d+)", plain) for word in ("connected", "closed", "error")}
    if not all(found.values()):
        raise ValueError(f"slowhttptest said nothing of its connections: {plain[-300:]!r}")
    return {word: int(values[-1]) for word, values in found.items()}


def honest(times: Sequence[float], asked: int) -> dict[str, float]:
    """An honest visitor's luck: visits, those that were served, and their sorted times' middle and worst."""
    middle, worst = (percentile(times, 50), times[-1]) if times else (0.0, 0.0)
    return {"asked": asked, "served": len(times), "middle": middle, "worst": worst}
