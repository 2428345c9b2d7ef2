"""One request that two servers could read as two: refused, or read alike by all four, and nobody's answer shifts.

Beside the corpus an honest visitor asks on and on, each time for a page of its own. The hosts share connections among
visitors behind HAProxy, so a request that was left over there would be answered to the wrong one.
"""

import http.client
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from ...machine import Machine
from .wire import Headers, get, h2, post, send, server

LOG = "/var/www/example.com/log/access_log"
POST = b"POST /front.php?attack HTTP/1.1\r\nHost: example.com\r\n"
GET = b"GET /front.php?attack HTTP/1.1\r\nHost: example.com\r\n"
# What the attacker hopes that a server takes for the next visitor's request.
HIDDEN = b"GET /front.php?smuggled=%s HTTP/1.1\r\nHost: example.com\r\nX: "
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def _length(body: bytes, more: int = 0) -> bytes:
    return b"Content-Length: %d\r\n" % (len(body) + more)


def _corpus() -> dict[str, bytes]:
    """Requests by name. Each holds HIDDEN where one server could see a body, and another one a request."""
    found = {}
    ended = b"0\r\n\r\n"

    def hidden(name: str) -> bytes:
        return HIDDEN % name.encode()

    for name in ("cl.te", "cl.te-lf"):
        body = ended + hidden(name)
        end = b"\r\n" if name == "cl.te" else b"\n"
        found[name] = POST + _length(body) + CHUNKED.replace(b"\r\n", end) + b"\r\n" + body
    part = hidden("te.cl")
    found["te.cl"] = POST + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n%x\r\n" % len(part) + part + b"\r\n" + ended
    disguises = {
        "xchunked": b"Transfer-Encoding: xchunked",
        "space before colon": b"Transfer-Encoding : chunked",
        "tab before value": b"Transfer-Encoding:\tchunked",
        "vertical tab": b"Transfer-Encoding:\x0bchunked",
        "form feed": b"Transfer-Encoding: \x0cchunked",
        "nul": b"Transfer-Encoding: chunked\x00",
        "leading space": b" Transfer-Encoding: chunked",
        "folded": b"Transfer-Encoding:\r\n chunked",
        "folded name": b"X: x\r\n Transfer-Encoding: chunked",
        "quoted": b'Transfer-Encoding: "chunked"',
        "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "twice, otherwise": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "listed": b"Transfer-Encoding: identity, chunked",
        "listed, otherwise": b"Transfer-Encoding: chunked, identity",
        "chunked twice": b"Transfer-Encoding: chunked, chunked",
        "case": b"tRANSFER-eNCODING: ChUnKeD",
        "cow": b"Transfer-Encoding: cow",
        "underscore": b"Transfer_Encoding: chunked",
        "bare cr": b"X: x\rTransfer-Encoding: chunked",
        "bare lf": b"X: x\nTransfer-Encoding: chunked",
        "empty": b"Transfer-Encoding:",
        "long": b"Transfer-Encoding: " + b" " * 300 + b"chunked",
        "high letter": b"Transfer-Encoding: \xa0chunked",
        "empty name": b": x\r\nTransfer-Encoding: chunked",
        "connection": b"Connection: Content-Length\r\nTransfer-Encoding: chunked",
    }
    for name, disguise in disguises.items():
        body = ended + hidden(f"te.te {name}".replace(" ", "-"))
        found[f"te.te {name}"] = POST + _length(body) + disguise + b"\r\n\r\n" + body
    lengths = {
        "plus": b"+5", "minus": b"-5", "hex": b"0x5", "float": b"5.0", "exponent": b"5e0", "list": b"5, 5",
        "empty": b"", "space": b"5 5", "letters": b"5a", "zeros": b"0000000005", "nul": b"5\x00", "underscore": b"1_0",
        "huge": b"18446744073709551621", "wrapped": b"4294967301",
    }  # fmt: skip
    for name, length in lengths.items():
        found[f"cl {name}"] = POST + b"Content-Length: " + length + b"\r\n\r\nabcde" + hidden(f"cl-{name}")
    for name, both in {"two": (5, 50), "two, otherwise": (50, 5)}.items():
        lines = b"".join(b"Content-Length: %d\r\n" % length for length in both)
        found[f"cl {name}"] = POST + lines + b"\r\nabcde" + hidden("cl-two")
    # A body where one server expects none: static files, GET and HEAD, HTTP/1.0.
    for name, first in {
        "cl.0 picture": b"POST /front.css HTTP/1.1\r\nHost: example.com\r\n",
        "cl.0 get": GET,
        "cl.0 head": GET.replace(b"GET", b"HEAD"),
        "cl.0 options": GET.replace(b"GET", b"OPTIONS"),
        "cl.0 redirect": b"POST /front.php?status=301&to HTTP/1.1\r\nHost: example.com\r\n",
        "cl.0 refused": b"POST /.git/config HTTP/1.1\r\nHost: example.com\r\n",
        "cl.0 upgrade": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "cl.0 expect": POST + b"Expect: 100-continue\r\n",
        "cl.0 odd expect": POST + b"Expect: x 100-continue\r\n",
    }.items():
        body = hidden(name.replace(" ", "-")) + b"x\r\n\r\n"
        found[name] = first + _length(body) + b"\r\n" + body
    old = hidden("http-1.0") + b"x\r\n\r\n"
    found["http 1.0, chunked"] = POST.replace(b"1.1", b"1.0") + CHUNKED + _length(ended + old) + b"\r\n" + ended + old
    found["http 0.9"] = b"GET /front.php?smuggled=http-0.9\r\n\r\n"
    found["http 1.2"] = GET.replace(b"1.1", b"1.2") + _length(old) + b"\r\n" + old
    for name, chunk in {
        "extension": b"5;a=b\r\nabcde\r\n",
        "extension with line feed": b"5;a\nabcde\r\n",
        "size with plus": b"+5\r\nabcde\r\n",
        "size with 0x": b"0x5\r\nabcde\r\n",
        "size too large": b"100000000000000005\r\nabcde\r\n",
        "size minus": b"-5\r\nabcde\r\n",
        "size empty": b"\r\nabcde\r\n",
        "lf only": b"5\nabcde\n",
        "no end": b"5\r\nabcdeXX",
        "cr only": b"5\rabcde\r",
    }.items():
        rest = hidden(f"chunk-{name}".replace(" ", "-"))
        found[f"chunk {name}"] = POST + CHUNKED + b"\r\n" + chunk + ended + (b"" if name == "extension" else rest)
    found["trailer"] = POST + CHUNKED + b"\r\n0\r\nContent-Length: 60\r\nTransfer-Encoding: x\r\nHost: evil\r\n\r\n"
    found["line feeds alone"] = b"GET /front.php?attack HTTP/1.1\nHost: example.com\n\n" + hidden("lf")
    found["folded header"] = GET + b"X: a\r\n b: c\r\n\r\n"
    found["space in address"] = b"GET /front.php?attack HTTP/1.1 x HTTP/1.1\r\nHost: example.com\r\n\r\n"
    found["cr in address"] = b"GET /front.php?a\rtack HTTP/1.1\r\nHost: example.com\r\n\r\n"
    return found


