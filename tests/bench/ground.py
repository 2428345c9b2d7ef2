"""The hosts that the bench works on: a lab of its own, with sites that are made for it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..lab.lab import Lab
from ..lab.machine import CHECKOUT, Machine
from .running import run
from .tools import HOME, PYTHON, Place, Tool
from .wanted import Manifest

ZONE = "bench.test"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends"

LISTED = "/var/lib/apt/periodic/update-success-stamp"
"""pyinfra's own note of when a host has asked for Debian's lists; without it, it asks, and calls that a change."""


class Ground:
    """A lab with the CA and hosts by the tools' names; each host has a directory with its ssh_config and fleet.yml."""

    def __init__(self) -> None:
        self.lab = Lab(Path(os.environ.get("GATEHOUSE_LAB", HOME / "lab")))
        self.lab.hosts = {}
        self.removed: list[str] = []

    def __enter__(self) -> Ground:
        self.lab.down()
        for kind in ("of", "far", "manifest"):  # of hosts that are no more
            for place in self.lab.directory.glob(f"{kind}-*"):
                shutil.rmtree(place)
        self.lab.up()
        self.named(None)
        return self

    def __exit__(self, *_: object) -> None:
        if "GATEHOUSE_KEEP" not in os.environ:
            self.lab.down()

    def host(self, name: str) -> Machine:
        """A bare Debian 13."""
        return self.lab.add(name)

    def named(self, machine: Machine | None) -> None:
        """The sites' names point to this host, or else to nothing: then no certificate is ordered."""
        self.lab.resolve(ZONE, machine)

    def config(self, name: str, sites: int) -> Path:
        """The ssh_config of a host that shall have so many sites; fleet.yml and the sites lie beside it."""
        place = self.lab.directory / f"of-{name}"
        (place / "sites").mkdir(parents=True, exist_ok=True)
        for number in range(sites):
            domain = f"s{number}.{ZONE}"
            (place / "sites" / f"{domain}.yml").write_text(f"domain: {domain}\n")
        if not (place / "ssh_config").exists():
            self.lab.describe(place, sites=place / "sites")
        return place / "ssh_config"

    def settled(self, name: str, sites: int, gatehouse: Tool) -> None:
        """A host is bootstrapped.  Raises RuntimeError when it cannot be."""
        config = self.config(name, sites)
        done = run("gatehouse", f"make {name}", [*gatehouse.line(Place(config, name, config.parent)), "--json"])
        done.tell()
        if done.code:
            raise RuntimeError(f"{name} could not be made:\n{done.said[-3000:]}")
        self.first(done.said)

    def first(self, said: str) -> dict[str, float]:
        """What a first run with --json told: it took files away, and its steps took so many seconds."""
        steps = json.loads(said)["steps"]
        reasons = (reason for step in steps for reason in step["reasons"])
        self.removed += [reason.removesuffix(" removed") for reason in reasons if reason.endswith(" removed")]
        return {step["step"]: step["seconds"] for step in steps}

    def manifest(self, name: str, sites: int) -> Path:
        """What the steps wish on this host, written down (wanted.py, in a process of its own)."""
        place = self.lab.directory / f"manifest-{sites}"
        config = self.config(name, sites)
        line = [sys.executable, "-m", "tests.bench.wanted", str(config), name, str(place), *self.removed]
        done = subprocess.run(line, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the manifest could not be written:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
        return place

    def fetched(self, machine: Machine, manifest: Manifest, needs: Sequence[str] = ()) -> None:
        """The packages' files are in the host's apt cache, as if it had once looked for them; what a tool needs is
        installed.
        """
        fetch = f"{APT} --download-only"
        machine.check(f"{APT} update && {fetch} install {' '.join(manifest.packages)}", timeout=600)
        machine.check(f"{fetch} upgrade", timeout=600)
        if needs:
            self.install(machine, needs)

    def install(self, machine: Machine, packages: Sequence[str]) -> None:
        """What a tool needs on a host."""
        machine.check(f"{APT} install {' '.join(packages)}", timeout=600)

    def open_to_peers(self, machine: Machine) -> None:
        """What the peers want on a host that none of them has made."""
        self.install(machine, PYTHON)
        machine.check(f"touch {LISTED}")

    @contextlib.contextmanager
    def far(self, name: str, milliseconds: int) -> Iterator[tuple[Path, Path]]:
        """The same host at the end of a long line: its ssh_config, and where the line's account is written."""
        machine = self.lab.machine(name)
        near = self.lab.directory / f"of-{name}"
        place = self.lab.directory / f"far-{name}"
        place.mkdir(exist_ok=True)
        port, account = _free_port(), place / "account"
        account.unlink(missing_ok=True)
        keys = (line.split(" ", 1)[1] for line in (near / "known_hosts").read_text().splitlines()
                if machine.ip in line.split()[0].split(","))  # fmt: skip
        (place / "known_hosts").write_text("".join(f"[127.0.0.1]:{port} {key}\n" for key in keys))
        (place / "ssh_config").write_text(
            f"Host {name}\n    HostName 127.0.0.1\n    Port {port}\n    User ops\n"
            f'    IdentityFile "{self.lab.directory}/key"\n    IdentitiesOnly yes\n'
            f'    UserKnownHostsFile "{place}/known_hosts"\n    StrictHostKeyChecking yes\n'
        )
        (place / "fleet.yml").write_text((near / "fleet.yml").read_text())
        line = [sys.executable, "-m", "tests.bench.proxy", str(port), machine.ip, str(milliseconds), str(account)]
        with subprocess.Popen(line, cwd=CHECKOUT, stdout=subprocess.PIPE) as proxy:
            assert proxy.stdout
            proxy.stdout.readline()
            try:
                yield place / "ssh_config", account
            finally:
                proxy.terminate()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
