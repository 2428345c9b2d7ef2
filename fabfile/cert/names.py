"""What DNS says of a site's names: asked on the host, whose resolver is nobody's office network."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address

from ..engine import Host
from . import caa

# All questions at once: a resolver that does not answer is waited for once.
QUESTION = r"""
command -v drill > /dev/null || { echo 'drill is missing: fab -H HOST cert.install'; exit 1; }
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
echo "own $(hostname -I)"
number=0
for word; do
    number=$((number + 1))
    { echo "query $word"; timeout 10 drill "${word#* }." "${word%% *}" || :; } > "$here/$number" 2>&1 &
done
wait
for each in $(seq "$number"); do cat "$here/$each"; done
"""


@dataclass
class Names:
    """What DNS says: addresses, CAA records and failures, by (type, name); and the host's own addresses."""

    own: set[str] = field(default_factory=set)
    addresses: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    records: dict[str, list[caa.Record]] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)


def asked(host: Host, names: Iterable[str]) -> Names:
    """Addresses of each name by family, and CAA records of it and of all names above it: one round trip."""
    names = list(names)
    words = [f"{kind} {name}" for name in names for kind in ("A", "AAAA")]
    words += [f"CAA {name}" for name in dict.fromkeys(up for name in names for up in caa.ancestors(name))]
    return read(host.ask(QUESTION, *words))


def read(answer: str) -> Names:
    """What QUESTION prints: drill's answers, one after another."""
    names = Names()
    kind = name = ""
    for line in answer.splitlines():
        if line.startswith("own "):
            names.own = set(line.split()[1:])
        elif line.startswith("query "):
            _, kind, name = line.split()
            if kind != "CAA":
                names.addresses[kind, name] = []
            names.failed[kind, name] = "no answer"
        elif found := re.search(r"rcode: (\w+)", line):
            names.failed.pop((kind, name), None)
            if found[1] not in ("NOERROR", "NXDOMAIN"):
                names.failed[kind, name] = found[1]
        elif found := re.fullmatch(rf"[^;\s]\S*\s+\d+\s+IN\s+{kind}\s+(.+)", line):
            if kind != "CAA":
                names.addresses[kind, name].append(str(ip_address(found[1].strip())))
            elif record := caa.read(found[1]):
                names.records.setdefault(name, []).append(record)
    return names
