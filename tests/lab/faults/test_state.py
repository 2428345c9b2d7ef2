"""F-16..F-19, F-25..F-30: the host's own state is against a run: locks, disks, dpkg, services, the clock, memory."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..lab import Lab
from ..machine import CAPABILITIES, Machine, Stranger
from .truth import files, listing, managed, serves

Say = Callable[[str], None]


def failure(done: subprocess.CompletedProcess[str]) -> str:
    """What was said of a step that failed: exit code 1, no traceback, the next thing to type."""
    assert 1 == done.returncode, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "next: " in done.stderr, done.stderr
    return done.stderr


def converges(machine: Machine) -> None:
    """One run puts everything right, and the next has nothing to do."""
    first = machine.fab("bootstrap")
    assert 0 == first.returncode, first.stdout + first.stderr
    again = json.loads(machine.fab("bootstrap", "--json").stdout)
    assert (0, 0) == (again["changed"], again["failed"]), again


# ---------------------------------------------------------------------- another apt

HOLD = b"""use Fcntl;
open(my $lock, "+>>", $ARGV[0]) or die;
my $whole = pack("ssx4qql", F_WRLCK, 0, 0, 0, 0);
fcntl($lock, F_SETLKW, $whole) or die;
open(my $ready, ">", "/run/hold.ready"); close($ready);
sleep $ARGV[1];
"""
LOCKS = ["/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock"]


@contextmanager
def lock_held(machine: Machine, lock: str, seconds: int) -> Iterator[str]:
    """Another program holds one of apt's locks as apt does; its process number."""
    machine.put({"/run/hold.pl": HOLD})
    machine.check("rm -f /run/hold.ready")
    process = machine.check(f"setsid perl /run/hold.pl {lock} {seconds} > /dev/null 2>&1 & echo $!").strip()
    machine.check("until [ -e /run/hold.ready ]; do sleep 0.1; done")
    try:
        yield process
    finally:
        machine.exec(f"kill {process}")
        machine.check("rm -f /run/hold.pl /run/hold.ready")


@contextmanager
def update_is_due(machine: Machine) -> Iterator[None]:
    """The next run updates, as a day after the last."""
    stamp = "/var/lib/gatehouse/updated"
    machine.check(f"touch -d '2 days ago' {stamp}")
    try:
        yield
    finally:
        machine.check(f"touch {stamp}")


@pytest.mark.fault("F-16")
@pytest.mark.parametrize(
    ("lock", "seconds"),
    [(LOCKS[0], 8), *(pytest.param(lock, 60, marks=pytest.mark.demand) for lock in LOCKS)],
)
def test_f16_a_held_lock_is_waited_for(vps: Machine, lock: str, seconds: int, seen: Say) -> None:
    with lock_held(vps, lock, seconds):
        began = time.monotonic()
        done = vps.fab("system.update", "--older-than", "0")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert time.monotonic() - began > seconds - 3
    seen(f"{lock.rpartition('/')[2]} of {lock.split('/')[3]}, held for {seconds} s: waited, then done")


@pytest.mark.fault("F-16")
@pytest.mark.fault("F-17")
@pytest.mark.parametrize("lock", [LOCKS[0], pytest.param(LOCKS[1], marks=pytest.mark.demand)])
def test_f16_a_lock_held_for_ever_is_left_alone_and_its_holder_named(
    vps: Machine, stranger: Stranger, lock: str, seen: Say
) -> None:
    """The host's own setting shortens the five minutes."""
    vps.put({"/etc/apt/apt.conf.d/99patience": b'DPkg::Lock::Timeout "4";\n'})
    before = files(vps)
    try:
        with update_is_due(vps), lock_held(vps, lock, 300) as process:
            inode = vps.check(f"stat -c '%i %s' {lock}")

            done = vps.fab("bootstrap")

            error = failure(done)
            assert f"perl (process {process}) has held the lock" in error, error
            assert "fab -H vps system.update" in error
            assert "system.history" not in done.stdout, "a later step was begun"
            assert inode == vps.check(f"stat -c '%i %s' {lock}")
            vps.check(f"kill -0 {process}")
            assert before == files(vps)
            serves(vps, stranger)
    finally:
        vps.check("rm /etc/apt/apt.conf.d/99patience")
    converges(vps)
    seen(f"{lock} held for ever: exit 1 after the set time, named perl and its process; lock and files untouched")


