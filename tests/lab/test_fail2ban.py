"""Fail2ban for real: whoever guesses passwords finds the door shut, and is let in again when an operator says so."""

import itertools
import json
import shlex
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_interface

import pytest

from .conftest import Bare
from .lab import Lab
from .machine import Machine, Result, Stranger

SECRET = "/var/www/example.com/public_html/www/secret"
WEB = "https://www.example.com/secret/"
RIGHT, WRONG = ("-u", "guest:right"), ("-u", "guest:wrong")
HTACCESS = f"AuthType Basic\nAuthName staff\nAuthUserFile {SECRET}/.htpasswd\nRequire valid-user\n"

# A program by the name of sshd writes what sshd writes, and stays until journald has noted its name and its user.
SPEAK = """\
import socket, sys, time
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for _ in range(5):
    journal.sendto(f"<38>sshd[1]: Failed password for root from {sys.argv[1]} port 4242 ssh2".encode(), "/dev/log")
time.sleep(1)
"""


class Attacker:
    """Somebody beside the stranger, with an address in each family, so that a ban shuts out nobody else."""

    numbers = itertools.count(201)

    def __init__(self, stranger: Stranger) -> None:
        self.stranger = stranger
        stranger.put({"/tmp/wrong": b"#!/bin/sh\necho wrong\n"}, 0o755)
        place = next(self.numbers)
        device = "ip -oneline -{} address show dev eth0 scope global | awk '{{ print $4; exit }}'"
        four, six = (ip_interface(stranger.check(device.format(family)).strip()) for family in (4, 6))
        self.own = {4: str(four.network[place]), 6: str(six.network[place])}
        self.on_wire = [f"{self.own[4]}/{four.network.prefixlen}", f"{self.own[6]}/{six.network.prefixlen}"]
        for address in self.on_wire:
            stranger.check(f"ip address replace {address} dev eth0 nodad")

    def leave(self) -> None:
        for address in self.on_wire:
            self.stranger.check(f"ip address del {address} dev eth0")

    def greeted(self, host: Machine, family: int, port: int = 22) -> bool:
        """Whether the port lets us in and says something: sshd's banner, or the answer to a line of nonsense."""
        said = self.stranger.exec(
            f"printf 'HELP\\r\\n\\r\\n' | nc -{family} -s {self.own[family]} -w 3 {_at(host, family)} {port}"
        )
        return bool(said.out)

    def refused(self, host: Machine, family: int, port: int) -> bool:
        """Whether the host turns a new connection away at once."""
        said = self.stranger.exec(f"nc -{family} -z -v -s {self.own[family]} -w 3 {_at(host, family)} {port}")
        return said.rc != 0 and "refused" in said.err

    def log_in(self, host: Machine, family: int) -> Result:
        """One login with a password, which sshd does not even ask for."""
        options = {
            "BindAddress": self.own[family], "PreferredAuthentications": "password", "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR", "ConnectTimeout": 5,
        }  # fmt: skip
        words = " ".join(f"-o {name}={value}" for name, value in options.items())
        ask = "SSH_ASKPASS=/tmp/wrong SSH_ASKPASS_REQUIRE=force setsid --wait"
        return self.stranger.exec(f"{ask} ssh {words} ops@{_at(host, family)} true", timeout=60)

    def log_in_until_refused(self, host: Machine, family: int) -> bool:
        """Again and again, as guessers do: sshd of Debian 13 itself makes an address wait after some failures."""

        def refused() -> bool:
            self.log_in(host, family)
            return self.refused(host, family, 22)

        return eventually(refused, 60)

    def fetch(self, host: Machine, family: int, url: str, *more: str) -> str:
        """The status of the answer, `000` when there is none. Whose certificate it is, other tests tell."""
        place = host.ip if family == 4 else f"[{host.ip6}]"
        quiet = ["-sk", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10"]
        way = ["--interface", self.own[family], "--connect-to", f"::{place}:"]
        return self.stranger.exec(shlex.join(["curl", *quiet, *way, *more, url])).out


def _at(host: Machine, family: int) -> str:
    return host.ip if family == 4 else host.ip6


def eventually(true: Callable[[], bool], seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.3)
    return True


@pytest.fixture
def attacker(stranger: Stranger, host: Machine) -> Iterator[Attacker]:
    attacker = Attacker(stranger)
    yield attacker
    for address in attacker.own.values():
        host.exec(f"fail2ban-client unban {address}")
    attacker.leave()


@pytest.fixture
def secret(host: Machine) -> Iterator[None]:
    """A directory of the site that asks for a password, made by the site's own user."""
    run = f"runuser -u $(stat -c %U $(dirname {SECRET})) --"
    host.check(f"{run} mkdir -p {SECRET}")
    password = host.check("openssl passwd -apr1 right").strip()
    for name, text in (("index.html", "staff only\n"), (".htpasswd", f"guest:{password}\n"), (".htaccess", HTACCESS)):
        host.check(f"{run} tee {SECRET}/{name}", stdin=text)
    yield
    host.check(f"rm -r {SECRET}")


def banned_by(host: Machine, address: str) -> list[str]:
    answer = host.check(f"fail2ban-client banned {address}")
    return [name for name in ("sshd", "apache-auth", "by-hand", "recidive") if repr(name) in answer]


# ---------------------------------------------------------------------- SSH


def test_failed_ssh_logins_shut_an_address_out_and_unban_lets_it_in_again(
    host: Machine, attacker: Attacker, stranger: Stranger
) -> None:
    assert [attacker.greeted(host, family) for family in (4, 6)] == [True, True]
    with ThreadPoolExecutor() as pool:
        assert [True, True] == list(pool.map(partial(attacker.log_in_until_refused, host), (4, 6)))
    for family in (4, 6):
        assert not attacker.refused(host, family, 443), "who fails at SSH may still see the sites"
    assert stranger.exec(f"nc -z -w 3 {host.ip} 22").rc == 0, "somebody else did nothing"

    for family in (4, 6):
        done = host.fab("fail2ban.unban", attacker.own[family])
        assert done.returncode == 0, done.stderr
        assert f"{attacker.own[family]} is let in again; it was banned by sshd" in done.stdout
    for family in (4, 6):
        # sshd of Debian 13 has a memory of its own (PerSourcePenalties): half a minute at most.
        assert eventually(partial(attacker.greeted, host, family), 60)


# ---------------------------------------------------------------------- HTTP


@pytest.mark.parametrize("family", [4, 6])
def test_five_wrong_http_passwords_through_all_proxies_shut_the_real_client_out(
    host: Machine, attacker: Attacker, secret: None, family: int
) -> None:
    assert attacker.fetch(host, family, WEB, *RIGHT) == "200"
    assert attacker.fetch(host, family, WEB) == "401"
    for _ in range(5):
        attacker.fetch(host, family, WEB, *WRONG, "-H", "X-Forwarded-For: 203.0.113.77")
    assert eventually(lambda: attacker.refused(host, family, 443))
    assert attacker.refused(host, family, 80)
    assert banned_by(host, attacker.own[family]) == ["apache-auth"]
    assert banned_by(host, "203.0.113.77") == []
    assert attacker.fetch(host, 10 - family, WEB) == "401", "the other address did nothing"
    assert attacker.greeted(host, family), "SSH is another jail's"

    done = host.fab("fail2ban.unban", attacker.own[family])
    assert "it was banned by apache-auth" in done.stdout
    assert attacker.fetch(host, family, WEB, *RIGHT) == "200"


def test_who_was_let_in_stays_in_after_fail2ban_was_killed(host: Machine, attacker: Attacker, secret: None) -> None:
    # fail2ban notes how far it has read every five seconds: the other address makes it note that just before.
    attacker.fetch(host, 6, WEB, *WRONG)
    time.sleep(1.5)
    for _ in range(5):
        attacker.fetch(host, 4, WEB, *WRONG)
    assert eventually(lambda: banned_by(host, attacker.own[4]) == ["apache-auth"])
    host.fab("fail2ban.unban", attacker.own[4])
    host.check("systemctl kill --signal=KILL fail2ban")
    assert eventually(lambda: host.exec("fail2ban-client ping").rc == 0)
    time.sleep(3)  # it has read the end of every log by now
    assert banned_by(host, attacker.own[4]) == []
    assert attacker.fetch(host, 4, WEB, *RIGHT) == "200"


def test_a_closed_directory_bans_nobody(host: Machine, attacker: Attacker) -> None:
    for _ in range(8):
        assert attacker.fetch(host, 4, "https://www.example.com/.git/config") in ("403", "404")
    time.sleep(3)
    assert banned_by(host, attacker.own[4]) == []


def test_the_error_log_of_every_site_is_read(host: Machine) -> None:
    read = host.check("fail2ban-client get apache-auth logpath")
    for site in ("example.com", "kiosk.co.test"):
        assert f"/var/www/{site}/log/error_log" in read


# ---------------------------------------------------------------------- who is never banned


def test_an_operators_failures_never_ban_while_anybody_elses_do(host: Machine, lab: Lab) -> None:
    operator = lab.directory / "fleet.yml"
    mine = json.loads(operator.read_text().partition("\n")[2])["operators"]
    other = "203.0.113.50"
    for address in (*mine, other):
        _pretend(host, address)
    try:
        assert eventually(lambda: banned_by(host, other) == ["sshd"])
        assert [banned_by(host, address) for address in mine] == [[], []]
        by_hand = host.fab("fail2ban.ban", mine[0])
        assert by_hand.returncode == 3
        assert banned_by(host, mine[0]) == []
    finally:
        host.check(f"fail2ban-client unban {other}")


def test_a_site_user_cannot_have_an_innocent_address_banned(host: Machine) -> None:
    _pretend(host, "203.0.113.51", user="www-data")
    time.sleep(3)
    assert "203.0.113.51" in host.check("journalctl --no-pager _COMM=sshd _UID=33"), "the lines did reach the journal"
    assert banned_by(host, "203.0.113.51") == []


def _pretend(host: Machine, address: str, user: str = "root") -> None:
    """Five failed logins from that address, as this user would write them to the journal."""
    host.check("cp $(readlink -f /usr/bin/python3) /var/tmp/sshd && chmod 0755 /var/tmp/sshd")
    host.check(f"PYTHONHOME=/usr /var/tmp/sshd - {address}", stdin=SPEAK, user=user)
    host.check("rm /var/tmp/sshd")


# ---------------------------------------------------------------------- what a ban survives


def test_bans_survive_the_firewall_and_a_restart_and_no_rule_is_there_twice(host: Machine) -> None:
    addresses = ("203.0.113.60", "2001:db8::60")
    for address in addresses:
        assert host.fab("fail2ban.ban", address).returncode == 0
    try:
        for event in (
            "systemctl restart netfilter-persistent",
            "systemctl reload fail2ban",
            "systemctl restart fail2ban",
        ):
            host.check(event)
            _fab(host, "firewall")
            for tool, address in zip(("iptables", "ip6tables"), addresses, strict=True):
                assert eventually(partial(_in_force, host, tool, address))
                rules = host.check(f"{tool} -S").split("\n")[:-1]
                assert len(rules) == len(set(rules)), event
                order = [rule for rule in rules if rule.startswith("-A INPUT")]
                assert order[-1] == "-A INPUT -j GATEHOUSE", "bans come before what lets in"
                assert len(order) > 1
    finally:
        for address in addresses:
            host.fab("fail2ban.unban", address)


def _in_force(host: Machine, tool: str, address: str) -> bool:
    return f" -s {address}/" in host.check(f"{tool} -S")


def test_an_address_is_told_as_banned_or_not_on_the_way(host: Machine) -> None:
    assert "203.0.113.61 was not banned" in host.fab("fail2ban.unban", "203.0.113.61").stdout
    assert "is banned by sshd" in host.fab("fail2ban.ban", "203.0.113.61", "--jail", "sshd").stdout
    jails = {jail["name"]: jail for jail in json.loads(host.fab("fail2ban.status", "--json").stdout)["jails"]}
    assert {"sshd", "apache-auth", "haproxy-http-auth", "recidive"} <= set(jails)
    assert "203.0.113.61" in [ban["address"] for ban in jails["sshd"]["bans"]]
    lifted = json.loads(host.fab("fail2ban.unban", "203.0.113.61", "--json").stdout)
    assert lifted["jails"] == ["sshd"]
    assert host.fab("fail2ban.unban", "not-an-address").returncode == 2
    assert host.fab("fail2ban.ban", "203.0.113.61", "--jail", "nobody").returncode == 1


# ---------------------------------------------------------------------- by hand


def test_unban_says_which_lines_made_the_ban_and_it_holds_over_restarts(vps: Machine) -> None:
    address = "203.0.113.70"
    _pretend(vps, address)
    try:
        assert eventually(lambda: banned_by(vps, address) == ["sshd"])
        lifted = json.loads(vps.fab("fail2ban.unban", address, "--json").stdout)
        assert lifted["jails"] == ["sshd"]
        assert any("Failed password for root from 203.0.113.70" in line for line in lifted["why"])
        for signal in ("TERM", "KILL"):
            vps.check(f"systemctl kill --signal={signal} fail2ban; sleep 1; systemctl start fail2ban")
            assert eventually(lambda: vps.exec("fail2ban-client ping").rc == 0)
            time.sleep(2)  # it has read what the journal has
            assert banned_by(vps, address) == []
    finally:
        vps.exec(f"fail2ban-client unban {address}")


@pytest.mark.demand
def test_each_ban_by_hand_has_its_own_end_and_keeps_it_over_a_restart(vps: Machine) -> None:
    short, long = "203.0.113.71", "2001:db8::71"
    try:
        assert vps.fab("fail2ban.ban", long).returncode == 0
        assert "is banned by by-hand until 2" in vps.fab("fail2ban.ban", short, "--for", "8s").stdout
        assert _in_force(vps, "iptables", short)
        assert eventually(lambda: not _in_force(vps, "iptables", short), 30)
        assert _in_force(vps, "ip6tables", long), "four weeks are not over"
        vps.check("systemctl restart fail2ban")
        assert eventually(lambda: _in_force(vps, "ip6tables", long))
        jails = {jail["name"]: jail for jail in json.loads(vps.fab("fail2ban.status", "--json").stdout)["jails"]}
        (ban,) = jails["by-hand"]["bans"]
        assert (ban["address"], ban["layer"]) == (long, "iptables, every port")
        since, until = (time.mktime(time.strptime(ban[when], "%Y-%m-%d %H:%M:%S")) for when in ("since", "until"))
        assert abs(until - since - 28 * 86400) < 7200, "the clocks may have been put forward"
        assert jails["recidive"]["failures"] == 0
    finally:
        done = vps.fab("fail2ban.unban", "--all")
    assert long in done.stdout
    assert not _in_force(vps, "ip6tables", long)


@pytest.mark.demand
def test_unban_clears_haproxys_count_and_rules_that_no_jail_knows(vps: Machine, stranger: Stranger) -> None:
    attacker = Attacker(stranger)
    address = attacker.own[4]
    try:
        assert attacker.fetch(vps, 4, WEB.replace("secret/", "")) == "200"
        assert vps.fab("fail2ban.ban", "203.0.113.72", "--jail", "sshd").returncode == 0
        vps.check(f"iptables -I f2b-sshd -s {address} -j REJECT; iptables -I INPUT -s {address} -j DROP")
        assert attacker.fetch(vps, 4, WEB) == "000"
        told = vps.fab("fail2ban.status")
        assert told.returncode == 1
        assert f"no jail knows of this rule: -A f2b-sshd -s {address}/32" in told.stdout
        lifted = json.loads(vps.fab("fail2ban.unban", address, "--json").stdout)
        assert len(lifted["rules"]) == 2
        assert any("http_req_rate" in row for row in lifted["rows"])
        assert json.loads(vps.fab("fail2ban.unban", address, "--json").stdout)["rows"] == []
        assert attacker.fetch(vps, 4, WEB.replace("secret/", "")) == "200"
    finally:
        vps.exec(f"iptables -D f2b-sshd -s {address} -j REJECT; iptables -D INPUT -s {address} -j DROP")
        vps.fab("fail2ban.unban", "203.0.113.72")
        attacker.leave()


def test_however_often_it_is_killed_it_comes_back(vps: Machine) -> None:
    for _ in range(7):
        vps.check("systemctl kill --signal=KILL fail2ban; systemctl start fail2ban")
    assert eventually(lambda: vps.exec("fail2ban-client ping").rc == 0)


def test_again_changes_nothing(host: Machine) -> None:
    done = host.fab("fail2ban")
    assert "0 changed, 0 failed" in done.stdout


# ---------------------------------------------------------------------- daemons that come later

HAPROXY = """\
global
    log /dev/log local0
defaults
    mode http
    log global
    option httplog
    timeout connect 1s
    timeout client 9s
    timeout server 9s
userlist staff
    user guest insecure-password right
frontend guarded
    bind :80,:::80 v6only
    http-request auth unless { http_auth(staff) }
    http-request return status 200
"""
POSTFIX = (
    "postconf -e smtpd_sasl_type=dovecot smtpd_sasl_path=private/auth smtpd_sasl_auth_enable=yes smtpd_tls_auth_only=no"
)
DOVECOT = """\
service auth {
  unix_listener /var/spool/postfix/private/auth {
    mode = 0666
  }
}
"""
GUESSES = {
    "haproxy-http-auth": "-u guest:wrong http://{}/",
    "vsftpd": "-u ops:wrong ftp://{}/",
    "dovecot": "-u ops:wrong imap://{}/",
    "postfix-sasl": "--login-options AUTH=PLAIN -u ops:wrong --mail-from a@b.test --mail-rcpt c@d.test smtp://{}/",
    "proftpd": "-u ops:wrong ftp://{}/",
}


@pytest.mark.parametrize("release", ["trixie", pytest.param("bookworm", marks=pytest.mark.demand)])
def test_every_daemon_with_a_login_gets_its_jail_once_it_is_installed(
    bare: Bare, stranger: Stranger, release: str
) -> None:
    machine = bare(release)
    machine.check("apt-get update -q")
    _fab(machine, "fail2ban")
    assert _jails(machine) == ["by-hand", "recidive", "sshd"]

    _install(machine, "haproxy", "vsftpd", "dovecot-imapd", "postfix")
    cleartext = "auth_allow_cleartext = yes" if release == "trixie" else "disable_plaintext_auth = no"
    machine.put({
        "/etc/haproxy/haproxy.cfg": HAPROXY.encode(),
        "/etc/dovecot/conf.d/99-test.conf": f"{DOVECOT}{cleartext}\n".encode(),
    })  # fmt: skip
    machine.check(f"{POSTFIX} && systemctl restart haproxy dovecot postfix")
    assert "fail2ban restarted" in _fab(machine, "fail2ban")
    for jail in ("haproxy-http-auth", "vsftpd", "dovecot", "postfix-sasl"):
        _guess(stranger, machine, jail)

    machine.check("apt-get purge -y -q vsftpd")
    _install(machine, "proftpd-core")
    assert "fail2ban restarted" in _fab(machine, "fail2ban")
    assert _jails(machine) == [
        "by-hand", "dovecot", "haproxy-http-auth", "postfix-sasl", "proftpd", "recidive", "sshd",
    ]  # fmt: skip
    _guess(stranger, machine, "proftpd")


def _fab(machine: Machine, *args: str) -> str:
    done = machine.fab(*args)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _jails(machine: Machine) -> list[str]:
    return machine.check("fail2ban-client status | sed -n 's/.*Jail list:[[:space:]]*//p'").strip().split(", ")


def _install(machine: Machine, *packages: str) -> None:
    names = " ".join(packages)
    machine.check(f"DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends {names}", timeout=300)


def _guess(stranger: Stranger, machine: Machine, jail: str) -> None:
    """Both families fail at this daemon, each from an address of its own: the jail finds just them."""
    attacker = Attacker(stranger)
    places = {4: machine.ip, 6: f"[{machine.ip6}]"}
    tries = [
        f"curl -s --max-time 20 --interface {attacker.own[family]} {GUESSES[jail].format(places[family])} &"
        for family in (4, 6)
        for _ in range(6)
    ]
    try:
        stranger.exec(f"( {' '.join(tries)} ) < /dev/null > /dev/null 2>&1")
        held = f"fail2ban-client get {jail} banip"
        found = eventually(lambda: set(attacker.own.values()) <= set(machine.check(held).split()), 40)
        assert found, machine.check(f"fail2ban-client status {jail}")
    finally:
        attacker.leave()
