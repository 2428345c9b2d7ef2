"""What `scripts/bench stack` saw, as the tables of docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from . import sums
from .sums import Runs, values

Table = Callable[[Sequence[str], Iterable[Sequence[str]]], str]

BASE = "apache"
"""Debian's Apache with mod_php, as the base of the ratios."""

CASES = {
    "static": "a file, 10 KB",
    "cached": "a page of {} ms work, which may be kept",
    "waiting": "a page that waits {} ms, which may be kept",
    "uncached": "the page of {} ms work, which may not",
    "handshakes": "a new connection, full handshake",
    "resumed": "a new connection, resumed",
}
PAGES = ("static", "cached", "waiting", "uncached")


def cell(runs: Runs, tool: str, case: str, what: str, ratio: bool = True) -> str:
    """Median, spread, and how many times as much as BASE; `failed`, where it was tried."""
    seen = values(runs, tool, case, what)
    if not seen:
        return "failed" if any((run["tool"], run["case"]) == (tool, case) for run in runs) else ""
    shown = sums.seconds(sums.median(seen))
    if within := sums.spread(seen):
        shown += f" ({within})"
    base = values(runs, BASE, case, what) if ratio and tool != BASE else []
    if base and sums.median(base) > 0:
        shown += f", {sums.ratio(sums.median(seen), sums.median(base))}"
    failed = sum(values(runs, tool, case, "failed")) if what in ("rate", "p99") else 0
    return shown + (f", {failed:.0f} refused" if failed else "")


def tables(data: Mapping[str, Any], table: Table) -> str:
    """Requests, waiting, processor, memory, crowds; and what the targets are about, in words."""
    runs, names = data["runs"], data["names"]
    long = {case: text.format(data["milliseconds"]) for case, text in CASES.items()}

    def rows(what: str, cases: Iterable[str], end: str = "") -> list[list[str]]:
        return [[long[case], *(cell(runs, name, case + end, what) for name in names)] for case in cases]

    head = ["", *names.values()]
    paced = [[f"{long[case]}; {data['rates'][case]} a second",
              *(cell(runs, name, f"{case}, paced", "p99") for name in names)] for case in PAGES]  # fmt: skip
    return "\n".join([
        f"Requests a second over {data['at_once']} connections, and handshakes a second of four clients: the median of "
        "the rounds (least-most), and how many times as much as Apache with mod_php. The client runs on the same "
        "cores as the server, so the fastest wait for their client. All speak HTTP/1.1 over TLS 1.3 and "
        "take gzip, as browsers do.\n",
        table(head, rows("rate", CASES)),
        "Milliseconds within which 99 of 100 are answered, at a rate that all can hold:\n",
        table(head, paced),
        "Seconds of a processor that the server's host takes for 1,000 of them:\n",
        table(head, rows("cpu", CASES)),
        "Crowds. An honest visitor from another address asks four times a second for the page that may not be kept, "
        "and waits ten seconds at most:\n",
        table(head, _crowds(data)),
        _words(data),
        "![Requests a second, by server](performance/stack.svg)\n",
        "Measured: " + "; ".join(f"{names[name]}: {found}" for name, found in data["versions"].items()) + ".\n",
        *_failures(runs, names),
    ])  # fmt: skip


def _crowds(data: Mapping[str, Any]) -> list[list[str]]:
    runs, names = data["runs"], data["names"]

    def row(text: str, case: str, show: Callable[[Mapping[str, Any]], str]) -> list[str]:
        cells = []
        for name in names:
            tried = [run for run in runs if (run["tool"], run["case"]) == (name, case)]
            good = [run for run in tried if run["code"] == 0]
            cells.append(show(good[0]) if good else "failed" if tried else "")
        return [text, *cells]

    def luck(run: Mapping[str, Any]) -> str:
        shown = f"{run['served']:.0f} of {run['asked']:.0f} served"
        return shown + (f", {run['middle']:.0f} ms, at worst {run['worst']:.0f}" if run["served"] else "")

    idle, slow = f"{data['idle']:,} keep-alive clients", f"{data['slow']:,} slow heads"
    return [
        row("MB of all daemons, before anybody comes", "rest", lambda run: f"{run['memory']:.0f}"),
        row(f"{idle}: MB", "idle", lambda run: f"{run['memory']:.0f}"),
        row(f"{idle}: connections held", "idle", lambda run: f"{run['held']}, {run['crowd']} clients served"),
        row(f"{idle}: the honest visitor", "idle", luck),
        row(f"{slow}: of them still open at the end", "slow", lambda run: str(run["connected"])),
        row(f"{slow}: the honest visitor", "slow", luck),
    ]


def _words(data: Mapping[str, Any]) -> str:
    """The targets' own figures."""
    runs, told = data["runs"], []
    own, base = (values(runs, name, "cached", "rate") for name in ("gatehouse", BASE))
    if own and base:
        times = sums.ratio(sums.median(own), sums.median(base))
        told.append(f"A page of {data['milliseconds']} ms that may be kept is served {times} as often as by Debian's "
                    "Apache with mod_php.")  # fmt: skip
    if site := values(runs, "gatehouse", "sites", "site"):
        told.append(f"An idle site takes {sums.median(site):.2f} MB of all daemons together, as nine more sites show.")
    return " ".join(told) + "\n"


def _failures(runs: Runs, names: Mapping[str, str]) -> list[str]:
    """What could not be measured, and why."""
    said = [f"- {names[run['tool']]}, {run['case']}: {' '.join(run['said'].split())[:200]}"
            for run in runs if run["code"]]  # fmt: skip
    return ["Not measured:\n", *said, ""] if said else []
