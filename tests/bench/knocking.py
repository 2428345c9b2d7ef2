"""Visitors at Varnish's own door, run on the host itself; says what became of them as JSON.

    python3 knocking.py ask DOMAIN PATH COUNT SECONDS      one after the other, so many, or for so long
    python3 knocking.py besiege DOMAIN PATH COUNT          so many, who come back a second after each answer

HAProxy would slow down whoever comes that often from one address; here each has an address of its own.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from typing import Any

DOOR = ("127.0.0.1", 8081)
PATIENCE = 60.0
PAUSE = 1.0
"""Seconds.  It is the site that is greedy: who asked without a pause would take the processor with anything."""


def knock(domain: str, path: str, visitor: int = 1) -> int:
    """One request over a connection of its own; the status of its answer, once all of it is here, or 0.

    It has a session's cookie, so that Varnish lets it pass: who wants the same as another waits for his answer, else.
    """
    proxy = f"PROXY TCP4 192.0.2.{visitor} 127.0.0.1 9 8081"
    said = {"Host": domain, "X-Forwarded-Proto": "https", "Cookie": f"PHPSESSID={visitor}"}
    fields = [f"{name}: {value}" for name, value in said.items()]
    head = "\r\n".join((proxy, f"GET {path} HTTP/1.0", *fields, "", ""))
    try:
        with socket.create_connection(DOOR, PATIENCE) as line:
            line.sendall(head.encode())
            answer = line.recv(1 << 16)
            while line.recv(1 << 16):
                pass
        return int(answer.split(None, 2)[1])
    except (OSError, ValueError, IndexError):
        return 0


def ask(domain: str, path: str, count: int, seconds: float) -> dict[str, Any]:
    """How many visits, and the milliseconds of those that were served."""
    asked, times, end = 0, [], time.monotonic() + seconds
    while asked < count and time.monotonic() < end:
        began = time.perf_counter()
        status = knock(domain, path)
        asked += 1
        if status == 200:
            times.append((time.perf_counter() - began) * 1000)
    return {"asked": asked, "times": times}


def besiege(domain: str, path: str, count: int) -> None:
    """Until somebody ends this program."""

    def visit(visitor: int) -> None:
        while True:
            knock(domain, path, visitor)
            time.sleep(PAUSE)

    for visitor in range(2, count + 1):
        threading.Thread(target=visit, args=(visitor,), daemon=True).start()
    visit(1)


def main(words: list[str]) -> None:
    """What is typed above."""
    what, domain, path, count, *more = words
    if what == "besiege":
        besiege(domain, path, int(count))
    print(json.dumps(ask(domain, path, int(count), float(*more))))


if __name__ == "__main__":
    main(sys.argv[1:])
