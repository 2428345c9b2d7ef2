"""One host with more and more sites: nothing to change, one site more; what daemons take for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..lab.machine import Machine
from . import quiet
from .ground import Ground
from .running import Run, going_on, run, stopped
from .sums import interleaved
from .tools import PYTHON, Place, floor, tools

SIZES = (1, 10, 100, 1000)
LIMITS = {"mitogen": 100, "pyinfra": 100, "ansible": 100}
"""Sites up to which a peer is asked; beyond, it would take hours."""

PATIENCE = 480
"""Seconds after which a peer is told to stop; its row then says "over"."""

DAEMONS = ("haproxy", "varnish", "apache2", "php8.4-fpm", "redis-server", "fail2ban")


def measure(rounds: int) -> dict[str, Any]:
    """All of it.  The peers find all as it should be too: they are run on the product's own host."""
    by_name = tools()
    runs: list[Run] = []
    memory: dict[int, dict[str, float]] = {}
    reloads: dict[str, float] = {}

    def one(name: str, case: str, place: Place, limit: float = 1800, more: Sequence[str] = ()) -> Run:
        tool = by_name.get(name) or floor()
        done = run(name, case, [*tool.line(place), *more], env=tool.env, limit=limit)
        if done.code == 0 and case.startswith("nothing") and not tool.kept_all(done.said):
            done.code = 99
        runs.append(done)
        done.tell()
        return done

    with Ground() as ground, going_on(), stopped():
        machine = ground.host("gatehouse")
        for sites in SIZES:
            config = ground.config("gatehouse", sites)
            done = one("gatehouse", f"up to {sites}", Place(config, "gatehouse", config.parent), more=["--json"])
            if done.code:
                raise RuntimeError(f"{sites} sites could not be made:\n{done.said[-3000:]}")
            if sites == SIZES[0]:
                ground.first(done.said)
                ground.install(machine, PYTHON)
            place = Place(config, "gatehouse", ground.manifest("gatehouse", sites))
            memory[sites] = taken(machine)
            names = [name for name in by_name if sites <= LIMITS.get(name, SIZES[-1]) and name != "shell"]
            often = {name: 2 * rounds - 1 if name not in LIMITS else 1 for name in (floor().name, *names)}
            quiet.calm()
            for _, name in interleaved([*often], often):
                one(name, f"nothing, {sites}", place, PATIENCE)
            for more in range(1, rounds + 1):
                ground.config("gatehouse", sites + more)
                one("gatehouse", f"one more, {sites}", place)
        reloads.update({name: reload(machine, name) for name in DAEMONS})
    return {
        "part": "growth",
        "shape": quiet.shape(),
        "versions": {tool.name: tool.version for tool in (floor(), *by_name.values())},
        "sizes": [*memory],
        "memory": memory,
        "reloads": reloads,
        "runs": [each.as_data() for each in runs],
    }


def taken(machine: Machine, daemons: Sequence[str] = DAEMONS) -> dict[str, float]:
    """MB that each daemon has for itself now, its pages shared with others counted once."""
    asked = 'group=$(systemctl show -p ControlGroup --value "$1"); [ -z "$group" ] || for pid in $('
    asked += 'find "/sys/fs/cgroup$group" -name cgroup.procs -exec cat {} +); do cat "/proc/$pid/smaps_rollup"; done'
    found = {}
    for name in daemons:
        said = machine.exec(f"set -- {name}; {{ {asked}; }} 2>/dev/null").out
        found[name] = sum(int(line.split()[1]) for line in said.splitlines() if line.startswith("Pss:")) / 1024
    return found


def reload(machine: Machine, name: str) -> float:
    """Seconds until a daemon has taken all its files again."""
    clock = "date +%s%N"
    said = machine.check(f"s=$({clock}); systemctl reload-or-restart {name}; e=$({clock}); echo $(((e - s) / 1000))")
    return int(said) / 1_000_000
