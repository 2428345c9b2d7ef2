"""History: what changed /etc, when, who, and by which task; etckeeper keeps it (`system.history`).

A run of Gatehouse is one entry, however many commits apt made on its way: the run's last commit says where it began.
"""

from __future__ import annotations

import ast
import json as json_
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, NamedTuple

from rich.markup import escape

from .engine import Guarded, Host, console, query
from .model import Refusal

# In /etc, with git as every question wants it: it writes nothing, and quotes names as C does.
GIT = r"""
cd /etc
export GIT_OPTIONAL_LOCKS=0
git() { command git -c core.quotePath=true -c color.ui=never -c log.showSignature=false "$@"; }
[ -d .git ] || { echo none; exit; }
nothing=$(git hash-object -t tree /dev/null)

# entry COMMIT: who, what, which files, and whose modes and owners, which only etckeeper's own list knows.
entry() {
    git log -1 --format='entry%x09%H%x09%h%x09%ct%x09%an%n%B' "$1" > "$box/entry"
    base=$(sed -n 's/^Gatehouse-Base: \([0-9a-f]\{40\}\)$/\1/p' "$box/entry" | tail -n 1)
    [ -n "$base" ] && git cat-file -e "$base" 2> /dev/null || base=$(git rev-parse -q --verify "$1^") || base=$nothing
    sed -e 1n -e 's/^/text\t/' "$box/entry"
    git diff --no-ext-diff --no-renames --name-status "$base" "$1" -- . ':!.etckeeper' | sed 's/^/file\t/'
    [ "$base" = "$nothing" ] ||
        git diff --no-ext-diff -U0 "$base" "$1" -- .etckeeper | sed -n 's/^\([-+]\)maybe /meta\t\1/p'
}

# entries NUMBER: the newest ones.
entries() {
    commit=$(git rev-parse -q --verify HEAD) || commit=$nothing
    left=$1
    while [ "$left" -gt 0 ] && [ "$commit" != "$nothing" ]; do
        entry "$commit"
        commit=$base left=$((left - 1))
    done
}

# found ID: the full name of the commit that is called so.  Otherwise says `unknown`, and which there are.
found() {
    commit=$(git rev-parse -q --verify "$1^{commit}" 2> /dev/null) && git merge-base --is-ancestor "$commit" HEAD ||
        { echo unknown; entries 50; exit; }
}
"""

RECENT = (
    GIT
    + r"""
git status --porcelain --untracked-files=all > "$box/now"
if [ -s "$box/now" ]; then
    printf 'entry\t\t\t%s\t\n' "$(date +%s)"
    sed -n '2s/^/text\t/p' /var/lib/gatehouse/entry 2> /dev/null
    sed -e 's/^\(.\)\(.\) /file\t\1\2\t/' "$box/now"
fi
entries "$1"
"""
)

# A file that not everybody on the host may read is not shown, but for these, which hold no secret; nor is any key.
SHOWN = (
    GIT
    + r"""
found "$1"
entry "$commit"
[ "$base" != "$nothing" ] || exit 0
for side in "$base" "$commit"; do
    git show "$side:.etckeeper" 2> /dev/null
done | sed -n "s/^maybe chmod 0[0-7][0-7][0-3] '\(.*\)'$/\1/p" | sed 's/^\.\///' |
    grep -vE '^(ssh/sshd_config|iptables/rules|cron\.d/gatehouse-)' > "$box/closed"
git diff --no-ext-diff --no-renames --name-only -z -G'PRIVATE KEY' "$base" "$commit" | tr '\0' '\n' >> "$box/closed"
git diff --no-ext-diff --no-renames --name-only -z "$base" "$commit" | tr '\0' '\n' | grep -vx .etckeeper > "$box/names"
grep -xFf "$box/closed" "$box/names" | sed 's/^/closed\t/'
grep -vxFf "$box/closed" "$box/names" | while IFS= read -r name; do
    git --literal-pathspecs diff --no-ext-diff --no-textconv --no-renames "$base" "$commit" -- "$name"
done | sed 's/^/diff\t/'
"""
)

STATUS = {"A": "new", "?": "new", "D": "removed", "M": "changed", "T": "changed"}
RIGHTS = {"chmod": "mode", "chown": "owner", "chgrp": "group"}
AS_ROOT = {"mode": "", "owner": "root", "group": "root"}

