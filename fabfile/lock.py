"""The lock: one run at a time on a host; who holds it, and how to end a run whose operator will not come back."""

from __future__ import annotations

import json as json_
import time
from typing import NamedTuple

from rich.markup import escape

from .engine import Guarded, Host, StepFailed, as_data, console, query
from .engine.asking import agreed

# Who holds it is a matter of open files, not of what stands in one: the lock falls with the last process that has it.
# Of these, the oldest is the visit's own shell; its descriptor 8 is the directory of what it is at.
HOLDERS = r"""
holders() {
    for info in /proc/[0-9]*/fdinfo/9; do
        pid=${info#/proc/} pid=${pid%%/*}
        [ "$(readlink "/proc/$pid/fd/9")" = /run/gatehouse.lock ] && grep -q '^lock:.*FLOCK' "$info" && echo "$pid"
    done 2> /dev/null | sort -n
}
first=$(holders | head -n 1)
box=$([ -z "$first" ] || readlink "/proc/$first/fd/8")
case $box in /run/gatehouse.????????) ;; *) box= ;; esac
"""

STATUS = (
    HOLDERS
    + r"""
[ -n "$first" ] || exit 0
printf 'process\t%s\n' "$first"
sed 's/^[0-9]*\t/who\t/' /run/gatehouse.holder
printf '\nheld\t%s\n' "$(ps -o etimes= -p "$first" | tr -d ' ')"
# What runs for it: the program of its box, and what that started last.
[ -z "$box" ] || for pid in $(pgrep -P "$first"); do
    [ "$(readlink "/proc/$pid/cwd")" = "$box" ] || continue
    while next=$(pgrep -n -P "$pid"); do pid=$next; done
    printf 'at\t%s\t%s\n' "$(ps -o etimes= -p "$pid" | tr -d ' ')" "$(tr '\0\n' '  ' < "/proc/$pid/cmdline")"
    break
done
"""
)

# Softly: the program finishes its operation and begins no other, as by Ctrl-C; its operator's end lets the lock go, or
# is given up.  Only what does not end within its time is ended hard; the engine's runs begin anew over such a thing.
BREAK = (
    HOLDERS
    + r"""
told=$1 me=$2 patience=$3
[ "$first" = "$told" ] || { echo gone; exit; }
logger -t gatehouse "lock.break by $me: ends the run of $(cut -f2- /run/gatehouse.holder) (process $first)"
working() {
    for pid in $(pgrep -P "$first"); do
        case $(readlink "/proc/$pid/cwd") in /run/gatehouse.????????*) echo "$pid" ;; esac
    done
}
free() { [ -z "$(holders)" ]; }
wait_for() {    # SECONDS COMMAND...
    end=$(($(date +%s) + $1))
    shift
    until "$@"; do [ "$(date +%s)" -lt "$end" ] || return 1; sleep 0.2; done
}
done_working() { [ -z "$(working)" ]; }
family() { for pid in "$@"; do echo "$pid"; family $(pgrep -P "$pid"); done; }
how=softly
printf %s "$first" > /run/gatehouse.broken
if [ -n "$box" ] && [ -n "$(working)" ]; then
    : > "$box/stop"
    if ! wait_for "$patience" done_working; then
        how=hard
        all=$(family $(working))
        kill -TERM $all
        wait_for 10 done_working || kill -KILL $all
    fi
    wait_for 5 free    # the operator's end hears of it and goes, unless it sleeps
fi
if ! free; then
    kill -TERM $(holders)
    wait_for 5 free || { kill -KILL $(holders); wait_for 5 free; }
fi
rm -f /run/gatehouse.broken
free && echo "$how"
"""
)


class Holder(NamedTuple):
    """Who holds the lock: the process on the host, what the operator typed, and for how long (seconds).

    at: the command that runs for it now, for `busy` seconds; empty when it waits for its operator.
    """

    process: int
    who: str
    held: int
    at: str = ""
    busy: int = 0


@query(help={"json": "print the same as JSON"})
def status(c, json=False):
    """On call: who holds the host's lock, since when, with which task, and what it is at; or that nobody does."""
    host = Host.of(c)
    holder = read(host.ask(STATUS))
    if json:
        print(json_.dumps({"host": host.name, "held": bool(holder), "holder": as_data(holder) if holder else None}))
    elif holder is None:
        console.print(f"{host.name}  nobody holds the lock")
    else:
        console.print(f"{host.name}  {escape(told(holder))}")
        console.print(f"to end it: fab -H {host.name} lock.break")


@query(
    name="break",
    help={
        "yes": "do not ask",
        "wait": "seconds that it may take to finish the operation that it is at (default 60)",
        "json": "print the outcome as JSON",
    },
    within={"wait": (0, 3600)},
)
def break_(c, yes=False, wait=60, json=False):
    """On call: end the run that holds the lock: it finishes its operation, and is ended hard when that takes too long.

    The host's journal says who did it, and so does the history, where the run then stands as broken off.  Refused (exit
    code 3) when nobody holds it.
    """
    host = Host.of(c)
    holder = read(host.ask(STATUS))
    if holder is None:
        raise Guarded(f"nobody holds the lock of {host.name}", "type what you wanted to type")
    if host.dry:
        console.print(f"{host.name}  would be ended: {escape(told(holder))}")
        return
    agreed(
        f"{host.name}  {told(holder)}\nEnd it?", yes, f"fab -H {host.name} lock.break --yes"
    )
    began = time.monotonic()
    me = host.visit.me.partition(" since ")[0]
    how = host.ask(BREAK, str(holder.process), me, str(int(wait))).strip()
    if not how:
        raise StepFailed(
            f"the lock of {host.name} is still held", f"look at it on the host: ps -fp {holder.process}", told(holder)
        )
    if how != "gone":
        host.break_off(f"its lock was broken by {me}")
    seconds = round(time.monotonic() - began, 1)
    if json:
        print(json_.dumps({"host": host.name, "ended": as_data(holder), "how": how, "seconds": seconds}))
    elif how == "gone":
        console.print(f"{host.name}  that run had ended by itself; nothing was done")
    else:
        end = "it had finished its operation" if how == "softly" else "in the middle of an operation"
        console.print(f"{host.name}  ended after {seconds:.0f} s: {end}; type its task again: it goes on from there")


def read(answer: str) -> Holder | None:
    """What STATUS prints: nothing when nobody holds it."""
    said = dict(line.partition("\t")[::2] for line in answer.splitlines() if "\t" in line)
    if "process" not in said:
        return None
    busy, _, at = said.get("at", "").partition("\t")
    return Holder(int(said["process"]), said.get("who", ""), int(said.get("held") or 0), at.strip(), int(busy or 0))


def told(holder: Holder) -> str:
    """One sentence."""
    at = f"at work for {holder.busy} s: {holder.at[:120]}" if holder.at else "it waits for its operator"
    return f"held by {holder.who} (process {holder.process}, for {holder.held} s); {at}"
