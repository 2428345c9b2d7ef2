"""Looking: what an operator reads of a request is what happened to it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .corner import A_ROOT, A, Corner, as_user, borrowed
from .lab import Lab
from .machine import CHECKOUT, Machine, Stranger, run_tool

LOG = f"{A_ROOT}/log"
SITE = "example.com"


@pytest.fixture
def place(vps: Machine) -> Iterator[Corner]:
    """A place of the site's on the one host that these tests are about."""
    yield from borrowed(vps, A, A_ROOT)


Visit = Callable[..., str]


@pytest.fixture
def visit(vps: Machine, stranger: Stranger, place: Corner) -> Visit:
    """The stranger asks for a page of the place: the answer's code."""

    def ask(page: str, *options: str) -> str:
        url = f"https://{SITE}/{place.name}/{page}"
        return stranger.curl("-o", "/dev/null", "-w", "%{http_code}", *options, url, to=vps).out

    return ask


def logged(vps: Machine, *options: str) -> list[dict[str, Any]]:
    done = vps.fab("logs", SITE, "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["requests"]  # type: ignore[no-any-return]


def told(vps: Machine, url: str, *options: str) -> dict[str, Any]:
    done = vps.fab("why", url, "--json", *options)
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if answer["well"] else 1)
    return answer


def layer(answer: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in answer["layers"] if one["name"] == name)


# ---------------------------------------------------------------------- logs


def test_a_request_is_told_with_what_every_layer_said_of_it(corner: Corner, stranger: Stranger) -> None:
    corner.put("fault.php", "<?php usleep(200000); no_such_function_of_mine();")

    stranger.curl(f"https://{SITE}/{corner.name}/fault.php?mine=1", to=corner.host)

    asked = f"{corner.name}/fault.php?mine=1"
    (request,) = logged(corner.host, "--since", "1m", "--status", "5xx", "--grep", asked)
    front = request["front"]
    assert (500, "GET", SITE, f"/{asked}", "MISS", "varnish") == (
        request["status"], front["method"], front["host"], front["target"], front["cache"], front["server"],
    )  # fmt: skip
    assert 200 <= front["milliseconds"]["answer"] <= front["milliseconds"]["total"]
    assert {500} == {one["status"] for one in request["apache"]}
    assert any("no_such_function_of_mine" in fault["text"] for fault in request["faults"])
    (again,) = logged(corner.host, "--id", request["id"][:8])
    assert again["id"] == request["id"]


def test_apache_s_own_words_belong_to_their_request_by_its_number(vps: Machine, place: Corner, visit: Visit) -> None:
    place.put("page.html", "x")
    place.put(".htaccess", "Require all denied\n")

    assert "403" == visit("page.html")

    (request,) = logged(vps, "--since", "1m", "--grep", f"{place.name}/page.html")
    assert [("apache", "id")] == [(one["layer"], one["joined"]) for one in request["faults"]]
    assert "AH01630: client denied by server configuration" in request["faults"][0]["text"]
    line = vps.check(f"grep -a {request['id']} {LOG}/error_log").splitlines()[0]
    read = vps.check("cat > /run/line; fail2ban-regex /run/line apache-auth", stdin=line + "\n")
    assert "[1] ^client denied by server configuration" in read, read
    combined = vps.check(f"grep -a {request['id']} {LOG}/access_log")
    assert re.fullmatch(r'\S+ - - \[[^]]+\] "GET \S+ HTTP/1.1" 403 \d+ "-" "curl/[^"]+" [0-9a-f-]{36}\n', combined)


def test_no_site_can_steer_the_terminal_or_the_answer(vps: Machine, visit: Visit) -> None:
    nasty = r"[%s UTC] PHP Warning:  \033]0;owned\007\033[2J\000done\t0\000locked\t1\tme\n"
    stamp = "$(date -u +%d-%b-%Y\\ %T)"
    try:
        as_user(vps, A, f'printf "{nasty}" "{stamp}" >> {LOG}/php_errors.log')
        assert "404" == visit("nowhere")

        done = vps.fab("logs", SITE, "--since", "1m")

        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
        assert "\x07" not in done.stdout
        assert r"PHP Warning:  \x1b]0;owned\x07\x1b[2Jdone\t0locked\t1\tme" in done.stdout
        assert "nowhere" in done.stdout
    finally:
        as_user(vps, A, f": > {LOG}/php_errors.log")


