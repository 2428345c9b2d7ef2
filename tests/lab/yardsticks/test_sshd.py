"""dev-sec's ssh-baseline and ssh-audit's own policy, on both releases; and what an operator still needs of sshd."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paramiko
import pytest

from fabfile.engine.remote import connect, opened
from fabfile.sshd import CURVES, GROUPS, KEX, agreed

from ..machine import Machine
from .yardstick import Yardstick

SSH = Yardstick("dev-sec ssh-baseline, CIS 5.2")

# What sshd really does for a login of root from the Internet: the files alone do not tell which of two values wins.
ASKED = "sshd -T -C user=root,host=stranger,addr=203.0.113.9"

VALUES = {
    "addressfamily": {"any", "inet", "inet6"},
    "allowagentforwarding": {"no"},
    "allowtcpforwarding": {"no"},
    "banner": {"none"},
    "clientaliveinterval": {"300"},
    "clientalivecountmax": {"3"},
    "debianbanner": {"no"},
    "gatewayports": {"no"},
    "gssapiauthentication": {"no"},
    "hostbasedauthentication": {"no"},
    "ignorerhosts": {"yes"},
    "ignoreuserknownhosts": {"yes"},
    "kbdinteractiveauthentication": {"no"},
    "kerberosauthentication": {"no"},
    "logingracetime": {"30"},
    "loglevel": {"VERBOSE"},
    "maxauthtries": {"2"},
    "maxsessions": {"10"},
    "maxstartups": {"10:30:60"},
    "passwordauthentication": {"no"},
    "permitemptypasswords": {"no"},
    "permitrootlogin": {"no", "prohibit-password", "without-password"},
    "permittunnel": {"no"},
    "permituserenvironment": {"no"},
    "printlastlog": {"no"},
    "printmotd": {"no"},
    "pubkeyauthentication": {"yes"},
    "strictmodes": {"yes"},
    "syslogfacility": {"AUTH"},
    "tcpkeepalive": {"no"},
    "x11forwarding": {"no"},
}
CIPHERS = {
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
}
SHA2 = {"hmac-sha2-512", "hmac-sha2-256"}
MACS = {*SHA2, "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com", "umac-128-etm@openssh.com"}
KEXES = {
    "sntrup761x25519-sha512@openssh.com",
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group-exchange-sha256",
}

WAIVERS = {
    "kexalgorithms": "ssh-audit's policy of the release, which is newer, judges it below",
    "maxauthtries": "4, as CIS: an agent offers its keys one after another, and nobody guesses a key",
    "clientaliveinterval": "30 s: a line that broke holds the host's lock",
    "RSA of 4096 bits": "Debian's own key of 3072 bits stays: operators know it, and a new one looks like an attack",
    "AllowUsers or AllowGroups": "an administrator added by hand would be shut out and not know why",
}


def said(host: Any) -> dict[str, str]:
    """The effective values; of one that is there several times, all."""
    values: dict[str, str] = {}
    for line in host.run(ASKED).stdout.splitlines():
        name, _, value = line.partition(" ")
        values[name] = f"{values[name]} {value}" if name in values else value
    return values


for directive, allowed in VALUES.items():

    @SSH.control(directive)
    def has_the_value(host: Any, directive: str = directive, allowed: frozenset[str] = frozenset(allowed)) -> bool:
        # OpenSSH 9.2 knows no DebianBanner in `sshd -T`; its banner is looked at below.
        return said(host).get(directive, "no" if directive == "debianbanner" else "") in allowed


for directive, known in (("ciphers", CIPHERS), ("macs", MACS), ("kexalgorithms", KEXES)):

    @SSH.control(directive)
    def offers_no_other(host: Any, directive: str = directive, known: frozenset[str] = frozenset(known)) -> bool:
        return set(said(host)[directive].split(",")) <= known


@SSH.control("/etc/ssh")
def the_directory_is_root_s(host: Any) -> bool:
    place = host.file("/etc/ssh")
    return bool((place.user, place.group, place.mode) == ("root", "root", 0o755))


@SSH.control("sshd_config")
def the_configuration_is_read_by_root_alone(host: Any) -> bool:
    files = [host.file("/etc/ssh/sshd_config"), host.file("/etc/ssh/sshd_config.d/05-gatehouse.conf")]
    return all((file.user, file.group, file.mode) == ("root", "root", 0o600) for file in files)


@SSH.control("host keys")
def the_keys_are_ed25519_and_rsa_and_closed(host: Any) -> bool:
    keys = said(host)["hostkey"].split()
    modes = {host.file(key).mode for key in keys}
    return keys == ["/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key"] and modes == {0o600}


@SSH.control("RSA of 3072 bits")
def rsa_is_long(host: Any) -> bool:
    return rsa_bits(host) >= 3072


@SSH.control("RSA of 4096 bits")
def rsa_is_longer(host: Any) -> bool:
    return rsa_bits(host) >= 4096


def rsa_bits(host: Any) -> int:
    return int(host.run("ssh-keygen -lf /etc/ssh/ssh_host_rsa_key.pub").stdout.split()[0])


@SSH.control("moduli")
def no_short_group(host: Any) -> bool:
    short = host.run("awk '$5 ~ /^[0-9]+$/ && $5 < 3071' /etc/ssh/moduli | wc -l; grep -c ^2 /etc/ssh/moduli")
    none, some = map(int, short.stdout.split())
    return none == 0 and some > 100


@SSH.control("AllowUsers or AllowGroups")
def who_may_come_is_listed(host: Any) -> bool:
    return bool({"allowusers", "allowgroups"} & said(host).keys())


@SSH.control("banner of the version")
def the_banner_names_no_distribution(host: Any) -> bool:
    told = host.run("bash -c 'exec 3<> /dev/tcp/127.0.0.1/22; head -n 1 <&3'").stdout
    return told.startswith("SSH-2.0-OpenSSH_") and "Debian" not in told


def test_ssh_baseline(host: Machine) -> None:
    SSH.judge(host.testinfra, WAIVERS)


@pytest.mark.demand
def test_an_sshd_that_its_socket_starts_takes_the_same_values(vps12: Machine) -> None:
    vps12.check("systemctl -q disable --now ssh.service; systemctl -q enable --now ssh.socket")
    try:
        vps12.check("rm /etc/ssh/sshd_config.d/05-gatehouse.conf")
        done = vps12.fab("sshd")
        assert 0 == done.returncode, done.stdout + done.stderr
        assert "0 changed" in vps12.fab("sshd").stdout
        assert "disabled" == vps12.exec("systemctl is-enabled ssh.service").out.strip()
        SSH.judge(vps12.testinfra, WAIVERS)
    finally:
        vps12.check("systemctl -q disable --now ssh.socket; systemctl -q enable --now ssh.service")
        vps12.fab("sshd")


POLICIES = {"bookworm": "Hardened Debian 12 (version 3)", "trixie": "Hardened Debian 13 (version 1)"}


def test_ssh_audit_s_policy_of_the_release(host: Machine) -> None:
    """With two waivers: Debian's own RSA key, and the key exchange without which this controller were shut out."""
    tool = str(Path(sys.executable).parent / "ssh-audit")
    done = subprocess.run([tool, "-j", "-P", POLICIES[host.release], host.ip], capture_output=True, text=True)
    verdict = json.loads(done.stdout)
    errors = {error["mismatched_field"]: error for error in verdict["errors"]}

    for algorithm in ("rsa-sha2-256", "rsa-sha2-512"):
        assert ["3072"] == errors.pop(f"Host key ({algorithm}) sizes")["actual"]
    release = {"bookworm": "12", "trixie": "13"}[host.release]
    ours = agreed(KEX[release], paramiko.Transport._preferred_kex, CURVES, GROUPS)
    more = set(ours) - set(KEX[release])
    if more:
        kex = errors.pop("Key exchanges")
        assert more == set(kex["actual"]) - set(kex["expected_required"])
        assert set(kex["expected_required"]) < set(kex["actual"])
    assert {} == errors


