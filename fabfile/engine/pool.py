"""Many hosts at once, for `inv`: a bounded pool of connections; a host that fails is one bad row, never the end."""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from fabric import Connection
from invoke import Exit

from ..model import Fleet, Refusal, find_fleet
from .host import Host
from .problems import Problem, Stopped, Unreachable
from .remote import Visit, connect, identity, opened
from .report import console, refused

WORKERS = 64
"""Hosts that are worked on at the same time.  Threads mostly wait for the wire; for a host that is gone, in vain."""

FLEET = "the fleet.yml to use; else GATEHOUSE_FLEET, else ./fleet.yml"
"""What every task over the fleet says of its --fleet."""

T = TypeVar("T")
Hear = Callable[[str, Any], None]


class Door:
    """A connection that many may come through: it is opened once, and one that stays shut says so to each of them."""

    def __init__(self, connection: Connection, before: Door | None = None) -> None:
        self.connection, self.before = connection, before
        self._lock = threading.Lock()
        self._shut: tuple[str, str] | None = None

    def open(self) -> None:
        """Open it, and those before it.  Raises Unreachable or one of the Guarded, as `opened` does."""
        with self._lock:
            if self._shut:
                raise Unreachable(*self._shut)
            try:
                self._come_near()
                opened(self.connection)
            except Problem as problem:
                self._shut = problem.message, problem.next_step
                raise

    def _come_near(self) -> None:
        try:
            if self.before:
                self.before.open()
        except Problem as problem:
            why = f"{problem.message}; it is the way to {self.connection.original_host}"
            raise Unreachable(why, problem.next_step) from None

    def passes(self, names: Sequence[str]) -> bool:
        """Whether one of these hosts is on the way, its end included."""
        return self.connection.original_host in names or (self.before is not None and self.before.passes(names))

    def anew(self) -> None:
        """What it was is forgotten: the next one opens it again."""
        with self._lock:
            self.connection.close()
            self._shut = None


class Crew:
    """The hosts of one run over a fleet.  Each is visited once; those behind the same bastion share the way through it.

    Hosts are found through the ssh_config beside fleet.yml, else the user's own.
    """

    def __init__(self, fleet: Fleet, names: Sequence[str], dry: bool = False) -> None:
        beside = fleet.file.parent / "ssh_config" if fleet.file else None
        ssh_config = beside if beside and beside.is_file() else None
        self.hosts = {name: Host(name, fleet, Visit(connect(name, ssh_config)), dry) for name in names}
        self.stopping = False
        self._bastions: dict[tuple[Any, ...], Door] = {}
        # Those that one comes to directly are first: the way through one of them is its own connection.
        hosts = sorted(self.hosts.values(), key=lambda host: bool(host.visit.connection.gateway))
        self._doors = {host.name: self._door(host.visit.connection) for host in hosts}

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts.values():
            host.visit.close()
        self.leave()

    def each(
        self,
        names: Sequence[str],
        work: Callable[[Host], T],
        hear: Hear = lambda _name, _answer: None,
        workers: int = WORKERS,
    ) -> dict[str, T | Problem]:
        """Do `work` on these hosts side by side, and give what it returned or the Problem that it met.

        `hear` gets each name with that as it comes, in the thread that worked.  A Ctrl-C that nobody catches lets all
        lines go: every host then ends by itself what it is at, and KeyboardInterrupt comes when all threads have ended.
        """

        def visit(name: str) -> T | Problem:
            answer = self._visit(self.hosts[name], work)
            hear(name, answer)
            return answer

        with ThreadPoolExecutor(max_workers=workers) as pool:
            futures = {pool.submit(visit, name): name for name in names}
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self.stop()
                self.leave()
                raise
        return {name: future.result() for future, name in futures.items()}

    def stop(self) -> None:
        """Let every host finish the operation that it is at; nothing else is begun.  Safe in a signal's handler."""
        self.stopping = True
        for host in self.hosts.values():
            host.visit.stop()

    def anew(self, bastions: Sequence[str]) -> None:
        """New connections to these bastions, whose sshd leads to more hosts now, and to all hosts behind them."""
        for name, door in self._doors.items():
            if door.passes(bastions):
                self.hosts[name].visit.close()
        for door in (*self._doors.values(), *self._bastions.values()):
            if door.passes(bastions):
                door.anew()

    def leave(self) -> None:
        """Let all lines go."""
        for door in (*self._doors.values(), *self._bastions.values()):
            door.connection.close()

    def _visit(self, host: Host, work: Callable[[Host], T]) -> T | Problem:
        try:
            if self.stopping:
                raise Stopped("stopped before anything was begun")
            self._doors[host.name].open()
            return work(host)
        except Problem as problem:
            return problem

    def _door(self, c: Connection) -> Door:
        before = None
        if isinstance(c.gateway, Connection):
            way = identity(c.gateway)
            before = self._bastions[way] if way in self._bastions else self._door(c.gateway)
            c.gateway = before.connection
        door = Door(c, before)
        self._bastions.setdefault(identity(c), door)
        return door


def everywhere(
    fleet: Fleet, names: Sequence[str], work: Callable[[Host], T], busy: str, workers: int = WORKERS
) -> Iterator[tuple[str, T | Problem]]:
    """Do `work` on every named host; (name, what it returned or the Problem it met), in the order of `names`.

    `busy` is shown on a terminal, unless another thread has that already.
    """
    if not names:
        return
    done, status = itertools.count(1), console.status(busy)
    shown = status if threading.current_thread() is threading.main_thread() else nullcontext()
    with Crew(fleet, names) as crew, shown:
        answers = crew.each(
            names, work, lambda _name, _answer: status.update(f"{busy}: {next(done)} of {len(names)} hosts"), workers
        )
    yield from ((name, answers[name]) for name in names)


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
    """For a task of `inv`: a Refusal becomes its message and exit code 2, Ctrl-C exit code 130."""

    @functools.wraps(body)
    def refusing(*args: Any, **kwargs: Any) -> None:
        try:
            body(*args, **kwargs)
        except Refusal as refusal:
            refused(refusal)
            raise Exit(code=refusal.exit_code) from None
        except KeyboardInterrupt:
            raise Exit("stopped", code=130) from None

    return refusing
