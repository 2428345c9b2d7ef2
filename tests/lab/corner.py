"""A place in a site's tree for one test, and what is asked of it; what the site's user can do with a shell.

example.com is the site that misbehaves in the tests, kiosk.co.test the one that it would like to rob.
"""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from .machine import Machine, Result

A, B = "example-com", "kiosk-co-test"
A_ROOT, B_ROOT = "/var/www/example.com", "/var/www/kiosk.co.test"
A_SOCKET, B_SOCKET = (f"unix:/run/php/{one}.sock|fcgi://{one}" for one in (A, B))

WHO = """<?php
header('Cache-Control: no-store');
echo json_encode(['user' => posix_getpwuid(posix_geteuid())['name'], 'groups' => count(posix_getgroups()),
    'client' => $_SERVER['REMOTE_ADDR'], 'https' => $_SERVER['HTTPS'] ?? '', 'port' => $_SERVER['SERVER_PORT'],
    'script' => $_SERVER['SCRIPT_FILENAME'], 'path' => $_SERVER['PATH_INFO'] ?? '', 'file' => __FILE__,
    'basedir' => ini_get('open_basedir'), 'tmp' => dirname(tempnam('', 'x')), 'logged' => ini_get('error_log'),
    'given' => $_SERVER['GIVEN'] ?? '']);
"""
COUNT = """<?php
header('Cache-Control: no-store');
session_start(); $_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1; echo session_id(), ' ', $_SESSION['n'];
"""


def as_user(host: Machine, user: str, command: str, stdin: str = "") -> Result:
    """What a site's user can do with a shell."""
    inner = f"umask 022; cd /; {command}"
    return host.exec(f"setpriv --reuid {user} --regid {user} --init-groups sh -c {shlex.quote(inner)}", stdin=stdin)


def ask(host: Machine, name: str, path: str, *headers: str, method: str = "GET") -> str:
    """What Apache itself answers on the loopback, where Varnish asks: status line, headers and body."""
    lines = [f"{method} {path} HTTP/1.0", *([f"Host: {name}"] if name else []), *headers, "", ""]
    return host.check("bash -c 'exec 3<> /dev/tcp/127.0.0.1/8080; cat >&3; cat <&3'", stdin="\r\n".join(lines))


def status(answer: str) -> int:
    return int(answer.split()[1])


def body(answer: str) -> str:
    return answer.partition("\r\n\r\n")[2]


@dataclass
class Corner:
    """A new directory in a site's `_`, for one test."""

    host: Machine
    user: str
    root: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.root}/public_html/_/{self.name}"

    def put(self, file: str, text: str) -> None:
        done = as_user(
            self.host, self.user, f"mkdir -p {self.path} && cat > {shlex.quote(f'{self.path}/{file}')}", text
        )
        assert 0 == done.rc, done.err

    def ask(self, file: str, *headers: str) -> str:
        domain = self.root.rpartition("/")[2]
        return ask(self.host, domain, f"/{self.name}/{file}", *headers)


def borrowed(host: Machine, user: str, root: str) -> Iterator[Corner]:
    """A new directory of that site's, with a page that tells who runs it; gone afterwards."""
    made = Corner(host, user, root, f"t{uuid.uuid4().hex[:12]}")
    made.put("who.php", WHO)
    yield made
    as_user(host, user, f"rm -rf {made.path}")
