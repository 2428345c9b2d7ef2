"""What only a machine with a kernel of its own can show: a real boot, with the rules before the network."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from .machine import Stranger
from .witness import Witness

pytestmark = pytest.mark.demand

PORT = 7777
# Listens on both families before anything of the network is there: what would answer if the rules came too late.
EARLY = f"""\
[Unit]
DefaultDependencies=no
Before=network-pre.target netfilter-persistent.service sockets.target
Conflicts=shutdown.target

[Socket]
ListenStream=[::]:{PORT}
Accept=yes

[Install]
WantedBy=sysinit.target
"""
ANSWER = "[Service]\nExecStart=/bin/true\n"

# Knocks at both addresses until it is told to stop; prints whom it got through to.
KNOCK = """
import os, socket, sys, time
port, *addresses = sys.argv[1:]
tried = 0
while not os.path.exists("/tmp/enough"):
    for address in addresses:
        tried += 1
        try:
            socket.create_connection((address, int(port)), timeout=0.3).close()
            print("open", address, flush=True)
        except OSError:
            pass
    time.sleep(0.05)
print("tried", tried)
"""


@dataclass
class Boot:
    """A reboot that was watched from outside."""

    witness: Witness
    knocked: list[str]  # what KNOCK printed meanwhile


@pytest.fixture(scope="module")
def early(witness: Witness) -> Iterator[None]:
    """A listener that is there before the network."""
    units = "/etc/systemd/system"
    witness.put({f"{units}/early.socket": EARLY.encode(), f"{units}/early@.service": ANSWER.encode()})
    witness.check("systemctl daemon-reload && systemctl enable --now early.socket")
    yield
    witness.check("systemctl disable --now early.socket; rm /etc/systemd/system/early*; systemctl daemon-reload")


@contextmanager
def knocking(witness: Witness, stranger: Stranger) -> Iterator[list[str]]:
    """Somebody tries the early listener all the while; the list then has the lines of KNOCK."""
    stranger.check("rm -f /tmp/enough; cat > /tmp/knock.py", stdin=KNOCK)
    command = f"python3 /tmp/knock.py {PORT} {witness.ip} {witness.ip6}"
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.extend(stranger.check(command, timeout=1800).splitlines()))
    thread.start()
    try:
        yield said
    finally:
        stranger.check("touch /tmp/enough")
        thread.join()


@pytest.fixture(scope="module")
def boot(witness: Witness, stranger: Stranger, early: None) -> Boot:
    """The witness after a real reboot, at whose door somebody knocked all the while."""
    with knocking(witness, stranger) as said:
        witness.restart()
    return Boot(witness, said)


def test_the_whole_bootstrap_serves_the_example_site(witness: Witness, stranger: Stranger) -> None:
    answer = stranger.curl("-o", "/dev/null", "-w", "%{http_code} %{http_version}", "https://example.com/", to=witness)

    assert "200 2" == answer.out, answer.err
    assert "0" != witness.check("cat /proc/sys/kernel/random/boot_id")
    assert "" == witness.exec("systemd-detect-virt --container").out.replace("none\n", "")


def test_the_listener_would_have_answered_without_rules(witness: Witness, stranger: Stranger, early: None) -> None:
    """Or the test of the boot could not fail."""
    for tool, address in (("iptables", witness.ip), ("ip6tables", witness.ip6)):
        knock = f"ncat -z -w 20 {address} {PORT}"
        assert 0 != stranger.exec(knock.replace("20", "2")).rc
        witness.check(f"{tool} -I INPUT -p tcp --dport {PORT} -j ACCEPT")
        try:
            assert 0 == stranger.exec(knock).rc
        finally:
            witness.check(f"{tool} -D INPUT -p tcp --dport {PORT} -j ACCEPT")


def test_at_boot_the_rules_are_in_force_before_the_network_is_up(boot: Boot) -> None:
    stamps = {}
    for unit in ("netfilter-persistent.service", "network-pre.target", "systemd-networkd.service"):
        shown = boot.witness.check(
            f"systemctl show {unit} -p InactiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic"
        )
        stamps[unit] = {key: int(value) for key, value in (line.split("=") for line in shown.splitlines())}

    loaded = stamps["netfilter-persistent.service"]["ActiveEnterTimestampMonotonic"]
    assert 0 < loaded <= stamps["network-pre.target"]["ActiveEnterTimestampMonotonic"], stamps
    assert loaded <= stamps["systemd-networkd.service"]["InactiveExitTimestampMonotonic"], stamps


def test_at_no_moment_of_a_reboot_is_another_port_open(boot: Boot) -> None:
    assert [] == [line for line in boot.knocked if line.startswith("open")]
    assert 50 < int(boot.knocked[-1].split()[1])


def test_after_a_reboot_every_kernel_value_is_the_rendered_one(boot: Boot) -> None:
    rendered = boot.witness.check("grep -v '^#' /etc/sysctl.d/60-gatehouse.conf").split("\n")
    wanted = dict(line.split(" = ") for line in rendered if line)
    live = boot.witness.check(f"sysctl {' '.join(wanted)}")

    assert len(wanted) > 30
    assert wanted == dict(line.split(" = ") for line in live.splitlines())


def test_after_a_reboot_all_is_back_and_nothing_is_to_do(boot: Boot, stranger: Stranger) -> None:
    assert "running" == boot.witness.check("systemctl is-system-running --wait").strip()
    assert "200" == stranger.curl(
        "-o", "/dev/null", "-w", "%{http_code}", "--retry", "30", "--retry-all-errors", "https://example.com/",
        to=boot.witness,
    ).out  # fmt: skip
    told = json.loads(boot.witness.fab("check", "--json").stdout)
    assert [] == [step for step in told["steps"] if step["outcome"] != "kept"]


def test_a_boot_with_broken_rules_files_lets_ssh_in_and_nothing_else(
    witness: Witness, stranger: Stranger, early: None
) -> None:
    def answers(port: int) -> list[bool]:
        return [0 == stranger.exec(f"ncat -z -w 10 {address} {port}").rc for address in (witness.ip, witness.ip6)]

    with witness.undone("whole-rules"):
        witness.check("for family in v4 v6; do echo '-A nonsense' > /etc/iptables/rules.$family; done")
        with knocking(witness, stranger) as said:
            witness.reboot()

        assert [] == [line for line in said if line.startswith("open")]
        for tool in ("iptables", "ip6tables"):
            assert "-P INPUT DROP" in witness.check(f"{tool} -S INPUT")
        assert [True, True] == answers(22)
        assert [False, False] == answers(443)
        assert "gatehouse-failsafe.service" in witness.check("systemctl --failed --plain --no-legend")

        mended = witness.fab("firewall")

        assert 0 == mended.returncode, mended.stdout + mended.stderr
        assert [True, True] == answers(443)
