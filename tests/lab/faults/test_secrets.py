"""Secrets: where they are, where they never are, who may read what holds them, and what becomes of copies."""

from __future__ import annotations

import shlex
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import Bare
from ..corner import A, B
from ..lab import Lab
from ..machine import Machine
from .needles import Haystack, Samples, sampling, secrets_of

Seen = Callable[[str], None]
one_release = pytest.mark.parametrize("host", ["vps"], indirect=True)

NEW = "canary.test"


def _belongs(place: str, secret: str) -> bool:
    """Whether the secret of that file may be in this place as well: a PEM holds the key that lego made for it."""
    if place.startswith("/etc/gatehouse/sites/"):
        return secret == place.replace("/sites/", "/secrets/sessions/").removesuffix("/sessions.password")
    name = place.rpartition("/")[2].removesuffix(".pem").removesuffix(".key")
    keys = ("/etc/haproxy/certs/", "/etc/lego/certificates/", "/var/lib/gatehouse/renew/former/")
    return place == secret or (place.startswith(keys) and secret.startswith(keys) and f"/{name}." in secret)


def searched(host: Machine, run: Callable[[str], subprocess.CompletedProcess[str]], seen: Seen) -> None:
    """Does the run, looks at it all the time, then looks for what it made, everywhere."""
    canary = f"canary{uuid.uuid4().hex}"
    with sampling(host) as samples:
        # What the sampler must see, beside what it must not.
        host.check(f"env GIVEN={canary}e sleep 1 & sh -c 'sleep 1; true' {canary}a")
        done = run(f"{canary}c")
    assert 0 == done.returncode, done.stdout + done.stderr
    secrets = secrets_of(host) | {"the operator's environment": f"{canary}c".encode()}
    haystack = Haystack(host, secrets)

    assert f"{canary}a" in samples.text
    assert f"{canary}e" in samples.text
    assert samples.rounds > 20
    assert set() == haystack.in_text(samples.text), "in arguments or environments"
    assert set() == haystack.in_text(done.stdout + done.stderr), "in what the operator saw"
    files = haystack.in_files()
    assert secrets.keys() - {"the operator's environment"} <= files.keys(), "the search finds each where it belongs"
    strays = {place: [one for one in owners if not _belongs(place, one)] for place, owners in files.items()}
    assert {} == {place: owners for place, owners in strays.items() if owners}
    assert {} == haystack.in_streams(), "in the journal or in the history"
    seen(_told(samples, len(secrets), len(haystack.owners)))


def _told(samples: Samples, secrets: int, guises: int) -> str:
    return (
        f"{secrets} secrets in {guises} guises; processes looked at {samples.rate:.0f} times a second for "
        f"{samples.seconds} s; every file, journal, history, output: each only in its place"
    )


@one_release
@pytest.mark.fault("F-68")
def test_f68_a_new_site_s_secrets_are_nowhere_but_in_their_places(
    host: Machine, fleet: Callable[..., Path], seen: Seen
) -> None:
    with_it, without = fleet(NEW), fleet()
    try:
        searched(host, lambda canary: host.fab("bootstrap", directory=with_it, env={"GATEHOUSE_CANARY": canary}), seen)
        assert 0 == host.exec(f"test -s /etc/haproxy/certs/{NEW}.pem").rc
    finally:
        host.fab("bootstrap", directory=without)
        host.exec("sed -i /^canary-test/d /etc/cron.deny")
        host.exec(f"userdel canary-test; groupdel canary-test; umount /var/www/{NEW}/tmp; rm -rf /var/www/{NEW}")
        host.exec(f"find /etc /var/lib/gatehouse -name '{NEW}*' -delete; systemctl reload haproxy")
        done = host.fab("bootstrap", directory=without)  # what its user left goes once that is gone
    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.demand
@pytest.mark.fault("F-68")
def test_f68_a_host_s_secrets_are_nowhere_but_in_their_places(lab: Lab, bare: Bare, seen: Seen) -> None:
    """From bare Debian on: the CA account, every key and every password is made under these eyes."""
    host = bare()
    with lab.pointing(host):
        searched(host, lambda canary: host.fab("bootstrap", env={"GATEHOUSE_CANARY": canary}), seen)


# ---------------------------------------------------------------------- who may read what

BEARING = (
    "/etc/shadow", "/etc/gshadow", "/etc/gatehouse/secrets", "/etc/gatehouse/sessions/users.acl", "/etc/varnish/secret",
    "/etc/haproxy/certs", "/etc/lego", "/etc/.git", "/etc/iptables", "/etc/apache2/vhost.d", "/var/lib/gatehouse",
    "/var/lib/fail2ban", "/var/lib/redis", "/var/log/apache2", "/var/log/journal", "/var/log/fail2ban.log",
    "/var/log/btmp", "/var/log/unattended-upgrades", "/var/log/php*-fpm.log", "/var/www/*/log", "/var/www/*/mail",
    "/var/www/*/tmp", "/var/spool/cron", "/root", "/home/*/.ssh", "/etc/ssh/ssh_host_*_key",
)  # fmt: skip


