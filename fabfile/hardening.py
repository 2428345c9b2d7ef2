"""Hardening: what outside auditors look for beyond the services.  (dev-sec linux-baseline, CIS Debian, Lynis)

What is waived, and why, stands with the tests: `tests/lab/yardsticks/`.
"""

from __future__ import annotations

from .engine import Host, task

LOGINS = "/etc/login.defs"
MEMORY = "/etc/systemd/system/gatehouse-memory.service"
SETUID = "/etc/gatehouse/no-setuid"
BANNERS = ("/etc/issue", "/etc/issue.net")
BANNER = """\
This is a private, restricted system. Access is for authorized persons only and may be monitored.
By policy of its owner, unauthorized access is prosecuted by all legal means.
"""
CRON = ("cron.d", "cron.hourly", "cron.daily", "cron.weekly", "cron.monthly")

# dpkg keeps such an override over every upgrade of the package (dpkg-statoverride(1)).
TAKE_RIGHTS = """
while read -r program; do
    [ -e "$program" ] && ! dpkg-statoverride --list "$program" || continue
    dpkg-statoverride --update --add root root 0755 "$program"
done < "$1"
"""


@task
def logins(c):
    """New accounts' files are closed to others, a password must be worth the name, an idle shell ends by itself."""
    host = Host.of(c)
    host.packages("libpam-pwquality")
    host.template(LOGINS)
    host.template("/etc/profile.d/gatehouse.sh")


@task
def banner(c):
    """Who connects is told whose this is, before any login; the name of the system is not told."""
    host = Host.of(c)
    for path in BANNERS:
        host.file(path, BANNER)


@task
def cron(c):
    """Only root reads the tables of cron: they tell what runs when, and with which arguments."""
    host = Host.of(c)
    for name in CRON:
        host.directory(f"/etc/{name}", mode=0o700)
    open_files = [
        path
        for path, file in host.facts.files.items()
        if file.kind == "f" and file.mode & 0o077 and path.startswith(("/etc/crontab", "/etc/cron.d/"))
    ]
    if open_files:
        host.run("close the tables of cron", 'chmod go= "$@"', *sorted(open_files))


@task
def modules(c):
    """The kernel loads no file systems and protocols that a web server never meets, each a way in once."""
    Host.of(c).template("/etc/modprobe.d/gatehouse.conf")


@task
def dumps(c):
    """A program that crashes writes no image of its memory, which may hold keys."""
    host = Host.of(c)
    host.template("/etc/security/limits.d/60-gatehouse.conf")
    host.template("/etc/systemd/coredump.conf.d/gatehouse.conf")


@task
def memory(c):
    """Shared memory, which everybody may write, holds no programs; the kernel mounts it before any fstab is read."""
    host = Host.of(c)
    if host.facts.container:
        host.note("a container's shared memory is its machine's affair")
        return
    host.template(MEMORY)
    host.service("gatehouse-memory", restart_on=[MEMORY])


@task
def programs(c):
    """Programs that borrow root's rights and that nothing here needs lose them, also over upgrades."""
    host = Host.of(c)
    host.template(SETUID)
    host.run("take the rights of programs that need none", TAKE_RIGHTS, SETUID, name="setuid", on=[SETUID])


@task
def audits(c):
    """Every week the files of all packages are compared with what their packages say; differences go to the journal."""
    host = Host.of(c)
    host.packages("debsums")
    host.template("/etc/default/debsums")


STEPS = (logins, banner, cron, modules, dumps, memory, programs, audits)
