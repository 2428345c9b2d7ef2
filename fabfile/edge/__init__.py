"""nginx as the door to the world, in HAProxy's place (`edge: {server: nginx}`).  (T5, VM0)

The same door: TLS, names, limits and pages are those of HAProxy's chapter (`haproxy/door.py`).  What nginx of Debian
cannot do is not pretended: nobody is drained or shifted, and it asks no server how it is; one that fails is left alone
for some seconds, and the request goes on to the next.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import unquote

from ..engine import Host, Unit, task
from ..engine.render import render
from ..haproxy.backends import ALL, backend_of, backends, balanced, statics
from ..haproxy.door import (
    CIPHERS,
    CIPHERSUITES,
    CURVES,
    FORGEABLE,
    MOST,
    PAGES,
    POST_QUANTUM,
    REFUSED_METHODS,
    RETURNED,
    SAFE,
    SUSPENDED,
    TALKATIVE,
)
from ..model import Cache, Site
from ..model.ways import pages

UNIT = "/etc/systemd/system/nginx.service.d/gatehouse.conf"
MAIN = "/etc/nginx/nginx.conf"
CONFIG = "/etc/nginx/conf.d/edge.conf"
FILES = "/etc/nginx/conf.d/static.conf"
"""What a static host's nginx serves; this host may have been one."""
SITES = "/etc/nginx/edge.sites"
ANSWER = "/etc/nginx/edge.answer"
ONWARD = "/etc/nginx/edge.onward"
MAPS = tuple(f"/etc/nginx/edge.{name}.map" for name in ("hosts", "cache", "bypass", "pools", "suspended"))
ERRORS = "/etc/nginx/errors/"
CHECK = "nginx -t -q"

SHELF = "/etc/haproxy/certs"
SHOWN = "/etc/nginx/certs"
"""A link a site: to its certificate, or to the default one until it has one.  gatehouse-renew keeps them right."""

READY = """bash -c 'exec 3<> /dev/tcp/127.0.0.1/80; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3
read -r _ status _ <&3; [ "$status" = 421 ]' 2> /dev/null"""

# X-Forwarded-* as a family cannot be named to nginx; these are those that somebody reads.
FORWARDED = tuple(
    f"X-Forwarded{rest}"
    for rest in (
        "", "-By", "-Client-IP", "-Email", "-For-Original", "-Groups", "-HTTPS", "-Path", "-Prefix", "-Protocol",
        "-Scheme", "-Server", "-SSL", "-URI", "-User",
    )
)  # fmt: skip


class Pool(NamedTuple):
    """Servers that make some sites' pages.  `suffix` tells it from the pool of all."""

    suffix: str
    servers: tuple[tuple[str, str], ...]
    """Address and port, and what nginx is told of its weight."""


@task
def install(c):
    """T5 VM0: nginx, with its sandbox and a configuration first: Debian starts it on port 80 at install."""
    host = Host.of(c)
    host.template(UNIT)
    host.template(MAIN, check=CHECK)
    host.packages("nginx", "logrotate")


@task
def hosts(c):
    """T5 VM0: every name of every site, its certificate, and what Varnish shall do with its pages."""
    host = Host.of(c)
    host.directory(SHOWN, mode=0o700)
    for site in host.fronted:
        own = f"{SHELF}/{site}.pem"
        host.link(f"{SHOWN}/{site}.pem", own if own in host.facts.files else f"{SHELF}/00-default.pem")
    for path in MAPS:
        host.template(path, check=CHECK, sites=host.fronted, normal=Cache(), pools=_pool_names(host), escape=_escape)
    host.template(SITES, check=CHECK, sites=host.fronted, shown=SHOWN, modern=_modern(host))
    wanted = {f"{SHOWN}/{site}.pem" for site in host.fronted}
    host.absent(*(link for link in host.facts.children(SHOWN, ".pem") if link not in wanted))


