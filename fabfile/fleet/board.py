"""What an operator sees of many hosts at work: a line a host on a terminal, and what each told in one piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ..engine import Host, console
from ..engine.report import errors


class Board:
    """The hosts at work.  It is written to by their threads, and printed to by one at a time."""

    def __init__(self, hosts: Mapping[str, Host], as_json: bool) -> None:
        self.hosts, self.as_json = hosts, as_json
        self.at: dict[str, tuple[str, str]] = {}
        self._began = ""
        # A console of its own: what is captured of the other one in the threads must hold nothing of the lines below.
        self._screen = Console(highlight=False, emoji=False, soft_wrap=True)
        self._live = console.is_terminal and not as_json

    def showing(self) -> AbstractContextManager[Any]:
        """The lines at the foot of the terminal, as long as hosts are at work."""
        if not self._live:
            return nullcontext()
        return Live(get_renderable=self._lines, console=self._screen, refresh_per_second=8, transient=True)

    def tier(self, what: str, names: Sequence[str]) -> None:
        """Some hosts begin, side by side."""
        if not self.as_json:
            self._screen.print(Text(f"{what}: {', '.join(names)}", "dim"))

    def busy(self, host: str, step: str, what: str) -> None:
        """What a host is doing now."""
        self.at[host] = step, what

    def ended(self, host: str) -> None:
        """A host does nothing more in this tier."""
        self.at.pop(host, None)

    def say(self, said: str, wrong: str) -> None:
        """What a host told, and what went wrong, in one piece."""
        if self._live and said + wrong:
            self._screen.print(Text.from_ansi((said + wrong).rstrip("\n")))
            return
        if said and not self.as_json:
            console.file.write(said)
        if wrong:
            errors.file.write(wrong)

    @property
    def doing(self) -> str:
        """What the hosts are at, in a line."""
        return "; ".join(f"{host}: {what or step}" for host, (step, what) in sorted(self.at.items()))

    def _lines(self) -> Group:
        width = max(map(len, self.hosts))
        lines = (
            f"{name:<{width}}  {self._changed(name):>3} changed  {step:<22}  {what}"
            for name, (step, what) in sorted(self.at.items())
        )
        return Group(*(Text(line, overflow="ellipsis", no_wrap=True) for line in lines))

    def _changed(self, name: str) -> int:
        report = self.hosts[name].report
        return sum(line.outcome == "changed" for line in report.lines) if report else 0
