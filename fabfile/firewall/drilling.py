"""The lock-out that everybody fears, on purpose: does the host really let its operator in again by itself?"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..engine import Guarded, Host, Problem, task
from .loading import APPLY, REVERT, wanted
from .rules import holds, table

GRACE = 30
"""Seconds after its time in which the revert must have let somebody in."""


@task(help={"seconds": "how long new SSH connections are shut out"}, within={"seconds": (10, 120)})
def drill(c, seconds=20):
    """On call: at a quiet hour, shut SSH out on purpose, and see the host take it back by itself.

    Rules without SSH are loaded as every change of the firewall is: with the way back armed on the host first.  No new
    connection must get in; then, when the time is over, one must, with the rules of before.  This session stays, and so
    do the sites.  Kill it at any moment: the host needs nobody for the way back, and a reboot takes it as well.
    """
    host = Host.of(c)
    rules = wanted(host)
    before = _ours(host)
    if not (holds(host.facts.rules4, rules[4]) and holds(host.facts.rules6, rules[6])):
        raise Guarded("the rules in force are not ours: there is nothing to return to", f"fab -H {host.name} firewall")
    doors = tuple(f" --dport {port} -j ACCEPT" for port in host.facts.ssh_ports)
    for chains in rules.values():
        chains["GATEHOUSE"] = [rule for rule in chains["GATEHOUSE"] if not rule.endswith(doors)]
    host.shut("SSH was shut out", APPLY, REVERT, table(rules[4]), table(rules[6]), seconds=seconds)
    if host.dry:
        return
    armed = time.monotonic()
    if host.lets_in():
        host.take_back("the drill")
        raise Problem(
            "a new connection got in although our rules have no SSH: something lets it in before them",
            f"fab -H {host.name} firewall.show  (what is not ours)",
        )
    took = _waited(armed, seconds + GRACE, host.lets_in)
    if not took:
        host.take_back("the drill")
        raise Problem(
            f"the host let nobody in by itself within {seconds + GRACE} s; it was taken back over this session",
            f"fab -H {host.name} -- sudo journalctl -u gatehouse-revert",
        )
    if not _waited(armed, seconds + GRACE, lambda: not host.armed()) or _ours(host) != before:
        raise Problem("one gets in again, but the rules are not those of before", f"fab -H {host.name} firewall")
    host.note(
        f"no new connection got in; by itself the host took it back, and one got in after {took:.0f} s "
        f"(armed for {seconds} s)"
    )


def _ours(host: Host) -> list[str]:
    return [line for line in (*host.facts.rules4, *host.facts.rules6) if line.startswith("-A ") and "GATEHOUSE" in line]


def _waited(since: float, most: float, true: Callable[[], bool]) -> float:
    """Seconds since then until it became true; 0 when it did not in time."""
    while not true():
        if time.monotonic() - since > most:
            return 0
        time.sleep(0.5)
    return time.monotonic() - since
