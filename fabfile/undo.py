"""Undo: the files of /etc that a run changed become what they were before it, and their services take them.

Not packages, data, certificates and users: those are named, and stay.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from . import apache, cache, cert, database, edge, fail2ban, haproxy, php, selinux, sshd, static, system, varnish
from .engine import Facts, Guarded, Host, console, flow, steps
from .engine.access import UNIT
from .engine.asking import agreed
from .engine.host import OPERATORS
from .firewall import loading
from .firewall.rules import RULES
from .history import APT, GIT, Entry, entry_id, known, right, unquoted
from .site import CRON_DENY, TMP, TMP_UNIT, mount

ACCOUNTS = {
    f"/etc/{name}{old}" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid") for old in ("", "-")
} | {CRON_DENY}
OWN = {
    "/etc/.etckeeper",
    "/etc/.gitignore",
    f"/etc/systemd/system/{UNIT}-at-boot.service",
    f"/etc/systemd/system/multi-user.target.wants/{UNIT}-at-boot.service",
    OPERATORS,
}
"""What the engine and etckeeper look after by themselves.  Operators are never forgotten: they must get in."""

OPEN = ("/etc/ssh/sshd_config", "/etc/iptables/rules", "/etc/cron.d/gatehouse-")
"""Of what others may not read, what a diff may show."""

# What the entry changed: each file's former and later kind and content, etckeeper's list for these, and the content
# now; which commits touched what since; which did on the way; and the former contents.
PLAN = (
    GIT
    + r"""
if [ -n "$1" ]; then found "$1"; else commit=$(git log -1 --format=%H --grep='^gatehouse .* by '); fi
[ -n "$commit" ] || exit 0
entry "$commit"
changed() { git diff --no-ext-diff --no-renames --no-abbrev "$@" "$base" "$commit"; }
changed --raw | tee "$box/raw" | sed 's/^/raw\t/'
changed --name-only -z | tr '\0' '\n' | grep -vx .etckeeper > "$box/names"
git show "$base:.etckeeper" 2> /dev/null | grep '^maybe ' > "$box/before"
git show "$commit:.etckeeper" 2> /dev/null | grep '^maybe ' > "$box/after"
{ grep -vxFf "$box/after" "$box/before"; grep -vxFf "$box/before" "$box/after"; } |
    sed "s/^maybe [a-z]* [^ ]* '\(\.\/\)\{0,1\}\(.*\)'$/\2/; s/'\"'\"'/'/g" | sort -u |
    grep -vxFf "$box/names" > "$box/rights"
sed "s/'/'\"'\"'/g; h; s/.*/ '&'/p; g; s/.*/ '.\/&'/" "$box/names" "$box/rights" > "$box/patterns"
for side in before after; do grep -Ff "$box/patterns" "$box/$side" | sed "s/^maybe /$side\t/"; done
xargs -r -d '\n' git ls-tree "$base" < "$box/rights" | grep ' blob ' | tee "$box/same" | sed 's/^/same\t/'
cat "$box/names" "$box/rights" | while IFS= read -r name; do
    [ ! -f "$name" ] || [ -L "$name" ] || printf '%s\n' "$name"
done > "$box/there"
git hash-object --no-filters --stdin-paths < "$box/there" | paste - "$box/there" | sed 's/^/now\t/'
named() { sed -e '/^$/d' -e "/^$1\t/!s/^/$1-name\t/"; }
git log --format='since%x09%h%x09%an%x09%s' --name-only "$commit..HEAD" | named since
git log --format='way%x09%h%x09%an%x09%s' --name-only "$base..$commit" | named way
printf 'blobs\t'
{ cut -d ' ' -f 3 "$box/raw"; cut -d ' ' -f 3 "$box/same" | cut -f 1; } | grep -v '^0*$' | sort -u |
    git cat-file --batch | base64 -w0
