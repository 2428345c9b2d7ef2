"""The lock: who holds it is told, and a run whose operator will not come back can be ended."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .machine import CHECKOUT, Machine

RUN = """
    import time
    from pathlib import Path
    from fabfile.engine import Host
    from fabfile.engine.remote import connect
    host = Host.of(connect({name!r}, Path({config!r})))
    with host.running("a long run"), host.step("x.y"):
        host.file("/etc/gatehouse/test-lock", "1"); host.flush()
        print("held", flush=True)
        {body}
"""
WAITS = "time.sleep(300)"
SHORT = 'host.run("a nap", "sleep 15"); host.run("more", "touch /etc/gatehouse/test-more"); host.flush()'
LONG = 'host.run("a long sleep", "sleep 301"); host.flush()'


@contextmanager
def held(machine: Machine, body: str) -> Iterator[subprocess.Popen[str]]:
    """Ann's run: it has changed a file, and goes on with this."""
    config = str(machine.directory / "ssh_config")
    program = textwrap.dedent(RUN.format(name=machine.name, config=config, body=body))
    run = subprocess.Popen(
        [sys.executable, "-c", program], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "LOGNAME": "ann"},
    )  # fmt: skip
    try:
        assert run.stdout
        assert "held" == run.stdout.readline().strip()
        yield run
    finally:
        run.kill()
        run.communicate()
        machine.check("flock --wait 90 /run/gatehouse.lock true", timeout=100)
        machine.exec("rm -f /etc/gatehouse/test-lock /etc/gatehouse/test-more; etckeeper commit clean")


def status(machine: Machine) -> dict[str, Any]:
    told = machine.fab("lock.status", "--json")
    assert 0 == told.returncode, told.stdout + told.stderr
    return json.loads(told.stdout)  # type: ignore[no-any-return]


def test_nobody_holds_it(vps: Machine) -> None:
    assert {"host": "vps", "held": False, "holder": None} == status(vps)
    assert "nobody holds the lock" in vps.fab("lock.status").stdout
    refused = vps.fab("lock.break", "--yes")
    assert 3 == refused.returncode
    assert "nobody holds the lock" in refused.stderr


def test_a_run_that_waits_for_its_operator_is_told_and_ended(vps: Machine) -> None:
    with held(vps, WAITS) as run:
        time.sleep(2)
        told = status(vps)
        assert told["held"]
        assert re.fullmatch(r"ann@\S+ since [^:]+:\d\d:\d\d \w+: a long run", told["holder"]["who"]), told
        assert 1 <= told["holder"]["held"] < 60
        assert "" == told["holder"]["at"]
        assert "it waits for its operator" in vps.fab("lock.status").stdout

        asked = vps.fab("lock.break")
        assert 3 == asked.returncode
        assert "lock.break --yes" in asked.stderr
        assert status(vps)["held"], "nobody said yes"

        ended = vps.fab("lock.break", "--yes", "--json")

        assert 0 == ended.returncode, ended.stdout + ended.stderr
        assert "softly" == json.loads(ended.stdout)["how"]
        assert not status(vps)["held"]
        assert run.poll() is None, "it was ended on the host, the laptop sleeps on"
        journal = vps.check("journalctl --sync; journalctl -q -o cat -t gatehouse -n 3")
        assert re.search(r"lock\.break by \S+@\S+: ends the run of ann@\S+ since .*: a long run", journal)
        entry = json.loads(vps.fab("history", "--json", "--lines", "1").stdout)["entries"][0]
        assert ("a long run", [{"path": "/etc/gatehouse/test-lock", "change": "new"}]) == (
            entry["task"], entry["files"],
        )  # fmt: skip
        assert entry["who"].startswith("ann@")
        assert "broken off: its lock was broken by " in entry["end"]
        assert 0 == vps.fab("fail2ban").returncode, "the next run works"


@pytest.mark.demand
def test_a_run_at_work_finishes_its_operation_and_begins_no_other(vps: Machine) -> None:
    with held(vps, SHORT) as run:
        time.sleep(1)
        holder = status(vps)["holder"]
        assert "sleep 15" in holder["at"], holder

        ended = vps.fab("lock.break", "--yes")

        assert 0 == ended.returncode, ended.stdout + ended.stderr
        assert "it had finished its operation" in ended.stdout
        assert run.wait(10) != 0
        assert run.stdout
        assert "stopped before: more" in run.stdout.read()
        assert 1 == vps.exec("test -e /etc/gatehouse/test-more").rc
        entry = json.loads(vps.fab("history", "--json", "--lines", "1").stdout)["entries"][0]
        assert "a long run" == entry["task"]
        assert "broken off: its lock was broken by " in entry["end"]


@pytest.mark.demand
def test_a_run_that_does_not_finish_is_ended_hard(vps: Machine) -> None:
    with held(vps, LONG):
        time.sleep(1)
        assert "sleep 301" in status(vps)["holder"]["at"]

        ended = vps.fab("lock.break", "--yes", "--wait", "1")

        assert 0 == ended.returncode, ended.stdout + ended.stderr
        assert "in the middle of an operation" in ended.stdout
        assert "sleep 301" not in vps.check("pgrep -ax sleep || :")
        assert not status(vps)["held"]
        assert 0 == vps.fab("fail2ban").returncode, "the next run works"
