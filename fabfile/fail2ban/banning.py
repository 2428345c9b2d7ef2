"""To shut an address out by hand, and to let one in again: from every jail, rule and counter."""

from __future__ import annotations

import ast
import json as json_
import re
from dataclasses import dataclass, field
from ipaddress import ip_network

from invoke import Exit

from ..engine import Host, Problem, as_data, console, query
from ..model import Refusal, duration
from .addresses import Address, address_of, asked, never_ours, row_key

BY_HAND = "by-hand"
BAN_FOR, MOST_TEXT = "4w", "90d"
MOST = duration(MOST_TEXT, "--for", MOST_TEXT)
ALL = "--all"  # a value to Invoke, not a flag: a positional argument must be there, or have a default

REASONS = 5
"""Log lines of a ban that are shown: the last ones."""

# fail2ban gives a duration to a jail, not to an address; but each ban comes back from its database with its own.  So
# the jail gets this one's, and once it is in the database the jail starts anew, with the configured one.
BAN = """
jails=$(fail2ban-client status)
jails=$(printf '%s\\n' "$jails" | sed -n 's/.*Jail list:[[:space:]]*//p')
echo "$jails"
fail2ban-client banned "$1"
case ", $jails," in *", $2,"*) ;; *) exit 0 ;; esac
[ -z "$3" ] || exit 0
if [ -z "$4" ]; then
    fail2ban-client set "$2" banip "$1" > /dev/null
    exit
fi
printf '%s\\n' "set $2 unbanip $1" "set $2 bantime $4" "set $2 banip $1" exit | fail2ban-client -i > /dev/null
recorded() {
    python3 - "$1" "$2" << 'END'
import sqlite3, sys
rows = sqlite3.connect("file:/var/lib/fail2ban/fail2ban.sqlite3?mode=ro", uri=True).execute(
    "select 1 from bips where ip = ? and jail = ?", sys.argv[1:])
sys.exit(0 if rows.fetchall() else 1)
END
}
for try in $(seq 50); do ! recorded "$1" "$2" || break; sleep 0.1; done
fail2ban-client restart "$2" > /dev/null
for try in $(seq 50); do
    until=$(fail2ban-client get "$2" banip --with-time | sed -n "s/^$1[[:space:]].* = //p")
    [ -z "$until" ] || break
    sleep 0.1
done
[ -n "$until" ] && echo "$until"
"""

# What made a ban stands in fail2ban's database until it is lifted.  A rule may outlive its ban: when the firewall's
# former rules came back, they brought the bans of that time along; or somebody wrote one by hand.
UNBAN = r"""
fail2ban-client banned "$1"
python3 - "$1" << 'END' | tail -n "$4"
import json, sqlite3, sys
rows = sqlite3.connect("file:/var/lib/fail2ban/fail2ban.sqlite3?mode=ro", uri=True).execute(
    "select jail, data from bips where ip = ? order by timeofban", sys.argv[1:])
for jail, data in rows:
    for match in json.loads(data).get("matches") or []:
        print("why", jail, "".join(match) if isinstance(match, list) else match, sep="\t")
END
dry=$2
[ -n "$dry" ] || fail2ban-client unban "$1" > /dev/null
for tool in iptables ip6tables; do
    "$tool" -w -S | grep -E '^-A (f2b-|INPUT )' | grep -F -- " -s $1/" | grep -E -e '-j (DROP|REJECT)' |
        while read -r rule; do
            if [ -n "$dry" ]; then
                case $rule in '-A INPUT '*) printf 'rule\t%s\n' "$rule" ;; esac
            elif "$tool" -w $(printf '%s\n' "$rule" | sed 's/^-A/-D/'); then
                printf 'rule\t%s\n' "$rule"
            fi
        done
    "$tool" -w -S | grep -E -e ' -s .*-j (DROP|REJECT)' | sed 's/^/left\t/'
done
if command -v ipset > /dev/null; then
    for set in $(ipset list -n); do
        if ipset -q test "$set" "$1" && { [ -n "$dry" ] || ipset -q del "$set" "$1"; }; then
            printf 'rule\tipset %s\n' "$set"
        fi
    done
fi
socket=/run/haproxy/admin.sock
haproxy() { echo "$1" | socat - "UNIX-CONNECT:$socket"; }
if [ -S "$socket" ] && command -v socat > /dev/null; then
    for table in $(haproxy 'show table' | sed -n 's/^# table: \([^,]*\), type: ip.*/\1/p'); do
        row=$(haproxy "show table $table key $3" | sed -n 's/^0x[^ ]* key=[^ ]* //p')
        [ -n "$row" ] || continue
        printf 'row\t%s %s\n' "$table" "$row"
        # One that has a connection open cannot go: its counters begin anew.
        if [ -z "$dry" ] && haproxy "clear table $table key $3" | grep -q .; then
            haproxy "set table $table key $3 data.http_req_rate 0 data.conn_rate 0" > /dev/null
        fi
    done
fi
exit 0
"""

UNBAN_ALL = r"""
fail2ban-client banned
[ -z "$1" ] || exit 0
fail2ban-client unban --all > /dev/null
for tool in iptables ip6tables; do
    "$tool" -w -S | grep -E '^-A f2b-.* -s .*-j (DROP|REJECT)' | while read -r rule; do
        ! "$tool" -w $(printf '%s\n' "$rule" | sed 's/^-A/-D/') || printf 'rule\t%s\n' "$rule"
    done
done
if [ -S /run/haproxy/admin.sock ] && command -v socat > /dev/null; then
    for table in clients senders; do echo "clear table $table" | socat - UNIX-CONNECT:/run/haproxy/admin.sock; done
fi > /dev/null
"""


