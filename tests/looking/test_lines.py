"""A line of each layer's log, as real ones look, and what is read from it."""

from __future__ import annotations

import pytest

from fabfile.looking import asking, lines
from fabfile.looking.lines import Fault
from fabfile.model import Site

NUMBER = "3f2a9c1e-0b7d-4c55-9a53-6f0f6a1c2b3d"
HEAD = "1763706343.500000 vps haproxy[812]: 203.0.113.7:50112 [21/Nov/2025:06:25:43.120] "
LINE = (
    f"{HEAD}https~ varnish/varnish 0/0/1/370/380 500 812 - - ---- 2/2/1/1/0 0/0 {{example.com|{NUMBER}}} {{MISS}} "
    '"GET https://example.com/wp-login.php?x=1 HTTP/2.0"'
)


def test_a_request_as_haproxy_saw_it() -> None:
    seen = lines.passed(LINE)

    assert seen
    assert ("203.0.113.7", "example.com", "GET", "/wp-login.php?x=1", 500) == (
        seen.client, seen.host, seen.method, seen.target, seen.status,
    )  # fmt: skip
    assert (NUMBER, "https", "varnish", "varnish", "MISS") == (
        seen.id, seen.frontend, seen.backend, seen.server, seen.cache,
    )  # fmt: skip
    assert {"connect": 1, "answer": 370, "data": 9} == seen.spent
    assert seen.at - seen.began == pytest.approx(0.38)
    assert "" == seen.ending


@pytest.mark.parametrize(
    ("told", "state", "ending"),
    [
        (
            "0/0/-1/-1/3000 503",
            "SC--",
            "the server broke it off, or could not be reached while connecting to the server",
        ),
        ("0/0/0/-1/60001 504", "sH--", "the server was too slow before the answer's headers came"),
        ("0/-1/-1/-1/0 421", "LR--", "HAProxy answered it itself"),
        ("-1/-1/-1/-1/5 -1", "CR--", "the client gave up before the request was complete"),
    ],
)
def test_how_it_ended_is_told_in_words(told: str, state: str, ending: str) -> None:
    line = LINE.replace("0/0/1/370/380 500", told).replace("----", state)

    seen = lines.passed(line)

    assert seen
    assert ending == seen.ending
    assert min(seen.spent.values(), default=0) >= 0


def test_what_a_client_writes_cannot_pose_as_another_field() -> None:
    forged = LINE.replace(
        "/wp-login.php?x=1", "/{kiosk.test|00000000-0000-4000-8000-000000000000} {HIT} GET / HTTP/1.1"
    )

    seen = lines.passed(forged)

    assert seen
    assert (NUMBER, "example.com", "MISS") == (seen.id, seen.host, seen.cache)


@pytest.mark.parametrize("line", ["", "-- No entries --", "1763706343.5 vps haproxy[8]: Server varnish is DOWN"])
def test_what_is_no_request_is_none(line: str) -> None:
    assert lines.passed(line) is None


def test_a_request_as_apache_saw_it() -> None:
    line = rf'2001:db8::7 - bo"b [21/Nov/2025:06:25:43 +0000] "GET /\"x HTTP/1.1" 404 196 "-" "a \"b\" c" {NUMBER}'

    seen = lines.served(line)

    assert seen
    assert (NUMBER, 404, 1763706343) == (seen.id, seen.status, seen.at)


def test_an_error_of_apache_s_names_its_request() -> None:
    head = "[Fri Nov 21 07:25:43.250000 2025] [proxy_fcgi:error] [pid 71"
    said = "[client 203.0.113.7:0] AH01071: Got error 'Primary script unknown'"

    assert Fault("apache", 1763706343.25, f"proxy_fcgi: {said[23:]}", NUMBER) == lines.error(
        f"{head}:{NUMBER}:tid 88] {said}", "+0100"
    )
    assert Fault("apache", 1763706343.25, "proxy_fcgi: AH00489: configured") == lines.error(
        f"{head}:tid 88] AH00489: configured", "+0100"
    )
    assert lines.error("nonsense", "+0000") is None


def test_a_stack_trace_of_php_s_is_one_fault() -> None:
    said = [
        "the end of a line that was cut",
        "[21-Nov-2025 07:25:43 Europe/Berlin] PHP Fatal error:  Uncaught Error: x in /a.php:1",
        "Stack trace:",
        "#0 {main}",
        "[21-Nov-2025 06:25:44 UTC] PHP Warning:  y",
        "[21-Nov-2025 06:25:44 ../../etc/passwd] PHP Warning:  z",
    ]

    first, second = lines.php(said)

    assert (1763706343, 1763706344) == (first.at, second.at)
    assert first.text.endswith("Stack trace:\n#0 {main}")


def test_what_the_host_looks_for_counts_words_and_escapes_dots() -> None:
    import re

    site = Site.model_validate({"domain": "example.com", "aliases": ("xn--mnchen-3ya.de",)})

    assert re.search(asking.front(site), LINE)
    assert re.search(asking.front(site, ("5xx",), NUMBER[:8]), LINE)
    assert not re.search(asking.front(site, ("404",)), LINE)
    assert not re.search(asking.front(site), LINE.replace("{example.com|", "{exampleXcom|"))
    assert not re.search(asking.front(site), LINE.replace("{example.com|", "{other.test|") + " {example.com|")
