"""Requests byte by byte and frame by frame, which no proper client would send."""

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from typing import Any

import hpack
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from ...machine import Machine

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BROKEN = (TimeoutError, ConnectionError, ssl.SSLError)
Headers = Sequence[tuple[str | bytes, str | bytes]]


@contextlib.contextmanager
def line(host: Machine, protocol: str = "http/1.1", name: str = "example.com") -> Iterator[ssl.SSLSocket]:
    """A TLS connection to the host, from the machine that the tests run on: an operator's address, never limited."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    with (
        socket.create_connection((host.ip, 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        yield tls


def read(tls: ssl.SSLSocket, seconds: float) -> tuple[bytes, bool]:
    """What arrives until the other side closes, or `seconds` are over; and whether it closed."""
    received, end = b"", time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        tls.settimeout(left)
        try:
            some = tls.recv(65536)
        except TimeoutError:
            break
        except BROKEN:
            return received, True
        if not some:
            return received, True
        received += some
    return received, False


def send(host: Machine, sent: bytes, seconds: float = 3, name: str = "example.com") -> tuple[bytes, bool]:
    """HTTP/1: all that comes back on one connection, and whether the host closed it."""
    with line(host, name=name) as tls:
        with contextlib.suppress(*BROKEN):
            tls.sendall(sent)
        return read(tls, seconds)


def head(host: Machine, path: str, name: str = "example.com", **headers: str) -> bytes:
    """The head of an honest GET."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {name}", *(f"{key}: {value}" for key, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


class Talk:
    """An HTTP/2 connection of which every frame is ours: nothing is checked before it is sent."""

    def __init__(self, tls: ssl.SSLSocket, window: int = 65535) -> None:
        self.tls, self.coder, self.decoder, self._rest = tls, hpack.Encoder(), hpack.Decoder(), b""
        settings = SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: window})
        tls.sendall(PREFACE + settings.serialize())
        if window:
            tls.sendall(WindowUpdateFrame(0, window_increment=2**24).serialize())

    def ask(self, headers: Headers, body: Sequence[bytes] = (), stream: int = 1, end: bool = True) -> None:
        """A request on a stream; `end` is whether its last frame says so."""
        block = self.coder.encode(headers, huffman=False)
        frames: list[Frame] = [HeadersFrame(stream, data=block, flags=["END_HEADERS"])]
        frames += [DataFrame(stream, data=part) for part in body]
        if end:
            frames[-1].flags.add("END_STREAM")
        with contextlib.suppress(*BROKEN):
            self.tls.sendall(b"".join(frame.serialize() for frame in frames))

    def frames(self, seconds: float) -> Iterator[Frame]:
        """What comes back, until the connection ends or `seconds` are over."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            while len(self._rest) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(self._rest[:9]))
                if len(self._rest) < 9 + length:
                    break
                frame.parse_body(memoryview(self._rest[9 : 9 + length]))
                self._rest = self._rest[9 + length :]
                yield frame
            self.tls.settimeout(left)
            try:
                some = self.tls.recv(65536)
            except BROKEN:
                return
            if not some:
                return
            self._rest += some

    def answer(self, seconds: float = 5) -> tuple[str, dict[str, str], bytes]:
        """What became of the one request: `reset`, `goaway`, `closed` or the status; its headers; its body."""
        told: dict[str, str] = {}
        body = b""
        for frame in self.frames(seconds):
            if isinstance(frame, HeadersFrame):
                told |= {str(key): str(value) for key, value in self.decoder.decode(frame.data)}
            elif isinstance(frame, DataFrame):
                body += frame.data
            elif isinstance(frame, RstStreamFrame):
                return told.get(":status", "reset"), told, body
            elif isinstance(frame, GoAwayFrame):
                return told.get(":status", "goaway"), told, body
            if "END_STREAM" in frame.flags:
                return told[":status"], told, body
        return told.get(":status", "closed"), told, body


def h2(host: Machine, headers: Headers, *body: bytes, seconds: float = 5) -> tuple[str, dict[str, str], bytes]:
    """One HTTP/2 request and what became of it."""
    with line(host, "h2") as tls:
        talk = Talk(tls)
        talk.ask(headers, body)
        return talk.answer(seconds)


def get(path: str, *more: tuple[str | bytes, str | bytes], name: str = "example.com") -> Headers:
    """An honest GET's headers in HTTP/2, and `more`."""
    return [(":method", "GET"), (":scheme", "https"), (":authority", name), (":path", path), *more]


def post(path: str, *more: tuple[str | bytes, str | bytes]) -> Headers:
    return [(":method", "POST"), *get(path, *more)[1:]]


def server(body: bytes | str) -> dict[str, Any]:
    """What PHP saw, in the answer of front.php."""
    found: dict[str, Any] = json.loads(body)["server"]
    return found
