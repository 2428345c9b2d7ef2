"""Every runtime beside the others: who runs the code, what each site gets at of the next one, how much it may take."""

from __future__ import annotations

import re
import time

import pytest

from fabfile.isolation.program import CGI, IN_PHP, STARTED, UNIT

from .conftest import Bare
from .corner import as_user, body, status
from .lab import Lab
from .runtimes import KINDS, Yard, owner, yard

# Hosts of their own, and some minutes.
pytestmark = pytest.mark.demand

EVENT = ("fpm", "fcgid", "cgi", "server", "scgi", "static", "ajp")
PREFORK = {"itk": "itk", "other": "itk", "server": "server", "static": "static"}
BY = {"fpm": IN_PHP, "fcgid": STARTED, "cgi": CGI, "itk": STARTED, "server": UNIT, "scgi": UNIT, "ajp": UNIT}
"""The guise in which the code of a runtime itself tries, beside a shell of its user."""


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def event(lab: Lab, own: Bare, release: str, tmp_path_factory: pytest.TempPathFactory) -> Yard:
    return yard(lab, own(release), tmp_path_factory.mktemp("event") / "fleet", **{word: word for word in EVENT})


@pytest.fixture(scope="module")
def prefork(lab: Lab, own: Bare, release: str, tmp_path_factory: pytest.TempPathFactory) -> Yard:
    return yard(lab, own(release), tmp_path_factory.mktemp("prefork") / "fleet", **PREFORK)


def runs_as_its_user(made: Yard, sites: dict[str, str]) -> None:
    for name, kind in sites.items():
        answer = made.ask(f"{name}.test", KINDS[kind].page)

        assert 200 == status(answer), (kind, answer)
        expected = KINDS[kind].drops if kind == "static" else owner(f"{name}.test") + KINDS[kind].says
        assert expected == body(answer).strip()


def holds(made: Yard, sites: dict[str, str]) -> None:
    """Each site is attacked by the next one, in every guise that its runtime has, and reaches nothing."""
    code, tries = made.proved()

    assert [] == [one for one in tries if one["result"] in ("reached", "untried")]
    assert 0 == code
    for name, kind in sites.items():
        ways = {one["way"] for one in tries if one["attacker"] == f"{name}.test" and one["result"] == "denied"}
        assert "shell" in ways
        assert kind == "static" or BY[kind] in ways
        assert 40 < sum(one["victim"] == f"{name}.test" and one["result"] == "denied" for one in tries)
    assert "" == made.host.check("find /var/www /etc /run /tmp -name '*gatehouse-proof*' ! -path '*/log/*'")


def test_seven_runtimes_side_by_side_each_as_its_user(event: Yard) -> None:
    runs_as_its_user(event, {word: word for word in EVENT})
    told = event.done("bootstrap")
    assert " 0 changed, 0 failed" in told, told


def test_no_runtime_lets_a_site_into_the_next_one(event: Yard) -> None:
    holds(event, {word: word for word in EVENT})


def test_itk_and_what_may_be_beside_it_each_as_its_user(prefork: Yard) -> None:
    assert "prefork" == prefork.host.check("a2query -M").strip()
    runs_as_its_user(prefork, PREFORK)
    told = prefork.done("bootstrap")
    assert " 0 changed, 0 failed" in told, told


def test_itk_lets_no_site_into_the_next_one(prefork: Yard) -> None:
    holds(prefork, PREFORK)


