"""The core rule set: what it finds, what it leaves alone, what an operator sees of it, and how it only watches."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from . import ordinary, regression
from .conftest import APP, NAME, Guarded

pytestmark = pytest.mark.demand

# What of the core rule set's own tests another server than theirs answers otherwise.
EXCEPTED = {
    "920100-4": "CONNECT: an Apache without mod_proxy_connect says 400 by itself; the test wants 403 or 405",
    "920272-5": "wants the 404 of a server with files; what stands behind waf.test has none, and says 204",
}


def get(path: str) -> bytes:
    return ordinary.request(NAME, "GET", path)


def test_what_ordinary_people_send_is_not_refused(both: Guarded) -> None:
    corpus = ordinary.corpus(NAME, APP)
    with ThreadPoolExecutor(4) as pool:
        answers = dict(zip(corpus, pool.map(both.send, corpus.values()), strict=True))
    refused = {what: answer[:60] for what, answer in answers.items() if not answer.startswith(b"HTTP/1.1 20")}
    assert refused == {}
    assert len(corpus) >= 45


ATTACKS = {
    "/shop?id=1%27%20or%20%271%27=%271": 942100,
    "/shop?name=%3Cscript%3Ealert(1)%3C/script%3E": 941100,
    "/shop?file=../../../../etc/passwd": 930100,
    "/shop?cmd=;cat%20/etc/passwd": 932160,
}


def test_attacks_are_refused_and_an_operator_sees_by_whom_and_why(both: Guarded) -> None:
    before = len(both.reached())
    for path in ATTACKS:
        assert both.send(get(path)).startswith(b"HTTP/1.1 403 "), path
    assert both.reached()[before:] == []
    report = json.loads(both.done("waf.report", "--json", "--since", "1h"))
    assert {*ATTACKS.values()} <= {row["rule"] for row in report["rules"]}
    assert report["refused"] >= len(ATTACKS)
    assert f"{NAME}/shop" in {row["path"] for row in report["paths"]}
    secret = "Zm9vYmFy"  # of the session
    assert "0" == both.host.check(f"grep -c {secret} /var/log/gatehouse-waf/audit.json || :").strip()
    assert "640 root adm" == both.host.check("stat -c '%a %U %G' /var/log/gatehouse-waf").replace("750", "640").strip()


def test_an_exclusion_holds_for_its_parameter_on_its_route(guarded: Guarded) -> None:
    sql = "1%27%20or%20%271%27=%271"
    found = {
        where: json.loads(guarded.fab("waf.test", where, "--json").stdout)
        for where in (f"/forum?text={sql}", f"/forum?other={sql}", f"/shop?text={sql}")
    }
    rules = [{rule["id"] for rule in each["rules"]} for each in found.values()]
    assert [False, True, True] == [942100 in each for each in rules]
    assert [403, 403] == [each["status"] for each in found.values()][1:]


def test_waf_test_says_what_visitors_meet_and_no_member_sees_it(guarded: Guarded) -> None:
    before = len(guarded.reached())
    good = guarded.fab("waf.test", "/shop?q=shoes", "--json")
    bad = guarded.fab("waf.test", "/shop", "--data", "q=<script>alert(1)</script>", "--json")
    assert (good.returncode, json.loads(good.stdout)["passes"]) == (0, True), good.stdout + good.stderr
    assert bad.returncode == 1, bad.stdout + bad.stderr
    told = json.loads(bad.stdout)
    assert (told["status"], 941100 in {each["id"] for each in told["rules"]}) == (403, True)
    assert guarded.reached()[before:] == []


def test_the_rules_only_watch_for_a_while_and_limits_hold_meanwhile(guarded: Guarded) -> None:
    attack = get("/shop?name=%3Cscript%3Ealert(1)%3C/script%3E")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    over = ordinary.request(NAME, "POST", "/over", form, b"x" * 102_401)
    assert guarded.send(attack).startswith(b"HTTP/1.1 403 ")
    guarded.done("waf.detect-only", "--for", "8s")
    began = time.monotonic()
    until(guarded, attack, b"200")
    assert guarded.send(over).startswith(b"HTTP/1.1 413 ")
    until(guarded, attack, b"403")
    assert time.monotonic() - began < 30
    guarded.done("waf.detect-only", "--for", "1h")
    until(guarded, attack, b"200")
    guarded.done("waf.enforce")
    until(guarded, attack, b"403")
    assert "" == guarded.host.check("ls /run/gatehouse-waf 2> /dev/null || :")


def until(guarded: Guarded, sent: bytes, status: bytes, seconds: float = 25) -> None:
    """A graceful reload takes a moment; the old children answer as before."""
    end = time.monotonic() + seconds
    while guarded.send(sent).split()[1:2] != [status]:
        assert time.monotonic() < end, status
        time.sleep(0.5)


def test_nothing_is_to_do_a_second_time(both: Guarded) -> None:
    assert "3 kept, 0 changed" in both.done("waf")


def test_the_core_rule_sets_own_tests(both: Guarded, pytestconfig: pytest.Config) -> None:
    """With `--crs DIR`: a checkout of the rule set for each release, DIR/3.3.7 and DIR/3.3.4.

    The rules watch at paranoia level 4, as their makers have it, and the limits are as wide as they go: these tests are
    about rules.
    """
    place = pytestconfig.getoption("--crs")
    if not place:
        pytest.fail("the core rule set's tests are its own: --crs DIR says where checkouts of it are", pytrace=False)
    version = both.host.check("dpkg-query -W -f '${Version}' modsecurity-crs").partition("-")[0]
    every = list(regression.cases(Path(place) / version))
    limits = {"body": 2_000_000, "fields": 1000, "field_size": 60_000, "line": 60_000, "punctuation": None}
    both.said(limits=limits, waf={"engine": "detect", "paranoia": 4})
    own = "/etc/apache2/conf-enabled/000-regression.conf"
    theirs = "setvar:tx.crs_validate_utf8_encoding=1,setvar:tx.arg_name_length=100,setvar:tx.arg_length=400"
    methods = "setvar:'tx.allowed_methods=GET HEAD POST OPTIONS'"
    changed = "/etc/apache2/conf-available/gatehouse-waf.conf"
    try:
        both.done("waf")
        both.host.put({own: f'SecAction "id:1,phase:1,pass,nolog,t:none,{theirs}"\n'.encode()})
        both.host.check(f"sed -i \"s/setvar:'tx.allowed_methods=[^']*'/{methods}/\" {changed}")
        both.host.check("systemctl restart apache2")
        outcome = regression.run(both.host, every, 8403, "/var/log/gatehouse-waf/trying.json")
    finally:
        both.host.check(f"rm -f {own}")
        both.said()
        both.done("waf")
    print(f"core rule set {version}: {outcome}")
    assert len(every) > 2000
    assert {*outcome.failed} <= {*EXCEPTED}
