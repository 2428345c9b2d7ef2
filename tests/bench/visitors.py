"""Visitors whom no tool of Debian's plays: run on a host that has only Python; says what became of them as JSON.

    python3 visitors.py handshakes ADDRESS NAME PATH SECONDS       connections, each with a handshake of its own
    python3 visitors.py handshakes ADDRESS NAME PATH SECONDS again     the same, each taking up the one before
    python3 visitors.py honest ADDRESS NAME PATH SECONDS RATE      so many visits a second, whatever became of the last
    python3 visitors.py idle ADDRESS NAME PATH SECONDS COUNT       so many who ask once and then keep their connection

openssl-s_time(1) names no host, neither in the handshake nor in a request; a server of several sites refuses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from typing import Any

PORT = 443
PATIENCE = 10.0
"""Seconds that an honest visitor waits for a page."""

THREADS = 4
"""Who make handshakes at once, so that none waits for the way there and back."""


def context() -> ssl.SSLContext:
    """TLS as a browser speaks it; whose certificate it is, is not asked: it is the same for all."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


def request(name: str, path: str, method: str = "GET", close: bool = False) -> bytes:
    """A request's head, which is all of it."""
    more = "Connection: close\r\n" if close else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: bench\r\nAccept-Encoding: gzip\r\n"
    return f"{head}{more}\r\n".encode()


# ---------------------------------------------------------------------- handshakes


def handshakes(address: str, name: str, path: str, seconds: float, again: bool) -> dict[str, Any]:
    """One connection after another in each thread, with one request: the ticket for the next comes with its answer."""
    seen: Counter[str] = Counter()
    end = time.monotonic() + seconds

    def shake() -> None:
        tls, session = context(), None
        while time.monotonic() < end:
            try:
                line = socket.create_connection((address, PORT), timeout=PATIENCE)
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as browsers do: no word waits for another
                with line, tls.wrap_socket(line, server_hostname=name, session=session) as safe:
                    safe.sendall(request(name, path, "HEAD", close=True))
                    while safe.recv(4096):
                        pass
                    seen["resumed"] += bool(safe.session_reused)
                    session = safe.session if again else None
                seen["done"] += 1
            except (OSError, ssl.SSLError):
                seen["failed"] += 1
                session = None

    threads = [threading.Thread(target=shake) for _ in range(THREADS)]
    began = time.monotonic()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    took = time.monotonic() - began
    return {"requests": seen["done"], "resumed": seen["resumed"], "failed": seen["failed"], "seconds": took}


# ---------------------------------------------------------------------- pages


async def answer(reader: asyncio.StreamReader) -> int:
    """The status of an answer, once all of it is here."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    fields = dict(line.split(":", 1) for line in head.splitlines() if ":" in line)
    if "chunked" in fields.get("transfer-encoding", ""):
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    else:
        await reader.readexactly(int(fields["content-length"]))
    return int(head.split()[1])


async def visit(address: str, name: str, path: str) -> float:
    """Milliseconds until a page is here, from nothing; raises where it is none."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(address, PORT, ssl=context(), server_hostname=name)
    try:
        writer.write(request(name, path))
        if await answer(reader) != 200:
            raise ValueError("no page")
        return (time.monotonic() - began) * 1000
    finally:
        writer.transport.abort()


async def honest(address: str, name: str, path: str, seconds: float, rate: float) -> dict[str, Any]:
    """Visits at a pace of their own: one that must wait keeps no other from coming."""
    times: list[float] = []

    async def one() -> None:
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, TimeoutError):
            times.append(await asyncio.wait_for(visit(address, name, path), PATIENCE))

    began, visits = time.monotonic(), []
    for number in range(round(seconds * rate)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        visits.append(asyncio.create_task(one()))
    await asyncio.gather(*visits)
    return {"asked": len(visits), "times": [round(each, 2) for each in sorted(times)]}


async def idle(address: str, name: str, path: str, seconds: float, count: int) -> dict[str, Any]:
    """Each asks for a page and then says nothing; whose connection is closed comes again a second later."""
    seen: Counter[str] = Counter()
    served: set[int] = set()
    held: set[int] = set()
    tls = context()

    async def once(number: int) -> None:
        reader, writer = await asyncio.open_connection(address, PORT, ssl=tls, server_hostname=name)
        seen["connections"] += 1
        try:
            writer.write(request(name, path))
            if await answer(reader) == 200:
                served.add(number)
                held.add(number)
                await reader.read()  # until it is closed
        finally:
            held.discard(number)
            writer.transport.abort()

    async def one(number: int) -> None:
        await asyncio.sleep(number / count * seconds / 4)  # they do not all come at once
        while True:
            with contextlib.suppress(OSError, ValueError, KeyError, EOFError):
                await once(number)
            await asyncio.sleep(1)

    them = [asyncio.create_task(one(number)) for number in range(count)]
    await asyncio.sleep(seconds)
    found = {"clients": count, "crowd": len(served), "held": len(held), "connections": seen["connections"]}
    for each in them:
        each.cancel()
    await asyncio.gather(*them, return_exceptions=True)
    return found


def main(words: list[str]) -> dict[str, Any]:
    """What is typed above."""
    what, address, name, path, seconds, *more = words
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if what == "handshakes":
        return handshakes(address, name, path, float(seconds), more == ["again"])
    if what == "honest":
        return asyncio.run(honest(address, name, path, float(seconds), float(*more)))
    if what == "idle":
        return asyncio.run(idle(address, name, path, float(seconds), int(*more)))
    raise SystemExit(__doc__)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
