"""Lynis: its hardening index at least 80, no warning, and every suggestion that is left named with a reason."""

from __future__ import annotations

import re

import pytest

from ..machine import Machine

KERNEL = "the kernel is the machine's, not the container's: the witness has its own (tests/lab/test_witness.py)"

# What a container cannot have; left out of the count.
NOT_HERE = {
    "USB-3000": "there is no USB in a container",
    **{
        f"KRNL-6000:{key}": KERNEL
        for key in (
            "dev.tty.ldisc_autoload", "fs.protected_fifos", "fs.protected_hardlinks", "fs.protected_regular",
            "fs.protected_symlinks", "fs.suid_dumpable", "kernel.core_uses_pid", "kernel.ctrl-alt-del",
            "kernel.dmesg_restrict", "kernel.kptr_restrict", "kernel.perf_event_paranoid", "kernel.sysrq",
            "kernel.unprivileged_bpf_disabled", "kernel.yama.ptrace_scope", "net.core.bpf_jit_harden",
        )
    },
}  # fmt: skip

WAIVERS = {
    "LYNIS": "its release is Debian's",
    "DEB-0280": "every daemon here has a /tmp of its own already (PrivateTmp, a site's own tmp)",
    "DEB-0810": "updates install themselves: nobody would read the bugs it lists",
    "DEB-0880": "fail2ban's jails are in jail.local",
    "BOOT-5122": "a container boots without GRUB",
    "BOOT-5180": "a container has no runlevels",
    "BOOT-5264": "the daemons that face visitors are confined by drop-ins; the rest is Debian's",
    "KRNL-5788": KERNEL,
    "KRNL-5820": "said by systemd's drop-in and by limits.d",
    "AUTH-9229": "no login has a password",
    "AUTH-9282": "no login has a password",
    "AUTH-9284": "daemons' accounts are locked on purpose",
    "AUTH-9286": "an expired password locks out a login by key, too",
    "AUTH-9328": "login.defs says 027",
    "AUTH-9408": "sshd logs every failure, and fail2ban acts on it",
    "FILE-6310": "a rented server comes with one partition",
    "FILE-6344": "systemd does not support hidepid; PHP-FPM's unit has ProtectProc",
    "NAME-4028": "whose domain a host is in is its owner's to say",
    "NAME-4404": "libnss-myhostname looks the host's own name up",
    "PKGS-7394": "unattended-upgrades installs what is newer",
    "FIRE-4508": "what the host itself asks for is not filtered",
    "FIRE-4513": "rules for what has not come yet are no mistake",
    "HTTP-6640": "HAProxy limits each client, over all of Apache's children",
    "HTTP-6643": "the WAF belongs to the role balancer",
    "SSH-7408": "sshd's values are judged by a yardstick of its own (test_sshd.py)",
    "SSH-7440": "who may log in is whose key is there",
    "DBS-1884": "Redis has an ACL user a site, which excludes requirepass, on a unix socket; its file is another",
    "DBS-1886": "its ACL lets no site's user call CONFIG",
    "PHP-2376": "off in every pool; Lynis reads php.ini alone",
    "LOGG-2154": "where logs go besides is the owner's to say",
    "ACCT-9622": "process accounting needs the kernel; see ACCT-9628",
    "ACCT-9626": "figures of the past are a monitor's job",
    "ACCT-9628": "the audit daemon needs a kernel of its own; it comes with the chapter selinux",
    "FINT-4350": "debsums compares the packages' files weekly, and /etc is in git",
    "TOOL-5002": "Gatehouse leaves nothing that runs on the host",
    "FILE-7524": "told for what Debian made readable on purpose",
    "KRNL-6000": KERNEL,
    "HRDN-7220": "Varnish compiles its VCL with gcc",
    "HRDN-7222": "Varnish compiles its VCL with gcc",
    "HRDN-7230": "a scanner for other systems' malware finds none of what harms a web server",
}

# What only Debian 12's Lynis (3.0.8) finds.
WAIVERS_12 = {
    "DEB-0811": "updates install themselves: nobody would read the changes it lists",
    "NETW-3200": KERNEL,
    "HOME-9304": "the operator's home is as who made the host made it; homes made since are 0750 (login.defs: 027)",
}


@pytest.fixture
def lynis(host: Machine) -> dict[str, list[str]]:
    """The report of one run: its keys, each with all its values."""
    host.check("dpkg -s lynis > /dev/null 2>&1 || apt-get install -qy --no-install-recommends lynis", timeout=300)
    host.put({"/etc/lynis/custom.prf": "".join(f"skip-test={name}\n" for name in NOT_HERE).encode()})
    try:
        host.check("lynis audit system --quick --no-colors --quiet > /dev/null", timeout=300)
        text = host.check("cat /var/log/lynis-report.dat")
    finally:
        host.check(
            "apt-get purge -qy lynis > /dev/null; rm -rf /etc/lynis /var/log/lynis*; etckeeper commit -q lynis || true",
            timeout=300,
        )
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"(?m)^(\w+)(?:\[\])?=(.*)$", text):
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.demand
def test_lynis_finds_nothing_to_warn_of(host: Machine, lynis: dict[str, list[str]]) -> None:
    suggested = {line.partition("|")[0] for line in lynis.get("suggestion", [])}
    waived = WAIVERS | (WAIVERS_12 if host.name == "vps12" else {})

    assert lynis.get("warning", []) == []
    assert int(lynis["hardening_index"][0]) >= 80
    assert suggested <= waived.keys(), [line for line in lynis["suggestion"] if line.partition("|")[0] not in waived]