# ---------------------------------------------------------------------- full disks

DISKS = {
    "/etc": ["/etc"],
    "/var": ["/var"],
    "/": ["/etc", "/var", "/usr/local", "/root", "/tmp"],
}
SIZES = {
    "size": ("df --output=used -k /run/small | tail -n 1", 2048, "k"),
    "nr_inodes": ("find /run/small -xdev | wc -l", 300, ""),
}
"""What is in use, what a living host needs on top of it, and the unit of both."""
DAEMONS = "haproxy varnish apache2 php8.4-fpm redis-server"


@contextmanager
def small_disk(machine: Machine, places: list[str], limit: str) -> Iterator[None]:
    """These directories lie together on a file system that is just large enough for them.

    The daemons start anew, so that they live on it too; afterwards everything is as it was.
    """
    machine.check("apt-get clean")
    machine.check("mkdir -p /run/small && mount -t tmpfs -o mode=755 small /run/small")
    try:
        for place in places:
            machine.check(f"mkdir -p /run/small{place} && cp -a {place}/. /run/small{place}/")
        for place in places:
            machine.check(f"mount --bind /run/small{place} {place}")
        count, extra, unit = SIZES[limit]
        machine.check(f"mount -o remount,{limit}=$(($({count}) + {extra})){unit} /run/small")
        machine.check(f"systemctl restart {DAEMONS}")
        yield
    finally:
        machine.exec("for place in " + " ".join(places) + "; do umount -l $place; done; umount -l /run/small")
        machine.check("rmdir /run/small")
        machine.check(f"systemctl daemon-reload; systemctl reset-failed; systemctl restart {DAEMONS} fail2ban")
        converges(machine)


def fill(machine: Machine, limit: str, room: int) -> None:
    """Leave so many kilobytes, or inodes, and no more."""
    machine.check("rm -rf /run/small/filler && mkdir /run/small/filler")
    if limit == "size":
        machine.exec("dd if=/dev/zero of=/run/small/filler/0 bs=4k 2> /dev/null")
        machine.check(f"truncate -s -{room}K /run/small/filler/0")
    else:
        machine.check("cd /run/small/filler; n=0; while touch $n; do n=$((n+1)); done 2> /dev/null; :")
        machine.check(f"cd /run/small/filler; ls | head -n {room} | xargs -r rm")


@pytest.mark.fault("F-17")
@pytest.mark.parametrize(
    ("place", "limit"),
    [
        pytest.param("/etc", "size"),
        pytest.param("/var", "size", marks=pytest.mark.demand),
        pytest.param("/", "size", marks=pytest.mark.demand),
        pytest.param("/", "nr_inodes", marks=pytest.mark.demand),
    ],
)
def test_f17_a_full_disk_leaves_every_file_whole(
    vps: Machine, stranger: Stranger, place: str, limit: str, seen: Say
) -> None:
    """With a little more room each time, so that another write is the one that fails."""
    good = files(vps)
    ours = managed(vps)
    runs = 0
    with small_disk(vps, DISKS[place], limit):
        vps.check(f"for file in {' '.join(ours)}; do echo >> $file; done; etckeeper commit 'by hand' > /dev/null")
        edited = files(vps)
        for room in (0, 8, 32, 128) if limit == "size" else (0, 1, 3, 12):
            fill(vps, limit, room)
            done = vps.fab("bootstrap")
            runs += 1
            now = files(vps)
            assert [] == [path for path, told in now.items() if told not in (edited.get(path), good.get(path))]
            assert edited.keys() <= now.keys()
            serves(vps, stranger)
            if done.returncode == 0:
                break
            error = failure(done)
            assert "No space left on device" in error, error
            assert "make room on the host" in error
            assert re.search(r"then: fab -H vps \w+", error)
        assert runs > 1, "the disk was never full"
        vps.check("rm -r /run/small/filler")
        converges(vps)
        assert good == files(vps)
        serves(vps, stranger)
    what = "inodes" if limit == "nr_inodes" else "space"
    seen(f"{place} without {what}: {runs} runs with a little more each time: no file half, all served, then converged")


