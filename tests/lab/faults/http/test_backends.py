"""A layer dies, hangs, is cut off, or answers nonsense: a kept page or an honest 503, and back within seconds."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator

import pytest

from ...front.visitor import HSTS, ROOM, Answer, Visitor, stopped
from ...machine import Machine
from .test_headers import lacks

pytestmark = pytest.mark.fault("F-83")
TELLTALE = re.compile("varnish|guru|haproxy|apache|debian", re.IGNORECASE)


@contextlib.contextmanager
def frozen(host: Machine, pattern: str) -> Iterator[None]:
    """The processes of that name hang: they keep their sockets, and do nothing."""
    host.check(f"pkill -STOP {pattern}")
    try:
        yield
    finally:
        host.check(f"pkill -CONT {pattern}")


@contextlib.contextmanager
def cut(host: Machine, port: int) -> Iterator[None]:
    """Packets to that port are lost."""
    rule = f"INPUT -i lo -p tcp --dport {port} -j DROP"
    host.check(f"iptables -I {rule}")
    try:
        yield
    finally:
        host.check(f"iptables -D {rule}")


# Takes the port of a service that is stopped, and answers each connection with the same bytes.
GARBAGE = """
import socket, sys, threading
door = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def talk(line):
    line.settimeout(2)
    try: line.recv(9999); line.sendall(bytes.fromhex(sys.argv[2]))
    except OSError: pass
    line.close()
while True:
    threading.Thread(target=talk, args=[door.accept()[0]]).start()
"""
NONSENSE = {
    "noise": b"\x00\xff\x13\x37" * 40,
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nhalf",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 9\r\n\r\nhalf",
    "an odd status": b"HTTP/1.1 9999 What\r\n\r\n",
}


def is_own_page(answer: Answer) -> bool:
    """Our own 503 (or 502, 504): all safe headers, nothing about ourselves, nothing to be kept."""
    return (
        answer.status in (502, 503, 504)
        and lacks(answer) == {}
        and answer.headers.get("cache-control") == ["no-store"]
        and not TELLTALE.search(answer.body)
        and "<title>50" in answer.body
    )


def back(visit: Visitor, page: str, seconds: float = 10) -> float:
    """Seconds until a page that nobody has asked for is served again."""
    began = time.monotonic()
    while visit(f"{page}&{time.monotonic_ns()}").status != 200:
        assert time.monotonic() - began < seconds
    return time.monotonic() - began


def noticed(host: Machine) -> float:
    """Seconds until Varnish takes Apache for sick."""
    began = time.monotonic()
    while "sick" not in host.check("varnishadm backend.list"):
        assert time.monotonic() - began < 40
        time.sleep(0.5)
    return time.monotonic() - began


@pytest.fixture(autouse=True)
def healthy(visit: Visitor, page: str) -> Iterator[None]:
    """The next test finds everything well again."""
    yield
    back(visit, page, 60)


def kept(visit: Visitor, page: str) -> str:
    """A page in the cache that has just expired."""
    short = f"{page}&cc=max-age%3D1"
    assert visit(short).cache == "MISS"
    return short


def test_f83_apache_dies(visit: Visitor, page: str, seen: Callable[[str], None]) -> None:
    """Past its second and past the ten seconds that a healthy host would give it; its grace is an hour."""
    short = kept(visit, page)
    with stopped(visit.host, "apache2"):
        time.sleep(12)
        stale = visit(short)
        assert (stale.status, stale.cache, lacks(stale)) == (200, "STALE", {})
        assert is_own_page(visit(f"{page}&never=asked"))
        assert is_own_page(visit(short, "-d", "a=b"))
    seen(f"Apache dead: the kept page, else our 503; back after {back(visit, page):.1f} s")


@pytest.mark.demand
def test_f83_apache_hangs(visit: Visitor, page: str, seen: Callable[[str], None]) -> None:
    """Varnish notices within some twenty seconds; from then on nobody waits."""
    short = kept(visit, page)
    with frozen(visit.host, "-x apache2"):
        after, began = noticed(visit.host), time.monotonic()
        stale = visit(short)
        assert (stale.status, stale.cache) == (200, "STALE")
        assert is_own_page(visit(f"{page}&never=asked"))
        assert time.monotonic() - began < 10
    seen(f"Apache hangs: noticed after {after:.0f} s, then as dead; back after {back(visit, page):.1f} s")


@pytest.mark.demand
def test_f83_apache_is_cut_off(visit: Visitor, page: str, seen: Callable[[str], None]) -> None:
    short = kept(visit, page)
    with cut(visit.host, 8080):
        after, began = noticed(visit.host), time.monotonic()
        assert visit(short).cache == "STALE"
        assert is_own_page(visit(f"{page}&never=asked"))
        assert time.monotonic() - began < 10
    seen(f"the way to Apache cut: noticed after {after:.0f} s, then as dead; back after {back(visit, page):.1f} s")


@pytest.mark.demand
def test_f83_php_hangs(visit: Visitor, page: str, seen: Callable[[str], None]) -> None:
    """Its scripts time out at the site's own limit; files and other sites are served all the while."""
    short = kept(visit, page)
    with frozen(visit.host, "php-fpm"):
        time.sleep(2)
        assert visit(f"https://example.com/front.css?{time.monotonic_ns()}").status == 200
        began = time.monotonic()
        assert visit(short, "--max-time", "100").status in (200, 503, 504)
        took = time.monotonic() - began
    assert took < 80
    seen(f"PHP hangs: files go on, a kept page after {took:.0f} s; back after {back(visit, page):.1f} s")


