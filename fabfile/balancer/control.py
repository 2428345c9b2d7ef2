"""Apache's start, stop and graceful reload, each after a look at its configuration.  (T3 "Running the server")"""

from __future__ import annotations

from ..engine import Host, task
from .pools import front

TESTED = "apache2ctl -t\n"


@task
def stop(c):
    """T3 Running the server: stop it, once the requests under way have ended, after 30 seconds at most.

    Visitors find nobody until balancer.start; bootstrap starts it as well.
    """
    host = Host.of(c)
    front(host)
    host.run("stop Apache", TESTED + "systemctl stop apache2")


@task
def graceful(c):
    """T3 Running the server: read the configuration anew; no request is lost, and what was drained stays so.

    What Apache would not take is refused before, and the former one goes on.
    """
    host = Host.of(c)
    front(host)
    host.run("reload Apache", TESTED + "systemctl reload apache2")
