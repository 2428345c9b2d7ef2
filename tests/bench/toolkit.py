"""One host with ten sites, by each tool: the first run, one that changes nothing, one site more, and a long line."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from ..lab.machine import Machine
from . import quiet
from .ground import Ground
from .running import Run, going_on, run, stopped
from .sums import interleaved
from .tools import PEERS, Place, Tool, floor, tools
from .wanted import Manifest

SITES, MILLISECONDS = 10, 50
FLOOR = "ssh host true"
FIRST, NOTHING, MORE, FAR = "first run", "nothing to change", "one site more", f"nothing to change, {MILLISECONDS} ms"
QUICK = ("gatehouse", "shell", FLOOR)
"""Who takes about a second gets more rounds than who takes a minute."""

ENOUGH = 10 * 60
"""Seconds after which nothing slow is done once more: each case was measured, or is then, once.  All of it, the peers'
installation and the hosts' image included, shall take half an hour."""

PATIENCE = 60
"""How many times as long as Gatehouse a peer may take over the long line, before it is stopped."""


def measure(rounds: int) -> dict[str, Any]:
    """All of it; `rounds` is how often who takes long does nothing.  Returns what paper.py and plots.py read."""
    by_name = tools()
    with Ground() as ground:
        hosts = {name: ground.host(name) for name in by_name}
        ground.named(hosts["gatehouse"])
        manifest = Manifest.read(ground.manifest("gatehouse", SITES))  # on a bare host: complete in its packages
        for name, machine in hosts.items():
            ground.fetched(machine, manifest, by_name[name].needs)
        toolkit = Toolkit(ground, by_name, hosts)
        with stopped():
            toolkit.first()
            for part in (partial(toolkit.nothing, rounds), toolkit.compare, partial(toolkit.more, max(rounds - 1, 1)),
                         partial(toolkit.far, max(rounds - 2, 1))):  # fmt: skip
                with going_on():
                    part()
    return {
        "part": "toolkit",
        "shape": quiet.shape(),
        "versions": {tool.name: tool.version for tool in (floor(), *by_name.values())},
        "resources": toolkit.counts,
        "left_out": toolkit.left_out,
        "same": toolkit.same,
        "steps": toolkit.steps,
        "runs": [each.as_data() for each in toolkit.runs],
        "turns": toolkit.turns,
    }


