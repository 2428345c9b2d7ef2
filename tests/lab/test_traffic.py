"""Two web servers behind one front: where visitors go, what an operator sets, and that nobody notices. (T1, HAProxy)"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Bare
from .faults.load import PAGE, load
from .lab import Lab
from .machine import CHECKOUT, Machine, Stranger, run_tool
from .pair import Pair, paired

ROOM = "/var/www/example.com/public_html/_"
PAGES = {
    "who.php": """<?php
        if (isset($_GET['cc'])) header("Cache-Control: $_GET[cc]"); else header('Cache-Control: no-store');
        if (file_exists(__DIR__ . '/sick')) http_response_code(500);
        if (isset($_GET['session'])) { session_start(); $_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1; }
        echo json_encode(['host' => gethostname(), 'client' => $_SERVER['REMOTE_ADDR'], 'n' => $_SESSION['n'] ?? 0,
            'cookies' => array_keys($_COOKIE)]);
        """,
    "load.php": PAGE.replace("<?php", "<?php if (file_exists(__DIR__ . '/sick')) http_response_code(500);"),
}


@pytest.fixture(scope="module", params=["vps", pytest.param("vps12", marks=pytest.mark.demand)])
def pair(
    request: pytest.FixtureRequest, lab: Lab, vps: Machine, vps12: Machine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """As everywhere; on demand also with HAProxy 2.6 in front."""
    front, second = (vps, vps12) if request.param == "vps" else (vps12, vps)
    yield from paired(lab, front, second, tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module", autouse=True)
def pages(pair: Pair) -> Iterator[None]:
    """Both tell who they are."""
    for machine in pair.machines:
        for name, text in PAGES.items():
            as_the_site(machine, f"tee {ROOM}/{name} > /dev/null", text)
    yield
    for machine in pair.machines:
        machine.exec(f"rm -f {' '.join(f'{ROOM}/{name}' for name in PAGES)} {ROOM}/sick")


@pytest.fixture(autouse=True)
def as_before(pair: Pair) -> Iterator[None]:
    """Both serve with their full share, before and after."""
    yield
    pair.second.exec(f"rm -f {ROOM}/sick")
    for name in (machine.name for machine in pair.machines):
        told(pair, f"set server varnish/{name} weight 100; set server varnish/{name} state ready")
    pair.front.check("echo 1 > /etc/haproxy/servers.state")


def as_the_site(machine: Machine, command: str, stdin: str = "") -> str:
    return machine.check(f"runuser -u example-com -- sh -c '{command}'", stdin)


def told(pair: Pair, command: str) -> str:
    return pair.front.check(f"echo '{command}' | socat -T 5 - UNIX-CONNECT:/run/haproxy/admin.sock")


def ask(stranger: Stranger, pair: Pair, query: str = "", *more: str) -> dict[str, object]:
    done = stranger.curl(*more, f"https://example.com/who.php?{time.monotonic_ns()}{query}", to=pair.front)
    assert done.rc == 0, done.err
    return dict(json.loads(done.out))


def hosts(stranger: Stranger, pair: Pair, count: int = 12) -> dict[object, int]:
    """How many of some visitors came where."""
    found = [ask(stranger, pair)["host"] for _ in range(count)]
    return {host: found.count(host) for host in found}


def rows(pair: Pair) -> dict[str, dict[str, object]]:
    done = pair.fab("haproxy.servers", "--json")
    assert done.returncode == 0, done.stderr
    return {row["server"].partition("/")[2]: row for row in json.loads(done.stdout)}


def as_set(pair: Pair) -> list[list[str]]:
    """Every server's states and weights."""
    return [line.split()[3:9] for line in told(pair, "show servers state").splitlines()]


# ---------------------------------------------------------------------- where visitors go


def test_both_serve_and_see_who_comes(pair: Pair, stranger: Stranger) -> None:
    assert hosts(stranger, pair) == {pair.front.name: 6, pair.second.name: 6}
    assert ask(stranger, pair)["client"] == ask(stranger, pair)["client"] == stranger.ip
    log = pair.second.check("tail -n 5 /var/www/example.com/log/access_log")
    assert stranger.ip in log, log


