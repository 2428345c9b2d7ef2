"""What is known of a host: its data, its snapshot and who is asking.  It looks, and never changes anything."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ..model import Balancer, Fleet, Site, chosen_site
from . import mark, render, script
from .facts import Facts, Look
from .problems import Outdated, Problem, WrongSystem
from .remote import Visit
from .report import Report

Named = TypeVar("Named", bound=Site | Balancer)

RELEASES = {"12": "bookworm", "13": "trixie"}
MACHINES = ("amd64", "arm64")

Cards = dict[str, Mapping[str, str] | Problem]
"""What hosts say of themselves, by their names; or why one could not be asked."""

MINUTE = 60
"""Seconds that the clocks of host and operator may differ without a word."""

RUNBOOK = Path(__file__).resolve().parents[2]


class Known:
    """One server: what the data say of it, what one look told, and the door to it."""

    def __init__(self, name: str, fleet: Fleet, visit: Visit, dry: bool = False) -> None:
        self.name, self.fleet, self.visit, self.dry = name, fleet, visit, dry
        self.sites: tuple[Site, ...] = fleet.sites_for(name)
        self.fronted: tuple[Site, ...] = fleet.fronted_by(name)
        self.certified: tuple[Site | Balancer, ...] = fleet.certified_at(name)
        if bastions := fleet.bastions(name):
            visit.through([bastion.name for bastion in bastions])
        self.report: Report | None = None
        self.last: Report | None = None
        self.watch: Callable[[str, str], None] | None = None
        self.cards: Cards = {}
        self.skew = 0
        self._only: tuple[Site, ...] | None = None

    @property
    def chosen(self) -> tuple[Site, ...]:
        """The sites that this run is about: all of the host's, or those of `about`."""
        return self.meant(self.sites)

    def meant(self, sites: tuple[Named, ...]) -> tuple[Named, ...]:
        """Of these sites, those that this run is about."""
        return tuple(site for site in sites if self._only is None or site in self._only)

    @property
    def narrowed(self) -> bool:
        """Whether other sites' files, and those of sites that went, are none of this run's business."""
        return self._only is not None

    @contextmanager
    def about(self, *sites: Site) -> Iterator[None]:
        """Steps leave other sites' files alone meanwhile; files that list all sites list all sites."""
        self._only = sites
        try:
            yield
        finally:
            self._only = None

    def site(self, name: str) -> Site:
        """The site of this name on this host.  Raises Refusal with the nearest ones it has."""
        return chosen_site(self.sites, name, f"{self.name} has")

    def _look(self, change: bool) -> Facts:
        asked = time.time()
        threading.Thread(target=render.warm, daemon=True).start()
        look = Look()
        self.visit.send(script.look(), change=change, tell=look.hear)
        facts = look.facts()
        self.skew = skew(facts.clock, asked, time.time())
        self._checked(facts)
        if self.report is not None:
            self._refuse_to_go_back(mark.read(facts.mark))
        return facts

    def _checked(self, facts: Facts) -> Facts:
        if facts.system != "debian" or facts.release not in RELEASES:
            raise WrongSystem(
                f"{self.name} runs {facts.system or 'an unknown system'} {facts.release}; "
                "Gatehouse knows Debian 12 and 13",
                "install Debian 13 on it",
            )
        if facts.arch not in MACHINES:
            raise WrongSystem(
                f"{self.name} is a Debian for {facts.arch or 'an unknown machine'}; "
                f"Gatehouse knows {' and '.join(MACHINES)}",
                "install Debian 13 for amd64 on it",
            )
        return facts

    @property
    def places(self) -> dict[str, Path]:
        """Where what makes a host comes from: the runbook with its templates, and the sites."""
        return {"runbook": RUNBOOK, "sites": self.fleet.sites}

    def _refuse_to_go_back(self, there: mark.Mark) -> None:
        why = "" if os.environ.get(mark.ANYWAY) else mark.newer(there, self.places)
        if why:
            raise Outdated(
                f"{self.name} was last changed from {why} (by {there.by})",
                "git pull there, then type the same again; to go back on purpose, put "
                f"{mark.ANYWAY}=yes in front of it",
            )

    def _mark(self) -> str:
        """What the host shall remember of this run."""
        found = {name: mark.commit(place) for name, place in self.places.items()}
        return mark.Mark({name: commit for name, commit in found.items() if commit}, self.visit.who).text()


def skew(clock: int, asked: float, answered: float) -> int:
    """Seconds that a host's clock, read between two moments of ours, is ahead (behind: negative); 0 within a minute."""
    ahead = clock - answered if clock > answered else min(clock - asked, 0)
    return round(ahead) if abs(ahead) > MINUTE else 0
