"""Sites' code apart from what serves all sites: a share of the processor of its own.  (T4; systemd.slice(5))"""

from __future__ import annotations

from ..engine import Host, task
from ..model import SUEXEC
from . import slices

PROGRAM = "/usr/local/sbin/gatehouse-programs"
SERVICE = f"{slices.PLACE}/gatehouse-programs.service"
PATH = f"{slices.PLACE}/gatehouse-programs.path"


@task
def daemons(c):
    """T4 mod_fcgid, T4 suEXEC: Apache's daemons that start sites' programs leave Apache's share of the processor.

    They are children of Apache's, and so would be all that they start: a site that takes the processor would take it
    from Apache and whatever else serves all sites. Whenever Apache has new ones, they move to the slice where PHP-FPM
    and sites' own programs are.
    """
    host = Host.of(c)
    if any(site.has(*SUEXEC) for site in host.sites):
        host.packages("dbus", "procps", held=True)
        # When memory runs out a program goes, not all of them: systemd 252 does so with any scope, and knows no other.
        host.template(PROGRAM, mode=0o755, oom_policy=host.facts.release != "12")
        host.template(SERVICE)
        host.template(PATH)
        host.service("gatehouse-programs.path", restart_on=[PATH, SERVICE, PROGRAM])
    else:
        slices.unwatched(host, "nobody watches for Apache's daemons", PATH, SERVICE, PROGRAM)
