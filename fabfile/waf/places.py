"""Where things are on a balancer."""

from __future__ import annotations

ROOT = "/etc/apache2"
CONF = f"{ROOT}/conf-available"
SERVER_USER = "web_daemon"
"""Apache's own user on a balancer (T3 "User web_daemon")."""

LOGS = "/var/log/gatehouse-waf"
AUDIT = f"{LOGS}/audit.json"
TRIED = f"{LOGS}/trying.json"
ROOM = "/var/cache/gatehouse-waf"
"""What mod_security and mod_evasive write while they work."""

FOR_NOW = "/run/gatehouse-waf"
"""What `waf.detect-only` puts there holds until its timer, or a reboot."""

TRYING, SINK = 8403, 8404
"""On the loopback: where `waf.test` sends a request, and what stands there in a backend's place."""

RELOADED = tuple(
    f"{ROOT}/{kind}/"
    for kind in ("conf-available", "conf-enabled", "mods-enabled", "sites-available", "sites-enabled", "balancer.d")
)
"""What a balancer's Apache is reloaded for.  Not all of /etc/apache2: certificates, and what an operator set, are
loaded by those who put them there."""
