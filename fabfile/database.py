"""MariaDB for the sites of this host: a database each, behind a socket, without a port or a password.  (T2 step 7)

The tutorial gives it a host of its own.  Here it is on the web server, for sites that say `database: true`.
"""

from __future__ import annotations

import gzip
import json as json_
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from invoke import Exit
from rich.table import Table

from .engine import Guarded, Host, Problem, StepFailed, console, query, task
from .engine.asking import confirmed
from .model import Refusal, Site

CONFIG = "/etc/mysql/mariadb.conf.d/99-gatehouse.cnf"
UNIT = "/etc/systemd/system/mariadb.service.d/gatehouse.conf"
CHECK = "mariadbd --help --verbose > /dev/null"
EMPTY = "/etc/gatehouse/empty"
ROSTER = "/etc/gatehouse/databases"
"""A file of SQL a site; `.gone` behind it when the site has no database any more."""

KEPT = "/var/lib/gatehouse/databases"
"""What a database held before something was loaded into it, for root alone."""

CONNECTIONS = 500
"""Of all sites together; they are few at a time, since FPM's workers are bounded by the host's memory."""

RIGHTS = (
    "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, CREATE TEMPORARY TABLES, LOCK TABLES, "
    "CREATE VIEW, SHOW VIEW, TRIGGER, CREATE ROUTINE, ALTER ROUTINE, EXECUTE"
)
"""What an application does with its own tables. No events, which run unasked; nothing that is the whole server's."""

# Debian's package does not look whether its installer made the system's tables; one that was killed meanwhile leaves a
# server that never starts, or that nobody can log in to. The installer writes m*_upgrade_info when it is done.
WHOLE = r"""
data=$(mariadbd --help --verbose 2> /dev/null | awk '$1 == "datadir" { print $2 }')
if ls "$data"/m*_upgrade_info; then exit 0; fi
others=$(find "$data" -mindepth 1 -maxdepth 1 -type d ! -name mysql ! -name performance_schema ! -name sys \
    ! -name test ! -name lost+found)
[ -z "$others" ] || fail "MariaDB's own tables are not whole, and there are others: look at journalctl -u mariadb"
say "MariaDB's own tables were not finished: make them anew"
systemctl stop mariadb
find "$data" -mindepth 1 ! -name lost+found -delete
mariadb-install-db --rpm --cross-bootstrap --user=mysql --disable-log-bin --skip-test-db
"""

# Debian makes neither; a server that is older than its package may have both. A `test` with tables is somebody's.
SECURE = r"""
sql() { mariadb --batch --skip-column-names -e "$1"; }
nameless=$(sql "SELECT CONCAT('DROP USER ', QUOTE(User), '@', QUOTE(Host), ';') FROM mysql.user
    WHERE User = '' AND is_role = 'N'")
sql "$nameless"
sql "DELETE FROM mysql.db WHERE User IN ('', 'PUBLIC') AND Db LIKE 'test%'; FLUSH PRIVILEGES"
[ "$(sql "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'test'")" != 0 ] ||
    sql 'DROP DATABASE IF EXISTS test'
"""

# Names are a site's owner, so letters, digits and hyphens; what else lies there is passed over.
CREATE = r"""
cd "$1"
{
    for file in *.sql; do [ ! -e "$file" ] || cat "$file"; done
    for file in *.sql.gone; do
        owner=${file%.sql.gone}
        case $owner in *[!a-z0-9-]*) continue ;; esac
        [ ! -e "$file" ] || printf "ALTER USER IF EXISTS '%s'@'localhost' ACCOUNT LOCK;\n" "$owner"
    done
} | mariadb --default-character-set=utf8mb4
"""

# The client runs no `\!` of it when it is loaded again: its first line says so (sandbox mode).
DUMPED = r"""
# dumped DATABASE: all of it, as of one moment, compressed; fails when any part does.
dumped() {
    code=$({
        {
            mariadb-dump --single-transaction --quick --routines --triggers --hex-blob --no-tablespaces \
                --default-character-set=utf8mb4 "$1" && echo 0 >&4 || echo 1 >&4
        } | gzip -3 >&5
    } 4>&1) || return 1
    return "$code"
}
"""

