"""What can go wrong between the operator and a host.

    Problem                 exit code 1: it was tried, and failed
    ├── Unreachable         no SSH connection
    │   └── NotLed          the gateway's sshd does not lead there
    ├── StepFailed          an operation of a step failed on the host
    │   └── CheckRefused    a service's own check refused what the step would have put in place
    ├── Stopped             Ctrl-C (exit code 130)
    └── Guarded             exit code 3: refused before anything was touched
        ├── NoHost          a host task without -H
        ├── UnknownKey      the host's key is not in known_hosts
        ├── ChangedKey      it is, and differs
        ├── NoRoot          sudo asks for a password, or is missing
        ├── WrongSystem     not a Debian, or not a machine, that the chapters were written for
        ├── Outdated        the host was last changed from a newer checkout than this one
        └── Locked          another operator is at work there

Bad input (exit code 2) is `fabfile.model.Refusal`: it is found before a connection is opened.
"""

from __future__ import annotations


class Problem(Exception):
    """Something failed: what, and the next thing to type.

    `next_step` is a command or a short instruction; `details` are the last lines of the tool that failed.
    """

    exit_code = 1

    def __init__(self, message: str, next_step: str = "", details: str = "") -> None:
        super().__init__(message)
        self.message, self.next_step, self.details = message, next_step, details


class Unreachable(Problem):
    """The host did not answer, or did not let us in."""


class NotLed(Unreachable):
    """The gateway let us in, and its sshd does not lead to the host behind it.  `gate` is its name in ssh_config."""

    gate = ""


class StepFailed(Problem):
    """An operation failed on the host; everything before it stands, nothing after it was begun."""


class Stopped(Problem):
    """The operator typed Ctrl-C: everything before it stands, nothing after it was begun."""

    exit_code = 130


class CheckRefused(StepFailed):
    """A service's own check refused the step's files: none of them is in place.  `records` is what the host said."""

    records: tuple[str, ...] = ()


class Guarded(Problem):
    """Refused by a guard: nothing was touched."""

    exit_code = 3


class NoHost(Guarded):
    """A host task was started without a host: Fabric would run it on the laptop."""


class UnknownKey(Guarded):
    """The host's key is not known yet."""


class ChangedKey(Guarded):
    """The host shows another key than the known one."""


class NoRoot(Guarded):
    """The login may not become root without a password."""


class WrongSystem(Guarded):
    """The host is not a Debian release that Gatehouse knows."""


class Outdated(Guarded):
    """The host was last changed from a newer version of this checkout."""


class Locked(Guarded):
    """Another run holds the host's lock."""
