"""What tests of certificates look at: the one a visitor is shown, the one on disk, and how to make an old one of it."""

from __future__ import annotations

import re
import time

from tests.renew.authority import DAY, Authority

from .machine import Machine, Stranger

EXAMPLE = ("example.com", "www.example.com")
KIOSK = ("kiosk.co.test", "www.kiosk.co.test", "shop.kiosk.co.test", "kiosk.test")
SHELF = "/etc/haproxy/certs"
INBOX = "/etc/lego/certificates"
STATE = "/var/lib/gatehouse/renew"


def shown(stranger: Stranger, host: Machine, name: str) -> str:
    """What a visitor is shown for a name: the certificate's SHA-1 and names, one a line."""
    return stranger.check(
        f"openssl s_client -connect {host.ip}:443 -servername {name} </dev/null 2>/dev/null | "
        "openssl x509 -noout -fingerprint -sha1 -subject -ext subjectAltName"
    )


def fingerprint(text: str) -> str:
    found = re.search(r"[Ff]ingerprint=([0-9A-F:]{59})", text)
    assert found, text
    return found[1]


def served(stranger: Stranger, host: Machine, name: str = "example.com") -> str:
    return fingerprint(shown(stranger, host, name))


def on_disk(host: Machine, name: str = "example.com") -> str:
    return fingerprint(host.check(f"openssl x509 -in {SHELF}/{name}.pem -noout -fingerprint -sha1"))


def outcomes(printed: str) -> dict[str, str]:
    """The last word on each name, from --porcelain."""
    return {line.split("\t")[1]: line.split("\t")[0] for line in printed.splitlines()}


def reasons(printed: str) -> dict[str, str]:
    """The last text on each name, from --porcelain."""
    return {line.split("\t")[1]: line.split("\t")[2] for line in printed.splitlines()}


def wear_out(host: Machine, stranger: Stranger, names: tuple[str, ...] = EXAMPLE) -> str:
    """The certificate of names[0] is old: 5 of 90 days left, and served. Returns its fingerprint."""
    old = Authority("yesterday").issue(*names, age=85 * DAY, left=5 * DAY)
    host.put({f"{SHELF}/{names[0]}.pem": old.pem}, 0o600)
    host.check(f"touch {SHELF}/{names[0]}.pem && systemctl reload haproxy")  # newer than what lego left
    wait_until_served(host, stranger, names[0])
    return on_disk(host, names[0])


def wait_until_served(host: Machine, stranger: Stranger, name: str = "example.com") -> None:
    """HAProxy has loaded what lies on disk: a reload is over before its new worker answers."""
    for _ in range(50):
        if served(stranger, host, name) == on_disk(host, name):
            return
        time.sleep(0.1)
    assert served(stranger, host, name) == on_disk(host, name)


def all_on_disk(host: Machine, *names: str) -> dict[str, str]:
    """What lies on disk for each of the names."""
    lines = host.check(
        f"for name in {' '.join(names)}; do echo $name "
        f"$(openssl x509 -in {SHELF}/$name.pem -noout -fingerprint -sha1 | sed 's/.*=//'); done"
    )
    return _pairs(lines)


def all_served(stranger: Stranger, host: Machine, *names: str) -> dict[str, str]:
    """What a visitor is shown for each of the names."""
    lines = stranger.check(
        f"for name in {' '.join(names)}; do echo $name $(openssl s_client -connect {host.ip}:443 -servername $name "
        "</dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha1 | sed 's/.*=//'); done"
    )
    return _pairs(lines)


def _pairs(lines: str) -> dict[str, str]:
    return {name: print_ for name, _, print_ in (line.partition(" ") for line in lines.splitlines())}


def renew(host: Machine, *words: str, rc: int | None = None) -> str:
    """Run the program as the host does: what it prints."""
    done = host.exec(" ".join(["gatehouse-renew", "--porcelain", *words]), timeout=300)
    assert rc is None or done.rc == rc, (done.rc, done.out, done.err)
    return done.out


def time_passes(host: Machine) -> None:
    """The next try's time has come, for every name."""
    host.check(f"sed -i 's/^next=.*/next=1/' {STATE}/*.failed")


def tick(host: Machine) -> str:
    """Cron's own line, at a time when it is this host's turn; what it left in the journal.

    Cron's sleep would be up to 50 minutes: here it is a program that does not. The first run of a host that has none
    behind it is now, whatever its hour.
    """
    line = host.check("sed -n 's/^0 \\* \\* \\* \\* root //p' /etc/cron.d/gatehouse-renew").strip()
    host.put({"/tmp/hurried/sleep": b"#!/bin/sh\n"}, 0o755)
    host.check(f"rm -f {STATE}/last")
    mark = host.check("journalctl -q -n 0 --show-cursor | sed -n 's/^-- cursor: //p'").strip()
    host.check(f"env -i SHELL=/bin/sh PATH=/tmp/hurried:/usr/local/sbin:/usr/bin:/bin sh -c {line!r}", timeout=300)
    host.check("rm -r /tmp/hurried")
    return host.check(f"journalctl --sync; journalctl -q --after-cursor '{mark}' -t gatehouse-renew -o cat")


def digests(host: Machine, *places: str) -> str:
    """Every file in these places, byte for byte."""
    return host.check(f"find {' '.join(places)} -type f -exec sha256sum {{}} + | sort -k2")


def code(stranger: Stranger, host: Machine, url: str = "https://example.com/") -> str:
    return stranger.curl("-k", "-o", "/dev/null", "-w", "%{http_code}", url, to=host).out


def until(host: Machine, condition: str, seconds: int = 30) -> None:
    """Return when a shell command succeeds on the host. Raises LabError when it does not."""
    loop = f"for try in $(seq {seconds * 10}); do {{ {condition}; }} && exit; sleep 0.1; done; exit 1"
    host.check(loop, timeout=2 * seconds)
