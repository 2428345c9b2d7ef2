"""A host that remembers what steps wish, and never speaks to anybody."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fabfile.cache import redis
from fabfile.engine import Host
from fabfile.engine.changes import Change, PutFile
from fabfile.engine.facts import Facts, File, Files
from fabfile.engine.remote import Login
from fabfile.model import Fleet, Site


def a_file(
    digest: str = "", mode: int = 0o644, owner: str = "root", group: str = "root", kind: str = "f", size: int = 64
) -> File:
    return File(kind, mode, owner, group, size, "1.0", "", digest)


LOGIN = Login(
    "ops",
    "publickey",
    frozenset({"ssh-ed25519", "ecdsa-sha2-nistp256"}),
    frozenset({"curve25519-sha256@libssh.org", "diffie-hellman-group14-sha256"}),
    frozenset({"aes256-ctr", "3des-cbc"}),
    frozenset({"hmac-sha2-256-etm@openssh.com", "hmac-sha1"}),
)


class Recorded(Host):
    """A host with given facts; each step's wishes become facts, as they would on a real one."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *sites: Site,
        release: str = "13",
        operators: tuple[str, ...] = (),
        **known: Any,
    ) -> None:
        fleet = Fleet.model_validate({"operators": operators})
        super().__init__("vps", fleet, visit=None, dry=True)  # type: ignore[arg-type]
        self.sites = self.fronted = self.certified = sites
        known = {"hostname": "vps", "memory_mb": 4096, **known, "files": Files(known.get("files", {}))}
        self._facts = Facts(system="debian", release=release, **known)
        self.came = LOGIN
        self.ports: dict[str, int] = {}
        monkeypatch.setattr(Host, "of", classmethod(lambda cls, c: self))

    def after(self, *steps: Any, **options: Any) -> list[Change]:
        """The changes that these steps wish, in their order."""
        self._pending, self._notes = [], []
        for step in steps:
            step.body.__wrapped__(None, **options)
        return list(self._pending)

    @property
    def login(self) -> Login:
        return self.came

    def ssh_port(self, other: str) -> int:
        return self.ports.get(other, 22)

    @property
    def notes(self) -> list[str]:
        return self._notes


def make_passwords(secrets: Path, handed: Path, *owners: str) -> None:
    """The program that makes passwords for sessions on a host, run here, where the sites have no users."""
    unowned = """
set -eu
fail() { exit 9; }
install() { cp -- "$8" "$9" && chmod "$2" "$9"; }
"""
    words = [str(secrets), str(handed), redis.KEEPER, *owners]
    subprocess.run(["sh", "-c", unowned + redis.MAKE_SECRETS, "make", *words], check=True)


def contents(changes: Iterable[Change]) -> dict[str, str]:
    """The files that are put, by path."""
    return {change.path: change.content.decode() for change in changes if isinstance(change, PutFile)}


def site(domain: str = "example.com", **keys: Any) -> Site:
    """A site as its YAML file would say it."""
    return Site.model_validate({"domain": domain, **keys})
