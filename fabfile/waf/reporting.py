"""What the rules have found: by rule, by client, by path."""

from __future__ import annotations

import json as json_
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.markup import escape

from ..engine import Host, as_data, console, query
from ..model import duration
from .detecting import until
from .findings import Finding, findings
from .guarding import guarded
from .places import AUDIT

SINCE, MOST = "1d", "14d"
TOP = 10

# The last of today's log and yesterday's, without headers and bodies, as far as they are new enough.
READ = r"""
[ -e "$2" ] || [ -e "$2.1" ] || exit 0
python3 - "$1" "$2.1" "$2" << 'END'
import datetime, json, os, sys
since = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=int(sys.argv[1]))
for path in sys.argv[2:]:
    try:
        stream = open(path, "rb")
    except FileNotFoundError:
        continue
    with stream:
        stream.seek(max(0, os.path.getsize(path) - (64 << 20)))
        for line in stream:
            try:
                record = json.loads(line)
                when = record["transaction"]["time"]
                for form in ("%d/%b/%Y:%H:%M:%S.%f %z", "%d/%b/%Y:%H:%M:%S %z"):
                    try:
                        at = datetime.datetime.strptime(when.replace(" --", " -"), form)
                        break
                    except ValueError:
                        at = None
            except (ValueError, KeyError, TypeError):
                continue
            if at and at < since:
                continue
            request, said = record.get("request", {}), record.get("audit_data", {})
            host = {k: v for k, v in (request.get("headers") or {}).items() if k.lower() == "host"}
            kept = ("time", "transaction_id", "remote_address")
            short = {"transaction": {k: record["transaction"].get(k) for k in kept},
                     "request": {"request_line": request.get("request_line", "")[:300], "headers": host},
                     "response": {"status": record.get("response", {}).get("status")},
                     "audit_data": {"messages": [m[:2000] for m in said.get("messages") or []]}}
            if "action" in said:
                short["audit_data"]["action"] = {}
            print(json.dumps(short))
END
"""


@dataclass
class Summary:
    """How often which rule, client and path was in a request that the rules found something in."""

    requests: int = 0
    refused: int = 0
    rules: list[dict[str, object]] = field(default_factory=list)
    clients: list[dict[str, object]] = field(default_factory=list)
    paths: list[dict[str, object]] = field(default_factory=list)
    last: list[dict[str, object]] = field(default_factory=list)


@query(
    help={
        "since": f"how far back: 30m, 2h, 7d, at most {MOST}; without it {SINCE}",
        "json": "print the figures as JSON",
    }
)
def report(c, since=SINCE, json=False):
    """On call: what the rules found and refused: top rules, clients and paths, and the last requests.

    A visitor who was refused reads the number of the request on the page.  From root's own audit log of today and the
    last rotation.
    """
    seconds = duration(since, "--since", MOST)
    host = Host.of(c)
    guarded(host)
    found = summary(findings(host.ask(READ, str(seconds), AUDIT)))
    watching = until(host)
    if json:
        print(json_.dumps({"host": host.name, "since": since, "until": watching, **as_data(found)}, indent=2))
        return
    console.print(f"{host.name}  {found.requests} requests with findings in {since}, {found.refused} refused")
    _table(("times", "refused", "rule", "what it found"), found.rules)
    _table(("times", "refused", "client"), found.clients)
    _table(("times", "refused", "path"), found.paths)
    _table(("time", "number", "client", "status", "what"), found.last)
    if watching:
        console.print(f"The rules refuse nobody until {watching} (waf.detect-only).")


def _table(titles: tuple[str, ...], rows: list[dict[str, object]]) -> None:
    if not rows:
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="")
    for title in titles:
        table.add_column(title, justify="right" if title in ("times", "refused") else "left")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    console.print()
    console.print(table)


def summary(found: Iterable[Finding]) -> Summary:
    """The figures; each request counts once for each rule, and rules that sum up are left out."""
    every = list(found)
    rules, clients, paths = Counter[int](), Counter[str](), Counter[str]()
    refused: Counter[tuple[str, object]] = Counter()
    named: dict[int, str] = {}
    for each in every:
        ids = {rule.id: rule.message for rule in each.rules if not rule.sums_up}
        named |= ids
        path = f"{each.host}{each.path}"
        rules.update(ids.keys())
        clients[each.client] += 1
        paths[path] += 1
        if each.refused:
            refused.update([("client", each.client), ("path", path), *(("rule", number) for number in ids)])
    result = Summary(len(every), sum(each.refused for each in every))
    result.rules = [
        {"times": times, "refused": refused["rule", number], "rule": number, "message": named[number]}
        for number, times in rules.most_common(TOP)
    ]
    result.clients = [
        {"times": times, "refused": refused["client", client], "client": client}
        for client, times in clients.most_common(TOP)
    ]
    result.paths = [
        {"times": times, "refused": refused["path", path], "path": path} for path, times in paths.most_common(TOP)
    ]
    result.last = [
        {"time": each.time, "number": each.number, "client": each.client, "status": each.status,
         "what": f"{each.method} {each.path}: {', '.join(str(rule.id) for rule in each.rules if not rule.sums_up)}"}
        for each in every[-TOP:]
    ]  # fmt: skip
    return result
