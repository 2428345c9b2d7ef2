"""The lab itself: what the other tests take for granted about its hosts."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import Bare
from .lab import Lab
from .machine import Machine, Stranger

RELEASES = {"trixie": "13", "bookworm": "12"}


@pytest.fixture(params=RELEASES)
def host(request: pytest.FixtureRequest, bare: Bare) -> Machine:
    return bare(request.param)


def test_a_bare_host_is_up_within_six_seconds(bare: Bare, lab: Lab) -> None:
    start = time.monotonic()
    bare()
    assert time.monotonic() - start < 6


def test_a_bare_host_is_a_debian_without_the_products_packages(host: Machine) -> None:
    assert f'VERSION_ID="{RELEASES[host.release]}"' in host.check("cat /etc/os-release")
    for name in ("haproxy", "apache2", "varnish", "iptables", "fail2ban", "etckeeper", "python3", "curl"):
        assert not host.testinfra.package(name).is_installed, name


def test_the_operator_comes_in_with_the_labs_key_and_is_root_without_a_password(host: Machine, lab: Lab) -> None:
    stranger = lab.stranger
    ssh = "ssh -i /tmp/key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    stranger.put({"/tmp/key": (lab.directory / "key").read_bytes()}, 0o600)
    try:
        assert stranger.check(f"{ssh} ops@{host.ip} sudo -n id -u") == "0\n"
    finally:
        stranger.check("rm /tmp/key")


def test_systemd_is_content_and_the_host_is_the_same_after_a_restart(host: Machine) -> None:
    identity = "hostname; cat /etc/machine-id /etc/ssh/*.pub; ip -brief address show scope global | cut -c 18-"
    before = host.check(identity)
    host.restart()
    assert host.check("systemctl is-system-running") == "running\n"
    assert host.check("systemctl --failed --no-legend --plain") == ""
    assert host.check(identity) == before
    assert host.ip in before
    assert host.ip6 in before


def test_a_host_does_not_see_the_services_of_another(bare: Bare) -> None:
    one, other = bare(), bare()
    one.check("systemd-run --unit=only-here sleep 60")
    seen = "find /sys/fs/cgroup -name only-here.service"
    assert one.check(seen) == "/sys/fs/cgroup/system.slice/only-here.service\n"
    assert other.check(seen) == ""


def test_a_host_has_what_a_server_has(host: Machine) -> None:
    """Mount namespaces, timers, its own firewall of both families, its own net.* sysctls, an IPv6 loopback."""
    assert host.check("unshare --mount sh -c 'mount -t tmpfs none /mnt && touch /mnt/x && ls /mnt'") == "x\n"
    assert host.check("ls /mnt") == ""
    host.check("systemd-run --on-active=1 --timer-property=AccuracySec=100ms touch /run/fired")
    host.check("apt-get update && apt-get install -y --no-install-recommends iptables")
    for restore in ("iptables-restore", "ip6tables-restore"):
        rules = "*filter\n:INPUT ACCEPT\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\nCOMMIT\n"
        host.check(restore, stdin=rules)
        assert "ESTABLISHED" in host.check(f"{restore.removesuffix('-restore')} -S")
    host.check("sysctl -w net.ipv4.tcp_syncookies=1")
    host.check("getent ahosts ::1 && ip -6 address show dev lo | grep -q ::1/128")
    host.check("test -e /run/fired")


def test_hosts_reach_each_other_over_both_families(bare: Bare, stranger: Stranger) -> None:
    host = bare()
    key = host.check("cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub")
    for address in (host.ip, host.ip6):
        assert key in stranger.check(f"ssh-keyscan -t ed25519 {address}")


def test_a_name_points_where_it_was_pointed_and_the_names_below_it_follow(lab: Lab, stranger: Stranger) -> None:
    vps, vps12 = lab.machine("vps"), lab.machine("vps12")
    resolved = "getent ahostsv4 {0} | cut -d' ' -f1 | sort -u; getent ahostsv6 {0} | cut -d' ' -f1 | sort -u"
    lab.resolve("moved.test", vps12)
    lab.resolve("gone.test", None)
    assert stranger.check(resolved.format("www.moved.test")).split() == [vps12.ip, vps12.ip6]
    assert stranger.check(resolved.format("s001.test")).split() == [vps.ip, vps.ip6]
    assert stranger.check(resolved.format("gone.test")).split() == []
    with lab.pointing(vps12):
        assert stranger.check(resolved.format("example.com")).split() == [vps12.ip, vps12.ip6]
    assert stranger.check(resolved.format("example.com")).split() == [vps.ip, vps.ip6]


def test_the_ca_answers_unless_it_is_unreachable(lab: Lab, stranger: Stranger) -> None:
    stranger.put({"/tmp/acme.pem": lab.authority.acme_root.read_bytes()})
    ask = ("--cacert", "/tmp/acme.pem", "https://ca:14000/dir")
    assert "newOrder" in stranger.curl(*ask).out
    with lab.authority.unreachable():
        assert stranger.curl(*ask).rc == 7
    assert "newOrder" in stranger.curl(*ask).out


def test_a_lab_whose_directory_was_deleted_comes_up_anew(tmp_path: Path) -> None:
    """As when a checkout is removed and cloned again to the same place."""
    lab = Lab(tmp_path / "lab")
    try:
        lab.up()
        shutil.rmtree(lab.directory)
        lab.up()
        assert "uid=1000" in subprocess.run(
            ["ssh", "-F", lab.directory / "ssh_config", "vps", "id"], capture_output=True, text=True, check=True
        ).stdout
    finally:
        lab.down()
