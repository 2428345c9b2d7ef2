"""Forged addresses through all four layers, HAProxy, Varnish, Apache and PHP, and those who read their logs.

The stranger says in every known way that it is somebody else; every layer goes by the address that it really has.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator

import pytest

from ...front.visitor import FORGED, ROOM, Visitor
from ...machine import Machine
from .wire import get, h2, server

LOCAL = ("X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Client-IP: 127.0.0.1", "Forwarded: for=127.0.0.1")
HEADERS = (*FORGED, "X-Forwarded-For: 9.9.9.9, 127.0.0.1", "Connection: close, X-Forwarded-For, X-Forwarded-Proto")
pytestmark = pytest.mark.fault("F-74")


def curl(headers: tuple[str, ...]) -> list[str]:
    return [word for header in headers for word in ("-H", header)]


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("family", [4, 6])
def test_f74_php_and_all_logs_name_the_real_client(
    ask: Visitor, page: str, version: str, family: int, seen: Callable[[str], None]
) -> None:
    address = ask.host.ip if family == 4 else f"[{ask.host.ip6}]"
    mine = ask.stranger.ip if family == 4 else ask.stranger.ip6
    headers = HEADERS if version == "--http1.1" else HEADERS[:-1]  # HTTP/2 knows no Connection
    told = ask(page, version, *curl(headers), to=address).seen
    assert told["REMOTE_ADDR"] == mine
    assert told["HTTPS"] == "on"
    assert told["HTTP_X_FORWARDED_PROTO"] == "https"
    assert told["HTTP_X_FORWARDED_HOST"] == told["HTTP_HOST"] == "example.com"
    assert re.fullmatch(r"[0-9a-f-]{36}", told["HTTP_X_REQUEST_ID"])
    # mod_remoteip has taken the address out of X-Forwarded-For; nothing else may be left in it.
    assert told.get("HTTP_X_FORWARDED_FOR", mine) == mine
    said = {name: value for name, value in told.items() if name.startswith("HTTP_")}
    assert not re.search(r"evil|9\.9\.9\.9|8\.8\.8\.8|127\.0\.0\.1|OVERRIDE", json.dumps(said))
    once = page.partition("?")[2]
    assert ask.host.check(f"grep -h {once} /var/www/example.com/log/access_log").startswith(f"{mine} ")
    number = told["HTTP_X_REQUEST_ID"]
    assert f"{mine}:" in ask.host.check(f"journalctl -q -u haproxy -o cat --since -2min | grep {number}")
    seen(f"{len(headers)} forged headers a request: PHP and the logs of HAProxy and Apache name the peer, v4 and v6")


@contextlib.contextmanager
def closed(host: Machine, rule: str) -> Iterator[str]:
    """A page of example.com whose directory has this .htaccess."""
    host.check(f"runuser -u example-com -- sh -c 'mkdir {ROOM}/closed && cat > {ROOM}/closed/.htaccess'", stdin=rule)
    try:
        host.check(f"runuser -u example-com -- sh -c 'echo open > {ROOM}/closed/page.txt'")
        yield "https://example.com/closed/page.txt"
    finally:
        host.check(f"rm -r {ROOM}/closed")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_f74_require_ip_opens_for_the_real_address_alone(ask: Visitor, version: str) -> None:
    with closed(ask.host, "Require ip 127.0.0.0/8 ::1 9.9.9.9\n") as url:
        assert ask(url, version).status == 403
        assert ask(url + "?a", version, *curl(HEADERS[:-1])).status == 403
        assert ask(url + "?b", version, *curl(LOCAL)).status == 403
        assert ask(url + "?c", version, "-H", "X_Forwarded_For: 127.0.0.1").status == 403
        assert ask.host.exec(f"curl -sSo /dev/null {url}").rc != 0  # the loopback has no certificate of this name
    with closed(ask.host, f"Require ip {ask.stranger.ip}\n") as url:
        assert ask(url + "?d", version, *curl(LOCAL)).body == "open\n"


def test_f74_fail2ban_would_count_the_real_address(ask: Visitor, seen: Callable[[str], None]) -> None:
    """One wrong password, five would be a ban; the filter itself says whom it would count."""
    log = "/var/www/example.com/log/error_log"
    rule = f"AuthType Basic\nAuthName closed\nAuthUserFile {ROOM}/closed/.htpasswd\nRequire valid-user\n"
    with closed(ask.host, rule) as url:
        ask.host.check(f"runuser -u example-com -- sh -c 'echo a:x > {ROOM}/closed/.htpasswd'")
        before = int(ask.host.check(f"wc -l < {log}"))
        assert ask(url, "-u", "a:b", *curl(HEADERS[:-1])).status == 401
    ask.host.check(f"tail -n +{before + 1} {log} > /tmp/failures")
    told = ask.host.check("fail2ban-regex -o ip /tmp/failures apache-auth; rm /tmp/failures").split()
    assert told == [ask.stranger.ip]
    seen("Require ip opens for the real address alone; fail2ban would count that one")


def test_f74_frames_that_claim_an_address_are_refused_or_forgotten(host: Machine) -> None:
    honest = [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "8.8.8.8"), ("forwarded", "for=9.9.9.9")]
    outcome, _, body = h2(host, get("/front.php?frames", *honest))
    assert (outcome, "9.9.9.9" in str(server(body)), "8.8.8.8" in str(server(body))) == ("200", False, False)
    for header in [(":remote-addr", "9.9.9.9"), ("X-Forwarded-For", "9.9.9.9"), ("x-forwarded-for ", "9.9.9.9")]:
        assert h2(host, get("/front.php?frames", header))[0] in ("reset", "goaway"), header
    assert h2(host, get("/front.php?frames", ("x_forwarded_for", "9.9.9.9")))[0] == "403"
