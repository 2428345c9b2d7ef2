"""The runbook's table of contents: what `fab --list` shows."""

from __future__ import annotations

from invoke import Collection

from . import firewall, flows, system
from .engine import chapter

ns = Collection(
    flows.bootstrap,
    flows.check,
    flows.trust,
    *(chapter(module) for module in (system, firewall)),
)
