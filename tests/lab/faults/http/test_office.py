"""A whole office behind one address is served; what is beyond the limits is told 429, and operators never are."""

import re
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from ...front.visitor import HSTS, Visitor
from .wire import head, send

pytestmark = pytest.mark.fault("F-84")

# Fifty people at once, each with a connection of their own, ten pages each. Prints how often which status came.
OFFICE = """
import collections, http.client, ssl, sys, threading
context, told = ssl._create_unverified_context(), collections.Counter()
def person(number):
    line = http.client.HTTPSConnection(sys.argv[1], context=context, timeout=60)
    for page in range(10):
        line.request("GET", f"/front.css?{sys.argv[2]}{number % 5}-{page}", headers={"Host": "example.com"})
        answer = line.getresponse(); answer.read(); told[answer.status] += 1
people = [threading.Thread(target=person, args=[number]) for number in range(50)]
[each.start() for each in people]; [each.join() for each in people]
print(dict(told))
"""


def test_f84_an_office_behind_one_address_is_served(visit: Visitor, page: str, seen: Callable[[str], None]) -> None:
    once = page.partition("=")[2]
    told = visit.stranger.check(f"python3 - {visit.host.ip} {once}", stdin=OFFICE, timeout=120)
    assert told == "{200: 500}\n"
    seen("50 clients, one address: 500 of 500 requests served")


@pytest.fixture
def limits(visit: Visitor) -> Iterator[Callable[..., None]]:
    """Sets limits of HAProxy for a while."""

    def configure(*words: str) -> None:
        done = visit.host.fab("haproxy.configure", *words, "haproxy.start")
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        yield configure
    finally:
        configure()


@pytest.mark.demand
def test_f84_a_flood_is_answered_429_and_others_are_not(
    visit: Visitor, page: str, limits: Callable[..., None], seen: Callable[[str], None]
) -> None:
    """A client is an IPv4 address or an IPv6 /64: the stranger is two. Operators are never limited."""
    limits("--requests", "20")
    answers = [visit(page) for _ in range(25)]
    assert [answer.status for answer in answers[:20]] == [200] * 20
    assert answers[-1].status == 429
    assert answers[-1].headers["retry-after"] == ["20"]
    assert answers[-1].headers["strict-transport-security"] == [HSTS]
    assert visit("http://example.com/.well-known/acme-challenge/x").status == 503
    assert visit(page, to=f"[{visit.host.ip6}]").status == 200
    request = head(visit.host, "/front.php", Connection="close")
    assert {send(visit.host, request, 5)[0][:12] for _ in range(25)} == {b"HTTP/1.1 200"}
    limits()
    assert visit(page).status == 200
    told = Counter(answer.status for answer in answers)
    seen(f"limit 20: {told[200]} served, {told[429]} answered 429; IPv6 and operators untouched")


# Opens 60 connections and prints how many are still there a second later.
HOLD = """
import socket, sys, time

def alive(sock):
    sock.settimeout(0.05)
    try: return sock.recv(1) != b""
    except TimeoutError: return True
    except ConnectionError: return False

held = []
for _ in range(60):
    try: held.append(socket.create_connection((sys.argv[1], 80)))
    except ConnectionError: pass
time.sleep(1)
print(sum(map(alive, held)))
"""


@pytest.mark.demand
def test_f84_one_client_holds_so_many_connections_and_no_more(
    visit: Visitor, page: str, limits: Callable[..., None]
) -> None:
    limits("--concurrent", "20")
    assert int(visit.stranger.check(f"python3 - {visit.host.ip}", stdin=HOLD)) == 20
    assert visit(page, to=f"[{visit.host.ip6}]").status == 200


@pytest.mark.demand
def test_f84_far_beyond_the_limits_an_office_is_told_so_and_its_neighbours_are_not(
    visit: Visitor, page: str, limits: Callable[..., None]
) -> None:
    limits("--requests", "200")
    told = visit.stranger.check(f"python3 - {visit.host.ip} {page.partition('=')[2]}", stdin=OFFICE, timeout=120)
    counts = {int(status): int(number) for status, number in re.findall(r"(\d+): (\d+)", told)}
    assert set(counts) == {200, 429}
    assert sum(counts.values()) == 500
    assert 200 <= counts[200] <= 300
    assert visit(page, to=f"[{visit.host.ip6}]").status == 200
