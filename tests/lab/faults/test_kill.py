"""A run that dies on its way: at every operation, by Ctrl-C, by a reboot.  The next one goes on from there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import Bare
from ..lab import Lab
from ..machine import CHECKOUT, Machine, Stranger
from .load import load

Seen = Callable[[str], None]

# Something to do in every chapter, and an operation of every kind: packages, directories, files, links, what is judged,
# free shell, services to load, the way in. The new site beside it brings user, seed, passwords and certificate.
WEAR = r"""
cd /etc
rm -r haproxy/errors sysctl.d/60-gatehouse.conf cron.d/gatehouse-renew apache2/conf-enabled/vhost.conf
for file in varnish/gatehouse.vcl apache2/conf-available/gatehouse.conf ssh/sshd_config.d/05-gatehouse.conf; do
    echo '# by hand' >> $file
done
echo '; by hand' >> /etc/php/8.4/fpm/conf.d/99-gatehouse.ini
chmod 0644 /etc/gatehouse/sessions/users.acl
iptables -D GATEHOUSE -m conntrack --ctstate INVALID -j DROP
dpkg --purge libnss-myhostname
"""

# What a new site leaves once it is gone again; Gatehouse itself never removes a site's data.
FORGET = r"""
for site in /var/www/s*.kill.test; do
    [ -d "$site" ] || continue
    userdel "$(stat -c %U $site/public_html)" || :
    rm -r "$site"
done
rm -f /etc/apache2/*/s*.kill.test.conf.gone /etc/php/*/fpm/pool.d/s*.kill.test.conf.gone
rm -f /etc/haproxy/certs/s*.kill.test.pem
"""


class Worn:
    """A web server that is worn anew for every run, with one more new site each time."""

    def __init__(self, lab: Lab, machine: Machine, place: Path) -> None:
        self.lab, self.machine, self.place = lab, machine, place
        self.number = 0
        (place / "sites").mkdir()

    def wear(self) -> str:
        """Returns the new site's name."""
        self.number += 1
        name = f"s{self.number}.kill.test"
        for file in (self.place / "sites").iterdir():
            file.unlink()
        for file in (self.lab.directory / "sites").glob("*.yml"):
            (self.place / "sites" / file.name).write_text(file.read_text())
        (self.place / "sites" / f"{name}.yml").write_text(f"domain: {name}\nsubdomains: []\n")
        self.lab.describe(self.place, sites=self.place / "sites")
        self.machine.check(WEAR)
        self.machine.check("mkdir -p /run/killing; cd /run/killing; echo 0 > began; echo 0 > at")
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
    return subprocess.run(
        [sys.executable, "-m", "tests.lab.faults.launch", *words],
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
    worn.wear()
    operations = worn.operations()
    total = len(operations)
    killed = []
    with load(stranger, worn.machine) as visitors:
        for number in range(first, total + 1, step):
            for side in ("host", "laptop"):
                name = worn.wear()
                worn.machine.check(f"echo {number} > /run/killing/at")
                died = launch(worn.machine, worn.place, side, str(number))
                what = f"{side} at {number} of {total}, {operations[number - 1]}"
                assert {"host": 1, "laptop": -signal.SIGKILL}[side] == died.returncode, what + died.stdout + died.stderr
                print(what, flush=True)
                converges(worn.machine, worn.place)
                assert serves(stranger, worn.machine, name), what
                killed.append(what)
    assert [] == visitors.failed
    assert visitors.asked > 100
    every = "each" if step == 1 else f"{len(killed) // 2} of them"
    seen(f"{total} operations, killed at {every}, on host and laptop: all {len(killed)} converged; {visitors}")


@pytest.mark.fault("F-01")
def test_f01_killed_at_some_operations(worn: Worn, stranger: Stranger, seen: Seen) -> None:
    kill_at(worn, stranger, seen, step=23, first=12)


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
