"""A port of this machine that leads to a socket of root's on a host, through the SSH connection that is there anyway.

Each visitor gets a channel with a program at its other end, so sshd need not allow forwarding, nor root's socket
anybody but root; a gateway on the way makes no difference.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

from fabric import Connection

from .remote import BROKEN, stream

AT_ONCE = 6
"""Visitors: sshd lets a connection have ten channels (MaxSessions)."""

BLOCK = 1 << 15


class Tunnel:
    """From 127.0.0.1:port of this machine to the socket at `path` of the host; port 0 is a free one."""

    def __init__(self, connection: Connection, path: str, port: int = 0) -> None:
        self._connection, self._path = connection, path
        self._room = threading.Semaphore(AT_ONCE)
        self._door = socket.create_server(("127.0.0.1", port))
        self.port: int = self._door.getsockname()[1]

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        self._door.close()

    def serve(self) -> None:
        """Let visitors in until Ctrl-C."""
        with suppress(KeyboardInterrupt):
            while True:
                visitor, _ = self._door.accept()
                threading.Thread(target=self._lead, args=(visitor,), daemon=True).start()

    def _lead(self, visitor: socket.socket) -> None:
        with self._room, visitor, suppress(*BROKEN):
            channel = stream(self._connection, self._path)
            with channel:
                threading.Thread(target=_pour, args=(visitor, channel), daemon=True).start()
                while block := channel.recv(BLOCK):
                    visitor.sendall(block)


def _pour(visitor: socket.socket, channel: Any) -> None:
    """What the visitor says; then that there is no more."""
    with suppress(*BROKEN):
        while block := visitor.recv(BLOCK):
            channel.sendall(block)
        channel.shutdown_write()
