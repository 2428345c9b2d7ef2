"""What one client says never changes what the next one gets, and nobody but root tells the cache to forget."""

import re
import time
from collections.abc import Callable

import pytest

from ...front.visitor import FORGED, Visitor
from ...machine import Machine
from .wire import send

EVIL = r"evil|9\.9\.9\.9|8\.8\.8\.8|OVERRIDE|made.*status=500"
# What the first client says beside the address: curl's words.
VECTORS: dict[str, tuple[str, ...]] = {
    **{header.partition(":")[0]: ("-H", header) for header in FORGED},
    "X-Forwarded-Scheme": ("-H", "X-Forwarded-Scheme: http"),
    "X-Forwarded-Port": ("-H", "X-Forwarded-Port: 6666"),
    "X-Forwarded-Prefix": ("-H", "X-Forwarded-Prefix: /evil"),
    "X-Host": ("-H", "X-Host: evil"),
    "X-HTTP-Method": ("-H", "X-HTTP-Method: PUT", "-H", "X-Method-Override: OVERRIDE"),
    "port in Host": ("-H", "Host: example.com:6666"),
    "capitals in Host": ("-H", "Host: EXAMPLE.com"),
    "Range": ("-H", "Range: bytes=0-1"),
    "If-Range": ("-H", "Range: bytes=0-1", "-H", "If-Range: evil"),
    "If-None-Match": ("-H", "If-None-Match: *"),
    "fat GET": ("-X", "GET", "-d", "status=500&evil"),
    "HEAD": ("--head",),
    "Cookie": ("-b", "PHPSESSID=evil; lang=evil"),
    "statistics": ("-b", "_ga=evil"),
    "Authorization": ("-u", "evil:evil"),
    "Cache-Control": ("-H", "Cache-Control: only-if-cached, max-stale", "-H", "Pragma: no-cache"),
    "Expect": ("-H", "Expect: evil"),
    "Connection": ("--http1.1", "-H", "Connection: Host, X-Forwarded-Proto, evil"),
    "Upgrade": ("--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: evil"),
    "too long a header": ("-H", f"X-Long: {'x' * 7000}", "-H", f"X-Longer: {'x' * 7000}"),
    "too many headers": tuple(word for n in range(100) for word in ("-H", f"X-{n}: x")),
    "odd header": ("-H", "X-Odd: \x07"),
    "underscore": ("-H", "X_Forwarded_Host: evil"),
    "TE": ("--http1.1", "-H", "TE: trailers, evil"),
    "TRACE": ("-X", "TRACE"),
    "odd method": ("-X", "EVIL"),
}


@pytest.mark.fault("F-76")
def test_f76_a_second_client_gets_the_clean_page(ask: Visitor, page: str, seen: Callable[[str], None]) -> None:
    kept = 0
    for name, words in VECTORS.items():
        url = f"{page}&{re.sub('[^A-Za-z]', '', name)}"
        first = ask.stranger.curl("--include", "--connect-to", f"::{ask.host.ip}:", *words, url)
        clean = ask(url)
        assert (clean.status, clean.cache in ("HIT", "MISS")) == (200, True), name
        assert not re.search(EVIL, clean.body), name
        assert clean.seen["HTTP_X_FORWARDED_PROTO"] == "https", name
        assert clean.seen["HTTP_HOST"] == clean.seen["HTTP_X_FORWARDED_HOST"] == "example.com", name
        assert clean.seen["REQUEST_METHOD"] == "GET", name
        assert "location" not in clean.headers, name
        kept += clean.cache == "HIT" and clean.body in first.out.replace("\r\n", "\n")
    # Some were answered alike, so the second client got the first one's page: the cache was on.
    assert kept > len(FORGED)
    seen(f"{len(VECTORS)} vectors: the second client's page was clean each time, {kept} times out of the cache")


