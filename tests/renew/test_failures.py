"""A failed order: nothing changes, the reason is one line, the next try waits, and nobody else is stopped."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from .authority import DAY, Authority
from .conftest import CA, Place

STAMP = "2026/11/20 23:59:11 "
PROBLEMS = STAMP + "Could not obtain certificates:\n\terror: one or more domains had a problem:\n"
URN = "urn:ietf:params:acme:error:"
TOKEN = "/.well-known/acme-challenge/saQqKJxgrVzkcreDG_P9ejoyPBwvcEgM-uyTrGY9z4I"
URL = f"http://www.a.test:80{TOKEN}"
NO_CLIENT = f"{STAMP}Could not create client: get directory at 'https://ca.test/dir': Get \"https://ca.test/dir\": "

# What lego 4.9.1 printed (from Pebble, and from Let's Encrypt's published texts), and what a person is told.
SAYINGS = {
    "unresolvable": (
        f'{PROBLEMS}[www.a.test] acme: error: 400 :: {URN}connection :: Get "{URL}": error occurred while resolving '
        f'URL "{URL}": lookup www.a.test on 127.0.0.11:53: no such host\n',
        "the CA cannot reach www.a.test: lookup www.a.test on 127.0.0.11:53: no such host",
    ),
    "unreachable": (
        f"{PROBLEMS}[a.test] acme: error: 400 :: {URN}connection :: 192.0.2.7: Fetching http://a.test{TOKEN}: "
        "Connection refused\n",
        "the CA cannot reach a.test: 192.0.2.7: Fetching http://a.test: Connection refused",
    ),
    "elsewhere": (
        f"{PROBLEMS}[a.test] acme: error: 403 :: {URN}unauthorized :: 192.0.2.7: Invalid response from "
        f"http://a.test{TOKEN}: 404\n",
        "the CA got a wrong answer from a.test: 192.0.2.7: Invalid response from http://a.test: 404",
    ),
    "policy": (
        f"{STAMP}Could not obtain certificates:\n\tacme: error: 400 :: POST :: https://ca.test/order :: "
        f'{URN}rejectedIdentifier :: Order included an identifier for which issuance is forbidden by policy: "a.test", '
        f'problem: "{URN}rejectedIdentifier" :: a.test is a forbidden domain\n',
        'the CA refuses the name: Order included an identifier for which issuance is forbidden by policy: "a.test"',
    ),
    "port": (
        f"{PROBLEMS}[a.test] [a.test] acme: error presenting token: could not start HTTP server for challenge: listen "
        "tcp 127.0.0.1:8082: bind: address already in use\n",
        "another program holds the port on which lego answers the CA: [a.test] [a.test] acme: error presenting token: "
        "could not start HTTP server for challenge: listen tcp 127.0.0.1:8082: bind: address already in use",
    ),
    "down": (
        f"{NO_CLIENT}dial tcp 192.0.2.1:443: connect: connection refused\n",
        "the CA does not answer: dial tcp 192.0.2.1:443: connect: connection refused",
    ),
    "stranger": (
        f"{NO_CLIENT}tls: failed to verify certificate: x509: certificate signed by unknown authority\n",
        "this host does not trust the certificate of the CA: certificate signed by unknown authority",
    ),
    "clock": (
        f"{NO_CLIENT}tls: failed to verify certificate: x509: certificate has expired or is not yet valid: 2001\n",
        "the certificate of the CA is outdated, or the clock of this host is wrong",
    ),
    "full": (
        f"{STAMP}[INFO] [a.test] Server responded with a certificate.\n{STAMP}Unable to save Certificate for domain "
        "a.test\n\twrite /etc/lego/certificates/a.test.crt: no space left on device\n",
        "the disk is full: write /etc/lego/certificates/a.test.crt: no space left on device",
    ),
    "strange": (
        f"{STAMP}[INFO] [a.test] acme: Obtaining bundled SAN certificate\n{STAMP}The moon is \x1b[31mfull\n",
        "lego says: The moon is [31mfull",
    ),
}


@pytest.mark.parametrize("saying", SAYINGS)
def test_the_reason_is_one_line_for_a_person(saying: str, place: Place) -> None:
    said, told = SAYINGS[saying]
    place.ask("a.test", "www.a.test")
    place.switch("lego.says", said)
    run = place.run()
    assert (run.code, run.outcomes) == (1, {"a.test": "failed"})
    assert run.reasons["a.test"].rpartition("; next try after ")[0] == told


def test_a_failed_order_leaves_everything_byte_for_byte(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.shelve("a.test", ca.issue("a.test", age=80 * DAY, left=10 * DAY))
    place.switch("lego.says", SAYINGS["unreachable"][0])
    before = place.fingerprint()
    assert place.run().code == 1
    after = place.fingerprint()
    for made in ("a.test.failed", "last"):
        assert after.pop(f"var/lib/gatehouse/renew/{made}")
    assert after == before
    assert place.calls("reload") == []


def test_one_failing_name_stops_nobody(place: Place, ca: Authority) -> None:
    for domain in ("a.test", "b.test", "c.test"):
        place.ask(domain)
        place.deliver(ca.issue(domain), domain)
    place.switch("b.test.says", SAYINGS["unreachable"][0])
    run = place.run()
    assert (run.code, run.outcomes) == (1, {"a.test": "issued", "b.test": "failed", "c.test": "issued"})
    assert place.served("c.test")


@pytest.mark.parametrize("trouble", ["down", "port", "full"])
def test_trouble_that_every_name_would_meet_is_met_once(trouble: str, place: Place) -> None:
    place.ask("a.test")
    place.ask("b.test")
    place.switch("lego.says", SAYINGS[trouble][0])
    run = place.run()
    assert (run.code, run.outcomes) == (1, {"a.test": "failed", "b.test": "failed"})
    assert run.reasons["b.test"] == f"not tried: {SAYINGS[trouble][1]}"
    assert len(place.orders()) == 1


def _back_off(place: Place) -> tuple[int, int]:
    """How many failures in a row are remembered for a.test, and the seconds until the next try."""
    remembered = dict(line.split("=", 1) for line in (place.state / "a.test.failed").read_text().splitlines())
    return int(remembered["count"]), int(remembered["next"]) - round(time.time())


def _time_passes(place: Place) -> None:
    """The next try's time has come."""
    path = place.state / "a.test.failed"
    path.write_text(re.sub(r"(?m)^next=.*", "next=1", path.read_text()))


