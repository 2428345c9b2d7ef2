"""What one look at a host tells: text to values, and nothing else.

`look.sh` prints records that end with a NUL byte; `Facts.of` reads them.  The snapshot is then kept up to date by the
changes themselves, so that a step sees what the one before it did (see `changes`).
"""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

STAGING = re.compile(r".*/\.gatehouse\.[A-Za-z0-9]{8}")
"""A place that `stage` in prelude.sh makes."""

NONE: Mapping[str, str] = {}


class File(NamedTuple):
    """One name under a managed root, as `find -printf` tells it.

    kind: 'f' file, 'd' directory, 'l' link; mode: permission bits; mtime: seconds, as text, to the nanosecond;
    target: where a link points; digest: SHA-256 of a file's content, empty where it was not read.
    """

    kind: str
    mode: int
    owner: str
    group: str
    size: int
    mtime: str
    target: str = ""
    digest: str = ""


class Files(dict[str, File]):
    """Names by their paths; what lies below a directory is found without a look at all of them."""

    _order: list[str] | None = None

    def __setitem__(self, path: str, entry: File) -> None:
        if path not in self:
            self._order = None
        super().__setitem__(path, entry)

    def __delitem__(self, path: str) -> None:
        self._order = None
        super().__delitem__(path)

    def below(self, directory: str) -> list[str]:
        """The paths below a directory, which ends in a slash, sorted."""
        if self._order is None:
            self._order = sorted(self)
        # The last character that there is: after all that can follow the slash.
        ends = (bisect_left(self._order, end) for end in (directory, directory + chr(sys.maxunicode)))
        return self._order[slice(*ends)]


class User(NamedTuple):
    """A line of /etc/passwd."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


class Unit(NamedTuple):
    """A systemd unit: its ActiveState (`active`, `failed`, ...) and its UnitFileState (`enabled`, `masked`, ...)."""

    active: str = "inactive"
    enabled: str = ""


@dataclass
class Facts:
    """A snapshot of one host.  Chapters decide from it; only the engine brings it up to date."""

    system: str = ""
    release: str = ""
    codename: str = ""
    arch: str = ""
    boot: str = ""
    clock: int = 0
    memory_mb: int = 0
    hostname: str = ""
    container: str = ""
    addresses: tuple[str, ...] = ()
    ipv6: str = ""
    client: str = ""
    ssh_ports: tuple[int, ...] = ()
    sshd: dict[str, str] = field(default_factory=dict)
    lists_updated: int = 0
    unproved: bool = False
    unended: bool = False
    stale: tuple[str, ...] = ()
    audit: str = ""
    reboot_needed: str = ""
    operators: tuple[str, ...] = ()
    card: dict[str, str] = field(default_factory=dict)
    mark: tuple[str, ...] = ()
    rules4: tuple[str, ...] = ()
    rules6: tuple[str, ...] = ()
    packages: dict[str, str] = field(default_factory=dict)
    files: Files = field(default_factory=Files)
    users: dict[str, User] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    loaded: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[str]) -> Facts:
        """Read the records of `look.sh`.  Unknown records are passed over."""
        look = Look()
        for record in records:
            look.hear(record)
        return look.facts()

    def read(self, record: str) -> None:
        """Take in one record of the look, or of a script's report."""
        kind, _, rest = record.partition("\t")
        if kind in _FIELDS:
            _FIELDS[kind](self, rest)
        else:
            kind, _, rest = record.partition("\n")
            if kind in _BLOCKS:
                _BLOCKS[kind](self, rest.splitlines())

    def take(self, records: Iterable[str]) -> None:
        """Bring the snapshot up to date with a script's report; a file's digest is the one that was placed."""
        for record in records:
            if record.startswith("file\t"):
                path, entry = _file(record)
                known = self.files.get(path)
                self.files[path] = entry._replace(digest=known.digest if known and entry.kind == "f" else "")
            elif record.startswith("loaded\t"):
                self.read(record)

    def under(self, prefixes: Iterable[str]) -> list[str]:
        """The names of files and links at these paths; one that ends in a slash stands for all below it."""
        found: set[str] = set()
        for prefix in prefixes:
            found.update(self.files.below(prefix) if prefix.endswith("/") else {prefix} & self.files.keys())
        return [path for path in found if self.files[path].kind in "fl"]

    def digest(self, prefixes: Iterable[str]) -> str:
        """What a service would take if it were loaded now: the same sum as `digest` in prelude.sh."""
        prefixes = tuple(prefixes)
        lines = sorted(
            f"{self.files[path].mtime} {path}\0".encode("utf-8", "surrogateescape") for path in self.under(prefixes)
        )
        return hashlib.sha256(b"".join(lines)).hexdigest()

    def set_aside(self) -> None:
        """Staging places that a killed run left are to be swept up, and no chapter's business.

        Only root's own directories, and in none that belongs to a site's user.
        """
        places = [path for path, entry in self.files.items() if entry.kind == "d" and STAGING.fullmatch(path)]
        self.stale = tuple(path for path in places if all(self.files[up].owner == "root" for up in self._upwards(path)))
        for path in [path for path in self.files if self.stale and set(self.stale) & set(self._upwards(path))]:
            del self.files[path]

    def _upwards(self, path: str) -> list[str]:
        return [up for up in (path, *map(str, PurePosixPath(path).parents)) if up in self.files]

    def children(self, directory: str, suffix: str = "") -> list[str]:
        """The paths directly in a directory, sorted."""
        beneath = directory.rstrip("/") + "/"
        return [path for path in self.files.below(beneath) if path.endswith(suffix) and "/" not in path[len(beneath) :]]


