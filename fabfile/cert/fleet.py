"""`inv cert.renew` and `inv cert.list`: the same program on every web server at once, and one table."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from invoke import Collection, Context, task

from ..engine import Host, Problem
from ..engine.pool import everywhere, told
from ..model import Fleet, Refusal, find_fleet
from . import answers
from .answers import Certificate, Outcome, Row

FLEET = "the fleet.yml to use; else GATEHOUSE_FLEET, else ./fleet.yml"
JSON = "print the same as JSON"
RENEW = {
    "domain": "a site's: this one, on every host that has it, even if its last try failed; or --all: what is due",
    "fleet": FLEET,
    "json": JSON,
}
LIST = {"fleet": FLEET, "json": JSON}


def inv_tasks() -> Collection:
    """The namespace for tasks.py."""
    renewing = task(positional=["domain"], help=RENEW)(told(renew))
    return Collection("cert", renewing, task(name="list", help=LIST)(told(list_)))


def renew(_c: Context, domain: str, fleet: str = "", json: bool = False) -> None:
    """Renew certificates on all hosts at once; one bad host or name never stops the others; exit 1 if any failed."""
    found, hosts = _fleet(fleet)
    words = answers.words(found.all_sites + ((found.balancer,) if found.balancer else ()), domain)
    serving = [host for host in hosts if domain == answers.ALL or words[0] in map(str, found.certified_at(host))]

    def work(host: Host) -> list[Row]:
        return answers.renewed(host, *words)

    answers.show(_ask(found, serving, work, "renewing", lambda host, why: Outcome(host, "", "failed", why)), json)


def list_(_c: Context, fleet: str = "", json: bool = False) -> None:
    """Every certificate of every host in four truths: lego, disk, HAProxy's memory, wire; exit 1 if one is not well."""
    found, hosts = _fleet(fleet)

    answers.show(_ask(found, hosts, answers.listed, "looking", Certificate.unknown), json)


def _ask(
    fleet: Fleet,
    hosts: list[str],
    work: Callable[[Host], list[Row]],
    busy: str,
    failed: Callable[[str, str], Row],
) -> list[Row]:
    """The rows of every host, in the fleet's order; a host that cannot be asked is a row as well."""
    rows: list[Row] = []
    for host, answer in everywhere(fleet, hosts, work, busy):
        rows += [failed(host, _reason(answer))] if isinstance(answer, Problem) else answer
    return rows


def _reason(problem: Problem) -> str:
    last = problem.details.strip().rpartition("\n")[2]
    return f"{problem.message}: {last}" if last else problem.message


def _fleet(path: str) -> tuple[Fleet, list[str]]:
    """The fleet, and those of its hosts that serve sites.  Raises Refusal when there is none."""
    explicit = path or os.environ.get("GATEHOUSE_FLEET", "")
    fleet = find_fleet(None, Path(explicit) if explicit else None, Path.cwd())
    hosts = [name for name in fleet.hosts if fleet.certified_at(name)]
    if not hosts:
        raise Refusal("fleet.yml names no host that serves a site; for one host: fab -H vps cert.renew --all")
    return fleet, hosts
