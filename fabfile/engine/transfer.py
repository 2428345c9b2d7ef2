"""A directory of this machine to a host: rsync, through patchwork, over an SSH of its own.

It gets in as Fabric did (the same ssh_config and with it jump hosts, user, port, keys and known hosts), but on the host
it runs as a site's user from its first moment: root takes no part in what that user's directories hold.

ssh gives a gateway nothing of its own command line but `-F`, so what must hold on every hop stands in a file.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fabric import Connection
from invoke import Result

from .problems import Guarded, StepFailed, Stopped
from .remote import DEAD, KEEPALIVE, Visit

LEFT_OUT = (".git", ".hg", ".svn")
"""The source's own history is no part of a release."""


@dataclass
class _Way:
    """What patchwork asks of a connection; the host keeps the name under which ssh_config knows it."""

    connection: Connection
    result: Result | None = None
    connect_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        c = self.connection
        self.host, self.user, self.port = c.original_host, c.user, c.port

    def local(self, command: str) -> Result:
        """Run rsync; what it says is for whoever sees it fail."""
        return self.connection.local(command, hide=True, warn=True, in_stream=False)


def rsync(visit: Visit, source: Path, target: str, user: str, like: Sequence[str] = ()) -> str:
    """Make the directory `target` on the host hold what `source` holds, written by `user`; returns rsync's statistics.

    `like` are directories, relative to `target`, with former versions: what is the same there is copied on the host,
    and of what differs only the difference travels.  Contents decide, not times: a build may give all files the same.
    Raises StepFailed with rsync's own words, Guarded when this machine has no rsync, Stopped after Ctrl-C.
    """
    from patchwork.transfers import rsync as patchwork_rsync

    if not shutil.which("rsync") or not shutil.which("ssh"):
        raise Guarded("rsync and ssh are needed on this machine", "apt install rsync openssh-client")
    c = visit.connection
    drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "env", "-i", "LC_ALL=C.UTF-8", "rsync"]
    if c.user != "root":
        drop = ["sudo", "-n", *drop]
    options = [
        "--links", "--checksum", "--stats", "--no-verbose", "--chmod=u=rwX,go=rX", f"--timeout={DEAD}",
        f"--rsync-path={' '.join(drop)}", *(f"--copy-dest={place}" for place in like),
    ]  # fmt: skip
    with TemporaryDirectory(prefix="gatehouse-") as place:
        file = Path(place) / "ssh_config"
        file.write_text(ssh_config(c))
        done = patchwork_rsync(
            _Way(c),
            shlex.quote(f"{source.absolute()}/"),
            shlex.quote(f"{target}/"),
            exclude=LEFT_OUT,
            rsync_opts=quoted(options),
            ssh_opts=f'-F "{file}"',  # within single quotes of patchwork's own
            strict_host_keys=True,
        )
    if visit.stopping:
        raise Stopped("stopped while the files travelled; the host serves what it served")
    if not done.ok:
        raise StepFailed(f"rsync ended with exit code {done.exited}", "", "\n".join(done.stderr.splitlines()[-15:]))
    return str(done.stdout)


def quoted(words: Iterable[str]) -> str:
    """For the shell on this machine."""
    return " ".join(shlex.quote(word) for word in words)


def ssh_config(c: Connection) -> str:
    """What ssh shall read instead of the files that Fabric read: first what holds on every hop, then those files.

    Of two values ssh takes the first, and of keys all.
    """
    names = c.connect_kwargs.get("key_filename") or []
    # Keys that ssh_config names are ssh's own business; others came by `-i` or fabric.yml.
    given = {*([names] if isinstance(names, str) else names)} - {*c.ssh_config.get("identityfile", [])}
    keys = sorted(str(Path(key).expanduser().absolute()) for key in given)
    lines = ["StrictHostKeyChecking yes", f"ServerAliveInterval {KEEPALIVE}"]
    lines += [f'IdentityFile "{key.replace("%", "%%")}"' for key in keys]
    runtime = getattr(c.config, "_runtime_ssh_path", None)
    for path in [runtime] if runtime else ["~/.ssh/config", "/etc/ssh/ssh_config"]:
        with suppress(FileNotFoundError):
            lines += ["Host *", Path(path).expanduser().read_text()]
    return "\n".join(lines) + "\n"
