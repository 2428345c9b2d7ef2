"""Firewall: one list for both families, SSH where it really is, and nothing done when it is in force already."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fabfile import firewall
from fabfile.engine import Guarded
from fabfile.engine.changes import Load, PutFile, Run
from fabfile.engine.facts import Unit, User
from fabfile.firewall import reading
from fabfile.firewall.loading import wanted
from fabfile.firewall.rules import JUMPS, NOW, RULES, chain, holds, inner

from ..model.test_ways import SPLIT, fleet
from .recording import Recorded, contents

USERS = {name: User(name, uid, uid, "/nonexistent", "") for name, uid in {"haproxy": 105, "vcache": 107}.items()}


def ours(family: int, ports: tuple[int, ...] = (22,), operators: tuple[str, ...] = ()) -> dict[str, list[str]]:
    return {NOW: [], "GATEHOUSE": chain(family, ports, operators), "GATEHOUSE-INNER": inner(USERS)}


def live(family: int, *, ports: tuple[int, ...] = (22,), operators: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What iptables-save says when our rules are in force, with a ban of fail2ban's before them."""
    return (
        "*filter",
        ":INPUT DROP [12:345]",
        ":GATEHOUSE - [0:0]",
        ":GATEHOUSE-INNER - [0:0]",
        f":{NOW} - [0:0]",
        ":f2b-sshd - [0:0]",
        "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd",
        JUMPS["GATEHOUSE"],
        JUMPS["GATEHOUSE-INNER"],
        *(f"-A {name} {rule}" for name, rules in ours(family, ports, operators).items() for rule in rules),
        "-A f2b-sshd -s 192.0.2.99/32 -j REJECT --reject-with icmp-port-unreachable",
        "COMMIT",
    )


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorded]:
    def make(**known: Any) -> Recorded:
        return Recorded(monkeypatch, ssh_ports=(22,), **{"client": "192.0.2.7", "users": USERS, **known})

    return make


@pytest.mark.parametrize("family", [4, 6])
def test_what_is_open_is_what_the_tutorial_opens_and_then_drop(family: int) -> None:
    rules = chain(family, (22,), ())

    assert "-i lo -j ACCEPT" == rules[0]
    assert f"-j {NOW}" == rules[1]
    assert "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT" == rules[2]
    assert "-p tcp -m tcp --dport 22 -j ACCEPT" in rules
    assert "-p tcp -m multiport --dports 80,443 -j ACCEPT" in rules
    assert "-j DROP" == rules[-1]
    assert 1 == sum(rule.endswith("-j DROP") and "INVALID" not in rule for rule in rules)


def test_ssh_is_open_on_the_ports_that_it_really_has() -> None:
    rules = chain(4, (2222, 22), ())

    assert ["-p tcp -m tcp --dport 22 -j ACCEPT", "-p tcp -m tcp --dport 2222 -j ACCEPT"] == [
        rule for rule in rules if rule.startswith("-p tcp -m tcp")
    ]


def test_an_operator_gets_in_by_its_own_family_alone() -> None:
    operators = ("192.0.2.0/24", "2001:db8::/64")

    assert "-s 192.0.2.0/24 -p tcp -m tcp --dport 22 -j ACCEPT" in chain(4, (22,), operators)
    assert "-s 2001:db8::/64 -p tcp -m tcp --dport 22 -j ACCEPT" in chain(6, (22,), operators)
    assert [] == [rule for rule in chain(4, (22,), operators) if "2001:db8" in rule]


def test_without_neighbour_discovery_there_is_no_ipv6() -> None:
    assert "-p ipv6-icmp -j ACCEPT" in chain(6, (22,), ())


def test_rules_in_force_are_known_with_bans_before_them() -> None:
    assert holds(live(4), ours(4))


@pytest.mark.parametrize(
    "broken",
    [
        lambda rules: [line.replace(":INPUT DROP", ":INPUT ACCEPT") for line in rules],
        lambda rules: [line for line in rules if line != "-A INPUT -j GATEHOUSE"],
        lambda rules: [line for line in rules if line != JUMPS["GATEHOUSE-INNER"]],
        lambda rules: [*rules, "-A OUTPUT -j GATEHOUSE-INNER"],
        lambda rules: [line for line in rules if "--uid-owner 107" not in line],
        lambda rules: [line for line in rules if "--dport 22" not in line],
        lambda rules: [*rules[:-1], "-A GATEHOUSE -p tcp -m tcp --dport 3306 -j ACCEPT"],
        lambda rules: [line for line in rules if not line.startswith(f":{NOW}")],
        lambda rules: [],
    ],
)
def test_anything_less_or_more_is_noticed(broken: Callable[[list[str]], list[str]]) -> None:
    assert not holds(broken(list(live(4))), ours(4))


