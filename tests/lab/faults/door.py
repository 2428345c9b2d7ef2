"""The door before the lab's CA, as tests use it: it can answer in the CA's place, and knows what was asked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..certificates import until
from ..machine import Machine


class Door:
    """The door before the CA: what it shall answer in the CA's place, and what was asked."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def answer(self, path: str = "", status: int = 500, about: str = "", **said: Any) -> None:
        """Let the CA answer what begins with this path so; with no path, let everything pass again."""
        rules = [{"path": path, "status": status, "about": about, **said}] if path else []
        self.machine.put({"/run/acme-door/rules.json": json.dumps(rules).encode()})

    def limit(self, detail: str, about: str = "", **headers: str) -> None:
        """The CA wants no orders (for `about`)."""
        kind = "urn:ietf:params:acme:error:rateLimited"
        self.answer("/order-plz", 429, about, type=kind, detail=detail, headers=headers)

    def asked(self, path: str, status: str = "") -> list[str]:
        """The names of each request whose path begins so, and whose answer's status does."""
        lines = (line.split(" ") for line in self.machine.check("cat /run/acme-door/log").splitlines())
        return [names for asked, answer, names in lines if asked.startswith(path) and answer.startswith(status)]

    @property
    def orders(self) -> list[str]:
        return self.asked("/order-plz")


@contextlib.contextmanager
def opened(machine: Machine) -> Iterator[Door]:
    """Who asks the CA goes through the door, which is a program of its own in lego's way: `acme_door.py`."""
    program = (Path(__file__).parent / "acme_door.py").read_bytes()
    machine.put({"/run/acme-door/acme_door.py": program, "/run/acme-door/log": b"", "/run/acme-door/rules.json": b"[]"})
    machine.check("systemd-run --quiet --collect --unit=acme-door python3 /run/acme-door/acme_door.py /run/acme-door")
    rule = "PREROUTING -p tcp --dport 14000 -j REDIRECT --to-ports 14100"
    machine.check(f"iptables -t nat -A {rule} && ip6tables -t nat -A {rule}")
    try:
        until(machine, "ss -Hltn 'sport = :14100' | grep -q .")
        yield Door(machine)
    finally:
        machine.check(f"iptables -t nat -D {rule}; ip6tables -t nat -D {rule}; systemctl stop acme-door")
