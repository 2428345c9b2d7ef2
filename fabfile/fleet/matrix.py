"""`inv fleet.matrix`: who may reach what, from the roles of all hosts; and whether it is so."""

from __future__ import annotations

import json as json_
from collections.abc import Iterable, Iterator, Sequence

from invoke import Context, Exit
from rich.text import Text

from ..engine import Problem, as_data, console
from ..engine.pool import FLEET, chosen_fleet
from ..model import Fleet
from ..model.ways import WORLD, ways
from .proof import PING, Difference, Proof
from .proving import proved

HELP = {
    "prove": "try it from every host to every host, what must be open and what must be closed",
    "from_here": "prove it, and try from this machine as well, which is one of the world",
    "fleet": FLEET,
    "json": "print the same as JSON",
}
WANTED = {"open": "must come in", "closed": "must not come in", "silent": "must be kept out"}
SEEN = {
    "open": "comes in",
    "refused": "is let through to where nobody listens",
    "silent": "is kept out",
    "none": "finds no way there",
}
MAY, NOT, SELF, DIFFERS = "x", ".", "", "!"
TOLD = 4
"""Rules of a host that are shown one by one."""

Cells = dict[tuple[str, str, int], str]
"""By source, target and port."""


def matrix(_c: Context, prove: bool = False, from_here: bool = False, fleet: str = "", json: bool = False) -> None:
    """Who may reach what, from the roles of all hosts; --prove tries it, and shows what differs (exit code 1).

    The proof tries every port that the data, a rule or a listener anywhere names, over IPv4 and IPv6.  It compares the
    rules in force with those that the roles want, and tells what listens on more than its private address although the
    firewall holds.  It changes nothing.  JSON: `ways`; with --prove also `well`, `probes` (how many), `differences`,
    `listeners`, `rules`, `unproved` and `unreachable`.
    """
    found = chosen_fleet(fleet, "fab -H vps firewall.show")
    proof, failed = proved(found, from_here) if prove or from_here else (None, {})
    told = report(proof, failed) if proof else {"well": True}
    if json:
        data = {"ways": [as_data(way) for way in ways(found)], **(told if proof else {})}
        print(json_.dumps(data, indent=2))
    else:
        for line in (*table(found, proof.differences() if proof else (), console.width), *legend(found)):
            console.print(line)
        if proof:
            for line in story(proof, failed):
                console.print(line)
    if not told["well"]:
        raise Exit(code=1)


def report(proof: Proof, failed: dict[str, Problem]) -> dict[str, object]:
    """The proof as data."""
    differences, unproved, listeners = proof.differences(), proof.unproved(), proof.misplaced()
    rules = [
        {"host": name, "lacks": [*map(_rule, one.lacks)], "strange": [*map(_rule, one.strange)]}
        for name, one in proof.looks.items()
        if one.lacks or one.strange
    ]
    return {
        "well": not (differences or unproved or listeners or rules or failed),
        "probes": len(proof.seen),
        "differences": [as_data(one) for one in differences],
        "listeners": [
            dict(zip(("host", "address", "port", "program", "fault"), one, strict=True)) for one in listeners
        ],
        "rules": rules,
        "unproved": [{"source": source, "target": target} for source, target in unproved],
        "unreachable": {name: problem.message for name, problem in failed.items()},
    }


def cells(fleet: Fleet, differences: Sequence[Difference] = ()) -> Cells:
    """What each square of the table says."""
    found: Cells = {}
    all_ways = ways(fleet)
    for target, port in {(way.target, way.port) for way in all_ways}:
        sources = {way.source for way in all_ways if (way.target, way.port) == (target, port)}
        for source in (WORLD, *fleet.hosts):
            may = source in sources or WORLD in sources
            found[source, target, port] = SELF if source == target else MAY if may else NOT
    for one in differences:
        source = one.source if one.source in fleet.hosts else WORLD
        if (source, one.target, one.port) in found:
            found[source, one.target, one.port] = DIFFERS
    return found


