"""CAA: which CA may issue for a name.  (RFC 8659; RFC 8657 for a method of its own)"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Record(NamedTuple):
    """One record: flags (128: who does not know the tag must not issue), tag in lower case, value."""

    flags: int
    tag: str
    value: str


Records = Mapping[str, Sequence[Record]]
"""By the name where they stand, in lower case and without a dot at the end."""

KNOWN = ("issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone")
CRITICAL = 128


def ancestors(name: str) -> list[str]:
    """The name and those above it, up to the top-level domain: where the CA looks, in its order."""
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(len(labels))]


def read(value: str) -> Record | None:
    """A record as DNS tools show it: `0 issue "letsencrypt.org; validationmethods=http-01"`."""
    found = re.fullmatch(r'(\d+)\s+"?([A-Za-z0-9]+)"?\s+"?(.*?)"?', value.strip())
    return Record(int(found[1]), found[2].lower(), found[3].strip()) if found else None


def refusal(name: str, records: Records, identities: Iterable[str]) -> str:
    """Why a CA that goes by these names must not issue for this one over http-01; empty when it may."""
    place = next((each for each in ancestors(name) if records.get(each)), None)
    if place is None:
        return ""
    found = records[place]
    if strange := next((each.tag for each in found if each.flags & CRITICAL and each.tag not in KNOWN), None):
        return f"CAA at {place} has a critical {strange}, which no CA knows"
    issue = [each.value for each in found if each.tag == "issue"]
    if not issue:
        return ""
    allowed = {value.partition(";")[0].strip().lower(): value.partition(";")[2] for value in issue}
    mine = [identity for identity in identities if identity.lower() in allowed]
    if not mine:
        names = ", ".join(filter(None, allowed)) or "nobody"
        return f"CAA at {place} lets {names} issue; this CA goes by {' or '.join(identities)}"
    methods = re.search(r"validationmethods\s*=\s*([^;\s]+)", allowed[mine[0].lower()])
    if methods and "http-01" not in methods[1].split(","):
        return f"CAA at {place} wants {methods[1]}, and here it is http-01"
    return ""
