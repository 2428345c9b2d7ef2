"""What a stranger finds open on a bootstrapped host, over IPv4 and IPv6. (T2, step 5)"""

import re

import pytest

from .machine import Machine, Stranger

OPEN = {22, 80, 443}


@pytest.mark.parametrize("family", [4, 6])
def test_of_all_tcp_ports_a_stranger_finds_three_and_no_answer_from_the_others(
    host: Machine, stranger: Stranger, family: int
) -> None:
    target = host.ip if family == 4 else f"-6 {host.ip6}"
    # Packets at a fixed pace: ports that drop are not waited for one by one.
    seen = stranger.check(f"nmap -n -Pn -p- --min-rate 20000 --max-retries 3 -oG - {target}", timeout=300)
    states = dict(re.findall(r"(\d+)/([a-z|]+)/tcp", seen))
    assert {int(port) for port, state in states.items() if state == "open"} == OPEN
    assert set(states.values()) == {"open"}, "a port that answers with a refusal tells that a host is there"
    assert "Ignored State: filtered (65532)" in seen


def test_without_the_firewall_nothing_more_would_be_open(host: Machine) -> None:
    """The second wall: whoever is behind the front listens on the loopback alone."""
    listening = host.check("ss -Hltun").split("\n")
    outside = {
        (line.split()[0], int(place.rpartition(":")[2]))
        for line in filter(None, listening)
        if not re.match(r"(127\.|\[::1\]|\[::ffff:127\.)", place := line.split()[4])
    }
    assert outside == {("tcp", port) for port in OPEN}
