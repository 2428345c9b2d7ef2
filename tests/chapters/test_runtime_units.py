"""Sites' own programs: a slice a site, a unit a path, each shut in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fabfile import runtime
from fabfile.engine.changes import Change, Install, Run
from fabfile.engine.facts import Unit
from fabfile.runtime import slices

from .recording import Recorded, a_file, contents
from .recording import site as a_site

PLACE = "/etc/systemd/system"
OWN = a_site(
    runtime="server",
    command="exec ./serve --socket $LISTEN",
    writable=("cache",),
    limits={"memory_mb": 256, "tasks": 64},
    mounts={
        "/wiki": {"runtime": "scgi", "command": "exec ./wiki", "listen": 10090},
        "/app": {"runtime": "ajp", "webapps": "webapps"},
    },
)
OTHER = a_site("kiosk.co.test")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return Recorded(monkeypatch, OWN, OTHER)


def runs(changes: list[Change]) -> list[Run]:
    return [change for change in changes if isinstance(change, Run)]


def test_each_path_has_a_unit_under_the_site_s_user_in_its_slice(host: Recorded) -> None:
    files = contents(host.after(runtime.units))

    units = {path: text for path, text in files.items() if path.endswith("@.service")}
    assert {f"{PLACE}/gatehouse-example-com:{name}@.service" for name in ("_", "wiki", "app")} == units.keys()
    for text in units.values():
        lines = text.splitlines()
        assert {"User=example-com", "Group=example-com", "Slice=gatehouse-example:com.slice"} <= {*lines}
        assert {"NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet="} <= {*lines}
    assert ["PrivateNetwork=yes" in text for text in units.values()] == ["/wiki " in text for text in units.values()]


def test_the_slice_has_the_site_s_limits_and_is_no_part_of_another_s(host: Recorded) -> None:
    text = contents(host.after(runtime.units))[f"{PLACE}/gatehouse-example:com.slice"]

    assert {"MemoryMax=256M", "TasksMax=64", "CPUQuota=100%"} <= {*text.splitlines()}
    assert "gatehouse-a:b.slice" == slices.name("a-b")


def test_a_program_may_write_what_the_site_says_and_not_its_code(host: Recorded) -> None:
    text = contents(host.after(runtime.units))[f"{PLACE}/gatehouse-example-com:_@.service"]

    line = next(line for line in text.splitlines() if line.startswith("ReadWritePaths="))
    assert [
        "/var/www/example.com/tmp",
        "/var/www/example.com/shared",
        "-/var/www/example.com/public_html/_app/cache",
        "-/var/www/example.com/public_html/_/cache",
    ] == line.removeprefix("ReadWritePaths=").split()


def test_tomcat_is_the_library_alone_and_its_secret_is_in_no_file_of_ours(host: Recorded) -> None:
    changes = host.after(runtime.units)

    installed = {name for change in changes if isinstance(change, Install) for name in change.names}
    assert {"tomcat10-common"} == {name for name in installed if "tomcat" in name}
    made = [run for run in runs(changes) if "make the secret" in run.label]
    assert [("/etc/gatehouse/secrets/ajp/example-com.app",)] == [run.args for run in made]
    assert not [path for path in contents(changes) if "secrets/ajp" in path or path.endswith("server.xml")]


def test_what_serves_and_did_not_change_is_left_alone(host: Recorded) -> None:
    first = host.after(runtime.units)
    assert [f"gatehouse-example-com:{name} serves" for name in ("_", "app", "wiki")] == sorted(
        run.label for run in runs(first) if run.label.endswith(" serves")
    )
    for name in ("_", "wiki", "app"):
        host.facts.units[f"gatehouse-example-com:{name}@2.service"] = Unit("active", "enabled")
    for run in runs(first):
        assert ":" not in run.name, "the look takes a name and what is remembered apart by it"
        if run.on:
            host.facts.loaded[run.name] = host.facts.digest(run.on)

    again = [run.label for run in runs(host.after(runtime.units)) if run.label.endswith(" serves")]
    assert [] == again


def test_what_no_site_has_any_more_ends(host: Recorded) -> None:
    old = "gatehouse-kiosk-co-test:_"
    host.facts.files[f"{PLACE}/{old}@.service"] = a_file()
    host.facts.files[f"{PLACE}/gatehouse-sync.service"] = a_file()

    assert [(old,)] == [run.args for run in runs(host.after(runtime.ended))]
    with host.about(OWN):
        assert [] == runs(host.after(runtime.ended))


WAIT = """
import os, socket, subprocess, sys, time
place, program = sys.argv[1:]
waits = subprocess.Popen(["sh", program, "wait", place, str(os.getpid())])
time.sleep(0.6)
assert waits.poll() is None, "nothing listens yet"
server = socket.socket(socket.AF_UNIX)
server.bind(place)
server.listen()
assert waits.wait(timeout=20) == 0
"""


def test_a_program_serves_once_it_listens_and_not_before(host: Recorded, tmp_path: Path) -> None:
    program = tmp_path / "turn"
    program.write_text(contents(host.after(runtime.units))["/usr/local/sbin/gatehouse-turn"])

    line = [sys.executable, "-c", WAIT, str(tmp_path / "sock"), str(program)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
