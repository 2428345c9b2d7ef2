"""Status: every layer of a host on one screen.  (T1, figure 1, from the top down)"""

from __future__ import annotations

import json as json_
import textwrap
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from ipaddress import ip_address
from typing import NamedTuple

from invoke import Exit
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from ..engine import Host, as_data, console, query
from ..engine.known import skew
from ..engine.mark import Mark, read
from ..model.ways import listener, misplaced

FULL = 90
"""Percent of a disk, of its inodes, or of memory from which on it is a fault."""

UNTENDED = 26
"""Hours since certificates were last looked after from which on it is a fault: two turns were missed."""

VALUE_MAX = 30
"""Characters of a value that make the column wider; a longer one stands out of it."""

# One script for all layers, each line "KEY<TAB>VALUE"; what is not installed says nothing.
QUESTION = r"""
say() { printf '%s\t%s\n' "$1" "$2"; }
say clock "$(date +%s)"
sed 's/^/mark\t/' /var/lib/gatehouse/mark 2> /dev/null
# The slow ones run side by side, each into a file of its own.
apt-get -s -qq dist-upgrade > "$box/updates" 2> /dev/null &
[ ! -x /usr/local/sbin/gatehouse-renew ] || gatehouse-renew --list > "$box/certificates" 2> /dev/null &
if command -v fail2ban-client > /dev/null; then
    for jail in $(fail2ban-client status 2> /dev/null | sed -n 's/.*Jail list:[[:space:]]*//p' | tr -d ,); do
        say jail "$jail $(fail2ban-client status "$jail" | sed -n 's/.*Currently banned:[[:space:]]*//p')"
    done
fi > "$box/jails" &
own=$(systemctl list-units --all --plain --no-legend 'php*-fpm.service' | awk '{ print $1 }')
own="$own $(systemctl list-unit-files --plain --no-legend 'gatehouse-memcached-*' | awk '{ print $1 }')"
for unit in haproxy nginx lighttpd varnish apache2 redis-server mariadb fail2ban netfilter-persistent cron \
    unattended-upgrades $own; do
    [ "$(systemctl show -P LoadState "$unit")" = not-found ] ||
        say "service ${unit%.service}" "$(systemctl show -P ActiveState -P UnitFileState "$unit" | tr '\n' ' ')"
done
for unit in $(systemctl list-units --failed --plain --no-legend | awk '{ print $1 }'); do say unit-failed "$unit"; done
ss -Hltn | awk '{ print $4 }' | sort -u | while read -r local; do say listens "$local"; done
iptables -S INPUT 2> /dev/null | grep -q '^-P INPUT DROP' && say 'policy IPv4' DROP || say 'policy IPv4' ACCEPT
ip6tables -S INPUT 2> /dev/null | grep -q '^-P INPUT DROP' && say 'policy IPv6' DROP || say 'policy IPv6' ACCEPT
sshd -T 2> /dev/null | awk '$1 == "passwordauthentication" { print "logins\t" $2 } $1 == "port" { print "ssh\t" $2 }'
visudo -cq > /dev/null 2>&1 || say sudoers broken
grep -hsE '^[^#]*NOPASSWD' /etc/sudoers /etc/sudoers.d/* | while read -r who rule; do say "sudo $who" "$rule"; done
wait
if [ -x /usr/local/sbin/gatehouse-renew ]; then
    sed 's/^/certificate\t/' "$box/certificates"
    # Cron leaves a mark at each of its turns; before the first one, the age is that of its own file.
    for mark in /var/lib/gatehouse/renew/last /etc/cron.d/gatehouse-renew; do
        [ ! -e "$mark" ] || { say renewal "$(($(date +%s) - $(stat -c %Y "$mark")))"; break; }
    done
fi
if [ -S /run/haproxy/admin.sock ]; then
    echo 'show stat' | socat - /run/haproxy/admin.sock | awk -F, '
        $2 == "FRONTEND" { printf "frontend\t%s sessions=%s limit=%s\n", $1, $5, $7 }
        $2 != "FRONTEND" && $2 != "BACKEND" && NF > 20 && $1 !~ /^#/ { printf "server\t%s/%s %s\n", $1, $2, $18 }'
fi
if command -v varnishstat > /dev/null; then
    varnishstat -1 -t 2 -f MAIN.cache_hit -f MAIN.cache_miss 2> /dev/null | awk '{ printf "cache\t%s %s\n", $1, $2 }'
fi
ps -eo args= | awk '
    NR == FNR { workers[$0]++; next }
    /^\[/ { name = substr($0, 2, length($0) - 2) }
    sub(/^pm[.]max_children *= */, "") { printf "pool\t%s %d %s\n", name, workers["php-fpm: pool " name], $0 }
    ' - /etc/php/*/fpm/pool.d/*.conf 2> /dev/null
cat "$box/jails"
full() { awk -v what="$1" 'NR > 1 && $5 ~ /[0-9]%/ && !seen[$6]++ { printf "%s\t%s %d\n", what, $6, $5 }'; }
df -P / /var /etc /run 2> /dev/null | full disk
df -Pi / /var 2> /dev/null | full inodes
awk '/^MemTotal/ { total = $2 } /^MemAvailable/ { printf "memory\t%d\n", 100 - $2 * 100 / total }' /proc/meminfo
say load "$(cut -d' ' -f1-3 /proc/loadavg)"
say updates "$(grep -c '^Inst' "$box/updates")"
[ ! -e /run/reboot-required ] || say reboot "$(sort -u /run/reboot-required.pkgs | tr '\n' ' ')"
say updated "$(($(date +%s) - $(stat -c %Y /var/lib/gatehouse/updated 2> /dev/null || echo 0)))"
"""


