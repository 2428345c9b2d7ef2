"""F-07..F-14: what stands between an operator's laptop and a host, before anything is touched."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..lab import Lab
from ..machine import CHECKOUT, Machine
from .truth import files, listing, managed

Say = Callable[[str], None]


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """What a guard said: exit code 3, one error, the next thing to type, no traceback."""
    assert 3 == done.returncode, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert 1 == done.stderr.count("next: "), done.stderr
    return done.stderr


# ---------------------------------------------------------------------- the host's key


@pytest.mark.fault("F-08")
def test_f08_an_unknown_key_is_refused_with_its_fingerprint(lab: Lab, vps: Machine, tmp_path: Path, seen: Say) -> None:
    directory = lab.describe(tmp_path, sites=lab.directory / "sites")
    (directory / "known_hosts").write_text("")
    logins = logins_of(vps)

    error = refusal(vps.fab("bootstrap", directory=directory))

    shown = re.search(r"SHA256:\S+", error)
    assert shown
    assert "fab -H vps trust" in error
    assert shown.group() in vps.check("for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $key; done")
    refusal(vps.fab("trust", "--fingerprint", "SHA256:" + "A" * 43, directory=directory))
    assert logins == logins_of(vps)

    trusted = vps.fab("trust", "--fingerprint", shown.group(), directory=directory)

    assert 0 == trusted.returncode, trusted.stderr
    assert 0 == vps.fab("check", directory=directory).returncode
    seen("exit 3 with the fingerprint, no login; let in after `trust`, not after a wrong fingerprint")


@pytest.mark.fault("F-07")
def test_f07_a_changed_key_is_refused_and_never_enrolled(lab: Lab, vps: Machine, tmp_path: Path, seen: Say) -> None:
    directory = lab.describe(tmp_path, sites=lab.directory / "sites")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    kind, key, *_ = (tmp_path / "other.pub").read_text().split()
    (directory / "known_hosts").write_text(f"{vps.ip} {kind} {key}\n")
    logins = logins_of(vps)

    for task in (["bootstrap"], ["status"], ["trust", "--fingerprint", "SHA256:x"]):
        error = refusal(vps.fab(*task, directory=directory))
        assert "another key" in error or "has changed" in error
        assert 2 == len(set(re.findall(r"SHA256:[\w+/]{43}", error))), error

    assert f"{vps.ip} {kind} {key}\n" == (directory / "known_hosts").read_text()
    assert logins == logins_of(vps)
    seen("exit 3 with both fingerprints, no login; `trust` does not replace it")


def logins_of(machine: Machine) -> str:
    """How many logins sshd has let in so far."""
    journal = "journalctl -q -o cat _COMM=sshd _COMM=sshd-session"
    return machine.check(f"journalctl --sync; {journal} | grep -c Accepted || :")


# ---------------------------------------------------------------------- sudo

SUDOERS = {
    "asks for a password": "ops ALL=(ALL) ALL",
    "not in sudoers": "",
    "wants a terminal": "Defaults requiretty\nops ALL=(ALL) NOPASSWD: ALL",
    "other commands only": "ops ALL=(ALL) NOPASSWD: /usr/bin/apt-get",
    "broken file": "ops ALL=(ALL NOPASSWD: ALL",
    "not installed": "ops ALL=(ALL) NOPASSWD: ALL",
}


@pytest.mark.fault("F-09")
def test_f09_without_root_there_is_one_clear_error_at_once(vps: Machine, seen: Say) -> None:
    before = listing(vps)
    slowest = 0.0
    for variant, text in SUDOERS.items():
        with sudoers(vps, text, missing=variant == "not installed"):
            began = time.monotonic()
            error = refusal(vps.fab("bootstrap"))
            slowest = max(slowest, time.monotonic() - began)
        assert "ops may not become root on vps" in error, variant
        assert "visudo -f /etc/sudoers.d/gatehouse" in error
    assert slowest < 10
    assert 0 == vps.fab("check").returncode
    assert before == listing(vps)
    seen(f"{len(SUDOERS)} ways ({', '.join(SUDOERS)}): exit 3 after {slowest:.1f} s at most, nothing changed")


@contextmanager
def sudoers(machine: Machine, text: str, missing: bool = False) -> Iterator[None]:
    """The login's rule for a while; the old one comes back with its times."""
    machine.check("cp -a /etc/sudoers.d /run/kept.sudoers && stat -c %Y /etc/sudoers.d > /run/kept.time")
    machine.check("cat > /etc/sudoers.d/ops", stdin=text + "\n")
    if missing:
        machine.check("mv /usr/bin/sudo /usr/bin/sudo.away")
    try:
        yield
    finally:
        if missing:
            machine.check("mv /usr/bin/sudo.away /usr/bin/sudo")
        machine.check(
            "cp -a /run/kept.sudoers/ops /etc/sudoers.d/ops; touch -r /run/kept.sudoers /etc/sudoers.d; "
            "rm -rf /run/kept.sudoers /run/kept.time"
        )


