"""The gateways before a host, as OpenSSH goes through them: ssh_config(5), ProxyJump.

Fabric takes `none` for a host (fabric/fabric#2354), visits several hops in the wrong order (#1935), and calls itself
without end where a `Host *` names a gateway under an alias (#2189).  So it asks here.
"""

from __future__ import annotations

from contextvars import ContextVar

from fabric import Connection

_led: ContextVar[tuple[str, ...]] = ContextVar("_led", default=())
"""To whom the gateways lead that are being looked for."""


def gateway(c: Connection) -> Connection | str | None:
    """What the connection goes through: the last gateway, which knows those before it; or a ProxyCommand's words.

    The first hop goes as its own ssh_config says, and a gateway never through itself: it is reached directly.
    """
    jumps = c.ssh_config.get("proxyjump", "")
    if jumps.lower() == "none":
        return None
    if not jumps:
        return c.ssh_config.get("proxycommand") or c.config.gateway
    before: Connection | None = None
    for jump in jumps.split(","):
        hop = jump.strip().removeprefix("ssh://")
        name = c.derive_shorthand(hop)["host"]
        if name in (c.original_host, c.host, *_led.get()):
            return before
        token = _led.set((*_led.get(), c.original_host))
        try:
            before = Connection(hop, config=c.config.clone(), gateway=before)
        finally:
            _led.reset(token)
    return before


Connection.get_gateway = gateway
