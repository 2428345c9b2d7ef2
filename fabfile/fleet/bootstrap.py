"""`inv fleet.bootstrap` and `inv fleet.check`: what `fab` does to one host, for all of fleet.yml in the right order."""

from __future__ import annotations

import shlex
import sys

from invoke import Context, Exit

from ..engine import console
from ..engine.pool import FLEET, WORKERS, chosen_fleet
from .choice import ONLY, chosen_hosts
from .making import Making
from .rows import show

HELP = {
    "only": ONLY,
    "serial": f"hosts of a tier that are worked on at the same time; {WORKERS} unless you say",
    "fleet": FLEET,
    "json": "print what became of each host as JSON",
}
WITHIN = {"serial": (1, 100)}


def bootstrap(_c: Context, only: str = "", serial: int = WORKERS, fleet: str = "", json: bool = False) -> None:
    """From bare Debian hosts to the fleet of fleet.yml; again: nothing changes.  Exit 1 if one failed, 130 on Ctrl-C.

    First database, cache and files, then the hosts that make pages or serve files, then the edges.  A host that failed
    stops those that need it, and no other.
    """
    _made(only, serial, fleet, json, dry=False)


def check(_c: Context, only: str = "", serial: int = WORKERS, fleet: str = "", json: bool = False) -> None:
    """What would `fleet.bootstrap` change?  Touches nothing; exit 2 when anything would change, 1 if a host failed."""
    _made(only, serial, fleet, json, dry=True)


def _made(only: str, serial: int, path: str, as_json: bool, dry: bool) -> None:
    fleet = chosen_fleet(path, f"fab -H vps {'check' if dry else 'bootstrap'}")
    making = Making(fleet, chosen_hosts(fleet, only), serial, as_json, dry)
    rows = making.run()
    show(rows, as_json, dry)
    bad = [row for row in rows if not row.well]
    if bad and not as_json:
        console.print(f"next: {shlex.join(['inv', *sys.argv[1:]])}  (it goes on from there)", markup=False)
    if making.stopped:
        raise Exit(code=130)
    if bad:
        raise Exit(code=1)
    if any(row.would_change for row in rows):
        raise Exit(code=2)
