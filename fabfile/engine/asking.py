"""A last question before what cannot be taken back easily."""

from __future__ import annotations

import sys

from .problems import Guarded


def agreed(question: str, yes: bool, how: str) -> None:
    """Return when the operator said `--yes`, or says it now.

    Raises Guarded when the operator says no, and, with `how` to say it, when nobody is there to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Guarded(question, how)
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise Guarded("nothing was done", how)
