"""HAProxy's own page of statistics, in the operator's browser."""

from __future__ import annotations

from ..engine import Host, Problem, console, query
from ..engine.tunnel import Tunnel
from .traffic import fronts

PAGE = "/run/haproxy/page.sock"


@query(help={"port": "of this machine; without it, a free one"}, within={"port": (0, 65535)})
def stats(c, port=0):
    """On call: HAProxy's own page of statistics, at an address of this machine until Ctrl-C; it can only be looked at.

    It comes over the SSH connection that tasks use, from a socket for root alone: nothing listens on the host's
    network, and sshd need not allow forwarding.
    """
    host = Host.of(c)
    fronts(host)
    if host.ask('[ ! -S "$1" ] || echo yes', PAGE) != "yes\n":
        raise Problem(f"HAProxy on {host.name} shows no page", f"fab -H {host.name} haproxy")
    with Tunnel(host.visit.connection, PAGE, port) as tunnel:
        console.print(f"{host.name}  http://127.0.0.1:{tunnel.port}/  (Ctrl-C ends it)")
        tunnel.serve()
