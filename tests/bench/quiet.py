"""The machine's shape, and whether it is quiet enough: what else runs on it is in every figure."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

from .sums import too_busy

WAIT = {"seconds": 120.0}
"""How long `calm` waits at most."""


class Busy(Exception):
    """This machine has other things to do."""


def shape() -> str:
    """What the figures were made on."""
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1024 / 1024
    system = next(line.partition("=")[2].strip('"') for line in Path("/etc/os-release").read_text().splitlines()
                  if line.startswith("PRETTY_NAME="))  # fmt: skip
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {system}, Python {platform.python_version()}"


def used(seconds: float = 3) -> float:
    """Which part of all cores was busy just now, from 0 to 1."""

    def look() -> tuple[int, int]:
        fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return sum(fields[:8]) - fields[3] - fields[4], sum(fields[:8])

    busy, whole = look()
    time.sleep(seconds)
    busy_now, whole_now = look()
    return (busy_now - busy) / max(whole_now - whole, 1)


def begin(anyway: bool) -> str:
    """Before anything is started: why the figures are not to be quoted, or nothing.  Raises Busy, unless `anyway`."""
    why = too_busy(os.getloadavg()[0], os.cpu_count() or 1)
    if why and not anyway:
        raise Busy(f"{why}: wait, or see the figures all the same with --anyway")
    if why:
        WAIT["seconds"] = 5  # others would not let it come
    return why


def calm(most: float = 0.2) -> float:
    """Wait until what our own hosts do at their start is over: returns the part that is still busy."""
    end = time.monotonic() + WAIT["seconds"]
    while (now := used()) > most and time.monotonic() < end:
        time.sleep(1)
    return round(now, 2)
