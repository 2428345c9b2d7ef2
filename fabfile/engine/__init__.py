"""The engine: mechanism only, no service by name.  Chapters need these names."""

from . import startup  # noqa: F401  (first: what follows makes the most of it)
from .facts import Facts, Unit, User
from .host import Host
from .problems import Guarded, Problem, StepFailed
from .report import as_data, console
from .tasks import chapter, flow, query, steps, task

__all__ = [
    "Facts",
    "Guarded",
    "Host",
    "Problem",
    "StepFailed",
    "Unit",
    "User",
    "as_data",
    "chapter",
    "console",
    "flow",
    "query",
    "steps",
    "task",
]
