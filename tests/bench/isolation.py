"""Every runtime side by side: what a request costs, what a site costs while nobody comes, and a greedy one others.

All of it on two hosts, one with Apache's event MPM and one with ITK's prefork, and from the hosts themselves.  What a
request costs is asked of Apache directly (ab(1)): what stands before it is the same for all.  Beside a greedy site,
visitors come as they do, to HAProxy (knocking.py); the greedy one's come to Varnish, which knows how many a site may
have at Apache at once.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..lab.corner import as_user
from ..lab.machine import Machine
from ..lab.runtimes import KINDS, Kind, Yard, owner, yard
from . import heard, quiet
from .ground import Ground
from .sums import median

EVENT = ("fpm", "fcgid", "cgi", "server", "scgi", "ajp", "static")
COUNTS = (1, 10, 100)
HEAVY = {"ajp": 10}
"""Of which so many sites are all that this bench starts."""

PLAIN_PHP = "<?php header('Cache-Control: no-store'); echo 'plain';"
PLAIN_CGI = "#!/bin/sh\nprintf 'Content-Type: text/plain\\nCache-Control: no-store\\n\\nplain'\n"
PLAIN_JSP = """<%@ page contentType="text/plain" %><% response.setHeader("Cache-Control", "no-store"); %>plain"""
PLAIN = {
    "fpm": ("_/plain.php", PLAIN_PHP), "fcgid": ("_/plain.php", PLAIN_PHP), "itk": ("_/plain.php", PLAIN_PHP),
    "cgi": ("_/plain.cgi", PLAIN_CGI), "static": ("_/plain.txt", "plain"),
    "ajp": ("_app/webapps/ROOT/plain.jsp", PLAIN_JSP),
}  # fmt: skip
PAGE = {"server": "/plain", "scgi": "/plain", "ajp": "/plain.jsp"}

# MB, and how many: of all processes of Apache, PHP-FPM and the sites; shared pages count once.
MEMORY = r"""
for pid in $(ps -eo pid=,user:40=,comm= | awk '/-test |apache2|php-fpm/ { print $1 }'); do
    awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup" 2> /dev/null
done | awk '{ sum += $1; n++ } END { printf "%.1f %d\n", sum / 1024, n }'
"""


def page(word: str) -> str:
    """Where a site of a runtime says `plain`."""
    return PAGE.get(word) or f"/{PLAIN[word][0].rpartition('/')[2]}"


def say(text: str) -> None:
    """How far it is."""
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------- a request


def asked(host: Machine, domain: str, path: str, *options: str) -> dict[str, float]:
    """What ab(1) says: requests a second, failures, and milliseconds: the mean, and the percentiles 50 and 99."""
    words = " ".join(options)
    head = f"-H 'Host: {domain}' -H 'X-Forwarded-Proto: https'"
    line = f"ab -q -d {words} -e /tmp/ab.csv {head} http://127.0.0.1:8080{path}; grep -E '^(50|99),' /tmp/ab.csv"
    text = host.check(f"{line}; rm -f /tmp/ab.csv", timeout=300)
    rows = dict(row.split(":", 1) for row in text.splitlines() if ":" in row)
    percent = dict(row.split(",") for row in text.splitlines() if row[:3] in ("50,", "99,"))
    failed = int(rows["Failed requests"].split()[0]) + int(rows.get("Non-2xx responses", "0"))
    rate = float(rows["Requests per second"].split()[0])
    mean = float(rows["Time per request"].split()[0])  # of a single request, ab's percentiles are nonsense
    return {"rate": rate, "failed": failed, "mean": mean, "p50": float(percent["50"]), "p99": float(percent["99"])}


def drop_plain(made: Yard, domain: str, word: str) -> None:
    """The page that says `plain` is there, as its user's."""
    if word in PLAIN:
        made.drop(domain, *PLAIN[word])


def at_rest(host: Machine, domain: str, word: str) -> None:
    """Nothing of the site's runs that a visit would have started; its own programs were started anew."""
    user = owner(domain)
    if word in ("server", "scgi", "ajp"):
        host.check(f"systemctl restart 'gatehouse-{user}:_@*'")
    elif word == "fcgid":  # mod_fcgid ends an idle one itself; of a killed one it learns late, and a visitor waits
        host.check(f"while pgrep -u {user} > /dev/null; do sleep 1; done", timeout=90)
    else:
        as_user(host, user, "kill -KILL -1")
        time.sleep(1.5)