@pytest.mark.fault("F-17")
@pytest.mark.fault("F-18")
def test_f18_a_read_only_directory_stops_the_run_and_is_named(vps: Machine, stranger: Stranger, seen: Say) -> None:
    path = "/etc/haproxy/hosts.map"
    vps.check(f"echo >> {path}; etckeeper commit 'by hand' > /dev/null")
    vps.check("mount --bind /etc/haproxy /etc/haproxy && mount -o remount,ro,bind /etc/haproxy")
    try:
        before = files(vps)
        done = vps.fab("bootstrap")
        error = failure(done)
        assert path in error
        assert "Read-only file system" in error
        assert "haproxy.configure" not in done.stdout, "a later step was begun"
        assert before == files(vps)
        serves(vps, stranger)
    finally:
        vps.check("umount /etc/haproxy")
        converges(vps)
    seen("/etc/haproxy read-only: the error names the file; no later step; all served; converged once writable")


IMMUTABLE = """open(my $file, "<", $ARGV[1]) or die "open: $!"; my $flags = pack("q", 0);
ioctl($file, 0x80086601, $flags) or die "get: $!";
$flags = unpack("q", $flags); $flags = $ARGV[0] eq "+i" ? $flags | 0x10 : $flags & ~0x10;
ioctl($file, 0x40086602, pack("q", $flags)) or die "set: $!";"""


def change_attribute(machine: Machine, attribute: str, path: str) -> None:
    """chattr +i or -i, by a neighbour that may: lab hosts have not the capability, and an image has no chattr."""
    container = machine.container
    container.client.containers.run(
        container.image.id, ["-e", IMMUTABLE, "--", attribute, f"/proc/1/root{path}"], entrypoint="perl", remove=True,
        pid_mode=f"container:{container.id}", cap_add=[*CAPABILITIES, "LINUX_IMMUTABLE"],
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
    )  # fmt: skip


@contextmanager
def fixed(machine: Machine, path: str, how: str) -> Iterator[None]:
    """The file cannot be replaced for a while: it is immutable, or a mount point as container engines make of some."""
    if how == "immutable":
        change_attribute(machine, "+i", path)
    else:
        machine.check(f"mount --bind {path} {path}")
    try:
        yield
    finally:
        if how == "immutable":
            change_attribute(machine, "-i", path)
        else:
            machine.check(f"umount {path}")


@pytest.mark.fault("F-18")
@pytest.mark.demand
@pytest.mark.parametrize(
    ("how", "said", "advised"),
    [("immutable", "Operation not permitted", "lsattr"), ("a mount point", "Device or resource busy", "findmnt")],
)
def test_f18_a_file_that_cannot_be_replaced_stops_the_run_and_is_named(
    vps: Machine, stranger: Stranger, how: str, said: str, advised: str, seen: Say
) -> None:
    path = "/etc/haproxy/hosts.map"
    vps.check(f"echo >> {path}; etckeeper commit 'by hand' > /dev/null")
    try:
        before = files(vps)
        with fixed(vps, path, how):
            done = vps.fab("bootstrap")
            error = failure(done)
            assert path in error
            assert said in error
            assert advised in error
            assert "haproxy.configure" not in done.stdout, "a later step was begun"
            assert before == files(vps)
            serves(vps, stranger)
    finally:
        converges(vps)
    assert "" == vps.check("find /etc -name '.gatehouse.*'")
    seen(f"{how}: the same")


@pytest.mark.fault("F-18")
def test_f18_missing_directories_are_made_again_and_a_file_in_their_place_is_named(vps: Machine, seen: Say) -> None:
    before = files(vps)
    vps.check("rm -r /etc/haproxy/errors /etc/iptables /etc/systemd/system/varnish.service.d")
    vps.check(": > /etc/haproxy/errors")
    try:
        done = vps.fab("bootstrap")
        assert 1 == done.returncode
        assert "/etc/haproxy/errors is wanted as a directory, but a file is there" in done.stderr
    finally:
        vps.check("rm -f /etc/haproxy/errors")
        converges(vps)
    assert before == files(vps)
    seen("three missing directories: made again; a file in the place of one: named, exit 1")


