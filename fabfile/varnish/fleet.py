"""`inv varnish.purge`: an address or a site goes from the cache of every host that keeps it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from invoke import Collection, Exit, task

from ..engine import Host, Problem
from ..engine.pool import everywhere
from ..engine.tasks import Step
from ..model import Refusal, find_fleet
from .purging import Purged, purged, show, wanted

HELP = {
    "url": "an address such as https://example.com/news: that page alone",
    "site": "or a site's domain: everything that is kept of it",
    "fleet": "the fleet.yml to use; else ./fleet.yml",
    "json": "print the same as JSON",
}


def inv_tasks() -> Collection:
    """The namespace for tasks.py."""
    return Collection("varnish", task(klass=Step, positional=["url"], help=HELP)(purge))


def purge(_c: Any, url: str = "", site: str = "", fleet: str = "", json: bool = False) -> None:
    """Purge an address, or all of --site DOMAIN, on every host that serves it; exit 1 if one did not answer."""
    try:
        found = find_fleet(None, Path(fleet) if fleet else None, Path.cwd())
        target = wanted(found.all_sites, url, site)
        hosts = [name for name in found.hosts if target.site in found.sites_for(name) and "web" in found.roles(name)]
        if not hosts:
            raise Refusal(f"fleet.yml names no host that serves {target.site}")
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        raise Exit(code=refusal.exit_code) from None

    def work(host: Host) -> Purged:
        return purged(host, target)

    answers = everywhere(found, hosts, work, "purging")
    show([_failed(host, target, answer) if isinstance(answer, Problem) else answer for host, answer in answers], json)


def _failed(host: str, target: object, problem: Problem) -> Purged:
    return Purged(host, str(target), 0, problem.message)