def test_what_is_in_force_is_left_alone(host: Callable[..., Recorded]) -> None:
    there = host(rules4=live(4, operators=("192.0.2.7/32",)), rules6=live(6))
    there.after(firewall.apply)

    assert [] == there._done


def test_what_is_not_in_force_is_loaded_under_guard(host: Callable[..., Recorded]) -> None:
    bare = host()
    bare.after(firewall.apply)

    assert ["load the rules"] == bare._done


def test_the_files_for_the_next_boot_say_the_same_and_are_judged(host: Callable[..., Recorded]) -> None:
    changes = host().after(firewall.persist)
    files = contents(changes)

    for family, path in RULES.items():
        lines = files[path].splitlines()
        assert holds(lines, ours(family, operators=("192.0.2.7/32",)))
        assert lines.index(JUMPS["GATEHOUSE"]) > lines.index(":GATEHOUSE-INNER - [0:0]")
        assert 1 == files[path].count("*filter")
        assert "*nat" not in files[path]
    assert {
        f"unshare --net {tool} {path}"
        for tool, path in zip(("iptables-restore", "ip6tables-restore"), files, strict=True)
    } == {change.check for change in changes if isinstance(change, PutFile)}
    assert ["netfilter-persistent.service"] == [change.unit for change in changes if isinstance(change, Load)]


def test_operators_are_remembered_and_never_forgotten(host: Callable[..., Recorded]) -> None:
    there = host(operators=("203.0.113.5/32",))

    assert {"/etc/gatehouse/operators": "192.0.2.7/32\n203.0.113.5/32\n"} == contents(there.after(firewall.operators))


def test_a_layer_is_spoken_to_by_the_one_before_it_and_by_root() -> None:
    rules = inner(USERS)

    for port, uid in {8080: 107, 8081: 105, 8082: 105, 6082: 0}.items():
        owners = {
            rule.split("--uid-owner ")[1] for rule in rules if f"--dport {port} -m owner" in rule and "ACCEPT" in rule
        }
        assert {"0 -j ACCEPT", f"{uid} -j ACCEPT"} == owners
    assert "-p tcp -m multiport --dports 6082,8080,8081,8082 -j REJECT --reject-with tcp-reset" == rules[-2]


def test_who_listens_in_a_layer_s_place_is_not_heard() -> None:
    last = inner(USERS)[-1]
    assert "-p tcp -m multiport --sports 6082,8080,8081,8082 -m owner ! --uid-owner 0 -j DROP" == last


def test_before_the_layers_are_there_nothing_guards_them(host: Callable[..., Recorded]) -> None:
    fresh = host(users={})

    assert [] == fresh.after(firewall.layers)
    assert ["no layers to guard yet"] == fresh.notes
    assert all("6082" not in text for text in contents(fresh.after(firewall.persist)).values())


def test_once_they_are_there_their_rules_are_loaded_and_kept(host: Callable[..., Recorded]) -> None:
    there = host(users={})
    there.after(firewall.apply, firewall.persist)
    there.facts.users.update(USERS)

    files = contents(there.after(firewall.layers))

    assert "load the rules" in there._done
    assert set(RULES.values()) == set(files)
    assert all("6082" in text for text in files.values())
    assert {} == contents(there.after(firewall.persist))


# ---------------------------------------------------------------------- at boot


def test_the_failsafe_knows_the_ports_that_ssh_really_has(host: Callable[..., Recorded]) -> None:
    there = host()
    there.facts.ssh_ports = (22, 2222)
    files = contents(there.after(firewall.failsafe))

    assert 'ports="22 2222"\n' in files[firewall.FAILSAFE]
    assert "Before=network-pre.target" in files[firewall.FAILSAFE_UNIT]


def test_rules_that_failed_at_boot_are_loaded_by_a_restart_that_takes_the_bans_along(
    host: Callable[..., Recorded],
) -> None:
    there = host(units={"netfilter-persistent.service": Unit("failed", "enabled")})

    assert "systemctl restart netfilter-persistent" in [
        change.script for change in there.after(firewall.persist) if isinstance(change, Run)
    ]


# ---------------------------------------------------------------------- in a fleet

EDGE = {name: User(name, uid, uid, "/nonexistent", "") for name, uid in {"haproxy": 105, "www-data": 33}.items()}


def in_fleet(there: Recorded, name: str, **more: Any) -> Recorded:
    """The host as one of T5's six."""
    there.name, there.fleet = name, fleet(SPLIT, **more)
    return there


