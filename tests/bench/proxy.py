"""A long line: a TCP proxy that delays what goes through it, and counts how often one side had to wait for the other.

    python -m tests.bench.proxy PORT HOST MILLISECONDS ACCOUNT

The kernels of many machines have no netem.  Each way takes half of the round trip, and a connection one whole trip
more for TCP's own handshake.  Loss, slow start and bandwidth are not modelled.  Told to end (SIGTERM), it writes a line
a connection to ACCOUNT: `turns` is how often the client spoke after the host had, which is the number of round trips.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Account:
    """What went through one connection."""

    turns: int = 0
    up: int = 0
    down: int = 0
    last: str = ""

    def took(self, way: str, size: int) -> None:
        """Bytes that came: `up` from the client, `down` from the host."""
        if way == "up" and self.last != "up":
            self.turns += 1
        self.last = way
        setattr(self, way, getattr(self, way) + size)


async def _pass_on(
    way: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter, delay: float, account: Account
) -> None:
    """All that comes goes on after the delay, in order, and what comes meanwhile does not wait for it."""
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    clock = asyncio.get_running_loop().time

    async def send() -> None:
        while True:
            due, block = await waiting.get()
            await asyncio.sleep(max(due - clock(), 0))
            if not block:
                sink.close()
                return
            sink.write(block)
            await sink.drain()

    sender = asyncio.create_task(send())
    with suppress(OSError):
        while block := await source.read(1 << 16):
            account.took(way, len(block))
            waiting.put_nowait((clock() + delay, block))
    waiting.put_nowait((clock() + delay, b""))
    with suppress(OSError):
        await sender


async def serve(port: int, host: str, trip: float, file: Path) -> None:
    """Until the process is told to end.  Some tools keep their connections for later: those count as well."""
    accounts: list[Account] = []

    async def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        account = Account()
        accounts.append(account)
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.sleep(trip)
            there, away = await asyncio.open_connection(host, 22)
            for each in (writer, away):
                each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.gather(
                _pass_on("up", reader, away, trip / 2, account), _pass_on("down", there, writer, trip / 2, account)
            )
        writer.close()

    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    server = await asyncio.start_server(come, "127.0.0.1", port)
    print("ready", flush=True)
    await told.wait()
    server.close()
    file.write_text("".join(json.dumps(asdict(account)) + "\n" for account in accounts))


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]) / 1000, Path(sys.argv[4])))