@task(
    help={
        "requests": "requests in 10 seconds that one client may send before it is answered 429",
        "concurrent": "requests of one client that may be under way at once",
    },
    within=dict.fromkeys(("requests", "concurrent"), (10, 1_000_000)),
)
def configure(c, requests=5000, concurrent=500):
    """T5 VM0: a reverse proxy with pools: paths of files to the static hosts, the rest to the app hosts.

    The tutorial's `upstream` is a list of a hundred servers and no more. Here one that fails is passed over, a request
    that may be repeated is asked of the next, and nobody waits longer than the slowest site may take.
    """
    host = Host.of(c)
    for code, (reason, advice) in {**PAGES, **RETURNED}.items():
        host.template(ERRORS + "{code}.html", code=code, reason=reason, advice=advice)
    host.file(ERRORS + "suspended.html", render("/etc/haproxy/errors/page", SUSPENDED))
    values: dict[str, Any] = {
        "requests": int(requests),
        "concurrent": int(concurrent),
        "operators": [str(network) for network in host.fleet.operators],
        "ciphers": CIPHERS,
        "ciphersuites": CIPHERSUITES,
        "curves": (POST_QUANTUM, *CURVES) if _modern(host) else CURVES,
        "codes": (*PAGES, *RETURNED),
        "most": MOST,
        "methods": REFUSED_METHODS,
        "forgeable": (*FORGEABLE, *FORWARDED),
        "talkative": TALKATIVE,
        "safe": SAFE,
        "pools": pools(host),
        "files": [server.address for server in statics(host)],
        "endings": host.fleet.static.endings,
        "shared_sessions": host.fleet.one("cache") is not None,
        "patience": max([60, *(site.php.timeout + 10 for site in host.fronted if site.php)]) + 10,
        "shown": SHOWN,
        "shelf": SHELF,
        "modern": _modern(host),
    }
    for path in (ONWARD, ANSWER, MAIN, CONFIG):
        host.template(path, check=CHECK, **values)
    if "static" not in host.fleet.roles(host.name) or host.fleet.static.server != "nginx":
        host.absent(FILES, check=CHECK)


@task
def start(c):
    """T5 VM0: run it now and at every boot; a reload loses no request.  HAProxy, if it was the door before, is shut.

    Certificates are no reason for one: gatehouse-renew loads those itself, and compares what is served with the disk.
    """
    host = Host.of(c)
    door = host.facts.units.get("haproxy.service", Unit())
    if "haproxy" in host.facts.packages and (door.active == "active" or door.enabled == "enabled"):
        host.run("HAProxy makes room for nginx", "systemctl disable --now haproxy")
    files = [MAIN, CONFIG, FILES, SITES, ANSWER, ONWARD, *MAPS, ERRORS]
    host.service("nginx", restart_on=[UNIT], reload_on=files, ready=READY)


def pools(host: Host) -> tuple[Pool, ...]:
    """One for all web servers, and one for each other set of them that a site names."""
    found = []
    for backend in backends(host):
        weights = [server.weight for server in backend.servers]
        told = [f" weight={weight or 1}" if weight or not any(weights) else " down" for weight in weights]
        addresses = [server.address.rpartition(":")[0] + f":{pages(host.fleet)}" for server in backend.servers]
        found.append(Pool(_suffix(backend.name), tuple(zip(addresses, told, strict=True))))
    return tuple(found)


def _suffix(backend: str) -> str:
    """What a backend of HAProxy's is called in the name of a pool: `varnish:app1:app2` is `_app1_app2`."""
    return backend.removeprefix(ALL).replace(":", "_")


def _pool_names(host: Host) -> dict[Site, str]:
    """The suffix of each site's pool, where it is not that of all."""
    if not balanced(host):
        return {}
    return {site: suffix for site in host.fronted if (suffix := _suffix(backend_of(host.fleet, site)))}


def _escape(prefix: str) -> str:
    """A site and a path of its, in a regular expression of nginx, which looks at paths decoded."""
    return re.escape(unquote(prefix)).replace('"', '\\"')


def _modern(host: Host) -> bool:
    return host.facts.release != "12"


STEPS = (install, hosts, configure, start)
