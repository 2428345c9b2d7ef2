"""What is missing between what a host has and what a step wishes: pure values.

Every `for_*` function takes the facts and a wish and returns the changes that are needed, none when the wish is
already true.  A change can say what it does (`summary`), and can enter its outcome in the facts (`predict`), which is
how a dry run lets later steps see what earlier ones would have done.  `script` turns changes into shell.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from .facts import Facts, File, Unit, User

MANAGED = ("/etc/", "/usr/local/", "/var/www/")


class Install(NamedTuple):
    """Debian packages that are not installed; `held`: no service is started, stopped or loaded again for it.

    `ahead`: what later steps of the run want, which comes along if it can.  `answers`: see Host.packages.
    """

    names: tuple[str, ...]
    held: bool = False
    answers: tuple[str, ...] = ()
    ahead: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        later = f" and {len(self.ahead)} that later steps want" if self.ahead else ""
        return f"install {' '.join(self.names)}{later}"

    def predict(self, facts: Facts) -> None:
        facts.packages.update(dict.fromkeys(self.names, "new"))


class AddUser(NamedTuple):
    """A system user with a group of its own; both have the number `uid`, or one that the host gives."""

    name: str
    home: str
    shell: str
    uid: int | None = None

    @property
    def summary(self) -> str:
        return f"user {self.name}"

    def predict(self, facts: Facts) -> None:
        facts.users[self.name] = User(self.name, self.uid or -1, self.uid or -1, self.home, self.shell)
        facts.groups.setdefault(self.name, ())


class JoinGroup(NamedTuple):
    """A user becomes a member of a group."""

    user: str
    group: str

    @property
    def summary(self) -> str:
        return f"user {self.user} joins {self.group}"

    def predict(self, facts: Facts) -> None:
        facts.groups[self.group] = (*facts.groups.get(self.group, ()), self.user)


class MakeDirectory(NamedTuple):
    """A directory, or its mode and owner put right."""

    path: str
    mode: int
    owner: str
    group: str
    why: str = "new"

    @property
    def summary(self) -> str:
        return f"{self.path}/ {self.why}"

    def predict(self, facts: Facts) -> None:
        facts.files[self.path] = File("d", self.mode, self.owner, self.group, 0, "?")


class PutFile(NamedTuple):
    """A file's content, mode and owner, placed by one rename once `check` has accepted it."""

    path: str
    content: bytes
    mode: int
    owner: str
    group: str
    check: str = ""
    why: str = "new"
    secret: bool = False

    @property
    def summary(self) -> str:
        return f"{self.path} {self.why}"

    def predict(self, facts: Facts) -> None:
        digest = hashlib.sha256(self.content).hexdigest()
        facts.files[self.path] = File("f", self.mode, self.owner, self.group, len(self.content), "?", "", digest)


class PutLink(NamedTuple):
    """A symbolic link, replaced by one rename."""

    path: str
    target: str
    check: str = ""
    why: str = "new"

    @property
    def summary(self) -> str:
        return f"{self.path} -> {self.target}"

    def predict(self, facts: Facts) -> None:
        facts.files[self.path] = File("l", 0o777, "root", "root", 0, "?", self.target)


class Remove(NamedTuple):
    """A file or a link goes."""

    path: str
    check: str = ""

    @property
    def summary(self) -> str:
        return f"{self.path} removed"

    def predict(self, facts: Facts) -> None:
        if self.path in facts.files:
            del facts.files[self.path]


class Rename(NamedTuple):
    """A file gets another name in its directory."""

    path: str
    to: str
    check: str = ""

    @property
    def summary(self) -> str:
        return f"{self.path} -> {PurePosixPath(self.to).name}"

    def predict(self, facts: Facts) -> None:
        facts.files[self.to] = facts.files[self.path]
        del facts.files[self.path]


class Seed(NamedTuple):
    """A directory that belongs to a site's user, filled as that user, once."""

    path: str
    owner: str
    group: str
    mode: int
    files: tuple[tuple[str, bytes], ...]

    @property
    def summary(self) -> str:
        return f"{self.path}/ for {self.owner}"

    def predict(self, facts: Facts) -> None:
        facts.files[self.path] = File("d", self.mode, self.owner, self.group, 0, "?")


