"""A static host: files come from it and nothing else does; without it from the web servers, and back.  (T5)"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator

import pytest

from .corner import A, as_user
from .lab import Lab
from .machine import Machine, Stranger
from .pair import Pair, described

pytestmark = pytest.mark.demand

ROOM = "/var/www/example.com/public_html/_"
THEIRS = "/var/www/kiosk.co.test/public_html/_"
BUNDLED = "app.3f2a9c1b.js"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("nginx", "bookworm"), id="nginx 12"),
        pytest.param(("lighttpd", "trixie"), id="lighttpd 13"),
        pytest.param(("lighttpd", "bookworm"), id="lighttpd 12"),
        pytest.param(("nginx", "trixie"), id="nginx 13"),
    ],
)
def pair(request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """An edge that makes pages, and behind it a host that makes pages and serves the files of all."""
    server, release = request.param
    with lab.adding() as start:
        front, second = start("trixie" if release == "bookworm" else "bookworm"), start(release)
        directory = tmp_path_factory.mktemp("static")
        made = described(lab, front, second, directory, ("web", "static"), static={"server": server})
        with lab.pointing(front):
            made.bootstrap()
            yield made


@pytest.fixture(scope="module", autouse=True)
def files(pair: Pair) -> Iterator[None]:
    """Each host says in its files which one it is."""
    for machine in pair.machines:
        for name in ("style.css", BUNDLED, "page.mjs", "x.sql", ".hidden.css", "dir.css/a.png", "big.css"):
            text = f"/* {machine.name} */\n" * (200 if name == "big.css" else 1)
            put(machine, f"{ROOM}/static/{name}", text)
        put(machine, f"{ROOM}/static/who.php", "<?php /* the source */ echo 'made by ', gethostname();")
        as_user(machine, A, f"ln -s style.css {ROOM}/static/own.css")
        as_user(machine, A, f"ln -s {THEIRS}/secret.php {ROOM}/static/theirs.css; ln -s {THEIRS} {ROOM}/static/all")
        put(machine, f"{THEIRS}/secret.php", "<?php $password = 'theirs';", "kiosk-co-test")
        put(machine, f"{THEIRS}/secret.css", "theirs", "kiosk-co-test")
        assert machine.exec(f"runuser -u www-data -- cat {ROOM}/static/theirs.css").rc == 0  # or it proves nothing
    yield
    for machine in pair.machines:
        machine.exec(f"rm -rf {ROOM}/static {THEIRS}/secret.php {THEIRS}/secret.css")


def put(machine: Machine, path: str, text: str, user: str = A) -> None:
    done = as_user(machine, user, f"mkdir -p $(dirname {path}); cat > {shlex.quote(path)}", text)
    assert done.rc == 0, done.err


def get(stranger: Stranger, pair: Pair, path: str, *more: str) -> tuple[int, str]:
    """Status, and head and body in one."""
    done = stranger.curl("-i", "--max-time", "60", "--path-as-is", *more, f"https://example.com{path}", to=pair.front)
    assert done.rc == 0, done.err
    return int(done.out.split()[1]), done.out


def served_by(stranger: Stranger, pair: Pair, path: str = "/static/style.css") -> str:
    status, text = get(stranger, pair, path)
    assert status == 200, text
    return text.rpartition("/* ")[2].partition(" */")[0]


def server(pair: Pair) -> str:
    return "nginx" if pair.second.exec("systemctl is-active nginx").out == "active\n" else "lighttpd"


def rows(pair: Pair) -> dict[str, str]:
    done = pair.fab("haproxy.servers", "--json")
    assert done.returncode == 0, done.stderr
    return {row["server"]: row["status"] for row in json.loads(done.stdout)}


def back(stranger: Stranger, pair: Pair) -> None:
    end = time.monotonic() + 20
    while served_by(stranger, pair) != pair.second.name:
        assert time.monotonic() < end, "the static host does not come back"
        time.sleep(0.5)


# ---------------------------------------------------------------------- what is served


def test_files_come_from_the_static_host_and_pages_from_all(pair: Pair, stranger: Stranger) -> None:
    assert [served_by(stranger, pair) for _ in range(6)] == [pair.second.name] * 6
    pages = {get(stranger, pair, f"/static/who.php?{time.monotonic_ns()}")[1].rpartition(" ")[2] for _ in range(6)}
    assert pages == {machine.name for machine in pair.machines}
    assert pair.second.name in get(stranger, pair, "/static/own.css")[1]


def test_a_file_says_what_it_is_and_how_long_it_may_be_kept(pair: Pair, stranger: Stranger) -> None:
    heads = {name: get(stranger, pair, f"/static/{name}")[1].lower() for name in ("style.css", BUNDLED, "page.mjs")}
    for name, kind in {"style.css": "text/css", BUNDLED: "text/javascript", "page.mjs": "text/javascript"}.items():
        assert f"content-type: {kind}" in heads[name]
        assert heads[name].count("x-content-type-options: nosniff") == 1
        assert ("immutable" in heads[name]) == (name == BUNDLED)
    assert "cache-control: public, max-age=604800\r\n" in heads["style.css"]
    assert "server:" not in heads["style.css"]
    etag = heads["style.css"].partition("etag: ")[2].partition("\r\n")[0]
    assert get(stranger, pair, "/static/style.css", "-H", f"If-None-Match: {etag}")[0] == 304
    assert get(stranger, pair, "/static/style.css", "-H", "Range: bytes=0-1")[0] == 206
    packed = get(stranger, pair, "/static/big.css", "-H", "Accept-Encoding: gzip", "-o", "/dev/null", "-D", "-")[1]
    assert "content-encoding: gzip" in packed.lower()
    assert get(stranger, pair, "/static/style.css", "-I")[0] == 200


def test_what_is_no_file_of_the_site_s_own_is_never_shown(pair: Pair, stranger: Stranger) -> None:
    """Not hidden ones, no directory, no other site's by a link, and never the source of a program."""
    for path in (
        "/static/.hidden.css", "/static/dir.css", "/static/dir.css/", "/static/theirs.css", "/static/all/secret.css",
        "/static/nothing.css", "/.git/x.css", "/static/who.php%2fx.css", "/static/who.php%00.css", "/..%2f..%2fx.css",
    ):  # fmt: skip
        status, text = get(stranger, pair, path)
        assert status in (400, 403, 404), (path, text)
        assert "theirs" not in text
        assert "source" not in text
    for path in ("/static/who.php/x.css", "/static/who.php", "/static/who%2ephp"):
        assert "source" not in get(stranger, pair, path)[1], path
    # As if HAProxy's rules had let them through.
    for path in ("/static/who.php", "/static/who.php/x.css", "/static/x.sql", "/static/", "/static/theirs.css"):
        assert told(pair, "example.com", path).split()[1] == "404", path
    assert told(pair, "example.com", "/static/style.css").split()[1] == "200"
    assert told(pair, "stranger.test", "/static/style.css").split()[1] == "421"


