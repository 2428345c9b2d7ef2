"""The matrix put to the proof: what every host shall try, what must come back, and what that means.

A port that is dropped is silent; one that is let through and where nobody listens refuses.  So a missing DROP shows
although nothing is there to be reached, and no listener need be opened for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Literal, NamedTuple

from ..firewall.rules import INNER, JUMPS, NOW
from ..model import Fleet
from ..model.ways import SSH, WORLD, listener, misplaced, ways, ways_to

HERE = "here"
"""This machine, as a source: one of the world."""

PING = 0
"""Stands for a port in a probe: a ping, which every firewall of ours answers."""

NOBODY = "nobody"
"""A user with no business between the layers."""

Wish = Literal["open", "either", "closed", "silent"]
"""What must come back: an answer; whatever; no open port; nothing at all."""

MEETS: Mapping[Wish, tuple[str, ...]] = {
    "open": ("open",),
    "either": ("open", "refused", "silent", "none"),
    "closed": ("refused", "silent", "none"),
    "silent": ("silent", "none"),
}


class Probe(NamedTuple):
    """One try: from `source` to `port` of `target` at `address`, as `user`."""

    source: str
    target: str
    address: str
    port: int
    user: str = "root"


class Look(NamedTuple):
    """What a host says of itself.

    addresses: all that others might find it at; ssh: the ports that sshd has; door: where this machine's SSH finds it,
    empty behind a bastion; listens: address (empty: all), port, program; named: TCP ports that rules in force name;
    passing: ports that are open for a while; guarded: addresses and ports that some users here may not come to; lacks
    and strange: rules by family.
    """

    host: str
    addresses: tuple[str, ...]
    ssh: tuple[int, ...]
    door: str
    listens: tuple[tuple[str, int, str], ...]
    named: frozenset[int]
    passing: frozenset[int]
    guarded: frozenset[tuple[str, int]]
    lacks: tuple[tuple[int, str], ...]
    strange: tuple[tuple[int, str], ...]


class Difference(NamedTuple):
    """A pair that is not as it should be: what must come back, what does, and what to type."""

    source: str
    target: str
    address: str
    port: int
    user: str
    what: str
    wanted: str
    seen: str
    next: str


class Proof:
    """The hosts that could be asked, and what they found of one another."""

    def __init__(self, fleet: Fleet, looks: Mapping[str, Look]) -> None:
        self.fleet, self.looks = fleet, looks
        self.seen: dict[Probe, str] = {}
        self._ways = {name: ways_to(fleet, name) for name in looks}

    def known(self) -> set[int]:
        """Every TCP port that the data or a rule in force names, or at which anything listens for others anywhere."""
        found = {way.port for way in ways(self.fleet) if way.port != SSH} | {*INNER}
        found |= {int(door.partition("/")[0]) for door in self.fleet.open if door.endswith("/tcp")}
        for one in self.looks.values():
            outward = {port for address, port, _ in one.listens if not address or not ip_address(address).is_loopback}
            found |= {*one.ssh, *one.named, *outward}
        return found

    def probes(self, source: str) -> Iterator[Probe]:
        """All that `source` tries."""
        mine, known = self.looks[source], sorted(self.known())
        for target, other in self.looks.items():
            places = {"127.0.0.1"} if target == source else {*other.addresses}
            yield from (Probe(source, target, *place, NOBODY) for place in sorted(mine.guarded) if place[0] in places)
            if target == source:
                continue
            private = private_of(self.fleet, target)
            for address in other.addresses:
                if address not in mine.addresses:
                    yield from (Probe(source, target, address, port) for port in known)
            yield from (Probe(source, target, address, PING) for address in private)

    def outside(self) -> Iterator[Probe]:
        """All that this machine tries: where SSH finds a host without a bastion, and addresses that are the world's.

        A private address is left out: from here it may be somebody else's.
        """
        known = sorted(self.known())
        for target, one in self.looks.items():
            places = {address for address in one.addresses if ip_address(address).is_global} | {one.door}
            yield from (Probe(HERE, target, address, port) for address in sorted(places - {""}) for port in known)

    def wish(self, probe: Probe) -> Wish:
        """What must come back."""
        if probe.user != "root":
            return "closed"
        target, private = self.looks[probe.target], private_of(self.fleet, probe.target)
        port = SSH if probe.port in target.ssh else -1 if probe.port == SSH else probe.port
        sources = {way.source for way in self._ways[probe.target] if way.port == port}
        if WORLD in sources:
            return "open" if probe.address in ((target.door,) if probe.source == HERE else private) else "either"
        if self._opened(probe):
            return "either"
        if probe.source not in sources:
            return "silent"
        if probe.address in private:
            return "open"
        same = any(ip_address(probe.address).version == ip_address(mine).version for mine in private)
        return "closed" if same else "silent"

    def fits(self, probe: Probe) -> bool:
        """Whether what was seen of it is what must be; a ping is no way to be."""
        return probe.port == PING or self.seen[probe] in MEETS[self.wish(probe)]

    def _opened(self, probe: Probe) -> bool:
        """Whether `open:` in fleet.yml or firewall.allow let it in: nothing says that something listens there."""
        networks = self.fleet.open.get(f"{probe.port}/tcp")
        if probe.port in self.looks[probe.target].passing or (networks is not None and not networks):
            return True
        if networks and probe.source == HERE:
            return True
        mine = self.looks[probe.source].addresses if probe.source in self.looks else ()
        return any(ip_address(address) in network for address in mine for network in networks or ())

    def differences(self) -> list[Difference]:
        """The pairs that are not as they should be."""
        return [
            self._difference(probe, self.wish(probe), seen)
            for probe, seen in sorted(self.seen.items())
            if not self.fits(probe)
        ]

    def _difference(self, probe: Probe, wish: Wish, seen: str) -> Difference:
        way = next((way.what for way in self._ways[probe.target] if way.port == probe.port), "")
        programs = [program for _, port, program in self.looks[probe.target].listens if port == probe.port]
        what = way or next(iter(programs), "")
        at = probe.source if probe.user != "root" else probe.target
        task = "status" if wish == "open" and seen == "refused" else "firewall"
        return Difference(
            probe.source, probe.target, probe.address, probe.port, probe.user, what, wish, seen, f"fab -H {at} {task}"
        )

    def unproved(self) -> list[tuple[str, str]]:
        """Pairs between which nothing came through at all, not even a ping: their silence proves nothing."""
        pairs = {(probe.source, probe.target) for probe in self.seen if probe.port == PING}
        heard = {(probe.source, probe.target) for probe, seen in self.seen.items() if seen in ("open", "refused")}
        return sorted(pairs - heard)

    def misplaced(self) -> list[tuple[str, str, int, str, str]]:
        """Host, address, port, program and why it must not listen there: also where the firewall holds."""
        return [
            (name, address or "every address", port, program, why)
            for name, one in self.looks.items()
            for address, port, program in one.listens
            if (why := misplaced(self.fleet, name, address, port, one.ssh))
        ]


def listening(text: str) -> Iterator[tuple[str, int, str]]:
    """What `ss -Hltnp` prints: address (empty: every one), port, program."""
    for line in text.splitlines():
        program = re.search(r'\(\("([^"]+)"', line)
        yield (*listener(line.split()[3]), program[1] if program else "")


def ports(rules: Iterable[str]) -> Iterator[int]:
    """The TCP ports that rules let somebody come to; of a range, its ends."""
    for rule in rules:
        found = re.search(r"-p tcp .*--dports? (\S+)", rule)
        if found and rule.endswith("-j ACCEPT"):
            yield from (int(port) for port in re.split("[,:]", found[1]))


def guarded(chains: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, int]]:
    """Where rules on what goes out from a host look at whose it is: addresses, 127.0.0.1 within it, and ports."""
    for chain, where in (("GATEHOUSE-INNER", "127.0.0.1"), ("GATEHOUSE-OUTER", "")):
        for rule in chains.get(chain, ()):
            found = re.search(r"--dports? ([\d,]+) ", rule)
            there = re.search(r"-d ([^/ ]+)", rule)
            if found:
                yield from ((there[1] if there else where, int(port)) for port in found[1].split(","))


def compared(live: Iterable[str], should: Mapping[str, Iterable[str]]) -> tuple[list[str], list[str]]:
    """The rules that are missing in our chains, and those that are there and should not."""
    ours = [line for line in live if line.startswith(("-A GATEHOUSE", ":INPUT ")) or " -j GATEHOUSE" in line]
    there = [line.partition(" [")[0] for line in ours if not line.startswith(f"-A {NOW} ")]
    want = [":INPUT DROP", *(JUMPS[chain] for chain in should if chain in JUMPS)]
    want += [f"-A {chain} {rule}" for chain, rules in should.items() if chain != NOW for rule in rules]
    lacks = [rule for rule in dict.fromkeys(want) if rule not in there]
    strange = [rule for rule in dict.fromkeys(there) if rule not in want]
    return lacks, strange


def private_of(fleet: Fleet, host: str) -> tuple[str, ...]:
    address = fleet.machine(host).address
    return (str(address),) if address else ()
