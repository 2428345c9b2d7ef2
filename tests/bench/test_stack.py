"""What load tools say is read as they mean it, visitors do what they are told, and the page says what was seen."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from . import contenders, heard, paper, stack, visitors

H2LOAD = """
finished in 2.03s, 3076.00 req/s, 30.00MB/s
requests: 6152 total, 6168 started, {done} done, {done} succeeded, 0 failed, 0 errored, {late} timeout
status codes: {good} 2xx, 0 3xx, {refused} 4xx, 0 5xx
traffic: 60.00MB (62910384) total, 1.12MB (1174983) headers (space savings 0.00%), 58.68MB (61530000) data
time for request:      114us    208.78ms      4.60ms     15.22ms    94.64%
"""


def test_only_pages_count_as_answers() -> None:
    seen = heard.h2load(H2LOAD.format(done=6152, good=6000, refused=152, late=2))

    assert {"requests": 6000, "failed": 154, "seconds": 2.03, "rate": 3000.0} == seen


def test_a_short_run_of_h2load_is_told_in_milliseconds() -> None:
    said = H2LOAD.format(done=10, good=10, refused=0, late=0).replace("2.03s", "250.00ms")

    assert 0.25 == heard.h2load(said)["seconds"]


@pytest.mark.parametrize("said", ["", "Could not connect", H2LOAD.format(done=9, good=0, refused=9, late=0)])
def test_refusals_are_no_rate(said: str) -> None:
    with pytest.raises(ValueError, match=r"said nothing|no request was answered"):
        heard.h2load(said)


def test_the_log_has_a_time_for_every_page_and_none_for_a_refusal() -> None:
    said = "1795290811620740\t200\t5577\n1795290811712154\t429\t176\n1795290811715575\t200\t365\n17952\n"

    assert [5.577, 0.365] == heard.log(said)


@pytest.mark.parametrize(("values", "part", "found"), [(range(1, 101), 99, 99), ([5, 1, 3], 50, 3), ([7], 99, 7)])
def test_a_percentile_is_a_value_that_was_seen(values: Any, part: float, found: float) -> None:
    assert found == heard.percentile(values, part)
    with pytest.raises(ValueError, match="no request"):
        heard.percentile([], part)


SLOW = """\x1b[1;32m
slow HTTP test status on \x1b[0;32m{second}\x1b[1;32mth second:

\x1b[1;32minitializing:\x1b[1;32m        0
\x1b[1;32mpending:     \x1b[1;32m        1
\x1b[1;32mconnected:   \x1b[1;32m        {connected}
\x1b[1;32merror:       \x1b[1;32m        3
\x1b[1;32mclosed:      \x1b[1;32m        {closed}
\x1b[1;32mservice available:\x1b[1;32m   \x1b[1;32mYES\x1b[0m
"""


def test_the_last_look_at_an_attack_counts() -> None:
    said = SLOW.format(second=5, connected=500, closed=0) + SLOW.format(second=10, connected=40, closed=957)

    assert {"connected": 40, "closed": 957, "error": 3} == heard.slowhttptest(said)
    with pytest.raises(ValueError, match="said nothing"):
        heard.slowhttptest("slowhttptest: not found")


def test_an_honest_visitor_who_is_never_served_has_no_time() -> None:
    assert {"asked": 8, "served": 3, "middle": 2.0, "worst": 30.0} == heard.honest([1.0, 2.0, 30.0], 8)
    assert {"asked": 8, "served": 0, "middle": 0.0, "worst": 0.0} == heard.honest([], 8)


# ---------------------------------------------------------------------- visitors


def pair(place: Path) -> ssl.SSLContext:
    """A server's context with a certificate of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .sign(key, hashes.SHA256()))  # fmt: skip
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (place / "pair.pem").write_bytes(made.public_bytes(pem) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "pair.pem")
    return context


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A real server on the loopback; gives the requests that came.  `/chunked` comes in pieces, `/busy` is 503."""
    came: list[str] = []
    loop = asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                came.append(head)
                body = "4\r\npage\r\n0\r\n\r\n" if "/chunked" in head else "page"
                length = "Transfer-Encoding: chunked" if "/chunked" in head else "Content-Length: 4"
                code = "503 Busy" if "/busy" in head else "200 OK"
                writer.write(f"HTTP/1.1 {code}\r\n{length}\r\n\r\n{body * (not head.startswith('HEAD'))}".encode())
                if "Connection: close" in head:
                    break
        writer.close()

    with socket.create_server(("127.0.0.1", 0)) as line:
        monkeypatch.setattr(visitors, "PORT", line.getsockname()[1])
        started = loop.run_until_complete(asyncio.start_server(serve, sock=line, ssl=pair(tmp_path)))
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield came
        finally:
            loop.call_soon_threadsafe(started.close)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


def test_a_handshake_is_full_unless_it_takes_up_the_one_before(server: list[str]) -> None:
    full = visitors.handshakes("127.0.0.1", "a.test", "/", 0.4, again=False)
    again = visitors.handshakes("127.0.0.1", "a.test", "/", 0.4, again=True)

    assert 0 == full["resumed"]
    assert again["requests"] - again["resumed"] <= visitors.THREADS < again["requests"]
    assert full["requests"] + again["requests"] == len(server)
    assert all("Host: a.test\r\n" in head for head in server)


@pytest.mark.parametrize(("path", "served"), [("/", 5), ("/chunked", 5), ("/busy", 0)])
def test_an_honest_visitor_comes_at_a_pace_and_takes_only_pages(server: list[str], path: str, served: int) -> None:
    seen = asyncio.run(visitors.honest("127.0.0.1", "a.test", path, 0.5, 10))

    assert (5, served, 5) == (seen["asked"], len(seen["times"]), len(server))
    assert sorted(seen["times"]) == seen["times"]


def test_idle_ones_ask_once_and_stay(server: list[str]) -> None:
    seen = asyncio.run(visitors.idle("127.0.0.1", "a.test", "/", 1, 20))

    assert {"clients": 20, "crowd": 20, "held": 20, "connections": 20} == seen
    assert 20 == len(server)


# ---------------------------------------------------------------------- what stands on the page


def ran(tool: str, case: str, **seen: Any) -> dict[str, Any]:
    return {"tool": tool, "case": case, "code": 0, **seen}


LUCK = {"asked": 48, "served": 48, "middle": 25.0, "worst": 61.0}
SEEN = {
    "part": "stack", "date": "today", "shape": "small", "load": 0.1, "busy": "", "milliseconds": 20,
    "names": {each.name: each.told for each in contenders.EVERY}, "versions": {"nginx": "nginx 1.26.3"},
    "rates": stack.RATES, "at_once": 32, "idle": 1000, "slow": 1000,
    "runs": [
        *(ran("gatehouse", "cached", rate=rate, cpu=0.25, failed=0) for rate in (4000.0, 5000.0, 6000.0)),
        ran("apache", "cached", rate=80.0, cpu=21.0, failed=0),
        ran("apache", "cached, paced", p99=31.0, failed=2),
        ran("gatehouse", "rest", memory=120.4),
        ran("gatehouse", "idle", memory=150.2, held=1000, crowd=1000, **LUCK),
        ran("gatehouse", "slow", memory=150.2, connected=0, **LUCK),
        ran("apache", "slow", memory=90.0, connected=900, **{**LUCK, "served": 0}),
        ran("gatehouse", "sites", one=120.0, many=124.5, site=0.5),
        {"tool": "caddy", "case": "set up", "code": 1, "said": "apt:\nno such package"},
        {"tool": "nginx", "case": "cached", "code": 1, "said": "h2load said nothing"},
    ],
}  # fmt: skip


def test_servers_stand_side_by_side_with_ratios_to_debians_apache() -> None:
    text = paper.tables(SEEN)

    assert "|  | Gatehouse | Apache, mod_php | nginx, FPM | Caddy, FPM |" in text
    assert "| 5000 (4000-6000), 62.5 x | 80.0 | failed |  |" in text
    assert "| 31.0, 2 refused |" in text
    assert "0.25 (0.25-0.25), 0.01 x | 21.0 |" in text
    assert "is served 62.5 x as often as by Debian's Apache" in text
    assert "An idle site takes 0.50 MB" in text


def test_crowds_are_told_with_the_honest_ones_luck() -> None:
    text = paper.tables(SEEN)

    assert "| 1,000 keep-alive clients: connections held | 1000, 1000 clients served |" in text
    honest = "48 of 48 served, 25 ms, at worst 61"
    assert f"| 1,000 slow heads: the honest visitor | {honest} | 0 of 48 served |" in text
    assert "| MB of all daemons, before anybody comes | 120 |" in text


def test_what_failed_is_named_and_the_others_are_not_lost() -> None:
    text = paper.tables(SEEN)

    assert "- Caddy, FPM, set up: apt: no such package" in text
    assert "- nginx, FPM, cached: h2load said nothing" in text
    assert text in paper.placed(paper.PAGE.read_text(), "stack", text)


def test_one_that_fails_is_written_down_and_the_next_is_asked() -> None:
    def fails() -> None:
        raise ValueError("nobody answers")

    them = stack.Stack(None)  # type: ignore[arg-type]

    assert not them.one(contenders.PEERS[0], "cached", fails)
    assert them.one(contenders.PEERS[1], "cached", lambda: {"rate": 5.0})
    assert [(1, "nobody answers"), (0, None)] == [(run["code"], run.get("said")) for run in them.runs]


def test_all_are_asked_for_the_same_files_at_rates_that_divide() -> None:
    assert {*stack.CASES.values()} == {*contenders.PAGES}
    for case, rate in stack.RATES.items():
        assert 0 == rate % stack.CLIENTS[case] == 1000 % rate


def test_no_peer_is_told_to_forget_or_to_keep() -> None:
    for peer in contenders.PEERS:
        words = " ".join([peer.typed, *peer.packages, *peer.files.values()])
        assert not re.search(r"cache|max_children|MaxRequestWorkers|worker_", words)
