"""A run that dies on its way: at every operation, by Ctrl-C, by a reboot.  The next one goes on from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import Bare
from ..lab import Lab
from ..machine import CHECKOUT, Machine, Stranger
from .load import load
from .terminal import Terminal

Seen = Callable[[str], None]

# Something to do in every chapter, and an operation of every kind: packages, directories, files, links, what is judged,
# free shell, services to load, the way in. Part by part: a kill in one chapter need not wait for all others.
WEAR = {
    "system": r"""
        rm /etc/sysctl.d/60-gatehouse.conf
        echo '# by hand' >> /etc/ssh/sshd_config.d/05-gatehouse.conf
        iptables -D GATEHOUSE -m conntrack --ctstate INVALID -j DROP
        dpkg --purge libnss-myhostname""",
    "front": r"""
        rm -r /etc/haproxy/errors /etc/cron.d/gatehouse-renew
        echo '# by hand' >> /etc/varnish/gatehouse.vcl
        echo '# by hand' >> /usr/local/sbin/gatehouse-renew
        echo '# by hand' >> /etc/fail2ban/filter.d/haproxy-http-auth.local""",
    "site": r"""
        rm /etc/apache2/conf-enabled/vhost.conf
        echo '# by hand' >> /etc/apache2/conf-available/gatehouse.conf
        echo '; by hand' >> /etc/php/8.4/fpm/conf.d/99-gatehouse.ini
        chmod 0644 /etc/gatehouse/sessions/users.acl""",
}

# What a new site leaves once it is gone again; Gatehouse itself never removes a site's data.
FORGET = r"""
for site in /var/www/s*.kill.test; do
    [ -d "$site" ] || continue
    userdel "$(stat -c %U $site/tmp)" || :
    ! mountpoint -q "$site/tmp" || umount "$site/tmp"
    rm -r "$site"