echo
"""
)

RMDIR = 'rmdir --ignore-fail-on-non-empty -- "$@"'


class State(NamedTuple):
    """What stood, or stands, at a path.  kind: `f`, `d` or `l`; blob: git's name of its content (a link's target)."""

    kind: str
    blob: str = ""
    mode: int = 0
    owner: str = "root"
    group: str = "root"

    def stands(self, facts: Facts, path: str, blobs: dict[str, str]) -> bool:
        """Whether the host has it so now.  `blobs`: git's names of the files' contents as they are."""
        now = facts.files.get(path)
        if now is None or now.kind != self.kind:
            return False
        if self.kind == "l":
            return _blob(now.target.encode()) == self.blob
        same = self.kind == "d" or blobs.get(path) == self.blob
        return same and (now.mode, now.owner, now.group) == (self.mode, self.owner, self.group)


class Piece(NamedTuple):
    """One path that a run changed: before it and after it; None where there was nothing."""

    path: str
    before: State | None
    after: State | None


@dataclass
class Plan:
    """What an entry changed, and how things are now.

    contents: of former files, by git's name; blobs: git's name of what files hold now, by path; since: the last commit
    that touched a path later; stays: what cannot be taken back; users: the former ones.
    """

    entry: Entry
    pieces: list[Piece] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, str] = field(default_factory=dict)
    since: dict[str, str] = field(default_factory=dict)
    stays: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)

    def content(self, state: State) -> bytes:
        """What a former file held; for a link, where it pointed."""
        return self.contents[state.blob]


class Keeper(NamedTuple):
    """Whose files these are: what judges them where they will be, and the step in which their service takes them."""

    paths: tuple[str, ...]
    check: str
    start: Any


def keepers(host: Host) -> tuple[Keeper, ...]:
    """The services whose files an undo may put back, from the inside out."""
    fpm = php.DEBIAN[host.facts.release]
    nginx = edge.start if host.fleet.edge.server == "nginx" else static.start
    return (
        Keeper(("/etc/mysql/", database.UNIT), database.CHECK, database.start),
        Keeper((php.FPM.format(php=fpm) + "/", php.UNIT.format(php=fpm)), f"php-fpm{fpm} -t", php.start),
        Keeper((apache.ROOT + "/", apache.UNIT), apache.CHECK, apache.start),
        Keeper(("/etc/varnish/", varnish.UNIT), varnish.CHECK, varnish.start),
        Keeper(("/etc/haproxy/", haproxy.UNIT), haproxy.CHECK, haproxy.start),
        Keeper(("/etc/nginx/", edge.UNIT), edge.CHECK, nginx),
        Keeper(("/etc/lighttpd/",), static.LIGHTTPD_CHECK, static.start),
        Keeper((fail2ban.ROOT + "/", fail2ban.UNIT), fail2ban.CHECK, fail2ban.start),
    )


@flow(
    positional=["id"],
    help={
        "id": "an entry of `history`; without it, the last run of Gatehouse",
        "yes": "do not ask",
        "anyway": "also what somebody changed since, and what belongs to packages that the run installed",
        "json": "print the outcome of every step as JSON",
    },
)
def undo(c, id="", yes=False, anyway=False, json=False):  # noqa: A002  (the operator's word)
    """On call: take back what a run changed in /etc: exactly those files, and the services that own them load them.

    It is a run itself, so `undo` takes an undo back; `fab --dry` shows it first.  Refused (exit code 3) when somebody
    changed one of the files since.
    """
    host = Host.of(c)
    wanted = entry_id(id) if id else ""
    assert host.facts
    host.keep_found()
    plan = read(host.ask(PLAN, wanted), wanted, host)
    entry = plan.entry
    name = f"undo {entry.id}"
    if host.report:
        host.report.run = name
    pieces = [piece for piece in plan.pieces if _differs(piece, plan, host.facts)]
    if not anyway:
        _guard(host, plan, pieces)
    _possible(host, pieces, plan)
    if pieces and not host.dry:
        if host.report:
            host.report.quiet()
        agreed(_question(host, plan, pieces), yes, f"fab -H {host.name} undo {entry.id} --yes")
    last = [piece for piece in pieces if piece.before is None and ".wants/" in piece.path]
    with host.step(name):
        for text in plan.stays:
            host.note(f"stays: {text}")
        _put_back(host, plan, [piece for piece in pieces if piece not in last])
    steps(c, *(keeper.start for keeper in keepers(host) if any(_keeps(keeper, piece) for piece in pieces)))
    if last:
        # Only now: the steps before would enable again what does not start at boot.
        with host.step(name):
            _put_back(host, plan, last)
    if pieces and not host.dry and not json:
        console.print(
            f"{host.name}  the next bootstrap makes again what its data say: `check` shows it"
        )


def read(answer: str, typed: str, host: Host) -> Plan:
    """What PLAN prints.  Raises Guarded where there is nothing to take back, Refusal for an entry that is not there."""
    if answer.strip() in ("", "none"):
        raise Guarded(f"the history of {host.name} has no run of Gatehouse yet", f"fab -H {host.name} history")
    plan = Plan(known(answer, typed)[0])
    lines = [line.partition("\t")[::2] for line in answer.splitlines()]

    def of(kind: str) -> list[str]:
        return [rest for word, rest in lines if word == kind]

    sides = {side: _rights(of(side)) for side in ("before", "after")}
    changed = [*map(_changed, of("raw")), *map(_same, of("same"))]
    plan.blobs = {f"/etc/{path}": blob for blob, _, path in (rest.partition("\t") for rest in of("now"))}
    plan.contents = dict(_contents(base64.b64decode("".join(of("blobs")))))
    for path, subject in _touched(lines, "since"):
        plan.since.setdefault(path, subject)
    ours = {path for path, subject in _touched(lines, "way") if not APT.fullmatch(subject.split("\t", 2)[2])}
    paths = {path for path, _ in changed}
    theirs = sorted({path for path, _ in _touched(lines, "way")} - ours - ACCOUNTS - OWN & paths)
    for path, (modes, blobs) in changed:
        if path not in ACCOUNTS | OWN and path not in theirs and not _certified(path, modes):
            rights = (sides[side].get(path, {}) for side in sides)
            plan.pieces.append(Piece(path, *map(_state, modes, blobs, rights)))
    plan.pieces += _directories(sides, paths)
    plan.stays = list(plan.entry.beside)
    if theirs:
        plan.stays.append(f"what packages brought: {theirs[0]}" + (f" and {len(theirs) - 1} more" * (len(theirs) > 1)))
    if paths & ACCOUNTS:
        plan.stays.append("users and groups")
    for blob in (blobs[0] for path, (_, blobs) in changed if path == "/etc/passwd"):
        plan.users = [line.partition(":")[0] for line in plan.contents[blob].decode().splitlines()]
    return plan


def _certified(path: str, modes: list[str]) -> bool:
    """Whether it says what a certificate that stays was ordered for: with the former word, it would not be renewed."""
    return path.startswith(cert.REQUESTS) and path.endswith(".issued") and "000000" not in modes


def _changed(rest: str) -> tuple[str, tuple[list[str], list[str]]]:
    """A line of `git diff --raw`: the path; its modes, and git's names of its contents, before and after."""
    told, _, path = rest.partition("\t")
    words = told.lstrip(":").split()
    return "/etc/" + unquoted(path), (words[:2], words[2:4])


