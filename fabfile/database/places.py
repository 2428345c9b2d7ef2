"""Where things lie, and which host does what: MariaDB is on the sites' own host, or on one for the whole fleet."""

from __future__ import annotations

from pathlib import Path

from ..engine import Host
from ..model import Machine, Problem, Refusal, Site

CONFIG = "/etc/mysql/mariadb.conf.d/99-gatehouse.cnf"
UNIT = "/etc/systemd/system/mariadb.service.d/gatehouse.conf"
EMPTY = "/etc/gatehouse/empty"
ROSTER = "/etc/gatehouse/databases"
"""A file of SQL a site, and one for each host from which it comes; `.gone` behind it when it must not any more."""

KEPT = "/var/lib/gatehouse/databases"
"""Dumps, for root alone."""

SOCKET = "/run/mysqld/mysqld.sock"


def shell(*names: str) -> str:
    """Pieces of shell of this package, one after the other."""
    return "".join((Path(__file__).parent / "shell" / f"{name}.sh").read_text() for name in names)


def keeper(host: Host) -> bool:
    """Whether the databases of this host's sites are on it."""
    return "database" in host.fleet.roles(host.name)


def ours(host: Host) -> bool:
    """Whether a site wants a database here, or one did; a MariaDB that somebody else put there is left alone."""
    return keeper(host) and (any(site.database for site in host.sites) or ROSTER in host.facts.files)


def comers(host: Host, site: Site) -> tuple[Machine, ...]:
    """The other machines from which this site comes to its database here."""
    return tuple(web for web in host.fleet.webs_of(site) if web.name != host.name)


def address(host: Host) -> str:
    """The address at which MariaDB listens: none, unless other machines come to it."""
    machine = host.fleet.machine(host.name)
    others = any(web.name != host.name for web in host.fleet.webs)
    return str(machine.address) if "database" in machine.roles and others else ""


def refuse_elsewhere(host: Host, task: str) -> None:
    """Raises Refusal, with where to type it, when the databases of this host's sites are on another one."""
    one = host.fleet.one("database")
    if one and one.name != host.name:
        raise Refusal(Problem(f"the databases of {host.name} are on {one}", next=f"fab -H {one} {task}"))
    if not keeper(host):
        raise Refusal(f"{host.name} makes no pages and keeps no databases")


def with_database(host: Host, domain: str, task: str) -> Site:
    """The site of this name whose database is here.  Raises Refusal."""
    refuse_elsewhere(host, f"{task} {domain}")
    site = host.site(domain)
    if not site.database:
        raise Refusal(f"{site} has no database\n  for example:  database: true, in its file in sites/")
    return site


def roster_file(site: Site) -> str:
    """What a site has here."""
    return f"{ROSTER}/{site.owner}.sql"
