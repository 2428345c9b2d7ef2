"""Fail2ban's chapter: what it wishes for given facts, how it reads log lines, and what it refuses."""

import configparser
import re
import subprocess
from collections.abc import Callable

import pytest
from fabric import Connection
from invoke import Collection, Exit
from invoke.parser import Parser

from fabfile import fail2ban, firewall
from fabfile.engine import Host, render
from fabfile.engine.changes import Load, PutFile
from fabfile.engine.facts import Facts, Unit
from fabfile.engine.host import OPERATORS
from fabfile.fail2ban.addresses import address_of, row_key
from fabfile.fail2ban.banning import BAN, BY_HAND, UNBAN, read_banned, read_lifted
from fabfile.fail2ban.jails import Ban, Limited, read, read_jails
from fabfile.model import Fleet, Refusal, Site

ALL = ("apache2", "haproxy", "vsftpd", "proftpd-core", "dovecot-core", "postfix")
Wish = Callable[..., dict[str, str]]


def facts(*packages: str, **known: object) -> Facts:
    given = {"ssh_ports": (22,), "client": "192.0.2.9", "packages": dict.fromkeys(packages, "1"), **known}
    return Facts(system="debian", release="13", **given)  # type: ignore[arg-type]


@pytest.fixture
def wished(monkeypatch: pytest.MonkeyPatch) -> Wish:
    """The files that a step puts on a host with these facts."""

    def put(
        step: object, seen: Facts, *sites: Site, operators: tuple[str, ...] = (), **options: object
    ) -> dict[str, str]:
        host = Host("vps", Fleet(operators=operators), visit=None)  # type: ignore[arg-type]
        host.sites, host._facts = sites, seen
        monkeypatch.setattr(Host, "of", classmethod(lambda cls, c: host))
        step.body.__wrapped__(None, **options)  # type: ignore[attr-defined]
        return {change.path: change.content.decode() for change in host._pending if isinstance(change, PutFile)}

    return put