def test_who_has_a_session_comes_back_to_it_and_nobody_else_is_bound(pair: Pair, stranger: Stranger) -> None:
    jar = ("-c", "/tmp/jar", "-b", "/tmp/jar")
    stranger.check("rm -f /tmp/jar")
    answers = [ask(stranger, pair, "&session", *jar) for _ in range(6)]
    assert [answer["n"] for answer in answers] == [1, 2, 3, 4, 5, 6]
    assert all(answer["cookies"] in ([], ["PHPSESSID"]) for answer in answers)
    [stay] = [line for line in stranger.check("cat /tmp/jar").splitlines() if "__Host-stay" in line]
    assert "#HttpOnly_" in stay
    assert not re.search("vps", stay)
    head = stranger.curl(
        "-D", "-", "-o", "/dev/null", f"https://example.com/who.php?{time.monotonic_ns()}", to=pair.front
    )
    assert "set-cookie" not in head.out.lower(), head.out


def test_what_is_kept_is_kept_for_those_with_our_cookie_too(pair: Pair, stranger: Stranger) -> None:
    stay = re.findall(rf"server {pair.second.name} .* cookie (\w+)", pair.front.check("cat /etc/haproxy/haproxy.cfg"))[
        0
    ]
    url = f"https://example.com/who.php?kept={time.monotonic_ns()}&cc=max-age%3D60"
    seen = [stranger.curl("-D", "-", "-b", f"__Host-stay={stay}", url, to=pair.front).out.lower() for _ in range(2)]
    assert "x-cache: miss" in seen[0]
    assert "x-cache: hit" in seen[1]
    assert f'"host":"{pair.second.name}"' in seen[1]


def test_behind_the_front_only_the_front_is_let_in(pair: Pair, stranger: Stranger) -> None:
    second = pair.second.ip
    knock = f'for port in 80 443 8080 8081; do timeout 1 bash -c "< /dev/tcp/{second}/$port" && echo $port; done'
    assert stranger.exec(knock).out == ""
    speak = f"timeout 2 bash -c '< /dev/tcp/{second}/8081'"
    assert pair.front.exec(speak).rc == 0
    assert "refused" in pair.front.exec(speak, user="example-com").err
    assert "refused" in pair.second.exec(speak, user="example-com").err


def test_a_wrong_password_is_counted_at_the_front(pair: Pair, stranger: Stranger) -> None:
    as_the_site(pair.second, f"mkdir -p {ROOM}/closed")
    try:
        closed = f"AuthType Basic\nAuthName x\nAuthUserFile {ROOM}/closed/.users\nRequire valid-user\n"
        as_the_site(pair.second, f"touch {ROOM}/closed/.users && tee {ROOM}/closed/.htaccess > /dev/null", closed)
        told(pair, f"set server varnish/{pair.front.name} state maint")
        since = pair.front.check("date +'%F %T'").strip()
        for password in ((), ("-u", "a:b"), ("-u", "a:c")):
            stranger.curl("-o", "/dev/null", *password, "https://example.com/closed/", to=pair.front)
        read = pair.front.check("fail2ban-client get haproxy-http-auth journalmatch").splitlines()[-1]
        pair.front.check(f"journalctl -q -o short --since '{since}' {read} > /tmp/said")
        found = pair.front.check("fail2ban-regex /tmp/said haproxy-http-auth")
        assert re.search(r"Failregex: 2 total", found), found
        assert pair.front.check("grep -c '/closed/ HTTP' /tmp/said") == "2\n", "it reads what every visitor makes"
        assert "[apache-auth]" not in pair.second.check("cat /etc/fail2ban/jail.local")
        assert pair.front.ip in pair.second.check("fail2ban-client get sshd ignoreip")
    finally:
        pair.second.exec(f"rm -rf {ROOM}/closed")


def test_again_nothing_changes(pair: Pair) -> None:
    for machine in pair.machines:
        done = machine.fab("check", directory=pair.directory)
        assert done.returncode == 0, done.stdout


# ---------------------------------------------------------------------- what is set


