"""mod_security's audit log, a line of JSON a request: what was asked, by whom, which rules found what."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# Within a message quotes that came with the request are escaped, so nobody can write such a mark into one.
MARKS = re.compile(r'\[(id|msg|data|severity) "((?:[^"\\]|\\.)*)"\]')
TOO_LARGE = "larger than the configured limit"
"""What mod_security says, without a rule, of a body that it refuses."""

SCORES = {*range(949000, 950000), *range(959000, 960000), *range(980000, 981000)}
"""Rules that sum up what others have found."""


class Rule(NamedTuple):
    """What one rule found."""

    id: int
    message: str
    data: str = ""

    @property
    def sums_up(self) -> bool:
        """Whether it only says what others came to."""
        return self.id in SCORES


@dataclass
class Finding:
    """One request in which rules found something."""

    time: str = ""
    number: str = ""
    client: str = ""
    host: str = ""
    method: str = ""
    path: str = ""
    status: int = 0
    refused: bool = False
    rules: list[Rule] = field(default_factory=list)


def finding(record: dict[str, Any]) -> Finding:
    """One record of the audit log."""
    said = record.get("audit_data", {})
    transaction, request = record.get("transaction", {}), record.get("request", {})
    method, _, rest = str(request.get("request_line", "")).partition(" ")
    headers = {key.lower(): value for key, value in (request.get("headers") or {}).items()}
    rules = list(_rules(said.get("messages") or []))
    too_large = any(rule.id == 0 and TOO_LARGE in rule.message for rule in rules)
    return Finding(
        time=str(transaction.get("time", "")),
        number=str(transaction.get("transaction_id", "")),
        client=str(transaction.get("remote_address", "")),
        host=str(headers.get("host", "")),
        method=method,
        path=rest.partition(" ")[0].partition("?")[0],
        status=413 if too_large else int(record.get("response", {}).get("status") or 0),
        refused="action" in said or too_large,
        rules=rules,
    )


def _rules(messages: Iterable[str]) -> Iterator[Rule]:
    for message in messages:
        marks: dict[str, str] = {}
        for name, text in MARKS.findall(message):
            marks.setdefault(name, text)
        if "id" in marks:
            yield Rule(int(marks["id"]), marks.get("msg", ""), marks.get("data", ""))
        else:
            yield Rule(0, message.partition(" [")[0])


def findings(text: str) -> Iterator[Finding]:
    """Those of a log; a line that was cut off is passed over."""
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield finding(record)
