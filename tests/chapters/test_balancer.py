"""The cluster front: what Apache is told, and what its manager tells.  (T3)"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from fabfile import balancer, cert, firewall, flows, haproxy
from fabfile.balancer.manager import read, rows
from fabfile.balancer.pools import pools
from fabfile.engine.facts import User
from fabfile.firewall.loading import wanted
from fabfile.model import Fleet, Refusal

from .recording import Recorded, contents

ROUTES = {
    "/": {"members": ("web1", "web2")},
    "/news_rss": {"members": ("news",)},
    "/paid_user": {"members": ("paid1",), "spares": ("paid2",), "sticky": True, "timeout": 9},
}
MEMBERS = ("news", "paid1", "paid2", "web1", "web2")


def fronted(
    monkeypatch: pytest.MonkeyPatch, roles: Sequence[str] = ("balancer",), keys: Any = None, **known: Any
) -> Recorded:
    """A balancer before five members."""
    host = Recorded(monkeypatch, **known)
    hosts: dict[str, Any] = {"vps": {"address": "10.0.0.2", "roles": tuple(roles)}}
    hosts |= {name: {"address": f"10.0.0.{n}", "roles": ("member",)} for n, name in enumerate(MEMBERS, 3)}
    front = {"server_name": "www.example.com", "aliases": ("example.com",), "routes": ROUTES, **(keys or {})}
    host.fleet = Fleet.model_validate({"hosts": hosts, "balancer": front})
    host.certified = host.fleet.certified_at("vps")
    return host


def vhost(host: Recorded) -> str:
    return contents(host.after(balancer.configure))[balancer.VHOST]


def test_routes_are_tried_longest_first_and_what_is_ours_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    text = vhost(fronted(monkeypatch))
    found = re.findall(r'^ *ProxyPass "(\S+)" "?(\S+?)"?$', text, flags=re.MULTILINE)
    assert found == [
        ("/gatehouse-members", "!"),
        ("/paid_user", "balancer://paid_user/paid_user"),
        ("/news_rss", "balancer://news_rss/news_rss"),
        ("/", "balancer://the.rest/"),
    ]


def test_its_tmp_is_its_own_user_s_or_a_long_body_has_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = contents(fronted(monkeypatch).after(balancer.install))[balancer.UNIT]
    assert "chown web_daemon: /tmp /var/tmp" in unit
    assert "www-data:" not in unit


def test_members_are_known_by_address_and_a_spare_stands_by(monkeypatch: pytest.MonkeyPatch) -> None:
    text = vhost(fronted(monkeypatch))
    pool = text.partition('<Proxy "balancer://paid_user">')[2].partition("</Proxy>")[0]
    assert re.findall(r'BalancerMember "(\S+)"', pool) == ["http://10.0.0.4", "http://10.0.0.5"]
    assert pool.count("timeout=9 ") == 2
    assert "Define state.paid_user.paid1 -H-N\n" in text
    assert "Define state.paid_user.paid2 +H-N\n" in text
    assert "redirect=" not in text
    for name in MEMBERS:
        assert f"http://{name}" not in text


def test_a_safe_request_is_asked_again_only_where_somebody_else_could_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = re.findall(r'RewriteRule "(.*)" "-" \[E=(!?AGAIN\S*)\]', vhost(fronted(monkeypatch)))
    assert lines == [("^/", "AGAIN:the.rest"), ("^/news_rss(/|$)", "!AGAIN"), ("^/paid_user(/|$)", "AGAIN:paid_user")]


def test_only_a_route_that_asks_for_it_gets_a_cookie(monkeypatch: pytest.MonkeyPatch) -> None:
    text = vhost(fronted(monkeypatch))
    assert re.findall(r"stickysession=(\S+)", text) == ["__Secure-stay-paid_user"]
    assert re.findall(r"Set-Cookie \"(\S+)=.*Path=(\S+);", text) == [("__Secure-stay-paid_user", "/paid_user")]
    assert text.count("Set-Cookie") == 1


def test_alone_it_ends_tls_and_behind_haproxy_it_believes_its_proxy_header(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = fronted(monkeypatch)
    assert "RemoteIPProxyProtocol" not in vhost(alone)
    assert "Listen 443 https" in contents(alone.after(balancer.install))[balancer.PORTS]
    both = fronted(monkeypatch, ("balancer", "edge"))
    text = vhost(both)
    assert text.count("RemoteIPProxyProtocol On") == 2
    assert "SSLEngine" not in text
    ports = contents(both.after(balancer.install))[balancer.PORTS]
    assert re.findall("^Listen .*", ports, flags=re.MULTILINE) == ["Listen 127.0.0.1:8085 http"]
    written = contents(both.after(haproxy.hosts, haproxy.configure))
    assert "example.com www.example.com\n" in written["/etc/haproxy/hosts.map"]
    assert written[haproxy.BACKENDS] == "www.example.com apache\n"
    assert "server apache 127.0.0.1:8085 send-proxy-v2" in written[haproxy.CONFIG]


def test_haproxy_before_it_lets_through_what_a_route_takes_and_waits_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = {"limits": {"body": 2**30, "reason": "films"}, "timeout": 100}
    for more, body, wait in (({}, "", 70), (wide, f"www.example.com {2**30}\n", 220)):
        routes = {"/": {"members": ("web1", "web2"), **more}}
        host = fronted(monkeypatch, ("balancer", "edge"), {"routes": routes})
        written = contents(host.after(haproxy.hosts, haproxy.configure))
        assert written["/etc/haproxy/bodies.map"] == body
        assert f"timeout server {wait}s\n" in written[haproxy.CONFIG]


def test_its_certificate_is_asked_for_as_a_sites_is(monkeypatch: pytest.MonkeyPatch) -> None:
    written = contents(fronted(monkeypatch).after(cert.requests))
    assert "names=www.example.com example.com\n" in written["/etc/gatehouse/certs/www.example.com.conf"]


def test_a_member_has_the_chapters_of_every_host_and_no_other() -> None:
    assert {step.__module__ for step in flows.steps_of({"member"})} == {  # type: ignore[no-untyped-call]
        step.__module__ for step in flows.steps_of(set())  # type: ignore[no-untyped-call]
    }


def test_only_the_balancer_gets_in_at_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    host = fronted(monkeypatch)
    host.name, host.facts.ssh_ports = "web1", (22,)
    rules = wanted(host, [])[4]["GATEHOUSE"]
    doors = [rule for rule in rules if "--dport" in rule]
    assert doors == [
        "-s 10.0.0.2/32 -p tcp -m tcp --dport 22 -j ACCEPT",
        "-s 10.0.0.2/32 -p tcp -m tcp --dport 80 -j ACCEPT",
    ]


def test_apache_alone_asks_lego_on_a_balancer(monkeypatch: pytest.MonkeyPatch) -> None:
    host = fronted(monkeypatch, users={"web_daemon": User("web_daemon", 999, 999, "/nonexistent", "/usr/sbin/nologin")})
    rules = firewall.loading.layers(host)
    assert "-p tcp -m tcp --dport 8082 -m owner --uid-owner 999 -j ACCEPT" in rules
    assert rules[-2].endswith("-j REJECT --reject-with tcp-reset")


TOLD = """junk<httpd:manager xmlns:httpd='http://httpd.apache.org'><httpd:balancers>
<httpd:balancer><httpd:name>balancer://paid_user</httpd:name><httpd:nonce>n</httpd:nonce><httpd:workers>
{}</httpd:workers></httpd:balancer></httpd:balancers></httpd:manager>"""
WORKER = """<httpd:worker><httpd:name>http://10.0.0.{}</httpd:name><httpd:status>{}</httpd:status>
<httpd:busy>{}</httpd:busy><httpd:elected>7</httpd:elected><httpd:read>1</httpd:read>
<httpd:transferred>2</httpd:transferred></httpd:worker>"""


@pytest.mark.parametrize(
    ("first", "second", "states", "hand"),
    [
        ("Init Ok ", "Init Stby Ok ", ("serves", "stands by"), ("", "")),
        ("Init Err ", "Init Stby Ok ", ("failed", "stands by"), ("", "")),
        ("Init HcFl ", "Init Stby HcFl ", ("unwell", "unwell"), ("", "")),
        ("Init Drn Ok ", "Init Ok ", ("drained", "serves"), ("drain", "member")),
        ("Init Stby Ok ", "Init Stby Drn ", ("stands by", "drained"), ("spare", "drain")),
        ("Init Dis ", "Init Stop ", ("disabled", "stopped"), ("", "member")),
    ],
)
def test_what_apache_says_of_members_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str, states: tuple[str, str], hand: tuple[str, str]
) -> None:
    host = fronted(monkeypatch)
    answer = TOLD.format(WORKER.format(4, first, 3) + WORKER.format(5, second, 0))
    found = [row for row in rows(host, answer) if row.route == "/paid_user"]
    assert tuple(row.state for row in found) == states
    assert tuple(row.set for row in found) == hand
    assert [(row.member, row.busy, row.served) for row in found] == [("paid1", 3, 7), ("paid2", 0, 7)]
    assert {row.state for row in rows(host, answer) if row.route == "/"} == {"missing"}
    assert ("paid_user", "http://10.0.0.4") in read(answer)


def test_a_host_that_is_no_balancer_is_told_which_is(monkeypatch: pytest.MonkeyPatch) -> None:
    host = fronted(monkeypatch)
    host.name = "web1"
    with pytest.raises(Refusal, match="web1 is no balancer"):
        pools(host)
