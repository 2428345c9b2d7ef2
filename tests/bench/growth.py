"""One host with more and more sites: nothing to change, one site more; what daemons take for it.

The CA issues for ten and for each one more; the rest have certificates that were made on the host, since a thousand
orders take a quarter of an hour and are not what this is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fabfile.cert import REQUESTS, SHELF, stamp
from fabfile.model import find_fleet

from ..lab.machine import CGROUPS, Machine
from . import quiet
from .ground import Ground
from .running import Run, going_on, run, stopped
from .sums import interleaved
from .tools import Place, floor, tools

SIZES = (1, 10, 100, 1000)
ORDERED = 10
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
        ground.named(machine)
        for sites in SIZES:
            config = ground.config("gatehouse", sites)
            if sites > ORDERED:
                certified(machine, config)
            done = one("gatehouse", f"up to {sites}", Place(config, "gatehouse", config.parent), more=["--json"])
            if done.code:
                raise RuntimeError(f"{sites} sites could not be made:\n{done.said[-3000:]}")
            if sites == SIZES[0]:
                ground.first(done.said)
                ground.open_to_peers(machine)
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


MAKE = f"""umask 077
openssl ecparam -name prime256v1 -genkey -noout -out /tmp/key
while read -r site names; do
    alias=$(printf '%s\\n' "$names" | sed 's/[^ ]*/DNS:&/g; s/ /,/g')
    openssl req -x509 -key /tmp/key -days 80 -subj "/CN=$site" -addext "subjectAltName=$alias" > "/tmp/$site"
    cat /tmp/key >> "/tmp/$site"
    mv "/tmp/$site" "{SHELF}/$site.pem"
done
"""


def certified(machine: Machine, config: Path) -> None:
    """Sites that have none yet have a certificate, as if they had ordered it."""
    fleet = find_fleet(config)
    there = set(machine.check(f"ls {SHELF}").split())
    new = [site for site in fleet.sites_for("gatehouse") if f"{site}.pem" not in there]
    machine.put({"/tmp/make": MAKE.encode()})
    machine.check("sh /tmp/make", stdin="".join(f"{site} {' '.join(site.names)}\n" for site in new), timeout=600)
    machine.put({f"{REQUESTS}/{site}.issued": stamp(fleet, site).encode() for site in new})


def taken(machine: Machine, daemons: Sequence[str] = DAEMONS) -> dict[str, float]:
    """MB that each daemon has for itself now, its pages shared with others counted once."""
    asked = 'group=$(systemctl show -p ControlGroup --value "$1"); [ -z "$group" ] || for pid in $('
    asked += f'find "{CGROUPS}$group" -name cgroup.procs -exec cat {{}} +); do cat "/proc/$pid/smaps_rollup"; done'
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