def test_f83_varnish_dies(visit: Visitor, page: str, seen: Callable[[str], None]) -> None:
    with stopped(visit.host, "varnish"):
        answer = visit(page)
        assert (is_own_page(answer), answer.headers["retry-after"]) == (True, ["10"])
    seen(f"Varnish dead: HAProxy's 503; back after {back(visit, page):.1f} s")


@pytest.mark.demand
@pytest.mark.parametrize("how", ["hangs", "is cut off"])
def test_f83_varnish_hangs_or_is_cut_off(visit: Visitor, page: str, how: str, seen: Callable[[str], None]) -> None:
    """HAProxy's check notices; systemd or Varnish's own manager may even replace the process that hangs."""
    with frozen(visit.host, "-x cache-main") if how == "hangs" else cut(visit.host, 8081):
        time.sleep(20)
        began = time.monotonic()
        assert is_own_page(visit(page))
        took = time.monotonic() - began
    assert took < 20
    seen(f"Varnish {how}: 503 after {took:.0f} s; back after {back(visit, page, 30):.1f} s")


@pytest.mark.demand
@pytest.mark.parametrize("layer", ["apache2", "varnish"])
def test_f83_a_layer_answers_nonsense(visit: Visitor, page: str, layer: str, seen: Callable[[str], None]) -> None:
    """A program of ours answers in the layer's place, as its user: nobody else may use that port."""
    port = {"apache2": 8080, "varnish": 8081}[layer]
    visit.host.check("command -v python3 || apt-get install -qy --no-install-recommends python3-minimal", timeout=300)
    visit.host.put({"/tmp/garbage.py": GARBAGE.encode()})
    with stopped(visit.host, layer):
        for name, answer in NONSENSE.items():
            pid = visit.host.check(
                f"python3 /tmp/garbage.py {port} '{answer.hex()}' > /dev/null 2>&1 & echo $!"
            ).strip()
            time.sleep(0.5)
            try:
                url = f"{page}&{name.replace(' ', '')}"
                done = visit.stranger.curl("--include", "--connect-to", f"::{visit.host.ip}:", url)
                if name == "an odd status" and not done.out:
                    continue  # HTTP/2 has no place for it: the stream was reset
                assert "strict-transport-security" in done.out.lower(), name
                assert not TELLTALE.search(done.out), name
                if name != "half a body":
                    assert re.match(r"HTTP/\S+ 50[234] ", done.out), f"{name}: {done.out[:99]}"
                else:  # the head was in order, so it has gone out: the visitor's browser sees that the rest is missing
                    assert done.rc != 0 or re.match(r"HTTP/\S+ 50[234] ", done.out)
            finally:
                visit.host.check(f"kill {pid}; while kill -0 {pid} 2> /dev/null; do sleep 0.1; done")
    visit.host.check("rm /tmp/garbage.py")
    seen(f"{len(NONSENSE)} kinds of nonsense in the place of {layer}: our 50x; back after {back(visit, page):.1f} s")


@pytest.mark.demand
def test_f83_a_failing_script_is_shown_only_where_there_is_no_better_answer(visit: Visitor) -> None:
    flaky = f"{ROOM}/flaky.php"
    write = f"runuser -u example-com -- tee {flaky} > /dev/null"
    visit.host.check(write, stdin="<?php header('Cache-Control: max-age=1'); echo 'good';")
    try:
        url = f"https://example.com/flaky.php?{time.monotonic_ns()}"
        assert visit(url).body == "good"
        visit.host.check(write, stdin="<?php http_response_code(500); echo 'bad';")
        time.sleep(14)
        assert (visit(url).status, visit(url).body) == (200, "good")
        answer = visit(f"{url}&new")
        assert (answer.status, answer.body, answer.headers["strict-transport-security"]) == (500, "bad", [HSTS])
    finally:
        visit.host.check(f"rm {flaky}")
