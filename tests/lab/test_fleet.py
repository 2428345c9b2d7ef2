"""`inv fleet.bootstrap`, `check` and `run` on two web servers: all at once, and what one does not do to the other."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .conftest import Bare
from .faults.terminal import Terminal
from .lab import Lab
from .machine import Machine, run_tool
from .pair import two_webs

pytestmark = pytest.mark.demand

ISSUE = "/etc/issue"
PACKAGE = "libnss-myhostname"


class Typed:
    """`inv fleet.TASK` with the fleet.yml of a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def line(self, task: str, *words: str) -> list[str]:
        return [f"fleet.{task}", "--fleet", str(self.directory / "fleet.yml"), *words]

    def __call__(self, task: str, *words: str) -> subprocess.CompletedProcess[str]:
        return run_tool("inv", *self.line(task, *words))

    def rows(self, task: str, *words: str) -> dict[str, dict[str, Any]]:
        """What --json tells, by host."""
        done = self(task, "--json", *words)
        return {row["host"]: row for row in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def webs(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Machine, Machine]]:
    """Two web servers, and the directory with their sites."""
    directory = tmp_path_factory.mktemp("fleet")
    with two_webs(lab, directory) as (first, second):
        yield directory, first, second


@pytest.fixture
def first(webs: tuple[Path, Machine, Machine]) -> Machine:
    return webs[1]


@pytest.fixture
def second(webs: tuple[Path, Machine, Machine]) -> Machine:
    return webs[2]


@pytest.fixture
def fleet(lab: Lab, webs: tuple[Path, Machine, Machine], tmp_path: Path) -> Callable[..., Typed]:
    """The two as they are, and other hosts by name and roles that nobody has: their address is nobody's."""
    directory, *machines = webs

    def make(**gone: list[str]) -> Typed:
        hosts: dict[str, Any] = {one.name: {"address": one.ip, "roles": ["web"]} for one in machines}
        for number, (name, roles) in enumerate(gone.items(), 250):
            hosts[name] = {"address": f"{machines[0].ip.rpartition('.')[0]}.{number}", "roles": roles}
        lab.describe(tmp_path, directory / "sites", hosts=hosts)
        config = tmp_path / "ssh_config"
        entries = "".join(f"Host {name}\n    HostName {hosts[name]['address']}\n" for name in gone)
        config.write_text(config.read_text() + entries)
        return Typed(tmp_path)

    return make