class Run(NamedTuple):
    """A piece of shell with its arguments: the way out where no verb fits."""

    label: str
    script: str
    args: tuple[str, ...]
    name: str = ""
    on: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        return self.label

    def predict(self, facts: Facts) -> None:
        """All that is known is what it will have taken."""
        if self.on:
            facts.loaded[self.name] = facts.digest(self.on)


class Load(NamedTuple):
    """A unit is enabled, and started, reloaded or restarted; the former files return when it refuses."""

    unit: str
    enable: bool
    action: str
    ready: str
    reload_on: tuple[str, ...]
    restart_on: tuple[str, ...]
    why: str

    @property
    def summary(self) -> str:
        done = {"start": "started", "reload": "reloaded", "restart": "restarted", "": "enabled"}[self.action]
        return f"{self.unit.removesuffix('.service')} {done}" + (f", because {self.why}" if self.why else "")

    def predict(self, facts: Facts) -> None:
        facts.units[self.unit] = Unit("active", "enabled")
        facts.loaded[self.unit] = facts.digest(self.reload_on)
        facts.loaded[self.unit + ".restart"] = facts.digest(self.restart_on)


Change = Install | AddUser | JoinGroup | MakeDirectory | PutFile | PutLink | Remove | Rename | Seed | Run | Load


def for_packages(
    facts: Facts, names: Iterable[str], held: bool = False, answers: Iterable[str] = ()
) -> tuple[Change, ...]:
    """The packages that are not installed, in one go."""
    missing = tuple(name for name in names if name not in facts.packages)
    return (Install(missing, held, (*answers,)),) if missing else ()


def for_user(
    facts: Facts,
    name: str,
    home: str,
    shell: str,
    groups: Iterable[str] = (),
    uid: int | None = None,
    near: int | None = None,
) -> tuple[Change, ...]:
    """The user, when it is missing; its memberships, when one is."""
    new: tuple[Change, ...] = ()
    if name not in facts.users:
        if uid is None and near is not None:
            taken = {number for user in facts.users.values() for number in (user.uid, user.gid)}
            uid = next(number for number in itertools.count(near) if number not in taken)
        new = (AddUser(name, home, shell, uid),)
    return new + tuple(JoinGroup(name, group) for group in groups if name not in facts.groups.get(group, ()))


def for_directory(facts: Facts, path: str, mode: int, owner: str, group: str) -> tuple[Change, ...]:
    """The directory and its missing parents, or its mode and owner put right."""
    path = _managed(path)
    now = facts.files.get(path)
    if now is None:
        return (*_parents(facts, path), MakeDirectory(path, mode, owner, group))
    if now.kind != "d":
        raise ValueError(f"{path} is wanted as a directory, but it is not one")
    why = _differs(now, mode, owner, group)
    return (MakeDirectory(path, mode, owner, group, why),) if why else ()


def for_file(
    facts: Facts,
    path: str,
    content: bytes,
    *,
    mode: int = 0o644,
    owner: str = "root",
    group: str = "root",
    check: str = "",
    secret: bool = False,
) -> tuple[Change, ...]:
    """The file, when its content, kind, mode or owner differ from the wish."""
    path = _managed(path)
    now = facts.files.get(path)
    if now is None:
        return (*_parents(facts, path), PutFile(path, content, mode, owner, group, check, "new", secret))
    if now.kind == "d":
        raise ValueError(f"{path} is wanted as a file, but a directory is there")
    why = "changed" if now.digest != hashlib.sha256(content).hexdigest() else _differs(now, mode, owner, group)
    return (PutFile(path, content, mode, owner, group, check, why, secret),) if why else ()


def for_link(facts: Facts, path: str, target: str, check: str = "") -> tuple[Change, ...]:
    """The link, when it is missing or points elsewhere."""
    path = _managed(path)
    now = facts.files.get(path)
    if now is None:
        return (*_parents(facts, path), PutLink(path, target, check))
    if now.kind == "d":
        raise ValueError(f"{path} is wanted as a link, but a directory is there")
    return () if (now.kind, now.target) == ("l", target) else (PutLink(path, target, check, "changed"),)


