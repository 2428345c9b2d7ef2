"""From what the layers said to what an operator reads, and what he is to type."""

from __future__ import annotations

import pytest

from fabfile.looking.cached import verdict
from fabfile.looking.layers import Seen
from fabfile.looking.target import Target
from fabfile.looking.walking import Walk, read
from fabfile.model import Site

from .test_lines import LINE, NUMBER

SITE = Site.model_validate({"domain": "example.com"})
GOOD = f"""\
addresses\t192.0.2.1 2001:db8::1
zone\t+0000
resolved\t192.0.2.1
unit\thaproxy active
unit\tvarnish active
unit\tapache2 active
unit\tphp8.4-fpm active
tls\tTLSv1.3 TLS_AES_128_GCM_SHA256
alpn\th2
verify\t0 ok
subject\tCN=example.com
ends\t1768890343
answer\tHTTP/1.1 200 OK
answer\tContent-Type: text/html
answer\t
haproxy\t{LINE.replace(" 500 ", " 200 ")}
server\tvarnish/varnish UP
varnish\t*   << Request  >> 32770
varnish\t-   ReqMethod      GET
varnish\t-   ReqHeader      X-Cache: MISS
varnish\t**  << BeReq    >> 3
varnish\t--  TTL            RFC 120 10 0 1763706343 1763706343 0 0 0 cacheable
vhost\ton
directory\tthere
access\t203.0.113.7 - - [21/Nov/2025:06:25:43 +0000] "GET / HTTP/1.1" 200 5 "-" "-" {NUMBER}
pool\t1 5
queue\t0
end\t1763706344"""


def seen(*changes: tuple[str, str], scheme: str = "https") -> Seen:
    answer = GOOD
    for old, new in changes:
        assert old in answer
        answer = answer.replace(old, new)
    return Seen(read(Target(SITE, scheme, "example.com", "/"), answer), "vps", ["192.0.2.1"], ["192.0.2.1"])


def bad(found: Seen) -> dict[str, str]:
    return {layer.name: layer.text for layer in found.layers() if layer.bad}


def test_when_all_is_well_every_layer_has_its_line() -> None:
    found = seen()

    assert ["dns", "tls", "haproxy", "varnish", "vhost", "php"] == [layer.name for layer in found.layers()]
    assert {} == bad(found)
    assert "" == found.next_step()
    assert 200 == found.walk.status


FAULTS = {
    "dns": ([("resolved\t192.0.2.1", "resolved\t198.51.100.9")], "198.51.100.9: not this host", "point example.com to"),
    "tls": ([("ends\t1768890343", "ends\t1763000000")], "it has expired", "fab -H vps bootstrap"),
    "tls name": ([("vhost", "wrongname\tyes\nvhost")], "it does not name example.com", "fab -H vps bootstrap"),
    "haproxy": ([("UP", "DOWN 1/5")], "down: varnish/varnish", "fab -H vps status"),
    "vhost off": ([("vhost\ton", "vhost\toff")], "example.com is suspended", "fab -H vps site.resume example.com"),
    "vhost": ([("directory\tthere\n", "")], "/var/www/example.com/public_html/_ is not there", "fab -H vps status"),
    "vhost apache": (
        [("apache2 active", "apache2 failed"), ("access", "")],
        "Apache is failed",
        "fab -H vps bootstrap",
    ),
    "php": ([("pool\t1 5", "pool\t5 5"), ("queue\t0", "queue\t7")], "5 of 5 workers, 7 waiting", "fab -H vps status"),
    "php off": ([("fpm active", "fpm inactive")], "php8.4-fpm is inactive", "fab -H vps bootstrap"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_named_with_what_to_type(name: str) -> None:
    changes, text, step = FAULTS[name]
    found = seen(*changes)

    assert text in bad(found)[name.split(maxsplit=1)[0]]
    assert found.next_step().startswith(step)


def test_an_edge_says_where_it_went_on() -> None:
    found = seen(("varnish/varnish 0/", "shop/web2 0/"), ("server\tvarnish/varnish UP", "server\tshop/web2 UP"))

    assert ["dns", "tls", "haproxy", "varnish"] == [layer.name for layer in found.layers()]
    assert "on web2" == found.layers()[-1].text
    assert f"fab -H web2 logs example.com --id {NUMBER[:8]}" == found.next_step()


def test_an_answer_that_never_came_is_no_crash() -> None:
    found = Seen(Walk(Target(SITE, "https", "example.com", "/")), "vps", [], [])

    assert {"dns", "tls", "haproxy"} == set(bad(found))
    assert 0 == found.walk.status


LOG = ["*   << Request  >> 32770", "-   ReqMethod      GET"]


REFUSED = "TTL VCL 120 10 0 1 uncacheable"


@pytest.mark.parametrize(
    ("result", "records", "why"),
    [
        ("HIT", ["Hit 3 98.2 3600.0 0.0", "RespHeader Age: 22"], "22 s old, good for 98 s more"),
        ("STALE", ["Hit 3 -7.9 3600.0 0.0"], "it ended 8 s ago"),
        ("PASS", ["ReqHeader X-Site-Cache: pass"], "under the site's bypass"),
        ("PASS", ["ReqHeader Cookie: a=1; b=2"], "carries a cookie (a, b)"),
        ("PASS", ["ReqHeader Authorization: Basic x"], "a password"),
        ("MISS", ["BerespHeader Set-Cookie: a=1; path=/", REFUSED], "it cannot be kept: the site sets a cookie (a)"),
        (
            "MISS",
            ["HitMiss 5 100", "BerespHeader Vary: *", REFUSED],
            "the last answer could not be kept",
        ),
        (
            "MISS",
            ["BerespHeader Cache-Control: max-age=0", "TTL RFC 0 10 0 1 cacheable"],
            "Cache-Control: max-age=0",
        ),
        ("MISS", ["FetchError backend apache: unhealthy"], "Apache gave no answer"),
    ],
)
def test_varnish_s_own_log_tells_why(result: str, records: list[str], why: str) -> None:
    found = verdict([*LOG, f"-   ReqHeader      X-Cache: {result}", *(f"--  {record}" for record in records)])

    assert found
    assert result == found.result
    assert why in found.why


def test_a_cookie_that_vcl_took_away_is_no_reason() -> None:
    sent = "Cookie: _ga=2; PHPSESSID=1"
    left = ["- ReqHeader Cookie: PHPSESSID=1", "- ReqHeader X-Cache: PASS"]
    found = verdict([*LOG, f"- ReqHeader {sent}", f"- ReqUnset {sent}", *left])

    assert found
    assert "the request carries a cookie (PHPSESSID)" == found.why
    assert verdict([]) is None


def test_a_file_names_the_static_host_that_it_came_from_and_a_web_server_in_its_place() -> None:
    found = seen(("varnish/varnish 0", "static/static1 0"))
    assert ["dns", "tls", "haproxy", "files"] == [layer.name for layer in found.layers()]
    assert {} == bad(found)
    missing = seen(("varnish/varnish 0", "static/static1 0"), (" 200 ", " 404 "))
    assert "404 from static1" == bad(missing)["files"]
    spare = seen(("varnish/varnish 0", "static/web2:pages 0"))
    assert "on web2" == next(layer.text for layer in spare.layers() if layer.name == "varnish")
