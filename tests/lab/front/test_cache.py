"""Varnish behind HAProxy, with real clients on both releases: what is kept, for whom, how long. (T1, "Varnish")"""

import time

import pytest

from ..machine import Machine
from .visitor import Visitor

# ---------------------------------------------------------------------- cache


def test_the_second_request_is_a_hit_also_with_cookies_of_statistics(ask: Visitor, page: str) -> None:
    first, second = ask(page), ask(page, "-b", "_ga=GA1.1; _gid=2; __utma=3; _fbp=4; _ga_AB12=5")
    assert (first.cache, second.cache) == ("MISS", "HIT")
    assert first.body == second.body
    assert int(second.headers["age"][0]) < 60


def test_cookies_of_the_site_pass_and_those_of_statistics_do_not_get_through(ask: Visitor, page: str) -> None:
    answer = ask(page, "-b", "_ga=1; PHPSESSID=abc; _gid=2")
    assert (answer.cache, answer.seen["HTTP_COOKIE"]) == ("PASS", "PHPSESSID=abc")


@pytest.mark.parametrize(
    "said", ["&cc=private", "&cc=no-store", "&cc=no-cache", "&cc=max-age%3D0", "&cookie", "&status=302&to"]
)
def test_what_is_for_one_visitor_is_never_kept(ask: Visitor, page: str, said: str) -> None:
    first, second = ask(page + said), ask(page + said)
    assert (first.cache, second.cache) == ("MISS", "MISS")
    assert first.body != second.body


def test_who_shows_a_password_or_writes_passes_by(ask: Visitor, page: str) -> None:
    assert ask(page).cache == "MISS"
    assert ask(page, "-u", "a:b").cache == "PASS"
    assert ask(page, "-d", "a=b").cache == "PASS"
    assert ask(page, "-X", "PROPFIND").cache == "PASS"
    assert ask(page).cache == "HIT"


def test_pictures_and_styles_are_kept_whatever_cookie_comes_along(ask: Visitor) -> None:
    once = f"https://example.com/front.css?{time.monotonic_ns()}"
    assert [ask(once, "-b", f"PHPSESSID={n}").cache for n in range(2)] == ["MISS", "HIT"]


def test_a_script_does_not_become_a_picture_by_what_stands_behind_it(ask: Visitor) -> None:
    answer = ask(f"https://example.com/front.php/x.css?{time.monotonic_ns()}", "-b", "PHPSESSID=abc")
    assert answer.cache == "PASS"


@pytest.mark.parametrize("status", [404, 500])
def test_an_error_is_forgotten_within_seconds(ask: Visitor, page: str, status: int) -> None:
    url = f"{page}&status={status}"
    assert ask(url).cache == "MISS"
    time.sleep(6)
    assert ask(url).cache == "MISS"


# ---------------------------------------------------------------------- purging and grace


def purge(host: Machine, url: str, user: str = "root") -> str:
    """The status and the count that a purge at the host's own socket is answered with."""
    host.check("command -v curl || apt-get install -qy --no-install-recommends curl")
    done = host.exec(
        f"curl -sS -D - -o /dev/null -X PURGE --unix-socket /run/varnish/purge.sock '{url}' > /tmp/purged && "
        "tr -d '\\r' < /tmp/purged | awk '/^HTTP/ {status = $2} /^X-Purged:/ {count = $2} END {print status, count}'",
        user=user,
    )
    return done.out.strip() if done.rc == 0 else f"refused: {done.err}"


def test_root_purges_a_page_and_is_told_when_there_was_none(ask: Visitor, page: str) -> None:
    plain = page.replace("https:", "http:")
    assert purge(ask.host, plain) == "404 0"
    assert [ask(page).cache, ask(page).cache] == ["MISS", "HIT"]
    assert purge(ask.host, plain) == "200 1"
    assert ask(page).cache == "MISS"


def test_nobody_else_on_the_host_purges(ask: Visitor, page: str) -> None:
    assert [ask(page).cache, ask(page).cache] == ["MISS", "HIT"]
    assert "refused" in purge(ask.host, page.replace("https:", "http:"), user="example-com")
    forged = "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\\r\\nPURGE {} HTTP/1.1\\r\\nHost: example.com\\r\\n\\r\\n"
    path = page.removeprefix("https://example.com")
    speak = f"bash -c 'exec 3<> /dev/tcp/127.0.0.1/8081; printf \"{forged.format(path)}\" >&3; head -n 1 <&3'"
    assert "refused" in ask.host.exec(speak, user="example-com").err
    assert " 405 " in ask.host.check(speak, user="haproxy")
    assert ask(page).cache == "HIT"


def test_a_restart_of_varnish_is_waited_for(ask: Visitor, page: str) -> None:
    pid = ask.stranger.check(
        f'sh -c \'for n in $(seq 12); do curl -s --connect-to ::{ask.host.ip}: -o /dev/null -w "%{{http_code}}\\n" '
        f'"{page}"; sleep 0.3; done > /tmp/codes\' > /dev/null 2>&1 & echo $!'
    ).strip()
    ask.host.check("sleep 0.5; systemctl restart varnish")
    ask.stranger.check(f"while kill -0 {pid} 2> /dev/null; do sleep 0.2; done", timeout=60)
    assert ask.stranger.check("sort -u /tmp/codes") == "200\n"
