"""Ctrl-C, once and twice."""

from __future__ import annotations

import signal
import threading

import pytest

from fabfile.engine.stop import stoppable


def test_the_first_one_asks_and_the_second_one_interrupts(capfd: pytest.CaptureFixture[str]) -> None:
    asked: list[int] = []
    former = signal.getsignal(signal.SIGINT)

    def interrupted_twice() -> None:
        with stoppable(lambda: asked.append(1) or "it finishes this first"):  # type: ignore[func-returns-value]
            signal.raise_signal(signal.SIGINT)
            assert [1] == asked
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()

    assert [1] == asked
    assert "it finishes this first" in capfd.readouterr().err
    assert former == signal.getsignal(signal.SIGINT)


def test_in_another_thread_there_is_nothing_to_interrupt() -> None:
    done: list[int] = []

    def work() -> None:
        with stoppable(lambda: ""):
            done.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert [1] == done
