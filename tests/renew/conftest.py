"""A host of its own for every test: a directory that gatehouse-renew takes for the root."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import doubles
from .authority import Authority, Pair

PROGRAM = Path(__file__).parents[2] / "scripts" / "gatehouse-renew"
CA = "https://ca.test/dir"


@dataclass(frozen=True)
class Run:
    """One run: its exit code, its lines as (outcome, domain, text), what it said on stderr."""

    code: int
    lines: list[tuple[str, ...]]
    err: str

    @property
    def outcomes(self) -> dict[str, str]:
        """The last word on each name."""
        return {line[1]: line[0] for line in self.lines}

    @property
    def reasons(self) -> dict[str, str]:
        return {line[1]: line[2] for line in self.lines}


class Place:
    """A host as far as gatehouse-renew sees one."""

    def __init__(self, root: Path, programs: Path) -> None:
        self.root, self.programs = root, programs
        self.etc, self.state, self.double = root / "etc", root / "var/lib/gatehouse/renew", root / "double"
        self.certs, self.shelf, self.inbox = self.etc / "gatehouse/certs", self.etc / "haproxy/certs", self.etc / "lego"
        for directory in (self.certs, self.shelf, self.inbox / "certificates", self.double / "memory", root / "tmp"):
            directory.mkdir(parents=True)
        self.settings()

    def settings(self, ca: str = CA, trust: Path | str = "") -> None:
        text = f"# as bootstrap writes it\ndirectory={ca}\nca_bundle=\ntrust={trust}\n"
        (self.etc / "gatehouse/acme.conf").write_text(text)

    def ask(self, *names: str, key: str = "ec256", email: str = "ops@site.test") -> None:
        """The controller's request for a certificate."""
        (self.certs / f"{names[0]}.conf").write_text(f"names={' '.join(names)}\nemail={email}\nkey={key}\n")

    def stamp(self, *names: str, key: str = "ec256", ca: str = CA) -> None:
        """As a run leaves it that satisfied the request."""
        (self.certs / f"{names[0]}.issued").write_text(f"directory={ca}\nkey={key}\nnames={' '.join(names)}\n")

    def shelve(self, domain: str, pair: Pair, served: bool = True) -> Path:
        """A certificate that is in place, and served unless that is what the test is about."""
        path = self.shelf / f"{domain}.pem"
        path.write_bytes(pair.pem)
        path.chmod(0o600)
        if served:
            (self.double / "memory" / path.name).write_bytes(pair.pem)
        return path

    def leave_in_inbox(self, domain: str, pair: Pair) -> None:
        """As lego leaves it."""
        (self.inbox / "certificates" / f"{domain}.crt").write_bytes(pair.bundle)
        (self.inbox / "certificates" / f"{domain}.key").write_bytes(pair.key)

    def deliver(self, pair: Pair, domain: str = "lego") -> None:
        """What lego will bring when it is asked (for the domain, or for any)."""
        (self.double / f"{domain}.crt").write_bytes(pair.bundle)
        (self.double / f"{domain}.key").write_bytes(pair.key)

    def switch(self, name: str, text: str = "") -> None:
        """Set a switch of the doubles."""
        (self.double / name).write_text(text)

    def calls(self, beginning: str = "") -> list[str]:
        """What was asked of lego, and HAProxy's reloads."""
        path = self.double / "calls"
        return [line for line in path.read_text().splitlines() if line.startswith(beginning)] if path.exists() else []

    def orders(self) -> list[str]:
        return self.calls("--server")

    def served(self, domain: str) -> bytes:
        return (self.double / "memory" / f"{domain}.pem").read_bytes()

    def fingerprint(self) -> dict[str, tuple[str, int]]:
        """Every file under /etc and /var: digest and inode."""
        found = {}
        for path in sorted([*self.etc.rglob("*"), *(self.root / "var").rglob("*")]):
            if path.is_file():
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path.relative_to(self.root))] = digest, path.stat().st_ino
        return found

    def run(self, *args: str, porcelain: bool = True) -> Run:
        done = self.start(*args, porcelain=porcelain)
        out, err = done.communicate(timeout=30)
        return Run(done.returncode, [tuple(line.split("\t")) for line in out.splitlines()], err)

    def start(self, *args: str, porcelain: bool = True) -> subprocess.Popen[str]:
        environment = {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "GATEHOUSE_ROOT": str(self.root),
            "TMPDIR": str(self.root / "tmp"),
        }
        command = [str(PROGRAM), *(["--porcelain"] if porcelain else []), *args]
        return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("renew") / "bin"
    doubles.install(directory)
    return directory


@pytest.fixture(scope="session")
def ca() -> Authority:
    return Authority("good")


@pytest.fixture
def place(tmp_path: Path, programs: Path) -> Place:
    return Place(tmp_path, programs)
