"""The engine's promises, each on a real host."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from .conftest import Bare, Engine
from .lab import Lab
from .machine import Machine, run_tool

LISTING = "find /etc /usr/local /var/www /var/lib/gatehouse -printf '%p %y %m %u %g %s %T@ %l\\n' 2> /dev/null | sort"


def data(machine: Machine, *task: str) -> dict[str, object]:
    """A run's own account of itself."""
    done = machine.fab(*task, "--json")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


# ---------------------------------------------------------------------- one look, and truth in a dry run


def test_a_run_that_changes_nothing_is_one_round_trip(vps: Machine) -> None:
    told = data(vps, "bootstrap")

    assert 0 == told["changed"] == told["failed"]
    assert 1 == told["round_trips"]


def test_it_opens_one_channel(vps: Machine) -> None:
    """sshd's own account: one connection, one session; sudo's: one command."""
    cursor = vps.check("journalctl -q -n 1 --show-cursor | sed -n 's/^-- cursor: //p'").strip()
    vps.fab("bootstrap")
    journal = vps.check(f"journalctl --sync; journalctl -q --after-cursor '{cursor}' -o cat")

    assert 1 == len(re.findall(r"Accepted publickey for ops", journal))
    assert 1 == len(re.findall(r"ops : .*COMMAND=", journal))


def test_a_dry_run_of_everything_on_a_bare_host_changes_nothing(bare: Bare) -> None:
    host = bare()
    seen = [LISTING, "dpkg -l"]
    before = [host.check(command).splitlines() for command in seen]

    done = host.fab("--dry", "bootstrap")

    assert 0 == done.returncode, done.stderr
    assert re.search(r"(\d+) would change, 0 failed", done.stdout)
    for command, lines in zip(seen, before, strict=True):
        assert lines == host.check(command).splitlines()


def test_the_look_says_what_systemd_says_of_units(vps: Machine, engine) -> None:  # type: ignore[no-untyped-def]
    """It reads links instead of asking for all, which takes systemd longer than all the rest of the look."""
    lines = vps.check("systemctl list-unit-files --plain --no-legend").splitlines()
    states = {name: state for name, state, *_ in map(str.split, lines) if "@." not in name}
    told = engine(vps, "print(*(f'{name} {unit.enabled}' for name, unit in host.facts.units.items()), sep='\\n')")
    found = dict(line.split(" ") for line in told.stdout.splitlines() if line.count(" ") == 1)

    assert {name for name, state in states.items() if state == "enabled"} == {
        name for name, state in found.items() if state == "enabled" and name in states
    }
    assert "enabled" == found["haproxy.service"]
    assert "masked" == states["varnishncsa.service"] == found["varnishncsa.service"]


def test_a_unit_that_cannot_be_enabled_is_enabled_once_at_most(vps: Machine, engine) -> None:  # type: ignore[no-untyped-def]
    path = "/etc/systemd/system/gatehouse-test.service"
    body = f"""
        host.file({path!r}, "[Service]\\nExecStart=sleep infinity\\n")
        host.flush()
        host.service("gatehouse-test", restart_on=[{path!r}])
        print("to do:", *(change.summary for change in host._pending))"""
    try:
        first, again = (engine(vps, body).stdout for _ in range(2))

        assert "to do: gatehouse-test restarted" in first
        assert "to do:\n" in again
        assert "static" == vps.exec("systemctl is-enabled gatehouse-test").out.strip()
    finally:
        vps.check(f"systemctl stop gatehouse-test; rm -f {path} /var/lib/gatehouse/loaded/gatehouse-test.*")
        vps.check("systemctl daemon-reload; etckeeper commit test")


# ---------------------------------------------------------------------- files


def test_a_file_that_its_check_refuses_never_lands(vps: Machine, engine) -> None:  # type: ignore[no-untyped-def]
    before = vps.check("sha256sum /etc/haproxy/haproxy.cfg; ls -la /etc/haproxy")

    done = engine(
        vps,
        """path = "/etc/haproxy/haproxy.cfg"
host.file(path, "nonsense", check=f"haproxy -c -f {path}"); host.flush()""",
    )

    assert "PROBLEM judge /etc/haproxy/haproxy.cfg: exit code 1" in done.stdout
    assert "nonsense" in done.stdout
    assert before == vps.check("sha256sum /etc/haproxy/haproxy.cfg; ls -la /etc/haproxy")


