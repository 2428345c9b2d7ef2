"""Visitors who come at a steady rate, and what became of each request.  They are real: TLS, one connection each."""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

PATIENCE = 20.0
"""Seconds that a visitor waits for an answer."""


class Asked(NamedTuple):
    """One request: when it began (seconds since the first), how long it took, and the status; 0 and why it has none."""

    at: float
    took: float
    status: int
    why: str = ""
    tries: int = 1

    @property
    def lost(self) -> bool:
        """No answer, or one of the balancer's own that there is none."""
        return self.status == 0 or self.status >= 500


@dataclass
class Visitors:
    """Who comes to a page of `name` at `address`, `rate` times a second; who loses a request may try once more."""

    address: str
    name: str
    path: str
    rate: int
    again: bool = True
    method: str = "GET"
    port: int = 443
    done: list[Asked] = field(default_factory=list)
    _began: float = 0.0
    _stop: bool = False

    async def come(self) -> None:
        """Until `leave`; returns when every request has ended."""
        self._began = time.monotonic()
        under_way: set[asyncio.Task[None]] = set()
        number = 0
        while not self._stop:
            due = self._began + number / self.rate
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            one = asyncio.create_task(self._visit())
            under_way.add(one)
            one.add_done_callback(under_way.discard)
            number += 1
        while under_way:
            await asyncio.wait({*under_way})

    def leave(self) -> None:
        """No more requests are begun."""
        self._stop = True

    @property
    def now(self) -> float:
        """Seconds since the first."""
        return time.monotonic() - self._began

    async def _visit(self) -> None:
        began = self.now
        status, why = await self._ask()
        first = Asked(began, self.now - began, status, why)
        if first.lost and self.again:
            status, why = await self._ask()
            self.done.append(Asked(began, self.now - began, status, why or first.why or str(first.status), 2))
        else:
            self.done.append(first)

    async def _ask(self) -> tuple[int, str]:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._answer(), ""
        except TimeoutError:
            return 0, f"no answer within {PATIENCE:.0f} s"
        except (OSError, ValueError, EOFError) as error:
            return 0, str(error) or type(error).__name__

    async def _answer(self) -> int:
        tls, name = unverified(), self.name
        reader, writer = await asyncio.open_connection(self.address, self.port, ssl=tls, server_hostname=name)
        try:
            body = "Content-Length: 4\r\n" if self.method == "POST" else ""
            head = f"{self.method} {self.path} HTTP/1.1\r\nHost: {self.name}\r\nUser-Agent: gatehouse-drill\r\n"
            writer.write(f"{head}Accept: */*\r\n{body}Connection: close\r\n\r\n{'four' if body else ''}".encode())
            line = await reader.readuntil(b"\r\n")
            status = int(line.split()[1])
            await reader.read()
            return status
        finally:
            writer.transport.abort()  # close() would wait for the other side, half a minute where it hangs


@functools.cache
def unverified() -> ssl.SSLContext:
    """Whose certificate it is is another task's question."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def slowest(asked: Iterable[Asked]) -> float:
    """Seconds."""
    return max((one.took for one in asked), default=0.0)


def reasons(asked: Iterable[Asked]) -> dict[str, int]:
    """Why requests were lost, most often first."""
    return dict(Counter(one.why or f"status {one.status}" for one in asked).most_common())
