"""Logs: what every layer says of a site's requests, joined by the request's number.  (T1 "Server setup": log/)"""

from __future__ import annotations

import json as json_
import tempfile
from pathlib import Path

from ..engine import Host, Problem, console, query, task
from ..model import Problem as Wrong
from ..model import Refusal
from . import asking, screen
from .following import Following
from .gathered import MOST, Wanted, gathered
from .joined import Request
from .lines import Fault
from .times import iso, moment

SINCE = "from when on: 90s, 15m, 1h, 2d ago, or an ISO time (yours, where it names no zone)"
UNTIL = "until when; without it, now"


@query(
    default=True,
    name="show",
    positional=["domain"],
    within={"lines": (1, MOST)},
    help={
        "domain": "a site of this host",
        "since": SINCE,
        "until": UNTIL,
        "follow": "go on with what comes, until Ctrl-C",
        "status": "only these: 404, or 5xx, or 404,5xx",
        "id": "only the request whose number begins so",
        "grep": "only requests that hold this text, in their line or in what was logged of them",
        "lines": "requests at most, the newest",
        "json": "print the same as JSON; with --follow, one object a line",
    },
)
def logs(c, domain, since="1h", until="", follow=False, status="", id="", grep="", lines=100, json=False):  # noqa: A002
    """On call: a site's requests, one a line, with the time each layer took and the errors that belong to them.

    The layers' logs are joined by the number that HAProxy gives each request; PHP writes none, so its errors are joined
    by their time, where one request alone was there.  JSON: `requests`, each with `id`, `time` (UTC), `status`, `front`
    (what HAProxy saw, times in milliseconds), `apache` and `faults`; `others` are faults of no request; `cut` says that
    there were more.
    """
    host = Host.of(c)
    site = host.site(domain)
    begin, end = moment(since, "--since"), moment(until, "--until") if until else ""
    wanted = Wanted(status, id, grep)
    if follow:
        Following(host, site, wanted, json).run()
        return
    found = gathered(host, site, begin, end, wanted, lines)
    requests = [one for one in found.requests if wanted.takes(one)]
    cut, requests = len(requests) > lines, requests[-lines:]
    others = [fault for fault in found.loose if wanted.takes_fault(fault)]
    if json:
        answer = {
            "host": host.name,
            "site": str(site),
            "since": iso(found.since),
            "cut": cut,
            "requests": [screen.data(one) for one in requests],
            "others": [screen.fault_data(fault) for fault in others],
        }
        print(json_.dumps(answer, indent=2))
        return
    entries: list[Request | Fault] = [*requests, *others]
    for entry in sorted(entries, key=lambda one: one.at):
        screen.show(entry)
    console.print(found.summary(host.name, site, len(requests), cut), markup=False)
    if len(requests) > 1:
        last = requests[-1].id[: screen.SHORT]
        console.print(f"one alone, by its number:  fab -H {host.name} logs {site} --id {last}", style="dim")


@task
def install(c):
    """On call: GoAccess, which `logs.report` wants; no other task does, so `bootstrap` leaves it out."""
    Host.of(c).packages("goaccess")


@query(
    positional=["domain"],
    help={
        "domain": "a site of this host",
        "since": SINCE,
        "until": UNTIL,
        "to": "the HTML file to write, on this machine",
        "json": "print where the file is, and its size, as JSON",
    },
)
def report(c, domain, to="", since="7d", until="", json=False):
    """On call: who visited a site, as a page of GoAccess's for your browser.

    It loads nothing from anywhere, and visitors' addresses are cut short in it (IPv4: the last byte).  It counts what
    reached Apache: what Varnish answered alone is in no site's log.
    """
    host = Host.of(c)
    site = host.site(domain)
    begin, end = moment(since, "--since"), moment(until, "--until") if until else ""
    target = Path(to).expanduser()
    if not to or not target.parent.is_dir() or target.is_dir():
        raise Refusal(Wrong(f"--to {to!r}: must be a file, in a directory that is there", example="--to report.html"))
    page = host.ask(asking.REPORT, begin, end, site.root, site.shown)
    if page.startswith("missing"):
        raise Problem(f"GoAccess is not installed on {host.name}", f"fab -H {host.name} logs.install")
    if "</html>" not in page[-200:]:
        again = f"fab -H {host.name} logs {site} --since {since}"
        raise Problem(f"GoAccess found nothing to report of {site}", again, page[-1000:])
    with tempfile.NamedTemporaryFile("w", dir=target.parent, delete=False) as file:
        file.write(page)
    Path(file.name).replace(target)
    if json:
        print(json_.dumps({"host": host.name, "site": str(site), "file": str(target), "bytes": len(page.encode())}))
        return
    console.print(f"{host.name}  {site.shown}  {target}, {len(page) // 1024} KB: open it in a browser", markup=False)
