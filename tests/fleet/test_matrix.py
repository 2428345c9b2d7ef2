"""The matrix: what the table shows, what every host tries, what must come back, and what is told when it does not."""

from __future__ import annotations

from typing import Any

import pytest

from fabfile.engine.facts import User
from fabfile.firewall.rules import INNER, inner, outer
from fabfile.fleet.matrix import cells, report, story, table
from fabfile.fleet.proof import HERE, MEETS, NOBODY, PING, Look, Probe, Proof, compared, guarded, listening, ports
from fabfile.model import Fleet
from fabfile.model.ways import WORLD

from ..model.test_ways import API, SPLIT, fleet

SIX = {f"fd00::1{number}": f"10.0.0.1{number}" for number in range(6)}


GUARDED = {
    "edge1": frozenset({("10.0.0.12", 8081), ("10.0.0.11", 8083)}),
    "app1": frozenset({("127.0.0.1", 8080)}),
}


def looked(found: Fleet, **more: Any) -> dict[str, Look]:
    """Every host, with its private address, one of the other family, and nothing wrong."""
    other = {four: six for six, four in SIX.items()}
    return {
        name: Look(
            host=name,
            addresses=(str(machine.address), other[str(machine.address)]),
            ssh=(22,),
            door="203.0.113.1" if "edge" in machine.roles else "",
            listens=(),
            named=frozenset(),
            passing=frozenset(),
            guarded=GUARDED.get(name, frozenset()),
            lacks=(),
            strange=(),
        )
        for name, machine in found.hosts.items()
    }  # fmt: skip


def proof(found: Fleet | None = None, **changed: dict[str, Any]) -> Proof:
    """A proof in which everything came back as it must; `changed` are keys of single hosts' looks."""
    found = found or fleet(SPLIT)
    looks = looked(found)
    for name, keys in changed.items():
        looks[name] = looks[name]._replace(**keys)
    made = Proof(found, looks)
    probes = [probe for name in looks for probe in made.probes(name)] + list(made.outside())
    made.seen = {probe: "open" if probe.port == PING else MEETS[made.wish(probe)][0] for probe in probes}
    return made


def told(made: Proof) -> str:
    return "\n".join(line.plain for line in story(made, {}))


def test_the_table_of_six_fits_in_a_hundred_columns() -> None:
    lines = [line.plain for line in table(fleet(SPLIT), (), 100)]

    assert max(map(len, lines)) <= 100
    assert lines[0].split() == ["from", "edge1", "static1", "app1", "cache1", "db1", "files1"]
    assert lines[2].split() == ["world", *"xxx", *".........."]
    assert len(lines) == 2 + 7 + 1


def test_a_narrow_screen_gets_the_hosts_below_one_another() -> None:
    lines = [line.plain for line in table(fleet(SPLIT), (), 50)]

    assert max(map(len, lines)) <= 50
    assert sum(line.startswith("from") for line in lines) == 2


def test_what_the_world_may_every_host_may() -> None:
    squares = cells(fleet(SPLIT))

    assert "x" == squares["db1", "edge1", 443] == squares[WORLD, "edge1", 443]
    assert "x" == squares["app1", "db1", 3306]
    assert "." == squares["static1", "db1", 3306] == squares[WORLD, "db1", 3306]
    assert "" == squares["db1", "db1", 3306]


def test_every_host_tries_every_other_at_all_its_addresses_and_every_known_port() -> None:
    made = proof(static1={"listens": (("", 9999, "socat"),)}, cache1={"named": frozenset({7777})})
    tried = {probe for probe in made.seen if probe.source == "db1" and probe.target == "app1" and probe.user == "root"}

    known = {22, 80, 443, 8081, 8083, 3306, 6379, 2049, 6082, 8080, 8082, 9999, 7777}
    assert known == made.known()
    assert {("10.0.0.12", port) for port in known} | {("fd00::12", port) for port in known} | {("10.0.0.12", PING)} == {
        (probe.address, probe.port) for probe in tried
    }


def test_between_the_layers_somebody_without_business_tries_as_well() -> None:
    tried = {(probe.source, probe.target, probe.address, probe.port) for probe in proof().seen if probe.user == NOBODY}

    assert tried == {
        ("edge1", "app1", "10.0.0.12", 8081),
        ("edge1", "static1", "10.0.0.11", 8083),
        ("app1", "app1", "127.0.0.1", 8080),
    }


