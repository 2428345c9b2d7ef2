"""A site's user against root: links, hard links and races wherever root may come by, and nothing outside changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..corner import A_ROOT, B_ROOT, A, as_user, ask, status
from ..machine import Machine
from .raid import differences, inventory, raiding

Seen = Callable[[str], None]
one_release = pytest.mark.parametrize("host", ["vps"], indirect=True)

CHANGED = "domain: example.com\nsubdomains: [www]\nphp:\n  children: 6\ncache:\n  ttl: 60\n"
# What these runs are there to change: files that name the site, and those that list all sites.
OURS = re.compile(
    r".*example[.-]com.*|/etc/haproxy/\w+\.map|/etc/gatehouse/sessions/users\.acl|/etc/\.etckeeper"
    r"|/etc/fail2ban/paths-overrides\.local|/var/lib/gatehouse/.*|/etc/apache2/conf-available/.*"
)
LATER = (
    "logrotate --force /etc/logrotate.d/gatehouse-sites",
    "systemctl start phpsessionclean.service systemd-tmpfiles-clean.service",
    "run-parts --regex '^(etckeeper|logrotate|dpkg|apache2)$' /etc/cron.daily",
    "! etckeeper unclean || etckeeper commit raid",
    "gatehouse-renew",
)


@pytest.fixture
def varied(fleet: Callable[..., Path]) -> tuple[Path, Path, Path]:
    """Three sets of the lab's sites: as they are, with A changed, without A."""
    usual, changed, without = fleet(), fleet(), fleet()
    (changed / "sites" / "example.com.yml").write_text(CHANGED)
    (without / "sites" / "example.com.yml").unlink()
    return usual, changed, without


@pytest.fixture
def untidy(host: Machine) -> Iterator[None]:
    """A's tree as root must put it right: modes that differ, a log and a room that are gone. As it was, afterwards."""
    kept = f"{A_ROOT}/.kept"
    host.check(
        f"mkdir -m 700 {kept}; cp -a {A_ROOT}/public_html {kept}/; rm -rf {A_ROOT}/public_html; "
        f"rm -f {A_ROOT}/log/php_errors.log; chmod 0755 {A_ROOT}/tmp {A_ROOT}/mail {A_ROOT}/log"
    )
    yield
    host.check(f"rm -rf {A_ROOT}/public_html; mv {kept}/public_html {A_ROOT}/; rmdir {kept}")


def _done(host: Machine, *words: str, directory: Path) -> None:
    done = host.fab(*words, directory=directory)
    assert 0 == done.returncode, done.stdout + done.stderr


@one_release
@pytest.mark.demand
@pytest.mark.fault("F-20", "F-23")
def test_f20_f23_no_link_and_no_race_leads_root_out_of_the_site_s_tree(
    host: Machine, varied: tuple[Path, Path, Path], untidy: None, seen: Seen
) -> None:
    """A whole day of root's: bootstrap, rotation, cleaning, cron, history, renewal, the site going and coming back."""
    usual, changed, without = varied
    before = inventory(host)
    try:
        with raiding(host) as raid:
            _done(host, "bootstrap", directory=changed)
            for line in LATER:
                host.check(line)
            _done(host, "cert.renew", "example.com", "--force", directory=changed)
            _done(host, "haproxy", "site", "php", "apache", "fail2ban", directory=without)
            _done(host, "bootstrap", directory=usual)
    finally:
        _done(host, "bootstrap", directory=usual)
    after = inventory(host)

    assert {} == raid.outside
    assert raid.did["links in its own rooms"] > 1000
    assert raid.did["stages seen"] > 0, "the raider saw root at work"
    changes = differences(before, after)
    assert any("example.com" in path for path in changes), "these runs do write"
    assert {} == {path: how for path, how in changes.items() if not OURS.fullmatch(path)}
    assert 200 == status(ask(host, "kiosk.co.test", "/"))
    seen(
        f"{raid.did['tries']} tries during 4 runs of ours, rotation, cleaning, cron and renewal; "
        f"{raid.did['links in its own rooms']} links planted, root's staging met {raid.did['stages seen']} times; "
        f"{len(after)} names outside as they were"
    )


PRIZES = ("/etc/shadow", "/etc/gatehouse/secrets/sessions/kiosk-co-test", "/etc/cron.d/gatehouse-renew")


