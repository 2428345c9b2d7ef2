"""The keys under which known_hosts files know a host (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, HostKeys, InvalidHostKey

REVOKED = "@revoked"
EVERYBODY_S = Path("/etc/ssh/ssh_known_hosts")


def known_keys(paths: Iterable[Path], name: str) -> dict[str, paramiko.PKey]:
    """By their types, in the files' order; of several of one type the first, as paramiko has it; none that is revoked.

    `name` is `host` or `[host]:port`.  What cannot be read is no key.
    """
    found: dict[str, paramiko.PKey] = {}
    revoked = []
    for marked, key in _keys(paths, name):
        if marked:
            revoked.append(key)
        else:
            found.setdefault(key.get_name(), key)
    return {kind: key for kind, key in found.items() if key not in revoked}


def revoked_keys(paths: Iterable[Path], name: str) -> list[paramiko.PKey]:
    """Those that must never be taken for the host's."""
    return [key for marked, key in _keys(paths, name) if marked]


def _keys(paths: Iterable[Path], name: str) -> Iterator[tuple[bool, paramiko.PKey]]:
    """What files say of a host: whether the key is revoked, and the key.

    Paramiko itself reads all lines, and compares each with all before it: with fifty hosts 0.3 s of a processor for
    each of them.
    """
    for path in paths:
        for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
            words = line.split()
            marked = words[:1] == [REVOKED]
            names = "".join(words[marked : marked + 1]).split(",")
            if any(_means(each, name) or (marked and each == "*") for each in names):
                with suppress(paramiko.SSHException, InvalidHostKey):
                    if entry := HostKeyEntry.from_line(" ".join(words[marked:])):
                        yield marked, entry.key


def _means(written: str, name: str) -> bool:
    """Whether a name of a line, which may be hashed, is this one."""
    if not written.startswith("|1|"):
        return written == name
    with suppress(ValueError, IndexError, AssertionError):  # no salt, or none of 20 bytes
        return bool(HostKeys.hash_host(name, written) == written)
    return False