# ---------------------------------------------------------------------- dpkg

BRAKE = """#!/bin/sh
[ ! -e /run/brake ] || { touch /run/braking; sleep 60; }
"""


def package(machine: Machine, version: str, conffile: str = "", directory: str = "/run/depot") -> None:
    """Builds the package lab-brake on the host, in a depot of its own that apt trusts."""
    tree = "/run/lab-brake"
    control = f"Package: lab-brake\nVersion: {version}\nArchitecture: all\nMaintainer: lab <lab@example.com>\n"
    control += "Description: waits in its postinst while there is a /run/brake\n"
    machine.check(f"rm -rf {tree}; mkdir -p {tree}/DEBIAN {tree}/etc/lab {directory}")
    machine.check(f"cat > {tree}/DEBIAN/control", stdin=control)
    machine.check(f"cat > {tree}/DEBIAN/postinst; chmod 755 {tree}/DEBIAN/postinst", stdin=BRAKE)
    machine.check(f"cat > {tree}/etc/lab/brake.conf", stdin=conffile or "brake = on\n")
    machine.check(f"echo /etc/lab/brake.conf > {tree}/DEBIAN/conffiles")
    machine.check(f"rm -f {directory}/*.deb; dpkg-deb -b --root-owner-group {tree} {directory}; rm -r {tree}")
    deb = machine.check(f"ls {directory}/*.deb").strip()
    machine.check(
        f"cd {directory}; {{ dpkg-deb -f {deb}; echo Filename: ./$(basename {deb}); echo Size: $(stat -c %s {deb}); "
        f"echo SHA256: $(sha256sum {deb} | cut -d' ' -f1); }} > Packages"
    )


@pytest.fixture
def depot(vps: Machine) -> Iterator[Machine]:
    """A host that knows the depot of `package`; at the end both are gone."""
    before = files(vps)
    vps.put({"/etc/apt/sources.list.d/lab.list": b"deb [trusted=yes] file:/run/depot ./\n"})
    yield vps
    vps.check("rm -rf /run/brake /run/braking")
    vps.check("dpkg --configure -a; apt-get -y purge lab-brake; rm -rf /etc/lab")
    vps.check("rm -r /etc/apt/sources.list.d/lab.list /run/depot; apt-get update -q; etckeeper commit lab || :")
    assert before == files(vps)


def interrupt(machine: Machine) -> None:
    """apt and dpkg die in the middle of configuring the package."""
    machine.check("rm -f /run/braking; touch /run/brake")
    machine.check("systemd-run -q --unit=lab-apt apt-get -y install lab-brake")
    machine.check("until [ -e /run/braking ]; do sleep 0.1; done", timeout=60)
    # systemd hears of the death a moment later, and would then say failed for ever.
    machine.check("systemctl kill -s KILL lab-apt")
    machine.check("until systemctl is-failed -q lab-apt; do sleep 0.1; done", timeout=60)
    machine.check("systemctl reset-failed lab-apt; rm -f /run/brake")
    machine.check("flock --wait 10 --fcntl /var/lib/dpkg/lock true || sleep 1")


def status(machine: Machine, name: str) -> str:
    return machine.check(f"dpkg-query -W -f='${{db:Status-Abbrev}}' {name}").strip()


@pytest.mark.fault("F-19")
def test_f19_an_interrupted_dpkg_is_put_right_first(depot: Machine, stranger: Stranger, seen: Say) -> None:
    package(depot, "1")
    depot.check("apt-get update -q")
    interrupt(depot)
    assert "iF" == status(depot, "lab-brake")
    assert "lab-brake" in depot.check("dpkg --audit")
    serves(depot, stranger)

    done = depot.fab("bootstrap")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "ii" == status(depot, "lab-brake")
    assert "" == depot.check("dpkg --audit")
    converges(depot)
    seen("dpkg killed (-9) in a postinst, iF: the next bootstrap configures it")


