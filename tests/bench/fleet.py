"""Many hosts, nothing to change on any: `inv fleet.bootstrap` beside as many plain ssh; one gone, one slow."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..lab.lab import Picture
from ..lab.machine import CHECKOUT, Machine
from . import quiet
from .ground import Ground
from .running import Run, going_on, run, stopped
from .sums import interleaved
from .tools import Place, Tool, tools
from .wanted import Manifest

SIZES = (1, 5, 20, 50)
SITES = 10
LIMITS = {"mitogen": 20, "pyinfra": 20, "ansible": 5}
"""Hosts up to which a peer is waited for; beyond, it is stopped once it took so many times as long as Gatehouse."""

ENOUGH = 16
FLOOR = "ssh, the same look"
LOOK = CHECKOUT / "fabfile" / "engine" / "shell" / "look.sh"
FIRST = "the-first"
"""A name that stands in no file for any other reason."""

KEPT = r" web +0 +\d+ +[\d.]+ +well"
"""The line of a host that was kept as it was, in what `inv fleet.bootstrap` says at its end."""

SLOW = 1000
"""Milliseconds to the slow host and back."""


def measure(rounds: int) -> dict[str, Any]:
    """All of it.  The hosts are copies of one that was bootstrapped, each with systemd and all its daemons."""
    by_name = tools()
    with Ground() as ground, _grown(ground, by_name["gatehouse"]) as (picture, manifest):
        fleet = Fleet(ground, by_name, manifest)
        with stopped(), going_on():
            for size in SIZES:
                fleet.have(size, picture)
                fleet.nothing(size, rounds)
            for _ in range(rounds):
                fleet.one_gone()
                fleet.one_slow()
    return {
        "part": "fleet",
        "shape": quiet.shape(),
        "versions": {FLOOR: "OpenSSH"} | {name: tool.version for name, tool in by_name.items() if name != "shell"},
        "sizes": SIZES,
        "runs": [each.as_data() for each in fleet.runs],
    }


@contextmanager
def _grown(ground: Ground, gatehouse: Tool) -> Iterator[tuple[Picture, Path]]:
    """What a bootstrapped host looks like, and what a peer must wish on one.

    A copy has its files' times in whole seconds, so its daemons take them again once.  The copy of that one is as it
    should be.
    """
    first = ground.host(FIRST)
    ground.named(first)
    ground.settled(FIRST, SITES, gatehouse)
    ground.open_to_peers(first)
    manifest = ground.manifest(FIRST, SITES)
    _shared(manifest)
    with ground.lab.picture(first) as picture:
        (again,) = ground.lab.copies(picture, ["again"])
        ground.settled("again", SITES, gatehouse)
        with ground.lab.picture(again) as settled:
            for machine in (first, again):
                ground.lab.remove(machine)
            yield settled, manifest


def _shared(place: Path) -> None:
    """Leave out of a manifest what names its host: every host has its own."""
    manifest = Manifest.read(place)
    own = [row for row in manifest.files if FIRST.encode() in (place / "files" / row["source"]).read_bytes()]
    replace(manifest, files=[row for row in manifest.files if row not in own]).write(place, {})


class Fleet:
    """Hosts that are copies of one another, and what is run over all of them."""

    def __init__(self, ground: Ground, by_name: Mapping[str, Tool], manifest: Path) -> None:
        self.ground, self.lab, self.tools, self.manifest = ground, ground.lab, by_name, manifest
        self.place = self.lab.directory / "of-all"
        self.runs: list[Run] = []
        self.hosts: list[Machine] = []

    def have(self, size: int, picture: Picture) -> None:
        """So many hosts."""
        self.hosts += self.lab.copies(picture, [f"h{number}" for number in range(len(self.hosts) + 1, size + 1)])
        self.describe()
        done = run("gatehouse", f"make {size}", self.bootstrap())  # what names its host, each gets then
        done.tell()
        if done.code:
            raise RuntimeError(f"{size} hosts could not be made")

    def describe(self) -> None:
        """What a person and the tools read."""
        roles = {machine.name: {"roles": ["web"]} for machine in self.hosts}
        self.lab.describe(self.place, sites=self.lab.directory / f"of-{FIRST}" / "sites", hosts=roles)

    def nothing(self, size: int, rounds: int) -> None:
        """Nothing is to be changed on any of them."""
        quiet.calm(300)
        case = f"nothing, {size}"
        for _, name in interleaved(["gatehouse", FLOOR], dict.fromkeys(("gatehouse", FLOOR), rounds)):
            self.gatehouse(case) if name == "gatehouse" else self.floor(case)
        long = ENOUGH * max(done.seconds for done in self.runs if (done.tool, done.case) == ("gatehouse", case))
        for name, most in LIMITS.items():
            if size <= most or size == SIZES[-1]:
                self.peer(name, case, 900 if size <= most else long)

    def one_gone(self) -> None:
        """One of them does not answer: the others' time is what counts."""
        self.hosts[-1].container.pause()
        try:
            self.gatehouse("one gone", expected=1)
        finally:
            self.hosts[-1].container.unpause()

    def one_slow(self) -> None:
        """One of them is at the end of a long line."""
        name = self.hosts[-1].name
        near = self.lab.directory / f"of-{name}"
        self.lab.describe(near, sites=self.lab.directory / f"of-{FIRST}" / "sites")
        config = self.place / "ssh_config"
        with self.ground.far(name, SLOW) as (far, _):
            config.write_text(config.read_text().partition(f"Host {name}\n")[0] + far.read_text())
            self.gatehouse("one slow")
        self.describe()

    def bootstrap(self) -> list[str]:
        """What a person types for all of them."""
        return [str(Path(sys.executable).parent / "inv"), "fleet.bootstrap", "--fleet", str(self.place / "fleet.yml")]

    def gatehouse(self, case: str, expected: int = 0) -> None:
        """`inv fleet.bootstrap` over all of them."""
        self._one("gatehouse", case, self.bootstrap(), 900, expected)

    def floor(self, case: str) -> None:
        """The same look, by as many ssh as there are hosts."""
        there = 'd=$(mktemp -d) && cd "$d" && cat > look && sh ./look "$1" > /dev/null; rm -rf "$d"'
        there = f'sudo sh -c {shlex.quote(there)} look "$SSH_CONNECTION"'
        config = shlex.quote(str(self.place / "ssh_config"))
        one = f'ssh -F {config} "$host" {shlex.quote(there)} < {shlex.quote(str(LOOK))} & all="$all $!"'
        names = " ".join(machine.name for machine in self.hosts)
        every = f"for host in {names}; do {one}; done; for one in $all; do wait $one || exit 1; done"
        self._one(FLOOR, case, ["bash", "-c", every], 900)

    def peer(self, name: str, case: str, limit: float) -> None:
        """A peer over all of them, twenty at a time where it has a number for that."""
        names = ",".join(machine.name for machine in self.hosts)
        line = self.tools[name].line(Place(self.place / "ssh_config", names, self.manifest))
        self._one(name, case, line, limit)

    def _kept(self, name: str, said: str, gone: int) -> bool:
        """Whether it found each of them, but for those that are gone, and changed nothing there."""
        if name == "gatehouse":
            return len(re.findall(KEPT, said)) == len(self.hosts) - gone
        return name == FLOOR or self.tools[name].kept_all(said)

    def _one(self, name: str, case: str, line: list[str], limit: float, expected: int = 0) -> None:
        env = self.tools[name].env if name in self.tools else {}
        done = run(name, case, line, env=env, limit=limit, memory=name != FLOOR)
        done.code = 0 if done.code == expected and self._kept(name, done.said, expected) else done.code or 99
        self.runs.append(done)
        done.tell()
        if done.code:
            (self.lab.directory / f"failed-{name}.log").write_text(done.said)
            print(done.said[-1500:], file=sys.stderr, flush=True)
