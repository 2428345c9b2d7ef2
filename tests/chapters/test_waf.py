"""The balancer's guard: what fleet.yml says, in the words of Apache's modules; what its audit log says, in figures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile import waf
from fabfile.engine.render import render
from fabfile.model import Balancer, Refusal
from fabfile.model.waf import STATUSES
from fabfile.waf import care, guarding
from fabfile.waf.findings import finding, findings
from fabfile.waf.pages import pages
from fabfile.waf.reporting import summary
from fabfile.waf.trying import request_of

from .recording import Recorded

LIMITS = "/etc/apache2/conf-available/gatehouse-limits.conf"


def balancer(routes: dict[str, Any], **keys: Any) -> Balancer:
    told = {path: {"members": ["web1"], **route} for path, route in routes.items()}
    return Balancer.model_validate({"server_name": "www.example.com", "routes": told, **keys}, strict=False)


def limits_file(one: Balancer, told: int = 0) -> str:
    values = {
        "limits": one.limits,
        "widest": one.widest,
        "told": told,
        "ways": guarding.ways(one),
        "filters": guarding.filters(one),
    }
    return render(LIMITS, values)


# ---------------------------------------------------------------------- limits


def test_without_loosened_routes_apache_itself_has_the_tutorials_numbers() -> None:
    text = limits_file(balancer({"/": {}}))

    found = dict(re.findall(r"^(LimitRequest\w+) (\d+)$", text, re.MULTILINE))
    assert {
        "LimitRequestBody": "102400",
        "LimitRequestFields": "40",
        "LimitRequestFieldSize": "1000",
        "LimitRequestLine": "1000",
    } == found


def test_what_haproxy_adds_counts_for_no_visitor() -> None:
    text = limits_file(balancer({"/": {}}), guarding.TOLD)

    assert f"LimitRequestFields {40 + guarding.TOLD}\n" in text
    assert {*re.findall(r"gatehouse_fields=(\d+)", text)} == {str(40 + guarding.TOLD)}


def test_a_loosened_route_widens_apaches_own_and_no_other_routes() -> None:
    one = balancer({"/": {}, "/up": {"limits": {"body": 5_000_000, "line": 8000, "reason": "films"}}, "/up/in": {}})

    assert (5_000_000, 8000, 40) == tuple(getattr(one.widest, key) for key in ("body", "line", "fields"))
    ways = {way.path: way.limits.body for way in guarding.ways(one)}
    assert {"/": 102_400, "/up": 5_000_000, "/up/in": 102_400} == ways
    assert "films" in limits_file(one)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/up", "/up"),
        ("/up/", "/up"),
        ("/up/a", "/up"),
        ("/upper", "/"),
        ("/up/in/x", "/up/in"),
        ("/a", "/"),
    ],
)
def test_the_longest_route_that_fits_is_said_last(path: str, route: str) -> None:
    every = guarding.ways(balancer({"/": {}, "/up": {}, "/up/in": {}}))

    assert route == [way.path for way in every if re.search(way.pattern, path)][-1]


PUNCTUATION = "".join(chr(code) for code in range(33, 127) if not chr(code).isalnum())


@given(st.sets(st.sampled_from(PUNCTUATION)), st.text(st.characters(max_codepoint=255), max_size=20))
def test_a_filter_lets_through_letters_digits_and_what_was_named(allowed: set[str], path: str) -> None:
    wished = "/" + "".join(sorted(allowed - {"/"}))
    one = balancer({"/": {}}, limits={"punctuation": wished})

    ((_, characters, plus),) = guarding.filters(one)
    passes = bool(re.fullmatch(f"[{characters}]*", path.replace("+", " ")))
    by_hand = all(
        (each.isascii() and each.isalnum()) or each in wished for each in path.replace(" ", "" if plus else " ")
    )
    assert passes == by_hand
    assert plus == ("+" in wished)


def test_any_takes_the_filter_away_on_that_route_alone() -> None:
    one = balancer({"/": {}, "/wiki": {"limits": {"punctuation": "any", "reason": "titles"}}})

    assert {"/": 0, "/wiki": guarding.ANY} == {way.path: way.filter for way in guarding.ways(one)}


# ---------------------------------------------------------------------- exclusions


def test_an_exclusion_holds_on_its_route_and_for_its_parameters_alone() -> None:
    exclude = [{"rules": [942100, 941100], "parameters": ["text"], "reason": "they write SQL"}]
    one = balancer(
        {"/": {}, "/blog": {"exclude": exclude}}, waf={"exclusions": [{"rules": [920350], "reason": "health"}]}
    )

    everywhere, blog = guarding.exclusions(one)
    assert (0, ("ruleRemoveById=920350",)) == (everywhere.number, everywhere.words)
    assert ("ruleRemoveTargetById=942100;ARGS:text", "ruleRemoveTargetById=941100;ARGS:text") == blog.words
    assert {blog.number: "/blog"} == {way.number: way.path for way in guarding.ways(one) if way.number == blog.number}


@pytest.mark.parametrize("rule", [949110, 959100, 901001, 10001, 5])
def test_the_rules_that_decide_cannot_be_excluded(rule: int) -> None:
    with pytest.raises(ValueError, match="no rule of the core rule set"):
        balancer({"/": {"exclude": [{"rules": [rule], "reason": "x"}]}})


@pytest.mark.parametrize("part", [{"limits": {"body": 5}}, {"exclude": [{"rules": [942100]}]}])
def test_whatever_is_looser_has_a_reason(part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="reason"):
        balancer({"/": part})


# ---------------------------------------------------------------------- whitelist


def test_debian_12_knows_ipv4_by_whole_bytes() -> None:
    known, unknown = guarding.whitelist(["10.10.10.2", "10.0.0.0/22", "10.0.0.0/8", "fd00::/64", "2001:db8::7"], "12")

    assert ["10.10.10.2", "10.0.0.*", "10.0.1.*", "10.0.2.*", "10.0.3.*", "10.*.*.*", "2001:db8::7"] == known
    assert ["fd00::/64"] == unknown


def test_debian_13_knows_networks_and_those_of_ipv4_as_a_socket_for_both_names_them() -> None:
    known, unknown = guarding.whitelist(["10.0.0.0/22", "10.1.1.1", "fd00::/64", "::1"], "13")

    assert ["10.0.0.0/22", "::ffff:10.0.0.0/118", "10.1.1.1", "::ffff:10.1.1.1", "fd00::/64", "::1"] == known
    assert [] == unknown


# ---------------------------------------------------------------------- pages


def test_there_is_a_page_for_each_status_of_the_tutorial() -> None:
    assert {*STATUSES} <= {*pages({})}
    assert {each for each in (418, *range(422, 429)) if each in pages({})} == set()


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["C", "Z"]), min_size=1, max_size=60))
def test_whatever_a_message_says_is_text_and_one_argument(message: str) -> None:
    page = pages({"404": message})[404]

    bare = page.replace("%{reqenv:UNIQUE_ID}", "")
    assert not set("%$") & set(bare)
    assert bare.isascii()
    assert "\n" not in bare
    # Each quote is escaped, and no backslash stands alone.
    assert not re.sub(r'\\[\\"]', "", page).count('"')
    assert "\\" not in re.sub(r'\\[\\"]', "", page)


# ---------------------------------------------------------------------- the audit log


def record(*messages: str, client: str = "192.0.2.7", line: str = "GET /a?b HTTP/1.1", action: bool = True) -> str:
    said: dict[str, Any] = {"messages": list(messages)}
    if action:
        said["action"] = {"intercepted": True, "phase": 2, "message": "Operator GE matched 5"}
    whole = {
        "transaction": {"time": "21/Nov/2026:12:00:00.000000 +0000", "transaction_id": "abc", "remote_address": client},
        "request": {"request_line": line, "headers": {"Host": "www.example.com"}},
        "response": {"status": 403},
        "audit_data": said,
    }
    return json.dumps(whole)


SQL = (
    'Warning. detected SQLi using libinjection with fingerprint \'s&1c\' [file "/x.conf"] [line "45"] [id "942100"] '
    '[msg "SQL Injection Attack Detected via libinjection"] [data "Matched Data: s&1c found within ARGS:q: 1\' or 1=1"]'
)
FORGED = (
    'Warning. Pattern match "x" at ARGS:a[id \\"1\\"][msg \\"nothing\\"]. [file "/x.conf"] [id "941100"] [msg "XSS"] '
    '[data "[id \\"2\\"]"]'
)
SUM = 'Access denied with code 403 (phase 2). [id "949110"] [msg "Inbound Anomaly Score Exceeded (Total Score: 5)"]'


def test_a_finding_says_what_was_asked_by_whom_and_which_rules_found_what() -> None:
    found = finding(json.loads(record(SQL, SUM)))

    assert ("192.0.2.7", "GET", "/a", "www.example.com", True) == (
        found.client, found.method, found.path, found.host, found.refused
    )  # fmt: skip
    assert [942100, 949110] == [rule.id for rule in found.rules]
    assert "SQL Injection Attack Detected via libinjection" == found.rules[0].message


def test_a_body_that_is_too_large_is_refused_without_a_rule() -> None:
    said = "Request body (Content-Length) is larger than the configured limit (102400)."
    found = finding(json.loads(record(said, action=False)))

    assert (True, 413, [0]) == (found.refused, found.status, [rule.id for rule in found.rules])


def test_nobody_writes_a_rule_into_a_message() -> None:
    (rule,) = finding(json.loads(record(FORGED))).rules

    assert (941100, "XSS") == (rule.id, rule.message)


def test_the_report_counts_requests_and_leaves_sums_out() -> None:
    lines = [record(SQL, SQL, SUM), record(SQL, client="192.0.2.8", action=False), "{cut off", "[]"]
    found = summary(findings("\n".join(lines)))

    assert (2, 1) == (found.requests, found.refused)
    assert [
        {"times": 2, "refused": 1, "rule": 942100, "message": "SQL Injection Attack Detected via libinjection"}
    ] == (found.rules)
    assert [1, 1] == [row["times"] for row in found.clients]


# ---------------------------------------------------------------------- waf.test


def test_what_is_typed_becomes_a_request() -> None:
    got = request_of("https://www.example.com/a?q=1#x", "www.example.com")
    sent = request_of("/a", "www.example.com", data="q=o'brien", kind="application/x-www-form-urlencoded")

    assert got.raw.startswith(b"GET /a?q=1 HTTP/1.1\r\nHost: www.example.com\r\n")
    assert ("POST", b"q=o'brien") == (sent.method, sent.raw.partition(b"\r\n\r\n")[2])
    assert b"Content-Length: 9\r\n" in sent.raw


def test_a_whole_request_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "request").write_bytes(b"POST /a HTTP/1.1\nHost: x\nContent-Length: 3\n\na\nb")

    assert (
        request_of(f"@{tmp_path}/request", "x").raw == b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na\nb"
    )


@pytest.mark.parametrize("text", ["a", "ftp://x/", "/a\r\nX: y", "@/nowhere"])
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        request_of(text, "x")


# ---------------------------------------------------------------------- who has one


@pytest.mark.parametrize("body", [waf.install, waf.configure, *care.TASKS[:3]])
def test_a_host_that_is_no_balancer_is_refused(monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    host = Recorded(monkeypatch)

    with pytest.raises(Refusal, match="vps is no balancer"):
        body.body.__wrapped__(None)
    assert [] == host.after()