def ini(text: str) -> configparser.ConfigParser:
    """As fail2ban reads it: Python's own parser; its interpolation is left out."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.read_string(text)
    return parser


@pytest.fixture
def jails(wished: Wish) -> Callable[..., configparser.ConfigParser]:
    return lambda *packages, **known: ini(wished(fail2ban.configure, facts(*packages, **known))[fail2ban.JAIL])


# ---------------------------------------------------------------------- jails


def test_the_tutorials_numbers_are_the_defaults(jails: Callable[..., configparser.ConfigParser]) -> None:
    default = jails()["DEFAULT"]
    assert (default["bantime"], default["findtime"], default["maxretry"]) == ("172800", "60", "5")


def test_a_bare_host_guards_ssh_alone_and_the_whole_stack_guards_every_login(
    jails: Callable[..., configparser.ConfigParser],
) -> None:
    assert jails().sections() == ["sshd", "by-hand", "recidive"]
    assert jails(*ALL).sections() == [
        "sshd", "apache-auth", "haproxy-http-auth", "vsftpd", "proftpd", "dovecot", "postfix-sasl", "by-hand",
        "recidive",
    ]  # fmt: skip


def test_every_jail_is_on_and_says_where_it_listens(jails: Callable[..., configparser.ConfigParser]) -> None:
    for name, jail in jails(*ALL).items():
        if name == "DEFAULT":
            continue
        assert jail["enabled"] == "true", name
        assert jail["backend"] == ("systemd" if "journalmatch" in jail else "auto"), name
        assert ("journalmatch" in jail) != ("logpath" in jail), name
        assert "port" in jail or jail["banaction"] == "%(banaction_allports)s", name


def test_bans_go_through_iptables_and_never_through_names(jails: Callable[..., configparser.ConfigParser]) -> None:
    default = jails()["DEFAULT"]
    assert default["banaction"] == "iptables-multiport"
    assert default["banaction_allports"] == "iptables-allports"
    assert default["usedns"] == "no"


def test_the_ssh_jail_guards_the_ports_that_sshd_has(jails: Callable[..., configparser.ConfigParser]) -> None:
    assert jails(ssh_ports=(22, 2222))["sshd"]["port"] == "22,2222"


def test_ports_are_numbers_since_a_slim_host_cannot_look_names_up(
    jails: Callable[..., configparser.ConfigParser],
) -> None:
    for jail in jails(*ALL).values():
        assert re.fullmatch(r"\d+(,\d+)*", jail.get("port", "0")), jail.name


def test_a_jail_with_files_has_one_that_is_always_there_and_begins_at_their_ends(wished: Wish) -> None:
    files = wished(fail2ban.configure, facts(*ALL))
    listed = [jail["logpath"] for jail in ini(files[fail2ban.JAIL]).values() if "logpath" in jail]
    listed = [ini(files[fail2ban.LOGS])["DEFAULT"]["apache_error_log"] if "%" in paths else paths for paths in listed]
    assert len(listed) == 4
    for paths in listed:
        assert paths.split("\n")[0] == "/dev/null tail"
        assert all(path.endswith(" tail") for path in paths.split("\n"))


def test_only_roots_own_sshd_is_believed(jails: Callable[..., configparser.ConfigParser]) -> None:
    for alternative in jails()["sshd"]["journalmatch"].split(" + "):
        assert "_UID=0" in alternative.split()


def test_a_repeated_offender_is_remembered_longer_than_a_ban_lasts(
    jails: Callable[..., configparser.ConfigParser],
) -> None:
    parser = jails()
    ban, recidive = int(parser["DEFAULT"]["bantime"]), parser["recidive"]
    assert int(recidive["findtime"]) > int(recidive["maxretry"]) * ban
    assert int(recidive["bantime"]) > int(recidive["findtime"])


def test_each_sites_error_log_is_read_by_its_name(wished: Wish) -> None:
    sites = (Site(domain="example.com"), Site(domain="kiosk.co.test"))
    logs = ini(wished(fail2ban.configure, facts("apache2"), *sites)[fail2ban.LOGS])["DEFAULT"]["apache_error_log"]
    assert [path.removesuffix(" tail") for path in logs.split("\n")] == [
        "/dev/null",
        "/var/log/apache2/error.log",
        "/var/www/example.com/log/error_log",
        "/var/www/kiosk.co.test/log/error_log",
    ]


# ---------------------------------------------------------------------- who is never banned


def test_this_operator_earlier_ones_and_those_of_the_fleet_are_never_banned(wished: Wish) -> None:
    files = wished(
        fail2ban.configure, facts(client="2001:db8::5", operators=("192.0.2.1/32",)), operators=("198.51.100.0/24",)
    )
    ignored = ini(files[fail2ban.JAIL])["DEFAULT"]["ignoreip"].split("\n")
    assert ignored == ["127.0.0.0/8", "::1", "192.0.2.1/32", "198.51.100.0/24", "2001:db8::5/128"]


def test_a_second_operator_adds_and_removes_nothing(wished: Wish) -> None:
    first = wished(fail2ban.configure, facts(client="192.0.2.1"))[OPERATORS].split()
    both = wished(fail2ban.configure, facts(client="192.0.2.2", operators=tuple(first)))[OPERATORS].split()
    again = wished(fail2ban.configure, facts(client="192.0.2.1", operators=tuple(both)))[OPERATORS].split()
    assert first == ["192.0.2.1/32"]
    assert both == again == ["192.0.2.1/32", "192.0.2.2/32"]


def test_the_firewall_remembers_the_same_operators_in_the_same_words(wished: Wish) -> None:
    seen, fleet = facts(client="2001:db8::5", operators=("192.0.2.1/32",)), ("198.51.100.0/24", "203.0.113.4/32")
    ours = wished(fail2ban.configure, seen, operators=fleet)[OPERATORS]
    seen.files.clear()
    assert wished(firewall.operators, seen, operators=fleet)[OPERATORS] == ours


# ---------------------------------------------------------------------- filters


def failregexes(wished: Wish, package: str, name: str) -> re.Pattern[str]:
    """The expressions of a filter as one, with fail2ban's own tags filled in (man 5 jail.conf)."""
    text = ini(wished(fail2ban.configure, facts(package))[f"{fail2ban.ROOT}/filter.d/{name}.local"])
    section = "DEFAULT" if name == "apache-common" else "Definition"
    known = text[section].get("failregex") or text[section]["_apache_error_client"]
    tags = {
        "%(__prefix_line)s": r"",
        "%(known/failregex)s": r"(?!)",
        "<apache-prefix>": r"\[\]\s",
        "<apache-pref-ignore>": r"(?!evasive)",
        "<F-USER>": "(?P<user>",
        "</F-USER>": ")",
        "<ADDR>": r"(?P<address>[0-9a-f:]*:[0-9a-f:]+|\d+\.\d+\.\d+\.\d+)",
    }
    for tag, expression in tags.items():
        known = known.replace(tag, expression)
    (own,) = [line for line in known.split("\n") if line != "(?!)"]
    return re.compile(own)


