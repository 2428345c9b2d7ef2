"""The bench's own arithmetic: medians, spreads, ratios, and whether a machine is quiet enough to be quoted."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Runs = Sequence[Mapping[str, Any]]


def values(runs: Runs, tool: str, case: str, what: str) -> list[float]:
    """What was seen of it, where it succeeded."""
    return [run[what] for run in runs if (run["tool"], run["case"], run["code"]) == (tool, case, 0) and what in run]


def median(values: Sequence[float]) -> float:
    """The middle value.  Raises ValueError where there is none."""
    if not values:
        raise ValueError("no run succeeded")
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """From the least to the most, for people; one value has none."""
    return f"{seconds(min(values))}-{seconds(max(values))}" if len(values) > 1 else ""


def seconds(value: float) -> str:
    """Three figures are all that a run on a shared machine is worth."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}"


def ratio(value: float, base: float) -> str:
    """How many times as long as the base."""
    if base <= 0:
        raise ValueError(f"{base} is no base for a ratio")
    times = value / base
    return f"{times:.0f} x" if times >= 100 else f"{times:.1f} x" if times >= 10 else f"{times:.2f} x"


def interleaved(names: Sequence[str], rounds: Mapping[str, int]) -> Iterable[tuple[int, str]]:
    """In every round each tool that still has one to go, in turn: what drifts meanwhile drifts for all."""
    for number in range(max((rounds[name] for name in names), default=0)):
        for name in names:
            if number < rounds[name]:
                yield number, name


def too_busy(load: float, cores: int) -> str:
    """Why figures of this machine would not be worth quoting; empty: they are.  `load` is of the last minute."""
    most = cores / 2
    return f"the load is {load:.1f}, and above {most:.1f} two programs wait for each other here" if load > most else ""
