"""A line that is cut, dead or slow: while files go over, while apt works, all the time."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..lab import Lab
from ..machine import CHECKOUT, Machine
from .line import line
from .test_kill import Worn, converges, free, launch

Seen = Callable[[str], None]

BIG = "/usr/local/share/gatehouse-test"
PUT = """
import os, sys
from pathlib import Path
from fabfile.engine import Host, Problem
from fabfile.engine.remote import connect
host = Host.of(connect({name!r}, Path({config!r})))
try:
    with host.running("a big file"), host.step("test.put"):
        host.file({path!r}, os.urandom(60_000_000))
except Problem as problem:
    sys.exit(f"{{problem.message}} NEXT {{problem.next_step}}")
"""
BOXES = "ls -d /run/gatehouse.????????"
STAGES = "find /etc /usr/local /var/www -name '.gatehouse.????????'"
DROP = "INPUT -p tcp --dport 22 -j DROP"


@pytest.fixture
def big(vps: Machine) -> Iterator[subprocess.Popen[str]]:
    """A file of 60 MB is on its way to where a small one is."""
    vps.check(f"rm -rf /run/gatehouse.????????; echo former > {BIG}")  # boxes of runs that other tests have killed
    config = str(vps.directory / "ssh_config")
    program = textwrap.dedent(PUT).format(name=vps.name, config=config, path=BIG)
    running = subprocess.Popen(
        [sys.executable, "-c", program], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        vps.check("until find /run/gatehouse.* -size +2M | grep -q .; do sleep 0.05; done", timeout=60)
        assert running.poll() is None, running.communicate()
        yield running
    finally:
        running.kill()
        running.communicate()
        vps.check(f"iptables -D {DROP} 2> /dev/null; rm -f {BIG}")
        converges(vps)


@pytest.mark.fault("F-02")
def test_f02_the_line_is_cut_while_a_file_goes_over(vps: Machine, big: subprocess.Popen[str], seen: Seen) -> None:
    began = time.monotonic()
    vps.check("ss -Kt state established '( sport = :22 )'")

    _, told = big.communicate(timeout=30)

    assert 1 == big.returncode
    assert "the connection to vps broke" in told
    assert "NEXT is it up?" in told
    assert free(vps, 20)
    freed = time.monotonic() - began
    assert "former\n" == vps.check(f"cat {BIG}")
    vps.check(f'until [ -z "$({BOXES} 2> /dev/null; {STAGES})" ]; do sleep 0.1; done', timeout=10)
    seen(f"cut off: the old file whole, nothing left, the lock free after {freed:.1f} s")


@pytest.mark.demand
@pytest.mark.fault("F-02")
def test_f02_the_line_goes_silent_while_a_file_goes_over(vps: Machine, big: subprocess.Popen[str], seen: Seen) -> None:
    """Neither side is told anything: both must find out by themselves, and soon."""
    vps.check(f"iptables -I {DROP}")
    began = time.monotonic()

    assert free(vps, 110)
    freed = time.monotonic() - began
    _, told = big.communicate(timeout=110)
    noticed = time.monotonic() - began

    assert "the connection to vps broke" in told
    assert noticed < 110
    assert "former\n" == vps.check(f"cat {BIG}")
    assert "" == vps.exec(f"{BOXES}; {STAGES}").out
    seen(f"silent: the lock is free after {freed:.0f} s, the operator told after {noticed:.0f} s")


@pytest.mark.fault("F-02")
def test_f02_what_a_killed_visit_left_is_swept_up(lab: Lab, vps: Machine, seen: Seen) -> None:
    """Killed on the host at every point of placing a file, until a staging place and boxes are left."""
    planted = "/var/www/example.com/public_html/_/.gatehouse.planted1"
    vps.check("mkdir -p /run/killing; : > /run/killing/points; rm /etc/cron.d/gatehouse-renew")
    vps.check(f"runuser -u example-com -- mkdir {planted}")
    try:
        for _ in range(20):
            launch(vps, lab.directory, "every")
            if left := vps.check(STAGES + " ! -path '*/planted*' -user root").splitlines():
                break
        boxes = vps.check(BOXES).splitlines()
        assert left
        assert boxes
        assert free(vps, 5)
        vps.check(f"touch -d '2 minutes ago' {' '.join(boxes)}")
        vps.check("rm -f /etc/cron.d/gatehouse-renew")

        converges(vps)

        assert [vps.check(f"realpath {planted}").strip()] == vps.check(STAGES).splitlines()
        assert "" == vps.exec(BOXES).out
        seen(f"after {len(boxes)} kills: {len(boxes)} boxes and {len(left)} staging places, all swept by the next run")
    finally:
        vps.check(f"rmdir {planted}; rm -rf /run/killing")


# ---------------------------------------------------------------------- while apt works


@pytest.mark.parametrize("cut", ["cut", pytest.param("silent", marks=pytest.mark.demand)])
@pytest.mark.fault("F-03")
def test_f03_the_line_goes_while_apt_works(vps: Machine, cut: str, seen: Seen) -> None:
    vps.check("dpkg --purge --force-depends needrestart unattended-upgrades")
    program = str(Path(sys.executable).parent / "fab")
    fab = subprocess.Popen(
        [program, "-S", str(vps.directory / "ssh_config"), "-H", vps.name, "bootstrap"],
        cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        vps.check("until pgrep -f 'dpk[g] .*--unpack' > /dev/null; do sleep 0.02; done", timeout=110)
        vps.check(f"iptables -I {DROP}" if cut == "silent" else "ss -Kt state established '( sport = :22 )'")
        began = time.monotonic()
        refused = vps.fab("bootstrap") if cut == "cut" else None
        assert free(vps, 110)
        freed = time.monotonic() - began
        assert "ii ii " == vps.check("dpkg-query -W -f='${db:Status-Abbrev}' needrestart unattended-upgrades")
        assert "" == vps.check("dpkg --audit; ls /var/lib/dpkg/updates")
        out, told = fab.communicate(timeout=170)  # before the line is there again: it might still go on
        vps.check(f"iptables -D {DROP} 2> /dev/null; true")
        assert 1 == fab.returncode, out + told
        assert "the connection to vps broke" in told
        if refused and refused.returncode:
            assert 3 == refused.returncode
            assert "another run holds this host" in refused.stderr
    finally:
        fab.kill()
        fab.communicate()
        vps.check(f"iptables -D {DROP} 2> /dev/null; true")
        converges(vps)
    seen(f"{cut}: apt went on to its end by itself; the lock was free after {freed:.0f} s; the next run converged")


# ---------------------------------------------------------------------- slow and lossy


@pytest.mark.demand
@pytest.mark.fault("F-06")
def test_f06_a_slow_line_that_loses_data(lab: Lab, vps: Machine, tmp_path: Path, seen: Seen) -> None:
    """300 ms there and back, every twentieth segment lost, and once nothing at all for 20 seconds."""
    worn = Worn(lab, vps, tmp_path)
    commits = "git -C /etc log --format=%s | sed 's/ since .*//' | head -n -{}"
    try:
        for part in ("system", "front"):
            worn.wear(part)
        before = len(vps.check(commits.format(0)).splitlines())
        usual = worn.operations()
        written = vps.check(commits.format(before))
        for part in ("system", "front"):
            worn.wear(part)
        before = len(vps.check(commits.format(0)).splitlines())
        since = vps.check("date +'%F %T'").strip()
        log = tmp_path / "operations"
        log.unlink()
        with line(lab, vps, tmp_path, delay=0.15, loss=0.05) as slow:
            began = time.monotonic()
            fab = subprocess.Popen(
                [sys.executable, "-m", "tests.lab.faults.launch", "watch", str(log),
                 "-S", str(tmp_path / "ssh_config"), "-H", vps.name, "bootstrap"],
                cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            while not log.exists() or len(log.read_text().splitlines()) < 12:
                assert fab.poll() is None, fab.communicate()
                time.sleep(0.2)
            slow.stall(20)
            out, told = fab.communicate(timeout=300)
            took = time.monotonic() - began
        assert 0 == fab.returncode, out + told
        done = log.read_text().splitlines()
        assert usual == done
        assert written == vps.check(commits.format(before))
        accepted = vps.check(f"journalctl -q -o cat -t sshd -t sshd-session --since '{since}'")
        proofs = sum("proved" in what for what in done)
        assert 1 + proofs == len(re.findall("Accepted publickey for ops", accepted))
        converges(vps, tmp_path)
        seen(
            f"{len(done)} operations in {took:.0f} s, 20 of them still; {slow.lost} of {slow.segments} segments late; "
            "one login and its proofs, nothing twice"
        )
    finally:
        converges(vps)
