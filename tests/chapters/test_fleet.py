"""`inv fleet.*`: who waits for whom, what is refused before a connection is opened, and how it is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fabfile.engine import Host
from fabfile.engine.pool import Crew
from fabfile.engine.report import Line, Report
from fabfile.fleet.choice import chosen_hosts
from fabfile.fleet.command import typed
from fabfile.fleet.order import tiers, waits_for
from fabfile.fleet.rows import Row
from fabfile.model import Fleet, Refusal, load_fleet

ROOT = Path(__file__).parents[2]
INV = Path(sys.executable).parent / "inv"


def fleet(**hosts: list[str]) -> Fleet:
    """Hosts by name and roles, each with an address."""
    numbered = enumerate(hosts.items(), 1)
    machines = {name: {"address": f"10.0.0.{number}", "roles": tuple(roles)} for number, (name, roles) in numbered}
    return Fleet.model_validate({"hosts": machines})


SIX = fleet(
    edge1=["edge"], static1=["static"], app1=["app"], app2=["app"], cache1=["cache"], db1=["database"], files1=["files"]
)


# ---------------------------------------------------------------------- the order


def test_what_others_need_comes_first_and_the_edge_last() -> None:
    assert tiers(SIX, SIX.hosts) == (("cache1", "db1", "files1"), ("static1", "app1", "app2"), ("edge1",))


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ({"api": ["edge", "app"], "db": ["database"]}, (("db",), ("api",))),
        ({"one": ["edge", "app", "database"], "two": ["app"]}, (("one",), ("two",))),
        ({"a": ["web"], "b": ["web"]}, (("a", "b"),)),
        ({"front": ["edge", "web"], "second": ["web"]}, (("second",), ("front",))),
    ],
)
def test_a_host_with_several_roles_is_there_when_others_need_it(
    hosts: dict[str, list[str]], expected: tuple[tuple[str, ...], ...]
) -> None:
    assert tiers(fleet(**hosts), hosts) == expected


@pytest.mark.parametrize(
    ("unwell", "waiting"),
    [
        ({"db1"}, {"app1": ("db1",), "app2": ("db1",)}),
        ({"cache1", "db1"}, {"app1": ("db1", "cache1"), "app2": ("db1", "cache1")}),
        ({"files1"}, {"app1": ("files1",), "app2": ("files1",), "static1": ("files1",)}),
        ({"app1"}, {}),
        ({"app1", "app2"}, {"edge1": ("app1", "app2")}),
        ({"static1"}, {}),
        ({"edge1"}, {}),
        (set(), {}),
    ],
)
def test_who_fails_stops_who_needs_him_and_nobody_else(unwell: set[str], waiting: dict[str, tuple[str, ...]]) -> None:
    found = {name: missing for name in SIX.hosts if name not in unwell and (missing := waits_for(SIX, name, unwell))}

    assert found == waiting


def test_a_host_waits_neither_for_itself_nor_for_those_it_does_not_need() -> None:
    pair = fleet(front=["edge", "web"], second=["web"], third=["web", "database"])

    assert waits_for(pair, "front", {"second"}) == ()
    assert waits_for(pair, "third", {"third"}) == ()
    assert waits_for(pair, "front", {"third"}) == ("third",)


# ---------------------------------------------------------------------- what is typed


def test_only_chooses_by_the_roles_of_fleet_yml() -> None:
    assert chosen_hosts(SIX, "app") == ["app1", "app2"]
    assert chosen_hosts(SIX, "") == list(SIX.hosts)


@pytest.mark.parametrize(("only", "meant"), [("databse", "database"), ("web", "app")])
def test_a_role_that_no_host_has_is_refused_with_those_that_they_have(only: str, meant: str) -> None:
    with pytest.raises(Refusal, match="they have app, cache, database, edge, files, static") as refused:
        chosen_hosts(SIX, only)

    assert f"for example:  --only {meant}" in str(refused.value)


@pytest.mark.parametrize(
    ("words", "shell"),
    [
        (["uptime"], "uptime"),
        (["df -h | head -3"], "df -h | head -3"),
        (["ls", "a b", "$HOME", "it's"], """ls 'a b' '$HOME' 'it'"'"'s'"""),
        (["grep", "--", "-x"], "grep -- -x"),
    ],
)
def test_one_word_is_shell_and_several_are_taken_as_they_stand(words: list[str], shell: str) -> None:
    assert typed(["inv", "fleet.run", "--only", "app", "--", *words]) == shell


@pytest.mark.parametrize("argv", [["inv", "fleet.run"], ["inv", "fleet.run", "--"], ["inv", "fleet.run", "--", ""]])
def test_without_a_command_it_says_where_that_stands(argv: list[str]) -> None:
    with pytest.raises(Refusal, match="behind two dashes"):
        typed(argv)


def inv(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INV, *words], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
    )


def test_bad_data_is_refused_before_a_connection_is_opened(tmp_path: Path) -> None:
    (tmp_path / "fleet.yml").write_text("hosts:\n  db1:\n    address: 10.0.0.4\n    roles: [database]\n")
    done = inv("fleet.bootstrap", "--fleet", str(tmp_path / "fleet.yml"))

    assert done.returncode == 2, done.stdout + done.stderr
    assert "fleet.yml:4: hosts.db1.roles: db1 is there as database, and no host has the role app or web" in done.stderr
    assert "for example:  web1: {address: 10.0.0.5, roles: [web]}" in done.stderr
    assert done.stdout == ""


def test_a_wrong_number_of_hosts_at_a_time_is_refused_as_it_is_typed() -> None:
    done = inv("fleet.bootstrap", "--serial", "0")

    assert done.returncode == 2
    assert "--serial 0: must be a whole number from 1 to 100" in done.stderr


# ---------------------------------------------------------------------- what is told


@pytest.fixture
def nobody(tmp_path: Path) -> Path:
    """A fleet of four, none of which answers; two come through the edge."""
    jump = "  ProxyJump edge1\n"
    hosts = "".join(f"Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  User ops\n{way}" for name, port, way in (
        ("edge1", 1, ""), ("app1", 2, jump), ("db1", 3, jump), ("web1", 4, "")
    ))
    (tmp_path / "ssh_config").write_text(hosts)
    (tmp_path / "fleet.yml").write_text(
        "hosts:\n  edge1: {address: 10.0.0.1, roles: [edge]}\n  app1: {address: 10.0.0.2, roles: [app]}\n"
        "  db1: {address: 10.0.0.3, roles: [database]}\n  web1: {address: 10.0.0.4}\n"
    )
    return tmp_path / "fleet.yml"


def test_hosts_that_cannot_be_reached_are_rows_with_the_reason(nobody: Path) -> None:
    done = inv("fleet.bootstrap", "--fleet", str(nobody))
    told = inv("fleet.check", "--fleet", str(nobody), "--json")

    assert (done.returncode, told.returncode) == (1, 1), done.stdout + done.stderr + told.stdout + told.stderr
    rows = {row["host"]: row for row in json.loads(told.stdout)}
    assert list(rows) == ["edge1", "app1", "db1", "web1"]
    assert {row["outcome"] for row in rows.values()} == {"failed"}
    assert rows["web1"]["reason"] == "web1 (127.0.0.1:4) cannot be reached: Connection refused"
    edge = "edge1 (127.0.0.1:1) cannot be reached: Connection refused"
    assert [rows[name]["reason"] for name in ("edge1", "app1")] == [edge, f"{edge}; it is the way to app1"]
    table = done.stdout[done.stdout.index("host "):].splitlines()
    assert table[1].split()[:6] == ["edge1", "edge", "0", "0", "0.0", "failed:"]
    assert all(row["reason"] in done.stdout for row in rows.values())
    assert "try: ssh web1" in done.stderr
    assert "next: inv fleet." in table[-1]


def test_a_command_that_reaches_no_host_says_why(nobody: Path) -> None:
    told = inv("fleet.run", "--fleet", str(nobody), "--only", "database", "--json", "--", "uptime")

    assert told.returncode == 1
    [row] = json.loads(told.stdout)
    assert (row["host"], row["code"], row["output"]) == ("db1", None, "")
    assert "edge1 (127.0.0.1:1) cannot be reached" in row["why"]
    assert "failed on db1" in told.stderr


def test_two_names_of_one_machine_are_refused(nobody: Path) -> None:
    config = nobody.parent / "ssh_config"
    config.write_text(config.read_text().replace("Port 4", "Port 1"))
    done = inv("fleet.bootstrap", "--fleet", str(nobody))

    assert done.returncode == 2, done.stdout + done.stderr
    assert "edge1 and web1 are one machine in ssh_config: ops@127.0.0.1:1" in done.stderr


def test_another_task_of_the_same_invocation_meets_the_same_hosts(
    nobody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Host, "known", {})
    fleet = load_fleet(nobody)
    for _ in range(2):
        for host in Crew(fleet, list(fleet.hosts)).hosts.values():
            host.enrol()
            assert Host.of(host.visit.connection) is host


def report(*lines: tuple[str, str]) -> Report:
    return Report("db1", "bootstrap", lines=[Line(step, outcome, [f"why {step}"]) for step, outcome in lines])


def test_the_first_round_and_the_rest_are_one_for_the_reader() -> None:
    row = Row("app1", ("app",))
    row.add(report(("credentials.cards", "changed")))
    row.add(report(("system.update", "kept"), ("credentials.cards", "kept"), ("php.pools", "changed")))
    row.comes_to_its_end()

    assert (row.changed, row.kept, row.outcome) == (2, 1, "well")
    assert [line.step for line in row.steps] == ["credentials.cards", "system.update", "php.pools"]


def test_a_step_that_stops_nobody_and_failed_is_told_all_the_same() -> None:
    row = Row("edge1", ("edge",))
    row.add(report(("cert.issue", "failed"), ("fail2ban.start", "kept")))
    row.comes_to_its_end()

    assert (row.outcome, row.reason, row.well) == ("failed", "cert.issue: why cert.issue", False)
