"""The cache: what sites keep in memory, sessions and objects, each site its own.  (T1 PHP-FPM; T5 VM3)

A host by itself keeps sessions alone, in Redis on a socket.  With a host of the role `cache` it is there, Redis or
memcached, for sessions and objects of every site, and all app hosts of a site share them.
"""

from __future__ import annotations

from .handing import forgotten
from .memcached import instances
from .reach import reach
from .redis import ROSTER, SECRETS, STORE, UNIT, keep, opens, server, sessions

STEPS = (server, instances, reach, sessions)
"""Each knows on which hosts there is anything to do for it."""

__all__ = (
    "ROSTER",
    "SECRETS",
    "STEPS",
    "STORE",
    "UNIT",
    "forgotten",
    "instances",
    "keep",
    "opens",
    "reach",
    "server",
    "sessions",
)
