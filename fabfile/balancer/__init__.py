"""The cluster front: one Apache that leads each part of a site to the hosts that make it.  (T3)

It is Debian's Apache, where the tutorial builds 2.2 from source for the sake of few modules: here Debian's are switched
off, and its security updates come by themselves.  Who is behind which path is data (`balancer:` in fleet.yml); what an
operator sets by hand, such as a drain, is kept on the host and survives reloads and reboots.
"""

from __future__ import annotations

from ..engine import Host, Unit, task
from ..engine.render import render
from ..haproxy.door import CIPHERS, CIPHERSUITES, CURVES, FORGEABLE, POST_QUANTUM, SAFE, TALKATIVE
from ..model.ways import BACKSTAGE
from ..waf.places import RELOADED
from .control import graceful, stop
from .drill import drill
from .growth import add, remove
from .manager import MANAGER, RECORD
from .pools import alone, front, pools
from .states import drain, ready, spare, status

ROOT = "/etc/apache2"
PORTS = f"{ROOT}/ports.conf"
SERVER = f"{ROOT}/conf-available/gatehouse-balancer.conf"
VHOST = f"{ROOT}/sites-available/gatehouse-balancer.conf"
MORE = f"{ROOT}/balancer.d"
"""What else belongs inside the vhost."""
SHOWN = f"{ROOT}/certs"
"""Links to certificates, where Apache ends TLS: to its own, or to the default one until there is one.  Kept right by
gatehouse-renew, which takes this directory for the sign that Apache is the front."""
SHELF = "/etc/haproxy/certs"
UNIT = "/etc/systemd/system/apache2.service.d/gatehouse-balancer.conf"
USER = "web_daemon"
CHECK = "apache2ctl -t"
THREADS = 200
"""Of each of Apache's processes."""

LOADED = """
authz_core authz_host env filter headers http2 lbmethod_byrequests mime mpm_event proxy proxy_balancer proxy_hcheck
proxy_http remoteip reqtimeout rewrite setenvif slotmem_shm socache_shmcb ssl unique_id
"""
CONFIGURED = "mime mpm_event"

REFUSED = """
access_compat alias auth_basic authn_core authn_file authz_user autoindex cgi cgid dav dav_fs deflate dir imagemap
include info mpm_itk mpm_prefork mpm_worker negotiation proxy_ajp proxy_connect proxy_fcgi proxy_ftp proxy_scgi
proxy_uwsgi speling status userdir
"""
"""T3 builds Apache without these, or they serve files and programs, of which this host has none."""

DEBIAN_CONF = ("charset", "localized-error-pages", "other-vhosts-access-log", "security", "serve-cgi-bin")

READY = """bash -c 'exec 3<> /dev/tcp/127.0.0.1/{port}; printf "{hello}GET / HTTP/1.0\\r\\n\\r\\n" >&3
read -r _ status _ <&3; [ "$status" = 421 ]' 2> /dev/null"""
"""It serves when it refuses a request without a name as it should."""


@task
def install(c):
    """T3 Building the binaries: Debian's package, with ports and sandbox first, and a user of its own to run as.

    Debian starts it on port 80 of every address the moment it is installed; that port may be HAProxy's.
    """
    host = Host.of(c)
    front(host)
    host.user(USER)
    host.file(PORTS, render(f"{ROOT}/balancer/ports.conf", {"alone": alone(host), "backstage": BACKSTAGE}), check=CHECK)
    host.template(UNIT, user=USER)
    host.packages("apache2", "openssl", "socat")
    host.directory(ROOT, mode=0o750)


@task
def modules(c):
    """T3 Building the binaries: proxy, rewrite, unique-id and the like.

    Not cgi, negotiation, autoindex, status and userdir, as there; nor whatever else serves files or programs.
    """
    host = Host.of(c)
    wanted = [f"{name}.load" for name in LOADED.split()] + [f"{name}.conf" for name in CONFIGURED.split()]
    for name in wanted:
        host.link(f"{ROOT}/mods-enabled/{name}", f"../mods-available/{name}", check=CHECK)
    host.absent(
        *(f"{ROOT}/mods-enabled/{name}.{kind}" for name in REFUSED.split() for kind in ("load", "conf")),
        *(f"{ROOT}/mods-enabled/{name}.conf" for name in ("proxy", "proxy_balancer", "reqtimeout", "setenvif", "ssl")),
        check=CHECK,
    )


