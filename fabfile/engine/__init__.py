"""The engine: mechanism only, no service by name.  Chapters need these names."""

from .host import Host
from .problems import Guarded, Problem, StepFailed
from .report import console
from .tasks import chapter, flow, query, steps, task

__all__ = ["Guarded", "Host", "Problem", "StepFailed", "chapter", "console", "flow", "query", "steps", "task"]
