"""HAProxy: the one door to the world, which ends TLS and knows every name by heart.  (T1, "HAProxy")

The tutorial's `appsession` and its matching of TLS session identifiers are left out: the first is gone since HAProxy
1.6, the second does nothing in HTTP mode. With one Varnish behind there is nobody to be sticky to; with several a
cookie of HAProxy's own does it, which comes with the first cookie that the site itself sets.
"""

from __future__ import annotations

from typing import Any

from ..engine import Host, task
from ..engine.render import render
from ..model import Cache, Refusal
from ..model.ways import BACKSTAGE
from .backends import ALL, APACHE, backend_of, backends, balanced, files_of, fronts, statics
from .door import (
    CIPHERS,
    CIPHERSUITES,
    CURVES,
    FORGEABLE,
    HEADERS,
    HOP_BY_HOP,
    MOST,
    PAGES,
    POST_QUANTUM,
    REFUSED_METHODS,
    RETURNED,
    SAFE,
    SUSPENDED,
    TALKATIVE,
    USUAL_BODY,
)
from .page import stats
from .ramp import shift
from .traffic import NOTHING, RECORD, drain, maintenance, ready, servers

UNIT = "/etc/systemd/system/haproxy.service.d/gatehouse.conf"
CONFIG = "/etc/haproxy/haproxy.cfg"
MAPS = tuple(f"/etc/haproxy/{name}.map" for name in ("hosts", "cache", "bypass", "bodies", "suspended"))
BACKENDS = "/etc/haproxy/backends.map"
SUSPENDED_MAP = "/etc/haproxy/suspended.map"
ERRORS = "/etc/haproxy/errors/"
NGINX = "/etc/nginx/conf.d/edge.conf"
"""nginx's configuration as the door, where it is that, or was."""
# A warning of today is a fault of tomorrow, so it is refused as well (management manual, -dW).
CHECK = f"haproxy -c -dW -f {CONFIG}"
# `active` says only that the master runs. After a reload that failed it says so at its socket, once it is through with
# the new configuration; half a second is for the signal to arrive.
READY = "sleep 0.5; echo 'show proc' | socat -T 5 - UNIX-CONNECT:/run/haproxy-master.sock | grep -q 'failed: 0'"

# What HAProxy's parser says by itself, in both releases (mux_h1.c); it never gets as far as a rule. And 408: after an
# answer HAProxy 3.0 reads the rest of a body that dribbles for as long as it comes; without one it closes.
UNSAID = (400, 408, 413, 422, 500, 501)


@task
def install(c):
    """T1 HAProxy: install it, with its sandbox first; socat is how we and the operator speak to its sockets."""
    host = Host.of(c)
    host.template(UNIT)
    host.packages("haproxy", "socat")


@task
def hosts(c):
    """T1 HAProxy: every name of every site, and what Varnish shall do with its pages; no other name is answered."""
    host = Host.of(c)
    for path in MAPS:
        host.template(path, sites=host.fronted, fronts=fronts(host), normal=Cache(), usual=USUAL_BODY)
    if balanced(host):
        led = {site: backend_of(host.fleet, site) for site in host.fronted}
        lines = [f"{site} {backend}\n" for site, backend in led.items() if backend != ALL]
        host.file(BACKENDS, "".join([*lines, *(f"{front} {APACHE}\n" for front in fronts(host))]))


@task(
    help={
        "requests": "requests in 10 seconds that one client may send before it is answered 429",
        "connections": "new connections in 10 seconds that one client may open before they are closed",
        "concurrent": "connections that one client may hold open at once; for uploads it is a tenth",
        "maxconn": "connections of all clients together; without it, 2 for each megabyte of memory",
    },
    within=dict.fromkeys(("requests", "connections", "concurrent", "maxconn"), (1, 1_000_000)),
)
def configure(c, requests=5000, connections=3000, concurrent=500, maxconn=0):
    """T1 HAProxy: both frontends, the way to lego and the way to Varnish.

    Against the tutorial: plain HTTP only redirects, unknown names are refused, what a client says about itself in
    X-Forwarded-* is forgotten, and TLS is Mozilla's guideline 6.0. The limits a client are wide: an office behind one
    address does not meet them, a flood does. One client is one IPv4 address or one IPv6 /64.
    """
    limits = {"requests": requests, "connections": connections, "concurrent": concurrent}
    for name, limit in {**limits, "maxconn": maxconn or 1}.items():
        if not 1 <= limit <= 1_000_000:
            raise Refusal(f"--{name} {limit}: must be a whole number from 1 to 1000000")
    host = Host.of(c)
    modern = host.facts.release != "12"
    for code, (reason, advice) in PAGES.items():
        page: dict[str, Any] = {"code": code, "reason": reason, "advice": advice, "headers": HEADERS.get(code, {})}
        host.template(ERRORS + "{code}.http", check=CHECK, **page)
    for code, (reason, advice) in RETURNED.items():
        host.template(ERRORS + "{code}.html", check=CHECK, code=code, reason=reason, advice=advice)
    if balanced(host) and RECORD not in host.facts.files:
        host.file(RECORD, NOTHING)
    host.file(ERRORS + "suspended.html", render(ERRORS + "page", SUSPENDED), check=CHECK)
    host.template(
        CONFIG,
        check=CHECK,
        **limits,
        maxconn=maxconn or min(max(2 * host.facts.memory_mb, 1000), 8000),
        patience=patience(host) + 10,
        operators=[str(network) for network in host.fleet.operators],
        ciphers=CIPHERS,
        ciphersuites=CIPHERSUITES,
        curves=(POST_QUANTUM, *CURVES) if modern else CURVES,
        server_curves=modern,
        codes=tuple(PAGES),
        unsaid=UNSAID,
        most=MOST,
        bodies=max(concurrent // 10, 1),
        usual=USUAL_BODY,
        refused_methods=REFUSED_METHODS,
        forgeable=(*FORGEABLE, *HOP_BY_HOP),
        talkative=TALKATIVE,
        safe=SAFE,
        backends=backends(host),
        balanced=balanced(host),
        statics=statics(host),
        files_of=files_of,
        endings=[f".{ending}" for ending in host.fleet.static.endings],
        record=RECORD,
        apache=f"127.0.0.1:{BACKSTAGE}" if fronts(host) else "",
    )


@task
def start(c):
    """T1 HAProxy: run it now and at every boot; a reload hands over the listening sockets and loses no request.

    Certificates are no reason for one: gatehouse-renew loads those itself, and compares what is served with the disk.
    """
    host = Host.of(c)
    if NGINX in host.facts.files:  # it was the door, and holds the ports
        host.absent(NGINX)
        files_too = "static" in host.fleet.roles(host.name) and host.fleet.static.server == "nginx"
        host.run("nginx makes room", f"systemctl {'restart' if files_too else 'disable --now'} nginx")
    host.service("haproxy", restart_on=[UNIT], reload_on=[CONFIG, *MAPS, BACKENDS, ERRORS], ready=READY)


def patience(host: Host) -> int:
    """Seconds that an answer may take: those of the most patient site's PHP and a few to spare, at least a minute.

    A balancer's Apache beside it may wait for two members of a route, one after the other.
    """
    pages = [site.php.timeout + 10 for site in host.fronted if site.php]
    return max([60, *pages, *(2 * route.timeout + 10 for front in fronts(host) for route in front.routes.values())])


STEPS = (install, hosts, configure, start)

__all__ = [
    "STEPS", "configure", "drain", "hosts", "install", "maintenance", "ready", "servers", "shift", "start", "stats",
]  # fmt: skip
