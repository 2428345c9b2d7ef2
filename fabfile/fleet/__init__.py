"""`inv fleet.*`: what is done to all hosts of fleet.yml, or asked of them, at once."""

from __future__ import annotations

from invoke import Collection, task

from ..engine.pool import told
from ..status import fleet as status


def inv_tasks() -> Collection:
    """The namespace for tasks.py."""
    return Collection(
        "fleet",
        task(help=status.HELP)(told(status.status)),
    )
