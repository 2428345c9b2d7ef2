"""What a person types: refused in time, with the right exit code, before anything is touched."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def fab(*words: str) -> subprocess.CompletedProcess[str]:
    program = "from fabric.main import program; program.run()"
    return subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that would notice a connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def fleet(tmp_path: Path, listener: socket.socket) -> Path:
    port = listener.getsockname()[1]
    (tmp_path / "ssh_config").write_text(f"Host vps\n    HostName 127.0.0.1\n    Port {port}\n    User ops\n")
    (tmp_path / "fleet.yml").write_text("sites: sites\n")
    (tmp_path / "sites").mkdir()
    return tmp_path


@pytest.mark.parametrize("task", ["bootstrap"])
def test_a_wrong_site_is_refused_before_a_connection_is_opened(fleet: Path, listener: socket.socket, task: str) -> None:
    (fleet / "sites/example.com.yml").write_text("domain: example.com\nphp: {children: many}\n")

    refused = fab("-S", str(fleet / "ssh_config"), "-H", "vps", task)

    assert 2 == refused.returncode
    assert "example.com.yml:2: php.children:" in refused.stderr
    assert "for example:" in refused.stderr
    assert [] == select.select([listener], [], [], 0)[0]


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
