"""What was measured, on paper: JSON, and between two marks of a page in docs/ the tables made of it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fabfile.engine.report import counted

from ..lab.machine import CHECKOUT
from . import served, sums, walls
from .running import STOPPED
from .sums import Runs, values
from .toolkit import NOTHING
from .tools import PEERS, install

PAGE = CHECKOUT / "docs" / "performance.md"
FRONT = CHECKOUT / "README.md"
PAGES = {"isolation": CHECKOUT / "docs" / "isolation.md"}
DATA = CHECKOUT / "docs" / "performance"
PLOTTED = ("fleet", "growth", "isolation", "stack", "toolkit")


def write(data: Mapping[str, Any]) -> None:
    """Keep a part's figures beside the page, and put its tables into the page."""
    DATA.mkdir(exist_ok=True)
    file = DATA / f"{data['part']}.json"
    file.write_text(json.dumps(data, indent=1) + "\n")
    if data["part"] in PLOTTED:
        python, plots = install("plots") / "python", PEERS.parent / "plots.py"
        subprocess.run([str(python), str(plots), str(file), str(DATA)], check=True)
    page = PAGES.get(data["part"], PAGE)
    page.write_text(placed(page.read_text(), data["part"], tables(data)))
    if data["part"] in QUOTED and not data["busy"]:
        FRONT.write_text(placed(FRONT.read_text(), data["part"], QUOTED[data["part"]](data)))


def placed(page: str, part: str, text: str) -> str:
    """The page with this text between the part's marks.  Raises ValueError where it has none."""
    begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
    if begin not in page or end not in page:
        raise ValueError(f"the page has no marks for {part}")
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n\n{text}\n{end}", page, flags=re.DOTALL)


def tables(data: Mapping[str, Any]) -> str:
    """A part's tables, under a line about when and where."""
    data = json.loads(json.dumps(data))  # as who reads the file would have it
    told = [f"Measured {data['date']} on {data['shape']}; load before {data['load']:.1f}."]
    if data["busy"]:
        told.append(f"\n**Not to be quoted**: {data['busy']}.")
    return "\n".join([*told, "", PARTS[data["part"]](data)])


def took(runs: Runs, tool: str, case: str) -> list[float]:
    """The seconds of a tool's runs of a case that succeeded."""
    return values(runs, tool, case, "seconds")


def cell(runs: Runs, tool: str, case: str, base: str = "") -> str:
    """Median, spread, and how many times as long as `base`'s."""
    values, over = took(runs, tool, case), ""
    if not values:
        ended = [run for run in runs if (run["tool"], run["case"]) == (tool, case)]
        if not ended or ended[0]["code"] != STOPPED:
            return f"failed ({ended[0]['code']})" if ended else ""
        values, over = [run["seconds"] for run in ended], "over "
    shown = over + sums.seconds(sums.median(values))
    if within := sums.spread(values):
        shown += f" ({within})"
    others = took(runs, base, case) if base and base != tool else []
    return shown + (f", {over}{sums.ratio(sums.median(values), sums.median(others))}" if others else "")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _toolkit(data: Mapping[str, Any]) -> str:
    runs, names = data["runs"], list(data["versions"])
    cases = list(dict.fromkeys(run["case"] for run in runs))
    rows = [[name, *(cell(runs, name, case, "gatehouse") for case in cases)] for name in names]
    more = []
    for name in names:
        memory = max((run["memory"] for run in runs if run["tool"] == name), default=0)
        went = data["turns"].get(name, {})
        over = "over " if went and any(run["tool"] == name and run["code"] == STOPPED for run in runs) else ""
        cpu = values(runs, name, NOTHING, "cpu")
        more.append([
            name, data["versions"][name], str(data["same"].get(name, "")), f"{over}{went.get('turns', '')}",
            str(went.get("connections", "")), f"{over}{went.get('bytes', 0) / 1024:.0f}", f"{memory:.0f}",
            sums.seconds(sums.median(cpu)) if cpu else "",
        ])  # fmt: skip
    counts = ", ".join(f"{count} {name}" for name, count in data["resources"].items() if count and name != "all")
    head = ["", "version", "resources right", "round trips", "connections", "KiB", "MB at the peak", "CPU s"]
    aside = sum(data["steps"].get(name, 0) for name in ("cert.issue", "system.update"))
    return "\n".join([
        "Seconds: the median (least-most), and how many times as long as Gatehouse.\n",
        table(["seconds", *cases], rows),
        "![Seconds by tool and case](performance/toolkit.svg)\n",
        f"The resources: {data['resources'].get('all', 0)} ({counts}). Of Gatehouse's first run {aside:.0f} s are the "
        "order of the certificates and Debian's updates, which no peer does.\n",
        "What a run that changes nothing costs; the round trips, handshake included, as a proxy on the way saw them:\n",
        table(head, more),
    ])  # fmt: skip