class Toolkit:
    """The runs, one case after another; every tool has a host of its own."""

    def __init__(self, ground: Ground, by_name: Mapping[str, Tool], hosts: Mapping[str, Machine]) -> None:
        self.ground, self.tools, self.hosts = ground, {FLOOR: floor(), **by_name}, hosts
        self.place = Path()
        self.end = time.monotonic() + ENOUGH
        self.same: dict[str, int] = {}
        self.turns: dict[str, dict[str, int]] = {}
        self.runs: list[Run] = []
        self.steps: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.left_out: list[str] = []

    def rounds(self, often: Mapping[str, int]) -> Iterator[str]:
        """Whose turn it is: each as often as it says; who takes long once more only while there is time."""
        for number, name in interleaved([*often], often):
            if number == 0 or name in QUICK or time.monotonic() < self.end:
                yield name

    def one(
        self, name: str, case: str, place: Place, limit: float = 900, memory: bool = False, more: Sequence[str] = ()
    ) -> Run:
        """One run of one tool.  What should have changed nothing and did is a failure."""
        tool = self.tools[name]
        done = run(name, case, [*tool.line(place), *more], env=tool.env, limit=limit, memory=memory)
        if done.code == 0 and case in (NOTHING, FAR) and not tool.kept_all(done.said):
            done.code = 99
        self.runs.append(done)
        done.tell()
        if done.code:
            (self.ground.lab.directory / f"failed-{name}.log").write_text(done.said)
            print(done.said[-1500:], file=sys.stderr, flush=True)
        return done

    def at(self, name: str) -> Place:
        """A tool's own host; `ssh host true` goes to the product's."""
        host = "gatehouse" if name == FLOOR else name
        return Place(self.ground.config(host, 0), host, self.place)

    def first(self) -> None:
        """On bare hosts.  The product's own comes first, since the manifest is read off it."""
        quiet.calm()
        self.ground.config("gatehouse", SITES)
        done = self.one("gatehouse", FIRST, self.at("gatehouse"), more=["--json"])
        if done.code:
            raise RuntimeError("the product's own first run failed")
        self.steps = self.ground.first(done.said)
        self.place = self.ground.manifest("gatehouse", SITES)
        manifest = Manifest.read(self.place)
        self.counts, self.left_out = manifest.counts(), manifest.left_out
        if missing := {*manifest.reloads}.difference(handlers()):
            raise RuntimeError(f"peers/site.yml has no handler for {', '.join(sorted(missing))}")
        for name in self.hosts:
            if name != "gatehouse":
                quiet.calm()
                self.one(name, FIRST, self.at(name))

    def nothing(self, rounds: int) -> None:
        """Second runs, in turn."""
        quiet.calm()
        often = {name: 2 * rounds + 1 if name in QUICK else rounds for name in self.tools}
        for name in self.rounds(often):
            self.one(name, NOTHING, self.at(name))

    def compare(self) -> None:
        """Count what is as it should be."""
        for name, machine in self.hosts.items():
            self.same[name] = same_as(machine, self.place)

    def more(self, rounds: int) -> None:
        """A site more in each round; after the product's run the manifest is read off its host again."""
        for number in range(1, rounds + 1):
            if number > 1 and time.monotonic() > self.end:
                return
            self.ground.config("gatehouse", SITES + number)
            self.one("gatehouse", MORE, self.at("gatehouse"))
            self.place = self.ground.manifest("gatehouse", SITES + number)
            for name in self.hosts:
                if name != "gatehouse":
                    self.one(name, MORE, self.at(name))

    def far(self, rounds: int) -> None:
        """Again nothing to change, over a long line; and what went over it: round trips, bytes, connections."""
        quiet.calm()
        often = {name: 3 * rounds if name in QUICK else rounds for name in self.tools}
        for name in self.rounds(often):
            ours = max((done.seconds for done in self.runs if (done.tool, done.case) == ("gatehouse", FAR)), default=15)
            near, limit = self.at(name), 900 if name in QUICK else PATIENCE * ours
            with self.ground.far(near.host, MILLISECONDS) as (config, account):
                self.one(name, FAR, Place(config, near.host, self.place), limit, memory=True)
            lines = [json.loads(line) for line in account.read_text().splitlines()] if account.exists() else []
            self.turns[name] = {"connections": len(lines), "turns": sum(line["turns"] for line in lines),
                                "bytes": sum(line["up"] + line["down"] for line in lines)}  # fmt: skip


def handlers() -> list[str]:
    """The names that peers/site.yml can be notified by, in their order."""
    (play,) = yaml.safe_load((PEERS / "site.yml").read_text())
    return [handler["name"] for handler in play["handlers"]]


CHECK = r"""
cd "$1"
dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' | sed -n 's/^ii  //p' | sort > /tmp/installed
sort packages.tsv | comm -12 - /tmp/installed | wc -l
cut -f1 users.tsv | while read -r name; do id -un "$name"; done 2> /dev/null | wc -l
while IFS='	' read -r user group; do ! id -nG "$user" | grep -qw -- "$group" || echo; done < memberships.tsv | wc -l
while IFS='	' read -r path mode owner group; do
    [ "$(stat -c '%04a %U %G' "$path")" != "$mode $owner $group" ] || echo; done < directories.tsv 2> /dev/null | wc -l
while IFS='	' read -r path mode owner group source rest; do
    ! cmp -s "files/$source" "$path" || [ "$(stat -c '%04a %U %G' "$path")" != "$mode $owner $group" ] || echo
done < files.tsv | wc -l
cut -f1 once.tsv | while read -r path; do [ ! -e "$path" ] || echo; done | wc -l
while IFS='	' read -r path target; do [ "$(readlink "$path")" != "$target" ] || echo; done < links.tsv | wc -l
while read -r path; do [ -e "$path" ] || echo; done < absent.tsv | wc -l
while read -r unit; do ! systemctl -q is-active "$unit" || echo; done < services.tsv | wc -l
"""


def same_as(machine: Machine, manifest: Path) -> int:
    """How many of the manifest's resources are on this host as they should be."""
    there = "/root/same"
    found = (path for path in manifest.rglob("*") if path.is_file())
    files = {f"{there}/{path.relative_to(manifest)}": path.read_bytes() for path in found}
    machine.put({**files, f"{there}/check": CHECK.encode()})
    told = re.findall(r"(?m)^ *(\d+)$", machine.check(f"sh {there}/check {there} 2>&1; rm -rf {there}"))
    return sum(map(int, told))
