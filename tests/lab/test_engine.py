"""The engine's promises, each on a real host."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from .conftest import Bare
from .lab import Lab
from .machine import CHECKOUT, Machine, run_tool

HOLD = b"""use Fcntl;
open(my $lock, "+>", "/var/lib/dpkg/lock-frontend") or die;
my $whole = pack("ssx4qql", F_WRLCK, 0, 0, 0, 0);
fcntl($lock, F_SETLK, $whole) or die;
sleep 10;
"""
LISTING = "find /etc /usr/local /var/www /var/lib/gatehouse -printf '%p %y %m %u %g %s %T@ %l\\n' 2> /dev/null | sort"


def data(machine: Machine, *task: str) -> dict[str, object]:
    """A run's own account of itself."""
    done = machine.fab(*task, "--json")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


# ---------------------------------------------------------------------- one look, and truth in a dry run


def test_a_run_that_changes_nothing_is_one_round_trip(vps: Machine) -> None:
    told = data(vps, "bootstrap")

    assert 0 == told["changed"] == told["failed"]
    assert 1 == told["round_trips"]


def test_it_opens_one_channel(vps: Machine) -> None:
    """sshd's own account: one connection, one session; sudo's: one command."""
    cursor = vps.check("journalctl -q -n 1 --show-cursor | sed -n 's/^-- cursor: //p'").strip()
    vps.fab("bootstrap")
    journal = vps.check(f"journalctl --sync; journalctl -q --after-cursor '{cursor}' -o cat")

    assert 1 == len(re.findall(r"Accepted publickey for ops", journal))
    assert 1 == len(re.findall(r"ops : .*COMMAND=", journal))


def test_a_dry_run_of_everything_on_a_bare_host_changes_nothing(bare: Bare) -> None:
    host = bare()
    seen = [LISTING, "dpkg -l"]
    before = [host.check(command).splitlines() for command in seen]

    done = host.fab("--dry", "bootstrap")

    assert 0 == done.returncode, done.stderr
    assert re.search(r"(\d+) would change, 0 failed", done.stdout)
    for command, lines in zip(seen, before, strict=True):
        assert lines == host.check(command).splitlines()


def test_a_hand_edited_file_is_shown_by_check_and_put_right_by_bootstrap(vps: Machine) -> None:
    path = "/etc/haproxy/haproxy.cfg"
    before = vps.check(f"sha256sum {path}")
    vps.check(f"echo '# by hand' >> {path}")

    check = vps.fab("check")

    assert 2 == check.returncode
    assert "-# by hand" in check.stdout
    assert before != vps.check(f"sha256sum {path}")

    done = vps.fab("bootstrap")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert before == vps.check(f"sha256sum {path}")
    assert 0 == vps.fab("check").returncode


# ---------------------------------------------------------------------- files


def test_a_file_that_its_check_refuses_never_lands(vps: Machine, engine) -> None:  # type: ignore[no-untyped-def]
    before = vps.check("sha256sum /etc/haproxy/haproxy.cfg; ls -la /etc/haproxy")

    done = engine(
        vps,
        """path = "/etc/haproxy/haproxy.cfg"
host.file(path, "nonsense", check=f"haproxy -c -f {path}"); host.flush()""",
    )

    assert "PROBLEM judge /etc/haproxy/haproxy.cfg: exit code 1" in done.stdout
    assert "nonsense" in done.stdout
    assert before == vps.check("sha256sum /etc/haproxy/haproxy.cfg; ls -la /etc/haproxy")


def test_a_service_that_refuses_gets_its_former_files_back(vps: Machine, engine) -> None:  # type: ignore[no-untyped-def]
    """The file passes no check here, as when only the running daemon can tell."""
    path = "/etc/haproxy/haproxy.cfg"
    before = vps.check(f"sha256sum {path}; stat -c '%a %U:%G' {path}")

    done = engine(
        vps,
        f"""host.file({path!r}, "listen x\\n bind :80 bogus\\n")
host.service("haproxy", reload_on=[{path!r}]); host.flush()""",
    )

    assert "the former one is back and serves" in done.stdout, done.stdout + done.stderr
    assert before == vps.check(f"sha256sum {path}; stat -c '%a %U:%G' {path}")
    assert "active" == vps.check("systemctl is-active haproxy").strip()
    assert 0 == vps.fab("bootstrap").returncode
    assert 0 == data(vps, "bootstrap")["changed"]


