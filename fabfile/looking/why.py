"""Why: one request, walked through every layer.  (T1, figure 1, from the outside in)"""

from __future__ import annotations

import json as json_
import socket
import threading

from invoke import Exit
from rich.text import Text

from ..engine import Host, as_data, console, query
from ..model import Problem, Refusal
from .joined import Request
from .layers import Seen
from .screen import below, data, harmless
from .target import target
from .walking import walked

PATIENCE = 3
"""Seconds that our own resolver has."""


@query(
    positional=["url"],
    help={
        "url": "an address of a site of this host, with or without https://",
        "cookie": "send this Cookie header along, such as PHPSESSID=abc: how it is for somebody who is signed in",
        "json": "print the same as JSON",
    },
)
def why(c, url, cookie="", json=False):
    """On call: what happens to a request for this URL, layer by layer, and what to type next.

    The request is a real one, a GET that the host sends to its own HAProxy.  Exit code 1 when it is answered with an
    error, or not at all, or when DNS leads elsewhere.  JSON: `layers`, each with `name`, `text` and `bad`; `status`,
    `headers` of the answer, `request` as `logs` has it, and `next`.
    """
    host = Host.of(c)
    wanted = target(host, url)
    if any(not 32 <= ord(letter) < 127 for letter in cookie) or len(cookie) > 4000:
        raise Refusal(Problem("--cookie: must be what a Cookie header may hold", example="--cookie PHPSESSID=abc"))
    looking_up = Lookup(wanted.name)
    walk = walked(host, wanted, cookie)
    seen = Seen(walk, host.name, looking_up.result(), addresses(host.visit.connection.host))
    layers, request = seen.layers(), Request(walk.front, walk.back, walk.faults) if walk.front else None
    failed = walk.status == 0 or walk.status >= 400 or any(layer.bad for layer in layers)
    step = seen.next_step() if failed else ""
    if json:
        answer = {
            "host": host.name,
            "url": str(wanted),
            "status": walk.status,
            "well": not failed,
            "layers": [as_data(layer) for layer in layers],
            "headers": walk.headers,
            "request": data(request) if request else None,
            "next": step,
        }
        print(json_.dumps(answer, indent=2))
    else:
        console.print(Text(f"{wanted}  asked from {host.name} itself"))
        for layer in layers:
            console.print(Text(f"  {layer.name:<9}").append(harmless(layer.text), "bold red" if layer.bad else ""))
        line = walk.answer[0] if walk.answer else f"no answer: {' '.join(walk.unanswered) or 'it took too long'}"
        location = f"  to {walk.headers['location']}" if "location" in walk.headers else ""
        console.print(
            Text(f"  {'answer':<9}").append(harmless(line + location), "bold red" if failed else "bold green")
        )
        for text in below(request) if request else ():
            console.print(text)
        if step:
            console.print(f"next: {step}", markup=False)
    if failed:
        raise Exit(code=1)


class Lookup(threading.Thread):
    """Our own resolver's answer, while the host is asked; nobody waits long for one that hangs."""

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True)
        self.asked, self.found = name, list[str]()
        self.start()

    def run(self) -> None:
        """Look it up."""
        self.found = addresses(self.asked)

    def result(self) -> list[str]:
        """What it said by now."""
        self.join(PATIENCE)
        return self.found


def addresses(name: str) -> list[str]:
    """What our own resolver says."""
    try:
        return [*dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))]
    except OSError:
        return []
