"""What the script runs on the machine itself: the steps of `bootstrap`, with a root shell of its own instead of SSH."""

from __future__ import annotations

import io
import json
import pwd
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fabric import Connection
from invoke import Exit

from .. import flows
from ..engine import Guarded, Host, Problem, StepFailed, access
from ..engine.remote import Login, Visit
from ..engine.tasks import Told
from ..model import Fleet, load_fleet

KINDS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256")


class Line:
    """The shell of a visit, with what paramiko's channel has of methods."""

    closed = False

    def __init__(self, words: Sequence[str]) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs:
            end = theirs.fileno()
            self._shell = subprocess.Popen(words, stdin=end, stdout=end, stderr=subprocess.DEVNULL)
        self.sendall, self.recv, self.settimeout = self._ours.sendall, self._ours.recv, self._ours.settimeout

    def makefile_stderr(self, _mode: str) -> io.BytesIO:
        """What it said besides: nothing is kept."""
        return io.BytesIO()

    def close(self) -> None:
        """The shell hears the end of its input, and ends."""
        self.closed = True
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)
        with suppress(subprocess.TimeoutExpired):
            self._shell.wait(30)
        self._ours.close()


class AtHome(Visit):
    """A visit to this very machine."""

    def _run(self, words: list[str], rest: str = "") -> Any:
        """A shell here; nobody came by SSH, so there is no SSH_CONNECTION to hand on in `rest`."""
        return Line([*words, ""] if rest else words)


class Itself(Host):
    """The machine that it runs on, as the script's manifest says that it is to be."""

    def __init__(self, fleet: Fleet, said: dict[str, Any]) -> None:
        super().__init__(said["host"], fleet, AtHome(Connection(said["host"])))
        self.said = said
        for name, card in said["cards"].items():
            self.cards[name] = Problem(f"{name} was not asked when this was rendered") if card is None else card

    @property
    def login(self) -> Login:
        """Nobody has logged in; who does later speaks what the one spoke who rendered this."""
        words = self.said["speaks"]
        return Login(
            "root",
            "publickey",
            frozenset(KINDS),
            frozenset(words["kex"]),
            frozenset(words["ciphers"]),
            frozenset(words["macs"]),
        )

    @property
    def places(self) -> dict[str, Path]:
        """There is no checkout here that might be older than the host's mark: who rendered this has seen to it."""
        return {}

    def ssh_port(self, other: str) -> int:
        """As the ssh_config says of the one who rendered this."""
        return int(self.said["ssh_ports"].get(other, 22))

    def lets_in(self) -> bool:
        """Whether sshd answers on all its ports."""
        return all(map(_answers, self.facts.ssh_ports))

    def _mark(self) -> str:
        return str(self.said["mark"])

    def _prove(self, label: str, seconds: int) -> None:
        """Nobody is outside who could come in as a proof: what is proved is that sshd still answers."""
        if not self.lets_in():
            raise StepFailed(f"{label}: sshd does not answer any more, and is taken back within {seconds} s", "")
        self._send(access.disarmed(label), anyway=True)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as line:
            return line.recv(4) == b"SSH-"
    except OSError:
        return False


def keyless(host: Host) -> None:
    """Say so when nobody could log in by a key.

    Raises Guarded when somebody logs in by password now: sshd would take that away.
    """
    homes = {Path(user.pw_dir) for user in pwd.getpwall()}
    if any(_filled(home / ".ssh" / name) for home in homes for name in ("authorized_keys", "authorized_keys2")):
        return
    shadow = (line.split(":") for line in Path("/etc/shadow").read_text().splitlines())
    users = [fields[0] for fields in shadow if fields[1].startswith("$")]
    if users and host.facts.sshd.get("passwordauthentication") == "yes":
        raise Guarded(
            f"{users[0]} logs in by password, nobody has a key, and sshd shall take nothing but keys",
            "let cloud-init put a key there (ssh_authorized_keys), then run this again",
        )
    print(f"{host.name}  nobody has a key here: nobody will log in by SSH")


def _filled(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def main() -> None:
    """Make this machine what the manifest says; exits as `bootstrap` does."""
    said = json.loads(Path("manifest.json").read_text())
    host = Itself(load_fleet(Path("fleet/fleet.yml").resolve()), said)
    host.enrol()
    c = host.visit.connection
    try:
        with Told(c):
            keyless(host)
            flows.bootstrap(c)
    except Exit as ended:
        sys.exit(ended.code)
    finally:
        host.visit.close()


if __name__ == "__main__":
    main()