class Look:
    """The records of `look.sh` as they come: those of files are read while the host still makes digests."""

    def __init__(self) -> None:
        self._facts = Facts()
        self._files: dict[str, File] = {}
        self._owners: dict[str, str] = {}
        self._groups: dict[str, str] = {}

    def hear(self, record: str) -> None:
        """The next one.  Users and groups come before files, files before digests."""
        if record.startswith("file\t"):
            path, entry = _file(record, self._owners, self._groups)
            self._files[path] = entry
        elif record[64:67] == "  /" and "\n" not in record[:64]:
            if known := self._files.get(record[66:]):
                self._files[record[66:]] = File(*known[:-1], record[:64])
        else:
            self._facts.read(record)
            if record.startswith("users\n"):
                self._owners = _by_number(record)
            elif record.startswith("groups\n"):
                self._groups = _by_number(record)

    def facts(self) -> Facts:
        """All of it, once it is all here."""
        self._facts.files = Files(self._files)
        self._facts.set_aside()
        return self._facts


def _file(record: str, owners: Mapping[str, str] = NONE, groups: Mapping[str, str] = NONE) -> tuple[str, File]:
    _, kind, mode, owner, group, size, mtime, target, path = record.split("\t", 8)
    return path, File(kind, int(mode, 8), owners.get(owner, owner), groups.get(group, group), int(size), mtime, target)


def _by_number(block: str) -> dict[str, str]:
    """The names in /etc/passwd or /etc/group; of those that share a number the first counts, as for getpwuid(3)."""
    rows = (line.split(":") for line in reversed(block.splitlines()))
    return {row[2]: row[0] for row in rows if len(row) > 3}


def _os(facts: Facts, rest: str) -> None:
    facts.system, facts.release, facts.codename = rest.split("\t")


def _connection(facts: Facts, rest: str) -> None:
    words = rest.split()
    facts.client = words[0] if words else ""
    if len(words) == 4 and int(words[3]) not in facts.ssh_ports:
        facts.ssh_ports = tuple(sorted({*facts.ssh_ports, int(words[3])}))


