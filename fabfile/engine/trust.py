"""Enrolling a host's SSH key: shown, compared, and only then known."""

from __future__ import annotations

import shlex
import sys

from fabric import Connection

from .hostkeys import EVERYBODY_S, known_keys, revoked_keys
from .problems import ChangedKey, Guarded
from .remote import fingerprint, known_hosts, offered_key


def enrol(c: Connection, expected: str = "") -> str:
    """Add the key that the host shows to the first known_hosts file; returns what to tell the operator.

    `expected` is the fingerprint got from elsewhere (the provider's console); without it, the operator is asked.
    Raises ChangedKey when another key of that kind is known already, Guarded when the fingerprints differ, when the
    operator says no, when nobody is there to ask, or when the key is revoked.
    """
    name, key = offered_key(c)
    shown, files = fingerprint(key), known_hosts(c)
    if key in revoked_keys((EVERYBODY_S, *files), name):
        raise Guarded(
            f"{name} shows {key.get_name()} {shown}, which a line with @revoked forbids",
            "if that is the host, a new key, there: rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh",
        )
    for path in files:
        known = known_keys([path], name).get(key.get_name())
        if known == key:
            return f"{name} is known already: {key.get_name()} {shown}"
        if known is not None:
            raise ChangedKey(
                f"{name} shows another key than the known one: {shown} instead of {fingerprint(known)}",
                f"find out why first; if the host was reinstalled: ssh-keygen -f {shlex.quote(str(path))} -R '{name}'",
            )
    if expected:
        if expected.removeprefix("SHA256:") != shown.removeprefix("SHA256:"):
            raise Guarded(f"{name} shows {shown}, not {expected}", "compare again; nothing was enrolled")
    elif not sys.stdin.isatty():
        raise Guarded(f"{name} shows {key.get_name()} {shown}", f"fab -H {c.original_host} trust --fingerprint {shown}")
    elif input(f"{name} shows {key.get_name()} {shown}\nIs that the host's own key? [y/N] ").strip().lower() != "y":
        raise Guarded("not enrolled", "compare with: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub, on the host")
    files[0].parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with files[0].open("a") as file:
        file.write(f"{name} {key.get_name()} {key.get_base64()}\n")
    return f"{name} is known now: {key.get_name()} {shown} (in {files[0]})"