@dataclass
class Lifted:
    """What kept an address out: jails, the log lines that made the bans, rules and counters; and what still does."""

    jails: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@query(
    positional=["address"],
    help={
        "address": "an IPv4 or IPv6 address",
        "jail": f"the jail whose ports and duration apply (default: {BY_HAND}, every port)",
        "for_": f"how long: 30m, 2h, 7d, at most {MOST_TEXT}; without it {BAN_FOR}, or the jail's own",
    },
)
def ban(c, address, jail=BY_HAND, for_=""):
    """On call: shut an address out by hand: from every port and for four weeks, unless you say otherwise.

    Refuses an operator's address and those of our own hosts (exit code 3).
    """
    address = address_of(address)
    if not re.fullmatch(r"[a-z][a-z0-9-]*", jail):
        raise Refusal(f"--jail {jail}: must be the name of a jail\n  for example:  --jail sshd")
    if for_ and jail != BY_HAND:
        raise Refusal(f"--jail {jail} has a duration of its own\n  for example:  --for {for_}  alone: from every port")
    seconds = str(duration(for_ or BAN_FOR, "--for", MOST_TEXT)) if jail == BY_HAND else ""
    host = Host.of(c)
    never_ours(host, address)
    jails, held, *rest = asked(host, BAN, str(address), jail, "dry" if host.dry else "", seconds).splitlines()
    if jail not in jails.split(", "):
        raise Problem(f"{host.name} has no jail {jail}", f"name one of: {jails}; or: fab -H {host.name} fail2ban")
    if jail in read_banned(held) and jail != BY_HAND:
        console.print(f"{host.name}  {address} was banned by {jail} already")
        return
    until = f" until {rest[0]}" if rest else ""
    console.print(f"{host.name}  {address} {'would be' if host.dry else 'is'} banned by {jail}{until}")


@query(
    positional=["address"],
    help={"address": "an IPv4 or IPv6 address, or --all", "json": "print what was lifted, and why it was, as JSON"},
)
def unban(c, address, json=False):
    """On call: let an address in again: out of every jail, rule and counter.  It stays so after a restart.

    Says where it was banned and which log lines made it.  Exit code 0 when it is not banned (any more), whether it was
    before or not; 1 when something else, such as `firewall.deny`, still shuts it out.
    """
    host = Host.of(c)
    if address == ALL:
        _all(host, json)
        return
    found = address_of(address)
    dry = "dry" if host.dry else ""
    lifted = read_lifted(asked(host, UNBAN, str(found), dry, row_key(found), str(REASONS)), found)
    if json:
        print(json_.dumps({"host": host.name, "address": str(found), **as_data(lifted)}, indent=2))
    else:
        _tell(host, found, lifted)
    if lifted.left:
        raise Exit(code=1)


def _tell(host: Host, address: Address, lifted: Lifted) -> None:
    done = "would be let in again" if host.dry else "is let in again"
    if lifted.jails:
        console.print(f"{host.name}  {address} {done}; it was banned by {', '.join(lifted.jails)}")
    elif lifted.rules:
        console.print(f"{host.name}  {address} {done}; no jail held it, but {len(lifted.rules)} old rules did")
    else:
        console.print(f"{host.name}  {address} was not banned")
    for line in lifted.why:
        console.print(f"    {line}", markup=False)
    for row in lifted.rows:
        console.print(f"    HAProxy counts it anew; it had {row}", markup=False)
    for rule in lifted.left:
        console.print(f"[bold red]still shut out by[/] {rule}", highlight=False)
        if "GATEHOUSE-NOW" in rule:
            network = rule.partition(" -s ")[2].split()[0]
            console.print(f"next: fab -H {host.name} firewall.allow {network}", markup=False)


def _all(host: Host, json: bool) -> None:
    held, *rules = asked(host, UNBAN_ALL, "dry" if host.dry else "").splitlines()
    jails = {name: addresses for jail in ast.literal_eval(held) for name, addresses in jail.items() if addresses}
    if json:
        rules = [rule.partition("\t")[2] for rule in rules]
        print(json_.dumps({"host": host.name, "jails": jails, "rules": rules}, indent=2))
        return
    count = len({address for addresses in jails.values() for address in addresses})
    console.print(f"{host.name}  {'would be ' if host.dry else ''}let in again: {count or 'nobody was banned'}")
    for name, addresses in jails.items():
        console.print(f"    {name}: {', '.join(addresses)}", markup=False)


def read_lifted(text: str, address: Address) -> Lifted:
    """What UNBAN prints.  Of the rules that are left only those that hold the address count."""
    held, *lines = text.splitlines()
    lifted = Lifted(read_banned(held))
    for kind, _, rest in (line.partition("\t") for line in lines):
        if kind == "why":
            jail, _, line = rest.partition("\t")
            lifted.why.append(f"{jail}: {line.strip()}")
        elif kind == "rule":
            lifted.rules.append(rest)
        elif kind == "row":
            lifted.rows.append(rest)
        elif kind == "left" and (source := re.search(r" -s (\S+)", rest)):
            network = ip_network(source[1], strict=False)
            if network.version == address.version and address in network and not rest.startswith("-A f2b-"):
                lifted.left.append(rest)
    return lifted


def read_banned(line: str) -> list[str]:
    """The jails that hold the one address which `fail2ban-client banned ADDRESS` was asked about."""
    return sorted(name for names in ast.literal_eval(line) for name in names)
