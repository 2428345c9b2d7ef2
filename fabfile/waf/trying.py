"""What would become of a request: asked of the balancer itself, without any backend."""

from __future__ import annotations

import base64
import json as json_
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from invoke import Exit
from rich.markup import escape

from ..engine import Host, Problem, as_data, console, query
from ..model import Refusal
from .detecting import until
from .findings import Finding, findings
from .guarding import guarded
from .places import TRIED, TRYING

MOST = 64_000
"""Bytes of a request that can be tried."""

# Its answer, and then what the audit log says of it: an answer has its number.  The log is this one's own.
TRY = """
type bash > /dev/null
answer=$(printf %s "$1" | base64 -d | timeout 20 bash -c 'exec 3<> "/dev/tcp/127.0.0.1/$0"; cat >&3; cat <&3' "$2" |
    head -c 65536 | tr -d '\\000')
printf '%s\\n' "$answer" | head -n 1
number=$(printf '%s\\n' "$answer" | tr -d '\\r' | sed -n '/^$/q; s/^X-Gatehouse-Number: \\([A-Za-z0-9@_-]*\\)$/\\1/p')
[ -z "$number" ] || grep -F -- "$number" "$3" || :
"""


class Tried(NamedTuple):
    """A request as it would go over the line."""

    method: str
    address: str
    raw: bytes


@query(
    positional=["request"],
    help={
        "request": "an address such as '/search?q=o%27brien'; or @FILE with a whole request",
        "method": "GET, POST, ...",
        "data": "what a form sends: name=value&name=value",
        "type_": "the kind of --data (Content-Type)",
        "json": "print status and rules as JSON",
    },
)
def test(c, request, method="", data="", type_="application/x-www-form-urlencoded", json=False):  # noqa: PT028
    """On call: which rules would a request meet, and what would be answered?  No backend gets to see it.

    It is asked of this very Apache, on the loopback, with the limits, rules, exclusions and settings of visitors;
    behind them stands an empty answer.  So rules about answers find nothing.  Exit code 1 when it would be refused.
    """
    host = Host.of(c)
    tried = request_of(request, guarded(host).server_name, method, data, type_)
    lines = host.ask(TRY, base64.b64encode(tried.raw).decode(), str(TRYING), TRIED).splitlines()
    words = lines[0].split() if lines else []
    if len(words) < 2 or not words[1].isdecimal():
        raise Problem(f"Apache on {host.name} gives no answer at 127.0.0.1:{TRYING}", f"fab -H {host.name} waf")
    status = int(words[1])
    found = next(findings("\n".join(lines[1:])), Finding())
    watching = until(host)
    if json:
        values = {"host": host.name, "status": status, "passes": status < 400, "until": watching, **as_data(found)}
        print(json_.dumps(values | {"status": status}, indent=2))
    else:
        _show(host, tried, status, found, watching)
    if status >= 400:
        raise Exit(code=1)


def _show(host: Host, tried: Tried, status: int, found: Finding, watching: str) -> None:
    verdict = f"[bold red]is refused with {status}[/]" if status >= 400 else "passes"
    console.print(f"{host.name}  {escape(tried.method)} {escape(tried.address)}  {verdict}", highlight=False)
    for rule in found.rules:
        console.print(f"    {rule.id or '-':>6}  {rule.message}  {rule.data}", markup=False, highlight=False)
    if not found.rules:
        console.print("    Apache itself, before any rule" if status >= 400 else "    no rule finds anything")
    if watching:
        console.print(f"The rules refuse nobody until {watching} (waf.detect-only).")


def request_of(text: str, name: str, method: str = "", data: str = "", kind: str = "") -> Tried:
    """The bytes of what was typed; raises Refusal for what is no request."""
    if text.startswith("@"):
        return _from_file(Path(text[1:]))
    address = urlsplit(text)
    path = address._replace(scheme="", netloc="", fragment="").geturl() or "/"
    if not path.startswith("/") or (address.scheme or "https") not in ("http", "https"):
        raise Refusal(f"{text!r} is no address\n  for example:  '/search?q=shoes', or @request.txt")
    if any(character in text + data + method + kind for character in "\r\n"):
        raise Refusal("a request with line breaks of its own goes into a file\n  for example:  @request.txt")
    method = method or ("POST" if data else "GET")
    body = data.encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: {address.netloc or name}\r\nUser-Agent: gatehouse\r\nAccept: */*\r\n"
    if body:
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return _fitting(Tried(method, path, head.encode() + b"Connection: close\r\n\r\n" + body))


def _from_file(path: Path) -> Tried:
    """A request as it was on the line.  Line breaks of a head that are line feeds alone are made whole."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {error.strerror}") from None
    if b"\r\n" not in raw:
        head, gap, body = raw.partition(b"\n\n")
        raw = head.rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n\r\n" + (body if gap else b"")
    words = raw.partition(b"\r\n")[0].decode("ascii", "replace").split(" ")
    if len(words) < 2:
        raise Refusal(f"{path} holds no request\n  its first line is, for example:  POST /search HTTP/1.1")
    return _fitting(Tried(words[0], words[1], raw))


def _fitting(tried: Tried) -> Tried:
    if len(tried.raw) > MOST:
        raise Refusal(f"the request has {len(tried.raw)} bytes; {MOST} can be tried at most")
    return tried
