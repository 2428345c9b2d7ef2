"""Fail2ban: shut the door on addresses that keep guessing passwords.  (T2, step 4; T1)

A jail for every login on the host: SSH, HTTP, and FTP and mail once such a daemon is installed.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from rich.table import Table

from .engine import Guarded, Host, Problem, StepFailed, console, query, task
from .model import Refusal

ROOT = "/etc/fail2ban"
JAIL = f"{ROOT}/jail.local"
LOGS = f"{ROOT}/paths-overrides.local"
UNIT = "/etc/systemd/system/fail2ban.service.d/gatehouse.conf"
CHECK = "fail2ban-client -t"

FILTERS = {
    "apache2": ("apache-common", "apache-auth"),
    "haproxy": ("haproxy-http-auth",),
    "dovecot-core": ("dovecot",),
}
"""Packages whose log lines the packaged filters misread, and the filters that put it right."""


# ---------------------------------------------------------------------- the steps


@task
def install(c):
    """T2 step 4: the package, and what it needs to read the journal, where Debian 12 and later log."""
    Host.of(c).packages("fail2ban", "python3-systemd", "iptables")


@task(
    help={
        "bantime": "seconds that an address stays out",
        "findtime": "seconds within which its failures count",
        "maxretry": "failures after which it is banned",
    },
    within=dict.fromkeys(("bantime", "findtime", "maxretry"), (1, 315_360_000)),
)
def configure(c, bantime=172800, findtime=60, maxretry=5):
    """T2 step 4, T1: our jails beside the packaged jail.conf, for every login that this host offers.

    The tutorial copies jail.conf, all commented out, and then edits the original. Here jail.local has only what
    differs. The tutorial leaves `ignoreip` empty; here the operators' addresses are in it. Bans go through iptables,
    not Debian 13's nftables, since the firewall is made of iptables. Run it again after installing an FTP or mail
    daemon, and its jail is there.
    """
    bantime, findtime, maxretry = _limits(bantime=bantime, findtime=findtime, maxretry=maxretry)
    host = Host.of(c)
    host.remember_operators()
    for package, names in FILTERS.items():
        if package in host.facts.packages:
            for name in names:
                host.template(f"{ROOT}/filter.d/{name}.local", check=CHECK)
    host.template(LOGS, check=CHECK)
    host.template(JAIL, check=CHECK, operators=host.operators, bantime=bantime, findtime=findtime, maxretry=maxretry)
    host.template(UNIT)


@task
def start(c):
    """T2 step 5: run it now and at every boot.

    A reload takes new filters and new sites' logs and forgets no failure. Ports and ban actions of a running jail
    change only by a restart; that puts every ban back from the database.
    """
    Host.of(c).service(
        "fail2ban",
        reload_on=[LOGS, f"{ROOT}/filter.d/", f"{ROOT}/action.d/", f"{ROOT}/jail.d/"],
        restart_on=[JAIL, UNIT],
        ready="fail2ban-client ping",
    )


STEPS = (install, configure, start)


def _limits(**wished: int) -> list[int]:
    for name, value in wished.items():
        if not 1 <= value <= 315_360_000:
            raise Refusal(f"--{name} {value}: must be a whole number from 1 to 315360000 (ten years in seconds)")
    return list(wished.values())


# ---------------------------------------------------------------------- on call

ANSWERS = "fail2ban-client ping > /dev/null"

STATUS = f"""
{ANSWERS}
for jail in $(fail2ban-client status | sed -n 's/.*Jail list:[[:space:]]*//p' | tr -d ,); do
    fail2ban-client status "$jail"
    fail2ban-client get "$jail" banip --with-time
done
"""

# A rule may outlive its ban: when the firewall's former rules came back, they brought the bans of that time along.
UNBAN = f"""
{ANSWERS}
fail2ban-client banned "$1"
[ -z "$2" ] || exit 0
fail2ban-client unban "$1" > /dev/null
for tool in iptables ip6tables; do
    "$tool" -w -S | grep '^-A f2b-' | grep -F -- " -s $1/" | sed 's/^-A/-D/' | while read -r rule; do
        if "$tool" -w $rule; then echo "$rule"; fi
    done
done
"""

BAN = f"""
{ANSWERS}
jails=$(fail2ban-client status | sed -n 's/.*Jail list:[[:space:]]*//p')
echo "$jails"
fail2ban-client banned "$1"
case ", $jails," in *", $2,"*) ;; *) exit 0 ;; esac
[ -n "$3" ] || fail2ban-client set "$2" banip "$1" > /dev/null
"""


@dataclass(frozen=True, slots=True)
class Ban:
    """One address in one jail. Times are the host's own, as fail2ban writes them."""

    address: str
    since: str
    until: str


@dataclass(slots=True)
class Jail:
    """What a jail has seen since fail2ban started, and whom it holds."""

    name: str
    failing: int = 0
    failures: int = 0
    bans: list[Ban] = field(default_factory=list)


