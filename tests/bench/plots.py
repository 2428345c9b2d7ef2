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

LABELS = {"growth": "sites on the host", "fleet": "hosts", "isolation": "sites on the host"}
MEASURED = {"isolation": "MB of Apache, PHP-FPM and the sites' programs, idle"}

BARS = {"stack": ("rate", "requests, or connections, a second")}
"""What is drawn of a run, and its name, where it is not its seconds."""


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


def bars(data: dict[str, Any], target: Path) -> None:
    """A group of bars a case, a bar a tool; seconds, or requests a second, in powers of ten."""
    what, told = BARS.get(data["part"], ("seconds", "seconds"))
    runs = [run for run in data["runs"] if run["code"] == 0 and what in run]
    cases = list(dict.fromkeys(run["case"] for run in runs))[::-1]
    tools = data.get("names") or {name: name for name in data["versions"]}
    figure, axes = pyplot.subplots(figsize=(8, 1 + len(cases) * 1.1), layout="constrained")
    for place, tool in enumerate(tools):
        by_case = [[run[what] for run in runs if (run["tool"], run["case"]) == (tool, case)] for case in cases]
        medians = [statistics.median(values) if values else 0 for values in by_case]
        heights = [row + 0.4 - (place + 0.5) * 0.8 / len(tools) for row in range(len(cases))]
        drawn = axes.barh(heights, medians, height=0.75 / len(tools), label=tools[tool])
        axes.bar_label(drawn, [f"{value:.3g}" if value else "" for value in medians], padding=2, fontsize=7)
    axes.set_xscale("log")
    axes.set_yticks(range(len(cases)), cases)
    axes.set_xlabel(told)
    axes.margins(x=0.1)
    figure.legend(loc="outside upper center", ncols=len(tools), fontsize=8)
    figure.savefig(target, metadata={"Date": None})


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
    seen = json.loads(source.read_text())
    (bars if seen["part"] in ("stack", "toolkit") else draw)(seen, Path(sys.argv[2]) / f"{source.stem}.svg")
