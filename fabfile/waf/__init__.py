"""The balancer's guard: limits, floods, the web application firewall, and what is said to whom is refused.  (T3)

mod_security, mod_evasive and the OWASP core rule set are Debian's.  Where HAProxy stands before Apache on the same
host, it counts every client for all, and mod_evasive, of which each process counts for itself, is not needed.
"""

from __future__ import annotations

from typing import Any

from ..engine import Host, task
from ..model import Balancer
from .guarding import DECIDING, HASTY, TOLD, exclusions, filters, guarded, ways, whitelist
from .pages import pages
from .places import AUDIT, CONF, LOGS, RELOADED, ROOM, ROOT, SERVER_USER, SINK, TRIED, TRYING

CHECK = "apache2ctl -t"
ROTATED = "/etc/logrotate.d/gatehouse-waf"
SWEPT = "/etc/tmpfiles.d/gatehouse-waf.conf"
METHODS = "GET HEAD POST OPTIONS PUT PATCH DELETE"
"""What the door lets through; the core rule set's own list has no PUT, PATCH and DELETE, which every API has."""

MODULES = ("unique_id", "headers", "security2")
DEBIANS = ("security2", "evasive")
"""Debian's own settings of these are not taken: ours are beside them."""


@task
def install(c):
    """T3 "Building the binaries": mod_security, mod_evasive and the core rule set from Debian, not from source."""
    host = Host.of(c)
    guarded(host)
    host.packages("libapache2-mod-security2", "modsecurity-crs", "libapache2-mod-evasive", "logrotate")
    host.template(ROTATED, logs=LOGS)
    host.template(SWEPT, room=ROOM, logs=LOGS, user=SERVER_USER)
    host.run("make the guard's own places", 'systemd-tmpfiles --create "$1"', SWEPT, name="waf-places", on=[SWEPT])


@task
def configure(c):
    """T3 limits, mod_rewrite filter, mod_evasive, mod_security, mod_expires, custom error responses.

    T3's LimitRequestBody counts nothing of what Apache passes on, and its RewriteRule, outside the vhost, filters
    nothing: mod_security does both here, for each route its own.  T3's ExpiresDefault would let caches keep private
    pages.  T3's two requests a second for a page refuse whoever clicks twice.
    """
    host = Host.of(c)
    balancer = guarded(host)
    braked = balancer.evasive.enabled and "edge" not in host.fleet.roles(host.name)
    for name in (*MODULES, *(("evasive",) if braked else ())):
        host.link(f"{ROOT}/mods-enabled/{name}.load", f"../mods-available/{name}.load", check=CHECK)
    host.absent(*(f"{ROOT}/mods-enabled/{name}.conf" for name in DEBIANS), check=CHECK)
    values: dict[str, Any] = {
        "limits": balancer.limits,
        "widest": balancer.widest,
        "told": TOLD if "edge" in host.fleet.roles(host.name) else 0,
        "ways": ways(balancer),
        "filters": filters(balancer),
        "waf": balancer.waf,
        "exclusions": exclusions(balancer),
        "deciding": DECIDING,
        "hasty": HASTY,
        "methods": METHODS,
        "name": balancer.server_name,
        "room": ROOM,
        "audit": AUDIT,
        "pages": pages(balancer.messages),
        "expires": balancer.expires,
    }
    for name in ("detect", "errors", "limits", "waf"):
        host.template(f"{CONF}/gatehouse-{name}.conf", check=CHECK, **values)
    wanted = ["errors", "limits", "waf"]
    if braked:
        _brake(host, balancer)
        wanted.append("evasive")
    else:
        host.absent(f"{ROOT}/conf-enabled/gatehouse-evasive.conf", f"{ROOT}/mods-enabled/evasive.load", check=CHECK)
    for name in wanted:
        host.link(f"{ROOT}/conf-enabled/gatehouse-{name}.conf", f"../conf-available/gatehouse-{name}.conf", check=CHECK)
    host.template(f"{ROOT}/sites-available/gatehouse-trying.conf", check=CHECK, tried=TRIED, trying=TRYING, sink=SINK)
    host.link(f"{ROOT}/sites-enabled/gatehouse-trying.conf", "../sites-available/gatehouse-trying.conf", check=CHECK)


def _brake(host: Host, balancer: Balancer) -> None:
    release = host.facts.release
    networks = ["127.0.0.0/8", "::1", *host.operators, *map(str, balancer.evasive.whitelist)]
    known, unknown = whitelist(networks, release)
    if unknown:
        host.note(f"Debian 12's mod_evasive knows single IPv6 addresses alone; it may refuse {', '.join(unknown)}")
    path = f"{CONF}/gatehouse-evasive.conf"
    host.template(path, check=CHECK, release=release, evasive=balancer.evasive, whitelist=known, log=f"{ROOM}/evasive")


@task
def start(c):
    """T3 "Running the server": Apache takes it by a graceful reload, which loses no request."""
    Host.of(c).service("apache2", reload_on=RELOADED)


STEPS = (install, configure, start)
