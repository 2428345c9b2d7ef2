"""`inv image.render HOST`: a host of fleet.yml as one script, for machines that nobody logs in to.  (T5)

T5's nodes are made anew, not changed.  The script makes one where there is no controller: as cloud-init's user data, in
an image builder, or typed as root.  It carries what a run needs and goes through the very steps of `bootstrap`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from invoke import Collection, Context, task

from ..engine import Problem
from ..engine.pool import FLEET, everywhere, told
from ..model import Fleet, find_fleet
from .archive import Cards, script

LIMITS = "16 KB at AWS, 64 at OpenStack, 256 at Google"


def render(_c: Context, host: str, fleet: str = "") -> None:
    """Print one script that makes HOST of a stock Debian 13 by itself, as root at its first boot: T5's immutable node.

    The same steps as `bootstrap`, so `check` finds nothing to change afterwards.  It may be run again, and goes on from
    there.  No secret is in it: what is secret is made on the host.  The other hosts are asked for their cards (their
    certificates and digests), so render it when they are there.  It logs to /var/log/gatehouse-image.log; its exit code
    is that of `bootstrap`, and 3 where it is no Debian 13, or where it would shut out whoever logs in by password.

    It is larger than the user data of most clouds: put it where the machine can fetch it, and give as user data the
    two lines `#include` and its https:// address, which cloud-init(1) follows; or run it in an image builder.
    """
    explicit = fleet or os.environ.get("GATEHOUSE_FLEET", "")
    found = find_fleet(None, Path(explicit) if explicit else None, Path.cwd())
    machine = found.machine(host)
    others = [name for name in found.hosts if name != host]
    cards: Cards = {}
    for name, answer in everywhere(found, others, lambda other: other.facts.card, "asking the others"):
        cards[name] = None if isinstance(answer, Problem) else dict(answer)
        if isinstance(answer, Problem):
            _say(f"{name} was not asked, so what {host} has from it comes with the next bootstrap: {answer.message}")
    text = script(found, host, cards)
    sys.stdout.write(text)
    _say(f"{len(text) // 1024} KB; user data may have {LIMITS}: see `inv --help image.render`")
    for note in _afterwards(found, machine.name):
        _say(note)


def _afterwards(fleet: Fleet, host: str) -> list[str]:
    """What the new host cannot do by itself."""
    roles, notes = fleet.roles(host), list[str]()
    if "edge" in roles:
        notes.append(f"its certificates come by themselves once the sites' names point to {host}")
    inner = [role for role in ("database", "cache") if "web" in roles and fleet.one(role) and role not in roles]
    if inner:
        notes.append(
            f"its passwords are made there: once it is up, inv fleet.bootstrap lets {' and '.join(inner)} know them"
        )
    return notes


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def inv_tasks() -> Collection:
    """The namespace for tasks.py."""
    says = {"host": "a host of fleet.yml; without a fleet.yml any name, of a web server by itself", "fleet": FLEET}
    return Collection("image", task(help=says, positional=["host"])(told(render)))
