"""What MariaDB has: databases with their sizes and connections, and who may come from where."""

from __future__ import annotations

import json as json_
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from invoke import Exit

from ..engine import Host, Problem, StepFailed, as_data, console, query
from ..model import Fleet, Site
from .dumping import kept
from .places import refuse_elsewhere

LIST = r"""
command -v mariadb > /dev/null || exit 0
mariadb --batch --skip-column-names 2>&1 << 'END'
SELECT 'database', schema_name, COALESCE(SUM(data_length + index_length), 0), COUNT(table_name)
    FROM information_schema.schemata LEFT JOIN information_schema.tables ON table_schema = schema_name
    WHERE schema_name NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') GROUP BY schema_name;
SELECT 'user', User, JSON_VALUE(Priv, '$.max_user_connections'), COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0)
    FROM mysql.global_priv WHERE Host = 'localhost';
SELECT 'busy', User, COUNT(*) FROM information_schema.processlist GROUP BY User;
END
"""

USERS = r"""
command -v mariadb > /dev/null || exit 0
mariadb --batch --skip-column-names 2>&1 << 'END'
SELECT 'user', u.User, u.Host, IF(Priv LIKE '%"unix_socket"%', 'unix_socket', JSON_VALUE(Priv, '$.plugin')),
    COALESCE(JSON_VALUE(Priv, '$.ssl_type'), 0), COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0),
    COALESCE(JSON_VALUE(Priv, '$.max_user_connections'), 0), COALESCE(GROUP_CONCAT(d.Db), '')
    FROM mysql.global_priv u LEFT JOIN mysql.db d ON d.User = u.User AND d.Host = u.Host
    WHERE COALESCE(JSON_VALUE(Priv, '$.is_role'), 0) <> 1 GROUP BY u.User, u.Host;
SELECT 'busy', User, SUBSTRING_INDEX(Host, ':', LENGTH(Host) - LENGTH(REPLACE(Host, ':', ''))), COUNT(*)
    FROM information_schema.processlist GROUP BY 2, 3;
END
"""


class Database(NamedTuple):
    """One database.

    site: the domain, empty when no site here has it; bytes: of tables and indexes, by InnoDB's own account;
    connections: open now, of `most` from each host; state: `open`, `locked` (kept for nobody), `missing`, or `closed`
    (its user is not there or locked, and the site wants it); dump: the newest one on the host.
    """

    site: str
    name: str
    bytes: int
    tables: int
    connections: int
    most: int
    state: str
    dump: str = ""


class User(NamedTuple):
    """One account.

    source: `socket`, or an address, with the fleet's host of that address; by: `socket`, `password`, or what
    MariaDB calls it; tls: whether it must; connections: open now, of `most` (0: as many as MariaDB takes); databases:
    those in which it has rights.
    """

    name: str
    source: str
    host: str
    by: str
    tls: bool
    locked: bool
    connections: int
    most: int
    databases: tuple[str, ...]


@query(
    name="list", help={"json": "print site, name, bytes, tables, connections (of `most`), state, newest dump as JSON"}
)
def show(c, json=False):
    """On call: each site's database: size, tables, connections, dump.  Exit code 1 when one is missing or closed."""
    host = Host.of(c)
    refuse_elsewhere(host, "db.list")
    dumps = {owner: names[0] for owner, names in kept(host).items()}
    databases = list(read_databases(_asked(host, LIST), host.sites, dumps))
    wrong = [one for one in databases if one.state in ("missing", "closed")]
    if json:
        print(json_.dumps({"host": host.name, "databases": [as_data(one) for one in databases]}, indent=2))
    elif databases:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="")
        for title in ("site", "database", "size", "tables", "connections", "state", "newest dump"):
            table.add_column(title, justify="right" if title in ("size", "tables", "connections") else "left")
        for one in databases:
            size, connected = f"{one.bytes / 2**20:.1f} MB", f"{one.connections} of {one.most}"
            dump = one.dump.removeprefix(f"{one.name}.").removesuffix(".sql.gz")
            table.add_row(one.site or "-", one.name, size, str(one.tables), connected, one.state, dump or "none")
        console.print(table)
    else:
        console.print(f"{host.name}  no site has a database")
    if wrong and not json:
        console.print(f"next: fab -H {host.name} database, and if that changes nothing: db.create")
    if wrong:
        raise Exit(code=1)


