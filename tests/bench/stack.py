"""What a visitor of a bootstrapped host gets, beside what people run instead: each on a host of its own, in turn.

h2load(1) asks, over HTTP/1.1, which all of them speak; slowhttptest(1) attacks; visitors.py is who else comes.  All on
this machine: the client has its part of the processors, so what counts is the ratio, and what the server itself took.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from ..lab.errors import LabError
from ..lab.machine import Machine
from . import contenders, heard, quiet
from .contenders import EVERY, GATEHOUSE, MILLISECONDS, NAME, PAGES, PEERS, Contender
from .ground import Ground

CASES = {"static": "file.css", "cached": "page.php", "waiting": "waits.php", "uncached": "own.php"}
"""What is asked for."""

BROWSER = "-H 'Accept-Encoding: gzip'"
"""What each of them says; who does not is sent five times as much."""

SECONDS = 3
AT_ONCE = 32
RATES = {"static": 200, "cached": 20, "waiting": 20, "uncached": 20}
"""Requests a second that even Apache with mod_php can hold beside its client on two cores."""

CLIENTS = {"static": 40, "cached": 20, "waiting": 20, "uncached": 20}
"""Who together keep to a rate."""

PACED_SECONDS = 5
SITES = 10
IDLE, IDLE_SECONDS = 1000, 18
SLOW, SLOW_SECONDS = 1000, 27
HONEST, HONEST_SECONDS = 4, 12
"""Visits a second of the honest one, and for how long."""

VISITORS = "/root/visitors.py"


def measure(rounds: int) -> dict[str, Any]:
    """All of it; `rounds` is how often each is asked for everything.  Returns what paper.py and plots.py read."""
    with Ground() as ground:
        stack = Stack(ground)
        stack.prepare()
        for number in range(rounds):
            quiet.calm()
            stack.round(number)
        for contender in stack.hosts:
            quiet.calm()
            stack.one(contender, "idle", partial(stack.idle, contender))
        for contender in stack.hosts:
            quiet.calm()
            stack.one(contender, "slow", partial(stack.slow, contender))
        if GATEHOUSE in stack.hosts:
            stack.one(GATEHOUSE, "sites", stack.grown)
        found = {each.name: contenders.versions(each, machine) for each, machine in stack.hosts.items()}
    return {
        "part": "stack",
        "shape": quiet.shape(),
        "names": {each.name: each.told for each in EVERY},
        "versions": found,
        "rates": RATES,
        "at_once": AT_ONCE,
        "idle": IDLE,
        "slow": SLOW,
        "milliseconds": MILLISECONDS,
        "runs": stack.runs,
    }


class Stack:
    """The servers that came up, and what was seen of them; what fails is written down, and costs no other anything."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.hosts: dict[Contender, Machine] = {}
        self.runs: list[dict[str, Any]] = []

    def one(self, contender: Contender, case: str, look: Callable[[], Mapping[str, Any] | None]) -> bool:
        """Look, and write it down, with what the server itself took for 1,000 of its requests."""
        run: dict[str, Any] = {"tool": contender.name, "case": case, "code": 0, "load": round(os.getloadavg()[0], 2)}
        try:
            machine = self.hosts.get(contender)
            before = contenders.processor(machine) if machine else 0.0
            run |= look() or {}
            if machine and run.get("requests") and "cpu" not in run:
                run["cpu"] = (contenders.processor(machine) - before) / run["requests"] * 1000
        except (LabError, ValueError, KeyError, OSError, SubprocessError) as error:
            run |= {"code": 1, "said": str(error)[-600:]}
        self.runs.append(run)
        shown = {key: round(value, 3) if isinstance(value, float) else value for key, value in run.items()}
        print(json.dumps(shown), file=sys.stderr, flush=True)
        return "said" not in run

    # Coming up

    def prepare(self) -> None:
        """A host each; the product's first, since the others show its certificate."""
        machines = {GATEHOUSE: self.ground.host("gatehouse")}
        machines |= {peer: self.ground.host(peer.name) for peer in PEERS}
        self.ground.named(machines[GATEHOUSE])
        self.ground.lab.stranger.put({VISITORS: Path(__file__).with_name("visitors.py").read_bytes()})
        made = []

        def product() -> None:
            contenders.bootstrap(self.ground, machines[GATEHOUSE], 1)
            made.append(contenders.certificate(machines[GATEHOUSE]))

        if self.one(GATEHOUSE, "set up", product):
            self.hosts[GATEHOUSE] = machines[GATEHOUSE]
        pair = made[0] if made else contenders.makeshift(machines[PEERS[0]])
        for peer in PEERS:
            if self.one(peer, "set up", partial(contenders.equip, peer, machines[peer], pair)):
                self.hosts[peer] = machines[peer]
        for contender, machine in [*self.hosts.items()]:
            if not self.one(contender, "pages", partial(self.pages, machine)):
                del self.hosts[contender]
            else:
                self.one(contender, "rest", partial(self.rest, contender))

    def pages(self, machine: Machine) -> None:
        """Every file comes, as long as it is; what is not served right needs no measuring."""
        for name, text in PAGES.items():
            line = f"curl -sk --resolve {NAME}:443:{machine.ip} -o /dev/null -w '%{{http_code}} %{{size_download}}'"
            code, size = self.ground.lab.stranger.check(f"{line} https://{NAME}/{name}").split()
            least = 9_000 if name.endswith(".php") else len(text)
            if code != "200" or int(size) < least:
                raise ValueError(f"/{name} of {machine.name}: {code}, {size} bytes")

    def rest(self, contender: Contender) -> dict[str, float]:
        """MB before anybody comes."""
        return {"memory": contenders.rested(contender, self.hosts[contender])}

    # What is asked

    def round(self, number: int) -> None:
        """Everything once of everybody, case by case; who begins changes from round to round."""
        names = [*self.hosts]
        turn = number % max(len(names), 1)
        for case, page in CASES.items():
            for contender in names[turn:] + names[:turn]:
                machine = self.hosts[contender]
                self.one(contender, case, partial(self.full, machine, page))
                self.one(contender, f"{case}, paced", partial(self.paced, machine, page, case))
        for case, again in (("handshakes", ""), ("resumed", " again")):
            for contender in names[turn:] + names[:turn]:
                machine = self.hosts[contender]
                self.one(contender, case, partial(self.shaken, machine, again))

    def h2load(self, machine: Machine, page: str, words: str) -> str:
        """Its words, from a stranger."""
        line = f"h2load --h1 -t 1 --connect-to={machine.ip}:443 {BROWSER} {words} https://{NAME}/{page}"
        return self.ground.lab.stranger.check(line, timeout=120)

    def full(self, machine: Machine, page: str) -> dict[str, float]:
        """As many as it answers, over connections that are kept.

        A number, not a time, since what is under way at its end would cost the server and count for nothing: ever more,
        until they take about as long as they shall.
        """
        number = 2 * AT_ONCE
        while True:
            began = contenders.processor(machine)
            seen = heard.h2load(self.h2load(machine, page, f"-n {number} -c {AT_ONCE}"))
            if seen["seconds"] >= SECONDS / 2:
                return {**seen, "cpu": (contenders.processor(machine) - began) / seen["requests"] * 1000}
            number = round(number * min(SECONDS / seen["seconds"], 20))

    def paced(self, machine: Machine, page: str, case: str) -> dict[str, float]:
        """So many a second, each client a moment after the one before: within what 99 of 100 are answered."""
        rate, clients = RATES[case], CLIENTS[case]
        words = f"-n {rate * PACED_SECONDS} -c {clients} -r 1 --rate-period={1000 // rate}ms --rps={rate // clients}"
        said = self.h2load(machine, page, f"{words} --log-file=/tmp/h2load.log")
        rows = self.ground.lab.stranger.check("cat /tmp/h2load.log; rm /tmp/h2load.log")
        found = heard.h2load(said)
        return {"p99": heard.percentile(heard.log(rows), 99), "failed": found["failed"]}

    def visitors(self, what: str, address: str, page: str, seconds: int, more: str = "") -> dict[str, Any]:
        """What visitors.py has to say."""
        line = f"python3 {VISITORS} {what} {address} {NAME} /{page} {seconds} {more}"
        said: dict[str, Any] = json.loads(self.ground.lab.stranger.check(line, timeout=seconds + 60))
        return said

    def shaken(self, machine: Machine, again: str) -> dict[str, Any]:
        """Connections with one request each."""
        seen = self.visitors("handshakes", machine.ip, CASES["static"], SECONDS, again)
        if not seen["requests"]:
            raise ValueError(f"no handshake of {seen['failed']} succeeded")
        return {**seen, "rate": seen["requests"] / seen["seconds"]}

    # Crowds

    def honest(self, machine: Machine) -> dict[str, float]:
        """Somebody from another address, who wants a page that nobody keeps, over a connection of its own."""
        seen = self.visitors("honest", machine.ip6, CASES["uncached"], HONEST_SECONDS, str(HONEST))
        return heard.honest(seen["times"], seen["asked"])

    def idle(self, contender: Contender) -> dict[str, Any]:
        """A thousand who keep their connection, and the honest one beside them."""
        machine = self.hosts[contender]
        with beside(self.visitors, "idle", machine.ip, CASES["static"], IDLE_SECONDS, str(IDLE)) as crowd:
            self.ground.lab.stranger.check("sleep 5")
            found = {**self.honest(machine), "memory": round(contenders.memory(contender, machine), 1)}
            return {**found, **crowd()}

    def slow(self, contender: Contender) -> dict[str, Any]:
        """Heads that never end, from one address; the honest one comes once they are all there."""
        machine, attacker = self.hosts[contender], self.ground.lab.machine("ca")
        names = attacker.check("cat /etc/hosts")
        attacker.check("cat >> /etc/hosts", stdin=f"{machine.ip} {NAME}\n")
        line = f"slowhttptest -H -c {SLOW} -r 250 -i 10 -l {SLOW_SECONDS} -x 24 -p 3 -u https://{NAME}/own.php 2>&1"
        try:
            with beside(attacker.check, line, timeout=SLOW_SECONDS + 60) as attack:
                self.ground.lab.stranger.check("sleep 5")
                found = {**self.honest(machine), "memory": round(contenders.memory(contender, machine), 1)}
                return {**found, **heard.slowhttptest(attack())}
        finally:
            attacker.check("cat > /etc/hosts", stdin=names)

    def grown(self) -> dict[str, float]:
        """MB that a site takes while nobody comes: nine more, and all daemons started anew before each look."""
        machine = self.hosts[GATEHOUSE]
        one = contenders.rested(GATEHOUSE, machine)
        contenders.bootstrap(self.ground, machine, SITES)
        many = contenders.rested(GATEHOUSE, machine)
        return {"one": one, "many": many, "site": (many - one) / (SITES - 1)}


@contextmanager
def beside(work: Callable[..., Any], *words: Any, **more: Any) -> Iterator[Callable[[], Any]]:
    """It goes on meanwhile; what is given waits for what it returns, or raises what it raised."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work, *words, **more).result
