"""One host of the lab: a container that behaves as a server, and how tests talk to it from the outside."""

import base64
import io
import os
import shlex
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import testinfra.host
from docker.models.containers import Container
from testinfra.backend.base import BaseBackend, CommandResult

from .errors import LabError

CHECKOUT = Path(__file__).resolve().parents[2]

# What a server may do that Docker does not give by itself: mount, route and filter, trace, renice, read as root does.
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE", "SYS_NICE", "DAC_READ_SEARCH")


CGROUPS = "$(findmnt -nfo TARGET -t cgroup2)"
"""In shell: where a host's systemd has its units' processes; with cgroup v1 beside it, not at the usual place."""

ARGUMENT = 96 * 1024
"""Bytes of a command's argument that Linux surely takes (128 KiB is its limit), in whole base64 groups."""


def server_options() -> dict[str, Any]:
    """How docker-py starts a container whose first process is systemd; never privileged."""
    return {
        "cap_add": list(CAPABILITIES),
        "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
        "tmpfs": {"/run": "mode=755", "/run/lock": ""},
        "stop_signal": "SIGRTMIN+3",
    }


@dataclass(frozen=True)
class Result:
    """What a command on a host said: exit code, standard output, standard error."""

    rc: int
    out: str
    err: str


@dataclass
class Machine:
    """A lab host. Its addresses stay the same over restarts.

    In a fleet `inside` is its address in the inside network, and `ip` the same unless it is an edge.
    """

    name: str
    release: str
    ip: str
    ip6: str
    container: Container = field(repr=False)
    directory: Path = field(repr=False)  # the lab's, with ssh_config and fleet.yml
    inside: str = ""
    roles: tuple[str, ...] = ()

    def exec(self, command: str, stdin: str = "", user: str = "root", timeout: float = 120) -> Result:
        """Run a shell command on the host, past its network and its sshd.

        `stdin` goes into the command line: 72 KiB at most. After `timeout` seconds it is killed: exit code 124.
        """
        given = base64.b64encode(stdin.encode()).decode()
        script = f"printf %s {given} | base64 -d | ({command}\n)" if stdin else command
        code, out, err = self.run(["timeout", "--kill-after=3", str(timeout), "sh", "-c", script], user)
        return Result(code, out.decode(errors="replace"), err.decode(errors="replace"))

    def run(self, line: list[str], user: str = "root") -> tuple[int, bytes, bytes]:
        """Run a program on the host: its exit code and both streams.

        Not docker-py's exec_run: it asks for an upgraded connection and reads past the buffer of the answer's head, so
        on a busy machine the first output is lost (32 of 500 with six busy loops beside it; this way 0 of 500).
        """
        api = self.container.client.api
        number = api.exec_create(self.container.id, line, user=user)["Id"]
        answer = api.post(api._url("/exec/{0}/start", number), json={"Detach": False, "Tty": False}, timeout=None)
        answer.raise_for_status()
        streams, rest = {1: b"", 2: b""}, answer.content
        while rest:
            kind, size = struct.unpack(">BxxxL", rest[:8])
            streams[kind] += rest[8 : 8 + size]
            rest = rest[8 + size :]
        return api.exec_inspect(number)["ExitCode"], streams[1], streams[2]

    def check(self, command: str, stdin: str = "", user: str = "root", timeout: float = 120) -> str:
        """The same for a command that must succeed: its standard output. Raises LabError when it fails."""
        result = self.exec(command, stdin, user, timeout)
        if result.rc:
            raise LabError(f"{self.name}: {command}: exit {result.rc}\n{result.out}{result.err}".rstrip())
        return result.out

    def put(self, files: Mapping[str, bytes], mode: int = 0o644, owner: int = 0) -> None:
        """Lay files on the host, by absolute path; works before its first start as well. `owner` is a uid and gid.

        On a running host tar does it: for the length of a copy, Docker lays its own files over the host's /etc/hosts.
        """
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for path, content in files.items():
                entry = tarfile.TarInfo(path.lstrip("/"))
                entry.size, entry.mode, entry.mtime = len(content), mode, int(time.time())
                entry.uid = entry.gid = owner
                archive.addfile(entry, io.BytesIO(content))
        self.container.reload()
        if self.container.status != "running":
            self.container.put_archive("/", stream.getvalue())
            return
        text = base64.b64encode(stream.getvalue()).decode()
        for start in range(0, len(text), ARGUMENT):
            self.check(f"printf %s {text[start:start + ARGUMENT]} | base64 -d >>/run/lab.tar")
        self.check("tar --extract --directory=/ --file=/run/lab.tar && rm /run/lab.tar")

    def link(self, path: str, target: str) -> None:
        """Put a symbolic link on a host that has not been started yet."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.linkname, entry.mtime = tarfile.SYMTYPE, target, int(time.time())
            archive.addfile(entry)
        self.container.put_archive("/", stream.getvalue())

    def fab(
        self, *args: str, directory: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 580
    ) -> subprocess.CompletedProcess[str]:
        """Run `fab -S DIR/ssh_config -H <this host> ...` from this checkout; `directory` replaces the lab's own."""
        config = (directory or self.directory) / "ssh_config"
        return run_tool("fab", "-S", str(config), "-H", self.name, *args, env=env, timeout=timeout)

    def wait(self, seconds: float = 60) -> None:
        """Return when systemd has started everything and sshd answers.

        Raises LabError when it takes longer than `seconds`, or with the failed units when one failed.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            # sshd.socket or ssh.service: the port is what counts.
            state = self.exec("systemctl is-system-running --wait && ss -Htln 'sport = :22' | grep -q .")
            if state.rc == 0:
                return
            if state.out.strip() == "degraded":
                break
            time.sleep(0.1)
        seen = self.exec("systemctl --failed --plain --no-legend; journalctl -b -p warning -n 20 --no-pager").out
        raise LabError(f"{self.name} did not start ({(state.out or state.err).strip()}):\n{seen}")

    def restart(self) -> None:
        """Reboot the host: `docker restart`, then wait until it is up again."""
        self.container.restart(timeout=20)
        self.wait()

    @cached_property
    def testinfra(self) -> testinfra.host.Host:
        """testinfra's view of the host, as root."""
        return testinfra.host.Host(_Backend(self))