MADE = re.compile(r"gatehouse (?P<task>.+?) by (?P<who>\S+)(?: since [^()]*)?(?: \((?P<end>.*)\))?")
APT = re.compile(r'committing changes in /etc (?:made by "(?P<command>.*)"|after (?P<after>.*))')
FOUND = re.compile(
    r"as found before .*|the host as Gatehouse found it|saving uncommitted changes in /etc .*|daily autocommit"
    r"|Initial commit"
)


class Changed(NamedTuple):
    """A file of /etc in an entry: `new`, `removed`, `changed`, or `mode 0644 -> 0600` and the like."""

    path: str
    how: str


@dataclass
class Entry:
    """One run, or one thing that somebody else did.

    kind: `gatehouse`, `apt`, `person`, or `found`: changed by hand or by a program, and noticed later.  id: empty for
    what is in no entry yet.  end: how a run ended, when not well.  beside: what a run did beside /etc.
    """

    id: str
    commit: str
    time: int
    kind: str = "found"
    task: str = ""
    who: str = ""
    address: str = ""
    end: str = ""
    beside: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    files: list[Changed] = field(default_factory=list)

    @property
    def when(self) -> str:
        """To the minute, in UTC."""
        return f"{datetime.fromtimestamp(self.time, UTC):%Y-%m-%d %H:%M}"

    @property
    def what(self) -> str:
        """In words: whose doing it was."""
        if self.kind == "gatehouse":
            return f"gatehouse {self.task}" + (f" ({self.end})" if self.end else "")
        return self.task

    def as_data(self) -> dict[str, Any]:
        """For --json."""
        told = ("id", "kind", "task", "who", "address", "end", "beside", "packages")
        return {
            **{name: getattr(self, name) for name in told},
            "when": f"{datetime.fromtimestamp(self.time, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "files": [{"path": one.path, "change": one.how} for one in self.files],
        }


@query(
    positional=["id"],
    help={"id": "an entry: shows what it changed, as a diff", "lines": "entries to show", "json": "print it as JSON"},
    within={"lines": (1, 1000)},
)
def history(c, id="", lines=20, json=False):  # noqa: A002  (the operator's word)
    """On call: what changed /etc, the newest first: when (UTC), who, which task, which files; with an ID, the diff.

    A file that others on the host may not read is named and not shown.
    """
    host = Host.of(c)
    id = entry_id(id) if id else ""  # noqa: A001
    answer = host.ask(SHOWN, id) if id else host.ask(RECENT, str(int(lines)))
    if answer.strip() == "none":
        raise Guarded(f"{host.name} keeps no history of /etc yet", f"fab -H {host.name} system.history")
    found = known(answer, id)
    if id:
        _show(host.name, found[0], answer, json)
    elif json:
        print(json_.dumps({"host": host.name, "entries": [entry.as_data() for entry in found]}, indent=2))
    else:
        for entry in found:
            who = entry.who + (f" ({entry.address})" if entry.address else "")
            console.print(
                f"{entry.id or 'now':<8}  {entry.when}  {escape(who):<28}  {escape(entry.what):<34}  "
                f"{escape(_some([file.path for file in entry.files]))}".rstrip()
            )


def entry_id(text: str) -> str:
    """An entry's name as it was typed.  Raises Refusal for what can be none."""
    if not re.fullmatch(r"[0-9a-f]{4,40}", text):
        raise Refusal(f"{text!r} is no ID of the history: 4 to 40 of 0-9a-f\n  for example:  3f2a1b9, from `history`")
    return text


def known(answer: str, typed: str) -> list[Entry]:
    """The entries in an answer.  Raises Refusal with the nearest ones when the one that was typed is not there."""
    found = list(read(answer.splitlines()))
    if answer.startswith("unknown"):
        near = get_close_matches(typed[:7], [entry.id[:7] for entry in found], 3, 0.5)
        nearest = [entry for entry in found if entry.id[:7] in near] or found[:3]
        raise Refusal(
            f"the history has no {typed}\n  "
            + "\n  ".join(["the nearest:", *(f"{entry.id}  {entry.when}  {entry.what}" for entry in nearest)])
        )
    return found