def test_ssh_audit_finds_nothing_that_fails(host: Machine) -> None:
    """Its general verdict: exit code 3 is a failure, 2 a warning; what it warns of is named here."""
    tool = str(Path(sys.executable).parent / "ssh-audit")
    done = subprocess.run(
        [tool, "--skip-rate-test", "-n", "-l", "warn", host.ip], capture_output=True, text=True, timeout=60
    )

    assert done.returncode in (0, 2), done.stdout
    warned = {line.split()[1] for line in done.stdout.splitlines() if "[warn]" in line}
    assert warned <= {*CURVES, *GROUPS}, "what no quantum computer may read later is all that it warns of"


def test_files_still_go_over_and_come_back(host: Machine) -> None:
    c = opened(connect(host.name, host.directory / "ssh_config"))
    try:
        with c.sftp() as sftp:
            with sftp.open("/tmp/by-sftp", "w") as file:
                file.write("there and back")
            with sftp.open("/tmp/by-sftp") as file:
                assert b"there and back" == file.read()
            sftp.remove("/tmp/by-sftp")
    finally:
        c.close()


@pytest.mark.parametrize("method", ["password", "keyboard-interactive"])
def test_no_password_is_even_asked_for(host: Machine, method: str) -> None:
    transport = paramiko.Transport((host.ip, 22))
    try:
        transport.start_client(timeout=10)
        ask: Callable[[], Any] = {
            "password": lambda: transport.auth_password("ops", "guess", fallback=False),
            "keyboard-interactive": lambda: transport.auth_interactive("ops", lambda *_: ["guess"]),
        }[method]
        with pytest.raises(paramiko.BadAuthenticationType) as refused:
            ask()
    finally:
        transport.close()
    assert ["publickey"] == refused.value.allowed_types