@query(help={"json": "print the jails and their bans as JSON"})
def status(c, json=False):
    """On call: every jail, who is banned there, since when and until when (in the host's own time)."""
    host = Host.of(c)
    jails = list(read_jails(_asked(host, STATUS)))
    if json:
        print(_as_json({"host": host.name, "jails": [asdict(jail) for jail in jails]}))
        return
    table = Table(box=None, pad_edge=False, header_style="")
    for title in ("jail", "banned", "failing now", "failures seen"):
        table.add_column(title, justify="left" if title == "jail" else "right")
    for jail in jails:
        table.add_row(jail.name, str(len(jail.bans)), str(jail.failing), str(jail.failures))
    console.print(table)
    for jail in jails:
        for ban in jail.bans:
            console.print(f"{ban.address}  banned by {jail.name} since {ban.since} until {ban.until}")


@query(
    positional=["address"],
    help={"address": "an IPv4 or IPv6 address", "json": "print what was lifted as JSON"},
)
def unban(c, address, json=False):
    """On call: let an address in again: out of every jail, and out of the rules. It stays so after a restart.

    Exit code 0 when it is not banned (any more), whether it was before or not.
    """
    address = address_of(address)
    host = Host.of(c)
    held, *rules = _asked(host, UNBAN, str(address), "dry" if host.dry else "").splitlines()
    jails = read_banned(held)
    if json:
        print(_as_json({"host": host.name, "address": str(address), "jails": jails, "rules": rules}))
    elif jails:
        done = "would be let in again" if host.dry else "is let in again"
        console.print(f"{host.name}  {address} {done}; it was banned by {', '.join(jails)}")
    elif rules:
        console.print(f"{host.name}  {address} is let in again; no jail held it, but {len(rules)} old rules did")
    else:
        console.print(f"{host.name}  {address} was not banned")


@query(
    positional=["address"],
    help={"address": "an IPv4 or IPv6 address", "jail": "the jail whose ports and duration apply (default: recidive)"},
)
def ban(c, address, jail="recidive"):
    """On call: shut an address out by hand: from every port and for four weeks, unless another jail is named.

    Refuses an operator's address and the host's own (exit code 3).
    """
    address = address_of(address)
    if not re.fullmatch(r"[a-z][a-z0-9-]*", jail):
        raise Refusal(f"--jail {jail}: must be the name of a jail\n  for example:  --jail sshd")
    host = Host.of(c)
    own = [ip_network(text) for text in (*host.operators, *host.facts.addresses, "127.0.0.0/8", "::1")]
    if any(address in network for network in own):
        raise Guarded(f"{address} is an operator's address or the host's own: not banned")
    jails, held, *_ = _asked(host, BAN, str(address), jail, "dry" if host.dry else "").splitlines()
    if jail not in jails.split(", "):
        raise Problem(f"{host.name} has no jail {jail}", f"name one of: {jails}")
    if jail in read_banned(held):
        console.print(f"{host.name}  {address} was banned by {jail} already")
    else:
        console.print(f"{host.name}  {address} {'would be' if host.dry else 'is'} banned by {jail}")


def address_of(text: str) -> IPv4Address | IPv6Address:
    """The address that was typed; raises Refusal when it is none. IPv4 within IPv6 is taken as what it is."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        raise Refusal(f"{text!r} is not an address\n  for example:  203.0.113.7 or 2001:db8::7") from None
    if isinstance(address, IPv6Address):
        if address.scope_id:
            raise Refusal(f"{text!r} has a zone; fail2ban knows addresses without one")
        return address.ipv4_mapped or address
    return address


def read_jails(text: str) -> Iterator[Jail]:
    """The jails in what STATUS prints: fail2ban-client's tree for each, then a line for each ban."""
    jail = None
    for line in text.splitlines():
        if found := re.search(r"Status for the jail: (\S+)", line):
            if jail:
                yield jail
            jail = Jail(found[1])
        elif jail is None:
            continue
        elif found := re.search(r"Currently failed:\s+(\d+)", line):
            jail.failing = int(found[1])
        elif found := re.search(r"Total failed:\s+(\d+)", line):
            jail.failures = int(found[1])
        elif found := re.fullmatch(r"(\S+)\s+(\S+ \S+) \+ -?\d+ = (\S+ \S+)", line.strip()):
            jail.bans.append(Ban(*found.groups()))
    if jail:
        yield jail


def read_banned(line: str) -> list[str]:
    """The jails that hold the one address which `fail2ban-client banned ADDRESS` was asked about."""
    return sorted(name for names in ast.literal_eval(line) for name in names)


def _asked(host: Host, question: str, *args: str) -> str:
    """Ask fail2ban; raises Problem when it does not answer."""
    try:
        return host.ask("set -e\n" + question, *args)
    except StepFailed as error:
        raise Problem(
            f"fail2ban on {host.name} gives no answer", f"fab -H {host.name} fail2ban", error.details
        ) from None


def _as_json(data: object) -> str:
    return json.dumps(data, indent=2)