def read(lines: Iterable[str]) -> Iterator[Entry]:
    """What `entry` prints, as entries.  Lines that nobody knows are passed over."""
    entry: Entry | None = None
    texts: list[str] = []
    names: dict[str, str] = {}
    rights: dict[str, dict[str, dict[str, str]]] = {}
    for line in [*lines, "entry\t\t\t0\t"]:
        kind, _, rest = line.partition("\t")
        if kind == "entry":
            if entry:
                yield _complete(entry, texts, names, rights)
            commit, name, time, author = rest.split("\t")
            entry, texts, names, rights = Entry(name, commit, int(time), who=author), [], {}, {}
        elif kind == "text":
            texts.append(rest)
        elif kind == "file":
            status, _, path = rest.partition("\t")
            names["/etc/" + unquoted(path)] = STATUS.get(status.strip()[:1], "changed")
        elif kind == "meta":
            side, word, value, path = right(rest[1:], rest[0])
            rights.setdefault(path, {"-": {}, "+": {}})[side][word] = value


def right(line: str, side: str = "") -> tuple[str, str, str, str]:
    """A line of etckeeper's list, `chmod 0640 'x'`: the side it was given, `mode`, its value, and the path."""
    command, value, path = shlex.split(line)
    return side, RIGHTS.get(command, command), value, "/etc/" + path.removeprefix("./")


def unquoted(name: str) -> str:
    """A name as git prints it: one with unusual letters stands in quotes, as in C."""
    return ast.literal_eval("b" + name).decode(errors="surrogateescape") if name.startswith('"') else name


def _complete(
    entry: Entry, texts: list[str], names: dict[str, str], rights: dict[str, dict[str, dict[str, str]]]
) -> Entry:
    subject = texts[0] if texts else "changed by hand or by a program, and not in the history yet"
    if made := MADE.fullmatch(subject):
        entry.kind, entry.task, entry.who = "gatehouse", made["task"], made["who"]
        entry.end = made["end"] or ("" if entry.commit else "under way, or broken off: see lock.status")
    elif run := APT.fullmatch(subject):
        entry.kind, entry.task = "apt", run["command"] or run["after"]
    elif FOUND.fullmatch(subject) or not entry.commit:
        entry.task, entry.who = subject, ""
    else:
        entry.kind, entry.task = "person", subject
    for text in texts[1:]:
        word, _, value = text.partition(": ")
        if word == "Gatehouse-From":
            entry.address = value
        elif word == "Gatehouse-Beside":
            entry.beside.append(value)
        elif re.match(r"[-+]\S+ \S+ \S+$", text):
            entry.packages.append(text)
    for path, sides in rights.items():
        if path not in names and sides["-"] and sides["+"]:
            names[path] = "; ".join(_right_changes(sides["-"], sides["+"]))
    entry.files = [Changed(path, how) for path, how in sorted(names.items())]
    return entry


def _right_changes(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    for word, usual in AS_ROOT.items():
        if word in before or word in after:
            yield f"{word} {before.get(word, usual)} -> {after.get(word, usual)}"


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _show(name: str, entry: Entry, answer: str, json: bool) -> None:
    lines = answer.splitlines()
    diff = [line[5:] for line in lines if line.startswith("diff\t")]
    closed = ["/etc/" + line[7:] for line in lines if line.startswith("closed\t")]
    if json:
        print(json_.dumps({"host": name, **entry.as_data(), "diff": "\n".join(diff), "not_shown": closed}, indent=2))
        return
    by = f"  by {entry.who}" if entry.who else ""
    console.print(f"{entry.id}  {entry.when} UTC  {escape(entry.what)}{escape(by)} {escape(entry.address)}".rstrip())
    for text in entry.beside:
        console.print(f"beside /etc: {escape(text)}")
    for text in entry.packages:
        console.print(f"package {escape(text)}")
    for file in entry.files[:50]:
        console.print(f"{escape(file.path)}  {file.how}" + ("  (not shown)" if file.path in closed else ""))
    if len(entry.files) > 50:
        console.print(f"and {len(entry.files) - 50} more")
    for line in diff:
        console.print(escape(line), style={"+": "green", "-": "red", "@": "cyan"}.get(line[:1], ""))
    console.print(f"take it back: fab -H {name} undo {entry.id}")