def test_a_database_lets_in_the_app_hosts_and_the_bastion_and_drops_the_rest(host: Callable[..., Recorded]) -> None:
    rules = wanted(in_fleet(host(users={}), "db1"))

    assert rules[4]["GATEHOUSE"] == [
        "-i lo -j ACCEPT",
        f"-j {NOW}",
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-m conntrack --ctstate INVALID -j DROP",
        "-p icmp -m icmp --icmp-type 8 -j ACCEPT",
        "-s 10.0.0.10/32 -p tcp -m tcp --dport 22 -j ACCEPT",
        "-s 10.0.0.12/32 -p tcp -m tcp --dport 3306 -j ACCEPT",
        "-j DROP",
    ]
    assert not [rule for rule in rules[6]["GATEHOUSE"] if "tcp" in rule], "nobody has a private IPv6 address"
    assert "GATEHOUSE-OUTER" not in rules[4]


def test_private_ipv6_addresses_are_let_in_by_ip6tables_alone(host: Callable[..., Recorded]) -> None:
    there = in_fleet(host(users={}), "db")
    addresses = {"api": "fd00::10", "db": "fd00::14"}
    roles = {"api": ("edge", "app"), "db": ("database",)}
    there.fleet = fleet({"hosts": {name: {"address": addresses[name], "roles": roles[name]} for name in roles}})
    rules = wanted(there)

    assert [rule for rule in rules[6]["GATEHOUSE"] if "tcp" in rule] == [
        "-s fd00::10/128 -p tcp -m tcp --dport 22 -j ACCEPT",
        "-s fd00::10/128 -p tcp -m tcp --dport 3306 -j ACCEPT",
    ]
    assert not [rule for rule in rules[4]["GATEHOUSE"] if "tcp" in rule]


@pytest.mark.parametrize(("server", "uid", "port"), [("haproxy", 105, 8081), ("nginx", 33, 8084)])
def test_on_an_edge_its_server_alone_speaks_to_what_is_behind_it(
    host: Callable[..., Recorded], server: str, uid: int, port: int
) -> None:
    rules = wanted(in_fleet(host(users=EDGE), "edge1", edge={"server": server}))
    doors = (f"-d 10.0.0.12/32 -p tcp -m tcp --dport {port}", "-d 10.0.0.11/32 -p tcp -m tcp --dport 8083")

    assert rules[4]["GATEHOUSE-OUTER"] == [
        rule
        for door in doors
        for rule in (
            f"{door} -m owner --uid-owner 0 -j ACCEPT",
            f"{door} -m owner --uid-owner {uid} -j ACCEPT",
            f"{door} -j REJECT --reject-with tcp-reset",
        )
    ]
    assert f"-p tcp -m tcp --dport 8082 -m owner --uid-owner {uid} -j ACCEPT" in rules[4]["GATEHOUSE-INNER"]
    assert "-p tcp -m multiport --dports 80,443 -j ACCEPT" in rules[4]["GATEHOUSE"]


@pytest.mark.parametrize(("name", "port"), [("app1", 8081), ("static1", 8083)])
def test_behind_an_edge_root_s_listener_alone_answers(host: Callable[..., Recorded], name: str, port: int) -> None:
    rules = wanted(in_fleet(host(), name))

    assert [f"-p tcp -m tcp --sport {port} -m owner ! --uid-owner 0 -j DROP"] == rules[4]["GATEHOUSE-OUTER"]


def test_an_inner_host_s_ssh_may_be_opened_for_a_while_to_who_comes_without_a_bastion(
    host: Callable[..., Recorded],
) -> None:
    there = in_fleet(host(users={}, clock=1_795_000_000), "db1")
    there.after(firewall.allow, what="22", from_="203.0.113.7")

    assert there._done
    assert "22/tcp is open to 203.0.113.7" in there._done[0]


SHOWN = """\
clock\t1795000000
ssh\t22
4 filter\t:INPUT DROP [0:0]
4 filter\t[3:180] -A GATEHOUSE -s 10.0.0.10/32 -p tcp -m tcp --dport 22 -j ACCEPT
4 filter\t[9:540] -A GATEHOUSE -s 10.0.0.12/32 -p tcp -m tcp --dport 3306 -j ACCEPT
4 filter\t[1:60] -A GATEHOUSE -j DROP
"""


def faults_of(text: str, name: str = "db1") -> list[str]:
    rules = reading.read(text)
    reading.meet(rules, fleet(SPLIT), name)
    return [fault for fault in rules.faults if "may come" in fault or "cannot" in fault]