def told(pair: Pair, name: str, path: str) -> str:
    """What the static host answers the edge, in HTTP/1.0 and with a visitor's address in front."""
    lines = ["PROXY TCP4 192.0.2.7 192.0.2.8 5 443", f"GET {path} HTTP/1.0", f"Host: {name}", "", ""]
    where = f"/dev/tcp/{pair.second.ip}/8083"
    return pair.front.check(f"bash -c 'exec 3<> {where}; cat >&3; cat <&3'", stdin="\r\n".join(lines))


def test_only_the_edge_s_haproxy_and_root_speak_to_it(pair: Pair, stranger: Stranger) -> None:
    speak = f"timeout 2 bash -c '< /dev/tcp/{pair.second.ip}/8083'"
    assert pair.front.exec(speak).rc == 0
    assert stranger.exec(speak).rc == 124
    assert "refused" in pair.front.exec(speak, user=A).err
    listens = pair.second.check(f"ss -Htlnp | grep -w {server(pair)} | awk '{{ print $4 }}'").split()
    assert listens == [f"{pair.second.ip}:8083"]


def test_its_log_names_the_site_the_visitor_and_the_request(pair: Pair, stranger: Stranger) -> None:
    mark = f"n{time.monotonic_ns()}"
    get(stranger, pair, f"/static/style.css?{mark}")
    front = pair.front.check(f"journalctl -u haproxy -n 50 --no-pager | grep {mark}")
    number = front.partition("{example.com|")[2].partition("}")[0]
    assert "static/" in front
    for _ in range(20):  # lighttpd writes its log every other second or so
        log = pair.second.exec(f"grep -h {mark} /var/log/{server(pair)}/static.log").out
        if log:
            break
        time.sleep(0.5)
    assert log.startswith(f"{stranger.ip} example.com ")
    assert log.rstrip().endswith(number)
    told_of = pair.second.fab("logs", "example.com", "--id", number[:8], "--json", directory=pair.directory)
    assert told_of.returncode == 0, told_of.stderr
    [one] = json.loads(told_of.stdout)["requests"]
    assert (one["client"], one["status"]) == (stranger.ip, 200)
    pair.second.check(f"logrotate -f /etc/logrotate.d/{server(pair)}")
    assert get(stranger, pair, f"/static/style.css?{mark}2")[0] == 200


