"""A last question before what cannot be taken back easily."""

from __future__ import annotations

import sys
from collections.abc import Collection

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


def confirmed(what: str, words: Collection[str]) -> None:
    """Return when the operator types one of the words, such as a site's domain.

    Raises Guarded when it is another, or when nobody is there to ask.
    """
    if not sys.stdin.isatty():
        raise Guarded(what, "if that is what you want, type the same again with --yes")
    if input(f"{what}\nType the domain to go on: ").strip() not in words:
        raise Guarded("nothing was touched", "")
