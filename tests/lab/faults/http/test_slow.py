"""Clients that take their time: they are cut off, Apache never waits for them, an honest client notices little.

The stranger attacks, and the machine that the tests run on is the honest client; or the other way round.
"""

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ...front.visitor import ROOM, Visitor
from ...machine import Machine
from .wire import BROKEN, Talk, get, line, read

pytestmark = [pytest.mark.fault("F-80"), pytest.mark.demand]


LOG = "/var/www/example.com/log/access_log"


class Honest(threading.Thread):
    """Asks every tenth of a second for a page of its own; knows how long each answer took."""

    def __init__(self, host: Machine, name: str, path: str) -> None:
        super().__init__()
        self.name_asked, self.path = name, path
        self.host, self.took, self.failed, self._over = host, list[float](), list[str](), threading.Event()

    def run(self) -> None:
        context = ssl._create_unverified_context()
        while not self._over.wait(0.1):
            began = time.monotonic()
            connection = http.client.HTTPSConnection(self.host.ip, context=context, timeout=30)
            try:
                connection.request(
                    "GET", f"{self.path}?honest={time.monotonic_ns()}", headers={"Host": self.name_asked}
                )
                if connection.getresponse().status != 200:
                    self.failed.append("not 200")
            except (http.client.HTTPException, OSError) as error:
                self.failed.append(repr(error))
            finally:
                connection.close()
            self.took.append(time.monotonic() - began)

    @property
    def slowest(self) -> float:
        """The 99th percentile, in seconds."""
        return sorted(self.took)[int(len(self.took) * 0.99)]


@contextlib.contextmanager
def honest(host: Machine, name: str = "example.com", path: str = "/front.php") -> Iterator[Honest]:
    """Somebody honest for a while; none of their requests may fail."""
    them = Honest(host, name, path)
    them.start()
    try:
        yield them
    finally:
        them._over.set()
        them.join()
    assert them.failed == []
    assert len(them.took) > 20
    assert them.slowest < 20


def busy(host: Machine) -> int:
    """Connections to Apache, of which each may hold a thread; idle ones that Varnish keeps count as well."""
    return int(host.check("ss -Htn state established 'sport = :8080' | wc -l"))


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("heads", "-H -i 5 -l 24"),
        ("bodies", "-B -i 5 -l 24 -s 7000 -x 10"),
        ("reads", "-X -w 1 -y 64 -n 5 -z 16 -k 3 -l 24"),
    ],
)
def test_f80_slow_ones_are_cut_off(visit: Visitor, way: str, words: str, seen: Callable[[str], None]) -> None:
    """slowhttptest holds 400 connections; at its end it says whether the host has closed them."""
    host = visit.host
    host.check(f"runuser -u example-com -- sh -c 'head -c 3000000 /dev/zero > {ROOM}/large.css'")
    target = "https://example.com/large.css" if way == "reads" else "https://example.com/front.php"
    names = visit.stranger.check("cat /etc/hosts")
    try:
        visit.stranger.check("cat >> /etc/hosts", stdin=f"{host.ip} example.com\n")
        with honest(host) as them:
            told = visit.stranger.check(f"slowhttptest {words} -c 400 -r 80 -p 5 -t POST -u {target} 2>&1", timeout=90)
            connections = busy(host)
    finally:
        visit.stranger.check("cat > /etc/hosts", stdin=names)
        host.check(f"rm {ROOM}/large.css")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", told)
    ended = int(re.findall(r"Test ended on (\d+)", plain)[-1])
    if way != "reads":  # who reads, however slowly, is served: by HAProxy and Varnish, from memory
        assert "No open connections left" in plain, plain[-1500:]
        assert ended < 24
    assert connections < 50
    outcome = "served from memory" if way == "reads" else f"all cut off after {ended} s"
    seen(f"400 slow {way}: {outcome}, {connections} connections to Apache, honest p99 {them.slowest:.2f} s")


def test_f80_a_body_that_dribbles_behind_its_beginning_holds_no_other_site(
    web: Machine, seen: Callable[[str], None]
) -> None:
    """Past HAProxy's buffer the body goes on to the site's PHP. One client gets fifty, and not for long."""
    start = b"POST /front.php?dribble HTTP/1.1\r\nHost: example.com\r\nContent-Length: 90000\r\n\r\n" + b"x" * 20000
    before = int(web.check(f"wc -l < {LOG}"))
    with contextlib.ExitStack() as stack, honest(web, "kiosk.co.test", "/") as them:
        lines = [stack.enter_context(line(web)) for _ in range(60)]
        for tls in lines:
            tls.sendall(start)
        time.sleep(1)
        refused = [tls for tls in lines if read(tls, 0.05)[0].startswith(b"HTTP/1.1 429")]
        assert len(refused) == 10
        began = time.monotonic()
        gone = f"tail -n +{before + 1} {LOG} | grep -c 'POST /front.php?dribble' || :"
        while int(web.check(gone)) < 50 and time.monotonic() - began < 90:
            time.sleep(3)
            for tls in lines:
                with contextlib.suppress(*BROKEN):
                    tls.sendall(b"x")
        freed = time.monotonic() - began
    assert freed < 90
    seen(
        f"60 dribbling bodies: 10 told 429, Apache free of the others after {freed:.0f} s;"
        f" until then that site's PHP is busy, another site's p99 {them.slowest:.2f} s"
    )


def test_f80_handshakes_that_stand_still_are_cut_off(web: Machine, seen: Callable[[str], None]) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    with contextlib.ExitStack() as stack, honest(web) as them:
        plain = [stack.enter_context(socket.create_connection((web.ip, 443))) for _ in range(200)]
        for number, each in enumerate(plain):
            if number % 2:
                each.sendall(hello)
        began = time.monotonic()
        for each in plain:
            each.settimeout(max(0.1, 40 - (time.monotonic() - began)))
            with contextlib.suppress(ConnectionError):
                assert each.recv(100) in (b"", b"\x15\x03\x01\x00\x02\x02\x46")
        took = time.monotonic() - began
    assert took < 35
    seen(f"200 half handshakes: all cut off within {took:.0f} s, honest p99 {them.slowest:.2f} s")


def test_f80_streams_without_a_window_are_cut_off(web: Machine, seen: Callable[[str], None]) -> None:
    """HTTP/2 with a window of 0: asks for many pages, and takes none of them."""
    with contextlib.ExitStack() as stack, honest(web) as them:
        talks = [Talk(stack.enter_context(line(web, "h2")), window=0) for _ in range(10)]
        for talk in talks:
            for stream in range(1, 100, 2):
                talk.ask(get(f"/front.php?window={stream}"), stream=stream)
        began = time.monotonic()
        time.sleep(5)
        connections = busy(web)
        for talk in talks:
            read(talk.tls, 3)
        ended = [0] * len(talks)
        while sum(ended) < len(talks) and time.monotonic() - began < 80:
            for number, talk in enumerate(talks):
                ended[number] = ended[number] or read(talk.tls, 0.5)[1]
        took = time.monotonic() - began
    assert sum(ended) == len(talks)
    assert connections < 100
    seen(f"500 streams without a window: cut off within {took:.0f} s, honest p99 {them.slowest:.2f} s")
