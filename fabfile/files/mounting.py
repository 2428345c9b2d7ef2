"""A host that sees the files host's tree over NFS: mounted when somebody looks at it.  (T5 VM1, VM2)"""

from __future__ import annotations

from ..engine import Guarded, Host, task
from .serving import UNITS, keeper, version_4_alone

MOUNT = f"{UNITS}/srv-sites.mount"
AUTOMOUNT = f"{UNITS}/srv-sites.automount"

READY = "ls /srv/sites > /dev/null && findmnt --noheadings --types nfs4 /srv/sites"
"""The first look mounts it."""


@task
def mount(c):
    """T5 VM1, VM2: the files host's /var/www at /srv/sites, where no program runs, no setuid and no device counts.

    T5 writes a line into /etc/fstab and mounts by hand. Here it is mounted at the first look at it, so neither side
    has to start before the other; a files host that is dead makes an error within seconds, not a process that waits for
    ever; and a static host cannot write.
    """
    host = Host.of(c)
    if host.fleet.keeps_files(host.name) or host.fleet.files.mount != "nfs":
        return
    if host.facts.container:
        raise Guarded(
            f"{host.name} is a container, and NFS cannot be mounted there",
            "in fleet.yml: files: {mount: sync}, where each host has a tree that follows the files host's",
        )
    version_4_alone(host)
    host.packages("nfs-common")
    _, where = keeper(host)
    host.template(MOUNT, keeper=where, writes=host.fleet.machine(host.name).serves)
    host.template(AUTOMOUNT)
    host.service("srv-sites.automount", restart_on=[MOUNT, AUTOMOUNT], ready=READY)
