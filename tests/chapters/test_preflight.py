"""Before an order: what DNS says, who may issue, and whether a challenge would end at this host."""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from invoke import Exit

from fabfile import cert
from fabfile.cert import caa, names, prospects, reach
from fabfile.cert.answers import Finding
from fabfile.cert.caa import Record, ancestors, refusal
from fabfile.cert.names import Names
from fabfile.engine import Problem
from fabfile.engine.changes import PutFile, Run
from fabfile.model import Acme, Fleet

from .recording import Recorded, a_file, site

MINE = ["letsencrypt.org"]

# ---------------------------------------------------------------------- CAA


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ({}, ""),
        ({"example.com": [Record(0, "issue", "letsencrypt.org")]}, ""),
        ({"example.com": [Record(0, "issue", "LetsEncrypt.org ; validationmethods=http-01,dns-01")]}, ""),
        ({"example.com": [Record(0, "issue", "a.test"), Record(0, "issue", "letsencrypt.org")]}, ""),
        ({"example.com": [Record(0, "iodef", "mailto:a@b.test")]}, ""),
        ({"example.com": [Record(0, "issuewild", ";")]}, ""),
        ({"com": [Record(0, "issue", ";")], "example.com": [Record(0, "issue", "letsencrypt.org")]}, ""),
        ({"example.com": [Record(0, "issue", ";")], "www.example.com": [Record(0, "iodef", "x")]}, ""),
        ({"example.com": [Record(0, "issue", ";")]}, "CAA at example.com lets nobody issue"),
        ({"com": [Record(0, "issue", "a.test")]}, "CAA at com lets a.test issue; this CA goes by letsencrypt.org"),
        ({"www.example.com": [Record(0, "issue", "a.test")]}, "CAA at www.example.com lets a.test issue"),
        ({"example.com": [Record(0, "issue", "letsencrypt.org; validationmethods=dns-01")]}, "wants dns-01"),
        ({"example.com": [Record(128, "tbs", "x")]}, "a critical tbs, which no CA knows"),
        ({"example.com": [Record(0, "tbs", "x")]}, ""),
    ],
)
def test_who_may_issue_stands_at_the_name_or_the_nearest_above_it(
    records: dict[str, list[Record]], why: str
) -> None:
    said = refusal("www.example.com", records, MINE)
    assert bool(said) == bool(why)
    assert why in said


def test_a_record_is_read_as_drill_shows_it() -> None:
    assert caa.read('0 issue "letsencrypt.org; validationmethods=http-01"') == Record(
        0, "issue", "letsencrypt.org; validationmethods=http-01"
    )
    assert caa.read('128 ISSUE ";"') == Record(128, "issue", ";")
    assert ancestors("www.example.com") == ["www.example.com", "example.com", "com"]


def test_the_ca_goes_by_its_host_or_a_domain_above_it_when_it_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prospects.identities(Acme(), ask=False) == ["acme-v02.api.letsencrypt.org", "api.letsencrypt.org", *MINE]
    assert prospects.identities(Acme(directory="https://ca:14000/dir"), ask=False) == ["ca"]


# ---------------------------------------------------------------------- DNS

DRILL = """\
own 192.0.2.1 2001:db8::1
query A example.com
;; ->>HEADER<<- opcode: QUERY, rcode: NOERROR, id: 41454
;; QUESTION SECTION:
;; example.com.\tIN\tA
;; ANSWER SECTION:
example.com.\t300\tIN\tCNAME\tweb.example.net.
web.example.net.\t300\tIN\tA\t192.0.2.1
query AAAA example.com
;; ->>HEADER<<- opcode: QUERY, rcode: NOERROR, id: 41455
;; ANSWER SECTION:
example.com.\t300\tIN\tAAAA\t2001:DB8:0::9
query CAA example.com
;; ->>HEADER<<- opcode: QUERY, rcode: SERVFAIL, id: 41456
query CAA com
;; ->>HEADER<<- opcode: QUERY, rcode: NXDOMAIN, id: 41457
query A www.example.com
Error: error sending query: No (valid) nameservers defined in the resolver
query AAAA www.example.com
;; ->>HEADER<<- opcode: QUERY, rcode: NXDOMAIN, id: 41458
"""


def test_addresses_failures_and_records_are_read_from_many_answers() -> None:
    found = names.read(DRILL)
    assert found.own == {"192.0.2.1", "2001:db8::1"}
    assert found.addresses["A", "example.com"] == ["192.0.2.1"]
    assert found.addresses["AAAA", "example.com"] == ["2001:db8::9"]
    assert found.failed == {("CAA", "example.com"): "SERVFAIL", ("A", "www.example.com"): "no answer"}
    assert found.records == {}


@pytest.mark.parametrize("script", [names.QUESTION, reach.ANSWER, reach.FETCH])
def test_the_questions_are_shell(script: str) -> None:
    assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0