def _in_short(data: Mapping[str, Any]) -> str:
    """What the front page quotes: seconds, and how many times as long as Gatehouse."""
    runs = data["runs"]
    cases = list(dict.fromkeys(run["case"] for run in runs))
    rows = [[OWN.get(name, version), *(_quoted(runs, name, case) for case in cases)]
            for name, version in data["versions"].items()]  # fmt: skip
    return "\n".join([
        f"Ten sites on one host, the same {data['resources'].get('all', 0)} resources by each tool: seconds, and how "
        f"many times as long as Gatehouse ({data['date']}, {data['shape']}, which is controller and host at once).\n",
        table(["seconds", *cases], rows),
    ])  # fmt: skip


def _quoted(runs: Runs, name: str, case: str) -> str:
    values, own = took(runs, name, case), took(runs, "gatehouse", case)
    if not values or not own or name == "gatehouse":
        return cell(runs, name, case).partition(" (")[0]
    return f"{sums.seconds(sums.median(values))} ({sums.ratio(sums.median(values), sums.median(own))})"


def _growth(data: Mapping[str, Any]) -> str:
    runs, sizes = data["runs"], data["sizes"]
    names = list(dict.fromkeys(run["tool"] for run in runs))
    rows = [[f"{name}: nothing to change", *(cell(runs, name, f"nothing, {size}") for size in sizes)] for name in names]
    rows += [["gatehouse: one site more", *(cell(runs, "gatehouse", f"one more, {size}") for size in sizes)]]
    least, most = data["memory"][str(sizes[0])], data["memory"][str(sizes[-1])]
    a_site = (sum(most.values()) - sum(least.values())) / max(sizes[-1] - sizes[0], 1)
    reloads = ", ".join(f"{name} {sums.seconds(took)} s" for name, took in data["reloads"].items())
    return "\n".join([
        "Seconds by the number of sites: the median (least-most).\n",
        table(["", *(counted(size, "site") for size in sizes)], rows),
        f"With {sizes[-1]} sites a reload takes: {reloads}. An idle site takes {a_site:.2f} MB "
        "of all daemons together.\n",
        "![Seconds for a run that changes nothing, by sites](performance/growth.svg)\n",
    ])  # fmt: skip


def _fleet(data: Mapping[str, Any]) -> str:
    runs, sizes = data["runs"], data["sizes"]
    rows = []
    for name in data["versions"]:
        last = [run for run in runs if (run["tool"], run["case"]) == (name, f"nothing, {sizes[-1]}")]
        cpu, memory = (max((run[key] for run in last), default=0) for key in ("cpu", "memory"))
        cells = (cell(runs, name, f"nothing, {size}", "gatehouse") for size in sizes)
        rows.append([name, data["versions"][name], *cells, sums.seconds(cpu), f"{memory:.0f}" if memory else ""])
    head = ["seconds", "version", *(counted(size, "host") for size in sizes), "CPU s", "MB at the peak"]
    odd = ", ".join(f"with {case} {cell(runs, 'gatehouse', case)}" for case in ("one gone", "one slow"))
    return "\n".join([
        "Seconds for a run that changes nothing: the median (least-most), and how many times as long as Gatehouse; the "
        f"controller's CPU and memory with {sizes[-1]} hosts. What was stopped took `over` so long.\n",
        table(head, rows),
        f"Gatehouse over {sizes[-1]} hosts, {odd} s.\n",
        "![Seconds for a run that changes nothing, by hosts](performance/fleet.svg)\n",
    ])  # fmt: skip


def _isolation(data: Mapping[str, Any]) -> str:
    return walls.tables(data, table)


def _stack(data: Mapping[str, Any]) -> str:
    return served.tables(data, table)


OWN = {"gatehouse": "Gatehouse", "shell": "a shell script", "ssh host true": "`ssh host true`"}
"""Who has no version that a stranger would look for."""

QUOTED: dict[str, Callable[[Mapping[str, Any]], str]] = {"toolkit": _in_short}

PARTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "toolkit": _toolkit,
    "fleet": _fleet,
    "growth": _growth,
    "isolation": _isolation,
    "stack": _stack,
}
