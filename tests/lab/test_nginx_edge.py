"""nginx as the door to the world: the same promises as HAProxy's, as far as it makes them.  (T5, VM0)"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from .corner import A, as_user
from .lab import Lab
from .machine import Stranger
from .pair import Pair, described
from .test_static import ROOM, get, put, served_by

pytestmark = pytest.mark.demand

HEARD = """<?php
header('Cache-Control: no-store');
if (isset($_GET['slow'])) sleep(3);
if (isset($_GET['framed'])) header('X-Frame-Options: DENY');
file_put_contents('/var/www/example.com/tmp/asked', "x\\n", FILE_APPEND);
echo json_encode(['host' => gethostname(), 'client' => $_SERVER['REMOTE_ADDR'], 'https' => $_SERVER['HTTPS'] ?? '',
    'id' => $_SERVER['HTTP_X_REQUEST_ID'] ?? '', 'body' => strlen(file_get_contents('php://input')),
    'heard' => array_filter($_SERVER, fn ($value) => is_string($value) && str_contains($value, 'forged'))]);
"""


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def pair(request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """nginx in front of two hosts that make pages, of which the other one serves files; what it leaves, at the end."""
    with lab.adding() as start:
        front, second = start(request.param), start("trixie" if request.param == "bookworm" else "bookworm")
        directory = tmp_path_factory.mktemp("nginx")
        made = described(lab, front, second, directory, ("web", "static"), edge={"server": "nginx"})
        with lab.pointing(front):
            made.bootstrap()
            yield made
            alone = front.fab("bootstrap")
        assert alone.returncode == 0, alone.stdout + alone.stderr
        assert front.check("systemctl is-active haproxy") == "active\n"
        assert "nginx" not in front.check("ss -Hltnp 'sport = :443'")


@pytest.fixture(scope="module", autouse=True)
def files(pair: Pair) -> Iterator[None]:
    for machine in pair.machines:
        put(machine, f"{ROOM}/static/style.css", f"/* {machine.name} */\n")
        put(machine, f"{ROOM}/static/heard.php", HEARD)
    yield
    for machine in pair.machines:
        machine.exec(f"rm -rf {ROOM}/static /var/www/example.com/tmp/asked")


def heard(stranger: Stranger, pair: Pair, query: str = "", *more: str) -> dict[str, object]:
    done = stranger.curl(*more, f"https://example.com/static/heard.php?{time.monotonic_ns()}{query}", to=pair.front)
    assert done.rc == 0, done.err
    return dict(json.loads(done.out))


def await_pages(stranger: Stranger, pair: Pair) -> None:
    end = time.monotonic() + 30
    while get(stranger, pair, f"/static/heard.php?{time.monotonic_ns()}")[0] != 200:
        assert time.monotonic() < end
        time.sleep(0.5)


# ---------------------------------------------------------------------- who is answered


def test_a_site_is_answered_over_http_2_with_its_certificate_and_all_headers(pair: Pair, stranger: Stranger) -> None:
    head = get(stranger, pair, "/static/heard.php", "-o", "/dev/null", "-D", "-")[1].lower()
    assert head.startswith("http/2 200")
    for name in ("strict-transport-security: max-age=63072000", "x-frame-options: sameorigin",
                 "x-content-type-options: nosniff", "referrer-policy:", "content-security-policy:"):  # fmt: skip
        assert head.count(name) == 1, head
    assert "x-powered-by" not in head
    assert "varnish" not in head
    framed = get(stranger, pair, "/static/heard.php?framed", "-o", "/dev/null", "-D", "-")[1].lower()
    assert re.findall("x-frame-options: (.*)\r", framed) == ["deny"]


def test_other_names_are_refused_at_each_door(pair: Pair, stranger: Stranger) -> None:
    unknown = stranger.curl("https://stranger.test/", to=pair.front)
    assert unknown.rc == 35, "no handshake for a name that is not ours"
    assert stranger.curl("-k", f"https://{pair.front.ip}/").rc == 35
    for name in ("kiosk.co.test", "stranger.test"):
        done = stranger.curl("-o", "/dev/null", "-w", "%{http_code}", "-H", f"Host: {name}", "https://example.com/",
                             to=pair.front)  # fmt: skip
        assert done.out == "421", name
    plain = stranger.curl("-i", f"http://{pair.front.ip}/x").out
    assert plain.split()[1] == "421"
    assert "does not serve the name" in plain
    moved = stranger.curl("-i", "http://www.example.com/a?b=c", to=pair.front).out
    assert moved.split()[1] == "301"
    assert "location: https://www.example.com/a?b=c\r\n" in moved.lower()


def test_tls_is_no_older_than_1_2(pair: Pair, stranger: Stranger) -> None:
    ask = f"openssl s_client -connect {pair.front.ip}:443 -servername example.com"
    assert "TLSv1.3" in stranger.exec(f"{ask} -tls1_3 < /dev/null").out
    assert "ECDHE-ECDSA-" in stranger.exec(f"{ask} -tls1_2 < /dev/null").out
    assert stranger.exec(f"{ask} -tls1_1 -cipher ALL:@SECLEVEL=0 < /dev/null").rc
    assert stranger.exec(f"{ask} -tls1_2 -cipher AES128-SHA:ECDHE-RSA-AES128-SHA < /dev/null").rc


def test_what_a_client_says_of_itself_is_forgotten(pair: Pair, stranger: Stranger) -> None:
    lies = [f"{name}: forged" for name in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Server", "X-Real-IP",
            "Forwarded", "Proxy", "X-Request-ID", "Client-IP", "X-Original-URL", "X-HTTP-Method-Override", "Via",
            "X-Site-Cache")]  # fmt: skip
    told = heard(stranger, pair, "", *(word for lie in lies for word in ("-H", lie)))
    assert told["heard"] == []
    assert told["client"] == stranger.ip
    assert told["https"] == "on"
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", str(told["id"]))
    log = pair.front.check(f"grep {told['id']} /var/log/nginx/edge.log")
    assert log.startswith(f"{stranger.ip} example.com ")


def test_nobody_but_the_edge_speaks_to_varnish(pair: Pair, stranger: Stranger) -> None:
    speak = f"timeout 2 bash -c '< /dev/tcp/{pair.second.ip}/8084'"
    assert pair.front.exec(speak).rc == 0
    assert stranger.exec(speak).rc == 124
    assert "refused" in pair.front.exec(speak, user=A).err
    assert "refused" in pair.front.exec("timeout 2 bash -c '< /dev/tcp/127.0.0.1/8084'", user=A).err


def test_what_is_too_much_is_told(pair: Pair, stranger: Stranger) -> None:
    assert get(stranger, pair, "/" + "x" * 8100)[0] == 414
    assert get(stranger, pair, "/", "-H", "Cookie: " + "x" * 20_000, "--http1.1")[0] == 431
    stranger.check("head -c 9000000 /dev/zero > /tmp/nine")
    assert get(stranger, pair, "/static/heard.php", "--data-binary", "@/tmp/nine", "--http1.1")[0] == 413
    assert heard(stranger, pair, "", "-H", "Transfer-Encoding: chunked", "-d", "four")["body"] == 4
    assert get(stranger, pair, "/", "-X", "TRACE")[0] == 405


def test_a_flood_is_answered_429(pair: Pair, stranger: Stranger) -> None:
    lines = ["limit_req zone=requests burst=5000 nodelay;", "limit_req zone=requests burst=5 nodelay;"]
    for was, now in (lines, lines[::-1]):
        pair.front.check(f"sed -i 's/{was}/{now}/' /etc/nginx/edge.answer /etc/nginx/conf.d/edge.conf")
        pair.front.check("sed -i 's/rate=500r/rate=1r/; t; s/rate=1r/rate=500r/' /etc/nginx/conf.d/edge.conf")
        pair.front.check("systemctl reload nginx; sleep 1")
        if now == lines[1]:
            flood = "for i in $(seq 12); do curl -s -o /dev/null -w '%{http_code} ' "
            flood += f"--connect-to ::{pair.front.ip}: https://example.com/static/style.css; done"
            codes = stranger.check(flood).split()
    assert codes.count("429") >= 4, codes
    assert codes[0] == "200"


# ---------------------------------------------------------------------- pools


def test_files_come_from_the_static_host_and_pages_from_all(pair: Pair, stranger: Stranger) -> None:
    assert [served_by(stranger, pair) for _ in range(4)] == [pair.second.name] * 4
    assert heard(stranger, pair)["host"] == heard(stranger, pair)["host"], "sessions are in a host's own memory"
    log = pair.second.check("tail -n 1 /var/log/nginx/static.log")
    assert log.startswith(f"{stranger.ip} example.com ")


def test_a_host_that_is_gone_or_hangs_is_passed_over_and_no_post_is_sent_twice(
    pair: Pair, stranger: Stranger
) -> None:
    pair.second.check("systemctl stop nginx varnish")
    try:
        assert [served_by(stranger, pair) for _ in range(6)] == [pair.front.name] * 6
        assert {heard(stranger, pair)["host"] for _ in range(6)} == {pair.front.name}
    finally:
        pair.second.check("systemctl start nginx varnish")
    time.sleep(6)
    assert served_by(stranger, pair) == pair.second.name
    pair.second.check("systemctl kill --signal STOP nginx")
    try:
        began = time.monotonic()
        assert served_by(stranger, pair, f"/static/style.css?{time.monotonic_ns()}") == pair.front.name
        assert time.monotonic() - began < 20
    finally:
        pair.second.check("systemctl kill --signal CONT nginx")


def test_files_are_served_while_no_page_can_be_made(pair: Pair, stranger: Stranger) -> None:
    time.sleep(6)
    for machine in pair.machines:
        machine.check("systemctl stop varnish")
    try:
        assert served_by(stranger, pair) == pair.second.name
        status, text = get(stranger, pair, "/static/heard.php")
        assert status in (502, 503)
        assert "<title>" in text
        assert "strict-transport-security" in text.lower()
        assert "nginx</center>" not in text
    finally:
        for machine in pair.machines:
            machine.check("systemctl start varnish")
    await_pages(stranger, pair)


# ---------------------------------------------------------------------- on call


def test_a_suspended_site_says_so(pair: Pair, stranger: Stranger) -> None:
    assert pair.fab("site.suspend", "example.com").returncode == 0
    try:
        for path in ("/static/style.css", "/"):
            status, text = get(stranger, pair, path)
            assert status == 503
            assert "worked on" in text
    finally:
        assert pair.fab("site.resume", "example.com").returncode == 0
    await_pages(stranger, pair)


def test_what_nginx_cannot_do_is_refused(pair: Pair) -> None:
    for words in (["haproxy.servers"], ["haproxy.drain", pair.second.name], ["haproxy.stats"]):
        done = pair.fab(*words)
        assert done.returncode == 2, words
        assert "is nginx" in done.stderr + done.stdout


def shown(stranger: Stranger, pair: Pair) -> str:
    ask = f"openssl s_client -connect {pair.front.ip}:443 -servername example.com < /dev/null 2> /dev/null"
    return stranger.check(f"{ask} | openssl x509 -noout -serial").strip()


def test_a_new_certificate_is_loaded_and_proved(pair: Pair, stranger: Stranger) -> None:
    former = shown(stranger, pair)
    done = pair.front.exec("gatehouse-renew --force example.com", timeout=120)
    assert done.rc == 0, done.out + done.err
    assert shown(stranger, pair) != former
    # What lies on disk and is not served is put right by any run.
    now = shown(stranger, pair)
    pair.front.check("cp /var/lib/gatehouse/renew/former/example.com.pem /etc/haproxy/certs/example.com.pem")
    done = pair.front.exec("gatehouse-renew example.com", timeout=120)
    assert "nginx served another one than lies on disk" in done.out, done.out + done.err
    assert shown(stranger, pair) == former != now
    assert pair.fab("cert.verify").returncode == 0
    # A site that has none shows the default one, and gets one.
    pair.front.check("rm /etc/haproxy/certs/kiosk.co.test.pem")
    again = pair.fab("bootstrap")
    assert again.returncode == 0, again.stdout
    assert pair.fab("cert.verify").returncode == 0
    # A broken one keeps nobody from the others.
    pair.front.check("cp -p /etc/haproxy/certs/kiosk.co.test.pem /root/kiosk.pem")
    pair.front.check("echo broken > /etc/haproxy/certs/kiosk.co.test.pem; systemctl restart nginx")
    assert get(stranger, pair, "/static/style.css")[0] == 200
    pair.front.check("mv /root/kiosk.pem /etc/haproxy/certs/kiosk.co.test.pem")
    assert pair.front.exec("gatehouse-renew").rc == 0


def test_again_it_changes_nothing(pair: Pair) -> None:
    for machine in pair.machines:
        done = machine.fab("bootstrap", directory=pair.directory)
        assert done.returncode == 0
        assert " 0 changed, 0 failed" in done.stdout, done.stdout
    done = pair.fab("status")
    assert done.returncode == 0, done.stdout
    assert as_user(pair.front, A, "cat /etc/nginx/certs/example.com.pem").rc