DUMP = DUMPED + 'exec 5>&1; dumped "$1"'

ARCHIVE = (
    DUMPED
    + r"""
archived() {
    dumped "$1" 5> "$2.new" && sync "$2.new" && mv -fT "$2.new" "$2" || { rm -f "$2.new"; return 1; }
}
"""
)

RECEIVE = r"""
set -e
mkdir -p "${1%/*}"
rm -f "${1%/*}"/*.in
cat > "$1"
[ "$(stat -c %s "$1")" = "$2" ] && gzip -t "$1" || { rm "$1"; echo "it did not come whole" >&2; exit 1; }
"""

# As the site's user: what is in a dump is the site's, and must not reach further. So its views, triggers and routines
# become that user's own, whoever had them where the dump was made.
LOAD = (
    ARCHIVE
    + r"""
owner=$1 inbox=$2 kept=$3 roster=$4
definer='^(CREATE|/\*![0-9]+|/\*![0-9]+ CREATE\*/ /\*![0-9]+) DEFINER=`[^`]*`@`[^`]*`'
filled() {
    mariadb -e "DROP DATABASE IF EXISTS \`$owner\`" && mariadb --default-character-set=utf8mb4 < "$roster/$owner.sql" &&
        gunzip -c "$1" | LC_ALL=C sed -E "s#$definer#\\1#" | setpriv --reuid "$owner" --regid "$owner" --clear-groups \
            mariadb --no-defaults --default-character-set=utf8mb4 --user="$owner" "$owner" 3>&-
}
say "keep what is there in $kept"
mariadb --default-character-set=utf8mb4 < "$roster/$owner.sql"
archived "$owner" "$kept" || fail "what is there could not be kept, so nothing was touched"
say "load it"
if ! filled "$inbox"; then
    say "put back what was there"
    filled "$kept" || fail "neither the dump nor what was there before could be loaded; that one is in $kept"
    rm -f "$inbox"
    fail "the dump was not taken, and what was there before is back"
fi
rm -f "$inbox"
ls -1r "${kept%/*}/$owner".*.sql.gz | tail -n +4 | xargs -r rm -f
"""
)

DROP = r"""
mariadb -e "DROP DATABASE IF EXISTS \`$1\`; DROP USER IF EXISTS '$1'@'localhost'"
"""

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


# ---------------------------------------------------------------------- the steps


@task(
    help={"buffer_mb": "memory for tables and indexes, in MB; 0 is an eighth of the host's, rounded down"},
    within={"buffer_mb": (0, 1_000_000)},
)
def configure(c, buffer_mb=0):
    """T2 step 7: no port, no way from a table to a file, utf8mb4, a small part of the memory, a log of slow queries.

    The tutorial binds it to the address of another machine, which no server can. Beside Debian's own files, and there
    before the package, whose first start would open a port.
    """
    host = Host.of(c)
    if not _ours(host):
        host.note("no site wants a database")
        return
    host.directory(EMPTY)
    host.template(
        CONFIG,
        check=CHECK,
        empty=EMPTY,
        buffer_mb=int(buffer_mb) or _buffer_mb(host.facts.memory_mb),
        connections=CONNECTIONS,
    )
    host.template(UNIT)


@task
def install(c):
    """T2 step 7: MariaDB, Debian's own MySQL, and its own tables whole."""
    host = Host.of(c)
    if _ours(host):
        host.packages("mariadb-server")
        host.run("see whether MariaDB's own tables are whole", WHOLE, name="mariadb-whole", on=[UNIT])


@task
def start(c):
    """T2 step 7: run it now and at every boot."""
    host = Host.of(c)
    if _ours(host):
        host.service("mariadb", restart_on=[CONFIG, UNIT], ready="mariadb-admin ping")


