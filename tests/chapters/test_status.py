"""What a host says becomes readings, and what is wrong is named."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from fabfile.engine.pool import chosen_fleet
from fabfile.model import Fleet, Refusal
from fabfile.model.ways import misplaced
from fabfile.status import Reading, lines, readings
from fabfile.status.fleet import Row


def faults(answer: str, ssh_ports: tuple[int, ...] = (22,)) -> list[str]:
    judge = partial(misplaced, Fleet(), "vps", ssh_ports=ssh_ports)
    return [f"{one.layer} {one.name}: {one.fault}" for one in readings(answer, judge) if one.fault]


WELL = "\n".join(
    [
        "service haproxy\tactive enabled",
        "service apache2\tactive static",
        "listens\t0.0.0.0:443",
        "listens\t127.0.0.1:8081",
        "listens\t[::1]:8080",
        "listens\t[::]:22",
        "policy IPv4\tDROP",
        "certificate\texample.com\t60\t60\t1800000000\t7776000\tok\taa\taa\t",
        "renewal\t46000",
        "server\tvarnish/v1 UP",
        "pool\texample-com 1 5",
        "disk\t/ 40",
        "memory\t35",
        "cache\tMAIN.cache_hit 3",
        "cache\tMAIN.cache_miss 1",
    ]
)


def test_a_host_that_is_well_has_no_fault() -> None:
    assert [] == faults(WELL)


def test_the_hit_rate_is_of_all_look_ups() -> None:
    assert Reading("varnish", "hits", "75% of 4 look-ups") in list(readings(WELL, lambda *_: ""))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("service haproxy\tfailed enabled", "service haproxy: not active"),
        ("service haproxy\tinactive disabled", "service haproxy: not active"),
        ("service haproxy\tactive disabled", "service haproxy: does not start at boot"),
        ("service haproxy\tinactive masked", "service haproxy: masked: systemctl unmask haproxy"),
        ("service haproxy\tactive masked-runtime", "service haproxy: masked: systemctl unmask haproxy"),
        ("service haproxy", "service haproxy: not active"),
        ("service mariadb\tfailed enabled", "service mariadb: not active"),
        ("unit-failed\tlogrotate.service", "service logrotate.service: systemctl status logrotate.service"),
        ("listens\t0.0.0.0:6081", "port 6081: listens to the world"),
        ("listens\t[::]:3306", "port 3306: listens to the world"),
        ("policy IPv6\tACCEPT", "firewall IPv6: what no rule allows is let in"),
        ("certificate\texample.com\t60\t10\t1\t1\tdiffers\ta\tb\t", "certificate example.com: differs"),
        ("certificate\texample.com", "certificate example.com: not readable"),
        ("certificate\texample.com\t20\t20\t1\t1\tlate\ta\ta\t", "certificate example.com: late"),
        ("renewal\t93700", "certificate renewal: cron is not coming"),
        ("server\tvarnish/v1 DOWN", "haproxy varnish/v1: down"),
        ("pool\texample-com 5 5", "php example-com: all workers busy"),
        ("disk\t/var 96", "disk /var: 96% full"),
        ("inodes\t/ 90", "inodes /: 90% full"),
        ("memory\t97", "memory used: 97% full"),
    ],
)
def test_what_is_wrong_is_named(line: str, fault: str) -> None:
    assert [fault] == faults(WELL + "\n" + line)


def test_sshd_may_listen_where_it_really_does() -> None:
    assert [] == faults("listens\t0.0.0.0:2222", (2222,))


def test_passwords_over_ssh_and_sites_that_may_become_root_are_faults() -> None:
    assert ["ssh logins: can be guessed"] == faults("logins\tyes")
    assert [] == faults("logins\tno\nsudo ops\tALL=(ALL) NOPASSWD: ALL")
    told = readings("sudo example-com\tALL=(root) NOPASSWD: /usr/bin/tar *", lambda *_: "", {"example-com"})
    assert ["a site's user may become root"] == [one.fault for one in told]
    assert ["sudo sudoers: on the host, visudo -c says where"] == faults("sudoers\tbroken")


def test_a_long_fault_stands_below_its_reading_and_fits_the_screen() -> None:
    long = "it differs from yours: one of the two is wrong, and which one only a third clock can tell you for sure"
    found = [
        *readings(WELL, lambda *_: ""),
        Reading("clock", "host", "-86400 s", long),
        Reading("disk", "/", "99%", "99% full"),
    ]

    told = [line.plain for line in lines(found, 80)]

    assert max(map(len, told)) <= 80
    assert long == " ".join(line.strip() for line in told[-4:-1]).partition("-86400 s ")[2]
    assert ["disk", "/", "99%", "99%", "full"] == told[-1].split()


def test_a_host_that_cannot_be_reached_is_a_row_of_its_own() -> None:
    assert ("web2", "unreachable", "-", "-", "-") == Row("web2", False, ("no route to host",)).cells
    assert ("web1", "1 fault", "3", "0.2", "9ebccbb12*") == Row("web1", True, ("x",), 3, "0.2", "9ebccbb12a").cells
    assert ("web1", "well", "60", "0.2", "9ebccbb12") == Row("web1", True, (), 60, "0.2", "9ebccbb12a", True).cells


def test_a_fleet_without_hosts_says_what_to_type_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GATEHOUSE_FLEET", raising=False)

    with pytest.raises(Refusal) as refused:
        chosen_fleet("", "fab -H vps status")

    assert "fab -H vps status" in str(refused.value)