def _same(rest: str) -> tuple[str, tuple[list[str], list[str]]]:
    """The same of a line of `git ls-tree`, for a file whose content did not change."""
    told, _, path = rest.partition("\t")
    mode, _, blob = told.split()
    return "/etc/" + unquoted(path), ([mode, mode], [blob, blob])


def _rights(lines: Iterable[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        _, word, value, path = right(line)
        found.setdefault(path, {})[word] = value
    return found


def _touched(lines: Iterable[Sequence[str]], section: str) -> Iterator[tuple[str, str]]:
    """The paths that each commit of a section touched, with that commit: the newest first."""
    commit = ""
    for kind, rest in lines:
        if kind == section:
            commit = rest
        elif kind == f"{section}-name":
            yield "/etc/" + unquoted(rest), commit


def _contents(stream: bytes) -> Iterator[tuple[str, bytes]]:
    """What `git cat-file --batch` prints: a line with name, type and size, and so many bytes."""
    while stream:
        head, _, stream = stream.partition(b"\n")
        name, _, size = head.decode().split()
        yield name, stream[: int(size)]
        stream = stream[int(size) + 1 :]


def _state(mode: str, blob: str, rights: dict[str, str]) -> State | None:
    if int(mode, 8) == 0:
        return None
    if mode.startswith("12"):
        return State("l", blob)
    octal = rights.get("mode", mode[-4:])
    return State("f", blob, int(octal, 8), rights.get("owner", "root"), rights.get("group", "root"))


def _directories(sides: dict[str, dict[str, dict[str, str]]], files: set[str]) -> Iterator[Piece]:
    """The directories among the paths whose rights differ."""
    for path in sorted({*sides["before"], *sides["after"]} - files - {"/etc/."} - OWN):
        before, after = (
            State("d", "", int(found["mode"], 8), found.get("owner", "root"), found.get("group", "root"))
            if (found := sides[side].get(path)) and "mode" in found
            else None
            for side in ("before", "after")
        )
        if before != after:
            yield Piece(path, before, after)


def _blob(content: bytes) -> str:
    """Git's name of a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _stands(state: State | None, piece: Piece, plan: Plan, facts: Facts) -> bool:
    return state.stands(facts, piece.path, plan.blobs) if state else piece.path not in facts.files


def _differs(piece: Piece, plan: Plan, facts: Facts) -> bool:
    """Whether there is something to take back.  A directory in whose place is something else is somebody's business."""
    now = facts.files.get(piece.path)
    strange = now and now.kind != "d" and "d" in {state.kind for state in (piece.before, piece.after) if state}
    return not strange and not _stands(piece.before, piece, plan, facts)


def _guard(host: Host, plan: Plan, pieces: list[Piece]) -> None:
    """Raises Guarded for what would hit somebody else's work, or leave packages with what they came with."""
    again = f"fab -H {host.name} undo {plan.entry.id} --anyway"
    others = [piece.path for piece in pieces if not _stands(piece.after, piece, plan, host.facts)]
    if others:
        raise Guarded(
            f"changed since {plan.entry.id} by somebody else: "
            + "; ".join(f"{path} ({_who(plan.since.get(path, ''))})" for path in others[:10])
            + (f"; and {len(others) - 10} more" if len(others) > 10 else ""),
            f"fab -H {host.name} history  (take back the later one first); or, over it: {again}",
        )
    installed = [text for text in plan.entry.beside if text.startswith("install ")]
    if installed and pieces:
        raise Guarded(
            f"{plan.entry.id} did {'; '.join(installed)}: that stays, and without our files would run as it came",
            f"if you want that: {again}",
        )


def _who(since: str) -> str:
    if not since:
        return "its mode or owner, or nothing is in the history of it yet"
    name, author, subject = since.split("\t", 2)
    return f"{name}, {subject}" + ("" if " by " in subject else f", by {author}")


def _possible(host: Host, pieces: Iterable[Piece], plan: Plan) -> None:
    """Raises Guarded for what no file can bring back."""
    pieces = list(pieces)
    owners = {*plan.users, *(piece.before.owner for piece in pieces if piece.before)}
    if pieces and (gone := sorted(owners - host.facts.users.keys())):
        raise Guarded(
            f"{plan.entry.id} was before the user {gone[0]} went with all it had, which no file brings back",
            f"fab -H {host.name} bootstrap  (makes what sites/ describes anew)",
        )
    for piece in pieces:
        if piece.path in RULES.values() and piece.before is None:
            raise Guarded(
                f"before {plan.entry.id} {host.name} had no rules at all: it would be open to the world",
                f"fab -H {host.name} firewall",
            )


def _question(host: Host, plan: Plan, pieces: list[Piece]) -> str:
    entry = plan.entry
    lines = [f"{host.name}  {entry.id}, {entry.when} UTC: {entry.what}" + (f" by {entry.who}" if entry.who else "")]
    lines += [f"  {piece.path}  {_how(piece)}" for piece in pieces[:30]]
    lines += [f"  and {len(pieces) - 30} more"] if len(pieces) > 30 else []
    lines += [f"  stays: {text}" for text in plan.stays]
    return "\n".join([*lines, "Take it back?"])


def _how(piece: Piece) -> str:
    return "goes" if piece.before is None else "comes back" if piece.after is None else "as it was"


def _keeps(keeper: Keeper, piece: Piece) -> bool:
    return any(piece.path.startswith(path) for path in keeper.paths)


def _put_back(host: Host, plan: Plan, pieces: list[Piece]) -> None:
    """How one gets in first, since that proves itself; then all others, judged together before the first is there."""
    rules = [piece for piece in pieces if piece.path in RULES.values()]
    ssh = [piece for piece in pieces if piece.path.startswith(sshd.ROOT + "/")]
    if rules:
        _load_rules(host, plan, rules)
    if ssh:
        with sshd.proved(host, "sshd as it was"):
            for piece in ssh:
                _wish(host, plan, piece, "sshd -t")
    table = keepers(host)
    for piece in pieces:
        if piece not in rules and piece not in ssh:
            check = next((keeper.check for keeper in table if _keeps(keeper, piece)), "")
            _wish(host, plan, piece, check)
    _load_others(host, {piece.path for piece in pieces})
    empty = [piece.path for piece in pieces if piece.before is None and piece.after and piece.after.kind == "d"]
    if empty := [path for path in sorted(empty, reverse=True) if path in host.facts.files]:
        host.run("remove the directories that it made", RMDIR, *empty)


def _wish(host: Host, plan: Plan, piece: Piece, check: str) -> None:
    state = piece.before
    if state is None:
        if not (piece.after and piece.after.kind == "d"):
            host.absent(piece.path, check=check)
    elif state.kind == "d":
        host.directory(piece.path, mode=state.mode, owner=state.owner, group=state.group)
    elif state.kind == "l":
        host.link(piece.path, plan.content(state).decode(), check=check)
    elif piece.path == cache.ROSTER and not cache.opens(host, plan.content(state).decode()):
        host.note(f"stays: {piece.path}, since passwords of sessions were made anew after it")
    else:
        secret = not state.mode & 0o004 and not piece.path.startswith(OPEN)
        host.file(
            piece.path, plan.content(state), check=check, mode=state.mode, owner=state.owner, group=state.group,
            secret=secret,
        )  # fmt: skip


def _load_rules(host: Host, plan: Plan, pieces: list[Piece]) -> None:
    """The former rules are in force once a new connection got in under them, and only then stand in their files."""
    former = {piece.path: plan.content(piece.before).decode() for piece in pieces if piece.before}
    texts = [former.get(path) or host.ask('cat "$1"', path) for path in RULES.values()]
    loading.take(host, "load the former rules", texts)
    for family, path in RULES.items():
        for piece in pieces:
            if piece.path == path:
                _wish(host, plan, piece, loading.check(family))


def _load_others(host: Host, paths: set[str]) -> None:
    """What is no service of its own, or has no step that only loads it."""
    if any(path.startswith("/etc/systemd/system/") for path in paths):
        host.run("systemd reads its units", "read_units")
    if any(path.startswith((cache.STORE, cache.UNIT)) for path in paths):
        cache.keep(host)
    if TMP in paths and TMP_UNIT in host.facts.files:
        mount(host)
    if any(path.startswith(database.ROSTER) for path in paths):
        database.take(host)
    if selinux.COMMAND_LINE in paths:
        host.run("tell GRUB", "update-grub")
    if selinux.CONFIG in paths:
        host.note("SELinux keeps its mode until the next boot: selinux.permissive, selinux.enforce")
    if system.SYSCTL in paths:
        system.load_kernel(host)
    if "/etc/hostname" in paths:
        host.run("take the former name", 'hostname "$(cat /etc/hostname)"')
