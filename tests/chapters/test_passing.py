"""What is open, or shut out, for a while: the rules, who is refused, and what `check` makes of them."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from fabfile import firewall
from fabfile.engine import Guarded
from fabfile.firewall import reading
from fabfile.firewall.rules import JUMPS, NOW, RULES, chain, end_of, inner, openings, passing, shutting, without_end
from fabfile.model import Fleet, Refusal

from .recording import Recorded, contents
from .test_firewall import USERS, live

CLOCK = 1_795_000_000  # 2026-11-18T11:06:40 UTC
TWO_HOURS = "-m time --datestop 2026-11-18T13:06:40"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorded]:
    """A host with our rules in force, and these for a while."""

    def make(*four: str, six: tuple[str, ...] = (), **known: Any) -> Recorded:
        given = {"ssh_ports": (22,), "client": "192.0.2.7", "clock": CLOCK, "addresses": ("198.51.100.1",), **known}
        mine = ("192.0.2.7/32",)
        rules = {
            4: (*live(4, operators=mine), *(f"-A {NOW} {rule}" for rule in four)),
            6: (*live(6), *(f"-A {NOW} {rule}" for rule in six)),
        }
        there = Recorded(monkeypatch, users=USERS, rules4=rules[4], rules6=rules[6], **given)
        monkeypatch.setattr(there, "ask", lambda *words: "")
        return there

    return make


def now(host: Recorded) -> list[list[str]]:
    """What would be in force for a while, by family."""
    return [passing(host.facts.rules4), passing(host.facts.rules6)]


def test_a_port_is_open_to_everybody_in_both_families_for_two_hours(host: Callable[..., Recorded]) -> None:
    there = host()
    there.after(firewall.allow, what="8443")

    rule = f"-p tcp -m tcp --dport 8443 {TWO_HOURS} -j ACCEPT"
    assert [[rule], [rule]] == now(there)
    assert there._done[0].startswith("8443/tcp is open to everybody until 2026-11-18 ")
    assert "nothing listens" not in str(there.notes)  # a dry run asks nobody


def test_a_port_is_open_to_one_network_in_its_family_alone_and_boots_so(host: Callable[..., Recorded]) -> None:
    there = host()
    files = contents(there.after(firewall.allow, what="53", proto="udp", from_="2001:db8::/32", for_="7d"))

    rule = "-s 2001:db8::/32 -p udp -m udp --dport 53 -m time --datestop 2026-11-25T11:06:40 -j ACCEPT"
    assert [[], [rule]] == now(there)
    assert f"-A {NOW} {rule}\n" in files[RULES[6]]


def test_typed_again_it_gets_a_new_end_and_no_second_rule(host: Callable[..., Recorded]) -> None:
    old = "-p tcp -m tcp --dport 8443 -m time --datestop 2026-11-18T12:00:00 -j ACCEPT"
    other = old.replace("8443", "8444")
    there = host(old, other, six=(old,))
    there.after(firewall.allow, what="8443/tcp", for_="2h")

    assert [other, f"-p tcp -m tcp --dport 8443 {TWO_HOURS} -j ACCEPT"] == now(there)[0]
    assert 1 == len(now(there)[1])


def test_deny_is_the_way_back_of_allow_and_allow_that_of_deny(host: Callable[..., Recorded]) -> None:
    there = host()
    there.after(firewall.allow, what="8443", from_="203.0.113.0/24")
    there.after(firewall.allow, what="8443")
    there.after(firewall.deny, what="203.0.113.0/24", for_="1h")
    shut = "-s 203.0.113.0/24 -m conntrack --ctdir ORIGINAL -m time --datestop 2026-11-18T12:06:40 -j DROP"
    assert shut == now(there)[0][0], "who is shut out is so before anything is let in"

    there.after(firewall.deny, what="8443")
    assert [[shut], []] == now(there)
    there.after(firewall.allow, what="203.0.113.0/24")
    assert [[], []] == now(there)


def test_what_was_never_allowed_is_told_and_nothing_is_loaded(host: Callable[..., Recorded]) -> None:
    there = host()
    assert [] == there.after(firewall.deny, what="8443")
    assert "nothing to take back" in there.notes[0]
    assert [] == there._done


def test_what_holds_for_a_while_is_no_drift_neither_before_its_end_nor_after(host: Callable[..., Recorded]) -> None:
    rule = f"-p tcp -m tcp --dport 8443 {TWO_HOURS} -j ACCEPT"
    for clock in (CLOCK, CLOCK + 86400):
        there = host(rule, clock=clock)
        there.after(firewall.apply)
        assert [] == there._done
        assert rule in contents(there.after(firewall.persist))[RULES[4]]


def test_what_has_ended_goes_when_something_else_is_loaded(host: Callable[..., Recorded]) -> None:
    there = host(f"-p tcp -m tcp --dport 8443 {TWO_HOURS} -j ACCEPT", clock=CLOCK + 86400)
    there.facts.rules6 = ()
    there.after(firewall.apply)
    assert ["load the rules"] == there._done
    assert [[], []] == now(there)


@pytest.mark.parametrize("port", ["22", "443", "80/tcp"])
def test_what_is_open_anyway_is_said_and_not_opened_twice(host: Callable[..., Recorded], port: str) -> None:
    there = host()
    assert [] == there.after(firewall.allow, what=port)
    assert "is open anyway" in there.notes[0]


@pytest.mark.parametrize(
    ("task", "what", "told"),
    [
        (firewall.allow, "8080", "between the layers"),
        (firewall.deny, "22", "how one gets in"),
        (firewall.deny, "443", "the sites'"),
        (firewall.deny, "8443", "open for good"),
        (firewall.deny, "192.0.2.0/24", "192.0.2.7/32, an operator's"),
        (firewall.deny, "198.51.100.1", "one of our own"),
        (firewall.deny, "10.0.0.0/8", "10.0.0.11"),
        (firewall.deny, "127.0.0.0/8", "one of our own"),
    ],
)
def test_nobody_shuts_himself_or_a_site_out(
    host: Callable[..., Recorded], task: Any, what: str, told: str
) -> None:
    there = host()
    there.fleet = Fleet.model_validate({"open": {"8443/tcp": ()}, "hosts": {"vps": {}, "db": {"address": "10.0.0.11"}}})
    with pytest.raises(Guarded, match=told):
        there.after(task, what=what)
    assert [] == there._done


@pytest.mark.parametrize(
    ("task", "words", "told"),
    [
        (firewall.allow, {"what": "0"}, "from 1 to 65535"),
        (firewall.allow, {"what": "65536"}, "from 1 to 65535"),
        (firewall.allow, {"what": "http"}, "an address or a network, or a port"),
        (firewall.allow, {"what": "8443", "proto": "sctp"}, "--proto sctp"),
        (firewall.allow, {"what": "8443", "for_": "2 hours"}, "--for"),
        (firewall.allow, {"what": "8443", "for_": "31d"}, "at most 30d"),
        (firewall.allow, {"what": "8443", "for_": "-1h"}, "--for"),
        (firewall.allow, {"what": "8443", "from_": "somewhere"}, "--from somewhere"),
        (firewall.allow, {"what": "8443", "from_": "203.0.113.7/24"}, "is it 203.0.113.7 or 203.0.113.0/24"),
        (firewall.allow, {"what": "203.0.113.0/24", "for_": "2h"}, "neither --from nor --for"),
        (firewall.deny, {"what": "8443", "for_": "2h"}, "no --for"),
        (firewall.deny, {"what": "0.0.0.0/0"}, "too wide"),
        (firewall.deny, {"what": "1.2.3.4; reboot"}, "an address or a network"),
    ],
)
def test_what_makes_no_sense_is_refused(
    host: Callable[..., Recorded], task: Any, words: dict[str, str], told: str
) -> None:
    with pytest.raises(Refusal, match=told):
        host().after(task, **words)


def test_ports_of_fleet_yml_are_open_for_good_to_those_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"8443/tcp": (), "161/udp": (ip_network("203.0.113.0/24"), ip_network("2001:db8::/32"))}
    four, six = (chain(family, (22,), (), more) for family in (4, 6))

    assert "-p tcp -m tcp --dport 8443 -j ACCEPT" in four
    assert "-s 203.0.113.0/24 -p udp -m udp --dport 161 -j ACCEPT" in four
    assert "-s 2001:db8::/32 -p udp -m udp --dport 161 -j ACCEPT" in six
    assert not any("203.0.113" in rule for rule in six)
    assert "-j DROP" == four[-1]


def test_the_end_of_a_rule_is_read_as_it_is_written() -> None:
    for rule in (*openings(4, "8443/tcp", (), CLOCK), shutting(ip_network("203.0.113.7"), CLOCK)):
        assert CLOCK == end_of(rule)
        assert 0 == end_of(without_end(rule))
    assert openings(4, "8443/tcp", ()) == [without_end(rule) for rule in openings(4, "8443/tcp", (), CLOCK)]


# ---------------------------------------------------------------------- show


def told(*more: str, boot: bool = True, policy: str = "DROP") -> str:
    """What the host prints: our rules with counters, some for a while, a ban, and `more`."""
    lines = [f"clock\t{CLOCK}"]
    for family in (4, 6):
        lasting = [f"-A {NOW} {rule}" for rule in openings(family, "8443/tcp", (), CLOCK + 60)]
        ended = [f"-A {NOW} {rule}" for rule in openings(family, "9000/tcp", (), CLOCK - 60)]
        ours = [f"-A GATEHOUSE {rule}" for rule in chain(family, (22,), ("203.0.113.5",))]
        ours += [*JUMPS.values(), *(f"-A GATEHOUSE-INNER {rule}" for rule in inner(USERS)), *lasting, *ended]
        lines += [f"{family} filter\t:INPUT {policy} [0:0]"]
        lines += [f"{family} filter\t[{number}:99] {rule}" for number, rule in enumerate(ours)]
        lines += [f"{family} filter\t[7:99] -A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd"]
        lines += [f"{family} boot\t{rule}" for rule in (ours if boot else ours[1:])]
    lines += ["4 filter\t[7:99] -A f2b-sshd -s 203.0.113.9/32 -j REJECT --reject-with icmp-port-unreachable"]
    return "\n".join([*lines, *more])


def test_rules_are_read_as_who_may_come_from_where_and_until_when() -> None:
    rules = reading.read(told())
    shown = [(row.verdict, row.what, row.source, row.until, set(row.packets)) for row in rules.rows]

    assert ("in", "22/tcp", "203.0.113.5/32", 0, {"4"}) in shown
    assert ("in", "22/tcp", "everybody", 0, {"4", "6"}) in shown
    assert ("in", "80,443/tcp", "everybody", 0, {"4", "6"}) in shown
    assert ("in", "8443/tcp", "everybody", CLOCK + 60, {"4", "6"}) in shown
    assert ("out", "everything else", "everybody", 0, {"4", "6"}) == shown[-1]
    assert not any("9000" in what for _, what, *_ in shown), "what has ended is not in force"
    assert {"sshd": 1} == rules.bans
    assert ([], []) == (rules.others, rules.faults)


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("4 filter\t[3:4] -A INPUT -p tcp -m tcp --dport 3306 -j ACCEPT", "IPv4 -A INPUT -p tcp -m tcp --dport 3306"),
        ("6 filter\t[3:4] -A DOCKER -j ACCEPT", "IPv6 -A DOCKER -j ACCEPT"),
        ("4 nat\t[3:4] -A PREROUTING -p tcp -j REDIRECT", "IPv4 table nat: -A PREROUTING"),
        ("nft\ttable inet f2b-table", "nftables: table inet f2b-table"),
        ("legacy\tfilter", "iptables-legacy: filter"),
    ],
)
def test_what_is_not_ours_is_told(line: str, other: str) -> None:
    (found,) = reading.read(told(line)).others
    assert found.startswith(other)


def test_what_is_not_in_force_or_would_not_be_after_a_boot_is_a_fault() -> None:
    assert all("next boot" in fault for fault in reading.read(told(boot=False)).faults)
    assert "let in all the same" in reading.read(told(policy="ACCEPT")).faults[0]
    assert "not in force" in str(reading.read("clock\t1\n4 filter\t:INPUT DROP [0:0]").faults)
