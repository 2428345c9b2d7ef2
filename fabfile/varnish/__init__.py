"""Varnish: answers what was asked before, and lets Apache rest.  (T1, "Varnish")

It is bound to the loopback address, behind an edge to the private one as well, and speaks the PROXY protocol there,
so it knows the real client; it purges for root alone, at a socket of its own; and when Apache is down, what expired an
hour ago is still served.
"""

from __future__ import annotations

from ..engine import Host, task
from ..model import Cache
from .counters import stats
from .purging import purge, purge_site

UNIT = "/etc/systemd/system/varnish.service.d/gatehouse.conf"
NCSA = "/etc/systemd/system/varnishncsa.service"
VCL = "/etc/varnish/gatehouse.vcl"
# Compiled and loaded as root, who may read what the compiler wrote under any umask; nothing is left behind.
CHECK = f"varnishd -j none -C -f {VCL}"
# Varnish counts as active before it listens; its child runs once it does.
READY = "varnishadm -t 5 status | grep -q 'Child in state running'"

# Cookies that statistics and advertising set for scripts in the browser; no server's answer depends on them.
ANALYTICS = (
    "__utm[a-z]+",  # Google Analytics, the old one
    "_ga(_[A-Za-z0-9]+)?",
    "_gid",
    "_gat(_[^=;]*)?",
    "_gac_[^=;]+",
    "_gcl_[a-z]+",
    "_dc_gtm_[^=;]+",
    "__gads",
    "__gpi",
    "_fb[pc]",  # Meta
    "_pk_[^=;]+",  # Matomo
    "_hj[A-Za-z][^=;]*",  # Hotjar
    "_cl(ck|sk)",  # Microsoft Clarity
    "_uet[sv]id",
    "_ym_[a-z_]+",  # Yandex
    "__hs(tc|sc|src)",  # HubSpot
    "hubspotutk",
    "__qca",
    "_ttp",
)
# What pages are made of. Documents and archives are not here: they may be somebody's invoice.
STATIC = (
    "css|js|mjs|map|wasm",
    "gif|jpe?g|png|apng|webp|avif|ico|svgz?|bmp",
    "woff2?|ttf|otf|eot",
)


@task(
    help={"memory": "megabytes for the cache; without it, an eighth of the host's memory"},
    within={"memory": (16, 1_000_000)},
)
def install(c, memory=0):
    """T1 Varnish: install it, with its address first.

    The package starts it at once on port 6081 of every address, past TLS and every limit. With our drop-in already
    there it listens on 127.0.0.1:8081 alone, and only once its VCL is there. Debian 12 also starts a log writer that
    would repeat on disk what HAProxy's log says; it is masked.
    """
    host = Host.of(c)
    megabytes = int(memory) or min(max(host.facts.memory_mb // 8, 64), 8192)
    host.template(UNIT, megabytes=megabytes, private=private(host), proxied=proxied(host), plain=plain(host))
    host.link(NCSA, "/dev/null")
    host.packages("varnish", "socat")


@task
def configure(c):
    """T1 Varnish: from 8081 to 8080; cookies of statistics go, pictures and styles are kept.

    Tracking arguments of URLs (utm_source and the like) stay: a page may repeat its own address, so two addresses
    are two pages. A picture for signed-in visitors alone belongs under the site's `bypass`. What differs from site to
    site comes with each request, from HAProxy's maps (see haproxy.hosts); but not how many requests may be at Apache at
    once that starts a process for each of them (CGI, ITK): the next ones wait for two seconds, then they are told 503.
    """
    host = Host.of(c)
    host.template(
        VCL,
        check=CHECK,
        normal=Cache(),
        patience=max([60, *(site.php.timeout + 10 for site in host.sites if site.php)]),
        plain=plain(host),
        crowded=[site for site in host.sites if site.at_once],
        edges=_plainly(host) or ["127.0.0.1"],
        analytics="|".join(ANALYTICS),
        static=rf"(?i)^[^?]+\.({'|'.join(STATIC)})(\?|$)",
        script=r"(?i)^[^?]+\.php[0-9]*/",
        code=503,
        reason="Service Unavailable",
        advice="The site cannot be reached at the moment. Please try again in a moment.",
    )


@task
def start(c):
    """T1 Varnish: run it now and at every boot; new VCL is loaded beside the old one, and nothing cached is lost."""
    Host.of(c).service("varnish", restart_on=[UNIT], reload_on=[VCL], ready=READY)


def private(host: Host) -> str:
    """The address at which edges and balancers reach Varnish here; none where visitors come to the host itself."""
    if not (host.fleet.edges_of(host.name) or host.fleet.balancers_of(host.name)):
        return ""
    return host.fleet.machine(host.name).bracketed


def plain(host: Host) -> str:
    """The address at which Varnish is reached without the PROXY protocol: by nginx as the door, or by balancers."""
    if host.fleet.edge.server == "nginx":
        return private(host) or "127.0.0.1"
    return private(host) if host.fleet.balancers_of(host.name) else ""


def proxied(host: Host) -> str:
    """The address at which HAProxy, as the door of other hosts, reaches Varnish; none where it is not that."""
    return private(host) if host.fleet.edge.server == "haproxy" and host.fleet.edges_of(host.name) else ""


def _plainly(host: Host) -> list[str]:
    """Who may name a visitor there."""
    edges = host.fleet.edges_of(host.name) if host.fleet.edge.server == "nginx" else ()
    return list(dict.fromkeys(str(one.address) for one in (*edges, *host.fleet.balancers_of(host.name))))


STEPS = (install, configure, start)

__all__ = ["STEPS", "configure", "install", "purge", "purge_site", "start", "stats"]