def for_absent(facts: Facts, path: str, check: str = "") -> tuple[Change, ...]:
    """The file or link goes, when it is there.  Directories are never removed."""
    now = facts.files.get(_managed(path))
    if now is not None and now.kind == "d":
        raise ValueError(f"{path} is a directory: those are never removed")
    return (Remove(path, check),) if now else ()


def for_rename(facts: Facts, path: str, to: str, check: str = "") -> tuple[Change, ...]:
    """The file gets its other name, when it still has the first one."""
    if PurePosixPath(path).parent != PurePosixPath(to).parent:
        raise ValueError(f"{path} would leave its directory")
    return (Rename(path, to, check),) if _managed(path) in facts.files else ()


def for_seed(
    facts: Facts, path: str, owner: str, group: str, mode: int, files: Iterable[tuple[str, bytes]]
) -> tuple[Change, ...]:
    """The site's own directory, when it is not there yet; what is there belongs to the site."""
    return () if _managed(path) in facts.files else (Seed(path, owner, group, mode, tuple(files)),)


def for_run(
    facts: Facts, label: str, script: str, args: Iterable[str] = (), name: str = "", on: Iterable[str] = ()
) -> tuple[Change, ...]:
    """The piece of shell; with `on`, only when one of those files changed since it last succeeded."""
    on = tuple(on)
    if on and facts.loaded.get(name) == facts.digest(on):
        return ()
    return (Run(label, script, tuple(args), name, on),)


def for_service(
    facts: Facts, unit: str, ready: str, reload_on: Iterable[str] = (), restart_on: Iterable[str] = ()
) -> tuple[Change, ...]:
    """The unit runs now and at boot, with the files as they are.

    The host remembers, for each unit, the names and times of the files that it last took.
    """
    reload_on, restart_on = tuple(reload_on), tuple(restart_on)
    now = facts.units.get(unit)
    if now is not None and now.enabled.startswith("masked"):
        raise ValueError(f"{unit} is masked on this host; let it go with: systemctl unmask {unit}")
    stale_restart = bool(restart_on) and facts.loaded.get(unit + ".restart") != facts.digest(restart_on)
    stale_reload = bool(reload_on) and facts.loaded.get(unit) != facts.digest(reload_on)
    if now is None:
        action, why = "restart", ""
    elif now.active != "active":
        action, why = "start", "" if now.active == "inactive" else f"it was {now.active}"
    elif stale_restart or stale_reload:
        action = "restart" if stale_restart else "reload"
        why = _newest(facts, restart_on if stale_restart else reload_on)
    else:
        action, why = "", ""
    enable = now is None or now.enabled not in ("enabled", "static", "indirect", "generated", "alias")
    if not action and not enable:
        return ()
    return (Load(unit, enable, action, ready, reload_on, restart_on, why),)


def _newest(facts: Facts, prefixes: tuple[str, ...]) -> str:
    """Of the files that a unit takes, the one that changed last: the reason that is shown."""
    paths = facts.under(prefixes)
    if not paths:
        return "its files went"
    return max(paths, key=lambda path: (facts.files[path].mtime == "?", facts.files[path].mtime)) + " changed"


def _differs(now: File, mode: int, owner: str, group: str) -> str:
    if now.kind == "l":
        return "was a link"
    if now.mode != mode:
        return f"mode {now.mode:04o} -> {mode:04o}"
    if (now.owner, now.group) != (owner, group):
        return f"owner {now.owner}:{now.group} -> {owner}:{group}"
    return ""


def _managed(path: str) -> str:
    """Only paths that the look covers can be wished for."""
    if not path.startswith(MANAGED) or ".." in path.split("/"):
        raise ValueError(f"{path} is outside {', '.join(MANAGED)}")
    return path


def _parents(facts: Facts, path: str) -> tuple[Change, ...]:
    missing = [
        str(up) for up in PurePosixPath(path).parents if str(up) + "/" not in ("/", *MANAGED) and len(up.parts) > 2
    ]
    for up in missing:
        if up in facts.files and facts.files[up].kind not in "dl":
            raise ValueError(f"{up} is wanted as a directory, but a file is there: look at it, then move it away")
    return tuple(
        MakeDirectory(up, 0o755, "root", "root")
        for up in reversed(missing)
        if up not in facts.files and (up + "/").startswith(MANAGED)
    )
