"""Visitors: a steady load of requests over TLS from the stranger, and how many of them failed."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..machine import Machine, Stranger

RATE = 20
"""Requests a second, each over a connection of its own, in turn to every page."""

PROGRAM = r"""
import http.client, json, os, socket, ssl, sys, threading, time
address, rate, end, *pages = sys.argv[1:]
context = ssl.create_default_context(cafile="/etc/lab/roots.pem")
asked, failed = 0, []

def ask(host, path):
    began = time.time()
    try:
        visit = http.client.HTTPSConnection(host, timeout=20, context=context)
        visit._create_connection = lambda *_: socket.create_connection((address, 443), 20)
        visit.request("GET", path)
        answer = visit.getresponse()
        body = answer.read()
        if answer.status != 200 or not body:
            raise OSError(f"{answer.status} {body[:60]}")
        visit.close()
    except Exception as error:
        failed.append(f"{time.strftime('%H:%M:%S', time.gmtime(began))} {host}{path}: {error!r}")

threads, began = [], time.monotonic()
while not os.path.exists(end):
    host, _, path = pages[asked % len(pages)].partition("/")
    threads.append(threading.Thread(target=ask, args=(host, f"/{path}{asked}")))
    threads[-1].start()
    asked += 1
    threads = [thread for thread in threads if thread.is_alive()]
    time.sleep(max(0, began + asked / float(rate) - time.monotonic()))
for thread in threads:
    thread.join()
with open(end + ".told.new", "w") as told:
    json.dump([asked, failed], told)
os.rename(end + ".told.new", end + ".told")
"""
PAGE = """<?php header("Cache-Control: no-store"); echo "alive ", posix_geteuid();
"""


@dataclass
class Load:
    """What became of the requests; it stands when the load has ended."""

    asked: int = 0
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.failed)} of {self.asked} requests failed"


@contextlib.contextmanager
def load(stranger: Stranger, host: Machine, rate: int = RATE) -> Iterator[Load]:
    """Ask for a page of PHP and one of the cache of example.com and for kiosk.co.test; both were served before."""
    told = Load()
    pages = ["example.com/load.php?", "kiosk.co.test/?", "example.com/?"]
    room = "/var/www/example.com/public_html/_"
    host.check(f"runuser -u example-com -- tee {room}/load.php > /dev/null", stdin=PAGE)
    end = f"/tmp/load-{time.monotonic_ns()}"
    stranger.put({f"{end}.py": PROGRAM.encode()})
    words = " ".join([host.ip, str(rate), end, *(f"'{page}'" for page in pages)])
    stranger.check(f"setsid python3 {end}.py {words} > {end}.log 2>&1 < /dev/null &")
    try:
        yield told
    finally:
        stranger.check(f"touch {end}; for i in $(seq 250); do [ ! -e {end}.told ] || break; sleep 0.1; done")
        host.exec(f"rm -f {room}/load.php")
    told.asked, told.failed = json.loads(stranger.check(f"cat {end}.log >&2; cat {end}.told; rm -f {end}*"))
