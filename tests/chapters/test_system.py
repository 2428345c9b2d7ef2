"""System: updated once a day, with a history that holds no secrets, and at peace in a container."""

from __future__ import annotations

import pytest

from fabfile import system
from fabfile.engine.changes import Install, Run

from .recording import Recorded, contents

DAY = 86400


@pytest.mark.parametrize(
    ("clock", "updated", "audit", "wanted"),
    [
        (10 * DAY, 10 * DAY - 60, "", False),
        (10 * DAY, 9 * DAY - 60, "", True),
        (10 * DAY, 0, "", True),
        (10 * DAY, 10 * DAY - 60, "half-installed: vim", True),
    ],
)
def test_a_host_is_updated_once_a_day_or_when_dpkg_was_interrupted(
    monkeypatch: pytest.MonkeyPatch, clock: int, updated: int, audit: str, wanted: bool
) -> None:
    host = Recorded(monkeypatch, clock=clock, lists_updated=updated, audit=audit)

    assert wanted == bool(host.after(system.update))


def test_a_needed_reboot_is_told_and_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, clock=1, lists_updated=1, reboot_needed="linux-image ")

    assert [] == host.after(system.update)
    assert "a reboot is needed (linux-image" in host.notes[0]


def test_the_history_begins_with_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = Recorded(monkeypatch).after(system.history)
    left_out = contents(changes)[system.EXCLUDE].split()

    assert {"/shadow*", "/ssh/ssh_host_*_key", "/haproxy/certs/", "/lego/", "/gatehouse/secrets/"} <= set(left_out)
    assert isinstance(changes[-1], Run)
    assert (system.EXCLUDE,) == changes[-1].args


def test_a_history_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, packages={"etckeeper": "1"})

    assert [] == [change for change in host.after(system.history) if isinstance(change, Run)]


def test_a_host_keeps_its_name_unless_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, packages={"libnss-myhostname": "1"})

    assert [] == host.after(system.hostname)
    [change] = host.after(system.hostname, name="web1")
    assert isinstance(change, Run)
    assert ("web1",) == change.args


def test_a_container_sets_only_its_own_network_s_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = contents(Recorded(monkeypatch, container="docker").after(system.kernel))[system.SYSCTL]
    outside = contents(Recorded(monkeypatch).after(system.kernel))[system.SYSCTL]

    assert [] == [line for line in inside.splitlines() if line and not line.startswith(("#", "net."))]
    assert "kernel.kptr_restrict = 2" in outside
    assert "net.ipv4.tcp_syncookies = 1" in inside
    assert "net.ipv4.tcp_syncookies = 1" in outside


def test_security_updates_never_reboot_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = Recorded(monkeypatch).after(system.upgrades)

    assert 'Automatic-Reboot "false"' in contents(changes)["/etc/apt/apt.conf.d/52gatehouse"]
    assert "unattended-upgrades" in next(change for change in changes if isinstance(change, Install)).names


@pytest.mark.parametrize(("skew", "told"), [(0, []), (-86400, ["its clock is 86400 s behind yours"])])
def test_a_clock_that_differs_from_the_operator_s_is_told(
    monkeypatch: pytest.MonkeyPatch, skew: int, told: list[str]
) -> None:
    host = Recorded(monkeypatch, packages={"systemd-timesyncd": "1"}, container="docker")
    host.skew = skew
    host.after(system.clock)

    assert told == [note.partition(";")[0] for note in host.notes if "container" not in note]