CORPUS = _corpus()
LINE = (
    "x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /front.php?smuggled=h2 HTTP/1.1\r\nHost: example.com\r\n\r\n"
)
BODY = (HIDDEN % b"h2-body") + b"x\r\n\r\n"
HONEST: dict[str, tuple[Headers, tuple[bytes, ...]]] = {
    "honest": (get("/front.php?attack"), ()),
    "honest length": (post("/front.php?attack", ("content-length", str(len(BODY)))), (BODY[:9], BODY[9:])),
    "honest, without length": (post("/front.php?attack"), (BODY,)),
}
FRAMES: dict[str, tuple[Headers, tuple[bytes, ...]]] = HONEST | {
    "length too small": (post("/front.php?attack", ("content-length", "0")), (BODY,)),
    "length too large": (post("/front.php?attack", ("content-length", str(len(BODY) + 50))), (BODY,)),
    "two lengths": (post("/front.php?attack", ("content-length", "5"), ("content-length", str(len(BODY)))), (BODY,)),
    "length with sign": (post("/front.php?attack", ("content-length", f"+{len(BODY)}")), (BODY,)),
    "length in get": (get("/front.php?attack", ("content-length", "5")), ()),
    "chunked": (post("/front.php?attack", ("transfer-encoding", "chunked")), (b"0\r\n\r\n" + BODY,)),
    "chunked, disguised": (post("/front.php?attack", ("transfer-encoding ", "chunked")), (b"0\r\n\r\n" + BODY,)),
    "line break in value": (get("/front.php?attack", ("x", LINE)), ()),
    "line feed in value": (get("/front.php?attack", ("x", LINE.replace("\r", ""))), ()),
    "carriage return in value": (get("/front.php?attack", ("x", LINE.replace("\n", ""))), ()),
    "nul in value": (get("/front.php?attack", ("x", "a\0b")), ()),
    "line break in name": (get("/front.php?attack", ("x: " + LINE, "y")), ()),
    "colon in name": (get("/front.php?attack", ("transfer-encoding: chunked", "y")), ()),
    "line break in path": (get("/front.php?attack HTTP/1.1\r\nHost: example.com\r\n\r\n" + LINE), ()),
    "space in path": (get("/front.php?attack HTTP/1.1"), ()),
    "line break in authority": (get("/front.php?attack", name="example.com\r\nX: y"), ()),
    "line break in method": ([(":method", "GET /front.php?smuggled=h2-method HTTP/1.1\r\nX: "), *get("/")[1:]], ()),
    "space in method": ([(":method", "GET /front.php?smuggled=h2-method HTTP/1.1"), *get("/")[1:]], ()),
    "address in scheme": ([get("/")[0], (":scheme", "http://kiosk.co.test/?"), *get("/front.php?attack")[2:]], ()),
    "connection": (get("/front.php?attack", ("connection", "close, content-length")), ()),
    "upgrade": (get("/front.php?attack", ("upgrade", "h2c")), ()),
    "te": (get("/front.php?attack", ("te", "chunked")), ()),
    "capitals in name": (get("/front.php?attack", ("X-Forwarded-For", "9.9.9.9")), ()),
    "pseudo-header twice": (get("/front.php?attack", (":path", "/front.php?smuggled=h2-path")), ()),
    "pseudo-header unknown": (get("/front.php?attack", (":remote-addr", "9.9.9.9")), ()),
    "pseudo-header last": ([*get("/")[:3], ("x", "y"), (":path", "/front.php?attack")], ()),
    "no path": (get("/")[:3], ()),
    "empty path": (get(""), ()),
    "no method": (get("/front.php?attack")[1:], ()),
    "empty name": (get("/front.php?attack", ("", "x")), ()),
}


