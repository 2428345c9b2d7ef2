"""Changes to one POSIX shell script with its files: pure text, every value quoted.

The script and its files travel as one `Box`, a tar that the host unpacks in a directory for root alone.
`prelude.sh` holds the words that the script is written in.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from .changes import (
    AddUser,
    Change,
    Install,
    JoinGroup,
    Load,
    MakeDirectory,
    PutFile,
    PutLink,
    Remove,
    Rename,
    Run,
    Seed,
)
from .facts import Facts, quoted

SHELL = Path(__file__).parent / "shell"
T = TypeVar("T")
Candidate = PutFile | PutLink | Remove | Rename


@dataclass
class Box:
    """A program named `run` and the files it uses."""

    lines: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def add(self, *words: str) -> None:
        """One command, its words quoted."""
        self.lines.append(quoted(words))

    def keep(self, name: str, content: bytes) -> str:
        """A file for the script; returns its name in the box."""
        self.files[name] = content
        return name

    def packed(self) -> bytes:
        """The gzipped tar that goes over the wire."""
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as tar:
            for name, content in {"run": "\n".join(self.lines).encode() + b"\n", **self.files}.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o600
                tar.addfile(entry, io.BytesIO(content))
        return gzip.compress(raw.getvalue(), 1)


def look() -> Box:
    """The one look."""
    return Box([". ./look.sh"], {"look.sh": (SHELL / "look.sh").read_bytes()})


def apply(changes: Sequence[Change], facts: Facts, run: Sequence[str] = (), mark: str = "") -> Box:
    """The script of a step.

    `run` says who does what: the name and the operator of a run that begins its entry in the history of /etc with this
    script; `mark` is left on the host (see mark.py).
    """
    box = program()
    box.add("memory")
    if mark:
        box.add("op", "mark the host")
        box.add("mark", mark)
    if facts.stale:
        box.add("op", "sweep up what a broken run left")
        box.add("sweep", *facts.stale)
    if run:
        box.add("op", "keep /etc as it was found")
        # The session knows the operator's address (SSH_CONNECTION).
        box.lines.append(quoted(["begin_entry", *run]) + ' "${1%% *}"')
    for number, (barrier, group) in enumerate(
        groupby(changes, key=lambda change: isinstance(change, Install | Run | Load))
    ):
        if barrier:
            for change in group:
                _barrier(box, change)
        else:
            _segment(box, str(number), list(group), facts)
    if looks_again(changes):
        box.keep("look.sh", (SHELL / "look.sh").read_bytes())
        box.lines.append('sh ./look.sh "$1" >&3')
    else:
        paths = [path for change in changes for path in touched(change)]
        if paths:
            box.add("report", *paths)
    return box


def looks_again(changes: Iterable[Change]) -> bool:
    """Whether nothing but a new look tells what came of these: files of packages, the number of a user, anything."""
    return any(isinstance(change, Install | Run | AddUser) for change in changes)


def plan(changes: Sequence[Change], earlier: Sequence[Change], facts: Facts) -> Box:
    """The script of a dry run: candidates are judged in a private view, former contents are read, nothing is touched.

    `earlier` are the changes of the steps before in the same dry run: the checks see their files as well.  `facts` are
    those of the host as it really is.  Users, sites' directories, packages and passwords that would be made before are
    not there for a check to see: one that fails then is told, and is no refusal.  Without a candidate the box is empty.
    """
    seen, candidates = (
        [change for change in some if isinstance(change, PutFile | PutLink | Remove | Rename)]
        for some in (earlier, changes)
    )
    if not candidates:
        return Box()
    box = program()
    unmade = [change for change in (*earlier, *changes) if isinstance(change, AddUser | Seed | Install | Run)]
    if unmade:
        box.lines.append("unmade=" + quoted([_several([change.summary for change in unmade])]))
    for change in candidates:
        now = facts.files.get(change.path)
        # What goes and is for root alone may be a secret.
        shown = not change.secret if isinstance(change, PutFile) else now and now.mode & 0o004
        if now and now.kind == "f" and shown:
            box.add("was", change.path)
    _judge(box, "view", candidates, [*seen, *candidates], facts)
    return box


def found(run: str) -> Box:
    """What is not in the history of /etc yet goes there now, as what it is, and not as this run's."""
    box = program()
    box.add("memory")
    box.add("op", "keep /etc as it was found")
    box.add("end_entry", " (broken off)")
    box.add("commit", f"as found before gatehouse {run}")
    return box


