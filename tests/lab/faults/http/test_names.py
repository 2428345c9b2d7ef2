"""A Host that is none, two, odd, or unlike the rest of the request: refused, or the right site's answer."""

import json
import re
from collections.abc import Callable

import pytest

from ...front.visitor import Visitor
from ...machine import Machine
from .wire import Headers, get, h2, head, send

pytestmark = pytest.mark.fault("F-75")

# What may stand behind "Host:" on a connection for example.com, and whether it means that site.
HOSTS = {
    "example.com": True, "EXAMPLE.com": True, "example.com.": True, "example.com:443": True, "example.com:8443": True,
    " \t example.com \t": True,
    "": False, "kiosk.co.test": False, "kiosk.test": False, "evil.example.net": False, "evilexample.com": False,
    "example.com.evil.net": False, "health.invalid": False, "unknown.invalid": False, "localhost": False,
    "127.0.0.1": False, "127.0.0.1:8080": False, "[::1]": False, "[::1]:443": False, ".": False, ":443": False,
    "..example.com": False, "user@example.com": False, "user:word@example.com": False, "example.com@kiosk.test": False,
    "example.com, kiosk.test": False, "example.com kiosk.test": False, "example.com\tkiosk.test": False,
    "example.com/kiosk": False, "example.com#kiosk.test": False, "example.com?kiosk.test": False,
    "example.com\\kiosk.test": False, "example.com%00.kiosk.test": False, "example.com\0.kiosk.test": False,
    "example.com:80:443": None, "example.com:x": None, "example.com:-1": None, "example.com:": None,
    "example.com:99999": None, "kiosk.test:example.com": False, "xn--example.com": False, "exämple.com": False,
}  # fmt: skip
ONE = b"GET /front.php HTTP/1.1\r\n"
RAW = {
    "two": ONE + b"Host: example.com\r\nHost: kiosk.test\r\n\r\n",
    "none": ONE + b"\r\n",
    "none in HTTP/1.0": b"GET /front.php HTTP/1.0\r\n\r\n",
    "folded": ONE + b"Host:\r\n kiosk.test\r\n\r\n",
    "space before colon": ONE + b"Host : kiosk.test\r\n\r\n",
    "another in the address": b"GET https://kiosk.test/front.php HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "example.com in the address, another behind it": (
        b"GET https://example.com/front.php HTTP/1.1\r\nHost: kiosk.test\r\n\r\n"
    ),
    "a password in the address": b"GET https://a:b@example.com/front.php HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "no slash": b"GET front.php HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "a host for a path": b"GET @kiosk.test/front.php HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "a tunnel": b"CONNECT kiosk.test:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    "a star": b"OPTIONS * HTTP/1.1\r\nHost: example.com\r\n\r\n",
}
KIOSK = "kiosk.test"
PATH = ":path", "/front.php"
START = [(":method", "GET"), (":scheme", "https")]
FRAMES: dict[str, Headers] = {
    "authority unlike host": get("/front.php", ("host", KIOSK)),
    "host alone, of another site": [*START, PATH, ("host", KIOSK)],
    "two hosts": get("/front.php", ("host", "example.com"), ("host", KIOSK)),
    "two authorities": [*START, (":authority", "example.com"), (":authority", KIOSK), PATH],
    "authority of another site": get("/front.php", name=KIOSK),
    "no authority": [*START, PATH],
    "empty authority": get("/front.php", name=""),
    "password in authority": get("/front.php", name=f"a:b@{KIOSK}"),
    "a path with another host": get(f"https://{KIOSK}/front.php"),
    "a path without slash": get(f"@{KIOSK}/front.php"),
}


def right(body: bytes) -> bool:
    """Whether example.com itself answered, under its own name."""
    found = re.search(rb"\{\"server\":.*\}", body, re.DOTALL)
    told = json.loads(found[0])["server"] if found else {}
    named = [told.get(key) for key in ("HTTP_HOST", "HTTP_X_FORWARDED_HOST")]
    return named == ["example.com"] * 2 and told["SCRIPT_FILENAME"].startswith("/var/www/example.com/")


def test_f75_a_name_is_refused_or_means_the_right_site(host: Machine, seen: Callable[[str], None]) -> None:
    served = 0
    for number, (name, ours) in enumerate(HOSTS.items()):
        sent = head(host, f"/front.php?{number}", "NAME", Connection="close").replace(b"NAME", name.encode())
        received, closed = send(host, sent)
        status = int(received[9:12] or 0)
        assert closed, repr(name)
        if ours or (ours is None and status == 200):
            assert status == 200, repr(name)
            assert right(received), repr(name)
            served += 1
        else:
            assert status in (0, 400, 403, 421), f"{name!r}: {status}"
            assert b"Location" not in received
    seen(f"{len(HOSTS)} spellings: {served} mean the site, {len(HOSTS) - served} are refused")


def test_f75_a_request_with_two_names_or_none_is_refused(host: Machine, seen: Callable[[str], None]) -> None:
    statuses = {what: send(host, sent, 1)[0][9:12] for what, sent in RAW.items()}
    assert set(statuses.values()) <= {b"", b"400", b"403", b"405", b"421"}, statuses
    outcomes = {}
    for what, headers in FRAMES.items():
        outcomes[what], _, body = h2(host, headers)
        assert outcomes[what] in ("reset", "goaway", "400", "421") or right(body), f"{what}: {outcomes[what]}"
    heeded = sum(outcome == "200" for outcome in outcomes.values())
    assert h2(host, [*START, PATH, ("host", "example.com")])[0] == "200"
    same = b"GET https://example.com/front.php HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n"
    assert right(send(host, same + b"\r\n")[0])
    assert right(send(host, same + b"Host: example.com\r\n\r\n")[0])
    seen(f"{len(RAW) + len(FRAMES)} with two names or none: {heeded} go by the right one, the others are refused")


def test_f75_a_connection_for_one_site_serves_its_other_names_and_no_other_site(ask: Visitor) -> None:
    for version in ("--http1.1", "--http2"):
        assert ask("https://www.example.com/", version, "-H", "Host: example.com").status == 200
        answer = ask("https://example.com/", version, "-H", "Host: kiosk.co.test")
        assert (answer.status, "kiosk" in answer.body) == (421, False)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("path", ["/a?b", "/.well-known/acme-challenge/x"])
def test_f75_an_unknown_name_is_refused_and_led_nowhere(ask: Visitor, scheme: str, path: str) -> None:
    for address in (ask.host.ip, f"[{ask.host.ip6}]"):
        answer = ask(f"{scheme}://evil.example.net{path}", "--insecure", to=address)
        assert answer.status == 421
        assert "location" not in answer.headers
        assert "evil" not in answer.body


def test_f75_who_names_no_site_in_tls_gets_a_certificate_that_names_none(ask: Visitor) -> None:
    for naming in ("-servername nosuch.invalid", "-noservername"):
        shown = ask.stranger.check(
            f"openssl s_client -connect {ask.host.ip}:443 {naming} </dev/null 2>/dev/null | openssl x509 -noout -text"
        )
        assert not re.search("example|kiosk|vps", shown)
