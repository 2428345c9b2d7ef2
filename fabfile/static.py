"""Static hosts: nginx or lighttpd serves files, and nothing else, to the edges.  (T5, VM1)

Each name of each site leads to the same directory as in Apache's VirtualDocumentRoot, so a path means the same on a
static host and on an app host.  Only paths that end as fleet.yml says (`static: endings`) are answered; what a program
would have to make is not here, and its source neither.
"""

from __future__ import annotations

from typing import Any

from .engine import Host, Unit, task
from .model import Site
from .model.ways import STATIC

SERVERS = ("nginx", "lighttpd")

NGINX = "/etc/nginx/nginx.conf"
NGINX_SITES = "/etc/nginx/conf.d/static.conf"
NGINX_EDGE = "/etc/nginx/conf.d/edge.conf"
"""nginx as the door to the world; this host may have been one."""
NGINX_ROOMS = "/etc/nginx/rooms.map"
NGINX_CHECK = "nginx -t -q"

LIGHTTPD = "/etc/lighttpd/lighttpd.conf"
LIGHTTPD_ANSWER = "/etc/lighttpd/answer.lua"
LIGHTTPD_ROOMS = "/etc/lighttpd/rooms.lua"
LIGHTTPD_CHECK = "lighttpd -tt -f /etc/lighttpd/lighttpd.conf"

ERRORS = {
    404: ("Not Found", "There is nothing at this address."),
    421: ("Misdirected Request", "This server does not serve the name that you asked for."),
}

# What browsers are told of a file.  With `nosniff` they believe it, so a module script (mjs) or a style that came as
# something else would not run.  What is not here is offered as a download.
TYPES = {
    "avif": "image/avif",
    "bmp": "image/bmp",
    "css": "text/css",
    "csv": "text/csv",
    "eot": "application/vnd.ms-fontobject",
    "gif": "image/gif",
    "htm": "text/html",
    "html": "text/html",
    "ico": "image/vnd.microsoft.icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript",
    "json": "application/json",
    "m4a": "audio/mp4",
    "map": "application/json",
    "mjs": "text/javascript",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "ogg": "audio/ogg",
    "otf": "font/otf",
    "pdf": "application/pdf",
    "png": "image/png",
    "svg": "image/svg+xml",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "ttf": "font/ttf",
    "txt": "text/plain",
    "wasm": "application/wasm",
    "wav": "audio/wav",
    "webm": "video/webm",
    "webmanifest": "application/manifest+json",
    "webp": "image/webp",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "xml": "application/xml",
    "zip": "application/zip",
}
TEXT = tuple(
    dict.fromkeys(
        kind
        for kind in TYPES.values()
        if kind.startswith("text/") or kind.partition("/")[2] in ("json", "manifest+json", "svg+xml", "wasm", "xml")
    )
)
"""What is worth compressing."""

CODE = ("css", "csv", "htm", "html", "js", "json", "map", "mjs", "txt", "wasm", "webmanifest", "xml")
"""Kept by browsers for a week, as Apache says it too; all else, which changes less often, for a month."""


@task
def install(c):
    """T5 VM1: nginx, or lighttpd (`static: {server: lighttpd}`), with its address and its sandbox first.

    Debian starts either on port 80 of every address the moment it is installed, so its configuration comes before it.
    """
    host = Host.of(c)
    host.template(_unit(host.fleet.static.server))
    _configured(host)
    if host.fleet.static.server == "nginx":
        host.packages("nginx", "logrotate")
    else:
        host.packages("lighttpd", "lighttpd-mod-deflate", "lighttpd-modules-lua", "logrotate")


@task
def sites(c):
    """T5 VM1: every name of every site, and the directory that it shows; no other name is answered.

    The server's user is in each site's group, as Apache's is on an app host (site.users): it is the door to the site's
    tree.
    """
    _configured(Host.of(c))


