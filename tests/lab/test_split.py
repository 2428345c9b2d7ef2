"""The split stack: six bare hosts become one site, and each of them may go without taking the rest along.  (T5)"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .lab import Lab
from .machine import Machine, run_tool

pytestmark = pytest.mark.demand

EXAMPLE = Path(__file__).parent / "example"
SITE = "domain: example.com\ndatabase: true\nphp: {timeout: 10}\n"

LIMIT = 75
"""Seconds after which any answer would be a hang: HAProxy waits 70, Apache as long as PHP may take (here 10)."""

SEEN = 20
"""Seconds after which an edge has seen that a host is away."""

BACK = 90
"""Seconds after which all is as before when a host is back, with the host's own start."""


@dataclass(frozen=True)
class Answer:
    """What a visitor got: curl's exit code, the status, how long it took, the page."""

    rc: int
    status: int
    seconds: float
    page: str

    def found(self, pattern: str) -> str:
        match = re.search(pattern, self.page)
        return match[1] if match else ""


@dataclass
class Stack:
    """The fleet, bootstrapped, with the example application on it."""

    lab: Lab

    def inv(self, *words: str) -> subprocess.CompletedProcess[str]:
        done = run_tool("inv", *words, "--fleet", str(self.lab.directory / "fleet.yml"), timeout=1800)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def ask(self, path: str = "/", *more: str) -> Answer:
        """A visitor's request, with a cookie jar of its own unless `more` names one."""
        ending = "\\n%{http_code} %{time_total}"
        done = self.lab.stranger.curl("--max-time", str(LIMIT + 5), "-w", ending, *more, f"https://example.com{path}")
        page, _, told = done.out.rpartition("\n")
        status, seconds = told.split()
        return Answer(done.rc, int(status), float(seconds), page)

    def write(self, words: str) -> Answer:
        return self.ask("/", "--data-urlencode", f"words={words}")

    def settled(self, well: Callable[[], bool], seconds: float) -> bool:
        """Whether it is so before that many seconds have passed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if well():
                return True
            time.sleep(1)
        return False

    def serves(self) -> bool:
        """Whether all of it works: the page from the database, the session from the cache, the picture."""
        jar = ("-c", "/tmp/jar", "-b", "/tmp/jar")
        self.lab.stranger.check("rm -f /tmp/jar")
        first, second, picture = self.ask("/", *jar), self.ask("/", *jar), self.ask("/logo.svg")
        visits = [each.found(r"Visit (\d+)") for each in (first, second)]
        return (first.status, second.status, picture.status, visits) == (200, 200, 200, ["1", "2"])


@pytest.fixture(scope="module")
def stack(split: Lab) -> Stack:
    (split.directory / "sites" / "example.com.yml").write_text(SITE)
    split.describe()
    stack = Stack(split)
    stack.inv("fleet.bootstrap")
    done = split.machine("files1").fab("site.deploy", "example.com", "--source", str(EXAMPLE))
    assert done.returncode == 0, done.stdout + done.stderr
    return stack


# ---------------------------------------------------------------------- from nothing


def test_the_example_application_answers_over_https_at_the_edge(stack: Stack) -> None:
    words = f"written at {time.time_ns()}"
    written = stack.write(words)
    assert (written.status, words in written.page) == (200, True), written
    assert written.found('data-cipher="(.+)"'), "the database was asked without TLS"
    assert written.found(r"answered by (\S+)\.") == "app1"
    query = "mariadb -N -e 'SELECT words FROM `example-com`.entries ORDER BY id DESC LIMIT 1'"
    assert stack.lab.machine("db1").check(query).strip() == words
    assert stack.serves()


def test_the_session_is_in_the_cache_host_and_the_picture_comes_from_the_static_host(stack: Stack) -> None:
    with hanging(stack.lab.machine("cache1"), "redis-server"):
        assert stack.ask().status == 200
        assert not stack.serves(), "the session was not in the cache host"
    assert stack.settled(stack.serves, BACK)
    query = f"/logo.svg?{time.time_ns()}"
    assert stack.ask(query).status == 200
    line = stack.lab.machine("edge1").check(f"journalctl -t haproxy -n 50 -o cat --no-pager | grep -F '{query}'")
    assert "/static1 " in line, line


def test_again_nothing_changes(stack: Stack) -> None:
    rows = json.loads(stack.inv("fleet.bootstrap", "--json").stdout)
    assert {row["host"]: row["changed"] for row in rows} == dict.fromkeys(stack.lab.hosts, 0)


def test_one_that_cannot_be_reached_stops_those_that_need_it_alone(stack: Stack) -> None:
    six = {*stack.lab.hosts}
    for away, waiting in (("static1", set()), ("db1", {"app1", "edge1"})):
        with stopped(stack.lab.machine(away)):
            line = ["fleet.bootstrap", "--fleet", str(stack.lab.directory / "fleet.yml")]
            done = run_tool("inv", *line, "--json", timeout=600)
            assert done.returncode == 1, done.stdout + done.stderr
            rows = {row["host"]: row for row in json.loads(done.stdout)}
            assert "cannot be reached: " in rows[away]["reason"] or "no connection to" in rows[away]["reason"], rows
            outcomes = {name: row["outcome"] for name, row in rows.items()}
            waits = dict.fromkeys(waiting, "waits")
            assert outcomes == dict.fromkeys(six, "well") | waits | {away: "failed"}
            assert {row["changed"] for row in rows.values()} == {0}
    assert stack.settled(stack.serves, BACK)


# ---------------------------------------------------------------------- each node cut off in turn


@contextlib.contextmanager
def stopped(machine: Machine, *_units: str) -> Iterator[None]:
    """The host is off; afterwards it starts by itself, as after a cut of the power."""
    machine.container.kill()
    try:
        yield
    finally:
        machine.container.start()
        machine.wait()


@contextlib.contextmanager
def hanging(machine: Machine, *units: str) -> Iterator[None]:
    """What its services hold stays open, and nobody is behind it any more."""
    machine.check(f"systemctl kill --signal=STOP {' '.join(units)}")
    try:
        yield
    finally:
        machine.check(f"systemctl kill --signal=CONT {' '.join(units)}")


@contextlib.contextmanager
def partitioned(machine: Machine, *_units: str) -> Iterator[None]:
    """Nothing comes to it from the inside network, and nothing that it sends arrives."""
    net = machine.inside.rpartition(".")[0] + ".0/24"
    for word in ("INPUT 1 -s", "OUTPUT 1 -d"):
        machine.check(f"iptables -I {word} {net} -j DROP")
    try:
        yield
    finally:
        for word in ("INPUT -s", "OUTPUT -d"):
            machine.check(f"iptables -D {word} {net} -j DROP")


CUTS = (stopped, hanging, partitioned)
UNITS = {
    "edge1": ("haproxy",),
    "static1": ("nginx",),
    "app1": ("varnish", "apache2", "php8.4-fpm"),
    "cache1": ("redis-server",),
    "db1": ("mariadb",),
    "files1": ("rsync",),
}
FAILS = (502, 503, 504)
FATE = {  # the page, the picture
    "static1": ((200,), (200,)),
    "app1": (FAILS, (200,)),
    "cache1": ((200,), (200,)),
    "db1": (FAILS, (200,)),
    "files1": ((200,), (200,)),
}
"""What a visitor is told while that host is away: the page, the picture."""


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
@pytest.mark.parametrize("name", FATE)
def test_what_should_survive_a_host_does(
    stack: Stack, name: str, cut: Callable[..., contextlib.AbstractContextManager[None]]
) -> None:
    assert stack.settled(stack.serves, BACK)
    page, picture = FATE[name]
    with cut(stack.lab.machine(name), *UNITS[name]):
        end = time.monotonic() + SEEN
        while True:
            over = time.monotonic() > end
            answers = (stack.ask(), page), (stack.ask(f"/logo.svg?{time.time_ns()}"), picture)
            for answer, wanted in answers:
                assert answer.rc == 0, answer
                assert answer.status in wanted, answer
                assert answer.seconds < LIMIT, answer
                assert "<" in answer.page, "no page, but a status alone"
            if over:
                break
    assert stack.settled(stack.serves, BACK), f"{name} is back, and the site is not as before"


@pytest.mark.parametrize("layer", ["varnish", "apache2", "php8.4-fpm"])
def test_no_layer_of_an_app_host_that_hangs_makes_a_visitor_wait_for_ever(stack: Stack, layer: str) -> None:
    assert stack.settled(stack.serves, BACK)
    with hanging(stack.lab.machine("app1"), layer):
        answer = stack.ask()
        assert (answer.rc, answer.status in FAILS, answer.seconds < LIMIT) == (0, True, True), answer
        assert stack.ask(f"/logo.svg?{time.time_ns()}").status == 200
    assert stack.settled(stack.serves, BACK)


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
def test_without_the_edge_nobody_is_served_and_with_it_all_are_again(
    stack: Stack, cut: Callable[..., contextlib.AbstractContextManager[None]]
) -> None:
    """Partitioned it still answers, with a page that says so."""
    assert stack.settled(stack.serves, BACK)
    with cut(stack.lab.machine("edge1"), *UNITS["edge1"]):
        answer = stack.ask("/", "--max-time", "20")
        assert answer.status in (FAILS if cut is partitioned else (0,)), answer
    assert stack.settled(stack.serves, BACK)


# ---------------------------------------------------------------------- two app hosts


@pytest.fixture(scope="module")
def two(stack: Stack) -> Iterator[Stack]:
    """A second app host, made so by a further bootstrap; then it goes."""
    second = stack.lab.add("app2", roles=("app",))
    try:
        stack.inv("fleet.bootstrap")
        yield stack
    finally:
        stack.lab.remove(second)
        stack.inv("fleet.bootstrap")


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
def test_one_app_host_of_two_does(
    two: Stack, cut: Callable[..., contextlib.AbstractContextManager[None]]
) -> None:
    makers = r"answered by (\S+)\."
    assert two.settled(lambda: {two.ask().found(makers) for _ in range(6)} == {"app1", "app2"}, BACK)
    with cut(two.lab.machine("app1"), *UNITS["app1"]):
        end = time.monotonic() + SEEN
        while time.monotonic() < end:
            answer = two.ask()
            assert (answer.rc, answer.status in (200, *FAILS), answer.seconds < LIMIT) == (0, True, True), answer
        answers = [two.ask() for _ in range(10)]
        assert [(each.status, each.found(makers)) for each in answers] == [(200, "app2")] * 10
    assert two.settled(lambda: {two.ask().found(makers) for _ in range(6)} == {"app1", "app2"}, BACK)
