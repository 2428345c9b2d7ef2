"""`fab` as an operator types it, but killed on its way: `python -m tests.lab.faults.launch HOW fab-arguments...`.

HOW is one of

    watch FILE      not killed: every operation that is heard goes to FILE, a line each
    laptop N        this program is killed (-9) when it hears the N-th operation of the run
    host N          on the host, the whole visit is killed (-9) when the N-th operation of the run begins
    every           on the host, at every point that none was killed at before: each operation, each of its commands,
                    each few lines that apt tells

The product knows nothing of this: its prelude.sh is replaced by one that counts.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fabric.main import program

from fabfile.engine import remote, script

# Tools that change something, before each of which it is worth to die; and those that take long enough to die in.
COMMANDS = "chmod chown cp install ln mv rmdir systemctl touch usermod"
LONG = "etckeeper git useradd"

DIE = "pkill -KILL -s 0"  # all of the visit's session: user's shell, sudo, session.sh, run and what it started

HOST = """
op() {
    told_op "$@"
    began=$(($(cat /run/killing/began) + 1))
    echo "$began" > /run/killing/began
    [ "$began" != "$(cat /run/killing/at)" ] || DIE
}
"""

EVERY = r"""
unseen() {
    where=$(printf '%s\n' "$doing: $*" | sed 's/[0-9]\{8\}-[0-9]\{6\}/TIME/g')  # a release's name is new each time
    ! grep -qxF -- "$where" /run/killing/points || return
    printf '%s\n' "$where" >> /run/killing/points
}
moment() { ! unseen "$@" || DIE; }
doing= count=0 said=0
op() { told_op "$@"; doing=$* count=0 said=0; moment begins; }
say() {
    told_say "$@"
    said=$((said + 1))
    case $said in 2 | 20 | 60 | 100 | *50) moment "said $said" ;; esac
}
"""
# A tool that is not there must not seem to be: prelude.sh looks.
WRAP = """
! command -v NAME > /dev/null ||
NAME() {
    count=$((count + 1))
    moment "$count NAME"
    command NAME "$@"
}
"""
WITHIN = """
! command -v NAME > /dev/null ||
NAME() {
    count=$((count + 1))
    moment "$count NAME"
    ! unseen "within $count NAME" || { { sleep 0.04; DIE; } & }
    command NAME "$@"
}
"""


def with_prelude(more: str, *replaced: str) -> None:
    """Give the engine a prelude.sh with other words for some."""
    shell = Path(tempfile.mkdtemp(prefix="gatehouse-test-"))
    shutil.copytree(script.SHELL, shell, dirs_exist_ok=True)
    text = (shell / "prelude.sh").read_text()
    for name in replaced:
        assert f"\n{name}() " in text
        text = text.replace(f"\n{name}() ", f"\ntold_{name}() ")
    words = re.findall(r"^(\w+)\(\) ", text, re.MULTILINE)
    assert not set(re.findall(r"^(\w+)\(\) ", more, re.MULTILINE)) & set(words), "a word of prelude.sh is hidden"
    (shell / "prelude.sh").write_text(text + more.replace("DIE", DIE))
    for module in (script, remote):
        vars(module)["SHELL"] = shell


def hearing(heard: Callable[[int, str], None]) -> None:
    """Let `heard` be told of every operation of the run, numbered from 1."""
    send, number = remote.Visit.send, 0

    def sent(self: Any, box: Any, change: bool = False, tell: Any = lambda _: None, anyway: bool = False) -> Any:
        def told(record: str) -> None:
            nonlocal number
            if record.startswith("op\t"):
                number += 1
                heard(number, record.split("\t", 2)[2])
            tell(record)

        return send(self, box, change, told, anyway)

    remote.Visit.send = sent  # type: ignore[method-assign]


def main(how: str, *rest: str) -> None:
    if how == "watch":
        log = Path(rest[0]).open("a", buffering=1)  # noqa: SIM115
        hearing(lambda _, what: print(what, file=log))
    elif how == "laptop":
        hearing(lambda number, _: os.kill(os.getpid(), signal.SIGKILL) if number == int(rest[0]) else None)
    elif how == "host":
        with_prelude(HOST, "op")
    elif how == "every":
        wraps = "".join(WRAP.replace("NAME", name) for name in COMMANDS.split())
        wraps += "".join(WITHIN.replace("NAME", name) for name in LONG.split())
        with_prelude(EVERY + wraps, "op", "say")
    words = rest if how == "every" else rest[1:]
    program.run(["fab", *words])


if __name__ == "__main__":
    main(*sys.argv[1:])
