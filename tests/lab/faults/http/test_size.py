"""Too long, too many, too big: refused at once by HAProxy, or survived; no worker dies and no disk fills."""

import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from ...front.visitor import HSTS, ROOM, Visitor
from ...machine import Machine
from .wire import BROKEN, h2, line, post, read, send

pytestmark = pytest.mark.fault("F-81")
TELL = """<?php
header('Content-Type: application/json');
echo json_encode(['args' => count($_GET), 'post' => count($_POST), 'files' => count($_FILES),
                  'raw' => strlen(file_get_contents('php://input')), 'memory' => memory_get_peak_usage()]);
"""
START = b"POST /front.php HTTP/1.1\r\nHost: example.com\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LIMIT = 8 * 1024**2


@contextmanager
def teller(host: Machine) -> Iterator[None]:
    host.check(f"runuser -u example-com -- tee {ROOM}/tell.php > /dev/null", stdin=TELL)
    try:
        yield
    finally:
        host.check(f"rm {ROOM}/tell.php")


@contextmanager
def unharmed(host: Machine) -> Iterator[None]:
    """No process died, no line speaks of a crash, and the places for temporary files are as full as before."""
    masters = "pgrep -x -o haproxy; pgrep -x -o varnishd; pgrep -x -o cache-main; pgrep -x -o apache2; pgrep -o php-fpm"
    room = "du -skc /tmp /var/tmp /var/www/*/tmp | tail -n 1 | cut -f 1"
    before, used = host.check(masters), int(host.check(room))
    since = host.check("date +%s").strip()
    yield
    assert host.check(masters) == before
    logs = "/var/log/apache2/error.log /var/log/php*-fpm.log /var/www/example.com/log/*error*"
    crashed = host.exec(f"journalctl -q -o cat --since @{since} | grep -iE 'segfault|Panic|core dump|exited on signal'")
    assert crashed.out == ""
    assert host.exec(f"find {logs} -newermt @{since} | xargs -r tail -q -n 20 | grep -iE 'signal|exhausted'").out == ""
    assert int(host.check(room)) - used < 20_000


def test_f81_a_head_that_is_too_long_is_told_so_at_once(visit: Visitor, seen: Callable[[str], None]) -> None:
    fits, over = "x" * 7900, "x" * 8100
    assert visit(f"https://example.com/front.php?{fits}").status == 200
    assert visit(f"https://example.com/front.php?{over}").status == 414
    wide = visit(f"https://example.com/front.php?{time.monotonic_ns()}", "-H", f"X-Long: {'x' * 11000}").seen
    assert len(wide["HTTP_X_LONG"]) == 11000
    assert visit("https://example.com/front.php", "-H", f"X-Long: {'x' * 12500}").status == 431
    many = [word for n in range(70) for word in ("-H", f"X-{n}: x")]
    assert visit(f"https://example.com/front.php?{time.monotonic_ns()}", *many).seen["HTTP_X_69"] == "x"
    two_hundred = [word for n in range(200) for word in ("-H", f"Y-{n}: x")]
    for version in ("--http1.1", "--http2"):
        began = time.monotonic()
        answer = visit("https://example.com/front.php", version, *two_hundred)
        assert (answer.status, answer.headers["strict-transport-security"]) == (431, [HSTS])
        assert time.monotonic() - began < 10
    seen("URL over 8000: 414; head over 12000 bytes or 80 lines: 431; 64 KB: closed")


def test_f81_a_body_over_the_limit_is_refused_with_a_length_and_without(
    web: Machine, seen: Callable[[str], None]
) -> None:
    """With a length before it is sent. Without one nobody behind HAProxy would count, and PHP takes none."""
    with unharmed(web):
        for length in (LIMIT + 1, 2**31, 2**32 + 1, 2**62):
            with line(web) as tls:
                tls.sendall(START + b"Content-Length: %d\r\n\r\n" % length)
                assert tls.recv(12) == b"HTTP/1.1 413", length
        for sent in (20_000, 2**20, 2**24):
            chunk = b"%x\r\n" % sent + b"x" * sent
            with line(web) as tls:
                with suppress(*BROKEN):
                    tls.sendall(START + CHUNKED + chunk[:30_000])
                received, _ = read(tls, 5)
            assert received.startswith(b"HTTP/1.1 411"), received[:80]
            assert HSTS.encode() in received
        # Within a heap of headers, in crumbs, and over HTTP/2: what is not all there does not go on.
        crumbs = b"1\r\nx\r\n" * 3000
        padded = START + b"X-Long: " + b"x" * 11_000 + b"\r\n" + CHUNKED
        for each in (START + CHUNKED + crumbs, padded + b"%x\r\n" % 2**20 + b"x" * 10_000):
            assert send(web, each, 12)[0][:12] in (b"HTTP/1.1 411", b"")
        assert h2(web, post("/front.php"), b"x" * 16_000, b"x" * 16_000)[0] == "411"
    assert web.check("find /tmp /var/tmp -path '*apache2*' -type f -size +1M") == ""
    seen("body over 8 MB: 413 by its length, at once; over a buffer without a length: 411")


def test_f81_a_small_body_without_a_length_reaches_php(web: Machine) -> None:
    with teller(web):
        told = send(web, START.replace(b"front", b"tell") + CHUNKED + b"5\r\na=b&c\r\n0\r\n\r\n")[0]
        assert b'"raw":5' in told, told
        assert b'"raw":4000' in h2(web, post("/tell.php"), b"x" * 4000)[2]


def test_f81_bombs_are_harmless(visit: Visitor, seen: Callable[[str], None]) -> None:
    """A gigabyte of zeros in a megabyte of gzip, ten thousand parts, a million arguments."""
    url = "https://example.com/tell.php"
    parts = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="f%d"; filename="x"\r\n\r\nx\r\n' % n for n in range(10_000)
    )
    visit.stranger.put({
        "/tmp/bomb": gzip.compress(b"\0" * 2**26) * 16,
        "/tmp/parts": parts + b"--b--\r\n",
        "/tmp/args": "&".join(f"a{n}=" for n in range(1_000_000)).encode(),
    })  # fmt: skip
    told = {}
    with teller(visit.host), unharmed(visit.host):
        for name, type_ in {"bomb": "text/plain", "parts": "multipart/form-data; boundary=b", "args": ""}.items():
            words = ["-H", f"Content-Type: {type_ or 'application/x-www-form-urlencoded'}"]
            words += ["-H", "Content-Encoding: gzip"] if name == "bomb" else []
            began = time.monotonic()
            answer = visit(url, *words, "--data-binary", f"@/tmp/{name}")
            told[name] = answer.status, round(time.monotonic() - began, 1), answer.body[:200]
            assert answer.status in (200, 400, 413), told
            assert time.monotonic() - began < 25, told
        assert visit(f"{url}?{'&'.join(f'a{n}=' for n in range(1200))}").status == 200
        assert visit(f"https://example.com/front.php?{time.monotonic_ns()}").status == 200
    visit.stranger.check("rm /tmp/bomb /tmp/parts /tmp/args")
    assert visit.host.check("find /var/www/example.com/tmp -type f") == ""
    slowest = max(seconds for _, seconds, _ in told.values())
    seen(f"gzip bomb, 10,000 parts, 1,000,000 arguments: answered within {slowest} s, no worker died")
