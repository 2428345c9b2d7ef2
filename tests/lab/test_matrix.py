"""The matrix proved, on two web servers and on T5's six: what is changed by hand is named, and nothing else."""

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
from .pair import two_webs

pytestmark = pytest.mark.demand


@pytest.fixture(scope="module")
def webs(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Machine, Machine]]:
    """A fleet of two web servers that everybody comes to, known by IPv6; the six are by IPv4."""
    directory = tmp_path_factory.mktemp("two")
    with two_webs(lab, directory) as (first, second):
        hosts = {first.name: {"address": first.ip6}, second.name: {"address": second.ip6}}
        yield lab.describe(directory, directory / "sites", hosts=hosts), first, second


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


def test_two_servers_are_as_their_roles_say_from_each_other_and_from_here(webs: tuple[Path, Machine, Machine]) -> None:
    two, *_ = webs
    told = proved(two, "--from-here")

    assert told["well"], json.dumps(told, indent=1)
    assert told["probes"] > 40
    shown = matrix(two)
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[2].split() == ["world", *"xxxxxx"]


def test_what_was_changed_by_hand_is_named_and_nothing_else(webs: tuple[Path, Machine, Machine]) -> None:
    """On one a rule is gone, for one family; on the other one too many, to where nobody listens, and a wide daemon."""
    two, first, second = webs
    web = "-p tcp -m multiport --dports 80,443 -j ACCEPT"
    with (
        changed(
            second,
            f"ip6tables-save -t filter > /run/six && ip6tables -D GATEHOUSE {web}",
            back="ip6tables-restore < /run/six && rm /run/six",
        ),
        changed(
            first,
            "ip6tables -I INPUT -s ::/0 -p tcp --dport 3306 -j ACCEPT",
            back="ip6tables -D INPUT -s ::/0 -p tcp --dport 3306 -j ACCEPT",
        ),
        changed(
            first,
            "sed -i.hand 's/^Listen .*/Listen 8080/' /etc/apache2/ports.conf && systemctl restart apache2",
            back="mv /etc/apache2/ports.conf.hand /etc/apache2/ports.conf && systemctl restart apache2",
        ),
    ):
        told = proved(two)

    assert pairs(told) == {
        (first.name, second.name, 80, "root", "silent"),
        (first.name, second.name, 443, "root", "silent"),
        (second.name, first.name, 3306, "root", "refused"),
    }
    assert [(one["host"], one["port"], one["program"]) for one in told["listeners"]] == [(first.name, 8080, "apache2")]
    assert told["rules"] == [{"host": second.name, "lacks": [f"IPv6 -A GATEHOUSE {web}"], "strange": []}]


# ---------------------------------------------------------------------- six hosts

PORTS = "22,80,443,873,2049,3306,6082,6379,8080-8083"


@pytest.fixture(scope="module")
def six(split: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """T5's six hosts, bootstrapped, with a site that has a database."""
    place = tmp_path_factory.mktemp("six")
    (place / "sites").mkdir()
    (place / "sites" / "example.com.yml").write_text("domain: example.com\ndatabase: true\n")
    directory = split.describe(place, place / "sites")
    done = run_tool("inv", "fleet.bootstrap", "--fleet", str(directory / "fleet.yml"), timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_each_of_the_six_is_reached_by_those_that_need_it_alone(six: Path, split: Lab) -> None:
    told = proved(six, "--from-here")
    assert told["well"], json.dumps(told, indent=1)
    assert not told["unproved"]

    places = {machine.name: {machine.ip, machine.inside} - {""} for machine in split.servers}
    every = " ".join(sorted(address for each in places.values() for address in each))
    scan = split.stranger.check(f"nmap -Pn -n -T4 --max-retries 1 -p {PORTS} -oG - {every}", timeout=600)
    seen = {
        (line.split()[1], int(port.split("/")[0]))
        for line in scan.splitlines()
        if "Ports:" in line
        for port in line.partition("Ports: ")[2].split(", ")
        if "/open/" in port
    }
    assert seen == {(split.machine("edge1").ip, port) for port in (22, 80, 443)}


def test_a_rule_that_was_removed_names_exactly_its_pair(six: Path, split: Lab) -> None:
    db, app = split.machine("db1"), split.machine("app1")
    rule = f"GATEHOUSE -s {app.inside}/32 -p tcp -m tcp --dport 3306 -j ACCEPT"
    save, back = "iptables-save -t filter > /run/rules", "iptables-restore < /run/rules && rm /run/rules"
    with changed(db, f"{save} && iptables -D {rule}", back=back):
        told = proved(six)
        shown = matrix(six, "--prove").stdout

    assert pairs(told) == {("app1", "db1", 3306, "root", "silent")}
    assert told["rules"] == [{"host": "db1", "lacks": [f"IPv4 -A {rule}"], "strange": []}]
    assert f"app1 -> db1:3306 mariadb must come in, and is kept out  ({db.inside})" in shown


def test_a_bind_that_was_widened_is_told_although_the_firewall_holds(six: Path, split: Lab) -> None:
    hand = "/etc/mysql/mariadb.conf.d/zz-by-hand.cnf"
    with changed(
        split.machine("db1"),
        f"printf '[mariadbd]\\nbind-address = 0.0.0.0\\n' > {hand} && systemctl restart mariadb",
        back=f"rm {hand} && systemctl restart mariadb",
    ):
        told = proved(six)

    assert not told["differences"]
    assert [(one["host"], one["port"], one["program"]) for one in told["listeners"]] == [("db1", 3306, "mariadbd")]
    assert not told["well"]
