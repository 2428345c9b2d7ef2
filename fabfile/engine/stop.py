"""Ctrl-C: the first one lets the host finish the operation that it is at, the second one leaves it to that alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stoppable(stop: Callable[[], str]) -> Iterator[None]:
    """The first Ctrl-C calls `stop`, which returns what to tell; the second one raises KeyboardInterrupt, as ever.

    Only the main thread can be interrupted: elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def interrupted(_number: int, _frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        # Straight to the terminal: this may come in the middle of any other output.
        os.write(2, f"\n{stop()}\n".encode())

    former = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