@one_release
@pytest.mark.fault("F-21")
def test_f21_a_hard_link_to_a_file_of_root_keeps_its_owner_and_mode(
    host: Machine, varied: tuple[Path, Path, Path], seen: Seen
) -> None:
    """The kernel denies them (fs.protected_hardlinks); so root lays them here, as on a host where it did not."""
    denied = [as_user(host, A, f"ln {prize} {A_ROOT}/tmp/").rc for prize in PRIZES]
    rooms = [f"{A_ROOT}/{room}" for room in ("tmp", "mail", "public_html", "public_html/_")]
    names = [f"{room}/prize{index}" for room in rooms for index in range(len(PRIZES))]
    look = f"stat -c '%n %a %U:%G %s %h' {' '.join(PRIZES)}; sha256sum {' '.join(PRIZES)}"
    try:
        for room in rooms:
            for index, prize in enumerate(PRIZES):
                host.check(f"ln {prize} {room}/prize{index}")
        before = host.check(look)
        host.check(f"chmod 0755 {A_ROOT}/tmp {A_ROOT}/mail")
        host.check(f"touch -d '400 days ago' {A_ROOT}/tmp")

        _done(host, "site", "php", "apache", directory=varied[1])
        for line in LATER[:4]:
            host.check(line)
        after = host.check(look)
        shown = [status(ask(host, "example.com", f"/prize{index}")) for index in range(len(PRIZES))]
    finally:
        host.check(f"rm -f {' '.join(names)}")
        _done(host, "site", "php", "apache", directory=varied[0])

    assert before == after
    assert all(denied)
    assert [403] * 3 == shown, "Apache is not root"
    assert "700" == host.check(f"stat -c %a {A_ROOT}/tmp").strip(), "root did work there"
    seen(
        f"{len(names)} hard links to {len(PRIZES)} files of root, which the kernel denied to the user and root laid: "
        "owner, mode and content as before"
    )


@one_release
@pytest.mark.fault("F-22")
def test_f22_logs_are_in_a_directory_of_root_s(host: Machine, seen: Seen) -> None:
    """Apache opens them as root and logrotate renames them as root: nobody else may choose what is there."""
    log = f"{A_ROOT}/log"
    tricks = [
        f"ln -s /etc/passwd {log}/access_log.1",
        f"ln -sfn /etc/passwd {log}/access_log",
        f"mv {log}/php_errors.log {log}/x",
        f"rm -f {log}/php_errors.log",
        f"ln -f {A_ROOT}/public_html/_/index.html {log}/php_errors.log",
        f"mv {log} {log}.away",
        f"chmod 0777 {log}",
        f"echo x >> {log}/access_log",
        f"chmod 0666 {log}/error_log",
    ]
    look = "stat -c '%n %a %U:%G %Z' /etc/passwd /etc/shadow; sha256sum /etc/passwd /etc/shadow"
    before = host.check(look)
    worked = [trick for trick in tricks if as_user(host, A, trick).rc == 0]
    # What is left to it: the content and the mode of its own PHP errors.
    as_user(host, A, f"chmod 06777 {log}/php_errors.log; head -c 100000 /dev/zero > {log}/php_errors.log")
    try:
        for _ in range(3):
            ask(host, "example.com", "/nothing-here")
            as_user(host, A, f"echo x >> {log}/php_errors.log")
            host.check("logrotate --force /etc/logrotate.d/gatehouse-sites")
        entries = host.check(f"find {log} -printf '%f %y %u %m\\n'").splitlines()
    finally:
        host.check(f"chmod 0640 {log}/php_errors.log")

    assert [] == worked
    assert before == host.check(look)
    for root in (A_ROOT, B_ROOT):
        assert "root 750" == host.check(f"stat -c '%U %a' {root}/log").strip()
    owners = {name: owner for name, kind, owner, _ in (entry.split() for entry in entries) if kind == "f"}
    assert len(owners) == len(entries) - 1, entries
    assert {A if name.startswith("php_errors") else "root" for name in owners} == set(owners.values())
    assert all((owner == A) == name.startswith("php_errors") for name, owner in owners.items())
    assert not [entry for entry in entries if re.search(r" [67]\d{3}$", entry)], "no setuid survives a rotation"
    seen(f"{len(tricks)} tricks with its logs denied; 3 rotations: every file a plain one, its owner kept")
