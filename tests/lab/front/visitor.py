"""Somebody who visits the sites of a lab host: what is asked, what came back, and a page that tells what reached it."""

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ..machine import Machine, Stranger

HSTS = "max-age=63072000; includeSubDomains"
ROOM = "/var/www/example.com/public_html/_"
ECHO = """<?php
$said = [
    'cc' => 'Cache-Control', 'hsts' => 'Strict-Transport-Security', 'frame' => 'X-Frame-Options', 'vary' => 'Vary'];
foreach ($said as $key => $name)
    if (isset($_GET[$key])) header("$name: $_GET[$key]");
if (isset($_GET['cookie'])) setcookie('PHPSESSID', 'made');
if (isset($_GET['to'])) header('Location: /elsewhere');
http_response_code((int) ($_GET['status'] ?? 200));
header('Content-Type: application/json');
echo json_encode(['server' => $_SERVER, 'made' => microtime(true)]);
"""

# What a client may claim and only a proxy may say.
FORGED = (
    "X-Forwarded-For: 9.9.9.9",
    "x-forwarded-for: 8.8.8.8",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Host: evil.example.net",
    "X-ForWarded-Server: evil.example.net",
    "Forwarded: for=9.9.9.9;host=evil.example.net",
    "X-Real-IP: 9.9.9.9",
    "X-Client-IP: 9.9.9.9",
    "True-Client-IP: 9.9.9.9",
    "CF-Connecting-IP: 9.9.9.9",
    "Proxy: http://evil.example.net",
    "X-Original-URL: /evil",
    "X-Rewrite-URL: /evil",
    "X-Request-ID: evil",
    "X-HTTP-Method-Override: POST",
)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer as curl -i shows it; `headers` in lower case, each with all its values."""

    status: int
    headers: dict[str, list[str]]
    body: str

    @property
    def cache(self) -> str:
        return ",".join(self.headers.get("x-cache", []))

    @property
    def seen(self) -> dict[str, str]:
        """What PHP saw: $_SERVER."""
        found: dict[str, str] = json.loads(self.body)["server"]
        return found


class Visitor:
    """The stranger, who asks this host for whatever name."""

    def __init__(self, stranger: Stranger, host: Machine) -> None:
        self.stranger, self.host = stranger, host

    def __call__(self, url: str, *args: str, to: str = "") -> Answer:
        """Fetch `url` of this host; `to` is another address of it. Raises AssertionError when nothing answers."""
        target = ("--connect-to", f"::{to or self.host.ip}:")
        done = self.stranger.curl("--include", *target, *args, url)
        assert done.rc == 0, f"{url}: curl {done.rc}: {done.err}"
        head, _, body = done.out.replace("\r\n", "\n").partition("\n\n")
        first, *lines = head.splitlines()
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers.setdefault(name.lower(), []).append(value)
        return Answer(int(first.split()[1]), headers, body)


@contextlib.contextmanager
def equipped(machine: Machine) -> Iterator[Machine]:
    """The host with front.php, which tells what reached it, and front.css on example.com."""
    machine.check(f"runuser -u example-com -- tee {ROOM}/front.php > /dev/null", stdin=ECHO)
    machine.check(f"runuser -u example-com -- tee {ROOM}/front.css > /dev/null", stdin="body {}")
    try:
        yield machine
    finally:
        machine.check(f"rm {ROOM}/front.php {ROOM}/front.css")


def new_page() -> str:
    """An address that nobody has asked for yet."""
    return f"https://example.com/front.php?once={time.monotonic_ns()}"


def raw(host: Machine, sent: bytes, seconds: float) -> bytes:
    """What comes back over TLS until the other side closes or `seconds` are over."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    received, end = b"", time.monotonic() + seconds
    with (
        contextlib.suppress(TimeoutError, ConnectionResetError, BrokenPipeError, ssl.SSLError),
        socket.create_connection((host.ip, 443)) as plain,
        context.wrap_socket(plain, server_hostname="example.com") as tls,
    ):
        tls.sendall(sent)
        while (left := end - time.monotonic()) > 0:
            tls.settimeout(left)
            if not (some := tls.recv(65536)):
                break
            received += some
    return received


@contextlib.contextmanager
def stopped(host: Machine, unit: str) -> Iterator[None]:
    host.check(f"systemctl stop {unit}")
    try:
        yield
    finally:
        host.check(f"systemctl start {unit}")
