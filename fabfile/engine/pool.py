"""Many hosts at once, for `inv`: a bounded pool of connections; a host that fails is one bad row, never the end."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from invoke import Exit

from ..model import Fleet, Refusal, find_fleet
from .host import Host
from .problems import Problem
from .remote import Visit, connect
from .report import console

WORKERS = 16
"""Hosts that are worked on at the same time: threads mostly wait for the wire."""

T = TypeVar("T")


def everywhere(
    fleet: Fleet, names: Sequence[str], work: Callable[[Host], T], busy: str, workers: int = WORKERS
) -> Iterator[tuple[str, T | Problem]]:
    """Do `work` on every named host; (name, what it returned or the Problem it met), in the order of `names`.

    Hosts are found through the ssh_config beside fleet.yml, else the user's own.  `busy` is shown on a terminal.
    """
    beside = fleet.file.parent / "ssh_config" if fleet.file else None
    ssh_config = beside if beside and beside.is_file() else None
    with ThreadPoolExecutor(max_workers=workers) as pool, console.status(busy) as status:
        futures = {pool.submit(_visit, fleet, name, ssh_config, work): name for name in names}
        for done, _ in enumerate(as_completed(futures), start=1):
            status.update(f"{busy}: {done} of {len(names)} hosts")
    answers = {name: future.result() for future, name in futures.items()}
    yield from ((name, answers[name]) for name in names)


def _visit(fleet: Fleet, name: str, ssh_config: Path | None, work: Callable[[Host], T]) -> T | Problem:
    try:
        with connect(name, ssh_config) as connection:
            visit = Visit(connection)
            try:
                return work(Host(name, fleet, visit))
            finally:
                visit.close()
    except Problem as problem:
        return problem


def chosen_fleet(path: str, alone: str) -> Fleet:
    """The fleet that an `inv` task is about: --fleet, else GATEHOUSE_FLEET, else ./fleet.yml.

    Raises Refusal when it names no host; `alone` is what to type for one.
    """
    explicit = path or os.environ.get("GATEHOUSE_FLEET", "")
    fleet = find_fleet(None, Path(explicit) if explicit else None, Path.cwd())
    if not fleet.hosts:
        raise Refusal(f"fleet.yml names no host; for one host: {alone}; for all: name them there (fleet.example.yml)")
    return fleet


def told(body: Callable[..., None]) -> Callable[..., None]:
    """For a task of `inv`: a Refusal becomes its message and exit code 2."""

    @functools.wraps(body)
    def refusing(*args: Any, **kwargs: Any) -> None:
        try:
            body(*args, **kwargs)
        except Refusal as refusal:
            print(refusal, file=sys.stderr)
            raise Exit(code=refusal.exit_code) from None

    return refusing
