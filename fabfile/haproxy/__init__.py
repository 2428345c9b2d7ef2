"""HAProxy: the one door to the world, which ends TLS and knows every name by heart.  (T1, "HAProxy")

The tutorial's `appsession` and its matching of TLS session identifiers are left out: the first is gone since HAProxy
1.6, the second does nothing in HTTP mode. With one Varnish behind there is nobody to be sticky to; with several a
cookie of HAProxy's own does it, which comes with the first cookie that the site itself sets.
"""

from __future__ import annotations

from typing import Any

from ..engine import Host, task
from ..engine.render import render
from ..model import Cache, Refusal, Site
from .backends import ALL, backend_of, backends, balanced, files_of, statics
from .page import stats
from .ramp import shift
from .traffic import NOTHING, RECORD, drain, maintenance, ready, servers

UNIT = "/etc/systemd/system/haproxy.service.d/gatehouse.conf"
CONFIG = "/etc/haproxy/haproxy.cfg"
MAPS = tuple(f"/etc/haproxy/{name}.map" for name in ("hosts", "cache", "bypass", "bodies", "suspended"))
BACKENDS = "/etc/haproxy/backends.map"
SUSPENDED_MAP = "/etc/haproxy/suspended.map"
ERRORS = "/etc/haproxy/errors/"
# A warning of today is a fault of tomorrow, so it is refused as well (management manual, -dW).
CHECK = f"haproxy -c -dW -f {CONFIG}"
# `active` says only that the master runs. After a reload that failed it says so at its socket, once it is through with
# the new configuration; half a second is for the signal to arrive.
READY = "sleep 0.5; echo 'show proc' | socat -T 5 - UNIX-CONNECT:/run/haproxy-master.sock | grep -q 'failed: 0'"

# Mozilla Server Side TLS 6.0, "intermediate": no DHE, no CBC, the client's order.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
CIPHERSUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
CURVES = ("X25519", "prime256v1", "secp384r1")
# The hybrid group wants OpenSSL 3.5, the keyword for curves towards servers HAProxy 3.0: Debian 13 has both.
POST_QUANTUM = "X25519MLKEM768"

# What a request may look like: bytes of its URL (RFC 9110, 4.1, wants 8000), bytes and number of its headers; and bytes
# of all when its body comes without a length, well below the 15360 that HAProxy's buffer takes.
MOST = {"url": 8000, "head": 12000, "headers": 80, "unmeasured": 10_000, "buffered": 8000}
USUAL_BODY = Site(domain="example.com").body_limit

# What HAProxy says itself, and what it means to a visitor.
PAGES = {
    400: ("Bad Request", "The request could not be understood."),
    403: ("Forbidden", "This request is not allowed."),
    405: ("Method Not Allowed", "This kind of request is not served here."),
    408: ("Request Timeout", "The request took too long to arrive."),
    413: ("Content Too Large", "What you sent is larger than this site takes."),
    429: ("Too Many Requests", "Too many requests came from your address. Please wait a moment."),
    500: ("Internal Server Error", "Something went wrong here. Please try again later."),
    501: ("Not Implemented", "This kind of request is not served here."),
    502: ("Bad Gateway", "The site gave no valid answer. Please try again in a moment."),
    503: ("Service Unavailable", "The site cannot be reached at the moment. Please try again in a moment."),
    504: ("Gateway Timeout", "The site took too long to answer. Please try again in a moment."),
}
HEADERS = {
    405: {"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"},
    429: {"Retry-After": "10"},
    503: {"Retry-After": "10"},
}
# The same, for codes of which HAProxy 2.6 has no page.
RETURNED = {
    411: ("Length Required", "What you sent is too large to come without its length."),
    414: ("URI Too Long", "The address that you asked for is too long."),
    421: ("Misdirected Request", "This server does not serve the name that you asked for."),
    431: ("Request Header Fields Too Large", "Your browser sent too much. Deleting this site's cookies may help."),
}
SUSPENDED = {"code": 503, "reason": "Down for maintenance", "advice": "This site is being worked on. Please come back."}
# What HAProxy's parser says by itself, in both releases (mux_h1.c); it never gets as far as a rule. And 408: after an
# answer HAProxy 3.0 reads the rest of a body that dribbles for as long as it comes; without one it closes.
UNSAID = (400, 408, 413, 422, 500, 501)
# Methods that ask for a tunnel, an echo, or a look into the cache.
REFUSED_METHODS = ("CONNECT", "TRACE", "TRACK", "PURGE", "BAN", "REFRESH", "PRI")
# Where somebody could claim another address, host, protocol or path than it has; X-Forwarded-* goes as a family.
FORGEABLE = (
    "CF-Connecting-IP",
    "CF-Connecting-IPv6",
    "Client-IP",
    "Fastly-Client-IP",
    "Forwarded",
    "Forwarded-For",
    "Front-End-Https",
    "HTTP2-Settings",
    "Proxy",
    "Surrogate-Capability",
    "True-Client-IP",
    "Upgrade",
    "Via",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Host",
    "X-Original-Host",
    "X-Original-URL",
    "X-Originating-IP",
    "X-ProxyUser-IP",
    "X-Real-IP",
    "X-Remote-Addr",
    "X-Remote-IP",
    "X-Rewrite-URL",
    "X-Scheme",
    "X-Site-Cache",
    "X-Url-Scheme",
)
# What is between the client and us (RFC 9110, 7.6.1). Connection could name headers that the next server would drop.
HOP_BY_HOP = ("Connection", "Keep-Alive", "Proxy-Connection", "TE")
# What tells strangers which programs to look up (OWASP Secure Headers Project, "headers to remove").
TALKATIVE = ("Server", "Via", "X-Varnish", "X-Powered-By", "X-Generator", "X-Redirect-By")
# OWASP's set as far as it breaks no ordinary site; a site that sets its own keeps it.
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Permitted-Cross-Domain-Policies": "none",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Content-Security-Policy": "frame-ancestors 'self'",
}


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
        host.template(path, sites=host.fronted, normal=Cache(), usual=USUAL_BODY)
    if balanced(host):
        led = {site: backend_of(host.fleet, site) for site in host.fronted}
        host.file(BACKENDS, "".join(f"{site} {backend}\n" for site, backend in led.items() if backend != ALL))


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
    )


@task
def start(c):
    """T1 HAProxy: run it now and at every boot; a reload hands over the listening sockets and loses no request.

    Certificates are no reason for one: gatehouse-renew loads those itself, and compares what is served with the disk.
    """
    Host.of(c).service("haproxy", restart_on=[UNIT], reload_on=[CONFIG, *MAPS, BACKENDS, ERRORS], ready=READY)


def patience(host: Host) -> int:
    """Seconds that an answer may take: those of the most patient site's PHP and a few to spare, at least a minute."""
    return max([60, *(site.php.timeout + 10 for site in host.fronted if site.php)])


STEPS = (install, hosts, configure, start)

__all__ = [
    "STEPS", "configure", "drain", "hosts", "install", "maintenance", "ready", "servers", "shift", "start", "stats",
]  # fmt: skip