class Reading(NamedTuple):
    """One line of the screen; `fault` is empty when all is well."""

    layer: str
    name: str
    value: str
    fault: str = ""


def readings(answer: str, judge: Callable[[str, int], str], owners: Collection[str] = ()) -> Iterator[Reading]:
    """What the host said, judged line by line.

    `judge` says why nothing may listen on an address and port; `owners` are the sites' users, who never become root.
    """
    hits: dict[str, int] = {}
    for line in answer.splitlines():
        key, _, value = line.partition("\t")
        kind, _, name = key.partition(" ")
        if kind == "cache":
            counter, _, count = value.partition(" ")
            hits[counter.removeprefix("MAIN.")] = int(count)
        elif kind == "listens":
            yield from _listener(value, judge)
        elif kind == "sudo":
            yield Reading("sudo", name, value, "a site's user may become root" if name in owners else "")
        elif kind in JUDGES:
            yield JUDGES[kind](name, value)
    if hits:
        asked = hits.get("cache_hit", 0) + hits.get("cache_miss", 0)
        rate = f"{100 * hits.get('cache_hit', 0) // asked}% of {asked} look-ups" if asked else "nothing asked yet"
        yield Reading("varnish", "hits", rate)


def _listener(local: str, judge: Callable[[str, int], str]) -> Iterator[Reading]:
    address, port = listener(local)
    if not (address and ip_address(address).is_loopback):
        yield Reading("port", str(port), local.rpartition(":")[0], judge(address, port))


def _service(name: str, states: str) -> Reading:
    """What runs now and what starts at the next boot are two questions."""
    active, enabled, *_ = [*states.split(), "", ""]
    fault = "" if active == "active" else "not active"
    if enabled.startswith("masked"):
        fault = f"masked: systemctl unmask {name}"
    elif not fault and enabled in ("disabled", "enabled-runtime"):
        fault = "does not start at boot"
    return Reading("service", name, active if enabled == "enabled" else f"{active}, {enabled}", fault)


def _failed(_: str, unit: str) -> Reading:
    return Reading("service", unit, "failed", f"systemctl status {unit}")


def _policy(family: str, policy: str) -> Reading:
    return Reading("firewall", family, policy, "" if policy == "DROP" else "what no rule allows is let in")


def _logins(_: str, passwords: str) -> Reading:
    by_key = passwords == "no"
    return Reading("ssh", "logins", "by key" if by_key else "by password too", "" if by_key else "can be guessed")


def _certificate(_: str, line: str) -> Reading:
    domain, disk, wire, _until, _life, state, *_rest = [*line.split("\t"), "", "", "", "", "not readable"]
    return Reading("certificate", domain, f"{disk} days on disk, {wire} on the wire", "" if state in FINE else state)


def _renewal(_: str, seconds: str) -> Reading:
    hours = int(seconds) // 3600
    return Reading("certificate", "renewal", f"{hours} hours ago", "cron is not coming" if hours >= UNTENDED else "")


def _server(_: str, line: str) -> Reading:
    name, _, state = line.partition(" ")
    return Reading("haproxy", name, state, "down" if state.startswith("DOWN") else "")


def _pool(_: str, line: str) -> Reading:
    name, busy, most = line.split()
    return Reading("php", name, f"{busy} of {most} workers", "all workers busy" if int(busy) >= int(most) else "")


def _space(layer: str) -> Callable[[str, str], Reading]:
    def judge(_: str, line: str) -> Reading:
        place, full = line.split()
        return Reading(layer, place, f"{full}%", f"{full}% full" if int(full) >= FULL else "")

    return judge


def _last(_: str, seconds: str) -> Reading:
    days = int(seconds) // 86400
    return Reading("updates", "last", f"{days} days ago" if days else "within a day")