def test_the_next_try_waits_1_10_100_minutes_then_a_day(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.switch("lego.says", SAYINGS["unreachable"][0])
    for tries, minutes in enumerate((1, 10, 100, 1440, 1440), start=1):
        assert place.run().outcomes == {"a.test": "failed"}
        count, seconds = _back_off(place)
        assert (count, round(seconds / 60)) == (tries, minutes)
        _time_passes(place)
    (place.double / "lego.says").unlink()
    place.deliver(ca.issue("a.test"))
    assert place.run().outcomes == {"a.test": "issued"}
    assert not (place.state / "a.test.failed").exists()


def test_a_next_try_that_only_a_wrong_clock_can_have_set_is_now(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.deliver(ca.issue("a.test"))
    place.state.mkdir(parents=True)
    (place.state / "a.test.failed").write_text(f"count=4\nnext={int(time.time()) + 400 * 86400}\nkind=name\nwhy=no\n")
    assert place.run().outcomes == {"a.test": "issued"}


def test_who_names_it_tries_at_once_and_bootstrap_does_not(place: Place) -> None:
    place.ask("a.test")
    place.switch("lego.says", SAYINGS["unreachable"][0])
    place.run()
    waiting = place.run("--now", "a.test")
    assert (waiting.code, waiting.outcomes) == (1, {"a.test": "waits"})
    assert waiting.reasons["a.test"].startswith("the CA cannot reach a.test: ")
    assert len(place.orders()) == 1
    assert place.run("a.test").outcomes == {"a.test": "failed"}
    assert (len(place.orders()), _back_off(place)[0]) == (2, 2)


def _limited(detail: str) -> str:
    return (
        f"{STAMP}Could not obtain certificates:\n\tacme: error: 429 :: POST :: {CA} :: {URN}rateLimited :: {detail}\n"
    )


def test_the_limit_of_the_ca_binds_a_person_too_until_it_says(place: Place) -> None:
    place.ask("a.test")
    place.ask("b.test")
    then = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() + 34 * 3600))
    place.switch(
        "a.test.says", _limited(f"too many certificates (5) already issued for this set, retry after {then}: see")
    )
    run = place.run()
    assert run.outcomes == {"a.test": "failed", "b.test": "failed"}
    assert round(_back_off(place)[1] / 3600) == 34
    assert place.run("a.test").outcomes == {"a.test": "waits"}
    assert len(place.orders()) == 2