def test_mode_and_owner_stand_before_the_content(vps: Machine, engine) -> None:  # type: ignore[no-untyped-def]
    """Nobody but root can read a secret at any moment of its way."""
    watch = "/usr/local/sbin/gatehouse-test"
    vps.put(
        {watch: b"#!/bin/sh\nwhile :; do cat /etc/gatehouse/test-secret /run/gatehouse.*/put/*/* 2> /dev/null; done\n"},
        0o755,
    )
    vps.check(
        f"setpriv --reuid ops --regid ops --clear-groups {watch} > /tmp/seen 2> /dev/null & echo $! > /run/watch.pid"
    )
    try:
        engine(vps, 'host.file("/etc/gatehouse/test-secret", "canary" * 100000, mode=0o600, secret=True); host.flush()')
        time.sleep(0.5)

        assert "600 root:root" == vps.check("stat -c '%a %U:%G' /etc/gatehouse/test-secret").strip()
        assert "0" == vps.check("stat -c %s /tmp/seen").strip()
    finally:
        vps.check(f"kill $(cat /run/watch.pid); rm -f /etc/gatehouse/test-secret {watch} /tmp/seen")
        vps.check("etckeeper commit test")


def test_a_site_s_directory_is_made_as_its_user_and_never_touched_again(vps: Machine) -> None:
    tree = "/var/www/example.com/public_html"
    assert "example-com:www-data 750" == vps.check(f"stat -c '%U:%G %a' {tree}").strip()
    vps.check(f"setpriv --reuid example-com --regid example-com --clear-groups ln -sfn /etc/shadow {tree}/_/link")
    shadow = vps.check("stat -c '%a %U:%G %Z' /etc/shadow")
    try:
        assert 0 == vps.fab("bootstrap").returncode
        assert shadow == vps.check("stat -c '%a %U:%G %Z' /etc/shadow")
    finally:
        vps.check(f"rm {tree}/_/link")


# ---------------------------------------------------------------------- getting in


def test_a_change_that_locks_the_operator_out_is_taken_back_by_the_host(bare: Bare, engine) -> None:  # type: ignore[no-untyped-def]
    host = bare()
    host.check("apt-get update -q && apt-get install -qy --no-install-recommends iptables", timeout=300)

    done = engine(
        host,
        """host.facts
host.access("shut the door", "iptables -I INPUT -p tcp --dport 22 -m conntrack --ctstate NEW -j DROP",
            "iptables -D INPUT -p tcp --dport 22 -m conntrack --ctstate NEW -j DROP", seconds=15)""",
    )

    assert "no new connection got in" in done.stdout, done.stdout + done.stderr
    time.sleep(15)
    assert "ACCEPT" not in host.check("iptables -S INPUT | grep -c DROP || true")
    assert 0 == host.fab("trust").returncode
    assert "" == host.check("iptables -S INPUT | grep -- '--dport 22' || true")


def test_a_revert_that_is_not_needed_never_fires(vps: Machine) -> None:
    assert "" == vps.check("systemctl list-timers --all --no-legend 'gatehouse-revert*'").strip()
    assert 1 == vps.exec("test -e /var/lib/gatehouse/revert.sh").rc


def test_an_unknown_key_is_refused_with_its_fingerprint(lab: Lab, vps: Machine, tmp_path: Path) -> None:
    directory = lab.describe(tmp_path, sites=lab.directory / "sites")
    (directory / "known_hosts").write_text("")

    refused = vps.fab("bootstrap", directory=directory)

    assert 3 == refused.returncode
    shown = re.search(r"SHA256:\S+", refused.stderr)
    assert shown
    assert "fab -H vps trust" in refused.stderr

    trusted = vps.fab("trust", "--fingerprint", shown.group(), directory=directory)

    assert 0 == trusted.returncode, trusted.stderr
    assert 0 == vps.fab("check", directory=directory).returncode


def test_a_changed_key_is_refused_and_never_enrolled(lab: Lab, vps: Machine, tmp_path: Path) -> None:
    directory = lab.describe(tmp_path, sites=lab.directory / "sites")
    other = subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    assert 0 == other.returncode
    kind, key, *_ = (tmp_path / "other.pub").read_text().split()
    (directory / "known_hosts").write_text(f"{vps.ip} {kind} {key}\n")

    for task in (["bootstrap"], ["trust", "--fingerprint", "SHA256:x"]):
        refused = vps.fab(*task, directory=directory)
        assert 3 == refused.returncode
        assert "another key" in refused.stderr or "has changed" in refused.stderr
    assert f"{vps.ip} {kind} {key}\n" == (directory / "known_hosts").read_text()


def test_without_a_host_nothing_runs_on_the_laptop(vps: Machine) -> None:
    refused = run_tool("fab", "bootstrap")

    assert 3 == refused.returncode
    assert "fab -H vps bootstrap" in refused.stderr


