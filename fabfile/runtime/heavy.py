"""Pools that take much of the processor apart from those that do not.  (T1 PHP-FPM; T4, FastCGI "external")"""

from __future__ import annotations

from .. import php
from ..engine import Host, task
from . import slices

PROGRAM = "/usr/local/sbin/gatehouse-heavy"
SERVICE = f"{slices.PLACE}/gatehouse-heavy.service"


@task
def heavy(c):
    """T1 PHP-FPM: a site whose PHP takes more than half of a processor leaves the other pools' share of it.

    All workers are PHP-FPM's, and share its processor as processes do: a site with five busy ones would have five
    shares. After the pools, with whose master it ends.
    """
    host = Host.of(c)
    if any(site.has("fpm") for site in host.sites):
        host.packages("dbus", held=True)
        host.template(PROGRAM, mode=0o755, php=php.version(host))
        host.template(SERVICE, php=php.version(host))
        host.service("gatehouse-heavy", restart_on=[SERVICE, PROGRAM])
    else:
        slices.unwatched(host, "nobody looks for pools that take much", SERVICE, PROGRAM)
