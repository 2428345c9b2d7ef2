"""The firewall as an operator lives with it: open for a while, shut out for a while, shown, and drilled."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from .machine import CHECKOUT, Machine, Stranger, run_tool
from .test_fail2ban import Attacker, eventually

PORT = 8443
LISTEN = (
    f"systemd-run -q --collect --unit=listens-4 socat TCP4-LISTEN:{PORT},fork,reuseaddr EXEC:cat; "
    f"systemd-run -q --collect --unit=listens-6 socat TCP6-LISTEN:{PORT},fork,reuseaddr,ipv6only=1 EXEC:cat"
)


@pytest.fixture
def listener(vps: Machine) -> Iterator[None]:
    """A program on the port, in both families; afterwards nothing is open or shut out for a while."""
    vps.check(LISTEN)
    yield
    vps.exec("systemctl stop listens-4 listens-6")
    for tool in ("iptables", "ip6tables"):
        vps.check(f"{tool} -F GATEHOUSE-NOW")
    done = vps.fab("firewall")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def somebody(stranger: Stranger) -> Iterator[Attacker]:
    """Somebody beside the stranger."""
    found = Attacker(stranger)
    yield found
    found.leave()


def fab(host: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    done = host.fab(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def shown(host: Machine) -> dict[str, dict[str, object]]:
    """The rules by what they let in or keep out."""
    told = json.loads(fab(host, "firewall.show", "--json").stdout)
    return {f"{row['verdict']} {row['what']} {row['source']}": row for row in told["rows"]}


def reaches(somebody: Attacker, host: Machine, family: int) -> bool:
    """Whether the port lets a new connection of this family in."""
    place = host.ip if family == 4 else host.ip6
    return somebody.stranger.exec(f"nc -{family} -s {somebody.own[family]} -z -w 1 {place} {PORT}").rc == 0


def test_a_port_is_open_for_a_while_to_whom_it_was_opened_and_shuts_by_itself(
    vps: Machine, somebody: Attacker, listener: None
) -> None:
    assert not reaches(somebody, vps, 4)
    fab(vps, "firewall.allow", str(PORT), "--from", somebody.own[4], "--for", "12s")
    assert [reaches(somebody, vps, family) for family in (4, 6)] == [True, False]
    assert somebody.stranger.exec(f"nc -z -w 1 {vps.ip} {PORT}").rc, "nobody else"
    assert f"in {PORT}/tcp {somebody.own[4]}/32" in shown(vps)
    vps.check("systemctl restart netfilter-persistent")  # as a boot loads them
    assert reaches(somebody, vps, 4)
    assert "0 changed" in fab(vps, "--dry", "firewall").stdout
    assert eventually(lambda: not reaches(somebody, vps, 4), 30)
    assert "0 changed" in fab(vps, "--dry", "firewall").stdout

    fab(vps, "firewall.allow", str(PORT))
    assert [reaches(somebody, vps, family) for family in (4, 6)] == [True, True]
    assert f"{PORT}/tcp is shut again" in fab(vps, "firewall.deny", str(PORT)).stdout
    assert [reaches(somebody, vps, family) for family in (4, 6)] == [False, False]


@pytest.mark.demand
def test_who_is_shut_out_is_so_at_once_with_what_is_under_way_and_comes_back(
    vps: Machine, somebody: Attacker, listener: None
) -> None:
    network = f"{somebody.own[6]}/128"
    fab(vps, "firewall.allow", str(PORT))
    nc = f"echo $$ > /tmp/nc; exec nc -6 -s {somebody.own[6]} {vps.ip6} {PORT}"
    talk = "echo first; while [ ! -e /tmp/shut ]; do sleep 0.1; done; echo second; sleep 2"
    with ThreadPoolExecutor() as pool:
        held = pool.submit(somebody.stranger.exec, f"rm -f /tmp/shut; ({talk}) | sh -c '{nc}'")
        time.sleep(1)
        fab(vps, "firewall.deny", network, "--for", "1h")
        somebody.stranger.check("touch /tmp/shut; sleep 2; kill $(cat /tmp/nc) || :")
    assert held.result().out == "first\n", "nothing comes back of what was said then"
    assert [reaches(somebody, vps, family) for family in (4, 6)] == [True, False]
    unban = vps.fab("fail2ban.unban", somebody.own[6])
    assert unban.returncode == 1
    assert f"firewall.allow {network}" in unban.stdout

    fab(vps, "firewall.allow", network)
    assert reaches(somebody, vps, 6)


def test_what_is_not_ours_is_told(vps: Machine) -> None:
    vps.check("iptables -I INPUT -p tcp --dport 3306 -j ACCEPT")
    try:
        told = vps.fab("firewall.show")
        assert "not ours: IPv4 -A INPUT -p tcp -m tcp --dport 3306 -j ACCEPT" in told.stdout
    finally:
        vps.check("iptables -D INPUT -p tcp --dport 3306 -j ACCEPT")
    vps.check("iptables -D GATEHOUSE -p tcp -m multiport --dports 80,443 -j ACCEPT")
    try:
        told = vps.fab("firewall.show")
        assert told.returncode == 1
        assert "the next boot would load other rules" in told.stdout
    finally:
        fab(vps, "firewall")
    assert fab(vps, "firewall.show").returncode == 0


# ---------------------------------------------------------------------- the drill

REVERT = "/var/lib/gatehouse/revert.sh"


def test_the_drill_shuts_ssh_and_the_host_opens_it_again_while_the_sites_go_on(
    vps: Machine, stranger: Stranger
) -> None:
    before = vps.check("iptables -S; ip6tables -S")
    visits = "for n in $(seq 60); do curl -sk -o /dev/null -w '%{http_code}\\n' --max-time 2 " \
        f"--connect-to ::{vps.ip}: https://example.com/; sleep 0.2; done"  # fmt: skip
    with ThreadPoolExecutor() as pool:
        codes = pool.submit(stranger.exec, visits)
        done = fab(vps, "firewall.drill", "--seconds", "10")
    assert "no new connection got in; by itself the host took it back" in done.stdout
    assert set(codes.result().out.split()) == {"200"}
    assert before == vps.check("iptables -S; ip6tables -S")
    assert vps.exec(f"ls {REVERT}*").rc
    assert "0 changed" in fab(vps, "firewall").stdout


@pytest.mark.demand
def test_a_drill_that_finds_ssh_open_all_the_same_says_so_and_takes_it_back(vps: Machine) -> None:
    vps.check("iptables -I INPUT -p tcp --dport 22 -j ACCEPT")
    try:
        done = vps.fab("firewall.drill")
        assert done.returncode == 1
        assert "something lets it in before them" in done.stderr
        assert vps.exec(f"ls {REVERT}").rc
    finally:
        vps.check("iptables -D INPUT -p tcp --dport 22 -j ACCEPT")
    assert "0 changed" in fab(vps, "firewall").stdout


@pytest.mark.demand
def test_a_drill_whose_laptop_dies_is_taken_back_by_the_host(vps: Machine) -> None:
    config = str(vps.directory / "ssh_config")
    line = [sys.executable, "-m", "fabric", "-S", config, "-H", vps.name, "firewall.drill", "--seconds", "15"]

    def answers() -> bool:
        return run_tool("fab", "-S", config, "-H", vps.name, "fail2ban.status", timeout=60).returncode == 0

    with subprocess.Popen(line, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        assert eventually(lambda: vps.exec(f"test -e {REVERT}").rc == 0, 30)
        assert eventually(lambda: vps.exec("iptables -S GATEHOUSE | grep -q -- '--dport 22'").rc != 0, 30)
        run.kill()
    assert not answers()
    assert eventually(answers, 60)
    assert "0 changed" in fab(vps, "firewall").stdout


