"""SELinux: asked for or left alone, never in a container, and enforcing only after a boot without a denial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fabfile import flows, selinux
from fabfile.engine import Guarded
from fabfile.engine.changes import Install, Run
from fabfile.model import Fleet

from .recording import Recorded, a_file, contents

HEAD = "mode\t{mode}\nbooted\t1000\nnow\t{now}\npolicy\t{policy}\n"
HAPROXY = (
    'type=AVC msg=audit(1763700000.101:71): avc:  denied  { name_connect } for  pid=812 comm="haproxy" dest=8082 '
    "scontext=system_u:system_r:haproxy_t:s0 tcontext=system_u:object_r:us_cli_port_t:s0 tclass=tcp_socket permissive=1"
)
READ = (
    'type=AVC msg=audit(1763700001.500:80): avc:  denied  {{ {0} }} for  pid=900 comm="{1}" name="{2}" dev="vda1" '
    "scontext=system_u:system_r:httpd_t:s0 tcontext=system_u:object_r:var_t:s0 tclass=file permissive=1"
)
SYSTEMD = (
    "type=USER_AVC msg=audit(1763700002.000:90): pid=1 uid=0 auid=4294967295 ses=4294967295 "
    "subj=system_u:system_r:init_t:s0 msg='avc:  denied  { status } for auid=n/a uid=33 gid=33 "
    'path="/usr/lib/systemd/system/x.service" cmdline="" function="mac" scontext=system_u:system_r:httpd_t:s0 '
    'tcontext=system_u:object_r:systemd_unit_t:s0 tclass=service permissive=1  exe="/usr/lib/systemd/systemd" '
    "sauid=0 hostname=? addr=? terminal=?'"
)


def state(mode: str = "0", *records: str, now: int = 1000 + 90000, policy: int = 900) -> str:
    return HEAD.format(mode=mode, now=now, policy=policy) + "\n".join(records)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorded]:
    """A virtual server that is to have SELinux; its answer to the one question is given."""

    def make(answer: str = state(""), mac: str = "selinux", **known: Any) -> Recorded:
        host = Recorded(monkeypatch, **{"packages": {"grub2-common": "2.12"}, **known})
        host.fleet = Fleet.model_validate({"mac": mac})
        monkeypatch.setattr(host, "ask", lambda *_: answer)
        return host

    return make


EVERY_TASK = (selinux.install, selinux.activate, selinux.denials, selinux.enforce, selinux.permissive)


@pytest.mark.parametrize("task", EVERY_TASK)
def test_it_is_off_unless_the_fleet_asks_for_it(host: Callable[..., Recorded], task: Any) -> None:
    with pytest.raises(Guarded, match="confined by Debian's own AppArmor") as refused:
        host(mac="apparmor").after(task)

    assert 3 == refused.value.exit_code
    assert "mac: selinux" in refused.value.next_step


@pytest.mark.parametrize("task", EVERY_TASK)
def test_a_container_has_no_selinux_of_its_own(host: Callable[..., Recorded], task: Any) -> None:
    with pytest.raises(Guarded, match=r"is a container \(docker\)"):
        host(container="docker").after(task)


@pytest.mark.parametrize(("mac", "steps"), [("apparmor", 0), ("selinux", len(selinux.STEPS))])
def test_bootstrap_has_its_steps_where_they_are_asked_for(
    host: Callable[..., Recorded], mac: str, steps: int
) -> None:
    host(mac=mac)

    assert len(flows.BOOTSTRAP) + steps == len(flows._wanted(None))  # type: ignore[no-untyped-call]


def test_it_comes_permissive(host: Callable[..., Recorded]) -> None:
    changes = host().after(selinux.install)

    assert "SELINUX=permissive" in contents(changes)[selinux.CONFIG]
    assert {"selinux-basics", "selinux-policy-default", "auditd"} == {
        name for change in changes if isinstance(change, Install) for name in change.names
    }


def test_a_host_that_was_made_enforcing_stays_so(host: Callable[..., Recorded]) -> None:
    there = host(state("1"))
    there.after(selinux.enforce)

    assert [] == [path for path in contents(there.after(selinux.install)) if path == selinux.CONFIG]


def test_a_host_that_somebody_disabled_by_hand_is_permissive_again(host: Callable[..., Recorded]) -> None:
    there = host(files={"/etc/selinux": a_file(kind="d"), selinux.CONFIG: a_file("someone's")})

    assert "SELINUX=permissive" in contents(there.after(selinux.install))[selinux.CONFIG]


def test_the_next_boot_is_told_by_grub_and_nobody_reboots(host: Callable[..., Recorded]) -> None:
    there = host()
    changes = there.after(selinux.activate)

    assert 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX security=selinux' in contents(changes)[selinux.COMMAND_LINE]
    [run] = [change for change in changes if isinstance(change, Run)]
    assert "/.autorelabel" in run.script
    assert "reboot" not in run.script
    assert "sudo reboot" in there.notes[0]


def test_what_is_active_wants_no_reboot(host: Callable[..., Recorded]) -> None:
    there = host(state("0"))
    there.after(selinux.activate)

    assert [] == there.notes


def test_a_host_without_grub_is_told_what_to_do(host: Callable[..., Recorded]) -> None:
    with pytest.raises(Guarded, match="not started by GRUB") as refused:
        host(packages={}).after(selinux.activate)

    assert "security=selinux" in refused.value.next_step
    assert [] == host(state("0"), packages={}).after(selinux.activate)


def test_denials_are_summed_up_by_service(host: Callable[..., Recorded]) -> None:
    records = (
        HAPROXY,
        READ.format("read", "php-fpm8.4", "a"),
        READ.format("open read", "apache2", "b").replace(":80)", ":81)"),
        SYSTEMD,
        "type=SYSCALL msg=audit(1763700000.101:71): arch=c000003e success=yes",
    )
    found = selinux.read_state(state("0", *records)).denials

    assert ["httpd", "httpd", "haproxy"] == [each.service for each in found]
    files, service, connect = found
    assert ("apache2", "php-fpm8.4") == files.programs
    assert ("open", "read") == files.permissions
    assert (2, "file", "var_t", "a") == (files.times, files.kind, files.target, files.example)
    assert ("systemd",) == service.programs
    assert ("service", "systemd_unit_t") == (service.kind, service.target)
    assert ("name_connect",) == connect.permissions


def test_an_event_in_both_logs_counts_once() -> None:
    in_the_kernel_s = HAPROXY.replace("type=AVC msg=audit", "audit: type=1400 audit")

    [found] = selinux.summed([HAPROXY, in_the_kernel_s])

    assert 1 == found.times


def test_names_that_the_kernel_wrote_in_hexadecimal_are_read() -> None:
    [found] = selinux.summed([HAPROXY.replace('comm="haproxy"', "comm=" + b"cache main".hex().upper())])

    assert ("cache main",) == found.programs


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (state(""), "not active"),
        (state("0", HAPROXY), "would have refused 1 kinds of access since the boot, to haproxy"),
        (state("0", policy=1500), "the policy has changed since the boot"),
        (state("0", now=1000 + 3600), "only 1.0 hours without a denial, 24 are asked for"),
    ],
)
def test_enforcing_is_refused_while_there_is_a_reason(host: Callable[..., Recorded], answer: str, why: str) -> None:
    there = host(answer)
    with pytest.raises(Guarded, match=why) as refused:
        there.after(selinux.enforce)

    assert 3 == refused.value.exit_code
    assert [] == there._done
    assert [] == there._pending


def test_enforcing_goes_over_under_guard_and_is_written_down_after_it(host: Callable[..., Recorded]) -> None:
    there = host(state("0"))
    asked: list[tuple[str, ...]] = []
    there.access = lambda *words: asked.append((*words, "nothing written yet" if not there._pending else ""))  # type: ignore[method-assign]
    changes = there.after(selinux.enforce)

    assert [("enforce", "setenforce 1", "setenforce 0", "nothing written yet")] == asked
    assert "SELINUX=enforcing" in contents(changes)[selinux.CONFIG]


def test_permissive_is_for_now_and_for_the_next_boot(host: Callable[..., Recorded]) -> None:
    changes = host(state("1")).after(selinux.permissive)

    assert ["setenforce 0"] == [change.script for change in changes if isinstance(change, Run)]
    assert "SELINUX=permissive" in contents(changes)[selinux.CONFIG]