class Victim:
    """Somebody who asks on and on over a connection of their own, each time for another page."""

    def __init__(self, host: Machine) -> None:
        self.host, self.asked, self.wrong, self._over = host, 0, list[str](), threading.Event()

    def run(self) -> None:
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(self.host.ip, context=context, timeout=20)
        while not self._over.is_set():
            query = f"victim={time.monotonic_ns()}"
            try:
                connection.request("GET", f"/front.php?{query}", headers={"Host": "example.com"})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200 or server(body)["QUERY_STRING"] != query:
                    self.wrong.append(f"{query}: {answer.status} {body[:200]!r}")
            except (http.client.HTTPException, OSError, ValueError) as error:
                self.wrong.append(f"{query}: {error!r}")
                connection.close()
            self.asked += 1
        connection.close()


@contextmanager
def victims(host: Machine, number: int = 3) -> Iterator[list[Victim]]:
    """So many of them for a while; at the end none of them may have got anything but their own pages."""
    them = [Victim(host) for _ in range(number)]
    threads = [threading.Thread(target=victim.run) for victim in them]
    for thread in threads:
        thread.start()
    try:
        yield them
    finally:
        for victim in them:
            victim._over.set()
        for thread in threads:
            thread.join()


def smuggled(host: Machine, since: str) -> list[str]:
    """The hidden requests that Apache has seen as requests."""
    lines = host.check(f"tail -n +{int(since) + 1} {LOG}").splitlines()
    return [line for line in lines if re.search(r'"GET [^"]*smuggled=', line)]


@pytest.mark.fault("F-79")
def test_f79_no_request_of_http_1_is_read_in_two_ways(host: Machine, seen: Callable[[str], None]) -> None:
    before = host.check(f"wc -l < {LOG}")
    outcomes: dict[str, list[int]] = {}
    with victims(host) as them:
        with ThreadPoolExecutor(6) as pool:
            for name, (received, _) in zip(
                CORPUS, pool.map(lambda sent: send(host, sent, 1), CORPUS.values()), strict=True
            ):
                outcomes[name] = [int(status) for status in re.findall(rb"HTTP/1\.[01] ([2-5]\d\d)", received)]
        time.sleep(1)
    hidden = smuggled(host, before)
    served = {name for name, statuses in outcomes.items() if statuses and statuses[0] < 400}
    assert hidden == [], outcomes
    assert [wrong for victim in them for wrong in victim.wrong] == []
    assert sum(victim.asked for victim in them) > 50
    # Two answers would mean that the rest was taken for a request: by HAProxy then, and by all behind it.
    assert {name: statuses for name, statuses in outcomes.items() if len(statuses) > 1} == {}
    seen(f"{len(CORPUS)} HTTP/1 requests: {len(CORPUS) - len(served)} refused, {len(served)} read alike by all layers")


@pytest.mark.fault("F-79")
def test_f79_no_frame_of_http_2_becomes_two_requests(host: Machine, seen: Callable[[str], None]) -> None:
    before = host.check(f"wc -l < {LOG}")
    outcomes = {}
    with victims(host) as them:
        for name, (headers, body) in FRAMES.items():
            outcomes[name], _, answer = h2(host, headers, *body, seconds=3)
            if outcomes[name] == "200":
                assert "9.9.9.9" not in str(server(answer)), name
        time.sleep(1)
    assert smuggled(host, before) == [], outcomes
    assert [wrong for victim in them for wrong in victim.wrong] == []
    assert [outcomes.pop(name) for name in HONEST] == ["200"] * len(HONEST)
    assert set(outcomes.values()) <= {"reset", "goaway", "closed", "200", "400", "404"}, outcomes
    refused = [name for name, outcome in outcomes.items() if outcome != "200"]
    seen(f"{len(outcomes)} HTTP/2 requests: {len(refused)} refused, {len(outcomes) - len(refused)} read alike")