@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8::7", "fd67:6174:77::4"])
@pytest.mark.parametrize("port", ["0", "80", "45020"])
def test_apaches_port_is_never_taken_for_a_part_of_the_address(wished: Wish, address: str, port: str) -> None:
    """As Apache 2.4.71 writes it; fail2ban has cut the date out of the first brackets. The port is 0 behind a proxy."""
    line = f"[] [auth_basic:error] [pid 1515:tid 1540] [client {address}:{port}] AH01618: user a not found: /secret/"
    found = failregexes(wished, "apache2", "apache-common").match(line)
    assert found is not None
    assert found["address"] == address


@pytest.mark.parametrize("timers", ["0/-1/-1/-1/0", "-1/-1/-1/-1/0", "12/-1/-1/-1/+15"])
@pytest.mark.parametrize("address", ["203.0.113.7", "fd67:6174:77::4"])
def test_a_password_that_haproxy_refused_counts(wished: Wish, address: str, timers: str) -> None:
    """As HAProxy 3.0 and 2.6 write it with `option httplog`."""
    line = f"{address}:4242 [20/Nov/2026:23:57:49.100] https~ https/<NOSRV> {timers} 401 112 - - PR-- 1/1/0/0/0 0/0 "
    found = failregexes(wished, "haproxy", "haproxy-http-auth").match(line + '{example.com|x} "GET / HTTP/2.0"')
    assert found is not None
    assert found["address"] == address


@pytest.mark.parametrize(("cache", "counts"), [("REFUSED", True), ("PASS", False)])
def test_a_password_that_a_web_server_behind_an_edge_refused_counts(wished: Wish, cache: str, counts: bool) -> None:
    line = (
        "203.0.113.7:4242 [20/Nov/2026:23:57:49.100] https~ varnish/web2 0/0/1/2/3 401 112 - - ---- 1/1/0/0/0 0/0 "
        f'{{example.com|x}} {{{cache}}} "GET /{{REFUSED}} HTTP/2.0"'
    )
    assert bool(failregexes(wished, "haproxy", "haproxy-http-auth").match(line)) is counts


@pytest.mark.parametrize(
    "line",
    [
        '203.0.113.9:1 [20/Nov/2026:23:57:49.1] https~ varnish/v1 0/0/0/3/3 401 9 - - ---- 1/1/0/0/0 0/0 "GET /"',
        '203.0.113.9:1 [20/Nov/2026:23:57:49.1] https~ https/<NOSRV> 0/-1/-1/-1/0 421 9 - - LR-- 1/1/0/0/0 0/0 "GET /"',
        "203.0.113.9:1 [20/Nov/2026:23:57:49.1] https~ varnish/v1 0/0/0/3/3 200 9 - - ---- 1/1/0/0/0 0/0 "
        '"GET /203.0.113.7:1 [x] a b/<NOSRV> 0/-1/-1/-1/0 401  HTTP/2.0"',
    ],
    ids=["the site's own 401", "another status", "a forged line in the request"],
)
def test_what_haproxy_did_not_refuse_itself_does_not_count(wished: Wish, line: str) -> None:
    assert failregexes(wished, "haproxy", "haproxy-http-auth").match(line) is None


@pytest.mark.parametrize(
    ("message", "ignored"),
    [
        ("client denied by server configuration: /var/www/example.com/public_html/_/closed/1.png", True),
        ("user a not found: /secret/", False),
        ('user a: authentication failure for "/secret/": Password Mismatch', False),
    ],
)
def test_a_closed_directory_is_no_failed_login(wished: Wish, message: str, ignored: bool) -> None:
    text = wished(fail2ban.configure, facts("apache2"))[f"{fail2ban.ROOT}/filter.d/apache-auth.local"]
    expressions = ini(text)["Definition"]["ignoreregex"].split("\n")
    assert any(re.match(expression, message) for expression in expressions) == ignored


def test_dovecot_2_4_says_login_aborted_and_is_heard(wished: Wish) -> None:
    line = (
        "Login aborted: Connection closed (auth failed, 1 attempts in 8 secs) (auth_failed): user=<ops>, method=PLAIN, "
        "rip=fd67:6174:77::4, lip=fd67:6174:77::2, session=<MkZ6Fr5gyqr9Z2F0AHcAAAAAAAAAAAAE>"
    )
    found = failregexes(wished, "dovecot-core", "dovecot").match(line)
    assert found is not None
    assert (found["address"], found["user"]) == ("fd67:6174:77::4", "ops")
    assert failregexes(wished, "dovecot-core", "dovecot").match(line.replace("auth failed, 1", "no auth")) is None


