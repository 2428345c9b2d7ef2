"""No lock-out: a change of how one gets in is armed, applied, proved and only then kept.

The revert waits on the host itself, as a transient systemd timer, so it fires whatever becomes of the laptop and of the
connection (nixos-cli and iptables-apply work alike).
"""

from __future__ import annotations

from collections.abc import Iterable

from fabric import Connection

from .facts import quoted
from .remote import another
from .script import SHELL, Box

UNIT = "gatehouse-revert"
KEPT = "/var/lib/gatehouse/revert.sh"


def armed(label: str, apply: str, revert: str, args: Iterable[str], seconds: int) -> Box:
    """Arm the revert, then apply; an `apply` that fails is taken back at once."""
    words = quoted(args)
    box = Box(
        [". ./prelude.sh"],
        {"prelude.sh": (SHELL / "prelude.sh").read_bytes(), "apply": apply.encode(), "revert": revert.encode()},
    )
    box.add("memory")
    box.add("op", f"arm the way back ({seconds} s)")
    box.lines += [
        f"{{ printf '%s\\n' {quoted(['set -- ' + words])}; cat revert; }} > {KEPT}.new",
        f"mv -fT {KEPT}.new {KEPT}",
        f"systemctl stop {UNIT}.timer {UNIT}.service || :",
        f"systemctl reset-failed {UNIT}.service || :",
        f"systemd-run -q --unit={UNIT} --on-active={seconds} --timer-property=AccuracySec=1s /bin/sh {KEPT}",
    ]
    box.add("op", label)
    box.lines += [
        f"if ! ( set -- {words}; . ./apply ); then sh {KEPT}; systemctl stop {UNIT}.timer; exit 1; fi",
    ]
    return box


def prove(c: Connection) -> None:
    """Open a second, new connection; raises Unreachable when nobody gets in."""
    fresh = another(c)
    try:
        fresh.transport.open_session(timeout=10).close()
    finally:
        fresh.close()


def disarmed(label: str) -> Box:
    """The proof is there: the way back is no longer needed."""
    box = Box([". ./prelude.sh"], {"prelude.sh": (SHELL / "prelude.sh").read_bytes()})
    box.add("op", f"{label}: proved")
    box.lines += [f"systemctl stop {UNIT}.timer", f"rm -f {KEPT}"]
    return box
