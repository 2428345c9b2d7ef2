"""No lock-out: a change of how one gets in is armed, applied, proved and only then kept.

The revert waits on the host itself, as a transient systemd timer, so it fires whatever becomes of the laptop and of the
connection (nixos-cli and iptables-apply work alike).  A reboot would forget the timer: then a unit fires it at boot.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from fabric import Connection

from .facts import quoted
from .problems import Unreachable
from .remote import another
from .script import Box, program

UNIT = "gatehouse-revert"
KEPT = "/var/lib/gatehouse/revert.sh"
BEGUN = KEPT + ".begun"
TAKE_BACK = f"[ ! -e {BEGUN} ] || sh {BEGUN}; [ ! -e {KEPT} ] || sh {KEPT}"
"""Also what was broken off on its way: it is safe to run twice."""

FORMER = "/var/lib/gatehouse/revert"
"""What the way back returns to, as "$former" in `apply` and `revert`; empty until `apply` begins."""

# One that its timer has begun just now ends first.
AWAIT = f"for _ in $(seq 100); do systemctl -q is-active {UNIT}.service || break; sleep 0.2; done"

TRIES = 3

AT_BOOT = f"""\
# Managed by Gatehouse: a change of how one gets in that nobody had proved when the host went down is taken back.
[Unit]
Description=Take back an unproved change of how one gets in
ConditionPathExists=|{KEPT}
ConditionPathExists=|{BEGUN}
After=local-fs.target netfilter-persistent.service
Before=ssh.service ssh.socket

[Service]
Type=oneshot
ExecStart=/bin/sh -c '{TAKE_BACK}'

[Install]
WantedBy=multi-user.target
"""


def armed(label: str, apply: str, revert: str, args: Iterable[str], seconds: int) -> Box:
    """Arm the revert, then apply; an `apply` that fails is taken back at once."""
    words = quoted(args)
    box = _armed(revert, words, seconds)
    box.keep("apply", apply.encode())
    box.add("op", label)
    box.lines += [
        f"if ! ( set -- {words}; . ./apply ); then sh {KEPT}; systemctl stop {UNIT}.timer; exit 1; fi",
    ]
    return box


def armed_files(paths: Iterable[str], taken: Iterable[str], reload: str, args: Iterable[str], seconds: int) -> Box:
    """Arm the return of these files as they are now, and of what the host remembers as `taken`.

    `reload` lets the daemon take them.
    """
    files = quoted([*paths, *(f"/var/lib/gatehouse/loaded/{name}" for name in taken)])
    revert = f"box={FORMER}\n. {FORMER}/prelude.sh\nhome={FORMER}\nrestore {files}\n{reload}"
    return _armed(revert, quoted(args), seconds, files)


def prove(c: Connection) -> None:
    """Open a second, new connection; raises Unreachable when nobody gets in."""
    for last in range(TRIES - 1, -1, -1):
        began = time.monotonic()
        try:
            fresh = another(c)
        except Unreachable:
            # A daemon that has just been loaded may refuse for a moment; silence is not worth a second wait.
            if not last or time.monotonic() - began > 5:
                raise
            time.sleep(1)
        else:
            break
    try:
        fresh.transport.open_session(timeout=10).close()
    finally:
        fresh.close()


def lets_in(c: Connection) -> bool:
    """Whether a new connection gets in at this moment."""
    try:
        another(c, patience=3).close()
    except Unreachable:
        return False
    return True


def disarmed(label: str) -> Box:
    """The proof is there: the way back is no longer needed."""
    box = program()
    box.add("op", f"{label}: proved")
    box.lines += [f"systemctl stop {UNIT}.timer", f"rm {KEPT}", f"rm -rf {FORMER}"]
    return box


def taken_back(label: str) -> Box:
    """What was armed failed to apply, or its run was killed before the proof: the way back is taken at once."""
    box = program()
    box.add("op", f"{label}: taken back")
    box.lines += [f"systemctl stop {UNIT}.timer || :", AWAIT, TAKE_BACK]
    return box


def _armed(revert: str, words: str, seconds: int, files: str = "") -> Box:
    box = program()
    box.keep("revert", revert.encode())
    box.keep("at-boot", AT_BOOT.encode())
    box.add("memory")
    box.add("op", f"arm the way back ({seconds} s)")
    unit = f"/etc/systemd/system/{UNIT}-at-boot.service"
    box.lines += [
        f"systemctl stop {UNIT}.timer || :",
        AWAIT,
        f"systemctl reset-failed {UNIT}.service || :",
        # One that nobody proved is taken back first: else it would be what this one returns to.
        TAKE_BACK,
        f"former={FORMER}",
        'rm -rf "$former"',
        'mkdir "$former"',
        f"if ! cmp -s at-boot {unit}; then install -m 0644 at-boot {unit}; systemctl daemon-reload; "
        f"systemctl -q enable {UNIT}-at-boot.service; fi",
    ]
    if files:
        box.lines += [f"cp prelude.sh {FORMER}/", f"( home={FORMER}; keep {files} )"]
    box.lines += [
        # It is renamed when it begins: from then on nobody calls it off, and the proof comes too late.
        f"{{ printf '%s\\n' {quoted([f'mv {KEPT} {KEPT}.begun', f'former={FORMER}', 'set -- ' + words])}; cat revert;"
        f" printf '\\nrm -f {KEPT}.begun\\n'; }} > {KEPT}.new",
        f"sync {KEPT}.new",
        f"mv -fT {KEPT}.new {KEPT}",
        f"systemd-run -q --unit={UNIT} --on-active={seconds} --timer-property=AccuracySec=1s /bin/sh {KEPT}",
    ]
    return box
