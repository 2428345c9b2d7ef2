"""What `scripts/bench isolation` saw, as the tables of docs/isolation.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .sums import median

Table = Callable[[Sequence[str], Iterable[Sequence[str]]], str]


def tables(data: Mapping[str, Any], table: Table) -> str:
    """The runtimes side by side; memory by number of sites; what a greedy site does to the one beside it."""
    modes, sieges = data["modes"], data["sieges"]
    head = ["`runtime:`", "requests a second", "99 of 100 within", "first request", "processes a site", "MB a site",
            "attacks stopped", "got through"]  # fmt: skip
    rows = [[f"`{word}`", *_mode(one)] for word, one in modes.items()]
    counts = sorted({count for one in modes.values() for count in one["grown"]["sites"]})
    grown = [[f"`{word}`", *(_grown(one["grown"], count) for count in counts)] for word, one in modes.items()]
    hungers = list(dict.fromkeys(name for one in sieges.values() for name in one))
    greedy = [[f"`{word}`", *_sieges(one, hungers)] for word, one in sieges.items()]
    return "\n".join([
        "One page that says `plain`, asked for over four connections at once, on the host itself; the first request is "
        "one for which something must start. Processes and MB are of a site among ten where nobody comes.\n",
        table(head, rows),
        "MB of Apache, PHP-FPM and all the sites' programs together, after a visit to each and once nobody comes:\n",
        table(["", *(f"{count} site{'s' * (count > 1)}" for count in counts)], grown),
        "![MB by the number of sites, for each runtime](performance/isolation.svg)\n",
        "Milliseconds within which 99 of 100 visits to a site of PHP are answered, TLS and all, in peace (the median "
        "of five times) and while the site beside it, of that runtime, takes all it can of one thing (for twenty "
        "visitors, who come back a second after each answer):\n",
        table(["", "in peace", *hungers], greedy),
    ])  # fmt: skip


def _mode(one: Mapping[str, Any]) -> Iterable[str]:
    idle, processes = (_a_site(one["grown"], name) for name in ("idle", "processes"))
    first = "not measured" if one["first"] is None else f"{one['first']:.0f} ms"
    yield from (f"{one['rate']:.0f}", f"{one['p99']:.1f} ms", first)
    yield from (f"{processes:.0f}", f"{idle:.1f}", str(one["stopped"]), str(one["reached"]))


def _a_site(grown: Mapping[str, Sequence[float]], name: str) -> float:
    """What one more site adds, from the first to the tenth."""
    values, sites = grown[name], grown["sites"]
    return (values[1] - values[0]) / (sites[1] - sites[0])


def _grown(grown: Mapping[str, Sequence[float]], count: int) -> str:
    if count not in grown["sites"]:
        return "not tried"
    at = list(grown["sites"]).index(count)
    return f"{grown['visited'][at]:.0f}, {grown['idle'][at]:.0f}"


def _sieges(one: Mapping[str, Any], hungers: Iterable[str]) -> Iterable[str]:
    peace = max(median([siege["before"]["p99"] for siege in one.values()]), 0.1)
    yield f"{peace:.0f}"
    for name in hungers:
        during = one[name]["during"]
        lost = f", {during['failed']} failed" if during["failed"] else ""
        yield f"{during['p99']:.0f} ({during['p99'] / peace:.1f} x){lost}"
