"""What belongs to a request, and what only came at the same time."""

from __future__ import annotations

from fabfile.looking import lines, screen
from fabfile.looking.joined import Request, join
from fabfile.looking.lines import Fault, Passed, Served

from .test_lines import LINE, NUMBER

OTHER = NUMBER.replace("3f2a", "aaaa")


def front(number: str = NUMBER, at: float = 1763706343.5) -> Passed:
    seen = lines.passed(LINE)
    assert seen
    return seen._replace(id=number, at=at)


def back(number: str = NUMBER, status: int = 500) -> Served:
    return Served(number, 1763706343, "203.0.113.7", "GET / HTTP/1.1", status)


def test_layers_are_joined_by_the_number() -> None:
    named = Fault("apache", 1763706343.3, "proxy_fcgi: x", NUMBER)

    requests, loose = join([front(), front(OTHER)], [back(), back("zzz")], [named])

    assert [NUMBER, OTHER] == sorted(one.id for one in requests)
    mine = next(one for one in requests if one.id == NUMBER)
    assert ([back()], [named]) == (mine.back, mine.faults)
    assert [] == loose


def test_a_fault_of_php_s_belongs_to_the_one_request_that_was_there() -> None:
    fault = Fault("php", 1763706343, "PHP Warning: x")

    alone, loose = join([front(), front(OTHER, 1763706400.0)], [back(), back(OTHER)], [fault])
    assert ([fault], []) == (alone[0].faults, loose)

    both, loose = join([front(), front(OTHER)], [back(), back(OTHER)], [fault])
    assert ([], [fault]) == (both[0].faults + both[1].faults, loose)

    cached, loose = join([front()], [], [fault])  # it never came to Apache
    assert ([], [fault]) == (cached[0].faults, loose)


def test_behind_another_host_s_haproxy_apache_tells() -> None:
    requests, _ = join([], [back(status=404)], [], behind=True)

    assert [(NUMBER, 404)] == [(one.id, one.status) for one in requests]
    assert screen.data(requests[0])["front"] is None
    assert "404 GET /" in screen.line(requests[0]).plain


def test_no_log_can_steer_a_terminal() -> None:
    nasty = "\x1b]0;pwned\x07\x1b[2J\r\u202e\u2028[bold]x[/] :skull: \udc80"
    request = Request(front()._replace(target=f"/{nasty}", host="example.com"), [], [Fault("php", 1.0, f"a\n{nasty}")])

    first, second = screen.below(request)
    assert "    php     a" == first.plain
    for text in (screen.line(request), second, screen.loose(Fault("php", 1.0, nasty))):
        assert text.plain.isprintable()
        assert text.plain.isascii()
        assert r"\x1b]0;pwned\x07" in text.plain
        assert "[bold]x[/] :skull:" in text.plain


def test_a_line_tells_where_the_time_went() -> None:
    told = screen.line(Request(front())).plain

    assert "3f2a9c1e 203.0.113.7 500 MISS varnish/varnish 380ms (answer 370) GET https://example.com/wp-login" in told