def _sshd(facts: Facts, lines: list[str]) -> None:
    for name, value in (line.partition(" ")[::2] for line in lines):
        facts.sshd.setdefault(name, value)
    ports = {int(line.split()[1]) for line in lines if line.startswith("port ")}
    facts.ssh_ports = tuple(sorted({*facts.ssh_ports, *ports}))


def _packages(facts: Facts, lines: list[str]) -> None:
    for line in lines:
        status, name, version = line.split("\t")
        if status.startswith(("ii", "hi")):
            facts.packages[name] = version


def _users(facts: Facts, lines: list[str]) -> None:
    for line in lines:
        fields = line.split(":")
        if len(fields) == 7:
            facts.users[fields[0]] = User(fields[0], int(fields[2]), int(fields[3]), fields[5], fields[6])


def _groups(facts: Facts, lines: list[str]) -> None:
    for line in lines:
        fields = line.split(":")
        if len(fields) == 4:
            facts.groups[fields[0]] = tuple(filter(None, fields[3].split(",")))


def _units(facts: Facts, lines: list[str]) -> None:
    for line in lines:
        name, _, active, *_ = [*line.replace("●", " ").split(), "", "", ""]
        facts.units[name] = Unit(active, facts.units.get(name, Unit()).enabled)


def _unit_files(facts: Facts, lines: list[str]) -> None:
    for line in lines:
        name, state, *_ = [*line.split(), "", ""]
        facts.units[name] = Unit(facts.units.get(name, Unit()).active, state)


def _loaded(facts: Facts, lines: list[str]) -> None:
    for line in lines:
        path, _, digest = line.partition(":")
        facts.loaded[path.rpartition("/")[2]] = digest


def _set_loaded(facts: Facts, rest: str) -> None:
    unit, digest = rest.split("\t")
    facts.loaded[unit] = digest


def _card(facts: Facts, rest: str) -> None:
    name, _, content = rest.partition("\t")
    facts.card[name] = content


def _text(name: str):  # type: ignore[no-untyped-def]
    return lambda facts, rest: setattr(facts, name, rest)


def _number(name: str):  # type: ignore[no-untyped-def]
    return lambda facts, rest: setattr(facts, name, int(rest or 0))


def _words(name: str):  # type: ignore[no-untyped-def]
    return lambda facts, rest: setattr(facts, name, tuple(rest.split()))


def _lines(name: str):  # type: ignore[no-untyped-def]
    return lambda facts, lines: setattr(facts, name, tuple(filter(None, lines)))


_FIELDS = {
    "os": _os,
    "boot": _text("boot"),
    "clock": _number("clock"),
    "memory": _number("memory_mb"),
    "hostname": _text("hostname"),
    "container": lambda facts, rest: setattr(facts, "container", "" if rest == "none" else rest),
    "reboot": _text("reboot_needed"),
    "addresses": _words("addresses"),
    "ipv6": _text("ipv6"),
    "arch": _text("arch"),
    "connection": _connection,
    "lists": _number("lists_updated"),
    "unproved": lambda facts, rest: setattr(facts, "unproved", bool(rest)),
    "unended": lambda facts, rest: setattr(facts, "unended", bool(rest)),
    "loaded": _set_loaded,
    "card": _card,
}
_BLOCKS = {
    "packages": _packages,
    "users": _users,
    "groups": _groups,
    "units": _units,
    "unit-files": _unit_files,
    "loaded": _loaded,
    "sshd": _sshd,
    "rules4": _lines("rules4"),
    "rules6": _lines("rules6"),
    "operators": _lines("operators"),
    "mark": _lines("mark"),
    "audit": lambda facts, lines: setattr(facts, "audit", "\n".join(lines)),
}


def quoted(words: Iterable[str]) -> str:
    """Words as one line of POSIX shell: the only way in which a value enters a script."""
    return " ".join(shlex.quote(word) for word in words)