@pytest.mark.fault("F-19")
@pytest.mark.demand
def test_f19_a_step_that_installs_puts_it_right_first_too(depot: Machine, seen: Say) -> None:
    package(depot, "1")
    depot.check("apt-get update -q; apt-get -y purge socat")
    interrupt(depot)

    done = depot.fab("haproxy.install")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert ["ii", "ii"] == [status(depot, name) for name in ("lab-brake", "socat")]
    # Only unpacked: as after a power cut between dpkg's two passes.
    depot.check("apt-get -y purge lab-brake socat; dpkg --unpack /run/depot/*.deb")
    assert "iU" == status(depot, "lab-brake")
    assert 0 == depot.fab("haproxy.install").returncode
    assert ["ii", "ii"] == [status(depot, name) for name in ("lab-brake", "socat")]
    # dpkg died while it unpacked: the package must be installed anew, and its archive is still to be had.
    depot.check("sed -i '/^Package: lab-brake$/,/^$/ s/^Status: .*/Status: install reinstreq half-installed/' "
                "/var/lib/dpkg/status")  # fmt: skip
    assert "iHR" == status(depot, "lab-brake")
    done = depot.fab("bootstrap")
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "ii" == status(depot, "lab-brake")
    converges(depot)
    seen("iF and iU before a single step that installs, iHR before a bootstrap: the same")


@pytest.mark.fault("F-27")
@pytest.mark.parametrize("untouched", [False, pytest.param(True, marks=pytest.mark.demand)])
def test_f27_an_upgrade_keeps_the_hosts_own_conffile(depot: Machine, untouched: bool, seen: Say) -> None:
    package(depot, "1")
    depot.check("apt-get update -q; apt-get -y install lab-brake")
    if not untouched:
        depot.check("echo 'brake = mine' > /etc/lab/brake.conf")
    package(depot, "2", "brake = new\n")

    done = depot.fab("system.update", "--older-than", "0")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "2" == depot.check("dpkg-query -W -f='${Version}' lab-brake")
    if untouched:
        assert "brake = new\n" == depot.check("cat /etc/lab/brake.conf")
        assert "dpkg-dist" not in done.stdout
        return
    assert "brake = mine\n" == depot.check("cat /etc/lab/brake.conf")
    assert "brake = new\n" == depot.check("cat /etc/lab/brake.conf.dpkg-dist")
    assert "/etc/lab/brake.conf stays the host's own; the package brought /etc/lab/brake.conf.dpkg-dist" in done.stdout
    assert "dpkg-dist" not in depot.fab("system.update", "--older-than", "0").stdout, "told once is enough"
    seen("no question; the edited file stays, the package's lies beside it as .dpkg-dist and is named")


# ---------------------------------------------------------------------- by hand


@pytest.mark.fault("F-25")
def test_f25_what_was_edited_by_hand_is_shown_put_right_and_kept_in_the_history(vps: Machine, seen: Say) -> None:
    path, pool, own = "/etc/haproxy/haproxy.cfg", "/etc/php/8.4/fpm/pool.d/example.com.conf", "/etc/haproxy/own.lst"
    before = files(vps)
    vps.check(f"echo '# by hand' >> {path}; chmod 0666 {pool}; echo mine > {own}")
    listed = vps.check(f"stat -c '%i %Y %a' {own}")
    try:
        check = vps.fab("check")

        assert 2 == check.returncode, check.stdout + check.stderr
        assert "-# by hand" in check.stdout
        assert "mode 0666 -> 0644" in check.stdout
        assert before != files(vps)

        done = vps.fab("bootstrap")

        assert 0 == done.returncode, done.stdout + done.stderr
        assert "+# by hand" in vps.check("git -C /etc log -p -3 -- haproxy/haproxy.cfg")
        assert listed == vps.check(f"stat -c '%i %Y %a' {own}"), "a file that is nobody's business was touched"
    finally:
        vps.check(f"rm {own}; etckeeper commit 'own file gone' > /dev/null")
    assert before == files(vps)
    assert 0 == vps.fab("check").returncode
    seen("`check`: exit 2 with the diff; `bootstrap` puts it right; the edit is in /etc's git; other files untouched")


