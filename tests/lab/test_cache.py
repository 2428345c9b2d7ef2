"""A cache for the whole fleet: sessions follow the visitor from host to host, and a page goes on when it is away.

One host is web server and cache, the other a web server alone; so there is the way to oneself, and that to another.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from .conftest import Bare
from .corner import A, B, as_user
from .lab import Lab
from .machine import Machine, Stranger

pytestmark = pytest.mark.demand

# Sessions and objects, and how long each took; nothing of what PHP says of them may be a secret.
PAGE = """<?php
header('Cache-Control: no-store');
$began = microtime(true);
$told = ['session' => session_start()];
$told['n'] = $_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1;
$told['kept'] = session_write_close();
$user = posix_getpwuid(posix_geteuid())['name'];
$told['way'] = $way = parse_ini_file("/etc/gatehouse/sites/$user/cache.ini");
$wait = (float) $way['timeout'];
try {
    if ($way['server'] === 'redis') {
        $store = new Redis();
        $store->connect("$way[scheme]://$way[host]", (int) $way['port'], $wait, null, 0, $wait);
        $store->auth([$way['user'], $way['password']]);
    } else {
        $store = new Memcached();
        $store->setOption(Memcached::OPT_CONNECT_TIMEOUT, $wait * 1000);
        $store->setOption(Memcached::OPT_POLL_TIMEOUT, $wait * 1000);
        $store->addServer($way['host'], (int) $way['port']);
    }
    $store->set($way['prefix'] . 'object', 'mine', 60);
    $told['object'] = $store->get($way['prefix'] . 'object');
    foreach (json_decode($_GET['try'] ?? '[]') as $words) {
        try { $answer = $store->rawCommand(...$words); } catch (RedisException $e) { $answer = $e->getMessage(); }
        $told['tried'][] = $answer === false ? $store->getLastError() : $answer;
        $store->clearLastError();
    }
    if (isset($_GET['door'])) {
        $told['door'] = (bool) @fsockopen($way['host'], (int) $_GET['door'], $code, $why, 2);
    }
} catch (RedisException $e) {
    $told['object'] = false;
}
$told['seconds'] = microtime(true) - $began;
echo json_encode($told);
"""
NAME = "cache.php"
LONGEST = 8
"""Seconds: four waits of half a second each at most, and a busy machine."""

Told = dict[str, Any]


@dataclass
class Shared:
    """`keeper` is the cache of both, and a web server as `other` is."""

    keeper: Machine
    other: Machine
    stranger: Stranger
    server: str
    directory: Path

    def fab(self, machine: Machine, *words: str) -> str:
        done = machine.fab(*words, directory=self.directory)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, machine: Machine, jar: str = "", name: str = "example.com", query: str = "") -> Told:
        """The page, as the visitor with this jar of cookies sees it through the whole chain."""
        cookies = ("-b", f"/tmp/{jar}", "-c", f"/tmp/{jar}") if jar else ()
        url = f"https://{name}/{NAME}?{time.time()}&{query}"
        answer = self.stranger.curl("-k", "-g", "-w", "\n%{http_code}", *cookies, url, to=machine).out
        page, _, status = answer.rpartition("\n")
        assert "200" == status, answer
        return json.loads(page)  # type: ignore[no-any-return]

    @property
    def unit(self) -> str:
        return "redis-server" if self.server == "redis" else f"gatehouse-memcached-{A}"

    def port(self, owner: str) -> str:
        told = self.keeper.check(f"cat /etc/gatehouse/sites/{owner}/cache.ini")
        return re.search(r"(?m)^port = (\d+)$", told)[1]  # type: ignore[index]


CASES = [
    pytest.param(("redis", "trixie"), id="redis 8"),
    pytest.param(("memcached", "bookworm"), id="memcached 1.6.18"),
    pytest.param(("redis", "bookworm"), id="redis 7"),
    pytest.param(("memcached", "trixie"), id="memcached 1.6.38"),
]


@pytest.fixture(scope="module")
def webs(lab: Lab, own: Bare) -> dict[str, Machine]:
    """A web server of each release."""
    webs = {release: own(release) for release in ("trixie", "bookworm")}
    for machine in webs.values():
        with lab.pointing(machine):
            done = machine.fab("bootstrap")
        assert done.returncode == 0, done.stdout + done.stderr
    return webs


@pytest.fixture(scope="module", params=CASES)
def shared(
    request: pytest.FixtureRequest,
    lab: Lab,
    webs: dict[str, Machine],
    stranger: Stranger,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shared]:
    """Both with one cache; afterwards each is a web server of its own again."""
    server, release = request.param
    keeper, other = webs[release], next(machine for name, machine in webs.items() if name != release)
    directory = tmp_path_factory.mktemp("shared")
    shutil.copytree(lab.directory / "sites", directory / "sites")
    hosts = {machine.name: {"address": machine.ip, "roles": ["web"]} for machine in webs.values()}
    hosts[keeper.name]["roles"] = ["web", "cache"]
    lab.describe(directory, directory / "sites", hosts=hosts, cache={"server": server})
    made = Shared(keeper, other, stranger, server, directory)
    try:
        made.fab(other, "credentials")
        for machine in (keeper, other):
            made.fab(machine, "firewall", "credentials", "cache", "php")
            for owner, root in ((A, "example.com"), (B, "kiosk.co.test")):
                done = as_user(machine, owner, f"cat > /var/www/{root}/public_html/_/{NAME}", PAGE)
                assert done.rc == 0, done.err
        yield made
    finally:
        for machine in (keeper, other):
            machine.exec(f"rm -f /var/www/*/public_html/_/{NAME}")
            back = machine.fab("bootstrap")
            assert back.returncode == 0, back.stdout + back.stderr


@pytest.fixture
def jar(shared: Shared) -> Iterator[str]:
    """Cookies of a visitor whom nobody knows yet."""
    name = f"jar-{time.monotonic_ns()}"
    yield name
    shared.stranger.exec(f"rm -f /tmp/{name}")


# ---------------------------------------------------------------------- together


def test_a_session_and_an_object_are_there_whichever_host_answers(shared: Shared, jar: str) -> None:
    told = [shared.ask(machine, jar) for machine in (shared.keeper, shared.other, shared.keeper)]

    assert [1, 2, 3] == [one["n"] for one in told]
    assert {"mine"} == {one["object"] for one in told}


def test_it_is_there_for_the_fleet_s_hosts_alone(shared: Shared) -> None:
    """Nothing listens but the private address, not by UDP; nobody else gets in."""
    port = shared.port(A)
    listening = shared.keeper.check("ss -Hlntu").splitlines()
    mine = [line.split() for line in listening if re.search(rf":({port}|6379|11211|2\d{{4}})\b", line.split()[4])]

    assert {("tcp", shared.keeper.ip)} == {(line[0], line[4].rpartition(":")[0]) for line in mine}
    assert 0 != shared.stranger.exec(f"nc -z -w 2 {shared.keeper.ip} {port}").rc


def test_again_nothing_changes(shared: Shared) -> None:
    for machine in (shared.keeper, shared.other):
        told = shared.fab(machine, "firewall", "credentials", "cache", "php")
        assert 4 == told.count(" 0 changed, 0 failed"), told


# ---------------------------------------------------------------------- apart


def test_a_site_does_not_reach_another_s_keys(shared: Shared) -> None:
    """Neither its PHP nor its shell; its own way is open, so the doors are not shut for everybody."""
    shared.ask(shared.other, name="kiosk.co.test")
    for machine in (shared.keeper, shared.other):
        if shared.server == "redis":
            words = [["GET", f"{B}:object"], ["SET", f"{B}:x", "1"], ["KEYS", "*"], ["SCAN", "0"], ["RANDOMKEY"],
                     ["CLIENT", "TRACKING", "on", "BCAST"], ["CONFIG", "GET", "*"], ["EVAL", "return 1", "0"],
                     ["FLUSHALL"], ["ACL", "LIST"], ["MONITOR"], ["GET", f"{A}:object"]]
            *refused, own = shared.ask(machine, query=f"try={quote(json.dumps(words))}")["tried"]

            assert "mine" == own
            assert [] == [one for one in refused if not str(one).startswith("NOPERM")], refused
        else:
            mine, theirs = shared.port(A), shared.port(B)
            assert shared.ask(machine, query=f"door={mine}")["door"] is True
            assert shared.ask(machine, query=f"door={theirs}")["door"] is False
            knock = f"timeout 3 bash -c 'exec 3<> /dev/tcp/{shared.keeper.ip}/%s'"
            assert 0 == as_user(machine, A, knock % mine).rc
            assert 0 != as_user(machine, A, knock % theirs).rc
            assert 0 != as_user(machine, "www-data", knock % theirs).rc


def test_nobody_else_reads_what_a_site_is_told(shared: Shared) -> None:
    for machine in (shared.keeper, shared.other):
        assert 0 == as_user(machine, B, f"cat /etc/gatehouse/sites/{B}/cache.ini").rc
        for place in (f"/etc/gatehouse/sites/{B}/cache.ini", f"/etc/gatehouse/sites/{B}/sessions.php",
                      f"/etc/gatehouse/secrets/cache/{B}", "/etc/gatehouse/sessions/users.acl",
                      "/etc/gatehouse/sessions/tls.key"):
            assert 0 != as_user(machine, A, f"cat {place}").rc, place
        for place in (f"/etc/gatehouse/sites/{B}/cache.ini", f"/etc/gatehouse/secrets/cache/{B}",
                      "/etc/gatehouse/sessions/users.acl"):
            assert 0 != as_user(machine, "www-data", f"cat {place}").rc, place


# ---------------------------------------------------------------------- away


@contextmanager
def halted(shared: Shared) -> Iterator[None]:
    shared.keeper.check(f"systemctl stop {shared.unit}")
    try:
        yield
    finally:
        shared.keeper.check(f"systemctl start {shared.unit}")


@contextmanager
def hanging(shared: Shared) -> Iterator[None]:
    """It takes connections, and says nothing."""
    shared.keeper.check(f"systemctl kill --signal=STOP {shared.unit}")
    try:
        yield
    finally:
        shared.keeper.check(f"systemctl kill --signal=CONT {shared.unit}")


@contextmanager
def cut_off(shared: Shared) -> Iterator[None]:
    """No packet comes through."""
    rule = f"OUTPUT -d {shared.keeper.ip} -p tcp --dport {shared.port(A)} -j DROP"
    shared.other.check(f"iptables -I {rule}")
    try:
        yield
    finally:
        shared.other.check(f"iptables -D {rule}")


@pytest.mark.parametrize(("away", "lasts"), [(halted, False), (hanging, True), (cut_off, True)])
def test_without_it_a_page_goes_on_and_with_it_the_session_is_back(
    shared: Shared, jar: str, away: Callable[[Shared], Any], lasts: bool
) -> None:
    """A stop empties the memory; what only did not answer still has the session, and the visitor still its cookie."""
    assert 1 == shared.ask(shared.other, jar)["n"]

    with away(shared):
        told = [shared.ask(shared.other, jar) for _ in range(2)]
    back = _back(lambda: shared.ask(shared.other, jar))

    assert [False, False] == [one["session"] for one in told]
    assert max(one["seconds"] for one in told) < LONGEST
    assert "mine" == back["object"]
    assert (2 if lasts else 1) == back["n"]


def _back(ask: Callable[[], Told]) -> Told:
    """What it answers when it is there again, which no task made it."""
    end = time.monotonic() + 10
    while not (told := ask())["session"]:
        assert time.monotonic() < end
        time.sleep(0.3)
    return told


def test_no_password_is_in_a_log_and_each_host_has_its_own(shared: Shared) -> None:
    """PHP names the whole address of a store that does not answer, unless it does not know it."""
    with halted(shared):
        shared.ask(shared.other)
    logs = "/var/log /var/www/example.com/log /etc/gatehouse/card /etc/gatehouse/secrets/php /run/log"
    passwords = []
    for machine in (shared.keeper, shared.other):
        password = machine.check(f"cat /etc/gatehouse/secrets/cache/{A}")
        assert re.fullmatch("[0-9a-f]{64}", password)
        assert "" == machine.check(f"grep -rlF -f - {logs} || :", stdin=password)
        passwords.append(password)

    assert passwords[0] != passwords[1]
    assert "Failed to read session data" in shared.other.check("tail -n 20 /var/www/example.com/log/php_errors.log")


# ---------------------------------------------------------------------- whom it shows itself to, and what it believes


def test_another_certificate_is_not_believed(shared: Shared) -> None:
    """Somebody who sits at the cache's address with a certificate of his own gets no password."""
    if shared.server != "redis":
        assert "tls" not in shared.ask(shared.other)["way"].get("scheme", "")
        return
    tls = "/etc/gatehouse/sessions/tls"
    keep = f"cp -a {tls}.key /root/tls.key; cp -a {tls}.pem /root/tls.pem"
    forged = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=x -days 9 "
        f"-addext subjectAltName=IP:{shared.keeper.ip} -keyout {tls}.key -out {tls}.pem 2> /dev/null"
    )
    shared.keeper.check(f"{keep}; {forged}; chown redis {tls}.key; systemctl restart redis-server")
    try:
        told = shared.ask(shared.other)
        assert (False, False) == (told["session"], told["object"])
    finally:
        shared.keeper.check(f"mv /root/tls.key {tls}.key; mv /root/tls.pem {tls}.pem; systemctl restart redis-server")
    assert _back(lambda: shared.ask(shared.other))["object"] == "mine"


def test_a_new_password_is_known_once_the_cache_host_has_heard_of_it(shared: Shared, jar: str) -> None:
    if shared.server != "redis":
        return
    assert 1 == shared.ask(shared.other, jar)["n"]
    shared.other.check(f"rm /etc/gatehouse/secrets/cache/{A}")

    shared.fab(shared.other, "credentials", "cache")
    assert shared.ask(shared.other)["session"] is False
    shared.fab(shared.keeper, "cache.server")

    assert 2 == shared.ask(shared.other, jar)["n"]


def test_an_app_host_that_cannot_be_asked_keeps_its_sessions(shared: Shared, jar: str) -> None:
    if shared.server != "redis":
        return
    assert 1 == shared.ask(shared.other, jar)["n"]
    shared.other.check("iptables -I INPUT -p tcp --dport 22 -j REJECT")
    try:
        said = shared.fab(shared.keeper, "cache.server")
    finally:
        shared.other.check("iptables -D INPUT -p tcp --dport 22 -j REJECT")

    assert "what it has here stays as it is" in said
    assert "0 changed" in said
    assert 2 == shared.ask(shared.other, jar)["n"]
