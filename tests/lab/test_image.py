"""A host made by its script alone: no controller and no SSH; afterwards `check` finds nothing to change."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import Bare
from .lab import Lab
from .machine import Machine, run_tool

SCRIPT, LOG = "/root/image", "/var/log/gatehouse-image.log"
BORROWED = " ".join(f"python3-{name}" for name in ("fabric", "invoke", "jinja2", "pydantic", "rich", "paramiko"))
PATIENCE = 900


def rendered(directory: Path, host: Machine) -> str:
    done = run_tool("inv", "image.render", host.name, "--fleet", str(directory / "fleet.yml"), timeout=120)
    assert done.returncode == 0, done.stderr
    assert "PRIVATE KEY" not in done.stdout
    return done.stdout


def through(directory: Path, bastion: Machine, host: Machine) -> Path:
    """The operator comes to `host` through `bastion`."""
    path = directory / "ssh_config"
    head = f"Host {host.name}\n"
    path.write_text(path.read_text().replace(head, f"{head}    ProxyJump {bastion.name}\n"))
    return directory


@pytest.mark.demand
@pytest.mark.parametrize("role", ["app", "database", "edge"])
def test_the_script_alone_makes_a_host_on_which_check_finds_nothing_to_change(
    lab: Lab, bare: Bare, tmp_path: Path, role: str
) -> None:
    edge, inner = bare(), bare()
    hosts = {
        edge.name: {"address": edge.ip, "roles": ["edge", "app"] if role == "database" else ["edge"]},
        inner.name: {"address": inner.ip, "roles": ["database"] if role == "database" else ["app"]},
    }
    directory = through(lab.describe(tmp_path / "fleet", lab.directory / "sites", hosts=hosts), edge, inner)
    host = edge if role == "edge" else inner
    script = rendered(directory, host)
    assert script == rendered(directory, host), "the same for the same fleet"
    host.put({SCRIPT: script.encode()}, mode=0o700)

    with lab.pointing(edge):
        made = host.exec(SCRIPT, timeout=PATIENCE)
    assert made.rc == 0, made.out + host.check(f"cat {LOG}")
    assert "0 failed" in made.out

    checked = host.fab("check", directory=directory)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert re.search(r"check +\d+ steps: \d+ kept, 0 changed, 0 failed", checked.stdout), checked.stdout

    gone = host.exec(f"dpkg-query -W -f '${{db:Status-Abbrev}}${{Package}}\\n' {BORROWED}").out
    assert not [line for line in gone.splitlines() if line.startswith("ii")]
    assert host.exec("ls -d /run/gatehouse-image.*/ /var/lib/gatehouse-image*").out == ""

    again = host.exec(SCRIPT, timeout=PATIENCE)
    assert again.rc == 0, again.out
    assert "0 changed, 0 failed" in again.out, again.out


@pytest.mark.demand
def test_who_is_no_debian_13_is_left_as_it_is(lab: Lab, bare: Bare) -> None:
    old = bare("bookworm")
    old.put({SCRIPT: rendered(lab.directory, old).encode()}, mode=0o700)
    refused = old.exec(SCRIPT)

    assert refused.rc == 3
    assert "for Debian 13" in refused.err
    assert old.exec(f"ls {LOG}").rc
