"""Dumps: all of a database as of one moment, kept on its host or brought here; and how one tells a whole one."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tempfile
import time
import zlib
from contextlib import suppress
from pathlib import Path

from ..engine import Guarded, Host, console, flow
from ..model import Problem, Refusal, Site
from .places import KEPT, refuse_elsewhere, roster_file, shell, with_database

HERE = 'exec 5>&1; dumped "$1"'
KEEP = 7
"""Dumps of a site that are kept when nothing else is said."""

LIST = 'ls -1r "$1" 2> /dev/null | grep "\\.sql\\.gz$" || :'
NAME = re.compile(r"(?P<owner>[a-z][a-z0-9-]*)\.(?P<when>\d{8}-\d{6})\.sql\.gz")


@flow(
    run="db.dump",
    positional=["domain"],
    help={
        "domain": "the site's domain; without it, every database of the host, one after the other",
        "to": "bring it here instead, into a new file NAME.sql.gz; its checksum goes into NAME.sql.gz.sha256",
        "keep": "so many dumps of each site stay on the host",
        "days": "and of the older ones those of the last so many days",
        "json": "print the outcome of every step as JSON",
    },
    within={"keep": (1, 10_000), "days": (0, 3650)},
)
def dump(c, domain="", to="", keep=KEEP, days=0, json=False):  # noqa: ARG001  (the engine reads it)
    """On call: dump a site's database as of one moment, compressed, with its checksum, for root alone.  Nobody waits.

    It is kept on the host, in /var/lib/gatehouse/databases, or brought here, readable by you alone.
    """
    host = Host.of(c)
    typed = f"db.dump {domain}".strip()
    refuse_elsewhere(host, typed)
    sites = (with_database(host, domain, "db.dump"),) if domain else tuple(s for s in host.sites if s.database)
    if to:
        if not domain:
            raise Refusal("--to wants one site\n  for example:  db.dump example.com --to example-com.sql.gz")
        _bring(host, sites[0], _new_file(to, sites[0]))
        return
    for site in sites:
        with host.step(f"db.dump {site}"):
            there(host, site)
            name = stamped(host, site)
            program = shell("dump") + 'archived "$1" "$2"; tidied "${2%/*}" "$3" "$4" "$5"'
            host.run(f"dump {site.owner}", program, site.owner, name, site.owner, str(keep), str(days))
            host.note(f"{name} on {host.name}")


def stamped(host: Host, site: Site) -> str:
    """What a dump of this moment is called on the host."""
    when = time.strftime("%Y%m%d-%H%M%S", time.gmtime(host.facts.clock))
    return f"{KEPT}/{site.owner}.{when}.sql.gz"


def there(host: Host, site: Site) -> None:
    """Raises Guarded when the site has no database here yet."""
    if roster_file(site) not in host.facts.files:
        raise Guarded(f"{site} has no database on {host.name} yet", f"fab -H {host.name} database")


def kept(host: Host) -> dict[str, list[str]]:
    """The names of the dumps on the host, by the site's owner, newest first."""
    found: dict[str, list[str]] = {}
    for name in host.ask(LIST, KEPT).splitlines():
        if match := NAME.fullmatch(name):
            found.setdefault(match["owner"], []).append(name)
    return found


def judged(host: Host, path: str) -> tuple[int, int, int]:
    """The bytes of SQL, the tables and the rows in a dump on the host.  Raises Refusal when it is not whole."""
    answer = host.ask(shell("judge"), path).strip()
    if not (match := re.fullmatch(r"whole (\d+) (\d+) (\d+)", answer)):
        raise Refusal(Problem(f"{path} on {host.name}: {answer}; nothing was touched", next="take another one"))
    size, tables, rows = map(int, match.groups())
    return size, tables, rows


# ---------------------------------------------------------------------- here


def _new_file(to: str, site: Site) -> Path:
    path = Path(to)
    for each in (path, checksum(path)):
        if each.exists() or not path.parent.is_dir():
            wrong = "is there already" if each.exists() else "must be a new file in a directory that is there"
            raise Refusal(f"--to {each}: {wrong}\n  for example:  --to {site.owner}.sql.gz")
    return path


def _bring(host: Host, site: Site, path: Path) -> None:
    """Under its own name only when it is whole, and its checksum before it."""
    descriptor, part = tempfile.mkstemp(prefix=".gatehouse-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as sink:
            host.stream(shell("dump") + HERE, site.owner, sink=sink)
            os.fsync(sink.fileno())
        with os.fdopen(os.open(checksum(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as beside:
            beside.write(f"{_digest(Path(part))}  {path.name}\n")
        os.link(part, path)
    finally:
        Path(part).unlink()
    console.print(f"{host.name}  the database {site.owner} is in {path} ({path.stat().st_size} bytes)", markup=False)


def checksum(path: Path) -> Path:
    """The file beside a dump that has its SHA-256, as sha256sum(1) reads it."""
    return path.with_name(path.name + ".sha256")


def whole(path: Path) -> int:
    """The bytes of SQL in a compressed dump.

    Raises Refusal when it is not whole: the checksum beside it, where there is one, gzip's own, and the line that comes
    last in every dump.
    """
    example = "\n  for example:  --from example-com.sql.gz, from db.dump --to"
    tail, size = b"", 0
    try:
        _same(path)
        with gzip.open(path) as stream:
            while block := stream.read(1 << 20):
                tail, size = (tail + block)[-200:], size + len(block)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is not a whole file of gzip"
        raise Refusal(f"--from {path}: {reason}{example}") from None
    if b"\n-- Dump completed" not in tail:
        raise Refusal(f"--from {path}: it does not end as a whole dump does (-- Dump completed){example}")
    return size


def _same(path: Path) -> None:
    wanted = ""
    with suppress(FileNotFoundError):
        wanted = checksum(path).read_text().split(" ")[0].strip()
    if wanted and wanted != _digest(path):
        raise Refusal(f"--from {path}: its checksum is not the one in {checksum(path)}: it was cut or changed")


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
