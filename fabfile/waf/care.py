"""What an operator asks of the guard, and does to it.  Apart from its steps: a host that makes itself needs none of it."""

from __future__ import annotations

from .detecting import detect_only, enforce
from .reporting import report
from .trying import test

TASKS = (detect_only, enforce, report, test)