done
rm -f /etc/apache2/*/s*.kill.test.conf.gone /etc/php/*/fpm/pool.d/s*.kill.test.conf.gone
rm -f /etc/haproxy/certs/s*.kill.test.pem
"""


class Worn:
    """A web server that is worn anew for every run; the part "site" is also one more new site, with all it wants."""

    def __init__(self, lab: Lab, machine: Machine, place: Path) -> None:
        self.lab, self.machine, self.place = lab, machine, place
        self.number = 0
        (place / "sites").mkdir()
        for file in (lab.directory / "sites").glob("*.yml"):
            (place / "sites" / file.name).write_text(file.read_text())
        lab.describe(place, sites=place / "sites")

    def wear(self, part: str) -> str:
        """Returns the name of a site that the next run is to serve."""
        self.machine.check(WEAR[part])
        self.machine.check("mkdir -p /run/killing; cd /run/killing; echo 0 > began; echo 0 > at")
        if part != "site":
            return "example.com"
        (self.place / "sites" / f"s{self.number}.kill.test.yml").unlink(missing_ok=True)
        self.number += 1
        name = f"s{self.number}.kill.test"
        (self.place / "sites" / f"{name}.yml").write_text(f"domain: {name}\nsubdomains: []\n")
        return name

    def operations(self) -> list[str]:
        """What a whole run does, operation by operation."""
        log = self.place / "operations"
        log.unlink(missing_ok=True)
        done = launch(self.machine, self.place, "watch", str(log))
        assert 0 == done.returncode, done.stdout + done.stderr
        return log.read_text().splitlines()


def launch(machine: Machine, place: Path, *how: str, task: str = "bootstrap") -> subprocess.CompletedProcess[str]:
    """A run of `fab` that is killed as it is told (see launch.py)."""
    words = [*how, "-S", str(place / "ssh_config"), "-H", machine.name, task]
    with tempfile.TemporaryDirectory(prefix="gatehouse-killed-") as left:  # who is killed sweeps nothing up
        return subprocess.run(
            [sys.executable, "-m", "tests.lab.faults.launch", *words], env=os.environ | {"TMPDIR": left},
            cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=580,
        )  # fmt: skip


def run(machine: Machine, place: Path | None = None, task: str = "bootstrap") -> subprocess.CompletedProcess[str]:
    """A clean run; while what was killed still ends an operation, it is told so, and typed again."""
    end = time.monotonic() + 90
    while True:
        done = machine.fab(task, "--json", directory=place)
        if done.returncode != 3 or "another run holds this host" not in done.stderr or time.monotonic() > end:
            return done
        time.sleep(1)


def converges(machine: Machine, place: Path | None = None) -> None:
    """A clean run succeeds, and one more finds nothing to do."""
    done = run(machine, place)
    assert 0 == done.returncode, done.stdout + done.stderr
    told = json.loads(run(machine, place).stdout)
    assert [] == [step for step in told["steps"] if step["outcome"] != "kept"]


def serves(stranger: Stranger, machine: Machine, name: str) -> bool:
    """A visitor who trusts the lab's CA alone gets the site's page."""
    return stranger.curl("-f", "-o", "/dev/null", f"https://{name}/", to=machine).rc == 0


@pytest.fixture
def worn(lab: Lab, vps: Machine, tmp_path: Path) -> Iterator[Worn]:
    made = Worn(lab, vps, tmp_path)
    yield made
    converges(vps)
    vps.check(FORGET)
    converges(vps)


def kill_at(worn: Worn, stranger: Stranger, seen: Seen, step: int, first: int = 1) -> None:
    """Kill a run at every `step`-th operation, on the laptop and on the host, while visitors come."""
    converged = everything = 0
    with load(stranger, worn.machine) as visitors:
        for part in WEAR:
            worn.wear(part)
            operations = worn.operations()
            everything += len(operations)
            for number in range(first, len(operations) + 1, step):
                for side, code in (("host", 1), ("laptop", -signal.SIGKILL)):
                    what = f"{side} at {number} of {len(operations)}, {operations[number - 1]}"
                    name = worn.wear(part)
                    worn.machine.check(f"echo {number} > /run/killing/at")
                    died = launch(worn.machine, worn.place, side, str(number))
                    assert code == died.returncode, what + died.stdout + died.stderr
                    converges(worn.machine, worn.place)
                    assert serves(stranger, worn.machine, name), what
                    converged += 1
                    print(what, flush=True)
    assert [] == visitors.failed
    assert visitors.asked > 100
    every = "each" if step == 1 else f"{converged // 2} of them"
    seen(f"{everything} operations, killed at {every}, on host and laptop: all {converged} converged; {visitors}")


@pytest.mark.fault("F-01")
def test_f01_killed_at_some_operations(worn: Worn, stranger: Stranger, seen: Seen) -> None:
    kill_at(worn, stranger, seen, step=48, first=6)


@pytest.mark.demand
@pytest.mark.fault("F-01")
def test_f01_killed_at_every_operation(worn: Worn, stranger: Stranger, seen: Seen) -> None:
    kill_at(worn, stranger, seen, step=1)


@pytest.mark.demand
@pytest.mark.fault("F-01")
def test_f01_a_bootstrap_that_is_killed_all_the_way(lab: Lab, bare: Bare, stranger: Stranger, seen: Seen) -> None:
    """From a bare host on: each run is killed a little later than any before, within operations too, until one ends."""
    host = bare()
    host.check("mkdir /run/killing; : > /run/killing/points")
    points = 0
    with lab.pointing(host):
        while (died := launch(host, lab.directory, "every")).returncode:
            killed = host.check("cat /run/killing/points").splitlines()
            assert len(killed) > points, died.stdout + died.stderr
            points = len(killed)
            print(killed[-1], flush=True)
        converges(host)
        assert serves(stranger, host, "example.com")
    host.check("echo >> /etc/haproxy/haproxy.cfg")
    converges(host)
    left = "ls -d /etc/.git/*.lock; find /etc /usr/local /var/www -name '.gatehouse.*'; dpkg --audit; true"
    assert "" == host.check(left)
    seen(f"a bare host's bootstrap, killed at {points} points in succession, converged")


# ---------------------------------------------------------------------- Ctrl-C

HOLD = b"""use Fcntl;
open(my $lock, "+>", "/var/lib/dpkg/lock-frontend") or die;
fcntl($lock, F_SETLK, pack("ssx4qql", F_WRLCK, 0, 0, 0, 0)) or die;
sleep 1 while -e "/run/hold";
"""
INSTALL = "install libnss-myhostname"
AFTER = "/etc/sysctl.d/60-gatehouse.conf"


@pytest.fixture
def installing(vps: Machine) -> Iterator[Callable[[], None]]:
    """A package and a later file are missing, and the installation takes until the returned function is called."""
    vps.check(f"dpkg --purge libnss-myhostname; rm {AFTER}")
    vps.put({"/run/hold.pl": HOLD})
    vps.check("touch /run/hold; setsid perl /run/hold.pl > /dev/null 2>&1 < /dev/null & sleep 0.5")

    def release() -> None:
        vps.check("rm -f /run/hold")

    yield release
    vps.check("rm -f /run/hold /run/hold.pl")
    converges(vps)


def free(machine: Machine, seconds: float) -> bool:
    """Whether the host's lock gets free within so many seconds."""
    return machine.exec(f"flock -w {seconds} /run/gatehouse.lock true").rc == 0