def test_what_was_rotated_away_is_found(vps: Machine, place: Corner, visit: Visit) -> None:
    place.put(".htaccess", "Require all denied\n")
    assert "403" == visit("before")
    vps.check(
        "logrotate --force /etc/logrotate.d/gatehouse-sites && ! grep -q before /var/www/example.com/log/error_log"
    )

    (request,) = logged(vps, "--since", "10m", "--grep", f"{place.name}/before")

    assert [403] == [one["status"] for one in request["apache"]]
    assert request["faults"]


def test_what_comes_is_shown_as_it_comes(vps: Machine, lab: Lab, place: Corner, visit: Visit) -> None:
    place.put("late.php", "<?php trigger_error('as it comes', E_USER_WARNING); http_response_code(503);")
    fab = [str(Path(sys.executable).parent / "fab"), "-S", str(lab.directory / "ssh_config"), "-H", "vps"]
    with subprocess.Popen([*fab, "logs", SITE, "--follow", "--json", "--status", "503"], cwd=CHECKOUT,
                          stdout=subprocess.PIPE, text=True) as following:  # fmt: skip
        assert following.stdout
        try:
            deadline = time.monotonic() + 30
            while "tail -n 0 -F" not in vps.check("ps -eo args") and time.monotonic() < deadline:
                time.sleep(0.2)
            time.sleep(0.5)
            assert "503" == visit("late.php")
            request = json.loads(following.stdout.readline())
        finally:
            following.send_signal(signal.SIGINT)
    assert 0 == following.returncode
    assert f"/{place.name}/late.php" == request["front"]["target"]
    assert any("as it comes" in fault["text"] for fault in request["faults"])
    deadline = time.monotonic() + 10
    while (left := vps.exec("pgrep -f '[t]ail -n 0 -F|[j]ournalctl -q -f'").out) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert "" == left


@pytest.mark.parametrize(
    "words",
    [("exampel.com",), (SITE, "--since", "soon"), (SITE, "--status", "6xx"), (SITE, "--id", "$(id)")],
)
def test_what_cannot_be_meant_is_refused(vps: Machine, words: tuple[str, ...]) -> None:
    done = vps.fab("logs", *words)

    assert done.returncode == 2
    assert "for example" in done.stderr