@pytest.mark.fault("F-25")
def test_f25_two_files_of_one_service_that_were_broken_by_hand_are_put_right(
    vps: Machine, stranger: Stranger, seen: Say
) -> None:
    """Two steps write them, and the service's check sees both: neither step could pass it alone."""
    before = files(vps)
    pools = "/etc/php/8.4/fpm/pool.d"
    vps.check(f"for file in {pools}/gatehouse.conf {pools}/example.com.conf; do echo '# by hand' >> $file; done")
    try:
        alone = vps.fab("php.configure")
        assert "refuses what is there already" in failure(alone)
        serves(vps, stranger)
        assert 2 == vps.fab("check").returncode
    finally:
        converges(vps)
    assert before == files(vps)
    serves(vps, stranger)
    seen("two broken files of one service: mended together")


# ---------------------------------------------------------------------- services


@contextmanager
def taken(machine: Machine, port: int) -> Iterator[None]:
    """Another program listens there."""
    listen = f"use IO::Socket::INET; $s = IO::Socket::INET->new(LocalPort => {port}, Listen => 5) or die; sleep 600"
    process = machine.check(f"setsid perl -e '{listen}' > /dev/null 2>&1 & echo $!").strip()
    machine.check(f"until ss -Htln 'sport = :{port}' | grep -q .; do kill -0 {process}; sleep 0.1; done", timeout=10)
    try:
        yield
    finally:
        machine.check(f"kill {process}")


NEEDS_A_PORT = {
    "haproxy": ("/etc/haproxy/haproxy.cfg", "frontend more\n bind :9099\n http-request deny\n", "haproxy -c -f {}"),
    "apache2": ("/etc/apache2/ports.conf", "Listen 9099\n", "apache2ctl -t"),
}


@pytest.mark.fault("F-26")
@pytest.mark.parametrize("service", ["haproxy", pytest.param("apache2", marks=pytest.mark.demand)])
def test_f26_a_port_that_is_taken_brings_the_former_configuration_back(  # type: ignore[no-untyped-def]
    vps: Machine, stranger: Stranger, service: str, engine, seen: Say
) -> None:
    """Its own check finds nothing wrong with it: only the running daemon can tell."""
    path, more, check = NEEDS_A_PORT[service]
    before = files(vps)
    step = f"""text = {vps.check(f"cat {path}") + more!r}
host.file({path!r}, text, check={check.format(path)!r})
host.service({service!r}, reload_on=[{path!r}], ready={READY[service]!r}); host.flush()"""
    with taken(vps, 9099):
        done = engine(vps, step)

        assert "PROBLEM" in done.stdout, done.stdout + done.stderr
        assert "judge" not in done.stdout
        assert "the former one is back and serves" in done.stdout, done.stdout
        assert before == files(vps)
        serves(vps, stranger)
    converges(vps)
    seen(f"{service}: the check passes, the reload fails, the former file is back and serves")


READY = {
    "haproxy": "sleep 0.5; echo 'show proc' | socat -T 5 - UNIX-CONNECT:/run/haproxy-master.sock | grep -q 'failed: 0'",
    "apache2": "sleep 1; ss -Htln 'sport = :9099' | grep -q apache || ! grep -q 9099 /etc/apache2/ports.conf",
}


@pytest.mark.fault("F-26")
@pytest.mark.demand
def test_f26_a_front_that_finds_its_own_port_taken_says_so(vps: Machine, stranger: Stranger, seen: Say) -> None:
    vps.check("systemctl stop haproxy")
    try:
        with taken(vps, 80):
            error = failure(vps.fab("bootstrap"))
            assert "haproxy" in error
            assert re.search(r"[Cc]annot bind|Address already in use", error), error
    finally:
        converges(vps)
    serves(vps, stranger)
    seen("port 80 taken at a start: exit 1 with the daemon's own words; free again, the next run starts it")