def test_sudo_that_asks_is_one_clear_error_at_once(bare: Bare) -> None:
    host = bare()
    host.check("echo 'ops ALL=(ALL) ALL' > /etc/sudoers.d/ops; ls /etc/sudoers.d")
    host.check("grep -rl NOPASSWD /etc/sudoers.d | xargs -r sed -i 's/NOPASSWD://g'")
    began = time.monotonic()

    refused = host.fab("bootstrap")

    assert 3 == refused.returncode, refused.stdout + refused.stderr
    assert "may not become root" in refused.stderr
    assert time.monotonic() - began < 10


def test_another_system_is_refused_before_anything_is_touched(bare: Bare) -> None:
    host = bare()
    host.check("sed -i 's/^ID=.*/ID=ubuntu/; s/^VERSION_ID=.*/VERSION_ID=\"24.04\"/' /usr/lib/os-release")
    before = host.check(LISTING)

    refused = host.fab("bootstrap")

    assert 3 == refused.returncode
    assert "ubuntu 24.04" in refused.stderr
    assert before == host.check(LISTING)


def test_a_host_that_is_not_there_is_said_so(lab: Lab, vps: Machine, tmp_path: Path) -> None:
    directory = lab.describe(tmp_path, sites=lab.directory / "sites")
    config = directory / "ssh_config"
    config.write_text(config.read_text().replace(f"HostName {vps.ip}\n", "HostName 127.0.0.1\n    Port 9\n", 1))

    refused = run_tool("fab", "-S", str(config), "-H", "vps", "bootstrap")

    assert 1 == refused.returncode
    assert "cannot be reached" in refused.stderr
    assert "try: ssh" in refused.stderr


# ---------------------------------------------------------------------- trouble on the way


def test_a_full_disk_is_named_and_the_old_file_stays(vps: Machine) -> None:
    program = "/usr/local/sbin/gatehouse-renew"
    listing = f"sha256sum {program}; ls -lA /usr/local/sbin"
    vps.check(f"cp -a {program} /run/kept && echo '# by hand' >> /run/kept")
    vps.check(f"mount -t tmpfs -o size=48k tmpfs /usr/local/sbin && cp -a /run/kept {program}")
    try:
        before = vps.check(listing)

        failed = vps.fab("cert.program")

        assert 1 == failed.returncode, failed.stdout
        assert "No space left on device" in failed.stderr
        assert "next: fab -H vps cert.program" in failed.stderr
        assert before == vps.check(listing)
    finally:
        vps.check("umount /usr/local/sbin; rm /run/kept")
    assert 0 == vps.fab("check").returncode


def test_another_apt_at_work_is_waited_for(bare: Bare) -> None:
    host = bare()
    host.put({"/run/hold.pl": HOLD})
    host.check("perl /run/hold.pl > /dev/null 2>&1 & sleep 0.5")
    began = time.monotonic()

    done = host.fab("system.hostname")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert time.monotonic() - began > 6


# ---------------------------------------------------------------------- one at a time, and its history


def test_a_second_operator_is_told_who_holds_the_host(vps: Machine, engine) -> None:  # type: ignore[no-untyped-def]
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(f"""
                import time
                from pathlib import Path
                from fabfile.engine import Host
                from fabfile.engine.remote import connect
                host = Host.of(connect("vps", Path({str(vps.directory / "ssh_config")!r})))
                with host.running("a long run"), host.step("x.y"):
                    host.facts
                    print("held", flush=True)
                    time.sleep(60)
            """),
        ],
        cwd=CHECKOUT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout
        assert "held" == holder.stdout.readline().strip()

        refused = vps.fab("bootstrap")

        assert 3 == refused.returncode
        assert "a long run" in refused.stderr
        assert 0 == vps.fab("check").returncode
    finally:
        holder.kill()
        holder.communicate()
    time.sleep(0.5)
    assert 0 == vps.fab("bootstrap").returncode


def test_etc_has_a_history_without_keys_and_secrets(vps: Machine) -> None:
    log = vps.check("git -C /etc log --format=%s")
    kept = vps.check("git -C /etc ls-files").splitlines()

    assert "gatehouse bootstrap by" in log
    assert "haproxy/haproxy.cfg" in kept
    private = ("shadow", "gshadow", "ssh/ssh_host_", "haproxy/certs/", "lego/", "gatehouse/secrets/", "varnish/secret")
    assert [] == [path for path in kept if path.startswith(private) and not path.endswith(".pub")]
    assert "700" == vps.check("stat -c %a /etc/.git").strip()
    assert "" == vps.check("git -C /etc status --porcelain")


def test_nothing_of_a_visit_is_left_behind(vps: Machine) -> None:
    vps.fab("bootstrap")

    assert "" == vps.check("ls -d /run/gatehouse.????????; find /etc /usr/local /var/www -name '.gatehouse.*'; true")
