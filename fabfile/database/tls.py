"""MariaDB's key and certificate, made on its host; the certificate is on its card, and app hosts believe no other."""

from __future__ import annotations

from ..engine import Host, task
from ..engine.certified import certified
from .places import address, ours

PLACE = "/etc/mysql/tls"
KEY, CERTIFICATE = f"{PLACE}/gatehouse.key", f"{PLACE}/gatehouse.pem"
NAME = "database.pem"
"""What it is called on the card."""


@task
def certificate(c):
    """T5 VM4: a key and a certificate for MariaDB's own address, made here, before it opens a port.

    The tutorials let passwords and rows cross the network in the clear.  The certificate signs itself: an app host has
    it from this host's card and believes no other.  It holds ten years, and the last one is for renewing it.
    """
    host = Host.of(c)
    if not ours(host) or not address(host):
        return
    # MariaDB's own user, a moment before its package would make it: the key is its to read from the first start.
    host.user("mysql")
    host.directory(PLACE)
    certified(host, f"{PLACE}/gatehouse", NAME, address(host), "mysql")
