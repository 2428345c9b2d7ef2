"""Many hosts: nothing to change on any of them, beside the same look by as many plain ssh; one gone, one slow."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..lab.machine import CHECKOUT, Machine
from . import quiet
from .ground import Ground
from .running import Run, run
from .sums import interleaved
from .tools import PEERS, Place, Tool, tools, venv

SIZES = (1, 5, 20, 50)
SITES = 10
LIMITS = {"mitogen": 20, "pyinfra": 20, "ansible": 5}
"""Hosts up to which a peer is asked to the end; at SIZES[-1] it is given PATIENCE."""

PATIENCE = 300
LOOK = CHECKOUT / "fabfile" / "engine" / "shell" / "look.sh"
FLOOR = "ssh, the same look"


@dataclass(frozen=True)
class Copy:
    """An image of a host that is as it should be."""

    tag: str
    suite: str = "trixie"


def measure(rounds: int) -> dict[str, Any]:
    """All of it.  The hosts are copies of one that was bootstrapped: each with systemd and all its daemons."""
    by_name = tools()
    with Ground() as ground:
        fleet = Fleet(ground, by_name)
        fleet.grow()
        for size in SIZES:
            fleet.have(size)
            fleet.nothing(size, rounds)
        fleet.one_gone()
        fleet.one_slow()
    return {
        "part": "fleet",
        "shape": quiet.shape(),
        "versions": {tool.name: tool.version for tool in by_name.values()},
        "sizes": SIZES,
        "runs": [each.as_data() for each in fleet.runs],
    }


class Fleet:
    """Hosts that are copies of one another."""

    def __init__(self, ground: Ground, by_name: dict[str, Tool]) -> None:
        self.ground, self.lab, self.tools = ground, ground.lab, by_name
        self.runs: list[Run] = []
        self.hosts: list[Machine] = []
        self.copy = Copy("")
        self.manifest = Path()

    def one(self, name: str, case: str, line: list[str], limit: float = 900, **env: str) -> Run:
        """One run of one tool."""
        done = run(name, case, line, env=env, limit=limit, memory=name != FLOOR)
        self.runs.append(done)
        print(f"{case:26}  {name:14}  {done.seconds:8.2f} s  exit {done.code}", file=sys.stderr, flush=True)
        if done.code:
            print(done.said[-1500:], file=sys.stderr, flush=True)
        return done

    def grow(self) -> None:
        """The first host, and the image of it.  A copy has its files' times in whole seconds: its daemons take them
        again once, and the copy of that one is as it should be.
        """
        first = self.ground.host("gatehouse", named=False)
        config = self.ground.config("gatehouse", SITES)
        line = self.tools["gatehouse"].line
        if self.one("gatehouse", "the first host", line(Place(config, "gatehouse", config))).code:
            raise RuntimeError("the first host could not be made")
        self.manifest = self.ground.manifest("gatehouse", SITES)
        again = self._start("again", self._image(first))
        config = self.ground.config("again", SITES)
        if self.one("gatehouse", "its copy", line(Place(config, "again", config))).code:
            raise RuntimeError("its copy could not be made")
        self.copy = self._image(again)
        for machine in (first, again):
            self.lab.remove(machine)

    def _image(self, machine: Machine) -> Copy:
        machine.container.stop(timeout=60)
        image = machine.container.commit(repository="gatehouse-bench", tag=machine.name)
        return Copy(image.tags[0])

    def _start(self, name: str, copy: Copy) -> Machine:
        machine = self.lab._start(name, copy)  # type: ignore[arg-type]  # it asks for a tag and a suite
        machine.wait(180)
        return machine

    def have(self, size: int) -> None:
        """So many hosts, one after another: booting is hard work."""
        while len(self.hosts) < size:
            self.hosts.append(self._start(f"h{len(self.hosts) + 1}", self.copy))
        self.describe()

    def describe(self) -> None:
        """The files of a fleet with these hosts."""
        roles = {machine.name: {"roles": ["web"]} for machine in self.hosts}
        self.lab.describe(self.place, sites=self.lab.directory / "of-gatehouse" / "sites", hosts=roles)

    @property
    def place(self) -> Path:
        return self.lab.directory / "of-all"

    @property
    def names(self) -> list[str]:
        return [machine.name for machine in self.hosts]

    def gatehouse(self, case: str) -> Run:
        """`inv fleet.bootstrap` over all of them."""
        fleet = str(self.place / "fleet.yml")
        return self.one("gatehouse", case, [str(Path(sys.executable).parent / "inv"), "fleet.bootstrap", "--json",
                                            "--serial", "16", "--fleet", fleet])  # fmt: skip

    def floor(self, case: str) -> Run:
        """The same look, by as many ssh as there are hosts."""
        there = "d=$(mktemp -d) && cd $d && cat > look && sh ./look \"$1\"; rm -rf $d"
        there = f'sudo sh -c {shlex.quote(there)} look "$SSH_CONNECTION"'
        config = shlex.quote(str(self.place / "ssh_config"))
        one = f'ssh -F {config} "$host" {shlex.quote(there)} < {shlex.quote(str(LOOK))} > /dev/null &'
        return self.one(FLOOR, case, ["bash", "-c", f"for host in {' '.join(self.names)}; do {one} done; wait"])

    def peer(self, name: str, case: str, limit: float) -> Run:
        """A peer over all of them, twenty at a time where it has a number for that."""
        config, hosts = self.place / "ssh_config", ",".join(self.names)
        if name == "pyinfra":
            inventory = self.place / "inventory.py"
            inventory.write_text(f"all_hosts = {self.names}\n")
            given = [f"manifest={self.manifest}", f"ssh_config_file={config}",
                     f"ssh_known_hosts_file={self.place / 'known_hosts'}"]  # fmt: skip
            data = [word for each in given for word in ("--data", each)]
            line = [str(venv(name) / "bin" / "pyinfra"), "-y", *data, str(inventory), str(PEERS / "deploy.py")]
        else:
            line = [str(venv(name) / "bin" / "ansible-playbook"), "-i", f"{hosts},", f"--ssh-common-args=-F {config}",
                    "-e", f"manifest={self.manifest}", str(PEERS / "site.yml")]  # fmt: skip
        return self.one(name, case, line, limit, **self.tools[name].env)

    def nothing(self, size: int, rounds: int) -> None:
        """Nothing is to be changed on any."""
        quiet.calm(300)
        case = f"nothing, {size}"
        for _, name in interleaved(["gatehouse", FLOOR], dict.fromkeys(("gatehouse", FLOOR), rounds)):
            self.gatehouse(case) if name == "gatehouse" else self.floor(case)
        for name, most in LIMITS.items():
            if size <= most or size == SIZES[-1]:
                self.peer(name, case, PATIENCE if size == SIZES[-1] else 900)

    def one_gone(self) -> None:
        """One of them does not answer: the others' time is what counts."""
        self.hosts[-1].container.pause()
        try:
            self.gatehouse("one gone")
        finally:
            self.hosts[-1].container.unpause()
            time.sleep(1)

    def one_slow(self) -> None:
        """One of them is at the end of a line of a second."""
        name = self.hosts[-1].name
        (self.lab.directory / f"of-{name}").mkdir(exist_ok=True)
        for file in ("known_hosts", "fleet.yml"):
            (self.lab.directory / f"of-{name}" / file).write_text((self.place / file).read_text())
        with self.ground.far(name, 1000) as (config, _):
            near = (self.place / "ssh_config").read_text().partition(f"Host {name}\n")[0]
            (self.place / "ssh_config").write_text(near + config.read_text())
            self.gatehouse("one slow")
        self.describe()