@pytest.mark.parametrize("task", ["drain", pytest.param("maintenance", marks=pytest.mark.demand)])
def test_what_is_taken_away_stays_away_until_it_is_ready(pair: Pair, stranger: Stranger, task: str) -> None:
    done = pair.fab(f"haproxy.{task}", pair.second.name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"no request to {pair.second.name} is under way" in done.stdout
    for action in ("true", "systemctl reload haproxy", "systemctl restart haproxy"):
        pair.front.check(action)
        assert hosts(stranger, pair, 4) == {pair.front.name: 4}, action
        assert rows(pair)[pair.second.name]["set"] == task
    assert pair.front.fab("check", directory=pair.directory).returncode == 0
    refused = pair.fab(f"haproxy.{task}", pair.front.name)
    assert refused.returncode == 3, refused.stdout
    assert f"{pair.front.name} is the last server that serves" in refused.stderr
    assert pair.fab("haproxy.ready", pair.second.name).returncode == 0
    assert hosts(stranger, pair, 4) == {pair.front.name: 2, pair.second.name: 2}


@pytest.mark.demand
def test_a_session_stays_while_its_server_is_drained_and_moves_in_maintenance(pair: Pair, stranger: Stranger) -> None:
    jar = ("-c", "/tmp/jar", "-b", "/tmp/jar")
    for _ in range(2):
        stranger.check("rm -f /tmp/jar")
        if ask(stranger, pair, "&session", *jar)["host"] == pair.second.name:
            break
    assert pair.fab("haproxy.drain", pair.second.name).returncode == 0
    assert ask(stranger, pair, "&session", *jar) | {"cookies": []} == {
        "host": pair.second.name, "client": stranger.ip, "n": 2, "cookies": []}  # fmt: skip
    assert pair.fab("haproxy.maintenance", pair.second.name).returncode == 0
    assert ask(stranger, pair, "&session", *jar)["host"] == pair.front.name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("haproxy.drain", "vps13"), "vps12"),
        (("haproxy.shift", "web", "--to", "50"), "vps"),
        (("haproxy.shift", "vps12", "--to", "900"), "from 0 to 100"),
        (("haproxy.shift", "vps12", "--step", "0"), "from 1 to 100"),
        (("varnish.purge", "https://exmple.com/"), "https://example.com/"),
        (("varnish.purge", "--site", "exmple.com"), "example.com"),
    ],
)
def test_bad_input_changes_nothing(pair: Pair, words: tuple[str, ...], said: str) -> None:
    before = as_set(pair)
    done = pair.fab(*words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert as_set(pair) == before


@pytest.mark.demand
def test_what_began_before_a_reload_is_waited_for_as_well(pair: Pair, stranger: Stranger) -> None:
    as_the_site(pair.second, f"head -c 1500000 /dev/urandom > {ROOM}/slow.bin")
    try:
        told(pair, f"set server varnish/{pair.front.name} state maint")
        url = f"https://example.com/slow.bin?{time.monotonic_ns()}"
        fetch = (
            f"curl -s --limit-rate 250k -o /dev/null -w '%{{size_download}}' --connect-to ::{pair.front.ip}: '{url}'"
        )
        stranger.check(f"({fetch} > /tmp/slow) > /dev/null 2>&1 &")
        time.sleep(1)
        pair.front.check("systemctl reload haproxy")
        told(pair, f"set server varnish/{pair.front.name} state ready")
        early = pair.fab("haproxy.maintenance", pair.second.name, "--wait", "0")
        assert (early.returncode, f"still under way to {pair.second.name} after 0 s: 1" in early.stdout) == (1, True)
        late = pair.fab("haproxy.maintenance", pair.second.name)
        assert (late.returncode, f"under way to {pair.second.name}: 1\n" in late.stdout) == (0, True), late.stdout
        assert (
            stranger.check("for i in $(seq 100); do [ -s /tmp/slow ] && break; sleep 0.1; done; cat /tmp/slow")
            == "1500000"
        )
    finally:
        stranger.exec("rm -f /tmp/slow")
        pair.second.exec(f"rm -f {ROOM}/slow.bin")


# ---------------------------------------------------------------------- under load


def test_drain_ready_shift_and_reload_lose_no_request(pair: Pair, stranger: Stranger) -> None:
    second = pair.second.name
    steps = (
        ("haproxy.drain", second),
        ("haproxy.shift", second, "--to", "100", "--step", "50", "--every", "1"),
        ("haproxy.shift", second, "--to", "0", "--step", "50", "--every", "1"),
        ("haproxy.maintenance", second),
        ("haproxy.ready", second),
    )
    with load(stranger, pair.front) as requests:
        for step in steps:
            done = pair.fab(*step)
            assert done.returncode == 0, done.stdout + done.stderr
            pair.front.check("systemctl reload haproxy")
    as_the_site(pair.front, f"tee {ROOM}/load.php > /dev/null", PAGES["load.php"])
    assert requests.failed == [], requests
    assert requests.asked > 100


def test_a_shift_towards_one_that_answers_500_goes_back_with_the_numbers(pair: Pair, stranger: Stranger) -> None:
    assert pair.fab("haproxy.drain", pair.second.name).returncode == 0
    as_the_site(pair.second, f"touch {ROOM}/sick")
    with load(stranger, pair.front) as requests:
        as_the_site(pair.front, f"tee {ROOM}/load.php > /dev/null", PAGES["load.php"])
        done = pair.fab("haproxy.shift", pair.second.name, "--to", "100", "--step", "10", "--every", "30")
    as_the_site(pair.front, f"tee {ROOM}/load.php > /dev/null", PAGES["load.php"])
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{pair.second.name} is back at drain: at 10%" in done.stderr
    assert re.search(r"vps\d*: \d+ of \d+ \(\d+\.\d%\) requests failed; the others: 0 of \d+ \(0\.0%\)", done.stderr)
    assert rows(pair)[pair.second.name]["set"] == "drain"
    assert all(" 500 " in failed or "500" in failed for failed in requests.failed), requests.failed[:3]
    assert len(requests.failed) < 20, requests


@pytest.mark.demand
def test_a_shift_towards_one_that_is_down_goes_back(pair: Pair) -> None:
    second = pair.second.name
    assert pair.fab("haproxy.maintenance", second).returncode == 0
    pair.second.check("systemctl stop varnish")
    try:
        done = pair.fab("haproxy.shift", second)
        assert done.returncode == 1, done.stdout
        assert re.search(f"{second} is not up: DOWN.*; it stays in maintenance", done.stderr), done.stderr
        assert rows(pair)[second]["set"] == "maintenance"
        done = pair.fab("haproxy.ready", second, "--wait", "8")
        assert (done.returncode, f"{second} is not up: " in done.stderr) == (1, True), done.stderr
    finally:
        pair.second.check("systemctl start varnish")
    assert pair.fab("haproxy.ready", second).returncode == 0


@pytest.mark.demand
def test_ctrl_c_leaves_a_shift_where_it_is_and_says_where(pair: Pair) -> None:
    with running(pair, "haproxy.shift", pair.second.name, "--to", "0", "--step", "30", "--every", "20") as shift:
        while rows(pair)[pair.second.name]["weight"] != 70:
            assert shift.poll() is None
        shift.send_signal(signal.SIGINT)
        assert shift.wait(20) == 130
        assert shift.stdout
        assert f"{pair.second.name} is at 70% and stays there; it began at 100%" in shift.stdout.read()
    assert rows(pair)[pair.second.name]["set"] == "70%"


# ---------------------------------------------------------------------- the cache


def test_a_page_goes_with_all_its_variants_and_it_is_said_when_there_is_none(pair: Pair, stranger: Stranger) -> None:
    url = f"https://example.com/who.php?old={time.monotonic_ns()}&cc=max-age%3D600"
    nothing = pair.fab("varnish.purge", url)
    assert (nothing.returncode, "nothing was kept of" in nothing.stdout) == (0, True), nothing.stdout + nothing.stderr
    for _ in range(4):
        stranger.curl(url, to=pair.front)
    everywhere = inv(pair, "varnish.purge", url, "--json")
    assert {row["host"]: row["removed"] for row in json.loads(everywhere.stdout)} == {
        pair.front.name: 1,
        pair.second.name: 1,
    }
    head = stranger.curl("-D", "-", url, to=pair.front).out.lower()
    assert "x-cache: miss" in head
    assert "x-host" not in head


def test_a_site_goes_and_no_other(pair: Pair, stranger: Stranger) -> None:
    assert pair.fab("haproxy.drain", pair.second.name).returncode == 0
    mine, others = (f"https://{name}/?{time.monotonic_ns()}" for name in ("www.example.com", "kiosk.co.test"))
    for url in (mine, others):
        stranger.curl(url, to=pair.front)
    done = pair.fab("varnish.purge", "--site", "example.com", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["removed"] >= 1
    assert "x-cache: miss" in stranger.curl("-D", "-", mine, to=pair.front).out.lower()
    assert "x-cache: hit" in stranger.curl("-D", "-", others, to=pair.front).out.lower()


def test_what_the_cache_is_worth_is_told(pair: Pair) -> None:
    found = json.loads(pair.fab("varnish.stats", "--json").stdout)
    assert found["host"] == pair.front.name
    assert found["backends"] == {"apache": "healthy"}
    assert min(found["objects"], found["memory_free_mb"], found["misses"]) > 0
    assert "answered from the cache" in pair.fab("varnish.stats").stdout


# ---------------------------------------------------------------------- HAProxy's page


def test_haproxys_page_comes_to_this_machine_until_ctrl_c(pair: Pair) -> None:
    with running(pair, "haproxy.stats") as serving:
        assert serving.stdout
        line = serving.stdout.readline()
        [url] = re.findall(r"http://127\.0\.0\.1:\d+/", line)
        for _ in range(2):
            with urllib.request.urlopen(url, timeout=20) as answer:
                page = answer.read().decode()
            assert "Statistics Report" in page
            assert pair.second.name in page
        assert "action" not in page  # nothing to be changed there
        serving.send_signal(signal.SIGINT)
        assert serving.wait(20) == 0
    assert pair.front.exec("ss -Hltn 'sport = :1936'").out == ""
    assert "allowtcpforwarding no" in pair.front.check("sshd -T")


def running(pair: Pair, *words: str) -> subprocess.Popen[str]:
    """A task on the front that goes on; both streams in one."""
    fab = [str(Path(sys.executable).parent / "fab"), "-S", str(pair.directory / "ssh_config"), "-H", pair.front.name]
    return subprocess.Popen(
        [*fab, *words], cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )


def inv(pair: Pair, *words: str) -> subprocess.CompletedProcess[str]:
    done = run_tool("inv", *words, "--fleet", str(pair.directory / "fleet.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    return done


# ---------------------------------------------------------------------- from nothing


@pytest.mark.demand
def test_fresh_hosts_become_an_edge_alone_and_a_web_server_behind_it(
    lab: Lab, bare: Bare, stranger: Stranger, tmp_path: Path
) -> None:
    edge, web = bare(), bare()
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "example.com.yml").write_text("domain: example.com\n")
    hosts = {
        edge.name: {"address": edge.ip, "roles": ["edge"]},
        web.name: {"address": web.ip, "roles": ["web"], "weight": 0},
    }
    lab.describe(tmp_path, tmp_path / "sites", hosts=hosts)
    with lab.pointing(edge):
        for machine in (web, edge):
            done = machine.fab("bootstrap", directory=tmp_path)
            assert done.returncode == 0, done.stdout + done.stderr
            assert machine.fab("check", directory=tmp_path).returncode == 0
        assert visit(stranger, edge) == "503"
        done = edge.fab("haproxy.ready", web.name, directory=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        edge.restart()
        assert visit(stranger, edge) == "200"
    there = {machine.name: machine.check("dpkg-query -W -f '${Package}\\n'").split() for machine in (edge, web)}
    assert not {"apache2", "varnish", "redis-server", "php8.4-fpm"} & {*there[edge.name]}
    assert not {"haproxy", "lego"} & {*there[web.name]}
    for machine in (edge, web):
        done = machine.fab("status", directory=tmp_path)
        assert "listens to the world" not in done.stdout, done.stdout


def visit(stranger: Stranger, edge: Machine) -> str:
    return stranger.curl("-o", "/dev/null", "-w", "%{http_code}", "https://example.com/", to=edge).out
