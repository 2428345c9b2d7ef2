"""What an operator asks of the guard, and does to it: apart from the steps, which a host may run by itself."""

from __future__ import annotations

from .detecting import detect_only, enforce
from .reporting import report
from .trying import test

TASKS = (detect_only, enforce, report, test)