@pytest.mark.parametrize(
    ("probe", "wish"),
    [
        (Probe("app1", "db1", "10.0.0.14", 3306), "open"),
        (Probe("app1", "db1", "fd00::14", 3306), "silent"),
        (Probe("app1", "db1", "203.0.113.9", 3306), "closed"),
        (Probe("static1", "db1", "10.0.0.14", 3306), "silent"),
        (Probe("edge1", "db1", "10.0.0.14", 22), "open"),
        (Probe("app1", "db1", "10.0.0.14", 22), "silent"),
        (Probe("app1", "edge1", "10.0.0.10", 443), "open"),
        (Probe("app1", "edge1", "fd00::10", 443), "either"),
        (Probe("app1", "edge1", "10.0.0.10", 8080), "silent"),
        (Probe("edge1", "app1", "10.0.0.12", 8081, NOBODY), "closed"),
        (Probe(HERE, "edge1", "203.0.113.1", 443), "open"),
        (Probe(HERE, "edge1", "203.0.113.1", 3306), "silent"),
        (Probe("app1", "db1", "10.0.0.14", 8443), "silent"),
        (Probe("edge1", "db1", "10.0.0.14", 8443), "either"),
    ],
)
def test_what_must_come_back(probe: Probe, wish: str) -> None:
    open_to_the_edge = {"8443/tcp": (Fleet.model_validate({"operators": ("10.0.0.10/32",)}).operators[0],)}

    assert wish == proof(fleet(SPLIT, open=open_to_the_edge)).wish(probe)


def test_ssh_is_where_it_really_is() -> None:
    made = proof(db1={"ssh": (2222,)})

    assert "open" == made.wish(Probe("edge1", "db1", "10.0.0.14", 2222))
    assert "silent" == made.wish(Probe("edge1", "db1", "10.0.0.14", 22))


def test_what_is_open_for_a_while_is_no_difference() -> None:
    assert "either" == proof(db1={"passing": frozenset({3306})}).wish(Probe("static1", "db1", "10.0.0.14", 3306))


@pytest.mark.parametrize("data", [SPLIT, API])
def test_when_all_is_as_it_should_be_that_is_said(data: dict[str, Any]) -> None:
    made = proof(fleet(data))

    assert report(made, {})["well"]
    assert "all is as it should be" in told(made)


@pytest.mark.parametrize(
    ("probe", "seen", "line"),
    [
        (
            Probe("app1", "db1", "10.0.0.14", 3306),
            "silent",
            "app1 -> db1:3306 mariadb must come in, and is kept out  (10.0.0.14)\n  next: fab -H db1 firewall",
        ),
        (
            Probe("app1", "db1", "10.0.0.14", 3306),
            "refused",
            "must come in, and is let through to where nobody listens  (10.0.0.14)\n  next: fab -H db1 status",
        ),
        (
            Probe("static1", "db1", "10.0.0.14", 3306),
            "open",
            "static1 -> db1:3306 mariadb must be kept out, and comes in  (10.0.0.14)\n  next: fab -H db1 firewall",
        ),
        (
            Probe("static1", "db1", "fd00::14", 6379),
            "refused",
            "static1 -> db1:6379 must be kept out, and is let through to where nobody listens  (fd00::14)",
        ),
        (
            Probe("edge1", "app1", "10.0.0.12", 8081, NOBODY),
            "open",
            "edge1 as nobody -> app1:8081 varnish must not come in, and comes in  (10.0.0.12)\n"
            "  next: fab -H edge1 firewall",
        ),
    ],
)
def test_a_pair_that_differs_is_named_and_no_other(probe: Probe, seen: str, line: str) -> None:
    made = proof()
    assert probe in made.seen
    made.seen[probe] = seen

    (found,) = made.differences()
    assert line in told(made)
    assert "1 difference" in told(made)
    assert not report(made, {})["well"]
    squares = cells(made.fleet, [found])
    assert [key for key, square in squares.items() if square == "!"] == [
        key for key in [(probe.source, probe.target, probe.port)] if key in squares
    ]