@task
def secure(c):
    """T2 step 7: nobody without a name, no database for everybody; root comes in by the socket alone."""
    host = Host.of(c)
    if _ours(host):
        host.run("shut what an older MariaDB left open", SECURE, name="mariadb-secure", on=[CONFIG])


@task(help={"again": "although nothing changed here: for a MariaDB that was installed afresh, or changed by hand"})
def create(c, again=False):
    """T2 step 7: a database a site and a user with rights in it alone, the site's own system user.

    A site that is gone from sites/, or says `database: false` now, keeps its data; its user is locked.
    """
    host = Host.of(c)
    if not _ours(host):
        return
    host.directory(ROSTER)
    wanted = {_file(site): site for site in host.sites if site.database}
    for path, site in wanted.items():
        if site in host.chosen:
            most = 2 * site.php.children if site.php else 10
            host.template(ROSTER + "/{database}.sql", database=site.owner, site=site, rights=RIGHTS, connections=most)
            host.absent(f"{path}.gone")
    for path in () if host.narrowed else host.facts.children(ROSTER, ".sql"):
        if path not in wanted:
            host.rename(path, f"{path}.gone")
    _create(host, again)


STEPS = (configure, install, start, secure, create)


def _ours(host: Host) -> bool:
    """Whether a site wants a database, or one did; a MariaDB that somebody else put there is left alone."""
    return any(site.database for site in host.sites) or ROSTER in host.facts.files


