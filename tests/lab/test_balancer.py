"""The cluster front on real hosts: T3's text, sentence by sentence, and what each accident costs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fabfile.balancer.visitors import Asked, Visitors

from .lab import Lab
from .machine import Machine, Stranger, run_tool
from .split import SETTINGS

pytestmark = pytest.mark.demand

NAME = "www.example.com"
PLACE = f"https://{NAME}"
FRONT = {**SETTINGS["cluster"]["balancer"], "evasive": {"enabled": False}, "waf": {"engine": "detect"}}


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def front(request: pytest.FixtureRequest, cluster: Lab) -> Iterator[Machine]:
    """The balancer and its members, after the commands that a person would type; that of Debian 12 is a second one.

    Whoever comes as often as these tests do would be shut out as a flood, and who lies as they do as an attacker: that
    is another module's subject.
    """
    old = request.param == "bookworm"
    machine = cluster.add("balancer12", "bookworm", ("balancer",)) if old else cluster.machine("balancer")
    try:
        cluster.describe(balancer=FRONT)
        with cluster.pointing(machine):
            place = str(cluster.directory / "fleet.yml")
            done(run_tool("inv", "fleet.bootstrap", "--fleet", place, "--only", "member", timeout=1800))
            done(machine.fab("bootstrap"))
            await_all_well(machine)
            yield machine
    finally:
        if old:
            cluster.remove(machine)
        cluster.describe()


@pytest.fixture
def stranger(cluster: Lab) -> Stranger:
    return cluster.stranger


def rows(front: Machine) -> dict[tuple[str, str], dict[str, object]]:
    done = front.fab("balancer.status", "--json")
    assert done.returncode in (0, 1), done.stderr
    return {(row["route"], row["member"]): row for row in json.loads(done.stdout)}


def await_all_well(front: Machine, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while (done := front.fab("balancer.status")).returncode:
        assert time.monotonic() < end, done.stdout + done.stderr
        time.sleep(0.5)


def told(stranger: Stranger, path: str, *more: str) -> dict[str, object]:
    done = stranger.curl(*more, f"{PLACE}{path}")
    assert done.rc == 0, done.err
    return dict(json.loads(done.out))


def who(stranger: Stranger, path: str) -> str:
    return str(told(stranger, path)["host"])


def code(stranger: Stranger, *args: str) -> str:
    return stranger.curl("-o", "/dev/null", "-w", "%{http_code}", *args).out


def shares(cluster: Lab, stranger: Stranger, path: str, requests: int, *members: str) -> Counter[str]:
    """How many of these requests each member has in its own log."""
    log = stranger.check(f"h2load -n {requests} -c 10 {PLACE}{path}", timeout=120)
    assert f"{requests} succeeded, 0 failed" in log, log
    count = f"grep -cF 'GET {path} ' /run/member.log || :"
    return Counter({name: int(cluster.machine(name).check(count)) for name in members})


@contextmanager
def accident(member: Machine, kind: str) -> Iterator[None]:
    """Stopped, hung, or cut off from the balancer; and afterwards as before."""
    begin, end = {
        "stopped": ("systemctl stop member", "systemctl start member"),
        "hung": ("systemctl kill --signal STOP member", "systemctl kill --signal CONT member"),
        "gone": ("ip link set eth0 down", "ip link set eth0 up"),
    }[kind]
    member.check(begin)
    try:
        yield
    finally:
        member.check(end)


# ---------------------------------------------------------------------- T3, sentence by sentence


def test_each_part_of_the_site_is_made_by_its_hosts(front: Machine, stranger: Stranger) -> None:
    for path in ("/news_rss", "/news_rss/today.xml", "/news_blog/", "/news_blog/a/b"):
        assert who(stranger, path) == "news"
    assert {who(stranger, f"/paid_user/{n}") for n in range(6)} == {"paid1"}
    assert {who(stranger, f"/free_user/{n}") for n in range(6)} == {"free1"}
    assert {who(stranger, f"/{path}") for path in ("", "a", "paid_users", "news", "x/paid_user")} == {"web1", "web2"}


def test_the_rest_is_shared_out_evenly(front: Machine, cluster: Lab, stranger: Stranger) -> None:
    found = shares(cluster, stranger, f"/even{time.monotonic_ns()}", 2000, "web1", "web2")
    assert found.total() == 2000
    assert all(abs(count - 1000) <= 20 for count in found.values()), found


def test_members_hear_of_the_visitor_and_of_no_lie(front: Machine, stranger: Stranger) -> None:
    lies = [word for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Host", "Client-IP", "Via",
            "X-Request-ID", "X-Original-URL") for word in ("-H", f"{name}: forged.test")]  # fmt: skip
    found = told(stranger, "/a%20b/%C3%BC?c=d%26e&f", "-4", *lies)
    headers = {key.lower(): value for key, value in found["headers"]}  # type: ignore[attr-defined]
    assert "forged" not in json.dumps(found)
    assert headers["host"] == NAME
    assert headers["x-forwarded-for"] == stranger.ip
    assert headers["x-forwarded-proto"] == "https"
    assert len(headers["x-request-id"]) > 20
    assert found["path"] == "/a%20b/%C3%BC?c=d%26e&f"


def test_the_door_is_as_good_as_haproxys(front: Machine, stranger: Stranger) -> None:
    head = stranger.curl("-D", "-", "-o", "/dev/null", f"{PLACE}/").out.lower()
    assert head.startswith("http/2 200")
    assert head.count("strict-transport-security: max-age=63072000") == 1
    assert "x-frame-options: sameorigin" in head
    assert "x-powered-by" not in head
    moved = stranger.curl("-i", f"http://{NAME}/a?b=c").out
    assert moved.split()[1] == "301"
    assert f"location: {PLACE}/a?b=c\r\n" in moved.lower()
    back = stranger.curl("-D", "-", "-o", "/dev/null", f"{PLACE}/paid_user/moved").out
    assert f"location: {PLACE}/there\r\n" in back.lower()
    assert code(stranger, "-k", f"https://{front.ip}/") == "421"
    assert code(stranger, f"http://{front.ip}/") == "421"
    ask = f"openssl s_client -connect {front.ip}:443 -servername {NAME}"
    assert "TLSv1.3" in stranger.exec(f"{ask} -tls1_3 < /dev/null").out
    assert stranger.exec(f"{ask} -tls1_1 -cipher ALL:@SECLEVEL=0 < /dev/null").rc
    assert stranger.exec(f"{ask} -tls1_2 -cipher AES128-SHA:ECDHE-RSA-AES128-SHA < /dev/null").rc


def test_a_request_without_a_host_is_refused(front: Machine, stranger: Stranger) -> None:
    said = stranger.check(f"printf 'HEAD / HTTP/1.1\\r\\n\\r\\n' | timeout 5 ncat {front.ip} 80")
    assert said.startswith("HTTP/1.1 400 ")


def test_apache_runs_as_its_own_user_with_no_more_modules_than_it_needs(front: Machine) -> None:
    users = {*front.check("ps -o user= -C apache2").split()}
    assert users == {"root", "web_daemon"}
    loaded = front.check("apache2ctl -M 2> /dev/null")
    for name in ("cgi", "cgid", "negotiation", "autoindex", "status", "userdir", "alias", "dir", "php"):
        assert f" {name}_module" not in loaded, name
    assert "proxy_balancer_module" in loaded


def test_strangers_learn_nothing_of_the_members(front: Machine, stranger: Stranger) -> None:
    for path in ("/gatehouse-members", "/gatehouse-members?xml=1", "/balancer-manager", "/server-status"):
        said = stranger.curl("-i", "-H", "X-Forwarded-For: 127.0.0.1", f"{PLACE}{path}").out
        assert "httpd:manager" not in said
        assert "BalancerMember" not in said
    assert code(stranger, f"{PLACE}/gatehouse-members") == "403"
    assert who(stranger, "/gatehouse-again") in ("web1", "web2")


@pytest.mark.parametrize(
    ("route", "first", "second", "kind"),
    [
        ("/paid_user", "paid1", "paid2", "stopped"),
        ("/paid_user", "paid1", "paid2", "hung"),
        ("/paid_user", "paid1", "paid2", "gone"),
        ("/free_user", "free1", "free2", "stopped"),
        ("/free_user", "free1", "free2", "hung"),
        ("/free_user", "free1", "free2", "gone"),
    ],
)
def test_the_spare_takes_over_and_gives_back(
    front: Machine, cluster: Lab, stranger: Stranger, route: str, first: str, second: str, kind: str
) -> None:
    assert who(stranger, route) == first
    with accident(cluster.machine(first), kind):
        assert [who(stranger, f"{route}/{n}") for n in range(3)] == [second] * 3
        assert rows(front)[route, first]["state"] in ("failed", "unwell")
    end = time.monotonic() + 20
    while who(stranger, route) != first:
        assert time.monotonic() < end
        time.sleep(0.3)
    await_all_well(front)


def test_the_survivor_of_a_pair_has_it_all(front: Machine, cluster: Lab, stranger: Stranger) -> None:
    with accident(cluster.machine("web1"), "stopped"):
        path = f"/survivor{time.monotonic_ns()}"
        assert shares(cluster, stranger, path, 300, "web1", "web2") == {"web1": 0, "web2": 300}
    await_all_well(front)


def test_with_both_gone_the_answer_is_503_within_two_seconds(
    front: Machine, cluster: Lab, stranger: Stranger
) -> None:
    with accident(cluster.machine("paid1"), "gone"), accident(cluster.machine("paid2"), "gone"):
        for _ in range(3):
            found = stranger.curl("-w", "\n%{http_code} %{time_total}", f"{PLACE}/paid_user")
            page, _, told = found.out.rpartition("\n")
            status, seconds = told.split()
            assert status == "503"
            assert "<title>503 " in page
            assert float(seconds) <= 2, told
    await_all_well(front)


def test_a_post_that_reached_a_member_is_sent_to_nobody_else(front: Machine, cluster: Lab, stranger: Stranger) -> None:
    name = f"/paid_user/post{time.monotonic_ns()}"
    for member in ("paid1", "paid2"):
        cluster.machine(member).check("touch /run/member.began")
    assert code(stranger, "-d", "four", f"{PLACE}{name}/sleep=7") in ("502", "504")
    count = f"grep -cF 'POST {name}' /run/member.began || :"
    assert [cluster.machine(member).check(count).strip() for member in ("paid1", "paid2")] == ["1", "0"]
    await_all_well(front)
    with accident(cluster.machine("paid1"), "stopped"):
        assert told(stranger, name, "-d", "four")["host"] == "paid2", "what reached nobody goes on"
    await_all_well(front)


def test_a_page_that_breaks_off_is_asked_once_more_with_all_of_its_address(
    front: Machine, cluster: Lab, stranger: Stranger
) -> None:
    with accident(cluster.machine("paid1"), "hung"):
        found = told(stranger, "/paid_user/a%20b/%C3%BC?c=d%26e&f")
        assert (found["host"], found["path"]) == ("paid2", "/paid_user/a%20b/%C3%BC?c=d%26e&f")
    await_all_well(front)


# ---------------------------------------------------------------------- what an accident costs


def test_the_drill_tells_what_each_accident_costs(front: Machine) -> None:
    told = front.fab("balancer.drill", "/paid_user", "--rate", "100", "--json", timeout=300)
    assert told.returncode == 0, told.stdout + told.stderr
    found = {each["event"]: each for each in json.loads(told.stdout[told.stdout.index("{"):])["events"]}
    print(told.stdout)
    assert {*found} == {"stopped", "gone", "hung"}
    for each in found.values():
        assert each["requests"] > 700
        assert each["elsewhere"] > 100
        assert each["lost_twice"] == 0, each
    assert found["stopped"]["lost"] == 0
    assert "GATEHOUSE-DRILL" not in front.check("iptables -S")


# ---------------------------------------------------------------------- in the operator's hands


def test_what_is_drained_stays_so_over_a_reload_and_a_restart(front: Machine, stranger: Stranger) -> None:
    done = front.fab("balancer.drain", "web1")
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        for change in ("balancer.graceful", ""):
            if change:
                assert front.fab(change).returncode == 0
            else:
                front.check("systemctl restart apache2")
            assert rows(front)["/", "web1"]["set"] == "drain"
            assert {who(stranger, f"/{n}") for n in range(6)} == {"web2"}
        last = front.fab("balancer.drain", "web2")
        assert last.returncode == 3, "somebody must serve"
        again = front.fab("bootstrap")
        assert again.returncode == 0
        assert " 0 changed, 0 failed" in again.stdout, again.stdout
    finally:
        ready = front.fab("balancer.ready", "web1")
    assert ready.returncode == 0, ready.stdout + ready.stderr
    assert {who(stranger, f"/{n}") for n in range(6)} == {"web1", "web2"}


def test_a_member_stands_by_and_comes_back(front: Machine, stranger: Stranger) -> None:
    try:
        assert front.fab("balancer.spare", "web1").returncode == 0
        assert rows(front)["/", "web1"]["state"] == "stands by"
        assert {who(stranger, f"/{n}") for n in range(4)} == {"web2"}
    finally:
        assert front.fab("balancer.ready", "web1").returncode == 0
    assert rows(front)["/", "web1"]["state"] == "serves"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["balancer.drain", "web9"], "lead to no host"),
        (["balancer.drain", "web1", "--route", "/paid"], "there is no route"),
        (["balancer.add", "/", "news"], "and not to news"),
        (["balancer.remove", "/", "web1"], "leads / to web1 still"),
    ],
)
def test_what_the_data_do_not_know_is_refused(front: Machine, words: list[str], said: str) -> None:
    done = front.fab(*words)
    assert done.returncode == 2
    assert said in done.stderr + done.stdout


@contextmanager
def under_load(front: Machine, path: str = "/", rate: int = 50) -> Iterator[list[Asked]]:
    """Visitors come meanwhile, who try once alone; as many as a busy machine can bear: none shall wait for it."""
    visitors = Visitors(front.ip, NAME, path, rate, again=False)
    thread = threading.Thread(target=lambda: asyncio.run(visitors.come()), daemon=True)
    thread.start()
    time.sleep(1)
    try:
        yield visitors.done
        time.sleep(1)
    finally:
        visitors.leave()
        thread.join()


def done(run: subprocess.CompletedProcess[str]) -> None:
    assert run.returncode == 0, run.stdout + run.stderr


def test_nothing_that_an_operator_does_loses_a_request(
    front: Machine, cluster: Lab, stranger: Stranger, tmp_path: Path
) -> None:
    routes = SETTINGS["cluster"]["balancer"]["routes"]
    more = {**routes, "/": {"members": ["web1", "web2", "news"]}, "/extra": {"members": ["free1"]}}
    assert who(stranger, "/extra/a") in ("web1", "web2")
    grown = cluster.describe(tmp_path, balancer={**FRONT, "routes": more})
    was = shown(front, stranger)
    with under_load(front) as asked:
        done(front.fab("balancer.graceful"))
        done(front.fab("balancer.drain", "web1"))
        done(front.fab("balancer.ready", "web1"))
        front.check(f"gatehouse-renew --force {NAME}")
        done(front.fab("balancer.add", "/", "news", directory=grown))
        found = shares(cluster, stranger, f"/third{time.monotonic_ns()}", 600, "web1", "web2", "news")
        assert who(stranger, "/extra/a") == "free1"
        done(front.fab("balancer.remove", "/", "news"))
    assert shown(front, stranger) != was
    assert len(asked) > 500
    assert [one for one in asked if one.lost] == []
    assert all(abs(count - 200) <= 12 for count in found.values()), found
    await_all_well(front)


def shown(front: Machine, stranger: Stranger) -> str:
    ask = f"openssl s_client -connect {front.ip}:443 -servername {NAME} < /dev/null 2> /dev/null"
    return stranger.check(f"{ask} | openssl x509 -noout -serial").strip()


def test_again_it_changes_nothing(front: Machine) -> None:
    again = front.fab("bootstrap")
    assert again.returncode == 0, again.stdout + again.stderr
    assert " 0 changed, 0 failed" in again.stdout, again.stdout
    done(front.fab("status"))
    done(front.fab("cert.verify"))