def test_what_listens_too_widely_is_told_although_the_firewall_holds() -> None:
    made = proof(db1={"listens": (("", 3306, "mariadbd"), ("", 22, "sshd"), ("127.0.0.1", 25, "master"))})

    assert (
        "db1: mariadbd on every address, port 3306: listens on more than its private address 10.0.0.14\n" in told(made)
    )
    assert [("db1", 3306)] == [(one["host"], one["port"]) for one in report(made, {})["listeners"]]  # type: ignore[attr-defined]
    assert not made.differences()


def test_rules_that_differ_are_told_though_no_packet_shows_it() -> None:
    made = proof(db1={"lacks": ((4, "-A GATEHOUSE -j DROP"),)})

    assert "db1 lacks: IPv4 -A GATEHOUSE -j DROP\n  next: fab -H db1 firewall" in told(made)
    assert not report(made, {})["well"]


def test_silence_proves_nothing_where_not_even_a_ping_comes_through() -> None:
    made = proof()
    for probe in made.seen:
        if (probe.source, probe.target) == ("static1", "db1"):
            made.seen[probe] = "silent"

    assert [("static1", "db1")] == made.unproved()
    assert "static1 -> db1: nothing came through" in told(made)
    assert not report(made, {})["well"]


RULES = {
    "GATEHOUSE-NOW": ["-p tcp -m tcp --dport 8443 -j ACCEPT"],
    "GATEHOUSE": ["-j GATEHOUSE-NOW", "-s 10.0.0.12/32 -p tcp -m tcp --dport 3306 -j ACCEPT"],
}
LIVE = (
    ":INPUT DROP [0:0]",
    ":GATEHOUSE - [0:0]",
    "-A INPUT -j GATEHOUSE",
    "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd",
    "-A GATEHOUSE -j GATEHOUSE-NOW",
    "-A GATEHOUSE -s 10.0.0.12/32 -p tcp -m tcp --dport 3306 -j ACCEPT",
    "-A GATEHOUSE-NOW -p tcp -m tcp --dport 8443 -j ACCEPT",
)


def test_the_rules_in_force_are_compared_with_those_that_the_roles_want() -> None:
    assert ([], []) == compared(LIVE, RULES)
    assert (["-A INPUT -j GATEHOUSE"], []) == compared([rule for rule in LIVE if rule != LIVE[2]], RULES)
    assert ([":INPUT DROP"], [":INPUT ACCEPT"]) == compared([":INPUT ACCEPT [1:9]", *LIVE[1:]], RULES)
    more = "-A GATEHOUSE -p tcp -m tcp --dport 3306 -j ACCEPT"
    assert ([], [more]) == compared([*LIVE, more], RULES)


def test_where_rules_look_at_whose_it_is_somebody_without_business_tries() -> None:
    users = {"haproxy": User("haproxy", 105, 105, "/", ""), "vcache": User("vcache", 107, 107, "/", "")}
    rules = {
        "GATEHOUSE-INNER": inner(users),
        "GATEHOUSE-OUTER": outer(4, users, [("10.0.0.12", 8081)], [8083], roots=[("10.0.0.15", 873)]),
    }

    assert {("10.0.0.12", 8081), ("10.0.0.15", 873), *(("127.0.0.1", port) for port in INNER)} == {*guarded(rules)}


def test_what_differs_by_its_port_alone_is_told_together() -> None:
    made = proof()
    for port in (3306, 6379):
        made.seen[Probe("static1", "db1", "10.0.0.14", port)] = "refused"

    line = "static1 -> db1:3306 mariadb, 6379 must be kept out, and is let through to where nobody listens  (10.0.0.14)"
    assert line in told(made)
    assert "2 differences" in told(made)


def test_ports_that_rules_name_are_tried() -> None:
    assert {3306, 8443} == {*ports(LIVE)}
    assert {80, 443, 1000, 2000} == {
        *ports(["-A X -p tcp -m multiport --dports 80,443,1000:2000 -j ACCEPT", "-A X -p udp --dport 53 -j ACCEPT"])
    }


def test_what_listens_is_read_with_its_program() -> None:
    line = 'LISTEN 0      80         10.0.0.14:3306       0.0.0.0:*    users:(("mariadbd",pid=96,fd=22))'

    assert [("10.0.0.14", 3306, "mariadbd")] == list(listening(line))
    assert [("", 2049, "")] == list(listening("LISTEN 0 64 *:2049 *:*"))