# ---------------------------------------------------------------------- the challenge's path


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, int]]:
    """A web server on this machine: /mine is the token, /loop goes round, /away leaves, all else is 404."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            to = {"/loop": "/loop", "/away": "http://other.test/mine", "/here": "http://a.test/mine"}.get(self.path)
            self.send_response(302 if to else 200 if self.path == "/mine" else 404)
            if to:
                self.send_header("Location", to)
            self.send_header("CF-RAY", "8")
            self.end_headers()
            self.wfile.write(b"token\n" if self.path == "/mine" else b"")

        def log_message(self, *words: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield "127.0.0.1", server.server_port
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "ours", "text"),
    [
        ("/mine", True, ""),
        ("/here", True, ""),
        ("/nothing", False, "answers 404"),
        ("/loop", False, "redirects without end"),
        ("/away", False, "redirects to other.test"),
    ],
)
def test_redirects_are_followed_within_the_name(
    elsewhere: tuple[str, int], path: str, ours: bool, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda _place, patience: real(elsewhere, patience))
    found = reach.fetch("a.test", "192.0.2.1", path, "token")
    assert (found.ours, text in found.text) == (ours, True), found
    assert ours is False or found.proxy == "Cloudflare"


@pytest.mark.parametrize(
    ("error", "text", "no_route"),
    [
        (TimeoutError(), "gives no answer on port 80 within 5 s", False),
        (ConnectionRefusedError(), "refuses port 80", False),
        (OSError(101, "Network is unreachable"), "cannot be reached: Network is unreachable", True),
    ],
)
def test_who_is_not_reached_is_told_apart(
    error: OSError, text: str, no_route: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(socket, "create_connection", fails)
    found = reach.fetch("a.test", "192.0.2.1", "/x", "token")
    assert (found.ours, found.text, found.no_route) == (False, text, no_route)


def test_on_a_redirect_to_https_no_certificate_is_asked_for() -> None:
    assert reach.judged(200, {}, "token", "token").ours
    assert not reach.judged(200, {}, "another", "token").ours
    context = reach._unverified()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


# ---------------------------------------------------------------------- findings


def found(host: Recorded, monkeypatch: pytest.MonkeyPatch, answers: dict[str, reach.Fetched]) -> list[str]:
    known = names.read(DRILL)
    monkeypatch.setattr(prospects, "asked", lambda host, wanted: known)
    monkeypatch.setattr(prospects, "reached", lambda host, pairs: {pair: answers[pair[1]] for pair in pairs})
    rows = prospects.findings(host, site("example.com"))
    return [f"{row.name} {row.what} {'ok' if row.well else 'wrong'} {row.text}" for row in rows]


def test_each_name_and_family_is_told_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, site("example.com"))
    host.fleet = Fleet()
    refuses = reach.Fetched(ours=False, text="answers 404 (nginx)", proxy="Cloudflare")
    lines = found(host, monkeypatch, {"192.0.2.1": reach.Fetched(ours=True), "2001:db8::9": refuses})
    assert lines == [
        "example.com A ok 192.0.2.1 reaches this host",
        "example.com AAAA wrong 2001:db8::9 answers 404 (nginx); Cloudflare stands there, not this host "
        "(192.0.2.1 2001:db8::1)",
        "example.com CAA wrong DNS gives no answer about example.com: SERVFAIL",
        "www.example.com A wrong DNS gives no answer: no answer",
        "www.example.com AAAA wrong DNS has no address of this name",
        "www.example.com CAA wrong DNS gives no answer about example.com: SERVFAIL",
    ]


def test_a_proxy_that_lets_the_challenge_through_is_no_fault() -> None:
    names_ = Names(own={"192.0.2.1"})
    host: Any = type("H", (), {"name": "vps"})
    fetched = reach.Fetched(ours=True, proxy="Cloudflare")
    assert prospects._reached(host, "198.51.100.4", names_.own, fetched) == (
        True,
        "198.51.100.4 reaches this host, by Cloudflare",
    )
    well, text = prospects._reached(host, "192.0.2.1", names_.own, reach.Fetched(ours=False, text="answers 421"))
    assert (well, "fab -H vps haproxy" in text) == (False, True)


# ---------------------------------------------------------------------- issue


def test_one_site_is_ordered_at_once_when_the_preflight_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, site("a.test", subdomains=()), site("b.test"))
    host.dry = False
    well = [Finding("vps", "a.test", "A", True, "reaches this host")]
    monkeypatch.setattr(prospects, "findings", lambda host, site: well)
    changes = host.after(cert.issue, domain="a.test")
    assert ["/etc/gatehouse/certs/a.test.conf"] == [each.path for each in changes if isinstance(each, PutFile)]
    (run,) = (each for each in changes if isinstance(each, Run))
    assert (run.args, "--now" in run.script) == (("a.test",), False)


def test_what_the_preflight_finds_hopeless_is_not_ordered_unless_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, site("a.test", subdomains=()))
    host.dry = False
    wrong = [Finding("vps", "a.test", "CAA", False, "CAA at test lets nobody issue")]
    monkeypatch.setattr(prospects, "findings", lambda host, site: wrong)
    with pytest.raises(Problem, match="nothing was asked of the CA") as told:
        host.after(cert.issue, domain="a.test")
    assert "CAA at test lets nobody issue" in told.value.details
    assert not [each for each in host._pending if isinstance(each, Run)]
    assert [each for each in host.after(cert.issue, domain="a.test", anyway=True) if isinstance(each, Run)]


def test_what_is_there_as_asked_for_is_not_ordered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cert, "satisfied", lambda host, site: True)
    host = Recorded(monkeypatch, site("a.test"), files={"/etc/haproxy/certs/a.test.pem": a_file()})
    assert [] == host.after(cert.issue, domain="a.test")
    assert "cert.verify a.test" in host.notes[0]


@pytest.mark.parametrize("task", [cert.verify, cert.preflight])
def test_a_site_that_is_none_is_refused_with_the_nearest(
    task: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fabric import Connection

    Recorded(monkeypatch, site("example.com"))
    with pytest.raises(Exit) as left:
        task.body(Connection("192.0.2.1"), domain="exmaple.com")
    assert left.value.code == 2
    assert "example.com" in capsys.readouterr().err