def test_a_limit_on_all_stops_the_others_in_later_runs_too(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.ask("b.test")
    place.switch("lego.says", _limited("too many new orders (300) from this account in the last 3h0m0s"))
    run = place.run()
    assert run.reasons["b.test"].startswith("not tried: the CA limits us: too many new orders (300)")
    (place.double / "lego.says").unlink()
    place.deliver(ca.issue("a.test"), "a.test")
    place.deliver(ca.issue("b.test"), "b.test")
    for words in ((), ("b.test",), ("--force", "b.test")):
        assert place.run(*words).outcomes["b.test"] == "waits"
    assert len(place.orders()) == 1
    _time_passes(place)
    assert place.run().outcomes == {"a.test": "issued", "b.test": "issued"}


@pytest.mark.parametrize("detail", ["Service busy; retry later.", "too many registrations for this IP"])
def test_a_limit_that_is_not_one_of_names_is_one_of_all(detail: str, place: Place) -> None:
    for domain in ("a.test", "b.test"):
        place.ask(domain)
    place.switch("lego.says", _limited(detail))
    place.run()
    assert len(place.orders()) == 1


def test_a_limit_without_a_date_lasts_1_2_4_days_then_a_week(place: Place) -> None:
    place.ask("a.test")
    place.switch("lego.says", _limited("too many certificates (5) already issued for this exact set"))
    for days in (1, 2, 4, 7, 7):
        place.run()
        assert round(_back_off(place)[1] / 86400) == days
        assert place.run().outcomes == {"a.test": "waits"}
        _time_passes(place)


def test_a_name_that_dns_does_not_know_is_not_ordered_unless_a_person_says_so(place: Place, ca: Authority) -> None:
    place.ask("a.test", "www.a.test")
    place.switch("unknown-www.a.test")
    place.deliver(ca.issue("a.test", "www.a.test"))
    run = place.run()
    assert (run.code, place.orders()) == (1, [])
    assert run.reasons["a.test"].startswith("DNS tells no address of www.a.test, so nothing was asked of the CA; next")
    assert _back_off(place)[0] == 1
    assert place.run("a.test").outcomes == {"a.test": "issued"}


def test_with_dns_down_it_is_the_ca_that_cannot_be_found(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    for name in ("a.test", "ca.test"):
        place.switch(f"unknown-{name}")
    place.switch("lego.says", f"{NO_CLIENT}dial tcp: lookup ca.test on 192.0.2.53:53: server misbehaving\n")
    assert place.run().reasons["a.test"].startswith("the CA does not answer: dial tcp: lookup ca.test")


def test_where_dns_points_is_told_when_it_is_not_here(place: Place) -> None:
    place.ask("a.test", "www.a.test")
    place.switch("lego.says", SAYINGS["elsewhere"][0])
    place.switch("points-a.test", "192.0.2.1 STREAM\n192.0.2.7 STREAM\n192.0.2.7 DGRAM\n2001:db8::7 STREAM\n")
    told = place.run().reasons["a.test"]
    assert "; DNS has 192.0.2.7, 2001:db8::7, and this host is 192.0.2.1 2001:db8::1; next try" in told


def test_a_lego_that_was_killed_is_told_as_such(place: Place) -> None:
    place.ask("a.test")
    place.switch("lego.dies")
    assert place.run().reasons["a.test"].startswith("lego was killed (signal 9)")


@pytest.mark.parametrize(
    "said",
    [
        f"acme: error: 400 :: POST :: {CA} :: {URN}malformed :: JWS verification error",
        "Could not parse file for account ops@site.test: unexpected end of JSON input",
        "Could not load account for ops@site.test. Registration is nil: no account",
        "Could not load RSA private key from file /etc/lego/accounts/keys/ops@site.test.key: unknown private key type",
    ],
)
def test_an_account_that_is_half_lost_is_made_anew_once(said: str, place: Place, ca: Authority) -> None:
    place.ask("a.test")
    account = place.inbox / "accounts/ca.test/ops@site.test"
    account.mkdir(parents=True)
    place.switch("a.test.says.once", f"{STAMP}{said}\n")
    place.deliver(ca.issue("a.test"))
    assert place.run().outcomes == {"a.test": "issued"}
    assert (account.exists(), len(place.orders())) == (False, 2)


def test_an_account_that_the_ca_forgot_is_made_anew_once(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    account = place.inbox / "accounts/ca.test/ops@site.test"
    other = place.inbox / "accounts/ca.test/else@site.test"
    for directory in (account, other):
        directory.mkdir(parents=True)
    forgotten = f"{STAMP}acme: error: 400 :: POST :: {CA} :: {URN}accountDoesNotExist :: Account not found.\n"
    place.switch("a.test.says.once", forgotten)
    place.deliver(ca.issue("a.test"))
    assert place.run().outcomes == {"a.test": "issued"}
    assert (account.exists(), other.exists(), len(place.orders())) == (False, True, 2)
    place.ask("b.test")
    place.switch("lego.says", forgotten)
    run = place.run()
    assert run.reasons["b.test"].startswith("the CA refuses our account: Account not found.")
    assert len(place.orders()) == 4


def test_lego_5_is_recognised(place: Place) -> None:
    place.ask("a.test")
    place.switch("lego-is-5")
    assert "this lego is not of version 4" in place.run().reasons["a.test"]
    assert place.orders() == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("names=a.test $(touch hacked)\nemail=o@a.test\nkey=ec256\n", "names= takes a-z, 0-9, dot and hyphen"),
        ("names=a.test *.a.test\nemail=o@a.test\nkey=ec256\n", "a wildcard cannot be had over http-01"),
        ("names=b.test\nemail=o@a.test\nkey=ec256\n", "names= must begin with a.test"),
        ("names=a.test\nemail=../../etc\nkey=ec256\n", "email=../../etc is no address"),
        ("names=a.test\nemail=o@a.test\nkey=dsa\n", "key=dsa is none of ec256"),
        ("names=a.test\nemail=o@a.test\nkey=ec256\nrun=rm\n", "'run=rm' is not names=, email= or key="),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused_and_never_executed(text: str, told: str, place: Place, tmp_path: Path) -> None:
    (place.certs / "a.test.conf").write_text(text)
    run = place.run()
    assert (run.code, run.outcomes, place.calls()) == (1, {"a.test": "failed"}, [])
    assert told in run.reasons["a.test"]
    assert not list(tmp_path.rglob("hacked"))


def test_a_clock_that_went_back_is_named_and_nothing_is_ordered(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    pem = place.shelve("a.test", ca.issue("a.test", age=-2 * DAY)).read_bytes()
    run = place.run()
    assert (run.code, place.calls()) == (1, [])
    assert "is not valid before" in run.reasons["a.test"]
    assert "set its clock" in run.reasons["a.test"]
    assert (place.shelf / "a.test.pem").read_bytes() == pem
    assert [line[5] for line in place.run("--list").lines] == ["clock"]


def test_a_clock_that_went_ahead_is_named_and_the_old_pair_stays(place: Place, ca: Authority) -> None:
    """Everything looks expired to it, also what the CA has just made."""
    place.ask("a.test")
    pem = place.shelve("a.test", ca.issue("a.test", age=90 * DAY, left=-DAY)).read_bytes()
    place.deliver(ca.issue("a.test", age=90 * DAY, left=-DAY / 24))
    run = place.run()
    assert run.code == 1
    assert "and it is a new one" in run.reasons["a.test"]
    assert "set its clock" in run.reasons["a.test"]
    assert place.served("a.test") == pem