def ended(how: str = "", beside: Iterable[str] = ()) -> Box:
    """What a run changed in /etc goes into its history.

    `how` it ended, when not well; `beside`: what it did beside /etc, a line each.
    """
    box = program()
    box.add("op", "keep the history of /etc")
    box.add("end_entry", f" ({how})" if how else "", "\n".join(f"Gatehouse-Beside: {line}" for line in beside))
    return box


def asked(script: str, args: Iterable[str]) -> Box:
    """A read-only question: what it prints comes back as it is."""
    box = Box(files={"question": script.encode()})
    box.lines += [f"sh ./question {quoted(args)}", "code=$?", "printf '\\0'", 'exit "$code"']
    return box


def program() -> Box:
    """The beginning of every script: the words of prelude.sh."""
    return Box([". ./prelude.sh"], {"prelude.sh": (SHELL / "prelude.sh").read_bytes()})


def _barrier(box: Box, change: Change) -> None:
    box.add("op", change.summary)
    match change:
        case Install():
            _install(box, change)
        case Run(_, script, args, name, on):
            boxed = box.keep(f"run-{len(box.files)}", script.encode())
            if on:
                box.lines.append(': > "$box/taken"')
                box.add("taken", name, *on)
            box.lines.append(f"( set -- {quoted(args)}; . ./{boxed} )")
            if on:
                box.lines.append("remember")
        case Load():
            if change.enable:
                box.add("systemctl", "-q", "enable", change.unit)
            if change.action:
                box.lines.append(': > "$box/taken"')
                if change.reload_on:
                    box.add("taken", change.unit, *change.reload_on)
                if change.restart_on and change.action != "reload":
                    box.add("taken", change.unit + ".restart", *change.restart_on)
                box.add("load", change.unit, change.action, change.ready, *change.reload_on, *change.restart_on)


def _install(box: Box, change: Install) -> None:
    if change.answers:
        box.add("answer", *change.answers)
    if change.ahead:
        box.add("packages_and", " ".join(change.ahead), *change.names)
    else:
        box.add("packages_held" if change.held else "packages", *change.names)


def _segment(box: Box, number: str, changes: list[Change], facts: Facts) -> None:
    """Users, then directories, then files (all judged before the first is placed), then the sites' own directories."""
    for change in changes:
        match change:
            case AddUser(name, home, shell, uid):
                box.add("op", change.summary)
                box.add("add_user", name, home, shell, *([str(uid)] if uid else []))
    for change in changes:
        match change:
            case JoinGroup(user, group):
                box.add("op", change.summary)
                box.add("usermod", "--append", "--groups", group, user)
    directories = [change for change in changes if isinstance(change, MakeDirectory)]
    for key, same in _grouped(directories, lambda made: (made.mode, made.owner, made.group)):
        box.add("op", _several([change.summary for change in same]))
        box.add("install", "-d", "-m", f"{key[0]:04o}", "-o", key[1], "-g", key[2], *(made.path for made in same))
    candidates = [change for change in changes if isinstance(change, PutFile | PutLink | Remove | Rename)]
    _judge(box, f"view{number}", candidates, candidates, facts)
    _place(box, number, candidates)
    for index, change in enumerate(changes):
        if isinstance(change, Seed):
            box.add("op", change.summary)
            name = f"seed/{number}.{index}"
            for path, content in change.files:
                box.keep(f"{name}/{path}", content)
            if not change.files:
                box.lines.append("mkdir -p " + quoted([name]))
            box.add("seed", change.path, f"{change.mode:04o}", change.owner, change.group, name)


