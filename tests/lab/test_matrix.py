"""The matrix proved on two web servers: what is changed by hand is named, and nothing else."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .lab import Lab
from .machine import Machine, run_tool


@pytest.fixture(scope="module")
def two(lab: Lab, vps: Machine, vps12: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet of both as they are: web servers that everybody comes to, one known by IPv4, one by IPv6."""
    hosts = {"vps": {"address": vps.ip}, "vps12": {"address": vps12.ip6}}
    return lab.describe(tmp_path_factory.mktemp("two"), lab.directory / "sites", hosts=hosts)


def matrix(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_tool("inv", "fleet.matrix", "--fleet", str(directory / "fleet.yml"), *words, timeout=120)


def proved(directory: Path, *words: str) -> dict[str, Any]:
    done = matrix(directory, "--prove", "--json", *words)
    told: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if told["well"] else 1), done.stdout + done.stderr
    return told


@contextmanager
def changed(host: Machine, *commands: str, back: str) -> Iterator[None]:
    """By hand, on the host; then as it was."""
    try:
        for command in commands:
            host.check(command)
        yield
    finally:
        host.check(back)


def pairs(told: dict[str, Any]) -> set[tuple[str, str, int, str, str]]:
    keys = ("source", "target", "port", "user", "seen")
    return {tuple(one[key] for key in keys) for one in told["differences"]}


def test_two_servers_are_as_their_roles_say_from_each_other_and_from_here(two: Path) -> None:
    told = proved(two, "--from-here")

    assert told["well"], json.dumps(told, indent=1)
    assert told["probes"] > 40
    shown = matrix(two)
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[2].split() == ["world", *"xxxxxx"]


def test_what_was_changed_by_hand_is_named_and_nothing_else(two: Path, vps: Machine, vps12: Machine) -> None:
    """On one a rule is gone, for one family; on the other one too many, to where nobody listens, and a wide daemon."""
    web = "-p tcp -m multiport --dports 80,443 -j ACCEPT"
    with (
        changed(
            vps12,
            f"ip6tables-save -t filter > /run/six && ip6tables -D GATEHOUSE {web}",
            back="ip6tables-restore < /run/six && rm /run/six",
        ),
        changed(
            vps,
            "iptables -I INPUT -s 0.0.0.0/0 -p tcp --dport 3306 -j ACCEPT",
            back="iptables -D INPUT -s 0.0.0.0/0 -p tcp --dport 3306 -j ACCEPT",
        ),
        changed(
            vps,
            "sed -i.hand 's/^Listen .*/Listen 8080/' /etc/apache2/ports.conf && systemctl restart apache2",
            back="mv /etc/apache2/ports.conf.hand /etc/apache2/ports.conf && systemctl restart apache2",
        ),
    ):
        told = proved(two)

    assert pairs(told) == {
        ("vps", "vps12", 80, "root", "silent"),
        ("vps", "vps12", 443, "root", "silent"),
        ("vps12", "vps", 3306, "root", "refused"),
    }
    assert [(one["host"], one["port"], one["program"]) for one in told["listeners"]] == [("vps", 8080, "apache2")]
    assert told["rules"] == [{"host": "vps12", "lacks": [f"IPv6 -A GATEHOUSE {web}"], "strange": []}]
