"""A door before Pebble, on the CA's host: it lets a request pass, or answers in the CA's place.

    acme_door.py DIRECTORY    (certificate and key: /etc/pebble; on port 14100, before the CA's own on 14000)

DIRECTORY/rules.json, read for each request, is a list of {"path", "about", "status", "headers", "type", "detail"}: the
first whose path begins the request's, and whose `about` is in what it asks for, is the answer. DIRECTORY/log gets a
line a request: its path, the status of the answer, the names asked for.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

OF_THIS_HOP = ("connection", "content-length", "transfer-encoding")


class Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    directory = Path(sys.argv[-1])

    def relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        names = [each["value"] for each in _asked(body).get("identifiers", [])]
        for rule in json.loads((self.directory / "rules.json").read_text()):
            if self.path.startswith(rule["path"]) and rule.get("about", "") in " ".join(names):
                problem = {key: rule[key] for key in ("status", "type", "detail") if key in rule}
                headers = {"Content-Type": "application/problem+json", **rule.get("headers", {})}
                self.answer(names, rule["status"], headers, json.dumps(problem).encode())
                return
        trusting = ssl._create_unverified_context()
        ca = http.client.HTTPSConnection("127.0.0.1", 14000, context=trusting, timeout=30)
        ca.request(self.command, self.path, body, dict(self.headers.items()))
        reply = ca.getresponse()
        passed = {key: value for key, value in reply.getheaders() if key.lower() not in OF_THIS_HOP}
        self.answer(names, reply.status, passed, reply.read())
        ca.close()

    do_GET = do_POST = do_HEAD = relay  # noqa: N815

    def answer(self, names: list[str], status: int, headers: dict[str, str], body: bytes) -> None:
        if b"acme:error:badNonce" not in body:  # Pebble's exercise for clients: the same comes again at once
            with (self.directory / "log").open("a") as log:
                log.write(f"{self.path} {status} {','.join(names)}\n")
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_words: Any) -> None: ...


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


def _asked(body: bytes) -> dict[str, Any]:
    """What a JWS carries; nothing when it is none, or only asks."""
    try:
        text = json.loads(body)["payload"]
        asked = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, KeyError):
        return {}
    return asked if isinstance(asked, dict) else {}


if __name__ == "__main__":
    server = Server(("::", 14100), Door)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/etc/pebble/cert.pem", "/etc/pebble/key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()
