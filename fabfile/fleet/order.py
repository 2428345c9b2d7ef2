"""Which host waits for which: what others need comes first, what leads visitors to them comes last."""

from __future__ import annotations

from collections.abc import Iterable

from ..model import Fleet

FIRST = ("database", "cache", "files")
LAST = ("edge", "balancer")


def tiers(fleet: Fleet, names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """These hosts in the order in which they are made, those of a tier side by side.

    A host that others need comes before them, whatever else it does; an edge comes last, since the SSH of the others
    goes through it.
    """
    found: tuple[list[str], ...] = [], [], []
    for name in names:
        roles = {*fleet.machine(name).roles}
        found[0 if roles & {*FIRST} else 2 if roles & {*LAST} else 1].append(name)
    return tuple(tuple(tier) for tier in found if tier)


def waits_for(fleet: Fleet, name: str, unwell: Iterable[str]) -> tuple[str, ...]:
    """Those of the hosts that are not well without which this one cannot go on; none: it goes on.

    What makes pages needs its database, its cache and its files, what serves files needs these, and an edge at least
    one of those that make pages behind it.
    """
    bad, machine = {*unwell}, fleet.machine(name)
    needs = FIRST if machine.serves else ("files",) if "static" in machine.roles else ()
    missing = [one.name for role in needs if (one := fleet.one(role)) and one.name != name and one.name in bad]
    behind = [web.name for web in fleet.webs_behind(name)]
    if behind and not machine.serves and bad.issuperset(behind):
        missing += behind
    return tuple(dict.fromkeys(missing))
