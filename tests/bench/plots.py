"""Plots of what was measured, as SVG: run by the Python that has matplotlib (requirements-plots.txt).

    python plots.py DATA.json DIRECTORY
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "gatehouse"  # the same figures, the same file
from matplotlib import pyplot  # noqa: E402

LABELS = {"toolkit": "seconds", "growth": "sites on the host", "fleet": "hosts", "isolation": "sites on the host"}
MEASURED = {"isolation": "MB of Apache, PHP-FPM and the sites' programs, idle"}


def curves(data: dict[str, Any]) -> dict[str, dict[int, float]]:
    """By tool, the median seconds by number, of the cases `nothing, NUMBER`; of runtimes, their memory."""
    if data["part"] == "isolation":
        grown = {word: one["grown"] for word, one in data["modes"].items()}
        return {word: dict(zip(one["sites"], one["idle"], strict=True)) for word, one in grown.items()}
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in data["runs"]:
        case, _, number = run["case"].partition(", ")
        if case == "nothing" and run["code"] == 0:
            found[run["tool"]][int(number)].append(run["seconds"])
    return {tool: {x: statistics.median(ys) for x, ys in sorted(points.items())} for tool, points in found.items()}


def draw(data: dict[str, Any], target: Path) -> None:
    """A line a tool, both axes in powers of ten."""
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for tool, points in curves(data).items():
        axes.loglog(list(points), list(points.values()), marker="o", label=tool)
    axes.set_xlabel(LABELS[data["part"]])
    axes.set_ylabel(MEASURED.get(data["part"], "seconds for a run that changes nothing"))
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend()
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    source = Path(sys.argv[1])
    draw(json.loads(source.read_text()), Path(sys.argv[2]) / f"{source.stem}.svg")
