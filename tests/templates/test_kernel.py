"""dev-sec's list of kernel settings, with what Lynis adds to it, against what a host with its own kernel would get."""

from __future__ import annotations

import re

import pytest

from fabfile import system
from tests.chapters.recording import Recorded, contents

KERNEL = {
    "net.ipv4.ip_forward": "0",
    "net.ipv4.conf.all.forwarding": "0",
    "net.ipv4.conf.all.rp_filter": "1",
    "net.ipv4.conf.default.rp_filter": "1",
    "net.ipv4.icmp_ignore_bogus_error_responses": "1",
    "net.ipv4.icmp_echo_ignore_broadcasts": "1",
    "net.ipv4.icmp_ratelimit": "100",
    "net.ipv4.icmp_ratemask": "88089",
    "net.ipv4.tcp_timestamps": "0",
    "net.ipv4.conf.all.arp_ignore": "1",
    "net.ipv4.conf.all.arp_announce": "2",
    "net.ipv4.tcp_rfc1337": "1",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv4.conf.all.shared_media": "1",
    "net.ipv4.conf.default.shared_media": "1",
    "net.ipv4.conf.all.accept_source_route": "0",
    "net.ipv4.conf.default.accept_source_route": "0",
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.conf.default.accept_redirects": "0",
    "net.ipv4.conf.all.secure_redirects": "0",
    "net.ipv4.conf.default.secure_redirects": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
    "net.ipv4.conf.all.log_martians": "1",
    "net.ipv4.conf.default.log_martians": "1",
    "net.ipv6.conf.all.forwarding": "0",
    "net.ipv6.conf.all.accept_source_route": "0",
    "net.ipv6.conf.default.accept_source_route": "0",
    "net.ipv6.conf.all.accept_redirects": "0",
    "net.ipv6.conf.default.accept_redirects": "0",
    "net.ipv6.conf.all.disable_ipv6": "1",
    "net.ipv6.conf.default.router_solicitations": "0",
    "net.ipv6.conf.default.accept_ra_rtr_pref": "0",
    "net.ipv6.conf.default.accept_ra_pinfo": "0",
    "net.ipv6.conf.default.accept_ra_defrtr": "0",
    "net.ipv6.conf.all.accept_ra": "0",
    "net.ipv6.conf.default.accept_ra": "0",
    "net.ipv6.conf.default.autoconf": "0",
    "net.ipv6.conf.default.dad_transmits": "0",
    "net.ipv6.conf.default.max_addresses": "1",
    "kernel.sysrq": "0",
    "fs.suid_dumpable": "0",
    "kernel.randomize_va_space": "2",
    "kernel.core_pattern": "|/bin/false",
    "kernel.yama.ptrace_scope": "2",
    "fs.protected_fifos": "2",
    "fs.protected_hardlinks": "1",
    "fs.protected_regular": "2",
    "fs.protected_symlinks": "1",
    "kernel.dmesg_restrict": "1",
    "kernel.kptr_restrict": "2",
    "kernel.unprivileged_bpf_disabled": "1",
    "net.core.bpf_jit_harden": "2",
    "kernel.perf_event_paranoid": "3",
    "dev.tty.ldisc_autoload": "0",
    "kernel.core_uses_pid": "1",
}

ADDRESSES = "a host may have its IPv6 address from its router, as most providers' have: without these it would lose it"
WAIVERS = {
    "net.ipv6.conf.all.disable_ipv6": "IPv6 is served here, and closed exactly as IPv4 is",
    "net.ipv6.conf.default.router_solicitations": ADDRESSES,
    "net.ipv6.conf.default.accept_ra_rtr_pref": ADDRESSES,
    "net.ipv6.conf.default.accept_ra_pinfo": ADDRESSES,
    "net.ipv6.conf.default.accept_ra_defrtr": ADDRESSES,
    "net.ipv6.conf.all.accept_ra": ADDRESSES,
    "net.ipv6.conf.default.accept_ra": ADDRESSES,
    "net.ipv6.conf.default.autoconf": ADDRESSES,
    "net.ipv6.conf.default.dad_transmits": "two hosts with one address are worse than the second that it takes",
    "net.ipv6.conf.default.max_addresses": ADDRESSES,
    "net.ipv4.tcp_timestamps": "without them a busy host cannot tell an old segment from a new one (RFC 7323, PAWS); "
    "Linux adds a random offset to each connection's, so they no longer tell the uptime",
}


def test_every_kernel_setting_is_the_yardstick_s(monkeypatch: pytest.MonkeyPatch) -> None:
    text = contents(Recorded(monkeypatch).after(system.kernel))[system.SYSCTL]
    values = dict(re.findall(r"(?m)^(\S+) = (.+)$", text))

    assert {name for name, value in KERNEL.items() if values.get(name) != value} == set(WAIVERS)
