"""A site's user against root: links, hard links and races wherever root may come by, and nothing outside changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..corner import A_ROOT, B_ROOT, A, as_user, ask, status
from ..lab import Lab
from ..machine import Machine, Stranger
from ..shop import DOMAIN, OWNER, ROOT, Shop, opened
from .raid import RAID, TARGETS, differences, inventory, raiding

Seen = Callable[[str], None]
one_release = pytest.mark.parametrize("host", ["vps"], indirect=True)

CHANGED = "domain: example.com\nsubdomains: [www]\nphp:\n  children: 6\ncache:\n  ttl: 60\n"
# What these runs are there to change: files that name the site, and those that list all sites.
OURS = re.compile(
    r".*example[.-]com.*|/etc/haproxy/\w+\.map|/etc/gatehouse/sessions/users\.acl|/etc/\.etckeeper"
    r"|/etc/fail2ban/paths-overrides\.local|/var/lib/gatehouse/.*|/etc/apache2/conf-available/.*|/etc/gatehouse/tmp"
    r"|/var/www/kiosk\.co\.test/log/.*"  # rotated, where somebody came by
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
            _done(host, "haproxy", "site", "cache", "php", "apache", "fail2ban", directory=without)
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
    rooms = [f"{A_ROOT}/{room}" for room in ("mail", "public_html", "public_html/_")]  # tmp/ is another file system
    names = [f"{room}/prize{index}" for room in rooms for index in range(len(PRIZES))]
    look = f"stat -c '%n %a %U:%G %s %h' {' '.join(PRIZES)}; sha256sum {' '.join(PRIZES)}"
    whole = "/run/whole"  # one mount: the kernel links none to a file of another, and /var/www may be one
    try:
        host.check(f"mkdir {whole}; mount --bind / {whole}")
        for room in rooms:
            for index, prize in enumerate(PRIZES):
                host.check(f"ln {whole}{prize} {whole}{room}/prize{index}")
        host.check(f"umount {whole}; rmdir {whole}")
        before = host.check(look)
        host.check(f"chmod 0755 {A_ROOT}/tmp {A_ROOT}/mail")
        host.check(f"touch -d '400 days ago' {A_ROOT}/tmp")

        _done(host, "site", "cache", "php", "apache", directory=varied[1])
        for line in LATER[:4]:
            host.check(line)
        after = host.check(look)
        shown = [status(ask(host, "example.com", f"/prize{index}")) for index in range(len(PRIZES))]
    finally:
        host.exec(f"mountpoint -q {whole} && umount {whole} && rmdir {whole}")
        host.check(f"rm -f {' '.join(names)}")
        _done(host, "site", "cache", "php", "apache", directory=varied[0])

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


# ---------------------------------------------------------------------- releases

SHARED = "deploy:\n  keep: 2\n  shared: [uploads, storage/app, .env]\n"
SHOP_S = re.compile(
    r".*shop[.-]test.*|/etc/haproxy/\w+\.map|/etc/gatehouse/sessions/users\.acl|/etc/\.etckeeper|/etc/g?shadow-?|/etc/passwd-?|/etc/group-?"
    r"|/etc/sub[ug]id-?|/etc/cron\.deny|/etc/gatehouse/tmp|/var/www/kiosk\.co\.test/log/.*"
    r"|/etc/fail2ban/paths-overrides\.local|/var/lib/gatehouse/.*|/var/backups(/.*)?|/etc/\.pwd\.lock"
)
# Wherever a deploy, a removal or a rotation comes by, as far as the kernel lets its user.
PLANTED = """
cd {root}
for path in shared/uploads shared/storage/app public_html/_app/uploads public_html/_app/storage tmp/x mail/x; do
    rm -rf $path; ln -s {target} $path
