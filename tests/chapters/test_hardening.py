"""What auditors look for: settled at the first run, and left alone at the second."""

from __future__ import annotations

import re

import pytest

from fabfile import hardening
from fabfile.engine.changes import Run
from tests.chapters.recording import Recorded, a_file, contents


def test_the_kernel_s_list_is_what_it_will_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch)
    text = contents(host.after(hardening.modules))["/etc/modprobe.d/gatehouse.conf"]

    assert set(re.findall(r"(?m)^install (\S+) /bin/false$", text)) == set(re.findall(r"(?m)^blacklist (\S+)$", text))


def test_only_open_tables_of_cron_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/etc/crontab": a_file(), "/etc/cron.d/php": a_file(), "/etc/cron.d/x": a_file(mode=0o600)}
    closed = [change for change in Recorded(monkeypatch, files=files).after(hardening.cron) if isinstance(change, Run)]

    assert [("/etc/cron.d/php", "/etc/crontab")] == [change.args for change in closed]


def test_no_password_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """sshd turns a key away, too, once the password of its account has expired."""
    text = contents(Recorded(monkeypatch).after(hardening.logins))["/etc/login.defs"]

    assert "PASS_MAX_DAYS 99999\n" in text


@pytest.mark.parametrize(("release", "reads"), [("12", True), ("13", False)])
def test_login_defs_has_what_its_release_reads(monkeypatch: pytest.MonkeyPatch, release: str, reads: bool) -> None:
    text = contents(Recorded(monkeypatch, release=release).after(hardening.logins))["/etc/login.defs"]

    assert ("FAILLOG_ENAB" in text) is reads


def test_a_container_s_shared_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert () == tuple(Recorded(monkeypatch, container="docker").after(hardening.memory))
    assert Recorded(monkeypatch).after(hardening.memory)
