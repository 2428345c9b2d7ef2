"""`inv fleet.*`: what is done to all hosts of fleet.yml, or asked of them, at once."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

from invoke import Collection, task

from ..engine.pool import told
from ..engine.tasks import Step
from ..status import fleet as status
from . import bootstrap, command, matrix, replace

Within = Mapping[str, tuple[int, int]]


def inv_tasks() -> Collection:
    """The namespace for tasks.py."""
    return Collection(
        "fleet",
        _task(bootstrap.bootstrap, bootstrap.HELP, bootstrap.WITHIN),
        _task(bootstrap.check, bootstrap.HELP, bootstrap.WITHIN),
        _task(command.run, command.HELP),
        _task(replace.replace, replace.HELP, replace.WITHIN),
        _task(status.status, status.HELP),
        _task(matrix.matrix, matrix.HELP),
    )


def _task(body: Callable[..., None], says: Mapping[str, str], within: Within = types.MappingProxyType({})) -> Any:
    made = task(klass=Step, help=says)(told(body))
    made.within = {**within}  # Invoke copies tasks
    return made
