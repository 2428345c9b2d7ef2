"""An app host takes another's place while visitors come and go, and none of them notices.  (T5)"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import Bare
from .lab import Lab
from .machine import Machine, Stranger, run_tool
from .steady import visitors

pytestmark = pytest.mark.demand

SITE, OTHER = "example.com", "kiosk.co.test"
PAGE = f"/var/www/{SITE}/public_html/_/index.html"


@dataclass
class Stack:
    """An edge, and app hosts behind it, which one comes to through it."""

    lab: Lab
    edge: Machine
    directory: Path

    def written(self, **apps: tuple[Machine, int]) -> None:
        """fleet.yml has these app hosts, each with its weight, and ssh_config the way to them."""
        hosts: dict[str, Any] = {self.edge.name: {"address": self.edge.ip, "roles": ["edge"]}}
        hosts |= {
            machine.name: {"address": machine.ip, "roles": ["app"], "weight": weight}
            for machine, weight in apps.values()
        }
        self.lab.describe(self.directory, self.lab.directory / "sites", hosts=hosts)
        config = (self.directory / "ssh_config").read_text()
        for machine, _ in apps.values():
            config = config.replace(f"Host {machine.name}\n", f"Host {machine.name}\n    ProxyJump {self.edge.name}\n")
        (self.directory / "ssh_config").write_text(config)

    def inv(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run_tool("inv", *words, "--fleet", str(self.directory / "fleet.yml"))

    @property
    def led(self) -> dict[str, tuple[int, str]]:
        """To whom the edge leads: weight, and what was set by hand."""
        done = self.edge.fab("haproxy.servers", "--json", directory=self.directory)
        rows = json.loads(done.stdout)
        prefix = "varnish/"
        return {
            row["server"].removeprefix(prefix): (row["weight"], row["set"])
            for row in rows
            if row["server"].startswith(prefix)
        }


@pytest.fixture
def stack(lab: Lab, vps: Machine, vps12: Machine, tmp_path: Path) -> Iterator[tuple[Stack, Machine]]:
    """`vps` is the edge and `vps12` the app host behind it; web servers of their own again afterwards."""
    stack = Stack(lab, vps, tmp_path / "split")
    try:
        yield stack, vps12
    finally:
        stack.written(old=(vps12, 100))
        apart = lab.describe(tmp_path / "apart", lab.directory / "sites")
        (apart / "ssh_config").write_bytes((stack.directory / "ssh_config").read_bytes())
        vps.exec("rm -f /etc/haproxy/servers.state")
        for machine in (vps12, vps):
            with lab.pointing(machine):
                done = machine.fab("bootstrap", directory=apart)
            assert done.returncode == 0, done.stdout + done.stderr


def done(run: subprocess.CompletedProcess[str]) -> str:
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_an_app_host_is_replaced_under_load_and_no_request_fails(
    lab: Lab, stack: tuple[Stack, Machine], bare: Bare, stranger: Stranger
) -> None:
    split, old = stack
    split.written(old=(old, 100))
    with lab.pointing(split.edge):
        # A web server of before: its sshd leads nobody anywhere, and hears of it first.
        made = done(split.inv("fleet.bootstrap"))
        assert f"leading: {split.edge.name}" in made
        new = bare()
        split.written(old=(old, 100), new=(new, 0))
        with visitors(stranger, f"{SITE}/?", f"{OTHER}/?") as visits:
            done(split.inv("fleet.replace", old.name, "--every", "2"))
            assert split.led == {old.name: (100, "drain"), new.name: (100, "100%")}

            # And the other way round, with one that cannot.
            split.written(old=(old, 0), new=(new, 100))
            done(split.inv("fleet.bootstrap"))
            old.check(f"mv {PAGE} {PAGE}.away")
            try:
                refused = split.inv("fleet.replace", new.name)
            finally:
                old.check(f"mv {PAGE}.away {PAGE}")
            assert refused.returncode == 1, refused.stdout
            assert re.search(rf"{old.name} answers 40[34] to {split.edge.name} for https://{SITE}/", refused.stderr)
            assert split.led == {old.name: (0, "drain"), new.name: (100, "")}
    for site in (SITE, OTHER):
        assert visits.failed(site) == []
        assert len(visits.kinds(site)) == 4
    assert sum(visits.codes(SITE).values()) > 500
    assert "GET /?" in new.check(f"tail -n 3 /var/www/{SITE}/log/access_log")