def _buffer_mb(memory_mb: int) -> int:
    """An eighth of the memory as a power of two: a kernel that counts a little less memory is no reason to restart."""
    return max(16, 1 << max(memory_mb // 8, 1).bit_length() - 1)


def take(host: Host) -> None:
    """The roster's files as they stand are what MariaDB has, data apart."""
    _create(host)


def _create(host: Host, again: bool = False) -> None:
    host.run("make the sites' databases", CREATE, ROSTER, name="databases", on=[] if again else [f"{ROSTER}/"])


# ---------------------------------------------------------------------- for site.remove


def archive(host: Host, site: Site, into: str) -> None:
    """The site's database as a compressed dump in `into` on the host, for root alone; nothing without a database."""
    if _there(host, site):
        host.run(f"archive the database {site.owner}", ARCHIVE + 'archived "$1" "$2"', site.owner, into)


def drop(host: Host, site: Site) -> None:
    """The site's database and its user go for good; nothing without a database."""
    if not _there(host, site):
        return
    host.run(f"drop the database {site.owner}", DROP, site.owner)
    host.absent(_file(site), f"{_file(site)}.gone")
    _create(host)


def _file(site: Site) -> str:
    return f"{ROSTER}/{site.owner}.sql"


def _there(host: Host, site: Site) -> bool:
    return bool({_file(site), f"{_file(site)}.gone"} & host.facts.files.keys())


# ---------------------------------------------------------------------- on call


@dataclass(frozen=True, slots=True)
class Database:
    """One database.

    site: the domain, empty when no site here has it; bytes: of tables and indexes, by InnoDB's own account;
    connections: open now, of `most`; state: `open`, `locked` (kept for nobody), `missing`, or `closed` (its user is not
    there or locked, and the site wants it).
    """

    site: str
    name: str
    bytes: int
    tables: int
    connections: int
    most: int
    state: str


@query(name="list", help={"json": "print site, name, bytes, tables, connections (of `most`), state as JSON"})
def show(c, json=False):
    """On call: each site's database: size, tables, connections.  Exit code 1 when one is missing or closed."""
    host = Host.of(c)
    try:
        databases = list(read_databases(host.ask(LIST), host.sites))
    except StepFailed as error:
        raise Problem(
            f"MariaDB on {host.name} gives no answer", f"fab -H {host.name} database", error.details
        ) from None
    wrong = [one for one in databases if one.state in ("missing", "closed")]
    if json:
        print(json_.dumps({"host": host.name, "databases": [asdict(one) for one in databases]}, indent=2))
    elif databases:
        table = Table(box=None, pad_edge=False, header_style="")
        for title in ("site", "database", "size", "tables", "connections", "state"):
            table.add_column(title, justify="left" if title in ("site", "database", "state") else "right")
        for one in databases:
            size = f"{one.bytes / 2**20:.1f} MB"
            connected = f"{one.connections} of {one.most}"
            table.add_row(one.site or "-", one.name, size, str(one.tables), connected, one.state)
        console.print(table)
    else:
        console.print(f"{host.name}  no site has a database")
    if wrong and not json:
        console.print(f"next: fab -H {host.name} database, and if that changes nothing: database.create --again")
    if wrong:
        raise Exit(code=1)


def read_databases(text: str, sites: tuple[Site, ...]) -> Iterator[Database]:
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
        yield Database(wanted.get(name, ""), name, int(size), int(tables), int(busy), int(most), state)


@query(positional=["domain"], help={"domain": "the site's domain", "to": "a file that is not there yet: NAME.sql.gz"})
def dump(c, domain, to=""):
    """On call: bring a site's database here as a compressed dump, readable by you alone.  Visitors notice nothing."""
    host = Host.of(c)
    site = _with_database(host, domain)
    path = Path(to)
    if not to or path.exists() or not path.parent.is_dir():
        wrong = "is there already" if to and path.exists() else "must be a new file in a directory that is there"
        raise Refusal(f"--to {to}: {wrong}\n  for example:  --to {site.owner}.sql.gz")
    descriptor, part = tempfile.mkstemp(prefix=".gatehouse-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as sink:
            host.stream(DUMP, site.owner, sink=sink)
            os.fsync(sink.fileno())
        os.link(part, path)
    finally:
        Path(part).unlink()
    console.print(f"{host.name}  the database {site.owner} is in {path} ({path.stat().st_size} bytes)")


@task(
    positional=["domain"],
    help={
        "domain": "the site's domain",
        "from_": "what database.dump, or another mariadb-dump through gzip, has written: NAME.sql.gz",
        "yes": "do not ask",
    },
)
def load(c, domain, from_="", yes=False):
    """On call: put a dump in the place of all that a site's database holds; that is kept on the host first.

    A dump that is not whole is refused before anything is touched (exit code 2); one that MariaDB does not take is
    taken back.  The site shows errors meanwhile, and old pages until its cache is purged.
    """
    host = Host.of(c)
    site = _with_database(host, domain)
    path = Path(from_)
    whole(path)
    if not yes and not host.dry:
        what = f"all that the database of {site.shown} on {host.name} holds is replaced by {path.name}"
        confirmed(what, (site.domain, site.shown))
    if _file(site) not in host.facts.files:
        raise Guarded(f"{site} has no database on {host.name} yet", f"fab -H {host.name} database")
    name = f"{KEPT}/{site.owner}.{time.strftime('%Y%m%d-%H%M%S', time.gmtime(host.facts.clock))}.sql.gz"
    if not host.dry:
        with path.open("rb") as source:
            host.stream(RECEIVE, f"{name}.in", str(path.stat().st_size), source=source)
    host.run(f"load {path.name} into {site.owner}", LOAD, site.owner, f"{name}.in", name, ROSTER)
    host.note(f"what it held before: {name}")


def _with_database(host: Host, domain: str) -> Site:
    site = host.site(domain)
    if not site.database:
        raise Refusal(f"{site} has no database\n  for example:  database: true, in its file in sites/")
    return site


def whole(path: Path) -> None:
    """Raises Refusal when `path` is not a whole compressed dump: gzip's own sum, and the line that comes last."""
    example = "\n  for example:  --from example-com.sql.gz, from database.dump"
    tail = b""
    try:
        with gzip.open(path) as stream:
            while block := stream.read(1 << 20):
                tail = (tail + block)[-200:]
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is not a whole file of gzip"
        raise Refusal(f"--from {path}: {reason}{example}") from None
    if b"\n-- Dump completed" not in tail:
        raise Refusal(f"--from {path}: it does not end as a whole dump does (-- Dump completed){example}")