SOCKET, WRAPPERS = "/run/gatehouse/server-test", "/var/www/.suexec/fcgid-test"
SECRET = "/etc/gatehouse/secrets /etc/gatehouse/secrets/ajp /etc/gatehouse/secrets/ajp/ajp-test._"
VHOSTS = "/etc/apache2/conf-available/vhost.conf"
# Whose site is attacked, how the host is made weaker, how that is taken back, and what is reached then.
WEAKER = {
    "a program's socket": (
        "server",
        f"chmod 0755 {SOCKET}/_-*; chmod 0666 {SOCKET}/_-*/sock",
        f"chmod 0750 {SOCKET}/_-*; chmod 0660 {SOCKET}/_-*/sock",
        {"sockets: its program at /"},
    ),
    "the wall of the vhosts": (
        "server",
        f"cp -p {VHOSTS} /root/; sed -i '/RequestHeader set Max-Forwards/d' {VHOSTS}; systemctl restart apache2",
        f"cp -p /root/vhost.conf {VHOSTS}; rm /root/vhost.conf; systemctl restart apache2",
        {"sockets: its program, by a rule's proxy"},
    ),
    "Tomcat's secret": (
        "ajp", f"chmod o+rx {SECRET}", f"chmod o-rx {SECRET}",
        {"the server: the secret of its Tomcat at /", "the server: all passwords of sites"},
    ),
    "what starts PHP": (
        "fcgid", f"chmod 0777 {WRAPPERS}", f"chmod 0555 {WRAPPERS}", {"the server: what starts its PHP"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WEAKER)
def test_what_is_weak_about_a_runtime_is_told_by_its_name(event: Yard, what: str) -> None:
    word, weaken, back, reached = WEAKER[what]
    event.host.check(weaken)
    try:
        code, tries = event.proved(f"{word}.test", "--by", "cgi.test")
    finally:
        event.host.check(back)

    assert 1 == code
    assert reached == {f"{one['kind']}: {one['name']}" for one in tries if one["result"] == "reached"}


SLOW = "<?php header('Cache-Control: no-store'); flush(); sleep(20);"


def test_an_itk_process_has_nothing_left_of_root_s(prefork: Yard) -> None:
    host = prefork.host
    host.check("cat > /var/www/itk.test/public_html/_/slow.php", stdin=SLOW, user="itk-test")
    request = "GET /slow.php HTTP/1.0\\r\\nHost: itk.test\\r\\n\\r\\n"
    host.check(f"bash -c 'exec 3<> /dev/tcp/127.0.0.1/8080; printf \"{request}\" >&3; sleep 2' &\nsleep 1")
    seen = host.check("cat /proc/$(pgrep -n -u itk-test apache2)/status; pkill -u itk-test apache2")

    for kind in ("CapEff", "CapPrm", "CapInh"):
        assert f"{kind}:\t0000000000000000" in seen
    uid = host.check("id -u itk-test").strip()
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in seen


CROWD = r"""
visit() {
    exec 3<> /dev/tcp/127.0.0.1/8081
    printf 'PROXY TCP4 192.0.2.1 127.0.0.1 9 8081\r\nGET /PAGE?%s HTTP/1.0\r\nHost: DOMAIN\r\n\r\n' "$1" >&3
    read -r _ status _ <&3; echo "$status"
}
for n in $(seq 16); do visit "$n" & done
sleep 3; echo "$(pgrep -xc -u OWNER WHAT) processes"; wait"""
SLEEPER = "#!/bin/sh\nprintf 'Content-Type: text/plain\nCache-Control: no-store\n\n'\nsleep 6\n"


def crowded(made: Yard, word: str, page: str, text: str, what: str) -> list[str]:
    """Sixteen who come at once: how many processes the site has then, and what they are told, sorted."""
    domain = f"{word}.test"
    made.drop(domain, f"_/{page}", text)
    script = CROWD.replace("DOMAIN", domain).replace("PAGE", page).replace("OWNER", owner(domain))
    return sorted(made.host.check("bash -s", stdin=script.replace("WHAT", what)).splitlines())


def test_a_site_has_so_many_cgi_programs_at_once(event: Yard) -> None:
    told = crowded(event, "cgi", "sleeper.cgi", SLEEPER, "sleep")

    assert [*["200"] * 5, "5 processes", *["503"] * 11] == told


def test_a_site_has_so_many_processes_of_itk_at_once(prefork: Yard) -> None:
    told = crowded(prefork, "itk", "sleeper.php", SLOW.replace("20", "6"), "apache2")

    assert [*["200"] * 5, "5 processes", *["503"] * 11] == told


ENDLESS = "<?php header('Cache-Control: no-store'); set_time_limit(0); while (true) sleep(1);"


def test_a_long_request_of_itk_leaves_apache_and_ends_in_time_though_nobody_waits_for_it(prefork: Yard) -> None:
    """PHP counts no second of sleep, and Varnish only goes away: in time such requests would be all of Apache."""
    host = prefork.host

    def slices() -> list[list[str]]:
        """Where such processes of either site are."""
        seen = "for pid in $(pgrep -u {} apache2); do cat /proc/$pid/cgroup; done"
        said = [host.exec(seen.format(user)).out for user in ("itk-test", "other-test")]
        return [re.findall(r"0::[^.\n]*/(\w+)\.slice", one) for one in said]

    def until(expected: list[list[str]]) -> None:
        end = time.monotonic() + 25
        while (seen := slices()) != expected:
            assert time.monotonic() < end, seen
            time.sleep(1)

    prefork.says("itk.test", KINDS["itk"].keys + "php: {timeout: 9}\n")
    prefork.done("runtime.overdue")
    try:
        for name in ("itk", "other"):
            prefork.drop(f"{name}.test", "_/endless.php", ENDLESS)
            request = f"GET /endless.php HTTP/1.0\\r\\nHost: {name}.test\\r\\n\\r\\n"
            host.check(f"bash -c 'exec 3<> /dev/tcp/127.0.0.1/8080; printf \"{request}\" >&3' &\nsleep 1")
        until([["gatehouse"], ["gatehouse"]])
        until([[], ["gatehouse"]])

        assert "itk-test: a request took " in host.check("journalctl -q -o cat -u gatehouse-itk")
        host.check("systemctl restart apache2")
        host.check("timeout 10 sh -c 'until systemctl is-active gatehouse-itk; do sleep 0.1; done'")
        assert [[], []] == slices()
        assert 200 == status(prefork.ask("itk.test", KINDS["itk"].page))
    finally:
        prefork.says("itk.test", KINDS["itk"].keys)
        prefork.done("runtime.overdue")


# ---------------------------------------------------------------------- what each drops in, and no Apache hears of it

LOADED = "systemctl show -p ExecMainPID apache2; grep -c AH00489 /var/log/apache2/error.log"


def test_a_program_that_is_dropped_into_tomcat_answers(event: Yard) -> None:
    """A page of an application answers at once; a new application within Tomcat's own ten seconds."""
    before = event.host.check(LOADED)
    apps = "/var/www/ajp.test/public_html/_app/webapps"
    jsp = KINDS["ajp"].source or {}
    done = as_user(event.host, "ajp-test", f"cat > {apps}/ROOT/new.jsp; mkdir -p {apps}/wiki/WEB-INF; "
                   f"cp {apps}/ROOT/new.jsp {apps}/wiki/who.jsp", jsp["webapps/ROOT/id.jsp"])  # fmt: skip
    assert 0 == done.rc, done.err

    assert "ajp-test" == body(event.ask("ajp.test", "/new.jsp")).strip()
    end = time.monotonic() + 40
    while "ajp-test" != body(answer := event.ask("ajp.test", "/wiki/who.jsp")).strip():
        assert time.monotonic() < end, answer
        time.sleep(1)
    assert before == event.host.check(LOADED)


# ---------------------------------------------------------------------- how much it may take

FILL = "head -c 400M /dev/zero > $tmp/big; for i in $(seq 40000); do : > $tmp/$i || break; done 2> /dev/null"


@pytest.mark.parametrize("word", ["fpm", "fcgid", "cgi", "server", "scgi", "ajp"])
def test_who_fills_its_tmp_fills_nothing_else(event: Yard, word: str) -> None:
    tmp = f"/var/www/{word}.test/tmp"
    disk = "df --output=used,iused /var/www | tail -n 1"
    before = [int(number) for number in event.host.check(disk).split()]
    try:
        as_user(event.host, f"{word}-test", f"tmp={tmp}; {FILL}")
        own = event.host.check(f"df --output=size,avail,iavail -m {tmp} | tail -n 1").split()
        after = [int(number) for number in event.host.check(disk).split()]
    finally:
        as_user(event.host, f"{word}-test", f"find {tmp} -mindepth 1 -delete")

    assert ["256", "0", "0"] == own
    assert after[0] - before[0] < 20_000
    assert after[1] - before[1] < 1000


FORKS = "i=0; while [ $i -lt 2000 ]; do sleep 20 & i=$((i + 1)); done 2> /dev/null"
HEAD = "printf 'Content-Type: text/plain\\nCache-Control: no-store\\n\\n'"
FORKING = {
    "cgi": ("public_html/_/forks.cgi", f"#!/bin/sh\n{HEAD}\n{FORKS}\n", "/forks.cgi"),
    "server": ("public_html/_app/apps/forks.sh", f"({FORKS}) > /dev/null\n", "/forks"),
    "scgi": ("public_html/_app/apps/forks.sh", f"({FORKS}) > /dev/null\n", "/forks"),
}


@pytest.mark.parametrize("word", FORKING)
def test_who_forks_without_end_meets_a_limit_of_its_own(event: Yard, word: str) -> None:
    path, text, page = FORKING[word]
    user, path = f"{word}-test", f"/var/www/{word}.test/{path}"
    assert 0 == as_user(event.host, user, f"cat > {path} && chmod 0755 {path}", text).rc
    request = f"GET {page} HTTP/1.0\\r\\nHost: {word}.test\\r\\n\\r\\n"
    try:
        event.host.check(f"bash -c 'exec 3<> /dev/tcp/127.0.0.1/8080; printf \"{request}\" >&3; sleep 6'")
        count = int(event.host.check(f"pgrep -c -u {user}"))
        others = {other: status(event.ask(f"{other}.test", KINDS[other].page)) for other in EVENT if other != word}
        reached = event.fab("site.list").returncode
    finally:
        as_user(event.host, user, f"rm -f {path}; kill -KILL -1")
        time.sleep(3)

    assert 60 < count < 800
    assert {other: 200 for other in EVENT if other != word} == others
    assert 0 == reached
