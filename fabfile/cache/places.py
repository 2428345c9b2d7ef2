"""Where things of the cache are, and which host does what for it."""

from __future__ import annotations

from ..credentials import SECRETS
from ..engine import Host
from ..model import Machine, Site

INCLUDES = f"{SECRETS}/php"
"""A file a site that its FPM pool includes: where its sessions are."""

PASSWORDS = f"{SECRETS}/cache"
"""A password a site for the cache of another host (see credentials.py)."""

CERTIFICATE = "cache.pem"
"""The certificate of the cache host, on its card."""


def keeper(host: Host) -> Machine | None:
    """The cache host of this host's fleet; None: each host keeps its own sessions."""
    return host.fleet.one("cache")


def keeps(host: Host, server: str) -> bool:
    """Whether this is the cache host, with this server."""
    one = keeper(host)
    return one is not None and one.name == host.name and host.fleet.cache.server == server


def served(host: Host) -> tuple[Site, ...]:
    """The sites with PHP: those that have anything to keep."""
    return tuple(site for site in host.sites if site.php)


def include(owner: str) -> str:
    """What a site's pool includes."""
    return f"{INCLUDES}/{owner}.conf"