@pytest.mark.fault("F-76")
@pytest.mark.parametrize("path", ["/./front.php", "//front.php", "/x/../front.php", "/front%2ephp", "/front.php/evil"])
def test_f76_another_spelling_of_a_path_is_another_page(visit: Visitor, page: str, path: str) -> None:
    query = page.partition("?")[2]
    visit(f"https://example.com{path}?{query}&evil", "--path-as-is")
    visit(f"https://example.com{path}?{query}", "--path-as-is", "-b", "PHPSESSID=evil")
    clean = visit(page)
    assert (clean.status, "evil" in clean.body, clean.seen["SCRIPT_NAME"]) == (200, False, "/front.php")


@pytest.mark.fault("F-76")
@pytest.mark.parametrize("key", ["utm_source", "utm_content", "fbclid", "gclid", "_method", "callback"])
def test_f76_what_stands_in_the_query_is_part_of_the_page(visit: Visitor, page: str, key: str) -> None:
    assert "evil" in visit(f"{page}&{key}=evil").body
    assert "evil" not in visit(page).body


@pytest.mark.fault("F-76")
def test_f76_a_page_that_varies_is_kept_for_each_and_plain_http_is_another_page(visit: Visitor, page: str) -> None:
    url = f"{page}&vary=Accept-Language"
    assert "evil" in visit(url, "-H", "Accept-Language: evil").body
    assert "evil" not in visit(url, "-H", "Accept-Language: de").body
    plain, forged = page.replace("https:", "http:"), ("-H", "X-Forwarded-Proto: https")
    assert visit(plain, *forged).status == 301
    assert visit(page).seen["HTTPS"] == "on"


@pytest.mark.fault("F-76")
def test_f76_errors_redirects_and_what_is_ones_own_are_not_kept(visit: Visitor, page: str) -> None:
    for said in ("&status=301&to", "&status=302&to", "&cookie", "&cc=private", "&cc=no-store"):
        first, second = visit(page + said), visit(page + said)
        assert said.startswith("&status=301") or first.body != second.body, said
    for status in (400, 404, 500):
        assert visit(f"{page}&status={status}").status == status
    time.sleep(6)
    for status in (400, 404, 500):
        assert visit(f"{page}&status={status}").cache != "HIT"


@pytest.mark.fault("F-78")
@pytest.mark.parametrize("method", ["PURGE", "BAN", "REFRESH", "FLUSH"])
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_f78_strangers_cannot_tell_the_cache_to_forget(visit: Visitor, page: str, method: str, version: str) -> None:
    """Odd methods of no meaning to anybody go on to PHP as they are; none touches what is kept."""
    assert [visit(page).cache, visit(page).cache] == ["MISS", "HIT"]
    for said in ("X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Host: example.com:443"):
        answer = visit(page, version, "-X", method, "-H", said)
        if method in ("PURGE", "BAN", "REFRESH"):
            assert (answer.status, answer.headers["allow"]) == (405, ["GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"])
    assert visit(page).cache == "HIT"


@pytest.mark.fault("F-78")
def test_f78_nor_by_another_way(visit: Visitor, web: Machine, page: str, seen: Callable[[str], None]) -> None:
    """By another method in a header, by HTTP/1.0, by plain HTTP, and at Varnish's own doors."""
    assert [visit(page).cache, visit(page).cache] == ["MISS", "HIT"]
    path = page.removeprefix("https://example.com")
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        visit(page, "-H", f"{header}: PURGE")
        visit(page, "-d", "a=b", "-H", f"{header}: PURGE")
    received, _ = send(web, f"PURGE {path} HTTP/1.0\r\nHost: example.com\r\n\r\n".encode())
    assert received.startswith(b"HTTP/1.1 405")
    assert visit(page.replace("https:", "http:"), "-X", "PURGE").status == 405
    for port in (6081, 6082, 8080, 8081):
        assert visit.stranger.exec(f"nc -z -w 2 {web.ip} {port} || ncat -z -w 2 {web.ip} {port}").rc != 0
    assert visit(page).cache == "HIT"
    seen("PURGE, BAN, REFRESH: 405 over HTTP/1 and 2, whatever is forged; Varnish's ports are shut")
