"""What PHP of a site is handed to keep its sessions: where they are, a handler that asks there, and that it is used.

Redis's own handler for PHP is told its password in `session.save_path`, which PHP writes into the site's log whenever
the server is away.  This one reads it from a file, waits half a second at most, and lets the page go on.
"""

from __future__ import annotations

from ..credentials import HANDED
from ..engine import Host, render
from ..model import Site
from .places import CERTIFICATE, include

TIMEOUT = 0.5
"""Seconds that a page waits for the store, once; without an answer it goes on without a session."""

POOL = include("{owner}")
INI, PASSWORD, HANDLER = (f"{HANDED}/{{owner}}/{name}" for name in ("cache.ini", "sessions.password", "sessions.php"))
"""Of the cache host, for handler and code; for the store of the host itself the password alone; the handler."""


def place(owner: str) -> str:
    """The site's directory."""
    return f"{HANDED}/{owner}"


def certificate(owner: str) -> str:
    """The cache host's own, for this site's PHP."""
    return f"{place(owner)}/{CERTIFICATE}"


def forgotten(owner: str) -> tuple[str, ...]:
    """What goes with a site that is removed."""
    return (*(path.format(owner=owner) for path in (INI, PASSWORD, HANDLER)), certificate(owner))


def handed(host: Host, site: Site, server: str, socket: str = "", ca: str = "") -> None:
    """Its handler, and what its pool includes; without a `socket` its file INI says where the store is."""
    owner = site.owner
    paths = {name: path.format(owner=owner) for name, path in (("ini", INI), ("key", PASSWORD), ("handler", HANDLER))}
    values = {"site": site, "server": server, "socket": socket, "timeout": TIMEOUT, "ca": ca, **paths}
    host.file(paths["handler"], render.render(HANDLER, values), mode=0o640, group=owner)
    host.file(include(owner), render.render(POOL, values), mode=0o600)
