"""The hosts are asked: how each looks, and what comes back to it from the others; all of them side by side."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..engine import Host, Problem, console
from ..engine.pool import Crew
from ..firewall.loading import wanted
from ..firewall.rules import passing
from ..model import Fleet
from .proof import HERE, NOBODY, Look, Probe, Proof, compared, guarded, listening, ports, private_of

PATIENCE = 3
"""Seconds for an answer: a packet that was lost goes out again after one."""

LISTENS = "ss -Hltnp"
PROBE = (
    "probe=$(cat <<'PROBE'\n" + (Path(__file__).parent / "probe.pl").read_text() + "PROBE\n)\n"
    r"""
set -f
perl -e "$probe" -- $1 > "$box/root" &
[ -z "$2" ] || setpriv --reuid=65534 --regid=65534 --clear-groups perl -e "$probe" -- $2 > "$box/nobody"
wait
sed 's/^/root /' "$box/root"
[ -z "$2" ] || sed 's/^/nobody /' "$box/nobody"
"""
)


def look(host: Host) -> Look:
    """One host.  Raises the engine's Problems."""
    facts, fleet = host.facts, host.fleet
    live = {4: facts.rules4, 6: facts.rules6}
    # Not the address that we come from today: `operators` remembers it only when something is changed.
    known = {*map(str, fleet.operators), *facts.operators}
    should = wanted(host, [network for network in host.operators if network in known])
    lacks, strange = list[tuple[int, str]](), list[tuple[int, str]]()
    for family, rules in live.items():
        less, more = compared(rules, should[family])
        lacks += [(family, rule) for rule in less]
        strange += [(family, rule) for rule in more]
    connection = host.visit.connection
    return Look(
        host.name,
        tuple(dict.fromkeys((*private_of(fleet, host.name), *facts.addresses))),
        facts.ssh_ports,
        "" if connection.gateway else connection.host,
        tuple(sorted({*listening(host.ask(LISTENS))})),
        frozenset(port for rules in live.values() for port in ports(rules)),
        frozenset(port for rules in live.values() for port in ports(passing(rules, facts.clock))),
        frozenset(place for chains in should.values() for place in guarded(chains)),
        tuple(lacks),
        tuple(strange),
    )


def proved(fleet: Fleet, from_here: bool) -> tuple[Proof, dict[str, Problem]]:
    """Ask every host; a difference is asked for a second time before it counts.  Those that fail come back by name."""
    failed, looks = dict[str, Problem](), dict[str, Look]()
    with Crew(fleet, list(fleet.hosts)) as crew, console.status("looking") as status:
        for name, answer in crew.each(list(fleet.hosts), look).items():
            if isinstance(answer, Problem):
                failed[name] = answer
            else:
                looks[name] = answer
        proof = Proof(fleet, looks)
        probes = [probe for name in looks for probe in proof.probes(name)]
        probes += proof.outside() if from_here else ()
        for busy in ("probing", "probing again what differs"):
            status.update(f"{busy}: {len(probes)} probes")
            proof.seen |= _asked(crew, probes, failed)
            probes = [probe for probe in probes if probe in proof.seen and not proof.fits(probe)]
    return proof, failed


def _asked(crew: Crew, probes: list[Probe], failed: dict[str, Problem]) -> dict[Probe, str]:
    """What came back, from all sources side by side; this machine is one of them."""
    by_source: dict[str, list[Probe]] = {}
    for probe in probes:
        by_source.setdefault(probe.source, []).append(probe)
    seen = tried(by_source.pop(HERE, []))
    for name, answer in crew.each(list(by_source), lambda host: asked(host, by_source[host.name])).items():
        if isinstance(answer, Problem):
            failed[name] = answer
        else:
            seen |= answer
    return seen


def asked(host: Host, probes: Iterable[Probe]) -> dict[Probe, str]:
    """What came back to `host`.  Raises the engine's Problems."""
    by_place = {(probe.user, probe.address, probe.port): probe for probe in probes}
    words = [
        " ".join(f"{address},{port}" for one, address, port in by_place if one == user) for user in ("root", NOBODY)
    ]
    answers = (line.split() for line in host.ask(PROBE, *words).splitlines())
    return {by_place[user, address, int(port)]: seen for user, address, port, seen in answers}


def tried(probes: list[Probe]) -> dict[Probe, str]:
    """What came back to this machine."""
    with ThreadPoolExecutor(max_workers=64) as pool:
        return dict(zip(probes, pool.map(_try, probes), strict=True))


def _try(probe: Probe) -> str:
    try:
        socket.create_connection((probe.address, probe.port), PATIENCE).close()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silent"
    except OSError:
        return "none"
    return "open"
