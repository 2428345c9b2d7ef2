"""SELinux in AppArmor's place: off unless fleet.yml says `mac: selinux`.  (T1, SELinux)

Debian confines with AppArmor; SELinux is for those who want it and will look after it.  It comes permissive: it refuses
nothing and writes down what it would have refused.  Enforcing is a step of its own, and the host takes it back when
nobody gets in any more.
"""

from __future__ import annotations

import json as json_
import re
import time
from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import groupby
from typing import Any, NamedTuple

from rich.markup import escape

from .engine import Guarded, Host, as_data, console, query, task

CONFIG = "/etc/selinux/config"
COMMAND_LINE = "/etc/default/grub.d/60-gatehouse-selinux.cfg"

# Added to what the files before it say: cloud images set the variable in one of their own.
# audit: what is denied before auditd runs is kept for it.
ADDED = """\
# Managed by Gatehouse: SELinux in AppArmor's place, and an audit log that begins with the boot.
GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX security=selinux audit=1 audit_backlog_limit=8192"
"""

# Only a start knows whether the command line is right, so GRUB's own file is looked at.  Every file gets its label at
# the first start with SELinux (selinux-autorelabel.service), which then starts the host a second time.
TELL_GRUB = """
update-grub
grep -q security=selinux /boot/grub/grub.cfg || fail "update-grub left security=selinux out of /boot/grub/grub.cfg"
[ -e /sys/fs/selinux/enforce ] || : > /.autorelabel
"""

# What was denied before auditd ran may stand in the kernel's own log alone.
STATE = """
printf 'mode\\t%s\\n' "$(cat /sys/fs/selinux/enforce 2> /dev/null)"
printf 'booted\\t%s\\n' "$(awk '/^btime/ { print $2 }' /proc/stat)"
printf 'now\\t%s\\n' "$(date +%s)"
printf 'policy\\t%s\\n' "$(stat -c %Y /etc/selinux/default/policy/policy.* 2> /dev/null | sort -n | tail -n 1)"
[ -e /sys/fs/selinux/enforce ] || exit 0
{
    ausearch --input-logs -m avc,user_avc -ts boot --raw
    journalctl -q -b -k -o cat
} < /dev/null 2> /dev/null | grep -a 'avc:  *denied' || :
"""

MODES = {"": "off", "0": "permissive", "1": "enforcing"}


class Denial(NamedTuple):
    """What one service may not do to one kind of thing.

    service: the SELinux domain without its _t; programs: the processes it was; target: the type of what they touched;
    kind: its class (`file`, `tcp_socket`, ...); times: in the log, where the kernel writes a repetition once;
    example: one name or path.
    """

    service: str
    programs: tuple[str, ...]
    permissions: tuple[str, ...]
    kind: str
    target: str
    times: int
    example: str


class State(NamedTuple):
    """mode: `off`, `permissive` or `enforcing`; booted, now, policy (its last change): seconds since 1970."""

    mode: str
    booted: int
    now: int
    policy: int
    denials: tuple[Denial, ...]


@task
def install(c):
    """T1 SELinux: the tools, Debian's policy, and the audit log that says what it refuses; permissive.

    "Run it in permissive mode until it fully works": a host that was made enforcing stays so.
    """
    host = _confined(c)
    host.packages("selinux-basics", "selinux-policy-default", "auditd")
    now = host.facts.files.get(CONFIG)
    mode = "enforcing" if now and now.digest == sha256(_config("enforcing").encode()).hexdigest() else "permissive"
    host.file(CONFIG, _config(mode))
    host.service("auditd")


@task
def activate(c):
    """T1 SELinux: GRUB starts the kernel with SELinux from the next boot on; that boot labels every file first.

    Not with selinux-activate: on cloud images, which set the command line elsewhere, what it writes has no effect.
    The host is never rebooted from here.
    """
    host = _confined(c)
    off = _state(host).mode == "off"
    if "grub2-common" in host.facts.packages:
        host.file(COMMAND_LINE, ADDED)
        host.run("tell GRUB", TELL_GRUB, name="grub-selinux", on=[COMMAND_LINE])
    elif off:
        raise Guarded(
            f"{host.name} is not started by GRUB, so its kernel's command line cannot be set from here",
            "add security=selinux to it where it is kept (the provider's console), touch /.autorelabel, and reboot",
        )
    if off:
        host.note(
            "SELinux begins with the next boot, which labels every file and boots once more: some minutes. "
            f"At a quiet hour: fab -H {host.name} -- sudo reboot"
        )


@query(help={"json": "print the mode and every denial as JSON"})
def denials(c, json=False):
    """On call: what SELinux refused since the boot, or would have refused were it enforcing, service by service."""
    host = _confined(c)
    state = _state(host)
    if json:
        print(json_.dumps({"host": host.name, **as_data(state)}, indent=2))
        return
    _need_active(host, state)
    since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(state.booted))
    word = "refused" if state.mode == "enforcing" else "would have been refused"
    console.print(f"{host.name}  SELinux is {state.mode}; {len(state.denials)} kinds of access {word} since {since}")
    for service, kinds in groupby(state.denials, key=lambda denial: denial.service):
        console.print(service)
        for each in kinds:
            wish = f"{each.kind} {each.target}: {' '.join(each.permissions)}"
            what = f", such as {each.example}" if each.example else ""
            console.print(escape(f"    {wish}  ({', '.join(each.programs)}; {each.times}{what})"))