# ---------------------------------------------------------------------- two operators

HOLDER = """
    import time
    from pathlib import Path
    from fabfile.engine import Host
    from fabfile.engine.remote import connect
    host = Host.of(connect({name!r}, Path({config!r})))
    with host.running("a long run"), host.step("x.y"):
        host.facts
        print("held", flush=True)
        time.sleep(120)
"""


@contextmanager
def held(machine: Machine) -> Iterator[subprocess.Popen[str]]:
    """The first operator: holds the host with a run of its own, from a laptop with another login name."""
    program = textwrap.dedent(HOLDER.format(name=machine.name, config=str(machine.directory / "ssh_config")))
    holder = subprocess.Popen(
        [sys.executable, "-c", program], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "LOGNAME": "ann"},
    )  # fmt: skip
    try:
        assert holder.stdout
        assert "held" == holder.stdout.readline().strip()
        yield holder
    finally:
        holder.kill()
        holder.communicate()


@pytest.mark.fault("F-10")
def test_f10_a_second_operator_is_told_who_and_changes_nothing(vps: Machine, seen: Say) -> None:
    path = "/etc/haproxy/haproxy.cfg"
    good = vps.check(f"cat {path}")
    vps.check(f"echo '# by hand' >> {path}")  # so that a run would have something to do
    try:
        before = listing(vps)
        with held(vps):
            error = refusal(vps.fab("bootstrap"))
            assert re.search(
                r"another run holds this host: ann@\S+ since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+: a long run", error
            ), error
            assert before == listing(vps)
            # Whoever only looks need not wait.
            assert 2 == vps.fab("check").returncode
            assert 0 == vps.fab("fail2ban.status").returncode
    finally:
        vps.check(f"cat > {path}", stdin=good)
    until_free(vps)
    seen("exit 3 within seconds, told user@host, time and task; not one file's time changed; `check` goes on")


@pytest.mark.fault("F-10")
@pytest.mark.parametrize("end", ["the laptop is killed", "the host's shell is killed", "as the error says"])
def test_f10_a_lock_ends_with_its_run(vps: Machine, end: str, seen: Say) -> None:
    with held(vps) as holder:
        error = refusal(vps.fab("haproxy"))
        assert "fab -H vps lock.break" in error
        if end == "the laptop is killed":
            holder.kill()
            holder.wait()
        elif end == "the host's shell is killed":
            process = json.loads(vps.fab("lock.status", "--json").stdout)["holder"]["process"]
            vps.check(f"kill -9 {process}")
        else:
            freed = vps.fab("lock.break", "--yes")
            assert 0 == freed.returncode, freed.stdout + freed.stderr
        until_free(vps)
    assert 0 == vps.fab("bootstrap").returncode
    seen("a lock ends with the laptop (kill -9), with the shell on the host (kill -9), and as the error says")


