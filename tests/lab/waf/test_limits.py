"""What is over a limit has its status and its page, and reaches no member: with a length and chunked, h1 and h2."""

from __future__ import annotations

import re
import shlex

import pytest

from ..machine import Stranger
from .conftest import APP, NAME, Guarded

pytestmark = pytest.mark.demand

BODY = 102_400
HEAD = "GET {} HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: test\r\nAccept: */*\r\nConnection: close\r\n{}\r\n"
PAGE = re.compile(r"<title>(\d+) [^<]+</title>.*<h1>.*<small>([A-Za-z0-9@_-]{20,})</small>", re.DOTALL)


def body(size: int, path: str, *, chunked: bool, version: str) -> list[str]:
    """curl's words for a form of so many bytes."""
    length = ["-H", "Content-Length:", "-H", "Transfer-Encoding: chunked"] if chunked else []
    return [version, *length, "--data-binary", f"@/tmp/body-{size}", f"https://{NAME}{path}"]


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_over_its_routes_limit_is_refused_before_a_member_sees_it(
    every: Guarded, stranger: Stranger, version: str, chunked: bool
) -> None:
    before = len(every.reached())
    sizes = {(BODY, "/fits"): "200", (BODY + 1, "/over"): "413", (BODY + 1, f"{APP}/fits"): "200"}
    sizes |= {(BODY + 1, f"{APP}/../over"): "413", (2_000_001, f"{APP}/over"): "413"}
    for (size, path), status in sizes.items():
        stranger.check(f"head -c {size} /dev/zero | tr '\\0' x > /tmp/body-{size}")
        target = ["--insecure", "--path-as-is", "--connect-to", f"::{every.host.ip}:"]
        words = body(size, path, chunked=chunked, version=version)
        done = stranger.curl(*target, "--write-out", "\n%{http_code} %{http_version}", *words)
        page, _, answered = done.out.rpartition("\n")
        assert answered == f"{status} {'2' if version == '--http2' else '1.1'}", path
        if status == "413":
            assert PAGE.search(page), page
            assert PAGE.search(page)[1] == "413"  # type: ignore[index]
    lines = every.reached()[before:]
    assert [f"POST /fits {BODY}", f"POST {APP}/fits {BODY + 1}"] == lines


# What is sent, and what Apache itself or mod_security answers.
OVER: dict[str, tuple[str, str]] = {
    "a line": (HEAD.format("/over" + "a" * 1000, ""), "414"),
    "fields": (HEAD.format("/over", "".join(f"X-{n}: y\r\n" for n in range(38))), "400"),
    "a field where one may be longer elsewhere": (HEAD.format("/over", f"X-A: {'y' * 1001}\r\n"), "431"),
    "a field": (HEAD.format("/over", f"X-A: {'y' * 8001}\r\n"), "400"),
    "a space in the path": (HEAD.format("/over%20", ""), "403"),
    "a quote in the path": (HEAD.format("/over%27", ""), "403"),
    "a semicolon in the path": (HEAD.format("/over;a=b", ""), "403"),
    "an eight bit letter in the path": (HEAD.format("/over%c3%bc", ""), "403"),
}
FITS = {
    "a line": HEAD.format("/fits" + "a" * 900, ""),
    "fields": HEAD.format("/fits", "".join(f"X-{n}: y\r\n" for n in range(36))),
    "a field": HEAD.format("/fits", f"X-A: {'y' * 990}\r\n"),
    "a longer field": HEAD.format(f"{APP}/fits", f"X-A: {'y' * 7990}\r\n"),
    "a path": HEAD.format("/fits/a.b_c-d%7ce", ""),
    "any path": HEAD.format(f"{APP}/fits%20;%27%c3%bc", ""),
}


def test_lines_fields_and_paths_have_their_status_and_page_and_reach_no_member(every: Guarded) -> None:
    before = len(every.reached())
    for what, (sent, status) in OVER.items():
        answer = every.send(sent.encode()).decode()
        assert answer.startswith(f"HTTP/1.1 {status} "), f"{what}: {answer[:80]}"
        page = PAGE.search(answer)
        assert page, f"{what}: {answer}"
        assert page[1] == status
    for what, sent in FITS.items():
        assert every.send(sent.encode()).startswith(b"HTTP/1.1 200 "), what
    lines = every.reached()[before:]
    assert [] == [line for line in lines if "/over" in line]
    assert len(lines) == len(FITS)
    log = every.host.check("tail -n 100 /var/log/apache2/access.log")
    member = re.escape(every.member.ip)
    passed = rf'^\S+ - - \[.*"GET /fits\S* HTTP/1.1" 200 .* balancer://\S+ http://{member}\S* \d+ \S+$'
    assert re.search(passed, log, re.MULTILINE), log[-600:]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([f"https://{NAME}/over{'a' * 1000}"], "414"),
        (["-H", f"X-A: {'y' * 1001}", f"https://{NAME}/over"], "431"),
        ([*(word for n in range(41) for word in ("-H", f"X-{n}: y")), f"https://{NAME}/over"], ""),
        ([f"https://{NAME}/over%27"], "403"),
    ],
    ids=["line", "field", "fields", "path"],
)
def test_over_http_2_they_have_as_well(every: Guarded, stranger: Stranger, words: list[str], status: str) -> None:
    """HAProxy passes it on as HTTP/1, and of too many fields Apache itself says 400 there."""
    status = status or ("400" if "edge" in every.roles else "431")
    before = len(every.reached())
    done = stranger.curl("--insecure", "--http2", "--include", "--connect-to", f"::{every.host.ip}:", *words)
    assert done.out.startswith(f"HTTP/2 {status}"), done.out[:200] + done.err
    assert f"<title>{status} " in done.out
    assert every.reached()[before:] == []


def test_a_page_says_the_owners_words_and_a_log_has_its_number(guarded: Guarded) -> None:
    guarded.member.check("systemctl stop member")
    try:
        page = guarded.send(HEAD.format("/gone", "").encode(), 8).decode()
    finally:
        guarded.member.check(f"systemd-run -q --unit=member /usr/local/sbin/member {guarded.member.ip} 80")
        guarded.host.check("for n in $(seq 100); do curl -ks --connect-to ::127.0.0.1: -o /dev/null -w '%{http_code}' "
                           f"https://{NAME}/back 2>/dev/null | grep -q 200 && break; sleep 0.2; done")  # fmt: skip
    found = PAGE.search(page)
    assert found, page
    assert found[1] == "503"
    logged = guarded.host.check(f"grep -F -- {shlex.quote(found[2])} /var/log/apache2/access.log")
    assert ' 503 ' in logged
    assert "Server: www.example.com\r\n" in page


def test_head_without_host_is_400(every: Guarded) -> None:
    """T3's own question at the end."""
    assert every.send(b"HEAD / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")
