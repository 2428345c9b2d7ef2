"""MariaDB for the sites: a database each, on their host behind a socket, or on one of its own.  (T2 step 7, T5 VM4)

The tutorials give it a host of its own.  Where fleet.yml names one (`roles: [database]`), it is there, behind TLS, for
the app hosts alone; else it is on the web server, without a port or a password.  `db.*` are the tasks that care for it.
"""

from __future__ import annotations

from ..engine import Host, task
from ..model import Site
from ..model.ways import DATABASE
from . import accounts, dumping, reading, restoring
from .accounts import schemas
from .handing import hand, ini
from .places import CONFIG, EMPTY, ROSTER, UNIT, address, keeper, ours, roster_file, shell
from .tls import CERTIFICATE, KEY, certificate

CHECK = "mariadbd --help --verbose > /dev/null"

CONNECTIONS = 500
"""Of all sites together; they are few at a time, since FPM's workers are bounded by their host's memory."""

DROP = r"""
mariadb --batch --skip-column-names -e "SELECT CONCAT('DROP USER ', QUOTE(User), '@', QUOTE(Host), ';')
    FROM mysql.global_priv WHERE User = '$1'" | mariadb
mariadb -e "DROP DATABASE IF EXISTS \`$1\`"
"""


# ---------------------------------------------------------------------- the steps


@task(
    help={
        "buffer_mb": "memory for tables and indexes, in MB; 0 is an eighth of the host's, rounded down, or half of a "
        "host that does nothing else"
    },
    within={"buffer_mb": (0, 1_000_000)},
)
def configure(c, buffer_mb=0):
    """T2 step 7, T5 VM4: its own private address or no port, no way from a table to a file, utf8mb4, a slow query log.

    The tutorial binds it to the address of another machine, which no server can. Beside Debian's own files, and there
    before the package, whose first start would open a port.
    """
    host = Host.of(c)
    if not ours(host):
        host.note("no site wants a database" if keeper(host) else f"the databases are on {host.fleet.one('database')}")
        return
    alone = not host.fleet.machine(host.name).serves
    host.directory(EMPTY)
    host.template(
        CONFIG,
        check=CHECK,
        empty=EMPTY,
        address=address(host),
        port=DATABASE,
        key=KEY,
        certificate=CERTIFICATE,
        alone=alone,
        buffer_mb=int(buffer_mb) or _buffer_mb(host.facts.memory_mb, 2 if alone else 8),
        connections=CONNECTIONS,
    )
    host.template(UNIT, address=address(host))


@task
def install(c):
    """T2 step 7: MariaDB, Debian's own MySQL, and its own tables whole."""
    host = Host.of(c)
    if ours(host):
        host.packages("mariadb-server")
        host.run("see whether MariaDB's own tables are whole", shell("whole"), name="mariadb-whole", on=[UNIT])


@task
def start(c):
    """T2 step 7: run it now and at every boot."""
    host = Host.of(c)
    if ours(host):
        taken = [CONFIG, UNIT, *([CERTIFICATE] if address(host) else [])]
        host.service("mariadb", restart_on=taken, ready="mariadb-admin ping")


@task
def secure(c):
    """T2 step 7: nobody without a name, no database for everybody; root comes in by the socket alone."""
    host = Host.of(c)
    if ours(host):
        host.run("shut what an older MariaDB left open", shell("secure"), name="mariadb-secure", on=[CONFIG])


SERVER = (certificate, configure, install, start, secure, schemas)
"""What makes a host the one that keeps databases."""

STEPS = (*SERVER, hand)

CARE = (reading.show, reading.users, accounts.create, dumping.dump, restoring.restore, restoring.drill)
"""The tasks `db.*`."""


def _buffer_mb(memory_mb: int, part: int) -> int:
    """A part of the memory as a power of two: a kernel that counts a little less memory is no reason to restart."""
    return max(16, 1 << max(memory_mb // part, 1).bit_length() - 1)


# ---------------------------------------------------------------------- for undo and site.remove


def take(host: Host) -> None:
    """The roster's files as they stand are what MariaDB has, data apart."""
    accounts.tell(host)


def archive(host: Host, site: Site, into: str) -> None:
    """The site's database as a compressed dump in `into` on the host, for root alone; nothing without a database."""
    if _files(host, site):
        label = f"archive the database {site.owner}"
        host.run(label, shell("dump") + 'archived "$1" "$2"', site.owner, into)
    elif ini(site) in host.facts.files:
        host.note(f"its database stays on {host.fleet.one('database')}, locked from the next run there on")


def drop(host: Host, site: Site) -> None:
    """The site's database and its users go for good; nothing without a database."""
    if files := _files(host, site):
        host.run(f"drop the database {site.owner}", DROP, site.owner)
        host.absent(*files)
        accounts.tell(host)


def _files(host: Host, site: Site) -> list[str]:
    """The site's files of the roster, those that are gone included."""
    own = roster_file(site), f"{roster_file(site)}.gone"
    return [path for path in host.facts.children(ROSTER) if path in own or path.startswith(f"{ROSTER}/{site.owner}@")]


__all__ = [
    "CARE", "CHECK", "CONFIG", "EMPTY", "ROSTER", "SERVER", "STEPS", "UNIT",
    "archive", "certificate", "configure", "drop", "hand", "install", "schemas", "secure", "start", "take",
]  # fmt: skip
