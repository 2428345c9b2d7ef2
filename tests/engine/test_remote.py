"""The wire's own rules, as far as they need no wire."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import threading
import time
from pathlib import Path

import paramiko
import pytest
from fabric import Config, Connection

from fabfile.engine import remote
from fabfile.engine.problems import Stopped, UnknownKey
from fabfile.engine.remote import fingerprint, known_hosts, secure
from fabfile.engine.script import Box


def test_patchwork_works_beside_the_fabric_that_it_does_not_know() -> None:
    """It asks for Fabric 2 and for the six that Invoke 1 carried; the engine supplies that."""
    from patchwork.transfers import rsync

    assert callable(rsync)


def test_a_fingerprint_is_as_ssh_keygen_prints_it(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    said = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True
    ).stdout
    key = paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "key"))

    assert fingerprint(key) == said.split()[1]
    assert fingerprint(key).removeprefix("SHA256:") in base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode()


def test_every_hop_refuses_a_key_that_is_not_known(tmp_path: Path) -> None:
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Host inner\n ProxyJump outer\n UserKnownHostsFile {tmp_path}/known\n"
        f"Host outer\n UserKnownHostsFile {tmp_path}/known\n"
    )
    c = secure(Connection("inner", config=Config(runtime_ssh_path=str(config))))

    assert [tmp_path / "known"] == known_hosts(c)
    for hop in (c, c.gateway):
        policy = hop.client._policy
        with pytest.raises(UnknownKey, match="SHA256:"):
            policy.missing_host_key(hop.client, "host", paramiko.ECDSAKey.generate())


@pytest.mark.parametrize(
    ("written", "paths"),
    [
        ("/a/known /b/known", ["/a/known", "/b/known"]),
        ('"/my lab/known"', ["/my lab/known"]),
        ("/my lab/known", ["/my lab/known"]),
        ('"/my lab/known" "/other lab/known"', ["/my lab/known", "/other lab/known"]),
        ('"/my lab/known" /b/known', ["/my lab/known", "/b/known"]),
        ('/b/known "/my lab/known"', ["/b/known", "/my lab/known"]),
    ],
)
def test_known_hosts_may_lie_below_a_path_with_spaces(tmp_path: Path, written: str, paths: list[str]) -> None:
    config = tmp_path / "ssh_config"
    config.write_text(f"Host h\n UserKnownHostsFile {written}\n")

    assert [Path(path) for path in paths] == known_hosts(Connection("h", config=Config(runtime_ssh_path=str(config))))


class Wire:
    """A channel that remembers what was sent."""

    def __init__(self) -> None:
        self.closed, self.sent = False, list[bytes]()

    def sendall(self, some: bytes) -> None:
        self.sent.append(some)


class Late(threading.Event):
    """The stop comes in the moment after a wait for it has ended without one."""

    visit: remote.Visit

    def wait(self, timeout: float | None = None) -> bool:
        told = super().wait(timeout)
        if not self.visit.stopping:
            self.visit.stop()
        return told


def test_a_stop_that_comes_as_a_wait_ends_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "KEEPALIVE", 0.01)
    visit, wire = remote.Visit(Connection("host")), Wire()
    visit._now = late = Late()
    late.visit = visit
    living = threading.Thread(target=visit._live, args=(wire,), daemon=True)
    living.start()
    while len(wire.sent) < 3:
        time.sleep(0.01)
    wire.closed = True
    living.join(5)

    assert wire.sent[0] == b"stop\n"
    assert 1 == wire.sent.count(b"stop\n")


def test_a_visit_gives_signs_of_life_and_says_stop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "KEEPALIVE", 0.01)
    visit, wire = remote.Visit(Connection("host")), Wire()
    visit._channel = wire
    living = threading.Thread(target=visit._live, args=(wire,), daemon=True)
    living.start()
    while wire.sent.count(b"\n") < 2:
        time.sleep(0.01)

    visit.stop()
    while b"stop\n" not in wire.sent or wire.sent[-1] != b"\n":
        time.sleep(0.01)
    with pytest.raises(Stopped):
        visit.send(Box(["true"]))
    wire.closed = True
    living.join(5)

    assert not living.is_alive()
    assert {b"\n", b"stop\n"} == set(wire.sent)
    assert 1 == wire.sent.count(b"stop\n")
    assert 0 == visit.trips