# ---------------------------------------------------------------------- loading


@pytest.mark.parametrize(
    ("changed", "action"),
    [
        (fail2ban.JAIL, "restart"),
        (fail2ban.UNIT, "restart"),
        (fail2ban.LOGS, "reload"),
        (f"{fail2ban.ROOT}/filter.d/x.local", "reload"),
    ],
)
def test_ports_and_actions_want_a_restart_and_all_else_a_reload(
    monkeypatch: pytest.MonkeyPatch, changed: str, action: str
) -> None:
    seen = facts("fail2ban", units={"fail2ban.service": Unit("active", "enabled")})
    host = Host("vps", Fleet(), visit=None)  # type: ignore[arg-type]
    host._facts = seen
    monkeypatch.setattr(Host, "of", classmethod(lambda cls, c: host))
    fail2ban.start.body.__wrapped__(None)
    for load in host._pending:
        load.predict(seen)
    host._pending.clear()
    fail2ban.start.body.__wrapped__(None)
    assert host._pending == []
    host.file(changed, "new")
    host._pending.clear()
    fail2ban.start.body.__wrapped__(None)
    (load,) = host._pending
    assert isinstance(load, Load)
    assert load.action == action


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize("text", ["", "vps", "203.0.113.7/24", "203.0.113", "1.2.3.4; reboot", "fe80::1%eth0", "::g"])
def test_what_is_no_address_is_refused_before_anybody_is_asked(text: str) -> None:
    with pytest.raises(Refusal):
        address_of(text)
    with pytest.raises(Exit) as left:
        fail2ban.unban.body(Connection("192.0.2.1"), text)  # a documentation address: nothing answers there
    assert left.value.code == 2


def test_an_address_is_written_as_fail2ban_and_iptables_write_it() -> None:
    assert str(address_of("2001:DB8:0:0::7")) == "2001:db8::7"
    assert str(address_of("::ffff:203.0.113.7")) == "203.0.113.7"


@pytest.mark.parametrize("option", ["bantime", "findtime", "maxretry"])
@pytest.mark.parametrize("value", ["0", "-1", "1000000000", "many"])
def test_limits_without_sense_are_refused_as_they_are_typed(option: str, value: str) -> None:
    contexts = Collection(fail2ban.configure).to_contexts()
    with pytest.raises(Exit, match=f"--{option} {value}: must be a whole number") as left:
        Parser(contexts=contexts).parse_argv(["configure", f"--{option}", value])
    assert left.value.code == 2


def test_an_operators_address_with_a_line_break_cannot_enter_the_file() -> None:
    values = {"operators": ["192.0.2.1/32\nbanaction = x"], "facts": facts(), "sites": ()}
    limits = dict.fromkeys(("bantime", "findtime", "maxretry", "most"), 1)
    with pytest.raises(render.BadValue):
        render.render(fail2ban.JAIL, {**values, **limits, "by_hand": BY_HAND})


# ---------------------------------------------------------------------- what fail2ban answers

# fail2ban-client 1.1.0: `status dovecot`, `get dovecot banip --with-time`, then `status sshd`.
ANSWER = """\
Status for the jail: dovecot
|- Filter
|  |- Currently failed:\t1
|  |- Total failed:\t17
|  `- Journal matches:\t_SYSTEMD_UNIT=dovecot.service
`- Actions
   |- Currently banned:\t2
   |- Total banned:\t2
   `- Banned IP list:\t10.213.77.4 fd67:6174:77::4
10.213.77.4 \t2026-11-21 00:05:22 + 172800 = 2026-11-23 00:05:22
fd67:6174:77::4 \t2026-11-21 00:06:34 + 172800 = 2026-11-23 00:06:34
Status for the jail: sshd
|- Filter
|  |- Currently failed:\t0
|  |- Total failed:\t3
|  `- Journal matches:\t_UID=0 _COMM=sshd + _UID=0 _COMM=sshd-session
`- Actions
   |- Currently banned:\t0
   |- Total banned:\t0
   `- Banned IP list:\t
"""


def test_jails_and_their_bans_are_read_from_what_fail2ban_prints() -> None:
    dovecot, sshd = read_jails(ANSWER)
    assert (dovecot.name, dovecot.failing, dovecot.failures) == ("dovecot", 1, 17)
    assert dovecot.bans == [
        Ban("10.213.77.4", "2026-11-21 00:05:22", "2026-11-23 00:05:22"),
        Ban("fd67:6174:77::4", "2026-11-21 00:06:34", "2026-11-23 00:06:34"),
    ]
    assert (sshd.name, sshd.failing, sshd.failures, sshd.bans) == ("sshd", 0, 3, [])