SPOILT = {
    "masked": (
        "systemctl stop haproxy; systemctl mask -q haproxy", "systemctl unmask -q haproxy",
        "masked: systemctl unmask haproxy", 1, "systemctl unmask haproxy",
    ),
    "disabled": ("systemctl disable -q apache2", "true", "does not start at boot", 2, "apache2 enabled"),
    "stopped": ("systemctl stop fail2ban; systemctl disable -q fail2ban", "true", "not active", 2, "fail2ban started"),
    "failed": (
        "mkdir -p /run/systemd/system/varnish.service.d; "
        "printf '[Service]\\nRestart=no\\n' > /run/systemd/system/varnish.service.d/no.conf; "
        "systemctl daemon-reload; systemctl kill -s KILL varnish; sleep 1; systemctl is-failed -q varnish; "
        "rm -r /run/systemd/system/varnish.service.d; systemctl daemon-reload",
        "true", "not active", 2, "varnish started, because it was failed",
    ),
}  # fmt: skip


@pytest.mark.fault("F-28")
@pytest.mark.parametrize(
    "state", ["masked", "disabled", *(pytest.param(state, marks=pytest.mark.demand) for state in ("stopped", "failed"))]
)
def test_f28_a_service_that_will_not_run_is_never_told_as_fine(
    vps: Machine, stranger: Stranger, state: str, seen: Say
) -> None:
    spoil, mend, told, code, planned = SPOILT[state]
    vps.check(spoil)
    try:
        status = vps.fab("status", "--json")
        assert 1 == status.returncode
        assert told in [reading["fault"] for reading in json.loads(status.stdout)["readings"]]
        check = vps.fab("check")
        assert code == check.returncode, check.stdout + check.stderr
        assert planned in check.stdout + check.stderr
        if state == "masked":
            assert "systemctl unmask haproxy" in failure_or_told(vps.fab("bootstrap"))
    finally:
        vps.check(mend)
        converges(vps)
    assert 0 == vps.fab("status").returncode, vps.fab("status").stdout
    serves(vps, stranger)
    seen(f"{state}: `status` exit 1, `check` exit {code}, named; bootstrap puts it right")


def failure_or_told(done: subprocess.CompletedProcess[str]) -> str:
    assert 1 == done.returncode, done.stdout
    return done.stderr


# ---------------------------------------------------------------------- the clock


@contextmanager
def clock(machine: Machine, offset: str) -> Iterator[None]:
    """date and openssl on the host live at another time (libfaketime); the kernel's clock is the machine's."""
    for name in ("date", "openssl"):
        real = machine.check(f"command -v {name}").strip()
        wrapper = f"#!/bin/sh\nexec faketime -f '{offset}' {real} \"$@\"\n".encode()
        machine.put({f"/usr/local/bin/{name}": wrapper}, 0o755)
    try:
        yield
    finally:
        machine.check("rm /usr/local/bin/date /usr/local/bin/openssl")


@pytest.fixture
def faketime(vps: Machine) -> Iterator[Machine]:
    vps.check("apt-get install -qy --no-install-recommends faketime")
    yield vps
    vps.check("apt-get -qy purge --autoremove faketime libfaketime; etckeeper commit faketime || :")
    converges(vps)


PEMS = "sha256sum /etc/haproxy/certs/*.pem"


@pytest.mark.fault("F-29")
@pytest.mark.demand
@pytest.mark.parametrize(("offset", "named"), [("-1d", True), ("+1d", False), ("-2y", True), ("+2y", True)])
def test_f29_no_certificate_falls_to_a_wrong_clock(
    faketime: Machine, stranger: Stranger, offset: str, named: bool, seen: Say
) -> None:
    before = faketime.check(PEMS)
    with clock(faketime, offset):
        status = faketime.fab("status")
        assert 1 == status.returncode
        assert "it differs from yours" in status.stdout
        check = faketime.fab("check")
        assert "its clock is" in check.stdout, check.stdout

        renewed = faketime.fab("cert.renew", "--all")

        assert (1 if named else 0) == renewed.returncode, renewed.stdout + renewed.stderr
        assert named == ("set its clock" in renewed.stdout + renewed.stderr), renewed.stdout + renewed.stderr
        assert before == faketime.check(PEMS)
        serves(faketime, stranger)
    healed = faketime.fab("cert.renew", "--all")
    assert 0 == healed.returncode, healed.stdout + healed.stderr
    serves(faketime, stranger)
    told = "names the clock, exit 1" if named else "has nothing to do"
    seen(f"{offset}: `status` and `check` tell the difference; renewal {told}; the certificates stay, byte for byte")


