"""How one gets in, and how nobody else does: rules and sshd that would shut out the operator, and what is open."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import paramiko
import pytest

from fabfile.engine import Problem
from fabfile.engine.remote import connect, opened
from fabfile.firewall.rules import RULES
from fabfile.sshd import DROPIN, WAY_BACK
from tests.lab.conftest import Bare
from tests.lab.machine import CHECKOUT, Machine, Stranger

Seen = Callable[[str], None]
OPEN = {22, 80, 443}
REVERT = "/var/lib/gatehouse/revert.sh"
TAKEN_BACK = 90
"""Seconds within which a host lets its operator in again, whatever was done to it."""

# A chapter as it is, run by its own task, with one mistake in it.  `seconds`: how long the host waits for the proof.
PROGRAM = """
import sys
from pathlib import Path
from invoke import Exit
from fabfile import firewall, sshd
from fabfile.engine import Host, render
from fabfile.engine.remote import connect
Host.access.__kwdefaults__["seconds"] = Host.proving.__wrapped__.__kwdefaults__["seconds"] = {seconds}
c = connect({name!r}, Path({config!r}))
{mistake}
try:
    {task}(c)
except Exit as ended:
    sys.exit(ended.code)
"""

MISTAKES = {
    "wrong port": (
        "firewall.apply",
        """
        right = firewall.loading.chain
        firewall.loading.chain = lambda family, ports, *known: right(family, [2222], *known)
        """,
    ),
    "wrong CIDR": (
        "firewall.apply",
        """
        right = firewall.loading.chain
        firewall.loading.chain = lambda family, *known: [
            "-s " + {4: "203.0.113.0/24 ", 6: "2001:db8:57::/64 "}[family] + rule if "--dport 22 " in rule else rule
            for rule in right(family, *known) if not rule.startswith("-s ")
        ]
        """,
    ),
    "key exchange that the controller lacks": ("sshd.configure", "sshd.agreed = lambda yardstick, *_: yardstick[:1]"),
    "AllowUsers for somebody else": (
        "sshd.configure",
        """
        right = render.render
        render.render = lambda *known: right(*known) + "AllowUsers somebody\\\\n"
        """,
    ),
}


@contextmanager
def begun(machine: Machine, mistake: str, seconds: int = 60) -> Iterator[subprocess.Popen[str]]:
    """An operator's run with that mistake in it; at the end it is killed (-9)."""
    task, lines = MISTAKES[mistake]
    config = str(machine.directory / "ssh_config")
    program = PROGRAM.format(
        seconds=seconds, name=machine.name, config=config, task=task, mistake=textwrap.dedent(lines)
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            yield run
        finally:
            run.kill()


def gets_in(machine: Machine) -> bool:
    """Whether the operator can log in anew."""
    c = connect(machine.name, machine.directory / "ssh_config")
    c.connect_timeout = 3
    try:
        opened(c).close()
    except Problem:
        return False
    return True


def wait_until(true: Callable[[], bool], seconds: float, step: float = 0.5) -> float:
    """How long it took, in seconds; fails when it takes longer than that."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        time.sleep(step)
    return time.monotonic() - began


def state(machine: Machine) -> str:
    """The rules of both families without their counters, and what sshd reads."""
    return machine.check(
        "for tool in iptables ip6tables; do $tool-save -t filter | grep -v '^[#:]' | grep -v f2b-; done;"
        f" sha256sum {DROPIN}; sshd -T"
    )


@contextmanager
def as_before(machine: Machine) -> Iterator[None]:
    """Whatever is done within, the host is at its end what it was, by itself or not at all."""
    before = state(machine)
    try:
        yield
        assert before == state(machine)
        machine.check("timeout 60 sh -c 'while systemctl is-active fail2ban | grep -q activating; do sleep 0.2; done'")
        assert 0 == machine.fab("check").returncode
    finally:
        machine.exec(f"[ ! -e {REVERT} ] || sh {REVERT}")


# ---------------------------------------------------------------------- F-57, F-60: a door that shuts


@pytest.mark.parametrize(
    ("mistake", "seconds"),
    [
        pytest.param("wrong port", 20, marks=pytest.mark.fault("F-57")),
        pytest.param("wrong CIDR", 60, marks=[pytest.mark.fault("F-57"), pytest.mark.demand]),
        pytest.param(
            "key exchange that the controller lacks", 20, marks=[pytest.mark.fault("F-60"), pytest.mark.demand]
        ),
        pytest.param("AllowUsers for somebody else", 60, marks=[pytest.mark.fault("F-60"), pytest.mark.demand]),
    ],
)
def test_f57_f60_who_shuts_himself_out_is_let_in_again_by_the_host(
    vps: Machine, seen: Seen, mistake: str, seconds: int
) -> None:
    with as_before(vps):
        with begun(vps, mistake, seconds) as run:
            _, told = run.communicate(timeout=120)

        assert 1 == run.returncode
        assert f"no new connection got in, so vps takes it back within {seconds} s" in told
        assert "fab -H vps check" in told
        assert not gets_in(vps), "the door is really shut"
        took = wait_until(lambda: gets_in(vps), TAKEN_BACK)
    seen(f"{mistake}: in again after {took:.0f} s")


@pytest.mark.demand
@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param("wrong port", marks=pytest.mark.fault("F-57")),
        pytest.param("AllowUsers for somebody else", marks=pytest.mark.fault("F-60")),
    ],
)
def test_f57_f60_the_host_needs_no_laptop_for_it(vps: Machine, seen: Seen, mistake: str) -> None:
    with as_before(vps):
        with begun(vps, mistake):
            wait_until(lambda: not gets_in(vps), 30, 0.1)
        assert not gets_in(vps)
        took = wait_until(lambda: gets_in(vps), TAKEN_BACK)
    seen(f"{mistake}, laptop killed (-9): in again after {took:.0f} s")


@pytest.mark.demand
@pytest.mark.fault("F-60")
def test_f60_a_reboot_before_the_proof_takes_it_back_as_well(vps: Machine, seen: Seen) -> None:
    """The timer is gone then; what it would have done is done before sshd starts."""
    with as_before(vps):
        with begun(vps, "AllowUsers for somebody else", 600):
            wait_until(lambda: "somebody" in vps.check("sshd -T | grep -i allowusers || :"), 30, 0.1)
        vps.restart()
        assert gets_in(vps)
    seen("rebooted before the proof: in at once")


@pytest.mark.demand
@pytest.mark.fault("F-60")
@pytest.mark.parametrize("taken_up", ["at boot", "by the next run"])
def test_f60_a_way_back_that_was_cut_off_is_taken_up_again(vps: Machine, seen: Seen, taken_up: str) -> None:
    """The host went down after the way back had begun, and before it had done anything."""
    with as_before(vps):
        with begun(vps, "AllowUsers for somebody else", 600):
            wait_until(lambda: "somebody" in vps.check("sshd -T | grep -i allowusers || :"), 30, 0.1)
        vps.check(f"systemctl stop gatehouse-revert.timer; mv {REVERT} {REVERT}.begun")
        if taken_up == "at boot":
            vps.restart()
        else:
            vps.check(f"sed -i /AllowUsers/d {DROPIN}; systemctl restart ssh")  # somebody at the console
            assert 0 == vps.fab("sshd").returncode
        assert gets_in(vps)
        vps.check(f"! ls {REVERT}*")
    seen(f"cut off in the middle of the way back: taken up {taken_up}")


@pytest.mark.fault("F-60")
def test_f57_f60_the_way_back_works_after_many_restarts(vps: Machine) -> None:
    """A run that is killed and typed again, and again, restarts sshd more often than systemd likes."""
    try:
        vps.check("systemctl reset-failed ssh; for i in 1 2 3 4 5; do systemctl restart ssh; done")
        assert vps.exec("systemctl restart ssh").rc, "systemd starts it as often as one likes: this test shows nothing"
        vps.check(WAY_BACK.format("restart"))
        vps.check("for i in $(seq 50); do ! systemctl -q is-active ssh || exit 0; sleep 0.1; done; exit 1")
        connect(vps.name, vps.directory / "ssh_config").open()
    finally:
        vps.exec("systemctl reset-failed ssh; systemctl start ssh")


@pytest.mark.fault("F-60")
def test_f60_keys_alone_are_refused_to_who_came_by_password(bare: Bare, seen: Seen) -> None:
    host = bare()
    host.check("echo ops:right | chpasswd")
    before = host.check("sshd -T; find /etc /var/lib -newer /proc/1/cmdline -path '*gatehouse*'")
    by_password = 'c.connect_kwargs = {"password": "right", "allow_agent": False, "look_for_keys": False}'
    config = str(host.directory / "ssh_config")
    program = PROGRAM.format(seconds=60, name=host.name, config=config, task="sshd.configure", mistake=by_password)

    run = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, timeout=60)

    assert 3 == run.returncode, run.stdout + run.stderr
    assert f"ssh-copy-id ops@{host.name}" in run.stderr
    assert before == host.check("sshd -T; find /etc /var/lib -newer /proc/1/cmdline -path '*gatehouse*'")
    seen("key-only without a key: exit 3, says ssh-copy-id, nothing changed")


# ---------------------------------------------------------------------- F-58: a boot without rules


def let_in(stranger: Stranger, host: Machine, ports: str = "22,80,443,6082,8080") -> dict[int, set[int]]:
    """The ports that a stranger finds open, by family."""
    found = {}
    for family, target in ((4, host.ip), (6, f"-6 {host.ip6}")):
        said = stranger.check(f"nmap -n -Pn -p {ports} --max-retries 3 -oG - {target}", timeout=120)
        found[family] = {int(port) for port in re.findall(r"(\d+)/open/tcp", said)}
    return found


HALF = "*filter\n:INPUT DROP [0:0]\n:GATEHOUSE - [0:0]\n-A INPUT -j GATE"
BROKEN = {
    "IPv4 nonsense, IPv6 empty": {4: "nonsense\n", 6: ""},
    "IPv4 empty, IPv6 nonsense": {4: "", 6: "nonsense\n"},
    "both cut off in the middle": {4: HALF, 6: HALF},
    "both without SSH": dict.fromkeys((4, 6), "*filter\n:INPUT DROP [0:0]\nCOMMIT\n"),
}


@pytest.mark.fault("F-58")
@pytest.mark.parametrize(
    "broken",
    [name if name == "IPv4 nonsense, IPv6 empty" else pytest.param(name, marks=pytest.mark.demand) for name in BROKEN],
)
def test_f58_a_boot_with_broken_rules_lets_ssh_in_and_nothing_else(
    vps: Machine, stranger: Stranger, seen: Seen, broken: str
) -> None:
    whole = {path: vps.check(f"cat {path}") for path in RULES.values()}
    banned = "203.0.113.58"
    try:
        vps.put({RULES[family]: text.encode() for family, text in BROKEN[broken].items()}, 0o640)
        vps.container.restart(timeout=20)
        wait_until(lambda: gets_in(vps), 60)
        serves = "systemctl is-active fail2ban && ss -Hltn 'sport = :443' | grep -q ."
        wait_until(lambda: vps.exec(serves).rc == 0, 90)

        assert {4: {22}, 6: {22}} == let_in(stranger, vps)
        told = vps.fab("status")
        assert 1 == told.returncode
        assert "gatehouse-failsafe" in told.stdout

        vps.check(f"fail2ban-client set sshd banip {banned}")
        mended = vps.fab("firewall")
        assert 0 == mended.returncode, mended.stdout + mended.stderr
        assert {4: OPEN, 6: OPEN} == let_in(stranger, vps)
        wait_until(lambda: f"-s {banned}/32" in vps.check("iptables -S"), 10)
        assert "" == vps.check("systemctl --failed --plain --no-legend")
        assert 0 == vps.fab("check").returncode
    finally:
        vps.exec(f"fail2ban-client unban {banned}")
        if whole != {path: vps.check(f"cat {path}") for path in RULES.values()}:
            vps.put({path: text.encode() for path, text in whole.items()}, 0o640)
            vps.fab("firewall")
    seen(f"{broken}: SSH open, 80 and 443 shut; named by `status`, mended by `firewall`, bans kept")


# ---------------------------------------------------------------------- F-61: bans beside the rules


@pytest.mark.fault("F-61")
@pytest.mark.demand
def test_f61_bans_survive_ten_firewall_runs_and_no_jump_is_there_twice(vps: Machine, seen: Seen) -> None:
    addresses = {"iptables": "203.0.113.61", "ip6tables": "2001:db8::61"}
    for address in addresses.values():
        vps.check(f"fail2ban-client set sshd banip {address}")
    try:
        for _ in range(10):
            for tool in addresses:
                vps.check(f"{tool} -D GATEHOUSE -p tcp -m multiport --dports 80,443 -j ACCEPT")
            done = vps.fab("firewall")
            assert "load the rules" in done.stdout, done.stdout + done.stderr
        for tool, address in addresses.items():
            rules = vps.check(f"{tool} -S").splitlines()
            assert len(rules) == len(set(rules))
            assert 1 == sum(f" -s {address}/" in rule for rule in rules)
            assert 1 == sum(rule.startswith("-A INPUT") and "f2b-sshd" in rule for rule in rules)
            assert 1 == sum(rule == "-A INPUT -j GATEHOUSE" for rule in rules)
    finally:
        for address in addresses.values():
            vps.check(f"fail2ban-client unban {address}")
    seen("ten loads: both bans in force, each jump once")


# ---------------------------------------------------------------------- F-59, F-62: what is open

LOCAL = re.compile(r"127\.|\[::1\]|\[::ffff:127\.")


@pytest.mark.parametrize(
    "family", [pytest.param(4, marks=pytest.mark.fault("F-62")), pytest.param(6, marks=pytest.mark.fault("F-59"))]
)
def test_f59_f62_of_all_tcp_ports_a_stranger_finds_three_and_no_answer_from_the_others(
    vps: Machine, stranger: Stranger, seen: Seen, family: int
) -> None:
    scan_all(vps, stranger, family)
    seen(f"IPv{family}: 22, 80, 443 open, 65532 silent")


@pytest.mark.demand
@pytest.mark.fault("F-59")
@pytest.mark.fault("F-62")
def test_f59_f62_and_the_same_on_debian_12(vps12: Machine, stranger: Stranger, seen: Seen) -> None:
    for family in (4, 6):
        scan_all(vps12, stranger, family)
    seen("the same on Debian 12")


def scan_all(host: Machine, stranger: Stranger, family: int) -> None:
    target = host.ip if family == 4 else f"-6 {host.ip6}"
    # Packets at a fixed pace: ports that drop are not waited for one by one.
    said = stranger.check(f"nmap -n -Pn -p- --min-rate 20000 --max-retries 3 -oG - {target}", timeout=300)
    states = dict(re.findall(r"(\d+)/([a-z|]+)/tcp", said))
    assert {int(port) for port, state in states.items() if state == "open"} == OPEN
    assert set(states.values()) == {"open"}, "a port that answers with a refusal tells that a host is there"
    assert "Ignored State: filtered (65532)" in said


@pytest.mark.fault("F-59")
@pytest.mark.fault("F-62")
def test_f59_f62_no_udp_port_says_anything(vps: Machine, stranger: Stranger, seen: Seen) -> None:
    for target in (vps.ip, f"-6 {vps.ip6}"):
        scan = f"nmap -n -Pn -sU --top-ports 1000 --min-rate 2000 --max-retries 1 -oG - {target}"
        said = stranger.check(scan, timeout=120)
        assert "Ignored State: open|filtered (1000)" in said
    seen("1000 UDP ports silent in both families")


@pytest.mark.fault("F-62")
def test_f62_with_the_firewall_flushed_the_binds_hold_alone(vps: Machine, stranger: Stranger, seen: Seen) -> None:
    try:
        for tool in ("iptables", "ip6tables"):
            vps.check(f"{tool} -P INPUT ACCEPT && {tool} -F")
        every = "1-10000,11211,27017"  # and beyond these, the host's own list
        assert {4: OPEN, 6: OPEN} == let_in(stranger, vps, every)
        listening = [line.split() for line in vps.check("ss -Hltun").splitlines()]
        outside = {(way, place.rpartition(":")[2]) for way, _, _, _, place, *_ in listening if not LOCAL.match(place)}
        assert {("tcp", str(port)) for port in OPEN} == outside
    finally:
        vps.check("systemctl restart netfilter-persistent")
    seen("rules flushed: still 22, 80, 443 alone, by TCP and UDP")


@pytest.mark.fault("F-62")
def test_f62_what_binds_to_all_addresses_is_held_by_the_rules_alone(
    vps: Machine, stranger: Stranger, seen: Seen
) -> None:
    ports = (3306, 6379, 8888, 11211)
    ways = [f"TCP4-LISTEN:{port},fork" for port in ports] + [f"TCP6-LISTEN:{port},fork,ipv6only=1" for port in ports]
    run = " ".join(f"socat {way} /dev/null & echo $! >> /run/listen;" for way in ways)
    vps.check(f"{{ {run} }} > /dev/null 2>&1")
    try:
        wait_until(lambda: len(vps.check("ss -Hltnp | grep socat || :").splitlines()) == len(ways), 10)
        assert {4: {22}, 6: {22}} == let_in(stranger, vps, f"22,{','.join(map(str, ports))}")
    finally:
        vps.check("xargs kill < /run/listen; rm /run/listen")
    seen("daemons that listen everywhere are not reached")


# ---------------------------------------------------------------------- F-15: the host's own guards


def failed_login(machine: Machine) -> str:
    """The name of what stopped a login with a key that nobody knows."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.MissingHostKeyPolicy())
    try:
        client.connect(machine.ip, username="ops", pkey=STRANGE, timeout=5, allow_agent=False, look_for_keys=False)
    except Exception as error:
        return type(error).__name__
    finally:
        client.close()
    return "in"


STRANGE = paramiko.RSAKey.generate(2048)


@pytest.mark.fault("F-15")
@pytest.mark.parametrize("name", ["vps", pytest.param("vps12", marks=pytest.mark.demand)])
def test_f15_sixty_quick_logins_half_of_them_failed_ban_no_operator(
    request: pytest.FixtureRequest, seen: Seen, name: str
) -> None:
    host: Machine = request.getfixturevalue(name)
    outcomes = [(failed_login(host), gets_in(host)) for _ in range(30)]

    assert {("AuthenticationException", True)} == set(outcomes)
    banned = host.check("fail2ban-client banned")
    for network in host.check("cat /etc/gatehouse/operators").split():
        assert network.partition("/")[0] not in banned
    seen("30 logins and 30 failed ones: none turned away")


@pytest.mark.fault("F-15")
def test_f15_a_ban_is_told_at_once_with_the_way_out(vps: Machine, seen: Seen) -> None:
    """An operator's address that is banned all the same: by hand, or before anybody knew it."""
    mine = vps.ip.rpartition(".")[0] + ".1"
    vps.check(f"iptables -I INPUT -s {mine} -p tcp --dport 22 -j REJECT --reject-with icmp-port-unreachable")
    try:
        began = time.monotonic()
        told = vps.fab("status")
        took = time.monotonic() - began
    finally:
        vps.check(f"iptables -D INPUT -s {mine} -p tcp --dport 22 -j REJECT --reject-with icmp-port-unreachable")

    assert 1 == told.returncode
    assert "Connection refused" in told.stderr
    assert "your address is banned" in told.stderr
    assert took < 10
    seen("a ban: exit 1 at once, told as a ban with the way out")


# ---------------------------------------------------------------------- F-73: sudo


@pytest.mark.demand
@pytest.mark.fault("F-73")
def test_f73_no_sudo_rule_is_made_and_what_is_there_is_told(vps: Machine, seen: Seen) -> None:
    assert [] == [path for path in (CHECKOUT / "templates").rglob("*") if "sudoers" in path.name]
    # The image's own, and nobody else's: `history` has every file of /etc since the first run.
    assert ["README", "ops"] == vps.check("ls /etc/sudoers.d").split()
    assert 1 == len(vps.check("git -C /etc log --oneline -- sudoers sudoers.d").splitlines())
    vps.check("visudo -c")

    wide, broken = "/etc/sudoers.d/wide", "/etc/sudoers.d/broken"
    vps.put({wide: b"example-com ALL=(root) NOPASSWD: /usr/bin/tar *\n", broken: b"nonsense\n"}, 0o440)
    try:
        told = vps.fab("status", "--json")
    finally:
        vps.check(f"rm {wide} {broken}")

    assert 1 == told.returncode
    sudo = {one["name"]: one for one in json.loads(told.stdout)["readings"] if one["layer"] == "sudo"}
    assert ("ALL=(ALL) NOPASSWD: ALL", "") == (sudo["ops"]["value"], sudo["ops"]["fault"])
    assert "a site's user may become root" == sudo["example-com"]["fault"]
    assert "visudo -c" in sudo["sudoers"]["fault"]
    seen("none made; status names every rule without a password, and a site's user in one is a fault")


# ---------------------------------------------------------------------- F-74: between the layers

LISTENS = """
use IO::Socket::INET;
my $door = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 8080, Listen => 5, ReuseAddr => 1) or die;
print "listening\\n"; $| = 1; print "\\n";
$SIG{ALRM} = sub { exit }; alarm 40;
while (my $visitor = $door->accept) {
    print "A VISITOR\\n"; print $visitor "HTTP/1.1 200 OK\\r\\n\\r\\nforged"; close $visitor;
}
"""


@pytest.mark.fault("F-74")
def test_f74_a_site_s_user_speaks_to_no_inner_port(host: Machine, seen: Seen) -> None:
    knock = "bash -c 'exec 3<> /dev/tcp/127.0.0.1/{}'"
    for port in (6082, 8080, 8081):
        assert "refused" in host.exec(knock.format(port), user="example-com").err
        assert "refused" in host.exec(knock.format(port), user="www-data").err
        host.check(knock.format(port))
    for user, port in (("haproxy", 8081), ("vcache", 8080)):
        host.check(knock.format(port), user=user)
    seen("a site's user is refused at Varnish, Apache and Varnish's console")


@pytest.mark.demand
@pytest.mark.fault("F-74")
def test_f74_who_listens_in_apache_s_place_gets_no_visitor(vps: Machine, stranger: Stranger, seen: Seen) -> None:
    url = f"https://www.example.com/?lockout={time.time()}"
    vps.put({"/run/listens.pl": LISTENS.encode()})
    with as_before(vps):
        try:
            vps.check("systemctl stop apache2")
            vps.check("perl /run/listens.pl > /tmp/listens.log 2>&1 & sleep 0.5", user="example-com")
            assert "127.0.0.1:8080" in vps.check("ss -Hltn 'sport = :8080'")
            answer = stranger.curl("-o", "/dev/null", "-w", "%{http_code}", url)
            assert "503" == answer.out
            assert "A VISITOR" not in vps.check("cat /tmp/listens.log")
            # The same without our rule: it would have been heard.
            vps.check("iptables -D OUTPUT -o lo -p tcp -m tcp --tcp-flags SYN SYN -j GATEHOUSE-INNER")
            stranger.curl("-o", "/dev/null", url + "2")
            assert "A VISITOR" in vps.check("cat /tmp/listens.log")
        finally:
            vps.exec("pkill -u example-com -f listens.pl; rm -f /run/listens.pl /tmp/listens.log")
            vps.check("systemctl start apache2")
            vps.fab("firewall")
    seen("a site's user on Apache's port: nobody comes")


@pytest.mark.demand
@pytest.mark.fault("F-57")
def test_f57_a_kernel_without_the_owner_match_keeps_the_rules_it_had(vps: Machine, seen: Seen) -> None:
    library = vps.check("ls /usr/lib/*/xtables/libxt_owner.so").strip()
    with as_before(vps):
        for tool in ("iptables", "ip6tables"):
            vps.check(f"{tool} -F GATEHOUSE-INNER")
        vps.check(f"mv {library} {library}.away")
        try:
            rules = state(vps)
            told = vps.fab("firewall.apply")

            assert 1 == told.returncode
            assert "owner" in told.stderr, told.stderr
            assert rules == state(vps)
        finally:
            vps.check(f"mv {library}.away {library}")
            assert 0 == vps.fab("firewall").returncode
    seen("a match that is missing: exit 1 with its name, no half-load")
