"""The hosts of one run: who comes through whom, and what is opened again when a bastion is."""

from __future__ import annotations

from pathlib import Path

import pytest
from fabric import Connection

from fabfile.engine.pool import Crew
from fabfile.engine.remote import Visit
from fabfile.model import find_fleet

SSH = """\
Host edge1
    HostName 192.0.2.1
Host db1
    HostName 192.0.2.2
    ProxyJump edge1
Host app1
    HostName 192.0.2.3
    ProxyJump edge1
Host other1
    HostName 192.0.2.4
"""


@pytest.fixture
def crew(tmp_path: Path) -> Crew:
    (tmp_path / "sites").mkdir()
    (tmp_path / "ssh_config").write_text(SSH)
    file = tmp_path / "fleet.yml"
    file.write_text("hosts: {edge1: {}, db1: {}, app1: {}, other1: {}}\n")
    return Crew(find_fleet(None, file, tmp_path), ["db1", "edge1", "app1", "other1"])


def test_who_comes_through_a_bastion_that_is_opened_again_is_too(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that had been reached before: their lines end with the bastion's own."""
    ended: set[str] = set()
    closed: list[str] = []
    monkeypatch.setattr(Visit, "close", lambda visit: ended.add(visit.connection.original_host))
    monkeypatch.setattr(Connection, "close", lambda c: closed.append(c.original_host))

    crew.anew(["edge1"])

    assert ended == {"edge1", "db1", "app1"}
    assert {*closed} == ended
