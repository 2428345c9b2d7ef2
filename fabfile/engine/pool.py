"""Many hosts at once, for `inv`: a bounded pool of connections; a host that fails is one bad row, never the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from ..model import Fleet
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