done
mkdir -p public_html/_app/closed/inner; ln -s {target} public_html/_app/closed/inner/link
chmod 0 public_html/_app/closed
ln /etc/passwd public_html/_app/hard; ln -s {target} releases/20990101-000000
ln -s {target} public_html/_app/_app; ln -sfn {target} public_html/www; mv public_html/_app/version.txt tmp/
for path in releases shared public_html log tmp; do mv $path $path.away; ln -s {target} $path; done
echo x >> releases/*.from; mkdir .gatehouse.abcdefgh
rm -rf releases/*; rm -f releases/*.from
"""


@pytest.fixture
def shop(lab: Lab, vps: Machine, stranger: Stranger, tmp_path: Path) -> Iterator[Shop]:
    with opened(lab, vps, stranger, tmp_path) as shop:
        yield shop


def _untouched(before: dict[str, str], after: dict[str, str]) -> None:
    for path in ("/etc/passwd", "/etc/shadow"):  # its user may go from there, and nothing else
        assert before[path].split()[:3] == after[path].split()[:3]
    assert {} == {path: how for path, how in differences(before, after).items() if not SHOP_S.fullmatch(path)}


@pytest.mark.fault("F-20")
def test_f20_links_wherever_a_release_comes_by_lead_nowhere(shop: Shop, seen: Seen) -> None:
    shop.says(SHARED)
    assert 0 == shop.deploy("one").returncode
    before = inventory(shop.host)
    for round_, target in enumerate(("/etc", "/var/www/kiosk.co.test")):
        as_user(shop.host, OWNER, PLANTED.format(root=ROOT, target=target))
        told = shop.deploy(f"next{round_}", uploads__x_txt="x", _env="X=1")
        assert 0 == told.returncode, told.stdout + told.stderr
        assert f"200 next{round_}" == shop.get()
    as_user(shop.host, OWNER, PLANTED.format(root=ROOT, target="/etc"))
    for words in (("site.rollback", DOMAIN), ("site.suspend", DOMAIN), ("site.resume", DOMAIN), ("site.apply", DOMAIN)):
        told = shop.fab(*words)
        assert 0 == told.returncode or words[0] == "site.rollback", told.stdout + told.stderr
    (shop.directory / "sites" / f"{DOMAIN}.yml").unlink()
    shop.done("site.remove", DOMAIN, "--yes")

    _untouched(before, inventory(shop.host))
    assert 1 == shop.host.exec(f"test -e {ROOT}").rc
    seen("links planted at 20 paths of a site before three deploys, a rollback, suspend, resume, apply and remove")


@pytest.mark.demand
@pytest.mark.fault("F-20", "F-23")
def test_f23_no_race_leads_a_deploy_or_a_removal_out_of_the_site_s_tree(shop: Shop, seen: Seen) -> None:
    shop.says(SHARED)
    assert 0 == shop.deploy("one").returncode
    before = inventory(shop.host)
    with raiding(shop.host, OWNER, ROOT) as raid:
        served = [shop.deploy(f"next{number}", uploads__x_txt="x").returncode for number in range(6)]
        shop.fab("site.rollback", DOMAIN)
        for words in (("site.suspend", DOMAIN), ("site.resume", DOMAIN), ("site.apply", DOMAIN)):
            shop.done(*words)
        shop.host.check("logrotate --force /etc/logrotate.d/gatehouse-sites")
        assert 0 == shop.fab("cert.renew", DOMAIN, "--force").returncode
    _untouched(before, inventory(shop.host))
    assert {} == raid.outside
    assert raid.did["stages seen"] > 0, "the raider saw root at work"

    # The archive and the end of its tree, with the raider still at it.
    shop.host.put({"/usr/local/lib/raid.pl": RAID.encode()})
    line = f"/usr/local/lib/raid.pl watch /var/tmp/raid {ROOT} {','.join(TARGETS)} www /tmp"
    as_user(shop.host, OWNER, f"touch /var/tmp/raid; (perl {line}) > /dev/null 2>&1 &")
    (shop.directory / "sites" / f"{DOMAIN}.yml").unlink()
    try:
        shop.done("site.remove", DOMAIN, "--yes")
    finally:
        shop.host.check("rm -f /usr/local/lib/raid.pl")
    _untouched(before, inventory(shop.host))
    assert 1 == shop.host.exec(f"test -e {ROOT} || test -e /var/tmp/raid").rc
    seen(
        f"{raid.did['tries']} tries during 6 deploys ({served.count(0)} of which its own tricks let pass), rollback, "
        "suspend, resume, apply, rotation and renewal; then a removal: nothing outside its tree changed"
    )