@pytest.mark.fault("F-29")
def test_f29_the_time_is_kept_at_every_boot(vps: Machine) -> None:
    assert "enabled" == vps.check("systemctl is-enabled systemd-timesyncd").strip()


# ---------------------------------------------------------------------- memory

EATER = """<?php
header('Cache-Control: no-store');
$all = str_repeat('x', 900 << 20);
echo strlen($all);
"""


@contextmanager
def described(lab: Lab, directory: Path, **php: str | int) -> Iterator[Path]:
    """kiosk.co.test with other settings of PHP."""
    sites = directory / "sites"
    sites.mkdir()
    for file in (lab.directory / "sites").iterdir():
        text = file.read_text()
        if file.name.startswith("kiosk"):
            text += "php: {" + ", ".join(f"{key}: {value}" for key, value in php.items()) + "}\n"
        (sites / file.name).write_text(text)
    yield lab.describe(directory, sites=sites)


@pytest.mark.fault("F-30")
def test_f30_more_workers_than_memory_are_refused(lab: Lab, vps: Machine, tmp_path: Path, seen: Say) -> None:
    before = listing(vps)
    with described(lab, tmp_path, children=500, memory_limit="8G") as directory:
        for task in ("bootstrap", "check"):
            refused = vps.fab(task, directory=directory)
            assert 2 == refused.returncode, refused.stdout + refused.stderr
            assert "php.children, php.memory_limit: kiosk.co.test may take 500 x 8G = 4096000 MB" in refused.stderr
    assert before == listing(vps)
    seen("500 x 8G: exit 2 before anything is touched; both keys and the host's memory named")


@pytest.mark.fault("F-30")
@pytest.mark.demand
def test_f30_the_worker_that_takes_it_all_dies_alone(
    lab: Lab, vps: Machine, stranger: Stranger, tmp_path: Path, seen: Say
) -> None:
    """Docker takes the host's memory away until the kernel must choose."""
    page = "/var/www/kiosk.co.test/public_html/_/eat.php"
    user = "setpriv --reuid kiosk-co-test --regid kiosk-co-test --clear-groups"
    mains = f"systemctl show -P MainPID {DAEMONS} fail2ban; pgrep haproxy | sort; pgrep cache-main"
    with described(lab, tmp_path, children=2, memory_limit="1G") as directory:
        try:
            assert 0 == vps.fab("php", directory=directory).returncode
            vps.check(f"{user} sh -c 'cat > {page}'", stdin=EATER)
            before = vps.check(mains)
            limit_memory(vps, 600)
            answer = stranger.curl("-o", "/dev/null", "-w", "%{http_code}", "https://kiosk.co.test/eat.php", to=vps)

            assert answer.out in ("502", "503"), answer
            assert before == vps.check(mains), "more than a worker died"
            serves(vps, stranger)
            assert {"500"} == set(vps.check("cat /proc/$(pgrep -o php-fpm)/oom_score_adj").split())
            assert "continue" == vps.check("systemctl show -P OOMPolicy php8.4-fpm").strip()
        finally:
            limit_memory(vps, None)
            vps.check(f"rm -f {page}")
            converges(vps)
    seen("900 MB asked for with less to be had: that worker is killed (502 or 503), every other process stays, "
         "both sites answer")  # fmt: skip


def limit_memory(machine: Machine, spare_mb: int | None) -> None:
    """Leave the host so many megabytes beside what its processes hold; None: more than there is."""
    if spare_mb is None:
        machine.container.update(mem_limit="1024g", memswap_limit="1024g")
        return
    held = machine.check("awk '/^Rss(Anon|Shmem)/ { sum += $2 } END { print int(sum / 1024) }' /proc/[0-9]*/status")
    limit = f"{int(held) + spare_mb}m"
    machine.container.update(mem_limit=limit, memswap_limit=limit)
