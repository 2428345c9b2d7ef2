"""Runtimes: what runs a site's code beside PHP-FPM, each as the site's own user.  (T4)

What listens or is started comes first (STEPS), then Apache's vhosts lead there, and what a site had before goes last
(STEPS_AFTER): so that a site changes its runtime while visitors come.
"""

from __future__ import annotations

from ..engine import Host
from .cgi import programs
from .daemons import daemons
from .fcgid import fcgid, former
from .fcgid import forget as forget_wrappers
from .heavy import heavy
from .itk import itk, overdue
from .units import end, ended, units

STEPS = (fcgid, programs, daemons, itk, units)
STEPS_AFTER = (former, ended, overdue, heavy)


def forget(host: Host, owner: str) -> None:
    """Of a site that is removed, what runs its code ends, and all that was made for it goes."""
    end(host, owner)
    forget_wrappers(host, owner)


__all__ = [
    "STEPS", "STEPS_AFTER", "daemons", "ended", "fcgid", "forget", "former", "heavy", "itk", "overdue", "programs",
    "units",
]  # fmt: skip
