"""Who asks for too much is refused, and free again by himself; nobody else is ever touched; who goes on is banned."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections import Counter

import pytest

from ..machine import Stranger
from .conftest import NAME, PERIOD, Guarded

pytestmark = pytest.mark.demand

FLOOD = 400
REFUSED = {"13": "429", "12": "403"}
"""Debian 12's mod_evasive knows no other status."""


def ask(
    guarded: Guarded, stranger: Stranger, family: int, times: int = 1, path: str = "/flood", *, one: bool = False
) -> Counter[str]:
    """The statuses of so many requests for one page, each over a connection of its own: every child has its share.

    Over `one` connection they are faster.
    """
    target = guarded.host.ip if family == 4 else f"[{guarded.host.ip6}]"
    url = f"https://{NAME}{path}?[1-{times}]"
    alone = [] if one else ["-H", "Connection: close"]
    words = ["--insecure", "--http1.1", *alone, "--connect-to", f"::{target}:", "-o", "/dev/null"]
    return Counter(stranger.curl(*words, "--write-out", "%{http_code}\n", url).out.split())


def test_a_flood_is_refused_and_its_address_is_free_again_and_another_one_never_touched(
    both: Guarded, stranger: Stranger
) -> None:
    refused = REFUSED["12" if "bookworm" in both.host.check("cat /etc/os-release") else "13"]
    before = len(both.reached())
    flood = ask(both, stranger, 4, FLOOD)
    assert flood[refused] > FLOOD / 2, flood
    assert len(both.reached()) - before == flood["200"]
    assert ask(both, stranger, 4, 5)[refused] > 0  # a child that has just begun knows of nothing
    assert ask(both, stranger, 6, 5) == {"200": 5}
    time.sleep(PERIOD + 1)
    assert ask(both, stranger, 4, 5, "/calm") == {"200": 5}
    log = both.host.check("tail -n 500 /var/log/apache2/access.log")
    assert f"{stranger.ip} - - [" in log
    assert re.search(rf"^{re.escape(stranger.ip)} .* {refused} .* - - \d+ \S+$", log, re.MULTILINE), log[-300:]
    assert read_by(both, "gatehouse-flood", "access.log")


def test_the_jail_reads_what_the_rules_refuse(both: Guarded) -> None:
    both.send(f"GET /x%27 HTTP/1.1\r\nHost: {NAME}\r\nUser-Agent: t\r\nConnection: close\r\n\r\n".encode())
    assert read_by(both, "gatehouse-waf", "error.log")


def test_an_operator_and_the_host_itself_are_never_refused(guarded: Guarded) -> None:
    sent = f"GET /operator HTTP/1.1\r\nHost: {NAME}\r\nUser-Agent: t\r\nAccept: */*\r\n\r\n".encode() * 60
    answers = guarded.send(sent, 3)
    assert answers.count(b"HTTP/1.1 200 ") == 60


def test_behind_haproxy_its_one_table_does_the_same_and_bans_go_to_the_visitor(
    behind: Guarded, stranger: Stranger
) -> None:
    assert behind.host.exec("ls /etc/apache2/mods-enabled/evasive.load").rc != 0
    behind.done("haproxy.configure", "--requests", "100", "haproxy.start")
    try:
        flood = ask(behind, stranger, 4, FLOOD)
        assert flood["429"] > FLOOD / 2, flood
        assert ask(behind, stranger, 6, 5) == {"200": 5}
        time.sleep(21)  # HAProxy keeps the ten seconds before the present ten (freq_ctr.h)
        assert ask(behind, stranger, 4, 5, "/calm") == {"200": 5}
    finally:
        behind.done("haproxy.configure", "haproxy.start")
    url = f"https://{NAME}/shop?name=%3Cscript%3Ealert(1)%3C/script%3E"
    target = ["--insecure", "--connect-to", f"::{behind.host.ip}:", "-H", "X-Forwarded-For: 192.0.2.99"]
    assert stranger.curl(*target, "-o", "/dev/null", "--write-out", "%{http_code}", url).out == "403"
    report = json.loads(behind.done("waf.report", "--json"))
    clients = {row["client"] for row in report["clients"]}
    assert stranger.ip in clients
    assert not clients & {"192.0.2.99", "127.0.0.1", behind.host.ip}


def test_who_attacks_again_and_again_is_banned_by_his_own_address(both: Guarded, stranger: Stranger) -> None:
    url = f"https://{NAME}/shop-{{}}?name=%3Cscript%3Ealert(1)%3C/script%3E"  # another page each time: no flood
    target = ["--insecure", "--connect-to", f"::{both.host.ip}:", "-H", "X-Forwarded-For: 192.0.2.99"]
    try:
        for number in range(12):
            stranger.curl(*target, "--max-time", "3", url.format(number))
        end = time.monotonic() + 20
        while not (held := _banned(both, "gatehouse-waf")):
            assert time.monotonic() < end
            time.sleep(1)
        assert held == [stranger.ip]
        assert stranger.curl(*target, "--max-time", "3", f"https://{NAME}/").rc != 0
    finally:
        both.done("fail2ban.unban", stranger.ip)
    assert ask(both, stranger, 4, 1, "/after") == {"200": 1}


def test_who_goes_on_although_refused_is_banned_for_ten_minutes(both: Guarded, stranger: Stranger) -> None:
    try:
        end = time.monotonic() + 60
        while not (held := _banned(both, "gatehouse-flood")):
            assert time.monotonic() < end
            ask(both, stranger, 4, 600, one=True)
        assert held == [stranger.ip]
    finally:
        both.done("fail2ban.unban", stranger.ip)
    time.sleep(PERIOD + 1)
    assert ask(both, stranger, 4, 1, "/after") == {"200": 1}


def _banned(guarded: Guarded, jail: str) -> list[str]:
    jails = {each["name"]: each for each in json.loads(guarded.done("fail2ban.status", "--json"))["jails"]}
    return [ban["address"] for ban in jails[jail]["bans"]]


def read_by(guarded: Guarded, jail: str, log: str) -> bool:
    """Whether that jail's filter finds anything in a log: one that misreads it bans nobody, and says nothing."""
    said = guarded.host.check(shlex.join(["fail2ban-regex", f"/var/log/apache2/{log}", jail]))
    return bool(re.search(r"^Lines: \d+ lines, \d+ ignored, [1-9]\d* matched", said, re.MULTILINE))
