"""SELinux on a kernel of its own: it comes permissive, tells what it would refuse, and does not shut anybody out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .lab import Lab
from .machine import Machine, Stranger
from .witness import Witness

SHUT = "INPUT -p tcp --dport 22 --syn -j DROP"
MODE = "cat /sys/fs/selinux/enforce"
# The guard sees no denial: this test must come past it. What is taken back afterwards is a real setenforce.
BLIND = """
for log in ausearch journalctl; do
    printf '#!/bin/sh\\n' > /usr/local/sbin/$log; chmod 0755 /usr/local/sbin/$log
done
"""


@dataclass
class Confined:
    """The witness with SELinux, and the files for fab that ask for it."""

    witness: Witness
    files: Path

    def fab(self, *task: str) -> Any:
        return self.witness.fab(*task, directory=self.files)

    @property
    def mode(self) -> str:
        return {"0": "permissive", "1": "enforcing"}[self.witness.check(MODE)]


@pytest.fixture(scope="module")
def confined(lab: Lab, witness: Witness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Confined]:
    """The chapter, and the reboot that it asks for; afterwards the witness is as it was."""
    files = lab.describe(tmp_path_factory.mktemp("selinux"), sites=lab.directory / "sites", mac="selinux")
    with witness.undone("before-selinux"):
        done = witness.fab("selinux", directory=files)
        assert 0 == done.returncode, done.stdout + done.stderr
        assert "SELinux begins with the next boot" in done.stdout
        assert 0 != witness.exec(MODE).rc, "it was active before the boot"
        witness.restart()
        yield Confined(witness, files)


def test_a_container_has_none_and_is_left_alone(lab: Lab, vps: Machine, tmp_path: Path) -> None:
    files = lab.describe(tmp_path, sites=lab.directory / "sites", mac="selinux")

    for task in ("selinux", "selinux.enforce"):
        refused = vps.fab(task, directory=files)

        assert 3 == refused.returncode, refused.stdout + refused.stderr
        assert "vps is a container (docker): its kernel, and with it SELinux, is its machine's" in refused.stderr
    assert 0 != vps.exec("dpkg -s selinux-basics").rc


def test_without_the_fleet_s_word_it_is_off(vps: Machine) -> None:
    refused = vps.fab("selinux")

    assert 3 == refused.returncode
    assert "add the line  mac: selinux  to fleet.yml" in refused.stderr


@pytest.mark.demand
def test_the_machine_boots_permissive_and_every_file_has_its_label(confined: Confined) -> None:
    assert "permissive" == confined.mode
    assert "selinux" in confined.witness.check("cat /sys/kernel/security/lsm").split(",")
    assert "apparmor" not in confined.witness.check("cat /sys/kernel/security/lsm").split(",")
    assert 0 != confined.witness.exec("test -e /.autorelabel").rc
    assert "system_u:object_r:shadow_t:s0" in confined.witness.check("ls -Z /etc/shadow")
    assert ":haproxy_t:" in confined.witness.check("ps -eZ | grep haproxy")


@pytest.mark.demand
def test_the_example_site_serves(confined: Confined, stranger: Stranger) -> None:
    answer = stranger.curl(
        "-o", "/dev/null", "-w", "%{http_code} %{http_version}", "--retry", "30", "--retry-all-errors",
        "https://example.com/", to=confined.witness,
    )  # fmt: skip

    assert "200 2" == answer.out, answer.err


@pytest.mark.demand
def test_the_denials_are_listed_by_service(confined: Confined) -> None:
    told = json.loads(confined.fab("selinux.denials", "--json").stdout)

    assert "permissive" == told["mode"]
    assert told["denials"]
    assert [] == [each for each in told["denials"] if not (each["service"] and each["permissions"] and each["times"])]
    screen = confined.fab("selinux.denials").stdout
    assert f"{len(told['denials'])} kinds of access would have been refused since" in screen
    assert all(each["service"] in screen for each in told["denials"])


@pytest.mark.demand
def test_enforcing_is_refused_while_there_are_denials(confined: Confined) -> None:
    before = confined.witness.check("sha256sum /etc/selinux/config")
    refused = confined.fab("selinux.enforce", "--hours", "0")

    assert 3 == refused.returncode
    assert "enforcing would have refused" in refused.stderr
    assert "selinux.denials" in refused.stderr
    assert "permissive" == confined.mode
    assert before == confined.witness.check("sha256sum /etc/selinux/config")


@pytest.mark.demand
def test_enforcing_goes_back_by_itself_when_nobody_gets_in(confined: Confined) -> None:
    """No new connection gets to sshd from the moment on in which it is enforcing."""
    confined.witness.check(BLIND)
    confined.witness.check(
        f"systemd-run --unit=shut sh -c 'until grep -q 1 /sys/fs/selinux/enforce; do :; done; iptables -I {SHUT}'"
    )
    try:
        failed = confined.fab("selinux.enforce", "--hours", "0")

        assert 1 == failed.returncode, failed.stdout + failed.stderr
        assert "no new connection got in" in failed.stdout + failed.stderr
        end = time.monotonic() + 120
        while confined.mode != "permissive" and time.monotonic() < end:
            time.sleep(1)
        assert "permissive" == confined.mode
        assert "SELINUX=permissive" in confined.witness.check("cat /etc/selinux/config")
    finally:
        confined.witness.exec(f"systemctl stop shut; iptables -D {SHUT}; setenforce 0")
        confined.witness.check("rm /usr/local/sbin/ausearch /usr/local/sbin/journalctl")


@pytest.mark.demand
def test_again_it_changes_nothing(confined: Confined) -> None:
    done = confined.fab("selinux", "--json")
    assert 0 == done.returncode, done.stdout + done.stderr
    told = json.loads(done.stdout)

    assert ["kept", "kept"] == [step["outcome"] for step in told["steps"]]
    assert "reboot" not in done.stdout
