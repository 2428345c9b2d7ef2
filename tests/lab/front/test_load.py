"""The front under load, under attack, and with a thousand sites. (T1)"""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..lab import Lab
from ..machine import Machine
from .visitor import ROOM, Visitor

LOAD = r"""
wrk -t1 -c8 -d14s https://example.com:443/front.php?load > /tmp/keep &
wrk -t1 -c3 -d14s -H 'Connection: close' https://example.com:443/front.php?load > /tmp/shot &
seq 300 | sed 's|.*|url = "https://example.com/front.php?load"\noutput = /dev/null|' > /tmp/urls
curl -sS --http2 --rate 20/s -w '%{http_code} %{http_version}\n' -K /tmp/urls > /tmp/h2 2>&1 &
curl -sS --limit-rate 90k -o /dev/null -w '%{http_code} %{size_download}' https://example.com/slow.bin > /tmp/slow &
wait
touch /tmp/done
"""


def test_reloads_under_load_lose_no_request(ask: Visitor, host: Machine) -> None:
    """Keep-alive, one-shot and HTTP/2 clients and one slow download, while HAProxy and Varnish reload six times.

    Not h2load for HTTP/2: it ends with its first connection, and counts what RFC 9113 (6.8) lets a client send again.
    """
    stranger = ask.stranger
    host.check(f"runuser -u example-com -- sh -c 'head -c 1200000 /dev/urandom > {ROOM}/slow.bin'")
    names = stranger.check("cat /etc/hosts")
    with loosened(host):
        try:
            stranger.check("cat >> /etc/hosts", stdin=f"{host.ip} example.com\n")
            stranger.put({"/tmp/load": LOAD.encode()})
            stranger.check("rm -f /tmp/done; nohup sh /tmp/load > /dev/null 2>&1 &")
            for _ in range(6):
                time.sleep(1.8)
                host.check("systemctl reload haproxy varnish")
            until(40, lambda: stranger.exec("test -e /tmp/done").rc == 0, "the load did not end")
            for tool in ("keep", "shot"):
                told = stranger.check(f"cat /tmp/{tool}")
                assert not re.search("Socket errors|Non-2xx", told), told
                assert int(re.findall(r"(\d+) requests in", told)[0]) > 200
            assert stranger.check("sort /tmp/h2 | uniq -c").split() == ["300", "200", "2"]
            assert stranger.check("cat /tmp/slow") == "200 1200000"
        finally:
            stranger.check("cat > /etc/hosts", stdin=names)
            host.check(f"rm {ROOM}/slow.bin")
    until(20, lambda: host.check("pgrep -c -x haproxy") == "2\n", "former workers stay")


def test_a_visitor_who_comes_again_has_his_connection_to_varnish_still(ask: Visitor, host: Machine) -> None:
    """Twenty clients, each with 12 requests a second over one connection, for longer than HAProxy remembers how many it
    needed; a second one each would be bad luck.
    """
    made = "varnishstat -1 -f MAIN.sess_conn | awk '{print $2}'"
    with loosened(host):
        until(20, lambda: host.check("pgrep -c -x haproxy") == "2\n", "the former worker stays")
        before = int(host.check(made))
        line = f"h2load --h1 -t 1 -n 3000 -c 20 --rps=12 --connect-to={host.ip}:443 https://example.com/front.php?again"
        assert "3000 succeeded" in ask.stranger.check(line, timeout=120)
        assert int(host.check(made)) - before <= 40


@contextlib.contextmanager
def loosened(host: Machine) -> Iterator[None]:
    """One client may do what it wants for a while: wrk knows no pace."""
    config = "/etc/haproxy/haproxy.cfg"
    host.check(f"cp -p {config} /root/ && sed -i -E 's/_rate gt [0-9]+/_rate gt 100000000/' {config}")
    host.check("systemctl reload haproxy")
    try:
        yield
    finally:
        host.check(f"mv /root/haproxy.cfg {config} && systemctl reload haproxy")


def until(seconds: float, true: Callable[[], bool], otherwise: str) -> None:
    """Wait until something is true; the test fails when it takes longer."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, otherwise
        time.sleep(0.5)


def test_what_haproxy_refuses_only_when_it_runs_is_taken_back(ask: Visitor, page: str) -> None:
    """So many connections pass every check, but no process gets as many files."""
    before = ask.host.check("sha256sum /etc/haproxy/haproxy.cfg")
    done = ask.host.fab("haproxy.configure", "--maxconn", "1000000", "haproxy.start")
    assert done.returncode == 1
    assert "the former one is back and serves" in done.stderr
    assert ask.host.check("sha256sum /etc/haproxy/haproxy.cfg") == before
    assert ask(page).status == 200
    again = ask.host.fab("haproxy")
    assert again.returncode == 0
    assert " 0 changed, 0 failed" in again.stdout


def test_the_checkers_accept_a_thousand_sites_without_a_warning(host: Machine, lab: Lab, tmp_path: Path) -> None:
    """Every second site has settings of its own; the daemons on the host judge it, and nothing is touched."""
    sites = tmp_path / "sites"
    sites.mkdir()
    for number in range(1000):
        own = (
            f"cache: {{ttl: {number}, grace: 60, keep_cookies: [login], bypass: [/admin/, /a.b]}}\n"
            if number % 2
            else ""
        )
        (sites / f"s{number}.test.yml").write_text(f"domain: s{number}.test\n{own}")
    before = host.check("cd /etc && find haproxy varnish -type f | xargs sha256sum")
    done = host.fab("--dry", "haproxy", "varnish", directory=lab.describe(tmp_path, sites))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "would change" in done.stdout
    assert "unjudged" not in done.stdout
    assert host.check("cd /etc && find haproxy varnish -type f | xargs sha256sum") == before


def test_a_sites_own_cache_settings_hold_and_others_keep_theirs(ask: Visitor, lab: Lab, tmp_path: Path) -> None:
    sites = tmp_path / "sites"
    sites.mkdir()
    for file in (lab.directory / "sites").glob("*.yml"):
        (sites / file.name).write_text(file.read_text())
    (sites / "example.com.yml").write_text(
        "domain: example.com\ncache: {ttl: 2, grace: 0, keep_cookies: [login], bypass: [/front.php/private/]}\n"
    )
    once = time.monotonic_ns()
    url, other = f"https://example.com/front.php?{once}", f"https://kiosk.co.test/?{once}"
    try:
        done = ask.host.fab("haproxy", directory=lab.describe(tmp_path, sites))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "reloaded" in done.stdout
        assert [ask(url).cache, ask(url, "-b", "theme=dark").cache] == ["MISS", "HIT"]
        seen = ask(url, "-b", "theme=dark; login=me")
        assert (seen.cache, seen.seen["HTTP_COOKIE"]) == ("PASS", "login=me")
        assert [ask(f"https://example.com/front.php/private/{once}").cache for _ in range(2)] == ["PASS", "PASS"]
        assert ask(other).cache == "MISS"
        time.sleep(3)
        assert ask(url).cache == "MISS"
        assert ask(other).cache == "HIT"
    finally:
        done = ask.host.fab("haproxy")
    assert done.returncode == 0, done.stdout + done.stderr
