"""The resources that every tool brings to a host: what the product's own steps wish there, written down once.

    python -m tests.bench.wanted SSH_CONFIG HOST DIRECTORY [PATH...]

The paths are those that the first run took away.  What else must not be there never was on a host of ours, and nobody
would let a playbook look for it.

A host that notes every wish goes through the steps of `bootstrap`, as a dry run.  `Manifest.write` makes of it
manifest.json, the contents of the files beside it, and lists for the shell; all peers read the same directory.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fabfile import flows
from fabfile.engine import Host
from fabfile.engine.remote import Visit, connect, identity
from fabfile.model import find_fleet

MADE = ("/etc/gatehouse/", "/etc/haproxy/certs/")
"""Where a host keeps keys, certificates and passwords that it made for itself."""

LISTS = ("packages", "users", "memberships", "directories", "files", "once", "links", "absent", "services")

BESIDE = {
    "/etc/sysctl.d/": "restart systemd-sysctl.service",
    "/etc/iptables/rules.v": "restart netfilter-persistent.service",
}
"""Handlers for files that the product loads by a way of its own."""


@dataclass
class Manifest:
    """What shall be on a host.  Modes are octal text, as all the peers write them; a file's content lies at `source`.

    once: files that are put where none is yet; they are the site's.  notify: what a file's change asks for, such as
    `reload haproxy.service`; reloads: all of these, in the order in which they go.  left_out: what the product does
    besides, and no peer is asked to.
    """

    packages: list[str] = field(default_factory=list)
    users: list[dict[str, Any]] = field(default_factory=list)
    memberships: list[dict[str, str]] = field(default_factory=list)
    directories: list[dict[str, str]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    once: list[dict[str, Any]] = field(default_factory=list)
    links: list[dict[str, str]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    reloads: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How many there are of each kind, and in all."""
        found = {name: len(getattr(self, name)) for name in LISTS}
        return {**found, "all": sum(found.values())}

    def write(self, directory: Path, contents: Mapping[str, bytes]) -> None:
        """manifest.json, the contents by their digests in files/, and a list of each kind for the shell."""
        (directory / "files").mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (directory / "files" / name).write_bytes(content)
        (directory / "manifest.json").write_text(json.dumps(asdict(self), indent=1) + "\n")
        for name in (*LISTS, "reloads"):
            rows = (row if isinstance(row, str) else "\t".join(map(_cell, row.values())) for row in getattr(self, name))
            (directory / f"{name}.tsv").write_text("".join(f"{row}\n" for row in rows))

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """What `write` wrote."""
        return cls(**json.loads((directory / "manifest.json").read_text()))


def _cell(value: Any) -> str:
    """Of a row for the shell's `read`, in which tabs that follow one another would count as one."""
    return "-" if value is None else ",".join(value) or "-" if isinstance(value, list) else str(value)


