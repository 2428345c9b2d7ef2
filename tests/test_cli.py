"""What a person types: refused in time, with the right exit code, before anything is touched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def fab(*words: str) -> subprocess.CompletedProcess[str]:
    program = "from fabric.main import program; program.run()"
    return subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("task", ["bootstrap"])
def test_without_a_host_a_host_task_refuses(task: str) -> None:
    refused = fab(task)

    assert 3 == refused.returncode
    assert "-H vps" in refused.stderr


def test_every_task_and_every_option_says_what_it_is_for() -> None:
    from fabfile import ns

    silent = [name for name in ns.task_names if not (ns[name].__doc__ or "").strip()]
    bare = [f"{name} --{arg.name}" for name in ns.task_names for arg in ns[name].get_arguments() if not arg.help]

    assert [] == silent
    assert [] == bare


def test_every_reading_task_is_timed_on_a_host_with_many_sites() -> None:
    """A new task with --json either only looks, and is in the list that the lab times, or does something."""
    from fabfile import ns
    from tests.lab.test_reading import DOING, READING

    readable = {name for name in ns.task_names if any(arg.name == "json" for arg in ns[name].get_arguments())}
    names = {name.removesuffix(".show") if name == "logs.show" else name for name in readable}
    assert names - DOING - {"selinux.denials", "balancer.status"} == set(READING)
