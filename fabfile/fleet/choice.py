"""Which hosts of the fleet a task is about."""

from __future__ import annotations

import difflib

from ..model import Fleet, Refusal

ONLY = "hosts with this role in fleet.yml alone, such as app"


def chosen_hosts(fleet: Fleet, only: str) -> list[str]:
    """The hosts to which fleet.yml gives the role `only`; all without one.  Raises Refusal for a role that none has."""
    if not only:
        return list(fleet.hosts)
    names = [machine.name for machine in fleet.having(only)]
    if not names:
        there = sorted({role for machine in fleet.hosts.values() for role in machine.roles})
        near = difflib.get_close_matches(only, there, 1) or there
        message = f"--only {only}: no host of the fleet has this role; they have {', '.join(there)}"
        raise Refusal(f"{message}\n  for example:  --only {near[0]}")
    return names
