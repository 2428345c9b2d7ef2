"""A balancer of this part's own, and behind it a member that notes whatever reaches it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..faults.http.wire import send
from ..lab import Lab
from ..machine import Machine
from ..split import MEMBER

NAME = "www.example.com"
APP = "/app"
"""Where the ordinary application is, which takes uploads and has long cookies."""

ROUTES: dict[str, Any] = {
    "/": {},
    APP: {
        "limits": {"body": 2_000_000, "field_size": 8000, "punctuation": "any", "reason": "uploads, many cookies"},
    },
    "/forum": {"exclude": [{"rules": [942100], "parameters": ["text"], "reason": "they write about SQL"}]},
}
PERIOD = 4
FRONT: dict[str, Any] = {
    "server_name": NAME,
    "aliases": ["example.com"],
    "evasive": {"blocking_period": PERIOD, "page_count": 5},
    "messages": {"404": "Nothing of this name; perhaps it's sold."},
}


@dataclass
class Guarded:
    """The balancer, the member behind it, and where its fleet.yml is."""

    host: Machine
    member: Machine
    lab: Lab
    directory: Path
    roles: tuple[str, ...] = ("balancer",)

    def fab(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.host.fab(*words, directory=self.directory)

    def done(self, *words: str) -> str:
        """A task that must succeed."""
        done = self.fab(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def said(self, **balancer: Any) -> None:
        """Write fleet.yml anew, with these keys of the balancer."""
        hosts = {
            self.host.name: {"address": self.host.ip, "roles": self.roles},
            self.member.name: {"address": self.member.ip, "roles": ["member"]},
        }
        routes = {path: {"members": [self.member.name], **route} for path, route in ROUTES.items()}
        (self.directory / "sites").mkdir(exist_ok=True)
        sites = self.directory / "sites"
        front = {**FRONT, "routes": routes, **balancer}
        self.lab.describe(self.directory, sites=sites, hosts=hosts, balancer=front)

    def send(self, sent: bytes, seconds: float = 4) -> bytes:
        """HTTP/1 over TLS from this machine, an operator's address: no flood is counted."""
        return send(self.host, sent, seconds, NAME)[0]

    def reached(self) -> list[str]:
        """What has reached the member: method, path, bytes of the body; what the balancer asks itself is left out."""
        lines = self.member.check("cat /run/member.log 2> /dev/null || :").splitlines()
        return [line for line in lines if line != "HEAD / 0"]


@pytest.fixture(scope="package")
def guarded(lab: Lab, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Both as Debian 13."""
    yield from _guarded(lab, "trixie", tmp_path_factory.mktemp("waf"))


@pytest.fixture(scope="package")
def guarded12(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The balancer as Debian 12."""
    yield from _guarded(lab, "bookworm", tmp_path_factory.mktemp("waf12"))


@pytest.fixture(scope="package")
def behind(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The balancer behind HAProxy on the same host."""
    yield from _guarded(lab, "trixie", tmp_path_factory.mktemp("behind"), ("balancer", "edge"), "haproxy")


@pytest.fixture(params=["guarded", "guarded12"])
def both(request: pytest.FixtureRequest) -> Guarded:
    """Either release."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture(params=["guarded", "guarded12", "behind"])
def every(request: pytest.FixtureRequest) -> Guarded:
    """Either release, and the one behind HAProxy."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def _guarded(
    lab: Lab, release: str, directory: Path, roles: tuple[str, ...] = ("balancer",), *more: str
) -> Iterator[Guarded]:
    with lab.adding() as start:
        made = Guarded(start(release), start(), lab, directory, roles)
        made.member.put({"/usr/local/sbin/member": MEMBER.read_bytes()}, 0o755)
        made.member.check(f"systemd-run -q --unit=member /usr/local/sbin/member {made.member.ip} 80")
        made.said()
        # With the certificate that names nobody: who asks here does not mind.
        before = ("cert.install", "cert.program", "cert.requests", "cert.default", *more)
        made.done(*before, "balancer", "waf", "fail2ban")
        yield made
