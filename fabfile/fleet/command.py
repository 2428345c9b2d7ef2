"""`inv fleet.run -- COMMAND`: the same shell command on many hosts, as root."""

from __future__ import annotations

import io
import itertools
import json as json_
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from invoke import Context, Exit
from rich.text import Text

from ..engine import Host, Problem, as_data, console
from ..engine.pool import FLEET, Crew, chosen_fleet
from ..engine.stop import stoppable
from ..looking.screen import harmless
from ..model import Refusal
from .choice import ONLY, chosen_hosts

HELP = {"only": ONLY, "fleet": FLEET, "json": "print the same as JSON"}

# Both streams as one, as on a terminal; behind the last NUL the code that it left with.
PROGRAM = r"""sh -c "$1" < /dev/null 2>&1; printf '\0%s' $?"""


class Said(NamedTuple):
    """What the command printed on a host, and its exit code; None: there was none, and `why`."""

    host: str
    code: int | None = None
    output: str = ""
    why: str = "stopped before it began"
    seconds: float = 0.0

    @property
    def outcome(self) -> str:
        """In a word."""
        return self.why or ("ok" if self.code == 0 else f"exit code {self.code}")


def run(_c: Context, only: str = "", fleet: str = "", json: bool = False) -> None:
    """Run a shell command as root on all hosts at once, such as -- 'df -h | head -3'; exit 1 if it failed on any.

    One word is a piece of shell; several are a program and its arguments, which no shell reads again.
    JSON: an object a host, with `code` (null: none came back), `output`, `why` and `seconds`.
    """
    text = typed(sys.argv)
    found = chosen_fleet(fleet, "fab -H vps -- sudo uptime")
    with Crew(found, chosen_hosts(found, only)) as crew:
        answers = _asked(crew, text, json)
        stopped = crew.stopping
    if json:
        print(json_.dumps([as_data(answer) for answer in answers], indent=2))
    if stopped:
        raise Exit("stopped", code=130)
    if bad := [f"{answer.host} ({answer.outcome})" for answer in answers if answer.code != 0]:
        raise Exit(f"failed on {', '.join(bad)}", code=1)


def typed(argv: Sequence[str]) -> str:
    """What stands behind the two dashes, as shell.  Raises Refusal when nothing does."""
    words = argv[argv.index("--") + 1 :] if "--" in argv else ()
    if not any(words):
        raise Refusal("the command stands behind two dashes\n  for example:  inv fleet.run -- uptime")
    return words[0] if len(words) == 1 else shlex.join(words)


def _asked(crew: Crew, text: str, as_json: bool) -> list[Said]:
    """All hosts' answers, in the fleet's order; each is shown as it comes."""
    answers = {name: Said(name) for name in crew.hosts}
    done = itertools.count(1)

    def hear(name: str, answer: Said | Problem) -> None:
        if isinstance(answer, Problem):
            last = answer.details.strip().rpartition("\n")[2]
            answer = Said(name, why=f"{answer.message}: {last}" if last else answer.message)
        answers[name] = answer
        if not as_json:
            console.print(_shown(answer))
            status.update(f"running: {next(done)} of {len(answers)} hosts")

    def stop() -> str:
        # What runs goes on, and is heard to its end.
        crew.stopping = True
        return "stopping: what runs is waited for  (Ctrl-C again: it is left to itself)"

    with console.status("running") as status, stoppable(stop), suppress(KeyboardInterrupt):
        crew.each([*crew.hosts], lambda host: _one(host, text), hear)
    return [*answers.values()]


def _one(host: Host, text: str) -> Said:
    began, sink = time.monotonic(), io.BytesIO()
    host.visit.stream(PROGRAM, (text,), None, sink)
    output, _, code = sink.getvalue().rpartition(b"\0")
    return Said(host.name, int(code), output.decode(errors="replace"), "", round(time.monotonic() - began, 2))


def _shown(said: Said) -> Text:
    style = "" if said.code == 0 else "bold red"
    text = Text.assemble((f"{said.host:<8}  {said.outcome}", style), f"  {said.seconds:.1f} s" if said.seconds else "")
    for line in said.output.splitlines():
        text.append(f"\n    {harmless(line.expandtabs())}")
    return text