def request(made: Yard, domain: str, word: str, rounds: int) -> dict[str, Any]:
    """One site: from rest, and again and again."""
    host, path = made.host, page(word)
    firsts = []
    for _ in range(rounds):
        at_rest(host, domain, word)
        firsts.append(asked(host, domain, path, "-n 1")["mean"])
    seen = [asked(host, domain, path, "-t 3", "-n 100000", "-c 4") for _ in range(rounds)]
    say(f"{word}: {seen}")
    middle = {name: median([one[name] for one in seen]) for name in ("rate", "p99")}
    return {"first": median(firsts), **middle, "failed": sum(one["failed"] for one in seen)}


# ---------------------------------------------------------------------- memory


def grown(made: Yard, word: str) -> dict[str, list[float]]:
    """MB and processes of 1, 10 and 100 sites of a runtime: after a visit each, and when all have gone."""
    found: dict[str, list[float]] = {"sites": [], "visited": [], "idle": [], "processes": []}
    sites = made.directory / "sites"
    kind = KINDS[word]
    for count in COUNTS:
        if count > HEAVY.get(word, count):
            break
        shutil.rmtree(sites)
        sites.mkdir()
        names = [f"m{number}.test" for number in range(count)]
        for name in names:
            made.says(name, kind.keys)
        placed(made, names, kind, word)
        for name in names:
            asked(made.host, name, page(word), "-n 1")
        visited = made.host.check(MEMORY).split()
        time.sleep(25 if word in ("fpm", "fcgid") else 2)
        idle = made.host.check(MEMORY).split()
        found["sites"].append(count)
        found["visited"].append(float(visited[0]))
        found["idle"].append(float(idle[0]))
        found["processes"].append(int(idle[1]))
        say(f"{word}, {count} sites: {visited} visited, {idle} idle")
    return found


ROOM = ("site.users", "site.tree", "site.tmp")
STEPS = ("cache", "php", "runtime", "apache", "php.retire", "runtime.former", "runtime.ended")


def placed(made: Yard, names: list[str], kind: Kind, word: str) -> None:
    """The sites are on the host, past the names and certificates, with which this has nothing to do."""
    made.done(*ROOM)
    for name in names:
        files = kind.source or {}
        place = f"/var/www/{name}/public_html"
        for file, text in files.items():
            path = f"{place}/_app/{file}"
            done = as_user(made.host, owner(name), f"mkdir -p $(dirname {path}) && cat > {path}", text)
            assert done.rc == 0, done.err
        made.host.check(f"echo bench > {place.replace('public_html', '')}$(readlink {place}).from")
        drop_plain(made, name, word)
    made.done(*STEPS)


# ---------------------------------------------------------------------- a greedy site

GREEDY_PHP = """<?php header('Cache-Control: no-store'); set_time_limit(25); switch ($_GET['x'] ?? '') {
case 'workers': sleep(20); break;
case 'processor': while (true) md5('x');
case 'memory': $x = []; while (true) $x[] = str_repeat('x', 1 << 20);
case 'tmp': $f = fopen(ini_get('sys_temp_dir') . '/big', 'a'); while (@fwrite($f, str_repeat('x', 1 << 20))); break;
case 'processes': while (true) @shell_exec('sleep 20 > /dev/null 2>&1 &'); }
"""
GREEDY_SH = """case $x in
workers) sleep 20 ;; processor) while :; do :; done ;;
memory) x=x; while :; do x=$x$x; done ;; tmp) cat /dev/zero > "$tmp/big" ;;
processes) i=0; while [ $i -lt 9000 ]; do sleep 20 & i=$((i + 1)); done 2> /dev/null ;; esac
"""
HUNGERS = ("workers", "processor", "memory", "tmp", "processes")
GREEDY = ("fpm", "fcgid", "cgi", "server", "itk")
VISITORS = 20


def greedy(made: Yard, word: str) -> None:
    """The greedy site's page is there; PHP may start programs, as a careless owner would let it."""
    domain = f"{word}.test"
    tmp = f"/var/www/{domain}/tmp"
    if word in ("fpm", "fcgid", "itk"):
        made.says(domain, KINDS[word].keys + "php: {functions: [shell_exec]}\n")
        made.done("php", "runtime", "apache")
        files = {"_/greedy.php": GREEDY_PHP}
    else:
        head = "#!/bin/sh\nx=${QUERY_STRING#x=}\nprintf 'Content-Type: text/plain\\nCache-Control: no-store\\n\\n'\n"
        files = {"_/greedy.cgi": head + f"tmp={tmp}\n{GREEDY_SH}"} if word == "cgi" else {
            f"_app/apps/{hunger}.sh": f"exec > /dev/null 2>&1\nx={hunger} tmp={tmp}\n{GREEDY_SH}" for hunger in HUNGERS
        }  # fmt: skip
    for name, text in files.items():
        made.drop(domain, name, text)


