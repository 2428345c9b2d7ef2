"""shop.test: a third site of the lab's web server, which comes, gets releases and goes; and visitors who count."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .lab import Lab
from .machine import Machine, Stranger

DOMAIN, OWNER, ROOT = "shop.test", "shop-test", "/var/www/shop.test"

PAGE = """<?php
header('Cache-Control: max-age=60');
require __DIR__ . '/version.php';
echo VERSION;
"""
VERSION = """<?php
const VERSION = '%s';
if (basename($_SERVER['SCRIPT_NAME']) === 'version.php') { header('Cache-Control: no-store'); echo VERSION; }
"""

VISITORS = r"""
import http.client, json, os, socket, ssl, sys, threading, time
address, end, *pages = sys.argv[1:]
context = ssl.create_default_context(cafile="/etc/lab/roots.pem")
seen = []

def visit(host, path):
    while not os.path.exists(end):
        began = time.monotonic()
        try:
            line = http.client.HTTPSConnection(host, timeout=20, context=context)
            line._create_connection = lambda *_: socket.create_connection((address, 443), 20)
            line.request("GET", path)
            answer = line.getresponse()
            said = f"{answer.status} {answer.read().decode(errors='replace')[:60]}"
            line.close()
        except Exception as error:
            said = repr(error)
        seen.append((f"{host}{path}", began, time.monotonic(), said))
        time.sleep(0.03)

parts = [page.partition("/") for page in pages]
threads = [threading.Thread(target=visit, args=(host, f"/{path}")) for host, _, path in parts]
for thread in threads: thread.start()
for thread in threads: thread.join()
with open(end + ".new", "w") as told: json.dump(seen, told)
os.rename(end + ".new", end + ".told")
"""


@dataclass
class Visits:
    """Who asked for what, from when to when, and what came; it stands when the visitors have left."""

    seen: list[tuple[str, float, float, str]] = field(default_factory=list)

    def failed(self) -> list[str]:
        """Answers that are no page."""
        return [f"{page}: {said}" for page, _, _, said in self.seen if not said.startswith("200 ")]

    def stale(self, page: str, old: str, new: str) -> list[float]:
        """Requests that began when somebody had the new version already, and got the old one: how long after it."""
        first = min((end for what, _, end, said in self.seen if (what, said) == (page, f"200 {new}")), default=0.0)
        return [
            round(began - first, 3)
            for what, began, _, said in self.seen
            if (what, said) == (page, f"200 {old}") and first and began > first
        ]


@contextlib.contextmanager
def visiting(stranger: Stranger, host: Machine, *pages: str) -> Iterator[Visits]:
    """A visitor a page, who asks again and again over new connections."""
    visits, end = Visits(), f"/tmp/visits-{time.monotonic_ns()}"
    stranger.put({f"{end}.py": VISITORS.encode()})
    words = " ".join([host.ip, end, *(f"'{page}'" for page in pages)])
    stranger.check(f"setsid python3 {end}.py {words} > {end}.log 2>&1 < /dev/null &")
    try:
        yield visits
    finally:
        stranger.check(f"touch {end}; for i in $(seq 250); do [ ! -e {end}.told ] || break; sleep 0.1; done")
    told = stranger.check(f"cat {end}.log >&2; cat {end}.told; rm -f {end}*")
    visits.seen = [tuple(each) for each in json.loads(told)]


@dataclass
class Shop:
    """The site, its data on this machine, and what one does with it."""

    host: Machine
    stranger: Stranger
    directory: Path
    work: Path

    def fab(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.host.fab(*words, directory=self.directory)

    def done(self, *words: str) -> str:
        """The same, which must succeed."""
        told = self.fab(*words)
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    def says(self, keys: str = "") -> None:
        """What its file says beside its domain."""
        (self.directory / "sites" / f"{DOMAIN}.yml").write_text(f"domain: {DOMAIN}\n{keys}")

    def source(self, version: str, **files: str) -> str:
        """An application of this version; in `files`, _ stands for a dot and __ for a slash."""
        place = self.work / version
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        texts = {"index.php": PAGE, "version.php": VERSION % version, "version.txt": version}
        texts |= {name.replace("__", "/").replace("_", "."): text for name, text in files.items()}
        for name, text in texts.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
        return str(place)

    def deploy(self, version: str, **files: str) -> subprocess.CompletedProcess[str]:
        return self.fab("site.deploy", DOMAIN, "--source", self.source(version, **files))

    def get(self, path: str = "/version.php") -> str:
        """Status and body."""
        shown = self.stranger.curl("-w", "\n%{http_code}", f"https://{DOMAIN}{path}", to=self.host).out
        body, _, code = shown.rpartition("\n")
        return f"{code} {body}"

    def releases(self) -> list[dict[str, object]]:
        told: list[dict[str, object]] = json.loads(self.done("site.releases", DOMAIN, "--json"))
        return told

    def serves(self) -> str:
        return self.host.check(f"readlink {ROOT}/public_html").strip().removeprefix("releases/")


def bootstrapped(lab: Lab, host: Machine) -> Machine:
    """A bare host made a web server with the lab's own sites."""
    with lab.pointing(host):
        done = host.fab("bootstrap")
    assert done.returncode == 0, done.stdout + done.stderr
    return host


@contextlib.contextmanager
def opened(lab: Lab, host: Machine, stranger: Stranger, place: Path) -> Iterator[Shop]:
    """The site on the host; afterwards nothing is left of it."""
    directory, sites = place / "fleet", place / "fleet" / "sites"
    shutil.copytree(lab.directory / "sites", sites)
    for name in ("ssh_config", "known_hosts"):
        shutil.copy(lab.directory / name, directory)
    text = (lab.directory / "fleet.yml").read_text()
    (directory / "fleet.yml").write_text(text.replace(str(lab.directory / "sites"), str(sites)))
    shop = Shop(host, stranger, directory, place / "work")
    shop.says()
    try:
        shop.done("site.apply", DOMAIN)
        yield shop
    finally:
        (sites / f"{DOMAIN}.yml").unlink(missing_ok=True)
        if host.exec(f"getent passwd {OWNER}").rc == 0:
            shop.fab("site.remove", DOMAIN, "--yes")
        host.check(f"rm -rf /var/backups/gatehouse/{DOMAIN}-* {ROOT} {ROOT}.removing")
        host.check("! etckeeper unclean || etckeeper commit test")
