"""A terminal of its own for `fab` or `inv`, at which Ctrl-C can be typed."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path

from ..machine import CHECKOUT, Machine


class Terminal:
    """`fab -H MACHINE ...` at a terminal, or `inv ...` without a machine; all that it shows is in `shown`."""

    def __init__(self, machine: Machine | None, *args: str) -> None:
        self.keyboard, screen = pty.openpty()
        tool = Path(sys.executable).parent / ("fab" if machine else "inv")
        host = ("-S", str(machine.directory / "ssh_config"), "-H", machine.name) if machine else ()
        self.program = subprocess.Popen(
            ["setsid", "--ctty", str(tool), *host, *args],
            cwd=CHECKOUT, stdin=screen, stdout=screen, stderr=screen,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
        )  # fmt: skip
        os.close(screen)
        self.shown = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other side is gone
            while some := os.read(self.keyboard, 4096):
                self.shown += some.decode(errors="replace")

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Return when the program has shown this text."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} was not shown:\n{self.shown}"
            time.sleep(0.05)

    def interrupt(self) -> None:
        """Type Ctrl-C."""
        os.write(self.keyboard, b"\x03")

    def end(self, seconds: float = 60) -> int:
        """Wait for the program's end: its exit code."""
        try:
            return self.program.wait(seconds)
        finally:
            self.program.kill()
            self._reader.join(10)
            os.close(self.keyboard)
