"""How a request is shown: one line, and below it what the layers said, with all that others wrote made harmless."""

from __future__ import annotations

from json import dumps
from typing import Any

from rich.text import Text

from ..engine import console
from .joined import Request
from .lines import Fault
from .times import iso, shown

SHORT = 8
"""Characters of a request's number that are shown; --id takes them."""


def harmless(text: str) -> str:
    """Text of unknown origin for a terminal: what is not printable is escaped, line breaks as well."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode()


def line(request: Request) -> Text:
    """The request's one line, coloured by what became of it."""
    one = request.front
    style = "bold red" if request.status >= 500 or request.status < 0 else "yellow" if request.status >= 400 else ""
    text = Text(f"{shown(request.at)} ")
    text.append(request.id[:SHORT], "dim")
    if one is None:
        served = request.back[0]
        return (
            text.append(f" {harmless(served.client)} ")
            .append(str(request.status), style)
            .append(f" {harmless(served.request)}")
        )
    text.append(f" {one.client} ").append(str(request.status), style)
    scheme = "http" if one.frontend == "http" else "https"
    where = f"{one.cache} " if one.cache else ""
    text.append(f" {where}{one.backend}/{one.server} {took(one.took, one.spent)} ")
    text.append(f"{harmless(one.method)} {scheme}://{harmless(one.host + one.target)}")
    if one.ending:
        text.append(f"  {one.ending}", "red" if one.state[0] != "L" else "dim")
    return text


def show(entry: Request | Fault, json: bool = False) -> None:
    """Print a request with what belongs to it, or a fault that belongs to none; or an object of JSON, a line each."""
    if json:
        print(dumps(fault_data(entry) if isinstance(entry, Fault) else data(entry)), flush=True)
    elif isinstance(entry, Fault):
        console.print(loose(entry))
    else:
        for text in (line(entry), *below(entry)):
            console.print(text)


def took(total: int, spent: dict[str, int]) -> str:
    """`812ms (answer 811)`: the whole, and the phases that took most of it."""
    parts = " ".join(f"{name} {ms}" for name, ms in spent.items() if ms * 20 >= total)
    return f"{total}ms" + (f" ({parts})" if parts else "")


def below(request: Request) -> list[Text]:
    """What else there is to say of a request."""
    found = [
        Text(f"    {fault.layer if not at else '':<6}  {harmless(part)}", "red")
        for fault in request.faults
        for at, part in enumerate(fault.text.split("\n"))
    ]
    codes = [one.status for one in request.back]
    if request.front and codes and codes != [request.status]:
        found.insert(0, Text(f"    apache  answered {', then '.join(map(str, codes))}"))
    return found


def loose(fault: Fault) -> Text:
    """A fault that belongs to no request that is shown."""
    return Text(f"{shown(fault.at)} {fault.layer:<6}  {harmless(fault.text)}", "red")


def data(request: Request) -> dict[str, Any]:
    """The request as JSON has it; `front` is null behind another host's HAProxy."""
    one = request.front
    return {
        "id": request.id,
        "time": iso(request.at),
        "status": request.status,
        "client": one.client if one else request.back[0].client,
        "front": one
        and {
            "frontend": one.frontend,
            "host": one.host,
            "method": one.method,
            "target": one.target,
            "version": one.version,
            "bytes": one.size,
            "backend": one.backend,
            "server": one.server,
            "cache": one.cache,
            "milliseconds": {"total": one.took, **one.spent},
            "state": one.state,
            "ending": one.ending,
        },
        "apache": [{"status": each.status, "request": each.request} for each in request.back],
        "faults": [fault_data(fault) for fault in request.faults],
    }


def fault_data(fault: Fault) -> dict[str, str]:
    """A fault as JSON has it; `joined` says how it came to its request."""
    return {
        "layer": fault.layer,
        "time": iso(fault.at),
        "text": fault.text,
        "joined": "id" if fault.id else "time" if fault.layer == "php" else "",
    }
