"""Flows: the chapters in order, as plain calls."""

from __future__ import annotations

from contextlib import suppress

from invoke import Exit

from . import (
    apache,
    balancer,
    cache,
    cert,
    credentials,
    database,
    edge,
    fail2ban,
    files,
    firewall,
    haproxy,
    hardening,
    php,
    runtime,
    selinux,
    site,
    sshd,
    static,
    system,
    varnish,
    waf,
)
from .engine import Host, flow, query, steps
from .engine.report import console
from .engine.trust import enrol
from .model import Fleet, Refusal

WALLS = (*system.STEPS, *firewall.STEPS, *sshd.STEPS)
"""What stands before any package comes that serves the world."""

CHAPTERS = (
    ("", WALLS),
    ("web", credentials.STEPS),
    ("edge balancer", cert.STEPS_BEFORE),
    ("haproxy", haproxy.STEPS),
    ("nginx", edge.STEPS),
    ("balancer", balancer.STEPS),
    ("balancer", waf.STEPS),
    ("web", varnish.STEPS),
    ("web static shared", (site.users, site.tree)),
    ("web", (site.tmp, site.code)),
    ("shared", files.STEPS),
    ("static", static.STEPS),
    ("web", (site.logs,)),
    ("database", database.SERVER),
    ("web", (database.hand,)),
    ("cache web", cache.STEPS),
    ("web", php.STEPS),
    ("web", (apache.install,)),
    ("web", runtime.STEPS),
    ("web", apache.STEPS[1:]),
    ("web", (*php.STEPS_AFTER, *runtime.STEPS_AFTER)),
    ("edge web balancer", (firewall.layers,)),
    ("edge balancer", cert.STEPS_AFTER),
    ("", fail2ban.STEPS),
    ("", hardening.STEPS),
)
"""The chapters in order, and for hosts of which roles they are; "" is every host.  A host that makes pages (`web`) has
every other role too that no host of the fleet has for it; `shared` is one with files for others, or from another: see
Fleet.roles.  `haproxy` or `nginx` is what an edge is."""


def steps_of(roles, door="haproxy"):
    """The steps for a host with these roles, in order; `door` is the server of edges."""
    has = {*roles, door} if "edge" in roles else {*roles}
    return tuple(step for whose, chapter in CHAPTERS if not whose or has & {*whose.split()} for step in chapter)


BOOTSTRAP = steps_of(Fleet().roles("vps"))
"""What a host goes through that is a whole web server."""


@flow(help={"json": "print the outcome of every step as JSON"})
def bootstrap(c, json=False):  # noqa: ARG001  (the engine reads it)
    """From a bare Debian host to one that serves HTTPS sites.  Again: it changes nothing, in about a second."""
    whole(c)


def preflight(host: Host) -> None:
    """What the host itself rules out, or how one came to it, is refused before anything is touched."""
    firewall.guard(host)
    if "web" in host.fleet.roles(host.name):
        php.version(host)
        php.fits(host)


@query(help={"json": "print every outcome as JSON"})
def renew(c, json=False):
    """Renew every certificate of the host that is due; a name that fails stops nobody, and makes the exit code 1."""
    cert.renew(c, "--all", json=json)


@flow(help={"json": "print the outcome of every step as JSON"})
def check(c, json=False):  # noqa: ARG001  (the engine reads it)
    """What would `bootstrap` change?  Shows it and touches nothing; exit code 2 when anything would change."""
    host = Host.of(c)
    host.dry = True
    whole(c)
    if host.report and any(line.outcome == "would change" for line in host.report.lines):
        raise Exit(code=2)


@query(help={"fingerprint": "the key's SHA-256 fingerprint, as ssh-keygen prints it; without it you are asked"})
def trust(c, fingerprint=""):
    """Enrol a host's SSH key after comparing its fingerprint; a key that changed is never replaced here."""
    with suppress(Refusal):  # fleet.yml need not know it yet; if it does, it may know the way
        Host.of(c)
    console.print(enrol(c, fingerprint))


def whole(c):
    """All that a host is to be."""
    preflight(Host.of(c))
    steps(c, *WALLS)
    steps(c, *_wanted(c)[len(WALLS) :])


def _wanted(c):
    """The steps of the whole: those of the host's roles; SELinux's only where fleet.yml asks for it."""
    host = Host.of(c)
    wanted = steps_of(host.fleet.roles(host.name), host.fleet.edge.server)
    return wanted + (selinux.STEPS if host.fleet.mac == "selinux" else ())