def table(fleet: Fleet, differences: Sequence[Difference], width: int) -> Iterator[Text]:
    """A row a source, a column a port, hosts side by side as far as they fit."""
    squares = cells(fleet, differences)
    sources = (WORLD, *fleet.hosts)
    first = max(map(len, (*sources, "from")))
    for targets in _side_by_side(fleet, width - first):
        sizes = {name: max(len(name), len(" ".join(map(str, ports)))) for name, ports in targets.items()}
        yield Text("  ".join(["from".ljust(first), *(name.ljust(sizes[name]) for name in targets)]).rstrip(), "dim")
        heads = [" ".join(map(str, ports)).ljust(sizes[name]) for name, ports in targets.items()]
        yield Text("  ".join([" " * first, *heads]).rstrip(), "dim")
        for source in sources:
            line = Text(source.ljust(first))
            for name, ports in targets.items():
                line.append("  ")
                for port in ports:
                    square = squares[source, name, port]
                    line.append(square.ljust(len(str(port))), "bold red" if square == DIFFERS else "")
                    line.append(" " if port != ports[-1] else "")
                line.append(" " * (sizes[name] - len(" ".join(map(str, ports)))))
            line.rstrip()
            yield line
        yield Text()


def _side_by_side(fleet: Fleet, width: int) -> Iterator[dict[str, list[int]]]:
    """The hosts with their ports, as many as fit."""
    row, used = dict[str, list[int]](), 0
    for name in fleet.hosts:
        ports = sorted({way.port for way in ways(fleet) if way.target == name})
        size = 2 + max(len(name), len(" ".join(map(str, ports))))
        if row and used + size > width:
            yield row
            row, used = {}, 0
        row[name], used = ports, used + size
    yield row


def legend(fleet: Fleet) -> Iterator[Text]:
    """What the marks and numbers mean."""
    yield Text(f"{MAY} may come in, {NOT} is kept out, {DIFFERS} differs", "dim")
    names: dict[str, set[int]] = {}
    for way in sorted(ways(fleet), key=lambda way: way.port):
        names.setdefault(way.what, set()).add(way.port)
    yield Text(", ".join(f"{' '.join(map(str, sorted(ports)))} {what}" for what, ports in names.items()), "dim")
    for door, networks in fleet.open.items():
        yield Text(f"{door} is open on every host to {', '.join(map(str, networks)) or 'everybody'} (fleet.yml)", "dim")


def story(proof: Proof, failed: dict[str, Problem]) -> Iterator[Text]:
    """What the proof found, each with what to type."""
    count = 0
    for name, problem in failed.items():
        count += 1
        yield Text(f"{name} was not asked: {problem.message}", "bold red")
        yield Text(f"  next: {problem.next_step}")
    for alike in grouped(proof.differences()):
        count += len(alike)
        yield Text(told(alike), "bold red")
        yield Text(f"  next: {alike[0].next}")
    for name, address, port, program, why in proof.misplaced():
        count += 1
        yield Text(f"{name}: {program or 'something'} on {address}, port {port}: {why}", "bold red")
        yield Text(f"  next: fab -H {name} check")
    for name, look in proof.looks.items():
        for title, rules in (("lacks", look.lacks), ("has, and should not", look.strange)):
            count += len(rules)
            for rule in rules[:TOLD]:
                yield Text(f"{name} {title}: {_rule(rule)}", "bold red")
            if len(rules) > TOLD:
                yield Text(f"{name} {title}: {len(rules) - TOLD} more", "bold red")
        if look.lacks or look.strange:
            yield Text(f"  next: fab -H {name} firewall")
    for source, target in proof.unproved():
        count += 1
        yield Text(f"{source} -> {target}: nothing came through, not even a ping: silence proves nothing", "bold red")
    asked = sum(probe.port != PING for probe in proof.seen)
    well = "all is as it should be" if not count else f"{count} difference{'s'[: count > 1]}"
    yield Text(f"{len(proof.looks)} hosts, {asked} probes: {well}")


def grouped(differences: Iterable[Difference]) -> list[list[Difference]]:
    """Those that differ by their port alone are told together: a host without a firewall shows at all of them."""
    groups: dict[Difference, list[Difference]] = {}
    for one in differences:
        groups.setdefault(one._replace(port=0, what=""), []).append(one)
    return list(groups.values())


def told(alike: Sequence[Difference]) -> str:
    """What differs, in a sentence."""
    one = alike[0]
    who = one.source + (f" as {one.user}" if one.user != "root" else "")
    ports = ", ".join(f"{each.port} {each.what}".rstrip() for each in alike)
    return f"{who} -> {one.target}:{ports} {WANTED[one.wanted]}, and {SEEN[one.seen]}  ({one.address})"


def _rule(rule: tuple[int, str]) -> str:
    return f"IPv{rule[0]} {rule[1]}"