def test_mode_and_owner_stand_before_the_content(vps: Machine, engine) -> None:  # type: ignore[no-untyped-def]
    """Nobody but root can read a secret at any moment of its way."""
    watch = "/usr/local/sbin/gatehouse-test"
    vps.put(
        {watch: b"#!/bin/sh\nwhile :; do cat /etc/gatehouse/test-secret /run/gatehouse.*/put/*/* 2> /dev/null; done\n"},
        0o755,
    )
    vps.check(
        f"setpriv --reuid ops --regid ops --clear-groups {watch} > /tmp/seen 2> /dev/null & echo $! > /run/watch.pid"
    )
    try:
        engine(vps, 'host.file("/etc/gatehouse/test-secret", "canary" * 100000, mode=0o600, secret=True); host.flush()')
        time.sleep(0.5)

        assert "600 root:root" == vps.check("stat -c '%a %U:%G' /etc/gatehouse/test-secret").strip()
        assert "0" == vps.check("stat -c %s /tmp/seen").strip()
    finally:
        vps.check(f"kill $(cat /run/watch.pid); rm -f /etc/gatehouse/test-secret {watch} /tmp/seen")
        vps.check("etckeeper commit test")


def test_a_site_s_directory_is_made_as_its_user_and_never_touched_again(vps: Machine) -> None:
    tree = "/var/www/example.com/public_html"
    assert "example-com:www-data 750" == vps.check(f"stat -Lc '%U:%G %a' {tree}").strip()
    vps.check(f"setpriv --reuid example-com --regid example-com --clear-groups ln -sfn /etc/shadow {tree}/_/link")
    shadow = vps.check("stat -c '%a %U:%G %Z' /etc/shadow")
    try:
        assert 0 == vps.fab("bootstrap").returncode
        assert shadow == vps.check("stat -c '%a %U:%G %Z' /etc/shadow")
    finally:
        vps.check(f"rm {tree}/_/link")


# ---------------------------------------------------------------------- getting in


def test_a_revert_that_is_not_needed_never_fires(vps: Machine) -> None:
    assert "" == vps.check("systemctl list-timers --all --no-legend 'gatehouse-revert*'").strip()
    assert 1 == vps.exec("test -e /var/lib/gatehouse/revert.sh").rc


def test_without_a_host_nothing_runs_on_the_laptop(vps: Machine) -> None:
    refused = run_tool("fab", "bootstrap")

    assert 3 == refused.returncode
    assert "fab -H vps bootstrap" in refused.stderr


def test_a_host_that_is_not_there_is_said_so(lab: Lab, vps: Machine, tmp_path: Path) -> None:
    directory = lab.describe(tmp_path, sites=lab.directory / "sites")
    config = directory / "ssh_config"
    config.write_text(config.read_text().replace(f"HostName {vps.ip}\n", "HostName 127.0.0.1\n    Port 9\n", 1))

    refused = run_tool("fab", "-S", str(config), "-H", "vps", "bootstrap")

    assert 1 == refused.returncode
    assert "cannot be reached" in refused.stderr
    assert "try: ssh" in refused.stderr


# ---------------------------------------------------------------------- trouble on the way


# ---------------------------------------------------------------------- one at a time, and its history


def test_etc_has_a_history_without_keys_and_secrets(vps: Machine) -> None:
    log = vps.check("git -C /etc log --format=%s")
    kept = vps.check("git -C /etc ls-files").splitlines()

    assert "gatehouse bootstrap by" in log
    assert "haproxy/haproxy.cfg" in kept
    private = ("shadow", "gshadow", "ssh/ssh_host_", "haproxy/certs/", "lego/", "gatehouse/secrets/", "varnish/secret")
    assert [] == [path for path in kept if path.startswith(private) and not path.endswith(".pub")]
    assert "700" == vps.check("stat -c %a /etc/.git").strip()
    assert "" == vps.check("git -C /etc status --porcelain")


def test_what_a_run_changed_before_it_failed_is_in_the_history(vps: Machine, engine: Engine) -> None:
    path = "/etc/gatehouse/test"
    try:
        engine(vps, f'host.file({path!r}, "x"); host.flush(); raise RuntimeError("on purpose")')

        assert "gatehouse test.step by" in vps.check(f"git -C /etc log --format=%s -- {path}")
        assert "" == vps.check("git -C /etc status --porcelain")
    finally:
        vps.check(f"rm {path}; etckeeper commit test")


def test_nothing_of_a_visit_is_left_behind(vps: Machine) -> None:
    vps.fab("bootstrap")

    assert "" == vps.check("ls -d /run/gatehouse.????????; find /etc /usr/local /var/www -name '.gatehouse.*'; true")