@task
def start(c):
    """T5 VM1: run it now and at every boot, and let it take what changed; the other kind of server is gone.

    lighttpd is restarted, not reloaded: it has given up root's rights by then.  The edges ask again meanwhile.
    """
    host = Host.of(c)
    if host.fleet.static.server == "nginx":
        _gone(host, "lighttpd")
        taken = [NGINX, NGINX_SITES, NGINX_EDGE, NGINX_ROOMS, "/etc/nginx/errors/"]
        host.service("nginx", restart_on=[_unit("nginx")], reload_on=taken, ready=_ready(host))
    else:
        _gone(host, "nginx")
        host.service("lighttpd", restart_on=[_unit("lighttpd"), "/etc/lighttpd/"], ready=_ready(host))


STEPS = (install, sites, start)


def rooms(sites: tuple[Site, ...]) -> dict[str, tuple[Site, str]]:
    """Each name that is answered: whose it is, and its directory in public_html."""
    return {name: (site, site.room(name)) for site in sites for name in site.names}


def edges(host: Host) -> list[str]:
    """The addresses of the edges that come here; the loopback's where this host is one itself."""
    names = {edge.name: str(edge.address) for edge in host.fleet.edges if host.fleet.together(edge.name, host.name)}
    return ["127.0.0.1" if name == host.name else address for name, address in names.items()]


def addresses(host: Host) -> list[str]:
    """Where the server listens: the host's private address alone; the loopback for an edge on this host."""
    own, known = host.fleet.machine(host.name).bracketed, {*edges(host)}
    return [*([own] if known - {"127.0.0.1"} else []), *sorted(known & {"127.0.0.1"})]


def _configured(host: Host) -> None:
    values: dict[str, Any] = {
        "addresses": addresses(host),
        "port": STATIC,
        "edges": edges(host),
        "endings": host.fleet.static.endings,
        "types": TYPES,
        "text": TEXT,
        "code": CODE,
        "rooms": rooms(host.sites),
        "over_nfs": over_nfs(host),
    }
    if host.fleet.static.server == "nginx":
        check, root = NGINX_CHECK, "/etc/nginx"
        files = (NGINX_ROOMS, NGINX, NGINX_SITES)
    else:
        check, root = LIGHTTPD_CHECK, "/etc/lighttpd"
        files = (LIGHTTPD_ROOMS, LIGHTTPD_ANSWER, LIGHTTPD)
    for code, (reason, advice) in ERRORS.items():
        host.template(root + "/errors/{code}.html", code=code, reason=reason, advice=advice)
    for path in files:
        host.template(path, check=check, **values)
    if "edge" not in host.fleet.roles(host.name):
        host.absent(NGINX_EDGE, check=NGINX_CHECK)


def over_nfs(host: Host) -> bool:
    """Whether the files come over the network: sendfile(2) on NFS serves what was there before a change, or blocks."""
    files = host.fleet.one("files")
    return files is not None and files.name != host.name and host.fleet.files.mount == "nfs"


def _unit(server: str) -> str:
    return f"/etc/systemd/system/{server}.service.d/gatehouse.conf"


def _ready(host: Host) -> str:
    """It serves when it says whether it sees a site's files: 200, or 503 before they are there."""
    proxied = host.fleet.static.server == "nginx" and host.fleet.edge.server == "haproxy"
    proxy = "PROXY UNKNOWN\\r\\n" if proxied else ""
    return f"""bash -c 'exec 3<> /dev/tcp/{addresses(host)[0].strip("[]")}/{STATIC}
printf "{proxy}HEAD / HTTP/1.0\\r\\nHost: health.invalid\\r\\n\\r\\n" >&3
read -r _ status _ <&3; [ "$status" = 200 ] || [ "$status" = 503 ]' 2> /dev/null"""


def _gone(host: Host, server: str) -> None:
    """The other kind of server, which fleet.yml does not want any more, stops, and does not come back at a boot."""
    unit = host.facts.units.get(f"{server}.service", Unit())
    if server == "nginx" and "edge" in host.fleet.roles(host.name) and host.fleet.edge.server == "nginx":
        host.absent(NGINX_SITES, check=NGINX_CHECK)
    elif unit.active == "active" or unit.enabled == "enabled":
        host.run(f"{server} makes room for {host.fleet.static.server}", f"systemctl disable --now {server}")
