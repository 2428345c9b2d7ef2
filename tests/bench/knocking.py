"""Visitors who come to a host on the host itself; says what became of them as JSON.

    python3 knocking.py ask DOMAIN PATH COUNT SECONDS      one after the other, so many, or for so long
    python3 knocking.py besiege DOMAIN PATH COUNT          so many, who come back a second after each answer

Who asks comes as any visitor does, to HAProxy.  HAProxy would slow down a siege, which comes from few addresses: it is
at Varnish's own door.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import threading
import time
from typing import Any

FRONT = ("127.0.0.1", 443)
DOOR = ("127.0.0.1", 8081)
PATIENCE = 60.0
PAUSE = 1.0
"""Seconds.  It is the site that is greedy: who asked without a pause would take the processor with anything."""


def request(domain: str, path: str, visitor: int) -> str:
    """A request's head, which is all of it.

    It has a session's cookie, so that Varnish lets it pass: who wants the same as another waits for his answer, else.
    """
    said = {"Host": domain, "X-Forwarded-Proto": "https", "Cookie": f"PHPSESSID={visitor}"}
    return "\r\n".join((f"GET {path} HTTP/1.0", *(f"{name}: {value}" for name, value in said.items()), "", ""))


def answer(line: socket.socket, said: str) -> int:
    """The status of the answer to this, once all of it is here."""
    line.sendall(said.encode())
    head = line.recv(1 << 16)
    while line.recv(1 << 16):
        pass
    return int(head.split(None, 2)[1])


def knock(domain: str, path: str, visitor: int) -> None:
    """One request to Varnish, as if HAProxy had sent it, over a connection of its own; whatever becomes of it."""
    proxy = f"PROXY TCP4 192.0.2.{visitor} 127.0.0.1 9 8081\r\n"
    with contextlib.suppress(OSError, ValueError, IndexError), socket.create_connection(DOOR, PATIENCE) as line:
        answer(line, proxy + request(domain, path, visitor))


def visit(tls: ssl.SSLContext, domain: str, path: str, visitor: int) -> int:
    """The status that somebody is told who was never there: from an address of his own, with TLS from nothing.

    Raises OSError, ValueError and IndexError where there is none.
    """
    source = f"127.{1 + visitor // 62500 % 250}.{visitor // 250 % 250}.{1 + visitor % 250}"
    with (
        socket.create_connection(FRONT, PATIENCE, (source, 0)) as line,
        tls.wrap_socket(line, server_hostname=domain) as safe,
    ):
        return answer(safe, request(domain, path, visitor))


def ask(domain: str, path: str, count: int, seconds: float) -> dict[str, Any]:
    """How many visits, and the milliseconds of those that were served."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # whose certificate it is, is not asked here
    asked, times, end = 0, [], time.monotonic() + seconds
    while asked < count and time.monotonic() < end:
        began, status = time.perf_counter(), 0
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = visit(tls, domain, path, asked)
        asked += 1
        if status == 200:
            times.append((time.perf_counter() - began) * 1000)
    return {"asked": asked, "times": times}


def besiege(domain: str, path: str, count: int) -> None:
    """Until somebody ends this program."""

    def come(visitor: int) -> None:
        while True:
            knock(domain, path, visitor)
            time.sleep(PAUSE)

    for visitor in range(2, count + 1):
        threading.Thread(target=come, args=(visitor,), daemon=True).start()
    come(1)


def main(words: list[str]) -> None:
    """What is typed above."""
    what, domain, path, count, *more = words
    if what == "besiege":
        besiege(domain, path, int(count))
    print(json.dumps(ask(domain, path, int(count), float(*more))))


if __name__ == "__main__":
    main(sys.argv[1:])
