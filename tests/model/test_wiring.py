"""What only shows when all machines are seen together: each fault with its line, its key and an example that holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fabfile.model import Fleet, Refusal, load_fleet

SIX = """\
hosts:
  edge1: {address: 10.0.0.10, roles: [edge]}
  static1: {address: 10.0.0.11, roles: [static]}
  app1: {address: 10.0.0.12, roles: [app]}
  cache1: {address: 10.0.0.13, roles: [cache]}
  db1: {address: 10.0.0.14, roles: [database]}
  files1: {address: 10.0.0.15, roles: [files]}
"""


def loaded(directory: Path, text: str) -> Fleet:
    (directory / "fleet.yml").write_text(text)
    return load_fleet(directory / "fleet.yml", directory)


def refused(directory: Path, text: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        loaded(directory, text)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        SIX,
        SIX.replace("app]}", "app]}\n  app2: {address: 10.0.0.22, roles: [app]}"),
        "hosts:\n  api: {address: 10.0.0.1, roles: [edge, app]}\n  db: {address: 10.0.0.2, roles: [database]}\n",
        "hosts:\n  web1: {address: 10.0.0.1}\n  inner: {address: 10.0.0.2, roles: [database, cache, files]}\n",
        "hosts:\n  e1: {address: fd00::1, roles: [edge]}\n  e2: {address: fd00::2, roles: [edge]}\n"
        "  web1: {address: fd00::3}\npools: {all: [e1, e2, web1]}\n",
        "hosts: {a: {}, b: {}}\n",
    ],
    ids=["six", "two apps", "api", "web and inner", "two edges", "apart"],
)
def test_what_is_right_is_taken(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, text).hosts


@pytest.mark.parametrize(
    ("text", "place", "message", "example"),
    [
        (
            SIX.replace("[database]", "[databse]"),
            ":6: hosts.db1.roles[0]", 'there is no role "databse"; did you mean database?', "roles: [database]",
        ),
        (
            SIX.replace("10.0.0.14", "10.0.0.12"),
            ":6: hosts.db1.address", "10.0.0.12 is already app1's", "address: 10.0.0.16",
        ),
        (
            SIX.replace("10.0.0.14", '"::ffff:10.0.0.12"'),
            ":6: hosts.db1.address", "::ffff:a00:c is 10.0.0.12, written for another protocol", "address: 10.0.0.12",
        ),
        (
            SIX.replace("10.0.0.14", "fd00::14"),
            ":6: hosts.db1.address", "fd00::14 and edge1's 10.0.0.10 are of two protocols", "address: 10.0.0.16",
        ),
        (
            SIX.replace("address: 10.0.0.14, ", ""),
            ":6: hosts.db1.address", "db1 needs its address on the private network: the others look for it as database",
            "address: 10.0.0.16",
        ),
        (
            SIX + "  edge2: {address: 10.0.0.20, roles: [edge]}\n",
            ":8: hosts.edge2.roles", "edge2 is an edge as edge1 is; a pool with both",
            "pools: {main: [edge1, edge2, app1]}",
        ),
        (
            SIX + "  edge2: {address: 10.0.0.20, roles: [edge]}\n  edge3: {address: 10.0.0.30, roles: [edge]}\n"
            "pools:\n  a: [edge1, edge2, app1, static1]\n  b: [edge1, edge3, app1]\n",
            ":9: hosts.edge3.roles", "edge3 is an edge as edge2 is", "pools: {main: [edge1, edge2, edge3, app1]}",
        ),
        (
            SIX.replace("  app1: {address: 10.0.0.12, roles: [app]}\n", ""),
            ":5: hosts.db1.roles", "db1 is there as database, and no host has the role app or web to need it",
            "app1: {address: 10.0.0.16, roles: [app]}",
        ),
        (
            "hosts:\n  db1:\n    address: 10.0.0.4\n    roles: [database]\n",
            ":4: hosts.db1.roles", "db1 is there as database, and no host has the role app or web to need it",
            "web1: {address: 10.0.0.5, roles: [web]}",
        ),
        (
            SIX + "  db2: {address: 10.0.0.24, roles: [database, static]}\n",
            ":8: hosts.db2.roles", "db2 has the role database, which db1 has already; a fleet has one",
            "roles: [static]",
        ),
        (
            SIX + "pools: {main: [edge1, app1]}\n",
            ":3: hosts.static1.roles", "no edge leads to static1: it shares a pool with none",
            "pools: {main: [edge1, static1]}",
        ),
        (
            SIX + "pools:\n  main: [edge1, app1, statik1, static1]\n",
            ":9: pools.main[2]", "there is no host statik1; did you mean static1?", "",
        ),
        (
            SIX + "pools:\n  app1: [edge1, app1, static1]\n",
            ":9: pools.app1", "app1 is the name of a host already", "main: [edge1, app1]",
        ),
        (
            "hosts: {app1: {address: 10.0.0.1, roles: [app]}}\n",
            ":1: hosts.app1.roles", "app1 is an app host, and no host has the role edge", "roles: [web]",
        ),
        (
            SIX.replace("  files1: {address: 10.0.0.15, roles: [files]}\n", ""),
            ":3: hosts.static1.roles", "no host has the role files to give it the sites' files",
            "files1: {address: 10.0.0.15, roles: [files]}",
        ),
        (
            "hosts: {one: {roles: [app, web]}}\n",
            ":1: hosts.one.roles", "one is web and app", "roles: [web]",
        ),
        (
            "hosts: {web1: {address: 10.0.0.1}, st: {address: 10.0.0.2, roles: [static]}}\n",
            ":1: hosts.st.roles", "st is a static host, and no host has the role edge",
            "edge1: {address: 10.0.0.3, roles: [edge]}",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_names_its_line_its_key_and_an_example(
    tmp_path: Path, text: str, place: str, message: str, example: str
) -> None:
    refusal = refused(tmp_path, text)

    assert refusal.exit_code == 2
    [said] = [problem for problem in refusal.problems if message in problem.message]
    line, _, key = place.partition(": ")
    assert said.sentence().partition(": ")[0].endswith(f"fleet.yml{line}")
    assert said.key == key
    assert said.example == example


def test_one_fault_is_told_once(tmp_path: Path) -> None:
    for wrong in (SIX.replace("[database]", "[databse]"), SIX.replace("10.0.0.14", "10.0.0.12")):
        assert len(refused(tmp_path, wrong).problems) == 1


def test_faults_come_in_the_order_of_their_lines(tmp_path: Path) -> None:
    edge = "  edge2: {address: 10.0.0.20, roles: [edge]}\n"
    text = SIX.replace("10.0.0.15", "10.0.0.10") + edge + "pools: {main: [nope]}\n"
    lines = [problem.line for problem in refused(tmp_path, text).problems]

    assert lines == sorted(line for line in lines if line)
    assert re.search(r"fleet\.yml:7: hosts\.files1\.address", str(refused(tmp_path, text)))