# ---------------------------------------------------------------------- what goes away, and comes back


def test_without_the_static_host_the_web_servers_serve_its_files_and_nobody_notices(
    pair: Pair, stranger: Stranger
) -> None:
    name = server(pair)
    pair.second.check(f"systemctl stop {name}")
    try:
        seen = [served_by(stranger, pair, f"/static/style.css?{n}{time.monotonic_ns()}") for n in range(8)]
        assert set(seen) == {machine.name for machine in pair.machines}
        shown = rows(pair)
        assert shown[f"static/{pair.second.name}"].startswith("DOWN")
        assert shown[f"static/{pair.front.name}:pages"] == "UP"
    finally:
        pair.second.check(f"systemctl start {name}")
    back(stranger, pair)


def test_a_static_host_that_hangs_holds_nobody_for_long(pair: Pair, stranger: Stranger) -> None:
    name = server(pair)
    pair.second.check(f"systemctl kill --signal STOP {name}")
    try:
        began = time.monotonic()
        assert get(stranger, pair, f"/static/style.css?{time.monotonic_ns()}")[0] == 200
        assert time.monotonic() - began < 20
        began = time.monotonic()
        assert get(stranger, pair, f"/static/style.css?{time.monotonic_ns()}")[0] == 200
        assert time.monotonic() - began < 10
    finally:
        pair.second.check(f"systemctl kill --signal CONT {name}")
    back(stranger, pair)


def test_files_are_served_while_no_page_can_be_made(pair: Pair, stranger: Stranger) -> None:
    for machine in pair.machines:
        machine.check("systemctl stop varnish")
    try:
        assert served_by(stranger, pair) == pair.second.name
        status, text = get(stranger, pair, "/static/who.php")
        assert status == 503
        assert "cannot be reached" in text
    finally:
        for machine in pair.machines:
            machine.check("systemctl start varnish")
    for _ in range(40):
        if get(stranger, pair, "/static/who.php")[0] == 200:
            break
        time.sleep(0.5)
    assert get(stranger, pair, "/static/who.php")[0] == 200


def test_a_suspended_site_shows_no_file_either(pair: Pair, stranger: Stranger) -> None:
    assert pair.fab("site.suspend", "example.com").returncode == 0
    try:
        status, text = get(stranger, pair, "/static/style.css")
        assert status == 503
        assert "worked on" in text
    finally:
        assert pair.fab("site.resume", "example.com").returncode == 0
    assert served_by(stranger, pair) == pair.second.name


def test_an_operator_drains_it_by_its_name(pair: Pair, stranger: Stranger) -> None:
    done = pair.fab("haproxy.drain", pair.second.name)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        seen = {served_by(stranger, pair, f"/static/style.css?{n}{time.monotonic_ns()}") for n in range(4)}
        assert seen == {pair.front.name}
    finally:
        assert pair.fab("haproxy.ready", pair.second.name).returncode == 0
    back(stranger, pair)


def test_again_it_changes_nothing(pair: Pair) -> None:
    for machine in pair.machines:
        done = machine.fab("bootstrap", directory=pair.directory)
        assert done.returncode == 0
        assert " 0 changed, 0 failed" in done.stdout, done.stdout