@contextlib.contextmanager
def besieged(made: Yard, word: str, hunger: str) -> Iterator[None]:
    """Visitors who want that of the greedy site, and come back."""
    domain = f"{word}.test"
    path = f"/{hunger}" if word == "server" else f"/greedy.{'cgi' if word == 'cgi' else 'php'}?x={hunger}"
    line = f"python3 {KNOCKING} besiege {domain} '{path}' {VISITORS}"
    pid = made.host.check(f"{line} > /dev/null 2>&1 & echo $!").strip()
    time.sleep(4)
    try:
        yield
    finally:
        made.host.exec(f"kill {pid}")
        for _ in range(6):  # who waited for their turn get it now, and begin as well
            made.host.exec(f"pkill -KILL -u {owner(domain)}")  # of its own, the site may not start one process more
            time.sleep(1.5)
        as_user(made.host, owner(domain), f"rm -f /var/www/{domain}/tmp/big")
        quiet.calm()


VICTIM = "victim.test"
"""The site beside the greedy one; PHP runs it."""

KNOCKING = "/root/knocking.py"
TIMES, PATIENCE = 1000, 20


def served(made: Yard) -> dict[str, Any]:
    """What a visitor of that site waits."""
    line = f"python3 {KNOCKING} ask {VICTIM} /plain.php {TIMES} {PATIENCE}"
    said = json.loads(made.host.check(line, timeout=300))
    times = said["times"] or [PATIENCE * 1000]
    p50, p99 = (heard.percentile(times, part) for part in (50, 99))
    return {"asked": said["asked"], "failed": said["asked"] - len(said["times"]), "p50": p50, "p99": p99}


def sieges(made: Yard, words: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """What that site's visitors wait while another one takes all it can, against the same before."""
    found: dict[str, dict[str, Any]] = {}
    made.host.put({KNOCKING: Path(__file__).with_name("knocking.py").read_bytes()})
    for word in words:
        greedy(made, word)
        found[word] = {}
        for hunger in HUNGERS:
            before = served(made)
            with besieged(made, word, hunger):
                began = time.monotonic()
                reached = made.fab("site.list").returncode == 0
                login = time.monotonic() - began
                during = served(made)
            found[word][hunger] = {"before": before, "during": during, "reached": reached, "login": round(login, 2)}
            say(f"{word} takes {hunger}: {before} -> {during}, {reached}")
    return found


# ---------------------------------------------------------------------- all of it


def measure(rounds: int) -> dict[str, Any]:
    """All of it.  Returns what paper.py and plots.py read."""
    modes: dict[str, dict[str, Any]] = {}
    with Ground() as ground:
        place = ground.lab.directory / "isolation"
        shutil.rmtree(place, ignore_errors=True)
        every = {word: word for word in EVENT}
        event = yard(ground.lab, ground.host("event"), place / "event", **every, victim="fpm")
        itk = yard(ground.lab, ground.host("prefork"), place / "prefork", itk="itk", victim="itk")
        for made, words in ((event, EVENT), (itk, ("itk",))):
            quiet.calm()
            _, tries = made.proved()
            for word in words:
                drop_plain(made, f"{word}.test", word)
                modes[word] = request(made, f"{word}.test", word, rounds)
                modes[word]["stopped"] = _count(tries, f"{word}.test", "denied")
                modes[word]["reached"] = _count(tries, f"{word}.test", "reached")
        drop_plain(event, VICTIM, "fpm")
        drop_plain(itk, VICTIM, "itk")
        sieged = sieges(event, GREEDY[:-1]) | sieges(itk, GREEDY[-1:])
        for made, words in ((event, EVENT), (itk, ("itk",))):
            for word in words:
                modes[word]["grown"] = grown(made, word)
    return {"part": "isolation", "shape": quiet.shape(), "modes": modes, "sieges": sieged, "runs": []}


def _count(tries: list[dict[str, Any]], domain: str, result: str) -> int:
    """How many different things a site tried at the next one with this result, whatever the guise."""
    return len({(one["kind"], one["name"]) for one in tries if one["attacker"] == domain and one["result"] == result})
