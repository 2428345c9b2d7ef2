"""The lab itself: what the other tests take for granted about its hosts."""

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from . import split as fleets
from .conftest import Bare
from .lab import Lab
from .machine import CGROUPS, Machine, Stranger

RELEASES = {"trixie": "13", "bookworm": "12"}


@pytest.fixture(params=RELEASES)
def host(request: pytest.FixtureRequest, bare: Bare) -> Machine:
    return bare(request.param)


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
    assert one.check(f"cd {CGROUPS} && find . -name only-here.service") == "./system.slice/only-here.service\n"
    assert other.check("find /sys/fs/cgroup -name only-here.service") == ""


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


# ---------------------------------------------------------------------- a fleet's two networks


@pytest.fixture(params=["split", pytest.param("api", marks=pytest.mark.demand)])
def several(request: pytest.FixtureRequest) -> Lab:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def test_a_fleet_has_its_hosts_with_their_roles(several: Lab) -> None:
    hosts = json.loads((several.directory / "fleet.yml").read_text().partition("\n")[2])["hosts"]
    roles = {name: tuple(entry["roles"]) for name, entry in hosts.items()}
    assert list(roles.items()) == list(fleets.FLEETS[several.fleet].items())
    for name, entry in hosts.items():
        assert entry["address"] in several.machine(name).check("ip -brief -4 address show scope global")


def test_only_the_edge_is_in_both_networks(several: Lab) -> None:
    edge, *inner = several.servers
    stranger = several.stranger
    addresses = " ".join([edge.ip, *(machine.inside for machine in several.servers)])
    scan = f"nmap -Pn -n -p 22 --max-retries 1 --open -oG - {addresses}"
    assert stranger.check(f"{scan} | grep 22/open/ | cut -d' ' -f2").split() == [edge.ip]
    with ThreadPoolExecutor() as pool:
        assert all(pool.map(lambda machine: opens(edge, machine.inside), inner))
        assert all(pool.map(lambda machine: opens(machine, edge.inside), inner))
        assert not any(pool.map(lambda machine: opens(machine, edge.ip), inner))
        assert not any(pool.map(lambda machine: opens(machine, stranger.ip), inner))
    for machine in inner:
        assert "scope global" not in machine.check("ip -6 address show"), machine.name
        machine.check("ip -6 address show dev lo | grep -q ::1/128")


def test_one_logs_in_to_an_inner_host_through_the_edge_whose_key_is_known_too(several: Lab) -> None:
    edge, *_, inner = several.servers
    ssh: list[str | Path] = ["ssh", "-F", several.directory / "ssh_config", inner.name, "hostname"]
    assert subprocess.run(ssh, capture_output=True, text=True, check=True).stdout.startswith(inner.name)
    seen = inner.check("journalctl -t sshd -t sshd-session -g 'Accepted publickey' -n 1 -o cat --no-pager")
    assert f"from {edge.inside} " in seen
    known = several.directory / "known_hosts"
    before = known.read_text()
    for hop in (edge, inner):
        known.write_text("".join(line for line in before.splitlines(True) if not line.startswith(f"{hop.name},")))
        try:
            refused = subprocess.run(ssh, capture_output=True, text=True, check=False)
        finally:
            known.write_text(before)
        assert "Host key verification failed" in refused.stderr, hop.name


def test_packages_come_to_an_inner_host(several: Lab) -> None:
    inner = several.servers[-1]
    inner.check("apt-get -qq update && apt-get install -qq --reinstall --download-only netbase")


def test_a_files_host_has_a_file_system_that_can_be_exported(split: Lab) -> None:
    assert split.machine("files1").check("stat -f -c %T /var/www") != "overlayfs\n"


def opens(machine: Machine, address: str) -> bool:
    return machine.exec(f"timeout 2 bash -c '</dev/tcp/{address}/22'").rc == 0