def test_a_report_comes_back_as_a_page_of_its_own(
    vps: Machine, stranger: Stranger, visit: Visit, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    assert "404" == visit("reported")
    vps.exec("dpkg --purge goaccess")
    missing = vps.fab("logs.report", SITE, "--to", str(page))
    assert (1, True) == (missing.returncode, "fab -H vps logs.install" in missing.stderr)
    assert not page.exists()
    try:
        assert 0 == vps.fab("logs.install").returncode
        done = vps.fab("logs.report", SITE, "--since", "2d", "--to", str(page))
    finally:
        vps.exec("apt-get -y purge --auto-remove goaccess")

    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "/reported" in text
    assert stranger.ip not in text
    assert stranger.ip.rpartition(".")[0] in text
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?(https?:)?//", text)


# ---------------------------------------------------------------------- why


def test_a_page_is_kept_and_comes_from_the_cache(corner: Corner) -> None:
    corner.put("page.html", "x")
    url = f"https://{SITE}/{corner.name}/page.html"

    first, second = told(corner.host, url), told(corner.host, url)

    assert (200, 200) == (first["status"], second["status"])
    assert re.fullmatch(r"MISS: it was not there; it is kept for \d+ s from now", layer(first, "varnish")["text"])
    assert re.fullmatch(r"HIT: \d+ s old, good for \d+ s more", layer(second, "varnish")["text"])
    assert "TLSv1.3" in layer(first, "tls")["text"]
    assert ", h2; certificate " in layer(first, "tls")["text"]
    assert "https -> varnish/varnish: 200 in " in layer(first, "haproxy")["text"]
    assert f"200 from {A_ROOT}/public_html/_" == layer(first, "vhost")["text"]


@pytest.mark.parametrize(
    ("script", "cookie", "reason"),
    [
        ("setcookie('mine', '1');", "", "MISS: it cannot be kept: the site sets a cookie (mine)"),
        ("header('Cache-Control: private');", "", "MISS: it cannot be kept: the site says Cache-Control: private"),
        ("header('Vary: *');", "", "MISS: it cannot be kept: the site says Vary: *"),
        ("", "PHPSESSID=1; _ga=2", "PASS: the request carries a cookie (PHPSESSID)"),
    ],
)  # fmt: skip
def test_why_a_page_is_not_kept(vps: Machine, place: Corner, script: str, cookie: str, reason: str) -> None:
    place.put("page.php", f"<?php {script}")

    answer = told(vps, f"{SITE}/{place.name}/page.php", *(["--cookie", cookie] if cookie else []))

    assert reason == layer(answer, "varnish")["text"]


def test_what_php_died_of_stands_below(vps: Machine, place: Corner) -> None:
    place.put("fault.php", "<?php no_such_function_of_mine();")

    done = vps.fab("why", f"{SITE}/{place.name}/fault.php")

    assert done.returncode == 1
    assert "500" in done.stdout
    assert "no_such_function_of_mine" in done.stdout
    assert "next: fab -H vps logs example.com --status 500" in done.stdout


@pytest.mark.parametrize(
    ("unit", "name", "said"),
    [
        ("haproxy", "haproxy", "it is inactive"),
        pytest.param("varnish", "haproxy", "down: varnish/varnish", marks=pytest.mark.demand),
        ("apache2", "varnish", "Apache gave no answer"),
        ("php8.4-fpm", "php", "php8.4-fpm is inactive"),
    ],
)
def test_the_layer_that_is_down_is_named(vps: Machine, place: Corner, unit: str, name: str, said: str) -> None:
    place.put("page.php", "up")
    vps.check(f"systemctl stop {unit}")
    try:
        if unit == "varnish":
            time.sleep(6)  # five checks of HAProxy's
        answer = told(vps, f"https://{SITE}/{place.name}/page.php")
    finally:
        vps.check(f"systemctl start {unit}")

    assert answer["status"] in (0, 503)
    assert said in layer(answer, name)["text"]
    assert layer(answer, name)["bad"]
    assert "fab -H vps bootstrap" == answer["next"]


@pytest.mark.demand
def test_a_site_that_rests_is_told_with_the_way_back(vps: Machine) -> None:
    assert 0 == vps.fab("site.suspend", "kiosk.co.test").returncode
    try:
        answer = told(vps, "https://shop.kiosk.co.test/")
    finally:
        resumed = vps.fab("site.resume", "kiosk.co.test")

    assert resumed.returncode == 0, resumed.stderr
    assert answer["status"] == 503
    assert layer(answer, "vhost")["text"] == "kiosk.co.test is suspended"
    assert answer["next"] == "fab -H vps site.resume kiosk.co.test"


def test_a_name_that_leads_elsewhere_is_told(lab: Lab, vps: Machine, vps12: Machine) -> None:
    with lab.pointing(vps):
        answer = told(vps12, f"https://{SITE}/")

    assert layer(answer, "dns")["bad"]
    assert f"{vps.ip}" in layer(answer, "dns")["text"]
    assert vps12.ip in layer(answer, "dns")["text"]
    assert answer["status"] == 200


def test_another_s_url_is_refused(vps: Machine) -> None:
    done = vps.fab("why", "https://example.org/")

    assert done.returncode == 2
    assert "example.com" in done.stderr


# ---------------------------------------------------------------------- the fleet


def test_a_host_that_is_gone_is_a_row_and_stops_nobody(lab: Lab, vps: Machine, tmp_path: Path) -> None:
    directory = lab.describe(tmp_path / "two", hosts={"vps": {}, "gone": {}})

    done = run_tool("inv", "fleet.status", "--fleet", str(directory / "fleet.yml"), "--json")
    shown = run_tool("inv", "fleet.status", "--fleet", str(directory / "fleet.yml"))

    here, gone = json.loads(done.stdout)
    assert (1, 1) == (done.returncode, shown.returncode)
    assert ("vps", True, []) == (here["host"], here["reachable"], here["faults"])
    assert here["days"] > 0
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert here["version"]
    assert here["yours"] is (here["version"] == head.stdout.strip())
    assert ("gone", False) == (gone["host"], gone["reachable"])
    assert "gone  unreachable" in shown.stdout
