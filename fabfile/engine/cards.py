"""What a host says of itself to others of its fleet: digests of its secrets, certificates; never a secret.

A host's card is what lies in /etc/gatehouse/card, a small file a word, readable by all.  Each look reads it.  So a
password never leaves the host that made it: who shall let that host in has the digest from its card.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..model import Machine
from .host import Host
from .pool import everywhere
from .problems import Problem

CARD = "/etc/gatehouse/card"


def cards(host: Host, machines: Iterable[Machine]) -> dict[str, Mapping[str, str]]:
    """The cards of these machines of the fleet, by their names; in a run over the fleet they are known already.

    A machine that cannot be asked is left out and told: what is there of it must be left as it is.
    """
    names = [machine.name for machine in machines]
    if host.name in names:
        host.cards[host.name] = host.facts.card
    missing = [name for name in names if name not in host.cards]
    host.cards.update(everywhere(host.fleet, missing, lambda other: other.facts.card, "asking the others"))
    found = dict[str, Mapping[str, str]]()
    for name in names:
        if isinstance(card := host.cards[name], Problem):
            host.note(f"{card.message}: what it has here stays as it is")
        else:
            found[name] = card
    return found