RULES = """\
rule -A INPUT -p tcp -m multiport --dports 110,143 -j f2b-dovecot
rule -A INPUT -p tcp -j f2b-recidive
rule -A f2b-dovecot -s 10.213.77.4/32 -j REJECT --reject-with icmp-port-unreachable
rule -A f2b-dovecot -j RETURN
rule -A f2b-recidive -s 203.0.113.99/32 -j REJECT --reject-with icmp-port-unreachable
limited ::ffff:198.51.100.3 http_req_rate 6100 5000
limited 2001:db8:0:7:: conn_cur 501 500
"""


def test_each_ban_is_told_with_the_rule_that_keeps_it_up_and_each_rule_without_one() -> None:
    found = read(ANSWER + RULES)
    assert [(ban.address, ban.layer) for ban in found.jails[0].bans] == [
        ("10.213.77.4", "iptables, port 110,143"),
        ("fd67:6174:77::4", ""),
    ]
    assert found.left == ["-A f2b-recidive -s 203.0.113.99/32 -j REJECT --reject-with icmp-port-unreachable"]
    assert found.faults == 2
    assert [(each.client, each.count, each.limit) for each in found.limited] == [
        ("198.51.100.3", 6100, 5000),
        ("2001:db8:0:7::", 501, 500),
    ]
    assert isinstance(found.limited[0], Limited)


LIFTED = """\
[['sshd']]
why\tsshd\tNov 21 00:05:22 vps sshd[1]: Failed password for root from 203.0.113.7
rule\t-A INPUT -s 203.0.113.7/32 -j DROP
left\t-A GATEHOUSE-NOW -s 203.0.113.0/24 -m conntrack --ctdir ORIGINAL -j DROP
left\t-A GATEHOUSE-NOW -s 198.51.100.0/24 -m conntrack --ctdir ORIGINAL -j DROP
row\tclients use=0 exp=59000 http_req_rate(10000)=812
"""


def test_what_was_lifted_is_told_with_its_reasons_and_what_still_shuts_it_out() -> None:
    lifted = read_lifted(LIFTED, address_of("203.0.113.7"))
    assert lifted.jails == ["sshd"]
    assert lifted.why == ["sshd: Nov 21 00:05:22 vps sshd[1]: Failed password for root from 203.0.113.7"]
    assert len(lifted.rules) == len(lifted.rows) == 1
    assert [rule.split()[3] for rule in lifted.left] == ["203.0.113.0/24"]


@pytest.mark.parametrize(
    ("address", "key"), [("203.0.113.7", "::ffff:203.0.113.7"), ("2001:db8:1:2:3::7", "2001:db8:1:2::")]
)
def test_haproxy_counts_an_address_or_a_customers_network(address: str, key: str) -> None:
    assert row_key(address_of(address)) == key


@pytest.mark.parametrize("script", [BAN, UNBAN])
def test_the_questions_are_shell(script: str) -> None:
    assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["203.0.113.7", "--jail", "sshd", "--for", "1h"], "has a duration of its own"),
        (["203.0.113.7", "--for", "91d"], "at most 90d"),
        (["203.0.113.7", "--for", "soon"], "--for"),
        (["203.0.113.7", "--jail", "a b"], "the name of a jail"),
    ],
)
def test_a_ban_that_makes_no_sense_is_refused_before_anybody_is_asked(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (context,) = Parser(contexts=Collection(fail2ban.ban).to_contexts()).parse_argv(["ban", *words])
    with pytest.raises(Exit) as left:
        fail2ban.ban.body(Connection("192.0.2.1"), **context.as_kwargs)
    assert left.value.code == 2
    assert told in capsys.readouterr().err


def test_by_hand_is_not_counted_among_the_repeated_offences(jails: Callable[..., configparser.ConfigParser]) -> None:
    line = "fail2ban.actions [7]: NOTICE  [{}] Ban 203.0.113.7"
    ignored = re.compile(jails()["recidive"]["ignoreregex"])
    assert ignored.search(line.format("by-hand"))
    assert not ignored.search(line.format("sshd"))
    assert int(jails()["by-hand"]["bantime"]) == 90 * 86400


def test_the_jails_that_hold_an_address_are_read_in_order() -> None:
    assert read_banned("[['sshd', 'recidive']]") == ["recidive", "sshd"]
    assert read_banned("[[]]") == []
