"""`inv cert.renew` and `inv cert.list`: the same program on every web server at once, and one table."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from invoke import Collection, Context, Exit, task

from ..engine import Host, Problem
from ..engine.pool import everywhere
from ..model import Fleet, Refusal, find_fleet
from . import answers
from .answers import Certificate, Outcome, Row

FLEET = "the fleet.yml to use; else GATEHOUSE_FLEET, else ./fleet.yml"
JSON = "print the same as JSON"
RENEW = {
    "domain": "just this one, on every host that serves it, at once, even when its last try failed",
    "all": "every name on every host, as far as it is due",
    "fleet": FLEET,
    "json": JSON,
}
LIST = {"fleet": FLEET, "json": JSON}


def inv_tasks() -> Collection:
    """The namespace for tasks.py."""
    return Collection("cert", task(positional=["domain"], help=RENEW)(renew), task(name="list", help=LIST)(list_))


def renew(_c: Context, domain: str = "", all: bool = False, fleet: str = "", json: bool = False) -> None:  # noqa: A002
    """Renew certificates on all hosts at once; one bad host or name never stops the others; exit 1 if any failed."""
    found = _fleet(fleet)
    if bool(domain) == all:
        _refuse(Refusal("say which: inv cert.renew --all, or inv cert.renew example.com"))
    name = _known(found, domain) if domain else ""
    hosts = [host for host in _web(found) if not name or name in map(str, found.sites_for(host))]

    def work(host: Host) -> list[Row]:
        return answers.renewed(host, name or "--now")

    answers.show(_ask(found, hosts, work, "renewing", lambda host, why: Outcome(host, "", "failed", why)), json)


def list_(_c: Context, fleet: str = "", json: bool = False) -> None:
    """Every certificate of every host, its days left on disk and on the wire; exit 1 if one is not as it should be."""
    found = _fleet(fleet)

    def unreachable(host: str, why: str) -> Row:
        return Certificate(host, "", None, None, "", "failed", why)

    answers.show(_ask(found, _web(found), answers.listed, "looking", unreachable), json)


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
        rows += [failed(host, answer.message)] if isinstance(answer, Problem) else answer
    return rows


def _fleet(path: str) -> Fleet:
    explicit = path or os.environ.get("GATEHOUSE_FLEET", "")
    try:
        return find_fleet(None, Path(explicit) if explicit else None, Path.cwd())
    except Refusal as refusal:
        _refuse(refusal)


def _web(fleet: Fleet) -> list[str]:
    """The hosts that serve sites."""
    hosts = [name for name in fleet.hosts if fleet.sites_for(name)]
    if not hosts:
        _refuse(Refusal("fleet.yml names no host that serves a site; for one host: fab -H vps cert.renew"))
    return hosts


def _known(fleet: Fleet, domain: str) -> str:
    try:
        return answers.known(fleet.all_sites, domain)
    except Refusal as refusal:
        _refuse(refusal)


def _refuse(refusal: Refusal) -> NoReturn:
    print(refusal, file=sys.stderr)
    raise Exit(code=refusal.exit_code)
