"""Firewall: one list for both families, SSH where it really is, and nothing done when it is in force already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fabfile import firewall
from fabfile.engine.changes import Load, PutFile, Run
from fabfile.engine.facts import User

from .recording import Recorded, contents

USERS = {name: User(name, uid, uid, "/nonexistent", "") for name, uid in {"haproxy": 105, "vcache": 107}.items()}


def live(family: int, *, ports: tuple[int, ...] = (22,), operators: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What iptables-save says when our rules are in force, with a ban of fail2ban's before them."""
    return (
        "*filter",
        ":INPUT DROP [12:345]",
        ":GATEHOUSE - [0:0]",
        ":f2b-sshd - [0:0]",
        "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd",
        "-A INPUT -j GATEHOUSE",
        *(f"-A GATEHOUSE {rule}" for rule in firewall.chain(family, ports, operators)),
        "-A f2b-sshd -s 192.0.2.99/32 -j REJECT --reject-with icmp-port-unreachable",
        "COMMIT",
    )


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorded]:
    def make(**known: Any) -> Recorded:
        return Recorded(monkeypatch, ssh_ports=(22,), client="192.0.2.7", **known)

    return make


@pytest.mark.parametrize("family", [4, 6])
def test_what_is_open_is_what_the_tutorial_opens_and_then_drop(family: int) -> None:
    rules = firewall.chain(family, (22,), ())

    assert "-i lo -j ACCEPT" == rules[0]
    assert "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT" == rules[1]
    assert "-p tcp -m tcp --dport 22 -j ACCEPT" in rules
    assert "-p tcp -m multiport --dports 80,443 -j ACCEPT" in rules
    assert "-j DROP" == rules[-1]
    assert 1 == sum(rule.endswith("-j DROP") and "INVALID" not in rule for rule in rules)


def test_ssh_is_open_on_the_ports_that_it_really_has() -> None:
    rules = firewall.chain(4, (2222, 22), ())

    assert ["-p tcp -m tcp --dport 22 -j ACCEPT", "-p tcp -m tcp --dport 2222 -j ACCEPT"] == [
        rule for rule in rules if rule.startswith("-p tcp -m tcp")
    ]


def test_an_operator_gets_in_by_its_own_family_alone() -> None:
    operators = ("192.0.2.0/24", "2001:db8::/64")

    assert "-s 192.0.2.0/24 -p tcp -m tcp --dport 22 -j ACCEPT" in firewall.chain(4, (22,), operators)
    assert "-s 2001:db8::/64 -p tcp -m tcp --dport 22 -j ACCEPT" in firewall.chain(6, (22,), operators)
    assert [] == [rule for rule in firewall.chain(4, (22,), operators) if "2001:db8" in rule]


def test_without_neighbour_discovery_there_is_no_ipv6() -> None:
    assert "-p ipv6-icmp -j ACCEPT" in firewall.chain(6, (22,), ())


def test_rules_in_force_are_known_with_bans_before_them() -> None:
    assert firewall.holds(live(4), firewall.chain(4, (22,), ()))


@pytest.mark.parametrize(
    "broken",
    [
        lambda rules: [line.replace(":INPUT DROP", ":INPUT ACCEPT") for line in rules],
        lambda rules: [line for line in rules if line != "-A INPUT -j GATEHOUSE"],
        lambda rules: [line for line in rules if "--dport 22" not in line],
        lambda rules: [*rules[:-1], "-A GATEHOUSE -p tcp -m tcp --dport 3306 -j ACCEPT"],
        lambda rules: [],
    ],
)
def test_anything_less_or_more_is_noticed(broken: Callable[[list[str]], list[str]]) -> None:
    assert not firewall.holds(broken(list(live(4))), firewall.chain(4, (22,), ()))


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

    for family, path in firewall.RULES.items():
        rules = firewall.chain(family, (22,), ("192.0.2.7/32",))
        assert rules == [line.removeprefix("-A GATEHOUSE ") for line in files[path].splitlines() if "-A GATE" in line]
        assert 1 == files[path].count("*filter")
        assert "*nat" not in files[path]
    assert {
        f"{tool} --test {path}" for tool, path in zip(("iptables-restore", "ip6tables-restore"), files, strict=True)
    } == {change.check for change in changes if isinstance(change, PutFile)}
    assert ["netfilter-persistent.service"] == [change.unit for change in changes if isinstance(change, Load)]


def test_operators_are_remembered_and_never_forgotten(host: Callable[..., Recorded]) -> None:
    there = host(operators=("203.0.113.5/32",))

    assert {"/etc/gatehouse/operators": "192.0.2.7/32\n203.0.113.5/32\n"} == contents(there.after(firewall.operators))


def test_a_layer_is_spoken_to_by_the_one_before_it_and_by_root() -> None:
    rules = firewall.inner(USERS)

    for port, uid in {8080: 107, 8081: 105, 8082: 105, 6082: 0}.items():
        owners = {
            rule.split("--uid-owner ")[1] for rule in rules if f"--dport {port} -m owner" in rule and "ACCEPT" in rule
        }
        assert {"0 -j ACCEPT", f"{uid} -j ACCEPT"} == owners
    assert "-p tcp -m multiport --dports 6082,8080,8081,8082 -j REJECT --reject-with tcp-reset" == rules[-1]


def test_before_the_layers_are_there_nothing_guards_them(host: Callable[..., Recorded]) -> None:
    fresh = host()

    assert [] == fresh.after(firewall.layers)
    assert ["no layers to guard yet"] == fresh.notes
    assert all("INNER" not in text for text in contents(fresh.after(firewall.persist)).values())


def test_the_guard_is_set_once_and_is_there_at_the_next_boot(host: Callable[..., Recorded]) -> None:
    changes = host(users=USERS).after(firewall.layers)
    rules = firewall.inner(USERS)
    in_force = [firewall.INNER_JUMP, *(f"-A GATEHOUSE-INNER {rule}" for rule in rules)]

    assert 1 == sum(isinstance(change, Run) for change in changes)
    for text in contents(changes).values():
        lines = text.splitlines()
        assert in_force == [line for line in lines if "INNER" in line and not line.startswith(":")]
        assert lines.index(":GATEHOUSE-INNER - [0:0]") < lines.index("-A INPUT -j GATEHOUSE")

    again = host(users=USERS, rules4=tuple(in_force), rules6=tuple(in_force)).after(firewall.layers)
    assert not any(isinstance(change, Run) for change in again)
    assert not firewall.inner_holds(in_force[1:], rules)
    assert not firewall.inner_holds(in_force[:-1], rules)