def well(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr


def test_again_nothing_changes_in_one_round_trip_a_host(
    fleet: Callable[..., Typed], first: Machine, second: Machine
) -> None:
    typed = fleet()
    began = time.monotonic()
    well(first.fab("bootstrap", directory=typed.directory))
    alone = time.monotonic() - began

    began = time.monotonic()
    done = typed("bootstrap", "--json")
    took = time.monotonic() - began

    well(done)
    rows = json.loads(done.stdout)
    assert [row["host"] for row in rows] == [first.name, second.name]
    for row in rows:
        assert (row["outcome"], row["changed"], row["failed"], row["round_trips"]) == ("well", 0, 0, 1), row
    print(f"one host by fab: {alone:.1f} s; the two by inv: {took:.1f} s")
    assert took < 5 * alone + 10


def test_check_tells_what_would_change_and_touches_nothing(
    fleet: Callable[..., Typed], first: Machine, second: Machine
) -> None:
    typed = fleet()
    well(typed("check"))
    before = second.check(f"cat {ISSUE}")
    second.check(f"echo by hand >> {ISSUE}")
    try:
        done = typed("check")
        assert done.returncode == 2, done.stdout + done.stderr
        assert "-by hand" in done.stdout
        [row] = [line for line in done.stdout.splitlines() if line.startswith(f"{second.name}  web ")]
        assert row.split()[1:3] == ["web", "1"]
        assert row.endswith("would change")
        assert "by hand" in second.check(f"cat {ISSUE}")

        rows = typed.rows("bootstrap")
        assert {name: row["changed"] for name, row in rows.items()} == {first.name: 0, second.name: 1}
        assert before == second.check(f"cat {ISSUE}")
    finally:
        second.check(f"cat > {ISSUE}", stdin=before)


def test_one_that_cannot_be_reached_stops_nobody_and_is_told_with_the_reason(
    fleet: Callable[..., Typed], first: Machine, second: Machine
) -> None:
    done = fleet(gone=["web"])("bootstrap")

    assert done.returncode == 1, done.stdout + done.stderr
    rows = {line.split()[0]: line for line in done.stdout.partition("host ")[2].splitlines()[1:]}
    assert rows[first.name].endswith("  well")
    assert rows[second.name].endswith("  well")
    assert "failed: gone (" in rows["gone"]
    assert "cannot be reached: " in rows["gone"]
    assert "next: inv fleet.bootstrap" in rows["next:"]


def test_who_needs_it_waits_for_it_and_is_left_as_it_is(
    fleet: Callable[..., Typed], first: Machine, second: Machine
) -> None:
    rows = fleet(files1=["files"]).rows("bootstrap")

    assert (rows[first.name]["outcome"], rows[first.name]["reason"]) == ("waits", "for files1")
    assert (rows[second.name]["outcome"], rows[second.name]["changed"]) == ("waits", 0)
    assert rows["files1"]["outcome"] == "failed"
    well(first.fab("check", directory=fleet().directory))


def test_a_step_that_fails_on_one_host_is_told_and_the_other_is_finished(
    fleet: Callable[..., Typed], first: Machine, second: Machine
) -> None:
    typed = fleet()
    for machine in (first, second):
        machine.check(f"cp {ISSUE} /run/issue; echo by hand >> {ISSUE}")
    second.check(f"mount --bind {ISSUE} {ISSUE}")  # what is mounted on cannot be replaced
    try:
        done = typed("bootstrap")
        assert done.returncode == 1, done.stdout + done.stderr
        rows = {line.split()[0]: line for line in done.stdout.partition("host ")[2].splitlines()[1:]}
        assert rows[first.name].split()[2] == "1"
        assert rows[first.name].endswith("  well")
        assert "failed: hardening.banner: " in rows[second.name]
        assert "Device or resource busy" in done.stderr
        first.check(f"cmp {ISSUE} /run/issue")
    finally:
        second.check(f"umount {ISSUE}")
        for machine in (first, second):
            machine.check(f"cat /run/issue > {ISSUE}; rm /run/issue")
    well(typed("bootstrap"))


# ---------------------------------------------------------------------- Ctrl-C

HOLD = b"""use Fcntl;
open(my $lock, "+>", "/var/lib/dpkg/lock-frontend") or die;
fcntl($lock, F_SETLK, pack("ssx4qql", F_WRLCK, 0, 0, 0, 0)) or die;
sleep 1 while -e "/run/hold";
"""


@contextmanager
def installing(typed: Typed, *machines: Machine) -> Iterator[Callable[[], None]]:
    """A package is missing, and a later file is wrong; to install takes until the returned function is called."""
    for machine in machines:
        machine.check(f"dpkg --purge {PACKAGE}; echo by hand >> {ISSUE}")
        machine.put({"/run/hold.pl": HOLD})
        machine.check("touch /run/hold; setsid perl /run/hold.pl > /dev/null 2>&1 < /dev/null & sleep 0.5")

    def release() -> None:
        for machine in machines:
            machine.check("rm -f /run/hold")

    try:
        yield release
    finally:
        release()
        for machine in machines:
            machine.check("flock --wait 60 /run/gatehouse.lock rm -f /run/hold.pl")
        well(typed("bootstrap"))


def test_ctrl_c_once_lets_every_host_finish_and_begins_nothing_more(
    fleet: Callable[..., Typed], first: Machine, second: Machine
) -> None:
    typed = fleet()
    with installing(typed, first, second) as release:
        inv = Terminal(None, *typed.line("bootstrap"))
        for machine in (first, second):
            inv.wait_for(f"{machine.name:<5}    0 changed  {'system.hostname':<22}  install {PACKAGE}")
        inv.interrupt()
        inv.wait_for("Ctrl-C again", 5)
        told = inv.shown.rpartition("these are finished first: ")[2]
        assert all(f"{machine.name}: install {PACKAGE}" in told for machine in (first, second)), told
        assert inv.program.poll() is None
        release()

        assert inv.end() == 130, inv.shown

        for machine in (first, second):
            assert "install ok installed" in machine.check(f"dpkg -s {PACKAGE}")
            assert "by hand" in machine.check(f"cat {ISSUE}")
            machine.check("flock --nonblock /run/gatehouse.lock true")
        assert inv.shown.count("  stopped: hardening.banner: ") == 2
        assert "next: inv fleet.bootstrap" in inv.shown


def test_ctrl_c_twice_leaves_all_hosts_at_once(fleet: Callable[..., Typed], first: Machine, second: Machine) -> None:
    typed = fleet()
    with installing(typed, first, second) as release:
        inv = Terminal(None, *typed.line("bootstrap"))
        inv.wait_for(f"install {PACKAGE}")
        time.sleep(1)
        inv.interrupt()
        inv.wait_for("Ctrl-C again")
        inv.interrupt()

        assert inv.end(10) == 130, inv.shown

        assert first.exec(f"dpkg -s {PACKAGE} | grep -q 'install ok installed'").rc
        release()
        for machine in (first, second):
            machine.check("flock --wait 60 /run/gatehouse.lock true")
            assert "install ok installed" in machine.check(f"dpkg -s {PACKAGE}")
            assert "by hand" in machine.check(f"cat {ISSUE}")


# ---------------------------------------------------------------------- a command


def test_a_command_runs_as_root_on_all_and_its_words_arrive_as_they_are(
    fleet: Callable[..., Typed], first: Machine, second: Machine
) -> None:
    typed = fleet()
    done = typed("run", "--", "id -un; hostname; echo to the other stream >&2")
    well(done)
    for name in (first.name, second.name):
        assert f"\n    root\n    {name}\n    to the other stream\n" in done.stdout

    words = ["printf", "%s|", "a  b", "$HOME", "it's", "`id`", "x;y", "\\n", ""]
    rows = json.loads(typed("run", "--json", "--", *words).stdout)
    assert [row["output"] for row in rows] == ["a  b|$HOME|it's|`id`|x;y|\\n||"] * 2


def test_a_command_that_fails_on_one_host_is_named(fleet: Callable[..., Typed], second: Machine) -> None:
    command = f'printf "\\033[2J\\000 left"; [ "$(hostname)" != {second.name} ] || exit 7'
    done = fleet(gone=["cache"])("run", "--", command)

    assert done.returncode == 1, done.stdout + done.stderr
    assert f"failed on {second.name} (exit code 7), gone (gone (" in done.stderr
    assert "\x1b" not in done.stdout
    assert done.stdout.count("    \\x1b[2J\\x00 left\n") == 2


def test_only_those_with_the_role_are_asked(fleet: Callable[..., Typed]) -> None:
    done = fleet(gone=["cache"])("run", "--only", "web", "--", "uptime")

    well(done)
    assert "gone" not in done.stdout


# ---------------------------------------------------------------------- through a bastion


def test_those_behind_a_bastion_share_one_way_through_it(lab: Lab, bare: Bare, tmp_path: Path) -> None:
    edge, inner, other = bare(), bare(), bare("bookworm")
    roles = {edge.name: ["edge", "app"], inner.name: ["database"], other.name: ["cache"]}
    hosts = {one.name: {"address": one.ip, "roles": roles[one.name]} for one in (edge, inner, other)}
    lab.describe(tmp_path, lab.directory / "sites", hosts=hosts)
    config = tmp_path / "ssh_config"
    for one in (inner, other):
        entry = f"Host {one.name}\n"
        config.write_text(config.read_text().replace(entry, f"{entry}    ProxyJump {edge.name}\n"))
    done = Typed(tmp_path)("run", "--", "hostname")

    well(done)
    assert all(f"\n    {one.name}\n" in done.stdout for one in (edge, inner, other))
    logins = edge.check("journalctl --sync; journalctl -q -o cat _COMM=sshd _COMM=sshd-session | grep -c Accepted")
    assert logins.strip() == "1"