def readable(host: Machine, user: str, paths: list[str]) -> set[str]:
    """Which of these that user can read, by whatever way leads there."""
    script = 'while IFS= read -r path; do if [ -r "$path" ]; then printf "%s\\n" "$path"; fi; done'
    found: set[str] = set()
    for start in range(0, len(paths), 400):
        text = "".join(f"{path}\n" for path in paths[start : start + 400])
        line = f"setpriv --reuid {user} --regid $(id -g {user}) --init-groups sh -c {shlex.quote(script)}"
        found |= set(host.check(line, stdin=text).splitlines())
    return found


@pytest.mark.fault("F-69")
def test_f69_what_bears_secrets_and_logs_is_closed_to_others(host: Machine, seen: Seen) -> None:
    """By what a site's user and nobody can really read, whichever mode or directory closes it."""
    files = host.check(f"find {' '.join(BEARING)} -xdev -type f 2> /dev/null || :").splitlines()
    keys = host.check(
        "grep -rlaE -D skip -e '-----BEGIN [A-Z ]*PRIVATE KEY' /etc /home /opt /root /run /srv /usr/local /var || :"
    ).splitlines()
    bearing = sorted({*files, *keys})

    assert set() == readable(host, "nobody", bearing)
    own = readable(host, B, bearing)
    assert set() == {path for path in own if not path.startswith("/var/www/kiosk.co.test/")}
    assert {"/etc/passwd"} == readable(host, "nobody", ["/etc/passwd", "/etc/shadow"])
    assert len(keys) >= 5
    assert any(path.startswith("/var/www/kiosk.co.test/log/") for path in own), "its own logs are its to read"
    seen(f"{len(bearing)} files with secrets or logs, {len(keys)} of them with private keys: none readable by others")


ENDINGS = (
    "*.bak", "*~", "*.old", "*.orig", "*.save", "*.dpkg-*", "*.ucf-*", "*.gone", "*.off", "*.new", "*.before", "*-",
)  # fmt: skip
COPIES = "'(' " + " -o ".join(f"-name '{ending}'" for ending in ENDINGS) + " ')'"


@one_release
@pytest.mark.fault("F-70")
def test_f70_a_copy_is_no_more_open_than_what_it_was_made_of(host: Machine, seen: Seen) -> None:
    """Former files, former certificates, Debian's own copies, and the history: modes, owners, and the way there."""
    former = "/var/lib/gatehouse/former"
    host.check(
        f"rm -rf {former}/etc/iptables; echo '# by hand' >> /etc/iptables/rules.v4; chmod 0640 /etc/iptables/rules.v4"
    )
    done = host.fab("firewall")
    assert 0 == done.returncode, done.stdout + done.stderr
    done = host.fab("cert.renew", "example.com", "--force")
    assert 0 == done.returncode, done.stdout + done.stderr

    kept = host.check(f"find {former} -type f ! -name '*.absent'").splitlines()
    pairs = {path: path.removeprefix(former) for path in kept}
    pems = host.check("find /var/lib/gatehouse/renew/former -type f").splitlines()
    pairs |= {path: f"/etc/haproxy/certs/{path.rpartition('/')[2]}" for path in pems}
    for path in host.check(f"find /etc /var/backups /var/lib /usr/local -xdev -type f {COPIES} || :").splitlines():
        base = path[:-1] if path[-1] in "~-" else path.rpartition(".")[0]
        pairs[path] = base.replace("/var/backups/", "/etc/")
    there = host.check(
        "xargs -d '\\n' stat -c '%n\t%a\t%U:%G' 2> /dev/null || :", stdin="\n".join({*pairs, *pairs.values()})
    )
    modes = {path: (int(mode, 8), owner) for path, mode, owner in (line.split("\t") for line in there.splitlines())}
    looser = {
        copy: (modes[copy], modes[base])
        for copy, base in pairs.items()
        if base in modes and copy in modes and modes[copy][0] & ~modes[base][0] & 0o077
    }

    assert {} == looser
    assert "/var/lib/gatehouse/former/etc/iptables/rules.v4" in pairs
    assert any(path.endswith("/example.com.pem") for path in pems)
    assert set() == readable(host, "nobody", [copy for copy in pairs if copy.startswith("/var/lib/gatehouse/")])
    closed = {pairs[copy] for copy in readable(host, A, sorted(pairs))} & modes.keys()
    assert closed == readable(host, A, sorted(closed)), "whoever reads the copy may read the original"
    assert "700 root:root" == host.check("stat -c '%a %U:%G' /etc/.git").strip()
    hidden = host.check("git -C /etc ls-tree -r --name-only HEAD").splitlines()
    assert [] == [
        name for name in hidden if name.startswith(("lego/", "haproxy/certs/", "gatehouse/secrets/", "shadow"))
    ]
    seen(
        f"{len(pairs)} copies, {len(pems)} of them certificates with their keys: none looser; no secret in the history"
    )
