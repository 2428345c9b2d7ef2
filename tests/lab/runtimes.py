"""A site of each runtime side by side on one lab host, each with a program that says who runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .corner import as_user, ask
from .lab import Lab
from .machine import Machine

# One program that speaks HTTP or SCGI at $LISTEN, and runs whatever lies in apps/ for each request.
SERVE = r"""
import os, pathlib, socketserver, subprocess, sys, time
HERE = pathlib.Path(__file__).parent
VERSION = (HERE / "version.txt").read_text()

def page(path):
    name = path.partition("?")[0].rsplit("/", 1)[-1].partition(".")[0]
    if name == "version": time.sleep(0.3); return VERSION
    if name == "plain": return "plain"
    program = HERE / "apps" / f"{name}.sh"
    return subprocess.run(["sh", program], capture_output=True, text=True).stdout if program.exists() else None

def answer(path):
    text = page(path)
    status = "200 OK" if text is not None else "404 Not Found"
    head = f"Content-Type: text/plain\r\nCache-Control: no-store\r\nContent-Length: {len(text or '')}\r\n\r\n"
    return status, head + (text or "")

class Http(socketserver.StreamRequestHandler):
    def handle(self):
        line = self.rfile.readline().decode()
        while self.rfile.readline().strip(): pass
        if line:
            status, rest = answer(line.split()[1])
            self.wfile.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n{rest}".encode())

class Scgi(socketserver.StreamRequestHandler):
    def handle(self):
        size = b""
        while (one := self.rfile.read(1)) not in (b":", b""): size += one
        if size:
            words = self.rfile.read(int(size)).decode().split("\0")
            status, rest = answer(dict(zip(words[::2], words[1::2]))["REQUEST_URI"])
            self.wfile.write(f"Status: {status}\r\n{rest}".encode())

class Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer): daemon_threads = True; request_queue_size = 64
class Port(socketserver.ThreadingMixIn, socketserver.TCPServer): daemon_threads = allow_reuse_address = True
handler = {"http": Http, "scgi": Scgi}[sys.argv[1]]
server = Port(("127.0.0.1", int(os.environ["PORT"])), handler) if "PORT" in os.environ else Unix(os.environ["LISTEN"], handler)
server.serve_forever()
"""  # noqa: E501
SERVED = {"serve.py": SERVE, "version.txt": "one", "apps/id.sh": "id -un"}

PHP = "<?php header('Cache-Control: no-store'); echo posix_getpwuid(posix_geteuid())['name'], ' ', php_sapi_name();"
CGI = r"""#!/bin/sh
printf 'Content-Type: text/plain\nCache-Control: no-store\n\n'
echo $(id -un) cgi$(touch /tmp/x 2> /dev/null && echo ' in /tmp')
"""
JSP = """<%@ page contentType="text/plain" %><%
response.setHeader("Cache-Control", "no-store");
out.print(new String(new ProcessBuilder("id", "-un").start().getInputStream().readAllBytes()).trim());
%>"""


@dataclass(frozen=True)
class Kind:
    """What a site of a runtime says in its file, what it brings, what is dropped into it, and what that answers."""

    keys: str
    page: str
    says: str
    drops: str = ""
    source: Mapping[str, str] | None = None


KINDS = {
    "fpm": Kind("", "/id.php", " fpm-fcgi", PHP),
    "fcgid": Kind("runtime: fcgid\n", "/id.php", " cgi-fcgi", PHP),
    "cgi": Kind("runtime: cgi\n", "/id.cgi", " cgi", CGI),
    "itk": Kind("runtime: itk\n", "/id.php", " apache2handler", PHP),
    "server": Kind(
        "runtime: server\ncommand: exec python3 serve.py http\ndeploy: {smoke: /id}\n", "/id", "", source=SERVED
    ),
    "scgi": Kind(
        "runtime: scgi\ncommand: exec python3 serve.py scgi\ndeploy: {smoke: /id}\n", "/id", "", source=SERVED
    ),
    "ajp": Kind(
        "runtime: ajp\nwebapps: webapps\ndeploy: {smoke: /id.jsp}\n", "/id.jsp", "",
        source={"webapps/ROOT/id.jsp": JSP, "webapps/ROOT/WEB-INF/web.xml": "<web-app/>"},
    ),
    "static": Kind("runtime: static\n", "/id.html", "", "<p>shown</p>"),
}  # fmt: skip


@dataclass
class Yard:
    """One host with such sites; `fab` reads their files, which lie in a directory of their own."""

    host: Machine
    directory: Path

    def fab(self, *words: str, timeout: float = 580) -> subprocess.CompletedProcess[str]:
        return self.host.fab(*words, directory=self.directory, timeout=timeout)

    def done(self, *words: str) -> str:
        """The same, which must succeed."""
        told = self.fab(*words)
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    def says(self, domain: str, keys: str) -> None:
        """What a site's file says beside its domain."""
        (self.directory / "sites" / f"{domain}.yml").write_text(f"domain: {domain}\n{keys}")

    def fill(self, domain: str, kind: Kind) -> None:
        """The site gets its program: by a deploy, or dropped into its room as its user."""
        if kind.source is not None:
            place = self.directory / "source" / domain
            for name, text in kind.source.items():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_text(text)
            self.done("site.deploy", domain, "--source", str(place))
        else:
            self.drop(domain, f"_{kind.page}", kind.drops)

    def drop(self, domain: str, name: str, text: str) -> None:
        """A file in the release that serves, by the site's user; whoever starts files may start it."""
        path = f"/var/www/{domain}/public_html/{name}"
        done = as_user(self.host, owner(domain), f"cat > {path} && chmod 0755 {path}", text)
        assert done.rc == 0, done.err

    def ask(self, domain: str, page: str) -> str:
        """Apache's whole answer."""
        return ask(self.host, domain, page)

    def proved(self, *words: str) -> tuple[int, list[dict[str, Any]]]:
        """`site.prove-isolation`: its exit code, and every try."""
        done = self.fab("site.prove-isolation", *words, "--json", timeout=900)
        assert done.stdout.startswith("["), done.stdout + done.stderr
        return done.returncode, json.loads(done.stdout)


def owner(domain: str) -> str:
    """The user of a site of this name."""
    return domain.replace(".", "-")


def yard(lab: Lab, host: Machine, place: Path, **sites: str) -> Yard:
    """The host made of these sites alone: a domain below .test each, and its runtime."""
    (place / "sites").mkdir(parents=True)
    made = Yard(host, lab.describe(place, sites=place / "sites"))
    for name, kind in sites.items():
        made.says(f"{name}.test", KINDS[kind].keys)
    with lab.pointing(host):
        made.done("bootstrap")
    for name, kind in sites.items():
        made.fill(f"{name}.test", KINDS[kind])
    return made
