"""What Varnish has kept, and what it was good for."""

from __future__ import annotations

import json as json_
from typing import Any, NamedTuple

from ..engine import Host, Problem, StepFailed, as_data, console, query

# Three answers in one, each a JSON document on lines of its own.
QUESTION = """
varnishstat -j -t 5 && printf '\\0' && varnishadm -t 5 backend.list -j && printf '\\0' && varnishadm -t 5 ban.list -j
"""


class Stats(NamedTuple):
    """Counts since Varnish's child started, `seconds` ago; memory in MB; each backend healthy or sick."""

    host: str
    seconds: int
    hits: int
    misses: int
    passes: int
    objects: int
    evicted: int
    memory_mb: int
    memory_free_mb: int
    bans: int
    backends: dict[str, str]

    @property
    def rate(self) -> str:
        """How many of all requests were answered from the cache."""
        asked = self.hits + self.misses + self.passes
        return f"{100 * self.hits / asked:.1f}% of {asked}" if asked else "nothing asked yet"


@query(help={"json": "print the same as JSON"})
def stats(c, json=False):
    """On call: how much Varnish answers by itself, what it keeps, how full it is, and whether it reaches Apache."""
    host = Host.of(c)
    found = read_stats(host.name, _asked(host))
    if json:
        print(json_.dumps(as_data(found), indent=2))
        return
    lines = {
        "answered from the cache": f"{found.rate} requests in {found.seconds} s",
        "hits, misses, passes": f"{found.hits}, {found.misses}, {found.passes}",
        "kept": f"{found.objects} objects, {found.memory_mb} MB; {found.memory_free_mb} MB are free",
        "thrown out for want of room": f"{found.evicted}",
        "bans at work": f"{found.bans}",
        "backends": ", ".join(f"{name} {state}" for name, state in found.backends.items()),
    }
    for what, value in lines.items():
        console.print(f"{what:<29}{value}", markup=False)


def read_stats(host: str, answer: str) -> Stats:
    """What varnishstat(1) and varnishadm's `-j` (varnish-cli(7)) printed, between NUL bytes."""
    counted, backends, bans = (json_.loads(part) for part in answer.split("\0"))
    counters = counted["counters"]

    def value(name: str) -> int:
        return int(counters[name]["value"]) if name in counters else 0

    return Stats(
        host,
        value("MAIN.uptime"),
        value("MAIN.cache_hit"),
        value("MAIN.cache_miss"),
        value("MAIN.s_pass"),
        value("MAIN.n_object"),
        value("MAIN.n_lru_nuked"),
        value("SMA.s0.g_bytes") >> 20,
        value("SMA.s0.g_space") >> 20,
        sum(not ban.get("completed", False) for ban in _documents(bans)),
        {name.partition(".")[2]: _state(told) for part in _documents(backends) for name, told in part.items()},
    )


def _documents(told: list[Any]) -> list[dict[str, Any]]:
    """What varnishadm -j prints is a list: a version, the words of the command, a time, then what was asked for."""
    return [part for part in told if isinstance(part, dict)]


def _state(told: dict[str, Any]) -> str:
    probe = told.get("probe_message")
    return str(probe[-1] if isinstance(probe, list) else probe or told.get("admin_health", "unknown"))


def _asked(host: Host) -> str:
    try:
        return host.ask(QUESTION)
    except StepFailed as error:
        raise Problem(f"Varnish on {host.name} gives no answer", f"fab -H {host.name} varnish", error.details) from None
