"""Programs as a person starts them, and what each run cost."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..lab.errors import LabError
from ..lab.machine import CHECKOUT

EVERY = 0.1
"""Seconds between two looks at a program's memory."""

STOPPED = -signal.SIGKILL
"""The exit code of a run that was stopped at its limit."""

LATE = 20
"""Seconds in which what was killed ends at the latest."""


@dataclass
class Run:
    """One run of a program.

    seconds: by the clock; cpu: seconds that it and its children had of the controller; memory: MB at the peak of all
    its processes together, 0 where nobody looked; code: its exit code, or STOPPED.
    """

    tool: str
    case: str
    seconds: float
    cpu: float
    memory: float
    code: int
    load: float
    said: str = ""

    def tell(self) -> None:
        """A line for who waits; of what failed, its last words."""
        line = f"{self.case:26}  {self.tool:14}  {self.seconds:8.2f} s  exit {self.code}"
        print(line, file=sys.stderr, flush=True)
        if self.code:
            print(self.said[-40_000:], file=sys.stderr, flush=True)

    def as_data(self) -> dict[str, Any]:
        """What of it is kept."""
        return {key: value for key, value in asdict(self).items() if key != "said"}


def environment(**more: str) -> dict[str, str]:
    """A person's: compiled modules are kept, nothing is coloured, nothing of this process's own Python is passed on."""
    left = ("PYTHON", "VIRTUAL_ENV", "GATEHOUSE")
    own = {key: value for key, value in os.environ.items() if not key.startswith(left)}
    return {**own, "NO_COLOR": "1", **more}


def run(
    tool: str,
    case: str,
    line: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path = CHECKOUT,
    limit: float = 900,
    memory: bool = False,
) -> Run:
    """Run it to its end.  `memory`: also look at how much it takes, which costs a little."""
    with tempfile.TemporaryFile() as out:
        load, began = os.getloadavg()[0], time.monotonic()
        child = subprocess.Popen(
            line, cwd=cwd, env=environment(**(env or {})), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
        stop = threading.Timer(limit, _end, [child.pid])
        stop.start()
        watch = _Memory(child.pid) if memory else None
        try:
            _, status, used = os.wait4(child.pid, 0)
        except BaseException:  # who waits has no more patience
            _end(child.pid)
            child.wait()
            raise
        finally:
            took = time.monotonic() - began
            stop.cancel()
            stop.join()
        child.returncode = os.waitstatus_to_exitcode(status)
        peak = watch.stop() if watch else 0.0
        out.seek(0)
        said = out.read().decode(errors="replace")
    cpu = used.ru_utime + used.ru_stime
    return Run(tool, case, round(took, 3), round(cpu, 3), round(peak, 1), child.returncode, round(load, 2), said)


@contextlib.contextmanager
def going_on() -> Iterator[None]:
    """What breaks in here does not lose what was measured before, nor what comes after."""
    try:
        yield
    except (LabError, OSError, RuntimeError, AssertionError):
        traceback.print_exc()


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    """Who has no more patience, by Ctrl-C or a `timeout`, gets what was measured until then."""
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print("stopped: this is what was measured until then", file=sys.stderr, flush=True)
    finally:
        signal.signal(signal.SIGTERM, former)


def _end(pid: int) -> None:
    """End a program with all that descends from it (Ansible's workers have sessions of their own), and see it over.

    What was killed goes on for a moment on a busy machine, and what is measured next would have it beside it.
    """
    ends = []
    for each in _family(pid):
        with contextlib.suppress(ProcessLookupError):
            ends.append(os.pidfd_open(each))
            signal.pidfd_send_signal(ends[-1], signal.SIGKILL)
    for end in ends:
        select.select([end], [], [], LATE)
        os.close(end)


class _Memory:
    """The peak of what a program and its children have for themselves (PSS: shared pages count once)."""

    def __init__(self, pid: int) -> None:
        self.pid, self.peak, self.over = pid, 0.0, threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        while not self.over.wait(EVERY):
            self.peak = max(self.peak, sum(map(_megabytes, _family(self.pid))))

    def stop(self) -> float:
        self.over.set()
        self.thread.join()
        return self.peak


def _family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += parents.get(found[-1], [])
    return found


def _megabytes(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