def until_free(machine: Machine) -> None:
    """Within a few seconds nobody holds the host any more."""
    machine.check("flock --wait 10 /run/gatehouse.lock true")


# ---------------------------------------------------------------------- an old checkout


def git(tree: Path, *words: str) -> str:
    identity = ["-c", "user.name=ann", "-c", "user.email=ann@example.com"]
    done = subprocess.run(["git", *identity, *words], cwd=tree, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def commits(lab: Lab, vps: Machine, tmp_path: Path) -> Iterator[Path]:
    """The sites in a repository with two commits, the newer one checked out; and the host as it was, at the end."""
    sites = tmp_path / "sites"
    shutil.copytree(lab.directory / "sites", sites)
    git(sites, "init", "-q", "-b", "main")
    git(sites, "add", "--all")
    git(sites, "commit", "-q", "--date", "@1790000000", "-m", "two sites")
    kiosk = sites / "kiosk.co.test.yml"
    kiosk.write_text(kiosk.read_text() + "cache: {ttl: 77}\n")
    time.sleep(1.1)  # commits have whole seconds
    git(sites, "commit", "-qam", "kiosk: pages live longer")
    lab.describe(tmp_path, sites=sites)
    former = vps.check("cat /var/lib/gatehouse/mark 2> /dev/null || :")
    yield tmp_path
    vps.check("cat > /var/lib/gatehouse/mark", stdin=former or "format 1\n")
    assert 0 == vps.fab("bootstrap").returncode


@pytest.mark.fault("F-11")
def test_f11_an_old_checkout_is_refused_by_the_newer_one_s_mark(
    vps: Machine, commits: Path, tmp_path: Path, seen: Say
) -> None:
    sites, ttl = commits / "sites", "/etc/haproxy/cache.map"
    newer = vps.fab("bootstrap", directory=commits)
    assert 0 == newer.returncode, newer.stdout + newer.stderr
    assert " 77" in vps.check(f"cat {ttl}") or "77" in vps.check(f"grep kiosk {ttl}")
    head = git(sites, "rev-parse", "HEAD")[:9]
    before = listing(vps)

    git(sites, "checkout", "-q", "HEAD~1")
    for task in (["bootstrap"], ["haproxy.hosts"], ["check"]):
        error = refusal(vps.fab(*task, directory=commits))
        assert f"a newer commit of its sites: {head}" in error
        assert re.search(r"\(by \S+@\S+ since .*: bootstrap\)", error), error
        assert "git pull" in error
    assert before == listing(vps)
    assert vps.fab("status", directory=commits).returncode in (0, 1)  # who only looks is not refused

    # Another operator at the same commit, in a clone of their own, never notices it.
    git(sites, "checkout", "-q", "main")
    colleague = tmp_path / "colleague"
    shutil.copytree(commits, colleague, ignore=shutil.ignore_patterns("colleague", "sites"))
    subprocess.run(["git", "clone", "-q", str(sites), str(colleague / "sites")], check=True)
    (colleague / "fleet.yml").write_text((commits / "fleet.yml").read_text().replace(str(sites), "sites"))
    same = vps.fab("bootstrap", "--json", directory=colleague)
    assert 0 == same.returncode, same.stdout + same.stderr
    assert '"changed": 0' in same.stdout
    assert '"round_trips": 1' in same.stdout

    # And there is a way back on purpose.
    git(sites, "checkout", "-q", "HEAD~1")
    back = vps.fab("haproxy", directory=commits, env={"GATEHOUSE_OLDER": "yes"})
    assert 0 == back.returncode, back.stderr
    assert "77" not in vps.check(f"cat {ttl}")
    seen("exit 3, both commits and the newer run's author named, nothing touched; a colleague at the same commit: one "
         "round trip as before; GATEHOUSE_OLDER=yes goes back on purpose")  # fmt: skip


# ---------------------------------------------------------------------- another system

SYSTEMS = {
    "ubuntu 24.04": 's/^ID=.*/ID=ubuntu/; s/^VERSION_ID=.*/VERSION_ID="24.04"/',
    "debian 11": 's/^VERSION_ID=.*/VERSION_ID="11"/',
    "debian testing": "/^VERSION_ID=/d",
}


@pytest.mark.fault("F-13")
def test_f13_another_system_is_refused_before_anything_is_touched(vps: Machine, seen: Say) -> None:
    release = "/usr/lib/os-release"
    before = listing(vps)
    vps.check(f"cp -a {release} /run/os-release")
    try:
        for system, edit in SYSTEMS.items():
            vps.check(f"sed -i '{edit}' {release}")
            for task in ("bootstrap", "check", "system.hostname"):
                error = refusal(vps.fab(task))
                assert system.removesuffix("testing") in error
                assert "Debian 12 and 13" in error
            vps.check(f"cp -a /run/os-release {release}")
    finally:
        vps.check(f"mv /run/os-release {release}")
    assert before == listing(vps)
    seen(f"{', '.join(SYSTEMS)}: exit 3, nothing touched")


@pytest.mark.fault("F-13")
def test_f13_another_machine_is_refused_before_anything_is_touched(vps: Machine, seen: Say) -> None:
    """The host's dpkg says what it is for; /usr/local/bin comes first, as on any Debian."""
    before = listing(vps)
    vps.put({"/usr/local/bin/dpkg": b'#!/bin/sh\n[ "$1" != --print-architecture ] || exec echo armhf\n'
                                    b'exec /usr/bin/dpkg "$@"\n'}, 0o755)  # fmt: skip
    try:
        error = refusal(vps.fab("bootstrap"))
    finally:
        vps.check("rm /usr/local/bin/dpkg; touch -d @$(stat -c %Y /usr/local) /usr/local/bin")
    assert "a Debian for armhf" in error
    assert [line for line in before.splitlines() if not line.startswith("/usr/local/bin ")] == [
        line for line in listing(vps).splitlines() if not line.startswith("/usr/local/bin ")
    ]
    seen("armhf: the same (arm64 is let in: see decisions)")


# ---------------------------------------------------------------------- an odd laptop

ODD = {
    "umask 000": (0o000, {"LC_ALL": "C", "TZ": "Pacific/Kiritimati"}),
    "umask 077": (0o077, {"LC_ALL": "POSIX", "LANGUAGE": "tr", "TZ": "NoSuch/Zone", "COLUMNS": "20"}),
}


@pytest.mark.fault("F-14")
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.demand) for kind in ODD])
def test_f14_an_odd_laptop_makes_the_same_host(lab: Lab, vps: Machine, tmp_path: Path, kind: str, seen: Say) -> None:
    umask, environment = ODD[kind]
    before = files(vps)
    ours = managed(vps)
    assert len(ours) > 15
    house = tmp_path / "my own checkout"
    house.mkdir(mode=0o700)
    for name in ("fabfile", "templates", "scripts"):
        shutil.copytree(CHECKOUT / name, house / name)
    directory = lab.describe(tmp_path / "a lab" / "für ops", sites=lab.directory / "sites")
    # Everything that a run has written is edited and opened to everybody, so that it must be written again.
    vps.check(f"for file in {' '.join(ours)}; do echo >> $file; chmod 0777 $file; done")
    former = os.umask(umask)
    try:
        done = subprocess.run(
            [str(Path(sys.executable).parent / "fab"), "-S", str(directory / "ssh_config"), "-H", "vps", "bootstrap"],
            cwd=house, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=580, check=False, encoding="utf-8",
        )  # fmt: skip
    finally:
        os.umask(former)
        healed = vps.fab("bootstrap", "--json")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert '"changed": 0' in healed.stdout, healed.stdout
    assert before == files(vps)
    seen(f"{kind}, {environment['LC_ALL']}, {environment['TZ']}, spaces in both paths: {len(ours)} files, "
         "same bytes and modes")  # fmt: skip