def test_the_rules_in_force_name_the_fleet_s_hosts() -> None:
    rules = reading.read(SHOWN)
    reading.meet(rules, fleet(SPLIT), "db1")

    assert [("edge1", "22/tcp"), ("app1", "3306/tcp"), ("", "everything else")] == [
        (row.name, row.what) for row in rules.rows
    ]
    assert [] == faults_of(SHOWN)


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (lambda text: text.replace("--dport 3306", "--dport 3307"), "app1 cannot come to 3306/tcp (mariadb)"),
        (lambda text: text.replace("--dport 22 ", "--dport 2222 "), "edge1 cannot come to 22/tcp (ssh)"),
        (lambda text: text.replace("10.0.0.12/32", "10.0.0.11/32"), "static1 may come to 3306/tcp, and no role wants"),
        (lambda text: text.replace("-s 10.0.0.12/32 ", ""), "world may come to 3306/tcp, and no role wants it"),
    ],
)
def test_who_is_let_in_and_who_is_not_is_told_by_name(broken: Callable[[str], str], fault: str) -> None:
    assert fault in " ".join(faults_of(broken(SHOWN)))


def test_who_comes_through_a_bastion_is_not_remembered_by_the_bastion_s_address(host: Callable[..., Recorded]) -> None:
    there = in_fleet(host(client="10.0.0.10"), "db1")

    assert {"/etc/gatehouse/operators": ""} == contents(there.after(firewall.operators))


# ---------------------------------------------------------------------- how one came to a host inside


def test_who_comes_directly_to_a_host_that_will_let_in_its_bastions_alone_is_told_the_way(
    host: Callable[..., Recorded],
) -> None:
    there = in_fleet(host(), "db1")

    with pytest.raises(Guarded) as refused:
        there.after(firewall.apply)

    assert "shall let in nobody but edge1 (10.0.0.10)" in refused.value.message
    assert "below `Host db1`, write: ProxyJump edge1; and as its HostName: 10.0.0.14" in refused.value.next_step


def test_who_asked_the_bastion_for_another_name_is_told_which_one_it_will_take(host: Callable[..., Recorded]) -> None:
    there = in_fleet(host(client="10.0.0.10"), "db1")
    there.came = there.came._replace(asked="db1.internal")

    with pytest.raises(Guarded, match=r"edge1 was asked for db1\.internal, and shall lead to 10\.0\.0\.14 alone"):
        there.after(firewall.apply)
    there.came = there.came._replace(asked="10.0.0.14")
    there.after(firewall.apply)


def test_who_was_let_in_for_a_while_is_not_refused(host: Callable[..., Recorded]) -> None:
    """By firewall.allow, on a host that lets in its bastions alone already."""
    rules = tuple(f"-A GATEHOUSE {rule}" for rule in chain(4, (22,), (), bastions=("10.0.0.10",)))
    there = in_fleet(host(rules4=(":GATEHOUSE - [0:0]", *rules)), "db1")

    there.after(firewall.apply)


@pytest.mark.parametrize("name", ["edge1", "vps"])
def test_who_comes_to_any_other_host_comes_as_he_likes(host: Callable[..., Recorded], name: str) -> None:
    there = in_fleet(host(), "edge1") if name == "edge1" else host()

    there.after(firewall.apply)


def test_an_inner_host_s_failsafe_wants_ssh_from_the_bastions_of_each_family_alone(
    host: Callable[..., Recorded], tmp_path: Path
) -> None:
    text = contents(in_fleet(host(), "db1").after(firewall.failsafe))[firewall.FAILSAFE]
    for tool in ("iptables", "ip6tables"):  # in force: as on the host, where the one bastion has an IPv4 address
        door = "echo -A GATEHOUSE -s 10.0.0.10/32 -p tcp -m tcp --dport 22 -j ACCEPT" if tool == "iptables" else ":"
        (tmp_path / tool).write_text(f"#!/bin/sh\necho -P INPUT DROP\n{door}\n")
        (tmp_path / f"{tool}-restore").write_text(f"#!/bin/sh\ncat > {tmp_path}/{tool}.rules\n")
    for program in tmp_path.iterdir():
        program.chmod(0o755)

    def run() -> int:
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        code: int = subprocess.run(["sh", "-c", text], env=env, check=False, capture_output=True).returncode
        return code

    assert 0 == run()
    (tmp_path / "iptables").write_text("#!/bin/sh\necho -P INPUT DROP\n")
    assert 1 == run()
    loaded = (tmp_path / "iptables.rules").read_text()
    assert "-A GATEHOUSE -s 10.0.0.10/32 -p tcp -m tcp --dport 22 -j ACCEPT\n" in loaded
    assert 1 == loaded.count("--dport 22")
