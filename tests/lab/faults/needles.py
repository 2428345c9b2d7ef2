"""The secrets of a host, in every guise in which they could lie about, and where they were found."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ..machine import Machine

NEEDLES = "/run/needles"
KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)


def guises(secret: bytes) -> set[str]:
    """Plain, hexadecimal, URL-encoded and base64 at each of its three alignments.

    Of base64 both halves: in a PEM file one of them may be broken by the end of a line.
    """
    found = {secret.hex(), secret.hex().upper()}
    if secret.isascii() and secret.decode().isprintable():
        found |= {secret.decode(), quote(secret.decode(), safe="")}
    for shift in range(3):
        inner = base64.b64encode(b"\0" * shift + secret).decode()[4 if shift else 0 : -4]
        found |= {inner[: len(inner) // 2], inner[len(inner) // 2 :]}
    return found


def secrets_of(host: Machine) -> dict[str, bytes]:
    """What must stay where it is: passwords of sessions, Varnish's, and the numbers that private keys are made of."""
    places = "/etc/gatehouse/secrets/sessions/* /etc/varnish/secret /etc/haproxy/certs/*.pem"
    paths = host.check(f"ls {places}; find /etc/lego -name '*.key'").split()
    found = {}
    for path in paths:
        content = host.check(f"cat {path}").encode().strip()
        if key := KEY.search(content):
            private = load_pem_private_key(key[0], None)
            assert isinstance(private, EllipticCurvePrivateKey)
            content = private.private_numbers().private_value.to_bytes(private.key_size // 8, "big")
        found[path] = content
    return found


@dataclass
class Haystack:
    """A host, searched for secrets."""

    host: Machine
    secrets: Mapping[str, bytes]
    owners: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path, secret in self.secrets.items():
            for guise in guises(secret):
                self.owners.setdefault(guise, set()).add(path)

    def _named(self, matches: Iterator[tuple[str, str]]) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for place, guise in matches:
            found.setdefault(place, set()).update(self.owners[guise])
        return found

    def in_text(self, text: str) -> set[str]:
        """Whose secrets are in it, by where they belong."""
        return {path for guise, paths in self.owners.items() if guise in text for path in paths}

    def in_files(self) -> dict[str, set[str]]:
        """Every file of the host that holds one: whose."""
        roots = "$(find / -mindepth 1 -maxdepth 1 ! -name proc ! -name sys ! -name dev)"
        said = self._grep(f"grep -roaF -D skip -f {NEEDLES} --exclude={NEEDLES.rpartition('/')[2]} {roots}")
        return self._named((line.partition(":")[0], line.partition(":")[2]) for line in said)

    def in_streams(self) -> dict[str, set[str]]:
        """What is packed: the journal, the history of /etc with all its objects, logs that were compressed."""
        streams = {
            "the journal": "journalctl --no-pager -a -o export",
            "the history of /etc": "git -C /etc cat-file --batch-all-objects --batch",
            "compressed logs": "find /var/log /var/www -name '*.gz' -exec zcat {} +",
        }
        found: dict[str, set[str]] = {}
        for name, command in streams.items():
            if owners := self._named((name, line) for line in self._grep(f"{command} | grep -oaF -f {NEEDLES}")):
                found |= owners
        return found

    def _grep(self, command: str) -> list[str]:
        self.host.put({NEEDLES: "".join(f"{guise}\n" for guise in self.owners).encode()}, 0o600)
        try:
            return self.host.exec(command, timeout=300).out.splitlines()
        finally:
            self.host.check(f"rm {NEEDLES}")


WATCH = r"""
my ($flag) = @ARGV; my (%seen, $rounds); my $began = time; $/ = undef;
while (-e $flag) {
    $rounds++;
    for my $file (glob "/proc/[0-9]*/cmdline /proc/[0-9]*/environ") {
        open(my $in, "<", $file) or next; my $text = <$in>; close $in; $seen{$text} = 1 if length $text;
    }
    select(undef, undef, undef, 0.015);
}
print join("\n", $rounds, time - $began, map { tr/\0/ /r } keys %seen), "\n";
"""


@dataclass
class Samples:
    """Arguments and environments of all processes, as often as could be looked."""

    rounds: int = 0
    seconds: int = 1
    text: str = ""

    @property
    def rate(self) -> float:
        """Looks a second."""
        return self.rounds / max(self.seconds, 1)


@contextmanager
def sampling(host: Machine) -> Iterator[Samples]:
    """Meanwhile, every process's command line and environment are looked at, some fifty times a second."""
    samples, flag, said = Samples(), "/run/sampling", list[str]()
    host.check(f"touch {flag}")
    line = f"perl - {flag}"
    watcher = threading.Thread(target=lambda: said.append(host.check(line, stdin=WATCH, timeout=900)))
    watcher.start()
    try:
        yield samples
    finally:
        host.check(f"rm {flag}")
        watcher.join()
        rounds, seconds, samples.text = said[0].split("\n", 2)
        samples.rounds, samples.seconds = int(rounds), int(seconds)