@query(help={"json": "print name, source, host, by, tls, locked, connections (of `most`), databases as JSON"})
def users(c, json=False):
    """On call: who may come to which database, and from where: the socket, or which host, and how many are in now."""
    host = Host.of(c)
    refuse_elsewhere(host, "db.users")
    found = list(read_users(_asked(host, USERS), host.fleet))
    if json:
        print(json_.dumps({"host": host.name, "users": [as_data(one) for one in found]}, indent=2))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="")
    for title in ("user", "from", "by", "connections", "state", "databases"):
        table.add_column(title, justify="right" if title == "connections" else "left")
    for one in found:
        source = f"{one.host} ({one.source})" if one.host else one.source
        how = f"{one.by} over TLS" if one.tls else one.by
        connected = f"{one.connections} of {one.most}" if one.most else str(one.connections)
        table.add_row(one.name, source, how, connected, "locked" if one.locked else "open", ", ".join(one.databases))
    console.print(table if found else f"{host.name}  has no MariaDB")


def _asked(host: Host, question: str) -> str:
    """MariaDB's answer.  Raises Problem when it gives none."""
    try:
        return host.ask(question)
    except StepFailed as error:
        next_step = f"fab -H {host.name} database"
        raise Problem(f"MariaDB on {host.name} gives no answer", next_step, error.details) from None


def read_databases(text: str, sites: tuple[Site, ...], dumps: Mapping[str, str] | None = None) -> Iterator[Database]:
    """What LIST printed, the sites' own first."""
    seen: dict[str, dict[str, list[str]]] = {"database": {}, "user": {}, "busy": {}}
    for line in text.splitlines():
        kind, name, *rest = [*line.split("\t"), ""]
        if kind in seen:
            seen[kind][name] = rest
    wanted = {site.owner: site.domain for site in sites if site.database}
    for name in (*wanted, *sorted(seen["database"].keys() - wanted.keys())):
        size, tables, *_ = seen["database"].get(name, ("0", "0"))
        most, locked, *_ = seen["user"].get(name, ("0", "1"))
        shut = locked in ("1", "true")
        if name in wanted:
            state = "missing" if name not in seen["database"] else "closed" if shut else "open"
        else:
            state = "locked" if shut else "open"
        busy = seen["busy"].get(name, ["0"])[0]
        most = most if most.isdigit() else "0"
        dump = (dumps or {}).get(name, "")
        yield Database(wanted.get(name, ""), name, int(size), int(tables), int(busy), int(most), state, dump)


def read_users(text: str, fleet: Fleet) -> Iterator[User]:
    """What USERS printed, by name."""
    names = {str(machine.address): machine.name for machine in fleet.hosts.values()}
    lines = [line.split("\t") for line in text.splitlines()]
    busy = {(fields[1], fields[2]): int(fields[3]) for fields in lines if fields[0] == "busy" and len(fields) == 4}
    for fields in lines:
        if fields[0] != "user" or len(fields) != 8:
            continue
        _, name, source, plugin, tls, locked, most, databases = fields
        by = {"unix_socket": "socket", "mysql_native_password": "password"}.get(plugin, plugin)
        yield User(
            name,
            "socket" if source == "localhost" else source,
            names.get(source, ""),
            by,
            tls not in ("", "0"),
            locked in ("1", "true"),
            busy.get((name, source), 0) + (busy.get((name, ""), 0) if source == "localhost" else 0),
            int(most) if most.isdigit() else 0,
            tuple(sorted(filter(None, databases.split(",")))),
        )
