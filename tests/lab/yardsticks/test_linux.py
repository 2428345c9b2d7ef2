"""dev-sec's linux-baseline on both releases, control by control.

Its kernel values are judged as rendered (tests/templates/test_kernel.py), and live on the witness (test_witness.py).
"""

from __future__ import annotations

import re
from typing import Any

from ..machine import Machine
from .yardstick import Yardstick

LINUX = Yardstick("dev-sec linux-baseline")

WAIVERS = {
    "os-05 PASS_MAX_DAYS": "an expired password locks out a login by key, too: NIST SP 800-63B 5.1.1.2 is against it",
    "os-05 PASS_MIN_DAYS": "as above: no login here has a password that could be tried",
    "package-08": "the audit daemon needs a kernel of its own; it comes with the chapter selinux",
}


def told(host: Any, command: str) -> list[str]:
    """The lines that a command prints."""
    lines: list[str] = host.run(command).stdout.splitlines()
    return lines


@LINUX.control("os-01")
def no_equivalent_hosts(host: Any) -> bool:
    return not host.file("/etc/hosts.equiv").exists


@LINUX.control("os-02")
def shadow_is_closed(host: Any) -> bool:
    files = [host.file("/etc/shadow"), host.file("/etc/gshadow")]
    return all((file.user, file.group, file.mode) == ("root", "shadow", 0o640) for file in files)


@LINUX.control("os-03")
def passwd_holds_no_hash(host: Any) -> bool:
    return bool(host.file("/etc/passwd").mode == 0o644) and not told(host, "awk -F: '$2 != \"x\"' /etc/passwd")


@LINUX.control("os-04")
def root_runs_nothing_from_here_or_there(host: Any) -> bool:
    path = told(host, "bash -lc 'echo $PATH'")[0].split(":")
    return all(part.startswith("/") for part in path) and not told(
        host, f"find -L {' '.join(path)} -maxdepth 0 -perm /022 2> /dev/null"
    )


for key, value in {
    "UMASK": "027",
    "PASS_MAX_DAYS": "60",
    "PASS_MIN_DAYS": "7",
    "PASS_WARN_AGE": "7",
    "LOGIN_RETRIES": "5",
    "LOGIN_TIMEOUT": "60",
    "UID_MIN": "1000",
    "GID_MIN": "1000",
}.items():

    @LINUX.control(f"os-05 {key}")
    def login_definition(host: Any, key: str = key, value: str = value) -> bool:
        return told(host, f"awk '$1 == \"{key}\" {{ print $2 }}' /etc/login.defs") == [value]


# What dev-sec lists and a Debian server could have.
NO_SETUID = (
    "/usr/lib/openssh/ssh-keysign /usr/bin/rcp /usr/bin/rlogin /usr/bin/rsh /usr/sbin/userhelper "
    "/usr/lib/evolution/camel-lock-helper-1.2 /usr/bin/dotlockfile /usr/bin/dotlock /usr/sbin/uuidd /usr/bin/lockfile "
    "/usr/bin/mail-lock /usr/bin/mail-unlock /usr/bin/mail-touchlock /usr/bin/arping /usr/bin/traceroute6.iputils "
    "/usr/sbin/pppd /usr/bin/mtr /usr/lib/pt_chown /usr/lib/eject/dmcrypt-get-device /usr/bin/kismet_capture"
)


@LINUX.control("os-06")
def no_program_borrows_rights_without_need(host: Any) -> bool:
    return not told(host, f"find {NO_SETUID} -perm /6000 2> /dev/null")


@LINUX.control("os-07")
def every_number_is_one_account(host: Any) -> bool:
    return not told(host, "cut -d: -f3 /etc/passwd | sort | uniq -d; cut -d: -f3 /etc/group | sort | uniq -d")


@LINUX.control("os-09")
def no_rhosts_and_no_netrc(host: Any) -> bool:
    return not told(host, "find / -xdev -maxdepth 3 \\( -iname .rhosts -o -iname .netrc \\)")


@LINUX.control("os-10")
def file_systems_of_no_use_stay_unloaded(host: Any) -> bool:
    rules = "\n".join(told(host, "cat /etc/modprobe.d/*.conf"))
    names = ("cramfs", "freevxfs", "jffs2", "hfs", "hfsplus", "squashfs", "udf", "vfat")
    return all(re.search(rf"(?m)^install {name} /bin/(true|false)$", rules) for name in names if name != "vfat")


@LINUX.control("os-11")
def logs_are_root_s(host: Any) -> bool:
    return bool(host.file("/var/log").user == "root")


@LINUX.control("os-13")
def only_root_reads_the_tables_of_cron(host: Any) -> bool:
    found = told(host, "stat -c '%n %U %a' /etc/crontab /etc/cron.d /etc/cron.hourly /etc/cron.daily /etc/cron.weekly "
                       "/etc/cron.monthly /etc/cron.d/*")  # fmt: skip
    return all(re.fullmatch(r"\S+ root [0-7]00", line) for line in found if "placeholder" not in line)


@LINUX.control("os-14, os-15, os-16")
def shared_memory_holds_no_programs(host: Any) -> bool:
    options = told(host, "findmnt -no OPTIONS /dev/shm")[0].split(",")
    return {"noexec", "nosuid", "nodev"} <= set(options)


@LINUX.control("package-01 to package-06, package-09")
def no_daemons_of_old(host: Any) -> bool:
    names = ("inetd", "xinetd", "telnetd", "rsh-server", "ypserv", "tftpd-hpa", "prelink")
    return not any(host.package(name).is_installed for name in names)


@LINUX.control("package-08")
def the_audit_daemon_is_there(host: Any) -> bool:
    return bool(host.package("auditd").is_installed)


def test_linux_baseline(host: Machine) -> None:
    LINUX.judge(host.testinfra, WAIVERS)