@task(
    help={"processes": f"processes of {THREADS} threads each: how many requests may be under way"},
    within={"processes": (1, 16)},
)
def configure(c, processes=4):
    """T3 httpd.conf: ProxyRequests Off, host preserved, a pool a route, the longest path first.

    Against the tutorial: members are known by address; each is asked every second how it is; no `redirect=` beside the
    spare, which would send whoever has no session to the spare; and what a client says of itself is forgotten.  A
    request that never reached its member goes to the next one at once, whatever its method; one of GET and HEAD is
    asked once more elsewhere when the member broke off or said nothing (502, 504).
    """
    host = Host.of(c)
    modern = host.facts.release != "12"
    host.template(SERVER, check=CHECK, processes=int(processes), threads=THREADS, user=USER)
    host.directory(MORE)
    if RECORD not in host.facts.files:
        host.file(RECORD, "")
    if alone(host):
        _certificates(host)
    host.template(
        VHOST,
        check=CHECK,
        front=front(host),
        pools=pools(host),
        alone=alone(host),
        backstage=BACKSTAGE,
        record=RECORD,
        more=MORE,
        shown=SHOWN,
        manager=MANAGER,
        again="/gatehouse-again",
        ciphers=CIPHERS,
        ciphersuites=CIPHERSUITES,
        curves=(POST_QUANTUM, *CURVES) if modern else CURVES,
        forgeable=FORGEABLE,
        talkative=TALKATIVE,
        safe=SAFE,
    )
    host.link(f"{ROOT}/conf-enabled/gatehouse-balancer.conf", "../conf-available/gatehouse-balancer.conf", check=CHECK)
    host.link(
        f"{ROOT}/sites-enabled/000-gatehouse-balancer.conf", "../sites-available/gatehouse-balancer.conf", check=CHECK
    )
    host.absent(*(f"{ROOT}/conf-enabled/{name}.conf" for name in DEBIAN_CONF), check=CHECK)
    host.absent(f"{ROOT}/sites-enabled/000-default.conf", check=CHECK)


def _certificates(host: Host) -> None:
    """The links to what Apache shows; later gatehouse-renew alone decides where its own leads to."""
    host.directory(SHOWN, mode=0o700)
    own = f"{SHELF}/{front(host)}.pem"
    default = f"{SHELF}/00-default.pem"
    host.link(f"{SHOWN}/default.pem", default)
    host.link(f"{SHOWN}/{front(host)}.pem", own if own in host.facts.files else default)
    wanted = {f"{SHOWN}/default.pem", f"{SHOWN}/{front(host)}.pem"}
    host.absent(*(link for link in host.facts.children(SHOWN, ".pem") if link not in wanted))


@task
def start(c):
    """T3 Running the server: run it now and at every boot; a reload is graceful and loses no request."""
    host = Host.of(c)
    door = host.facts.units.get("haproxy.service", Unit())
    if alone(host) and "haproxy" in host.facts.packages and (door.active == "active" or door.enabled == "enabled"):
        host.run("HAProxy makes room for Apache", "systemctl disable --now haproxy")
    port, hello = (80, "") if alone(host) else (BACKSTAGE, "PROXY TCP4 127.0.0.1 127.0.0.1 1 1\\r\\n")
    mpm = [f"{ROOT}/mods-enabled/mpm_{name}.load" for name in ("event", "prefork", "worker")]
    serves = READY.format(port=port, hello=hello)
    host.service("apache2", reload_on=RELOADED, restart_on=[UNIT, PORTS, *mpm], ready=serves)


STEPS = (install, modules, configure, start)

__all__ = [
    "STEPS", "add", "configure", "drain", "drill", "graceful", "install", "modules", "ready", "remove", "spare",
    "start", "status", "stop",
]  # fmt: skip
