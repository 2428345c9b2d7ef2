"""The core rule set's own regression tests against an Apache of ours: which rule must find what, and which must not.

They are the rule set's, so a checkout of it has them and this one has not:

    git clone --branch v3.3.7 https://github.com/coreruleset/coreruleset DIR

This machine reads them (YAML) and makes requests of them; `asking.py` sends those on the host and reads what the rules
said of each.  The format: https://github.com/coreruleset/go-ftw, "Test file execution".
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode

import yaml  # type: ignore[import-untyped]

from ..machine import Machine

ASKING = Path(__file__).with_name("asking.py")
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Case:
    """One test: the bytes of its request, and what must come of it.

    `wanted` and `unwanted` are regular expressions for what the rules say; `statuses` what may be answered; `broken`
    is whether the server may also close the connection without an answer.
    """

    name: str
    raw: bytes
    wanted: str = ""
    unwanted: str = ""
    statuses: tuple[int, ...] = ()
    broken: bool = False


@dataclass
class Outcome:
    """How many there were, and which failed: by name, why."""

    run: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        passed = self.run - len(self.failed)
        lines = [f"{passed} of {self.run} ({passed / self.run:.2%})", *(f"  {n}: {w}" for n, w in self.failed.items())]
        return "\n".join(lines)


def cases(checkout: Path) -> Iterator[Case]:
    """All tests of the checkout that its makers have switched on."""
    files = sorted((checkout / "tests" / "regression" / "tests").rglob("*.yaml"))
    if not files:
        raise FileNotFoundError(f"{checkout} has no tests/regression/tests: it is no checkout of the core rule set 3")
    for file in files:
        content = yaml.safe_load(file.read_text())
        if not content["meta"].get("enabled", True):
            continue
        for test in content["tests"]:
            for number, each in enumerate(test["stages"]):
                stage = each.get("stage", each)
                suffix = f"/{number}" if number else ""
                yield case(f"{test['test_title']}{suffix}", stage["input"], stage["output"])


def case(name: str, given: dict[str, Any], output: dict[str, Any]) -> Case:
    """A stage of a test."""
    status = output.get("status") or []
    return Case(
        name,
        request(given),
        output.get("log_contains") or "",
        output.get("no_log_contains") or "",
        tuple(status if isinstance(status, list) else [status]),
        bool(output.get("expect_error")),
    )


def request(given: dict[str, Any]) -> bytes:
    """The bytes of a request, with the headers that the tests leave to whoever runs them."""
    if encoded := given.get("encoded_request"):
        return base64.b64decode(encoded)
    if raw := given.get("raw_request"):
        return str(raw).encode()
    headers = {str(key): str(value) for key, value in (given.get("headers") or {}).items()}
    data = given.get("data") or ""
    data = "\r\n".join(data) if isinstance(data, list) else str(data)
    lower = {key.lower(): value for key, value in headers.items()}
    if not given.get("stop_magic"):
        if data and "content-type" not in lower:
            headers["Content-Type"] = FORM
        if data and headers.get("Content-Type", lower.get("content-type", "")) == FORM and unquote_plus(data) == data:
            pairs = parse_qsl(data, keep_blank_values=True)
            data = urlencode(pairs) if pairs and "=" in data else data
        if data and "content-length" not in lower:
            headers["Content-Length"] = str(len(data.encode()))
        if "connection" not in lower:
            headers["Connection"] = "close"
    line = f"{given.get('method', 'GET')} {given.get('uri', '/')} {given.get('version', 'HTTP/1.1')}"
    head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    return f"{line}\r\n{head}\r\n{data}".encode()


def run(host: Machine, every: list[Case], port: int, log: str) -> Outcome:
    """Ask the Apache at 127.0.0.1:`port` of the host, whose audit log is `log`, one after the other."""
    told = [base64.b64encode(each.raw).decode() for each in every]
    host.put({"/tmp/asking.py": ASKING.read_bytes(), "/tmp/asked.json": json.dumps(told).encode()})
    try:
        said = json.loads(host.check(f"python3 /tmp/asking.py {port} {log} < /tmp/asked.json", timeout=500))
    finally:
        host.check("rm -f /tmp/asking.py /tmp/asked.json")
    outcome = Outcome(len(every))
    for each, (status, messages) in zip(every, said, strict=True):
        if why := judged(each, status, "\n".join(messages)):
            outcome.failed[each.name] = why
    return outcome


def judged(case: Case, status: int, said: str) -> str:
    """Why it failed; nothing when it did not."""
    if case.broken and not status:
        return ""
    if case.statuses and status not in case.statuses and not (status < 400 and 200 in case.statuses):
        return f"answered {status}, not {case.statuses}"
    if case.wanted and not re.search(case.wanted, said):
        found = sorted({*re.findall(r'id "(\d+)"', said)})
        return f"wanted {case.wanted}; answered {status}, found by {' '.join(found) or 'nobody'}"
    if case.unwanted and re.search(case.unwanted, said):
        return f"not wanted, and found: {case.unwanted}"
    return ""