FINE = ("ok", "due")
JUDGES: dict[str, Callable[[str, str], Reading]] = {
    "service": _service,
    "unit-failed": _failed,
    "policy": _policy,
    "logins": _logins,
    "sudoers": lambda _, __: Reading("sudo", "sudoers", "broken", "on the host, visudo -c says where"),
    "certificate": _certificate,
    "renewal": _renewal,
    "frontend": lambda _, line: Reading("haproxy", line.partition(" ")[0], line.partition(" ")[2]),
    "server": _server,
    "pool": _pool,
    "jail": lambda _, line: Reading("bans", line.split()[0], f"{line.split()[-1]} banned"),
    "disk": _space("disk"),
    "inodes": _space("inodes"),
    "memory": lambda _, used: _space("memory")(_, f"used {used}"),
    "load": lambda _, load: Reading("load", "1, 5, 15 min", load),
    "updates": lambda _, pending: Reading("updates", "pending", pending),
    "reboot": lambda _, packages: Reading("updates", "reboot", f"needed: {packages.strip()}"),
    "updated": _last,
}


class Screen(NamedTuple):
    """A host's readings; and of a fleet's table: the least days of a certificate, the load, what it was made with."""

    readings: tuple[Reading, ...]
    days: int | None
    load: str
    made: Mark

    @property
    def faults(self) -> list[Reading]:
        """The readings that are not as they should be."""
        return [reading for reading in self.readings if reading.fault]


def spare(host: Host) -> set[str]:
    """Services that a host had before its fleet chose another: they are still installed, and rest."""
    fleet, roles = host.fleet, host.fleet.roles(host.name)
    needed: set[str] = {fleet.edge.server} if "edge" in roles else set()
    needed |= {fleet.static.server} if "static" in roles else set()
    return {"haproxy", "nginx", "lighttpd"} - needed - ({"haproxy"} if "edge" not in roles else set())


def looked(host: Host) -> Screen:
    """One round trip.  Raises the engine's Problems."""
    asked = time.time()
    answer = host.ask(QUESTION)
    said: dict[str, list[str]] = {}
    for key, _, value in (line.partition("\t") for line in answer.splitlines()):
        said.setdefault(key, []).append(value)
    ports = {host.visit.connection.port, *map(int, said.get("ssh", ()))}
    judge = partial(misplaced, host.fleet, host.name, ssh_ports=ports)
    given_up = spare(host)
    found = [
        one
        for one in readings(answer, judge, {site.owner for site in host.sites})
        if one.layer != "service" or one.name not in given_up
    ]
    if ahead := skew(int(said["clock"][0]), asked, time.time()):
        found.append(Reading("clock", "host", f"{ahead:+d} s", "it differs from yours: one of the two is wrong"))
    left = [day for line in said.get("certificate", ()) for day in line.split("\t")[1:3]]
    days = min((int(day) for day in left if day.lstrip("-").isdecimal()), default=None)
    return Screen(tuple(found), days, said["load"][0].split()[0], read(said.get("mark", ())))


def lines(found: Sequence[Reading], width: int) -> Iterator[Text]:
    """The screen: a layer is named once; a fault that does not fit behind its reading stands below it."""
    columns = [max((cell_len(cell) for cell in column), default=0) for column in zip(*map(_cells, found), strict=True)]
    layer = ""
    for one in found:
        cells = [one.layer if one.layer != layer else "", one.name, one.value]
        text = "  ".join(
            set_cell_size(cell, max(size, cell_len(cell))) for cell, size in zip(cells, columns, strict=True)
        )
        indent = columns[0] + 2
        if not one.fault:
            yield Text(text.rstrip())
        elif cell_len(text) + 2 + cell_len(one.fault) <= width:
            yield Text(f"{text}  ").append(one.fault, "bold red")
        else:
            yield Text(text.rstrip())
            for part in textwrap.wrap(one.fault, max(width - indent - 2, 20)):
                yield Text(" " * (indent + 2)).append(part, "bold red")
        layer = one.layer


def _cells(one: Reading) -> tuple[str, str, str]:
    return one.layer, one.name, one.value if len(one.value) <= VALUE_MAX else ""


@query(help={"json": "print every reading as data"})
def status(c, json=False):
    """On call: every layer of the host on one screen: services, ports, certificates, cache, pools, bans, disk, updates.

    Exit code 1 when something is wrong.  It changes nothing and takes no lock.  JSON: `well`, and `readings`, each with
    `layer`, `name`, `value` and `fault` (empty when all is well).
    """
    host = Host.of(c)
    screen = looked(host)
    faults = screen.faults
    if json:
        told = [as_data(one) for one in screen.readings]
        print(json_.dumps({"host": host.name, "well": not faults, "readings": told}, indent=2))
    else:
        for line in lines(screen.readings, console.width):
            console.print(line)
        well = "all is well" if not faults else f"{len(faults)} fault{'s'[: len(faults) > 1]}"
        console.print(f"{host.name}  {well}", markup=False)
    if faults:
        raise Exit(code=1)
