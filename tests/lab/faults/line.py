"""A line to a host that is slow, loses data, or stops: between the laptop and sshd, for as long as a test wants it.

A relay of TCP, since not every kernel can emulate a network. TCP itself never loses data: what a segment lost costs is
the time until it is sent again, and that everything behind it waits.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

from ..lab import Lab
from ..machine import Machine

SEGMENT = 1448


class Line:
    """Every byte takes `delay` seconds each way; of the segments, `loss` is sent again after `again` seconds."""

    def __init__(self, machine: Machine, delay: float, loss: float, again: float = 0.3) -> None:
        self.delay, self.loss, self.again = delay, loss, again
        self.segments = self.lost = 0
        self._random = random.Random(6)
        self._open = threading.Event()
        self._open.set()
        self._address = machine.ip
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self._sockets: list[socket.socket] = [self._door]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def stall(self, seconds: float) -> None:
        """Nothing goes through for so long, in either direction."""
        self._open.clear()
        time.sleep(seconds)
        self._open.set()

    def close(self) -> None:
        """Take the line away, and whoever uses it with it."""
        self._open.set()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)

    def _start(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._door.accept()
                far = socket.create_connection((self._address, 22))
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    way: Queue[tuple[float, bytes]] = Queue()
                    self._start(self._take, source, way)
                    self._start(self._give, way, target)

    def _take(self, source: socket.socket, way: Queue[tuple[float, bytes]]) -> None:
        some = b"-"
        while some:
            try:
                some = source.recv(SEGMENT)
            except OSError:
                some = b""
            way.put((time.monotonic() + self.delay, some))

    def _give(self, way: Queue[tuple[float, bytes]], target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, some = way.get()
                self._open.wait()
                self.segments += 1
                if self._random.random() < self.loss:
                    self.lost += 1
                    due += self.again
                    time.sleep(self.again)
                time.sleep(max(0, due - time.monotonic()))
                if not some:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(some)


@contextlib.contextmanager
def line(lab: Lab, machine: Machine, place: Path, delay: float, loss: float) -> Iterator[Line]:
    """Such a line, and in `place` an ssh_config that goes over it."""
    made = Line(machine, delay, loss)
    config, known = place / "ssh_config", place / "known_hosts"
    here = f"[127.0.0.1]:{made.port}"
    keys = [each.partition(" ")[2] for each in known.read_text().splitlines() if each.startswith(f"{machine.name},")]
    known.write_text("".join(f"{here} {key}\n" for key in keys))
    config.write_text(
        config.read_text().replace(f"HostName {machine.ip}\n", f"HostName 127.0.0.1\n    Port {made.port}\n")
    )
    try:
        yield made
    finally:
        made.close()
        lab.describe(place, sites=place / "sites")