@task(help={"hours": "how long the host must have run permissive without a denial (default 24)"})
def enforce(c, hours=24):
    """T1 SELinux: refuse from now on, once a whole boot and a day of work gave no reason to.

    Refused (exit code 3) while there are denials, or before that day is over.  The host goes back to permissive by
    itself unless a new SSH connection gets in, and only then is enforcing written down for the next boot.
    """
    host = _confined(c)
    state = _state(host)
    _need_active(host, state)
    if state.mode == "permissive":
        _need_peace(host, state, float(hours))
        host.access("enforce", "setenforce 1", "setenforce 0")
    host.file(CONFIG, _config("enforcing"))


@task
def permissive(c):
    """On call: let SELinux refuse nothing, now and after a boot; it goes on writing down what it would have refused."""
    host = _confined(c)
    if _state(host).mode == "enforcing":
        host.run("refuse nothing", "setenforce 0")
    host.file(CONFIG, _config("permissive"))


STEPS = (install, activate)


def read_state(answer: str) -> State:
    """What STATE prints: four lines "KEY<TAB>VALUE", then the denials as the kernel wrote them."""
    lines = answer.splitlines()
    given = dict(line.split("\t", 1) for line in lines[:4])
    booted, now, policy = (int(given[key] or 0) for key in ("booted", "now", "policy"))
    return State(MODES[given["mode"]], booted, now, policy, tuple(summed(lines[4:])))


def summed(records: Iterable[str]) -> Iterator[Denial]:
    """Audit records to denials: one for each service, class and type; the busiest service first.

    The same event may be in the audit log and in the kernel's: it counts once.
    """
    found: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for event in {_event(record): None for record in records}:
        fields = {key: plain or quoted for key, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|(\S+))', event[1])}
        granted = re.search(r"denied\s+\{ ([^}]*)\}", event[1])
        if granted and {"scontext", "tcontext", "tclass"} <= fields.keys():
            key = _type(fields["scontext"]).removesuffix("_t"), fields["tclass"], _type(fields["tcontext"])
            found.setdefault(key, []).append({**fields, "permissions": granted[1]})
    busy: dict[str, int] = {}
    for (service, _, _), events in found.items():
        busy[service] = busy.get(service, 0) + len(events)
    for (service, kind, target), events in sorted(found.items(), key=lambda one: (-busy[one[0][0]], one[0])):
        yield Denial(
            service,
            tuple(sorted({_program(fields) for fields in events} - {""})),
            tuple(sorted({word for fields in events for word in fields["permissions"].split()})),
            kind,
            target,
            len(events),
            next((named for fields in events if (named := fields.get("path") or fields.get("name", ""))), ""),
        )


def _event(record: str) -> tuple[str, str]:
    """The number that the kernel gave to an event, and what was denied in it."""
    number = re.search(r"audit\(([\d.]+:\d+)\)", record)
    return number[1] if number else "", record[record.find("avc:") :].rstrip().rstrip("'")


def _type(context: str) -> str:
    """The type in a context such as system_u:system_r:sshd_t:s0."""
    return (context.split(":") + [""] * 3)[2]


def _program(fields: dict[str, str]) -> str:
    """The process that was denied something; names with special characters are in hexadecimal digits."""
    name = fields.get("comm") or fields.get("exe", "").rpartition("/")[2]
    if re.fullmatch(r"(?:[0-9A-F]{2}){4,}", name):
        return bytes.fromhex(name).decode(errors="replace")
    return name


def _config(mode: str) -> str:
    return f"# Managed by Gatehouse: selinux.enforce, selinux.permissive.\nSELINUX={mode}\nSELINUXTYPE=default\n"


def _confined(c: Any) -> Host:
    """The host, if SELinux is meant for it and can be; raises Guarded."""
    host = Host.of(c)
    if host.fleet.mac != "selinux":
        raise Guarded(
            f"SELinux is off: {host.name} is confined by Debian's own AppArmor",
            f"to have it, add the line  mac: selinux  to fleet.yml, then: fab -H {host.name} selinux",
        )
    if host.facts.container:
        raise Guarded(
            f"{host.name} is a container ({host.facts.container}): its kernel, and with it SELinux, is its machine's",
            "take the line  mac: selinux  out of fleet.yml",
        )
    return host


def _state(host: Host) -> State:
    return read_state(host.ask(STATE))


def _need_active(host: Host, state: State) -> None:
    if state.mode == "off":
        raise Guarded(
            f"SELinux is not active on {host.name}",
            f"fab -H {host.name} selinux; then, at a quiet hour: fab -H {host.name} -- sudo reboot",
        )


def _need_peace(host: Host, state: State, hours: float) -> None:
    """Raises Guarded unless a whole boot, and `hours` after it, went without a denial under the policy of now."""
    if state.denials:
        services = list(dict.fromkeys(each.service for each in state.denials))
        more = f" and {len(services) - 5} more" if len(services) > 5 else ""
        raise Guarded(
            f"enforcing would have refused {len(state.denials)} kinds of access since the boot, to "
            f"{', '.join(services[:5])}{more}",
            f"fab -H {host.name} selinux.denials; allow what is right in a policy module (audit2allow(1)), and reboot",
        )
    if state.policy > state.booted:
        raise Guarded(
            "the policy has changed since the boot: a whole boot under it must give no denial",
            f"at a quiet hour: fab -H {host.name} -- sudo reboot",
        )
    if state.now - state.booted < hours * 3600:
        raise Guarded(
            f"only {(state.now - state.booted) / 3600:.1f} hours without a denial, {hours:g} are asked for",
            f"wait, or: fab -H {host.name} selinux.enforce --hours 0",
        )