def _place(box: Box, number: str, candidates: list[Candidate]) -> None:
    puts = [change for change in candidates if isinstance(change, PutFile)]
    if candidates:
        box.add("op", _several([change.summary for change in candidates]))
        box.add("keep", *(path for change in candidates for path in touched(change)))
    for index, (key, same) in enumerate(
        _grouped(puts, lambda put: (put.mode, put.owner, put.group, str(PurePosixPath(put.path).parent)))
    ):
        names = [box.keep(f"put/{number}.{index}/{PurePosixPath(put.path).name}", put.content) for put in same]
        box.add("place", f"{key[0]:04o}", *key[1:], *names)
    for change in candidates:
        match change:
            case PutLink(path, target):
                box.add("point", target, path)
            case Remove(path):
                box.add("rm", "-f", "--", path)
            case Rename(path, to):
                box.add("mv", "-fT", "--", path, to)


def _judge(box: Box, name: str, judged: list[Candidate], shown: list[Candidate], facts: Facts) -> None:
    """Run every distinct check of `judged` where all of `shown` stand at their real paths."""
    checks = list(dict.fromkeys(change.check for change in judged if change.check))
    if not checks:
        return
    roots = _roots((change.path for change in shown), facts)
    box.add("op", "judge " + _several([change.path for change in judged]))
    for root in roots:
        box.add("view", root)
    for index, change in enumerate(shown):
        box.lines.append("mkdir -p " + _viewed(str(PurePosixPath(change.path).parent)))
        match change:
            case PutFile():
                boxed = box.keep(f"{name}/{index}", change.content)
                box.lines.append(f"install -T -m {change.mode:04o} {quoted([boxed])} {_viewed(change.path)}")
            case PutLink(path, target):
                box.lines.append(f"ln -sfn -- {quoted([target])} {_viewed(path)}")
            case Remove(path):
                box.lines.append(f"rm -f -- {_viewed(path)}")
            case Rename(path, to):
                box.lines.append(f"mv -fT -- {_viewed(path)} {_viewed(to)}")
    for check in checks:
        box.add("judge", check, *roots)


def _roots(paths: Iterable[str], facts: Facts) -> list[str]:
    """The smallest existing directories, two names deep, that hold these paths."""
    roots = set()
    for path in paths:
        root = "/".join(path.split("/")[:3])
        entry = facts.files.get(root)
        roots.add(root if entry and entry.kind == "d" else root.rpartition("/")[0])
    return sorted(root for root in roots if not any(root.startswith(other + "/") for other in roots))


def _viewed(path: str) -> str:
    return '"$box/view"' + quoted([path])


def touched(change: Change) -> tuple[str, ...]:
    """The paths that a change concerns."""
    match change:
        case PutFile() | PutLink() | Remove() | MakeDirectory() | Seed():
            return (change.path,)
        case Rename(path, to):
            return (path, to)
    return ()


def remembered(change: Change) -> tuple[str, ...]:
    """The names under which the host remembers what was taken (`remember` in prelude.sh)."""
    match change:
        case Load():
            return change.unit, change.unit + ".restart"
        case Run():
            return (change.name,) if change.on else ()
    return ()


def _grouped(changes: Iterable[T], key: Callable[[T], tuple[Any, ...]]) -> Iterable[tuple[tuple[Any, ...], list[T]]]:
    groups: dict[tuple[Any, ...], list[T]] = {}
    for change in changes:
        groups.setdefault(key(change), []).append(change)
    return groups.items()


def _several(summaries: list[str]) -> str:
    """One line for many: the first, and how many more."""
    return summaries[0] + (f" and {len(summaries) - 1} more" if len(summaries) > 1 else "")
