"""The keys under which known_hosts files know a host (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import paramiko
from paramiko.hostkeys import HostKeyEntry, HostKeys, InvalidHostKey

REVOKED = "@revoked"


def known_keys(paths: Iterable[Path], name: str) -> dict[str, paramiko.PKey]:
    """By their types, in the files' order; of several of one type the first, as paramiko has it; none that is revoked.

    `name` is `host` or `[host]:port`.  What cannot be read is no key.  Paramiko itself reads all lines, and compares
    each with all before it: with fifty hosts 0.3 s of a processor for each of them.
    """
    found: dict[str, paramiko.PKey] = {}
    revoked = []
    for path in paths:
        for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
            words = line.split()
            marked = words[:1] == [REVOKED]
            names = "".join(words[marked : marked + 1]).split(",")
            if any(_means(each, name) or (marked and each == "*") for each in names):
                with suppress(paramiko.SSHException, InvalidHostKey):
                    if entry := HostKeyEntry.from_line(" ".join(words[marked:])):
                        if marked:
                            revoked.append(entry.key)
                        else:
                            found.setdefault(entry.key.get_name(), entry.key)
    return {kind: key for kind, key in found.items() if key not in revoked}


def _means(written: str, name: str) -> bool:
    """Whether a name of a line, which may be hashed, is this one."""
    if not written.startswith("|1|"):
        return written == name
    with suppress(ValueError, IndexError, AssertionError):  # no salt, or none of 20 bytes
        return bool(HostKeys.hash_host(name, written) == written)
    return False
