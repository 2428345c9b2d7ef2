"""The witness: a virtual machine with a kernel of its own, for what a container cannot show.

A container shares its machine's kernel: there, `kernel.*` cannot be set, nothing comes before the network at a start,
and no security module can be chosen. QEMU emulates the witness's CPU, so it runs wherever the lab runs, and is ten to
twenty times as slow as the other hosts: its tests are run on demand. It stands in the lab's network as they do, since
the container that it lives in gives its place away (image/hypervisor/lab-vm).
"""

import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import LabError
from .machine import Machine

START = 900
"""Seconds for a start: one and a half minutes on a machine with nothing else to do, more beside other tests."""

TASK = 3600
"""Seconds for a task: the first `bootstrap` installs and compiles."""

NETWORK = """\
[Match]
Type=ether

[Network]
Address={ip}/24
Address={ip6}/64
Gateway={gateway}
Gateway={gateway6}
IPv6AcceptRA=no
"""


def options() -> dict[str, Any]:
    """How docker-py starts the container that becomes the virtual machine."""
    return {"entrypoint": ["lab-vm"], "cap_add": ["NET_ADMIN"], "devices": ["/dev/net/tun:/dev/net/tun"]}


class Witness(Machine):
    """The virtual machine, spoken to as the other hosts are."""

    def run(self, line: list[str], user: str = "root") -> tuple[int, bytes, bytes]:
        """Run a program in the machine, past its network; exit code 125 while it is starting.

        A machine that went down over it never says how it ended: then it is 124, as of a program that took too long.
        """
        seconds = float(line[2]) if line[0] == "timeout" else TASK
        return super().run(["timeout", str(seconds + 30), "lab-run", user, shlex.join(line)])

    def fab(
        self, *args: str, directory: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = TASK
    ) -> subprocess.CompletedProcess[str]:
        """As on the other hosts, with more patience."""
        return super().fab(*args, directory=directory, env=env, timeout=timeout)

    def wait(self, seconds: float = START) -> None:
        """As on the other hosts, with more patience."""
        super().wait(seconds)

    def restart(self) -> None:
        """A real reboot: through its firmware, GRUB and kernel."""
        self.reboot()
        self.wait()

    def reboot(self) -> None:
        """The same, until all that starts has started, whether it is well or not."""
        boot = "cat /proc/sys/kernel/random/boot_id"
        before = self.check(boot)
        self.check("sync; systemctl --no-block reboot")
        end = time.monotonic() + START
        while (now := self.exec(boot, timeout=20)).rc or now.out == before:
            if time.monotonic() > end:
                raise LabError(f"{self.name} did not come back within {START} s:\n{self.console}")
            time.sleep(1)
        self.exec("systemctl is-system-running --wait", timeout=START)

    @property
    def console(self) -> str:
        """The last lines that it wrote to its console."""
        return super().run(["tail", "-n", "40", "console.log"])[1].decode(errors="replace")

    def equip(self, key: bytes, apt: bytes, dns: str, gateways: tuple[str, str]) -> None:
        """What a provider does with a server made from an image: name, network, the operator's key, host keys; once."""
        end = time.monotonic() + START
        while (made := self.exec("test -s /etc/ssh/ssh_host_ed25519_key", timeout=20)).rc == 125:
            if time.monotonic() > end:
                raise LabError(f"{self.name} did not start within {START} s:\n{self.console}")
            time.sleep(1)
        if made.rc == 0:
            return
        place = {"ip": self.ip, "ip6": self.ip6, "gateway": gateways[0], "gateway6": gateways[1]}
        self.put({
            "/etc/hostname": f"{self.name}\n".encode(),
            "/etc/hosts": b"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
            "/etc/resolv.conf": f"nameserver {dns}\n".encode(),
            "/etc/systemd/network/10-lab.network": NETWORK.format(**place).encode(),
            "/etc/apt/apt.conf.d/01lab": apt,
        })
        self.put({"/home/ops/.ssh/authorized_keys": key}, 0o600, 1000)
        self.check(f"hostname {self.name} && networkctl reload && networkctl reconfigure ens3 && update-grub")
        self.check("ssh-keygen -A && systemctl reset-failed ssh && systemctl start ssh")

    # The past

    def remember(self, name: str) -> None:
        """Keep the machine as it is now, memory and disk, under this name."""
        self._monitor("savevm", name)
        self._set_clock()

    def return_to(self, name: str) -> None:
        """Be again as one was; only the clock goes on."""
        self._monitor("loadvm", name)
        self._set_clock()

    @contextmanager
    def undone(self, name: str) -> Iterator[None]:
        """Whatever happens to the machine here has not happened afterwards."""
        self.remember(name)
        try:
            yield
        finally:
            self.return_to(name)

    def _set_clock(self) -> None:
        """It stood still meanwhile, and there is no time server in the lab."""
        self.check(f"date -u -s @{time.time():.0f}")

    def _monitor(self, *words: str) -> None:
        code, _, err = super().run(["lab-monitor", *words])
        if code:
            raise LabError(f"{self.name}: {' '.join(words)}: {err.decode(errors='replace').strip()}")
