"""Two web servers: behind one front, or each by itself."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .lab import Lab
from .machine import Machine, run_tool


@dataclass
class Pair:
    """`front` is edge and web server, `second` a web server behind it; both serve every site."""

    front: Machine
    second: Machine
    directory: Path

    def fab(self, *args: str, timeout: float = 580) -> subprocess.CompletedProcess[str]:
        """`fab` on the front, with the pair's fleet.yml."""
        return self.front.fab(*args, directory=self.directory, timeout=timeout)

    @property
    def machines(self) -> tuple[Machine, Machine]:
        return self.front, self.second

    def bootstrap(self) -> None:
        """Make both what they are in the fleet, the one behind first; their failure is the test's."""
        for machine in reversed(self.machines):
            _done(machine.fab("bootstrap", directory=self.directory))


def paired(lab: Lab, front: Machine, second: Machine, directory: Path) -> Iterator[Pair]:
    """The two as a pair with the lab's own sites; afterwards each is a web server of its own again."""
    pair = described(lab, front, second, directory)
    try:
        pair.bootstrap()
        yield pair
    finally:
        front.exec("rm -f /etc/haproxy/servers.state")
        for machine in pair.machines:
            _done(machine.fab("bootstrap"))


def described(
    lab: Lab, front: Machine, second: Machine, directory: Path, behind: Sequence[str] = ("web",), **fleet: Any
) -> Pair:
    """The two as they shall be, with the lab's own sites: fleet.yml says so, and nothing was done yet.

    `behind` are the second one's roles; `fleet` adds keys to fleet.yml.
    """
    shutil.copytree(lab.directory / "sites", directory / "sites")
    roles = {front.name: ["edge", "web"], second.name: [*behind]}
    hosts = {machine.name: {"address": machine.ip, "roles": roles[machine.name]} for machine in (front, second)}
    return Pair(front, second, lab.describe(directory, directory / "sites", hosts=hosts, **fleet))


@contextmanager
def two_webs(lab: Lab, directory: Path) -> Iterator[tuple[Machine, Machine]]:
    """Web servers of the caller's own, Debian 13 and 12, each with a site; `directory` gets their fleet.yml."""
    with lab.adding() as start:
        webs = start(), start("bookworm")
        (directory / "sites").mkdir()
        for domain, machine in zip(("example.com", "kiosk.co.test"), webs, strict=True):
            (directory / "sites" / f"{domain}.yml").write_text(f"domain: {domain}\nhosts: [{machine.name}]\n")
        lab.describe(directory, directory / "sites", hosts={machine.name: {"roles": ["web"]} for machine in webs})
        with lab.pointing(webs[0]):
            lab.resolve("kiosk.co.test", webs[1])
            bootstrapped(directory)
        yield webs


def bootstrapped(directory: Path) -> None:
    """All hosts of the directory's fleet.yml, bootstrapped side by side; their failure is the test's."""
    _done(run_tool("inv", "fleet.bootstrap", "--fleet", str(directory / "fleet.yml"), timeout=1200))


def _done(run: subprocess.CompletedProcess[str]) -> None:
    if run.returncode:
        pytest.fail(f"{' '.join(run.args)}: exit {run.returncode}\n{run.stdout}{run.stderr}", pytrace=False)
