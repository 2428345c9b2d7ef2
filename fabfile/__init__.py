"""The runbook's table of contents: what `fab --list` shows."""

from __future__ import annotations

from invoke import Collection

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
    flows,
    haproxy,
    hardening,
    history,
    lock,
    php,
    runtime,
    selinux,
    site,
    sites,
    sshd,
    static,
    status,
    system,
    undo,
    varnish,
    waf,
)
from .engine import chapter
from .looking import logs
from .looking.why import why
from .waf import care

ns = Collection(
    flows.bootstrap,
    flows.check,
    flows.renew,
    flows.trust,
    status.status,
    Collection.from_module(logs, name="logs"),
    history.history,
    undo.undo,
    Collection("db", *database.CARE),
    Collection.from_module(lock),
    why,
    *(
        chapter(module)
        for module in (
            system,
            firewall,
            sshd,
            credentials,
            cert,
            haproxy,
            edge,
            balancer,
            static,
            varnish,
            site,
            files,
            database,
            cache,
            php,
            apache,
            runtime,
            waf,
            fail2ban,
            hardening,
            selinux,
        )
    ),
)
for task in sites.TASKS:
    ns.collections["site"].add_task(task)
for task in care.TASKS:
    ns.collections["waf"].add_task(task)