@dataclass
class Wishes:
    """The verbs that steps spoke, in their order; a later one of the same path stands."""

    packages: dict[str, None] = field(default_factory=dict)
    users: dict[str, tuple[str, str, int | None]] = field(default_factory=dict)
    memberships: dict[tuple[str, str], None] = field(default_factory=dict)
    directories: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    files: dict[str, tuple[bytes, int, str, str]] = field(default_factory=dict)
    once: dict[str, tuple[bytes, int, str, str]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    absent: dict[str, None] = field(default_factory=dict)
    services: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    runs: dict[str, None] = field(default_factory=dict)

    def notify(self, path: str) -> list[str]:
        """What a change of this file asks for."""
        asked = [name for prefix, name in BESIDE.items() if path.startswith(prefix)]
        for unit, (reload_on, restart_on) in self.services.items():
            if _covered(path, restart_on):
                asked.append(f"restart {unit}")
            elif _covered(path, reload_on):
                asked.append(f"reload {unit}")
        return asked

    def manifest(self) -> tuple[Manifest, dict[str, bytes]]:
        """The same as data, and the contents by their names."""
        contents: dict[str, bytes] = {}

        def put(wished: Mapping[str, tuple[bytes, int, str, str]], told: bool) -> list[dict[str, Any]]:
            rows = []
            for path, (content, mode, owner, group) in wished.items():
                name = hashlib.sha256(content).hexdigest()[:24]
                contents[name] = content
                row = {"path": path, "mode": f"{mode:04o}", "owner": owner, "group": group, "source": name}
                rows.append({**row, "notify": self.notify(path)} if told else row)
            return rows

        files = put(self.files, told=True)
        return Manifest(
            packages=list(self.packages),
            users=[{"name": name, "home": home, "shell": shell, "uid": uid}
                   for name, (home, shell, uid) in self.users.items()],
            memberships=[{"user": user, "group": group} for user, group in self.memberships],
            directories=[{"path": path, "mode": f"{mode:04o}", "owner": owner, "group": group}
                         for path, (mode, owner, group) in sorted(self.directories.items())],
            files=files,
            once=put(self.once, told=False),
            links=[{"path": path, "target": target} for path, target in self.links.items()],
            absent=list(self.absent),
            services=list(self.services),
            reloads=sorted({name for each in files for name in each["notify"]}, key=turn),
            left_out=list(self.runs),
        ), contents  # fmt: skip


def turn(handler: str) -> tuple[bool, bool, str]:
    """When it goes: the kernel's settings and the firewall first, which others ask about; then who is started anew, by
    name: Apache lets go of port 80 before HAProxy takes it; then who takes its files again.
    """
    return handler not in BESIDE.values(), handler.startswith("reload "), handler


def _covered(path: str, prefixes: Iterable[str]) -> bool:
    return any(path.startswith(prefix) if prefix.endswith("/") else path == prefix for prefix in prefixes)


class Noting(Host):
    """A host in a dry run: every verb is noted, and then does what it always does."""

    wishes: Wishes

    def packages(self, *names: str, held: bool = False, answers: Iterable[str] = ()) -> None:
        """Note them."""
        self.wishes.packages.update(dict.fromkeys(names))
        super().packages(*names, held=held, answers=answers)

    def user(self, name: str, home: str = "/nonexistent", shell: str = "/usr/sbin/nologin", groups: Iterable[str] = (),
             uid: int | None = None, near: int | None = None) -> None:  # fmt: skip
        """Note it; one that only joins a group is another's."""
        groups = tuple(groups)
        if home != "/nonexistent" or not groups:
            self.wishes.users[name] = (home, shell, uid or near)
        self.wishes.memberships.update(dict.fromkeys((name, group) for group in groups))
        super().user(name, home, shell, groups, uid, near)

    def directory(self, path: str, mode: int = 0o755, owner: str = "root", group: str = "root") -> None:
        """Note it."""
        self.wishes.directories[path.rstrip("/")] = (mode, owner, group)
        super().directory(path, mode, owner, group)

    def file(self, path: str, content: str | bytes, *, check: str = "", mode: int = 0o644, owner: str = "root",
             group: str = "root", secret: bool = False) -> None:  # fmt: skip
        """Note it."""
        data = content.encode() if isinstance(content, str) else content
        self.wishes.absent.pop(path, None)
        self.wishes.files[path] = (data, mode, owner, group)
        super().file(path, data, check=check, mode=mode, owner=owner, group=group, secret=secret)

    def link(self, path: str, target: str, check: str = "") -> None:
        """Note it."""
        self.wishes.absent.pop(path, None)
        self.wishes.links[path] = target
        super().link(path, target, check)

    def absent(self, *paths: str, check: str = "") -> None:
        """Note them."""
        for path in paths:
            self.wishes.absent[path] = None
            self.wishes.files.pop(path, None)
            self.wishes.links.pop(path, None)
        super().absent(*paths, check=check)

    def seed(self, path: str, owner: str, group: str, mode: int, files: Mapping[str, str | bytes]) -> None:
        """Note the directory, and what is put there once."""
        self.wishes.directories[path] = (mode, owner, group)
        for inner, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            self.wishes.once[f"{path}/{inner}"] = (data, 0o644, owner, owner)
        super().seed(path, owner, group, mode, files)

    def service(self, name: str, *, reload_on: Iterable[str] = (), restart_on: Iterable[str] = (),
                ready: str = "true") -> None:  # fmt: skip
        """Note the unit, and which files it takes."""
        reload_on, restart_on = tuple(reload_on), tuple(restart_on)
        self.wishes.services[name if "." in name else f"{name}.service"] = (reload_on, restart_on)
        super().service(name, reload_on=reload_on, restart_on=restart_on, ready=ready)

    def run(self, label: str, script: str, *args: str, name: str = "", on: Iterable[str] = ()) -> None:
        """Note that there is something which no peer is asked to do."""
        self.wishes.runs[label] = None
        super().run(label, script, *args, name=name, on=on)


def noted(ssh_config: Path, name: str) -> Wishes:
    """What the steps of `bootstrap` wish on this host.  Nothing is touched there."""
    connection = connect(name, ssh_config)
    host = Noting(name, find_fleet(ssh_config), Visit(connection), dry=True)
    host.wishes = Wishes()
    Host.known[identity(connection)] = host
    with host.running("bench", as_json=True):
        flows.whole(connection)  # type: ignore[no-untyped-call]
    _made(host)
    return host.wishes


def _made(host: Noting) -> None:
    """What the host made for itself goes along as plain files, so that every daemon starts everywhere; and the
    directories that came with files.
    """
    wishes = host.wishes
    paths = [path for path, file in host.facts.files.items()
             if file.kind == "f" and path.startswith(MADE) and path not in wishes.files]  # fmt: skip
    found = io.BytesIO()
    names = io.BytesIO("".join(f"{path.lstrip('/')}\n" for path in paths).encode())
    host.stream("tar -C / -cf - --no-recursion --verbatim-files-from -T -", source=names, sink=found)
    found.seek(0)
    with tarfile.open(fileobj=found) as archive:
        for entry in archive:
            source, path = archive.extractfile(entry), f"/{entry.name}"
            file = host.facts.files[path]
            wishes.files[path] = (source.read() if source else b"", file.mode, file.owner, file.group)
    wished = (*wishes.files, *wishes.links, *wishes.directories)
    ups = {str(up) for path in wished for up in PurePosixPath(path).parents}
    ups = {up for up in ups if up.startswith("/etc/") and up in host.facts.files and up not in wishes.directories}
    foreign = host.ask('for path do dpkg -S "$path" > /dev/null 2>&1 || printf "%s\\n" "$path"; done', *sorted(ups))
    for up in foreign.splitlines():
        file = host.facts.files[up]
        wishes.directories[up] = (file.mode, file.owner, file.group)


if __name__ == "__main__":
    manifest, contents = noted(Path(sys.argv[1]), sys.argv[2]).manifest()
    manifest.absent = [path for path in manifest.absent if path in sys.argv[4:]]
    manifest.write(Path(sys.argv[3]), contents)
