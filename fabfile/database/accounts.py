"""Who may come to which database: the site's own system user by the socket, and from other hosts by its password."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..engine import Host, flow, task
from ..engine.cards import cards
from ..model import Machine, Site
from .places import ROSTER, comers, ours, refuse_elsewhere, roster_file, shell, with_database

RIGHTS = (
    "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, CREATE TEMPORARY TABLES, LOCK TABLES, "
    "CREATE VIEW, SHOW VIEW, TRIGGER, CREATE ROUTINE, ALTER ROUTINE, EXECUTE"
)
"""What an application does with its own tables. No events, which run unasked; nothing that is the whole server's."""

DIGEST = re.compile(r"\*[0-9A-F]{40}")
"""What a card may say of a password; it enters SQL."""

RESTORER = "gatehouse_restore"
"""Loads dumps, into a database of its own; a name that no site's owner can have."""


@task
def schemas(c):
    """T2 step 7, T5 VM4: a database a site and users with rights in it alone: the site's system user, and app hosts.

    An app host comes from its own address, over TLS, with a password of which this host has the digest alone, from that
    host's card. A site that is gone from sites/, or says `database: false` now, keeps its data; its users are locked,
    and so is that of a host that left the fleet.
    """
    host = Host.of(c)
    if ours(host):
        make(host)


@flow(
    run="db.create",
    positional=["domain"],
    help={"domain": "the site's domain; without it, all", "json": "print the outcome of every step as JSON"},
)
def create(c, domain="", json=False):  # noqa: ARG001  (the engine reads it)
    """On call: make databases and users although nothing changed here: MariaDB was installed afresh, or is changed."""
    host = Host.of(c)
    refuse_elsewhere(host, f"db.create {domain}".strip())
    chosen = (with_database(host, domain, "db.create"),) if domain else host.sites
    with host.about(*chosen), host.step("db.create"):
        make(host, again=True)


def make(host: Host, again: bool = False) -> None:
    """The roster as it should be, and MariaDB told of it when it changed, or `again`."""
    host.directory(ROSTER)
    wanted = set[str]()
    for site in host.sites:
        if site.database:
            wanted |= {roster_file(site), *(_file(site, machine) for machine in comers(host, site))}
    chosen = [site for site in host.chosen if site.database]
    known = cards(host, dict.fromkeys(machine for site in chosen for machine in comers(host, site)))
    for site in chosen:
        _make_one(host, site, known)
    for path in () if host.narrowed else host.facts.children(ROSTER, ".sql"):
        if path not in wanted:
            host.rename(path, f"{path}.gone")
    tell(host, again)


def tell(host: Host, again: bool = False) -> None:
    """The roster's files as they stand are what MariaDB has, data apart."""
    host.run("make the sites' databases", shell("create"), ROSTER, name="databases", on=[] if again else [f"{ROSTER}/"])


def _make_one(host: Host, site: Site, known: Mapping[str, Mapping[str, str]]) -> None:
    """The site's own file, and one for each host that it comes from; a host that cannot be asked keeps what it has."""
    others = comers(host, site)
    if others and site.owner not in host.facts.users and "files" not in host.fleet.machine(host.name).roles:
        host.user(site.owner, near=site.uid)  # nobody's but root's: what is in a dump is made again as this user
    most = 2 * site.php.children if site.php else 10
    values: dict[str, Any] = {"site": site, "database": site.owner, "rights": RIGHTS, "connections": most}
    host.template(ROSTER + "/{database}.sql", **values)
    host.absent(f"{roster_file(site)}.gone")
    for machine in others:
        digest = known.get(machine.name, {}).get(f"database-{site.owner}", "")
        if DIGEST.fullmatch(digest):
            where = str(machine.address)
            host.template(ROSTER + "/{database}@{address}.sql", mode=0o600, address=where, digest=digest, **values)
            host.absent(f"{_file(site, machine)}.gone")
        elif machine.name in known:
            host.note(f"{machine} has made no password for {site} yet: it comes in once {machine} is bootstrapped")


def _file(site: Site, machine: Machine) -> str:
    """What a site may do that comes from another machine."""
    return f"{ROSTER}/{site.owner}@{machine.address}.sql"
