"""F-38, F-41, F-43, F-44 on a real host: what a template, a file in sites/ or a hand on the host made bad."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.corner import A_ROOT as ROOM
from tests.lab.corner import COUNT, Corner, as_user, body, borrowed
from tests.lab.corner import A as OWNER
from tests.lab.lab import Lab
from tests.lab.machine import CHECKOUT, Machine, Stranger

Fleet = Callable[..., Path]
FAB = str(Path(sys.executable).parent / "fab")

# What a step renders, spoilt so that only its own daemon can tell: task, template, what is added, unit, what it says.
SPOILT = {
    "apache2ctl": (
        "apache.configure", "etc/apache2/conf-available/gatehouse.conf", "Nonsense on", "apache2", "Nonsense"
    ),
    "apache2ctl, a vhost": ("apache.vhosts", "etc/apache2/vhost.d/{site}.conf", "Use Nowhere x", "apache2", "nowhere"),
    "haproxy -c": ("haproxy.configure", "etc/haproxy/haproxy.cfg", "    nonsense here", "haproxy", "nonsense"),
    "haproxy -c, a warning": (
        "haproxy.configure", "etc/haproxy/haproxy.cfg", "    use_backend acme", "haproxy", "use_backend"
    ),
    "varnishd -C": (
        "varnish.configure", "etc/varnish/gatehouse.vcl", "sub vcl_recv { nonsense; }", "varnish", "nonsense"
    ),
    "php-fpm -t": ("php.pools", "etc/php/{php}/fpm/pool.d/{site}.conf", "nonsense = 1", "php8.4-fpm", "nonsense"),
    "fail2ban-client -t": ("fail2ban.configure", "etc/fail2ban/jail.local", "[sshd\nbroken", "fail2ban", ""),
    "iptables-restore": (
        "firewall.persist", "etc/iptables/rules.v4", "*filter\n-A NO -j DROP\nCOMMIT", "netfilter-persistent", "line"
    ),
    "logrotate --debug": ("site.logs", "etc/logrotate.d/gatehouse-sites", "/x {\nnonsense nonsense", "cron", ""),
    "sshd -t": ("sshd.configure", "etc/ssh/sshd_config.d/05-gatehouse.conf", "Nonsense yes", "ssh", "Nonsense"),
    "apt-config dump": ("system.upgrades", "etc/apt/apt.conf.d/52gatehouse", 'APT::Periodic "1', "cron", "52gatehouse"),
}  # fmt: skip

# All but the history's own, which notes what was there before each run.
ALL_OF_ETC = "find /etc -path '/etc/.*' -prune -o -type f -printf '%p %m %u %g %T@ ' -exec sha256sum {} +"
# All but its logs, which grow with each visit.
ALL_OF_KIOSK = "find /var/www/kiosk.co.test -name log -prune -o -printf '%p %m %u %g %T@\\n' | sort; id kiosk-co-test"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """This checkout, to be spoilt."""
    for part in ("fabfile", "templates", "scripts"):
        shutil.copytree(CHECKOUT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def fab(copy: Path, machine: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    line = [FAB, "-S", str(machine.directory / "ssh_config"), "-H", machine.name, *words]
    return subprocess.run(line, cwd=copy, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)


@pytest.mark.fault("F-41")
@pytest.mark.parametrize("judge", SPOILT)
def test_f41_what_its_daemon_would_refuse_never_gets_where_it_reads(
    vps: Machine, copy: Path, seen: Callable[[str], None], judge: str
) -> None:
    task, template, text, unit, word = SPOILT[judge]
    path = copy / "templates" / f"{template}.j2"
    path.write_text(path.read_text() + text + "\n")
    before = vps.check(ALL_OF_ETC)

    done = fab(copy, vps, task)
    after = vps.check(ALL_OF_ETC)
    if before != after:
        vps.fab(task.partition(".")[0])  # for those that come after

    assert (1, "Traceback" in done.stderr) == (done.returncode, False), done.stdout + done.stderr
    assert "the check refused it" in done.stdout + done.stderr
    assert word in done.stdout + done.stderr
    assert before == after
    assert "active" == vps.check(f"systemctl is-active {unit}").strip()
    seen(judge.partition(",")[0])


@pytest.mark.fault("F-41")
def test_f41_and_all_goes_on_serving(vps: Machine, stranger: Stranger) -> None:
    assert "200" == stranger.curl("-o", "/dev/null", "-w", "%{http_code}", "https://example.com/").out


@pytest.mark.demand
@pytest.mark.fault("F-43")
def test_f43_a_site_that_vanishes_loses_nothing_and_comes_back_as_it_was(
    vps: Machine, stranger: Stranger, fleet: Fleet, seen: Callable[[str], None]
) -> None:
    work = "/var/www/kiosk.co.test/public_html/_/work.txt"
    as_user(vps, "kiosk-co-test", f"echo years >{work}")
    before = vps.check(ALL_OF_KIOSK)
    without = fleet()
    (without / "sites" / "kiosk.co.test.yml").unlink()
    try:
        gone = vps.fab("bootstrap", directory=without)
        status = stranger.curl("-o", "/dev/null", "-w", "%{http_code}", "-k", "https://kiosk.co.test/work.txt").out

        assert 0 == gone.returncode, gone.stdout + gone.stderr
        assert "kiosk.co.test has no file in sites/ any more" in gone.stdout
        assert "421" == status
        assert before == vps.check(ALL_OF_KIOSK)
        assert 0 == vps.fab("check", directory=without).returncode
    finally:
        back = vps.fab("bootstrap")
    assert 0 == back.returncode, back.stdout + back.stderr
    assert "years\n" == stranger.curl("https://kiosk.co.test/work.txt").out
    assert before == vps.check(ALL_OF_KIOSK)
    as_user(vps, "kiosk-co-test", f"rm {work}")
    seen("its vhost and pool are set aside, its tree, user and certificate stay byte for byte, a line tells it; 421")


@pytest.fixture
def room(vps: Machine) -> Iterator[Corner]:
    yield from borrowed(vps, OWNER, ROOM)


@pytest.mark.fault("F-44")
def test_f44_session_passwords_that_are_empty_or_were_seen_are_made_anew_and_sessions_work(
    vps: Machine, room: Corner, seen: Callable[[str], None]
) -> None:
    """One site's is emptied, that of Redis's keeper was readable by all."""
    secrets = "/etc/gatehouse/secrets/sessions"
    before = vps.check(f"cat {secrets}/gatehouse")
    vps.check(f": >{secrets}/{OWNER}; chmod 0644 {secrets}/gatehouse")

    done = vps.fab("cache", "php")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "600 64\n600 64\n" == vps.check(f"stat -c '%a %s' {secrets}/{OWNER} {secrets}/gatehouse")
    assert before != vps.check(f"cat {secrets}/gatehouse")
    room.put("count.php", COUNT)
    session, count = body(room.ask("count.php")).split()
    assert f"{session} 2" == body(room.ask("count.php", f"Cookie: PHPSESSID={session}"))
    assert "1" == count
    again = vps.fab("cache", "php")
    assert "0 changed" in again.stdout
    seen("an empty and a readable session password are made anew; secrets in YAML and keys in the bundle are refused")


@pytest.mark.demand
@pytest.mark.fault("F-38")
def test_f38_a_site_whose_name_sorts_before_the_default_is_not_shown_to_strangers(
    vps: Machine, stranger: Stranger, fleet: Fleet, lab: Lab
) -> None:
    """HAProxy shows the certificate that it read first to whoever names no site: it must not be a customer's."""
    with_it = fleet("0-0.test")
    try:
        done = vps.fab("bootstrap", directory=with_it)
        assert 0 == done.returncode, done.stdout + done.stderr
        assert "200" == stranger.curl("-o", "/dev/null", "-w", "%{http_code}", "https://0-0.test/").out
        for name in ("-noservername", "-servername nobody.test"):
            told = stranger.check(
                f"openssl s_client -connect {vps.ip}:443 {name} </dev/null 2>/dev/null | openssl x509 -noout -text"
            )
            assert "default.invalid" in told
            assert ".test" not in told
    finally:
        vps.fab("bootstrap")
        vps.check("umount /var/www/0-0.test/tmp")
        vps.check("rm -rf /var/www/0-0.test /etc/haproxy/certs/0-0.test.pem; userdel s0--0-test-6952277019")
        vps.check("sed -i /^s0--0-test/d /etc/cron.deny")
        vps.check("find /etc -name '*0-0.test*.gone' -delete")