def installed(machine: Machine) -> bool:
    return "install ok installed" in machine.exec("dpkg -s libnss-myhostname").out


@pytest.mark.fault("F-04")
def test_f04_ctrl_c_once_finishes_the_operation(vps: Machine, installing: Callable[[], None], seen: Seen) -> None:
    fab = Terminal(vps, "bootstrap")
    fab.wait_for(INSTALL)
    fab.interrupt()
    fab.wait_for(f"stopping: vps finishes this first: {INSTALL}", 5)
    assert fab.program.poll() is None
    installing()

    assert 130 == fab.end(), fab.shown

    assert free(vps, 0)
    assert installed(vps)
    assert 1 == vps.exec(f"test -e {AFTER}").rc
    assert "what was done stands, nothing more was begun" in fab.shown
    assert "next: fab -H vps bootstrap" in fab.shown
    assert "1 stopped" in fab.shown
    assert "" == vps.check("git -C /etc status --porcelain | grep -v sysctl.d || true")
    seen("once: the installation ended, nothing after it was begun, exit 130, the lock free at once")


@pytest.mark.fault("F-04")
def test_f04_ctrl_c_twice_leaves_at_once(vps: Machine, installing: Callable[[], None], seen: Seen) -> None:
    fab = Terminal(vps, "bootstrap")
    fab.wait_for(INSTALL)
    fab.interrupt()
    fab.wait_for("Ctrl-C again")
    fab.interrupt()
    began = time.monotonic()

    assert 130 == fab.end(), fab.shown

    took = time.monotonic() - began
    assert took < 5
    assert "left at once: vps ends by itself what it is at" in fab.shown
    assert not free(vps, 0)
    assert not installed(vps)
    installing()
    assert free(vps, 60)
    assert installed(vps)
    assert 1 == vps.exec(f"test -e {AFTER}").rc
    seen(f"twice: gone after {took:.1f} s, the host ended the installation by itself and began nothing more")


# ---------------------------------------------------------------------- a reboot


@pytest.mark.demand
@pytest.mark.fault("F-12")
def test_f12_a_reboot_under_a_run(vps: Machine, stranger: Stranger, installing: Callable[[], None], seen: Seen) -> None:
    fab = Terminal(vps, "bootstrap")
    fab.wait_for(INSTALL)
    began = time.monotonic()
    vps.restart()

    assert 1 == fab.end(), fab.shown
    assert "the connection to vps broke" in fab.shown
    assert "then type the same again" in fab.shown
    end = time.monotonic() + 60
    while not all(serves(stranger, vps, name) for name in ("example.com", "kiosk.co.test")):
        assert time.monotonic() < end, "the sites do not come back"
        time.sleep(0.5)
    down = time.monotonic() - began
    assert "" == vps.check("systemctl --failed --plain --no-legend")
    converges(vps)
    assert installed(vps)
    seen(f"exit 1, the sites served again by themselves {down:.0f} s after the reboot began, the next run converged")