class Stranger(Machine):
    """Somebody on the Internet: a client with tools, the lab's DNS and the lab CA's root, and no credentials."""

    def trust(self, roots: bytes) -> None:
        """Let curl verify with these roots (PEM) and no others."""
        self.put({"/etc/lab/roots.pem": roots, "/root/.curlrc": b"cacert = /etc/lab/roots.pem\n"})

    def curl(self, *args: str, to: Machine | None = None) -> Result:
        """Run curl quietly (errors are still shown). `to` sends every connection to that host, whatever the name."""
        target = ("--connect-to", f"::{to.ip}:") if to else ()
        return self.exec(shlex.join(["curl", "--silent", "--show-error", "--max-time", "30", *target, *args]))


def run_tool(
    tool: str, *args: str, env: Mapping[str, str] | None = None, timeout: float = 580
) -> subprocess.CompletedProcess[str]:
    """Run `fab` or `inv` of this virtual environment in the checkout, as an operator would; both streams as text."""
    return subprocess.run(
        [str(Path(sys.executable).parent / tool), *args], cwd=CHECKOUT, env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
    )


class _Backend(BaseBackend):  # type: ignore[misc]  # testinfra has no type hints
    """Lets testinfra look at a host through docker-py: its own Docker backend wants the docker command line."""

    NAME = "lab"

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.name)
        self._machine = machine

    def run(self, command: str, *args: str, **_options: Any) -> CommandResult:
        line = self.get_command(command, *args)
        code, out, err = self._machine.run(["sh", "-c", line])
        return self.result(code, self.encode(line), out, err)
