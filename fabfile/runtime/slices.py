"""Slices: what a site's own programs may take together, in memory, time, processes.  (systemd.resource-control(5))"""

from __future__ import annotations

from ..engine import Host
from ..model import Site

PLACE = "/etc/systemd/system"


def name(owner: str) -> str:
    """A site's slice.  A dash in a slice's name makes it part of another one (systemd.slice(5)): here a colon."""
    return f"gatehouse-{owner.replace('-', ':')}.slice"


def slice_of(host: Host, site: Site) -> str:
    """The site's slice is there; returns its file."""
    return host.template(f"{PLACE}/{{slice}}", slice=name(site.owner), site=site, limits=site.limits)


def unwatched(host: Host, why: str, unit: str, *others: str) -> None:
    """Where no site wants a watcher any more, it ends, and its files go; a run of some sites only leaves it."""
    if unit in host.facts.files and not host.narrowed:
        host.run(why, f"systemctl disable --now {unit.rpartition('/')[2]}")
        host.absent(unit, *others)
