"""System: a host that is up to date, stays so, keeps its history and knows the time.  (T2, step 1)"""

from __future__ import annotations

from .engine import Host, task
from .engine.facts import Facts

EXCLUDE = "/etc/gatehouse/history.exclude"
SYSCTL = "/etc/sysctl.d/60-gatehouse.conf"

# A script of image.render is part of what cloud-init does: to wait for that would be to wait for itself.
UPDATE = """
if [ -z "${GATEHOUSE_AT_BOOT-}" ] && command -v cloud-init; then
    say "waiting for cloud-init"
    timeout 300 cloud-init status --wait || :
fi
finish
apt update
apt dist-upgrade
touch "$home/updated"
"""

# What must stay out of the history is out of it from its first commit on, which etckeeper makes as it is installed.
HISTORY = """
mkdir -p "$box/git/info"
ln -s "$1" "$box/git/info/exclude"
export GIT_TEMPLATE_DIR="$box/git" GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=init.defaultBranch GIT_CONFIG_VALUE_0=main
if [ -e /etc/.git ]; then mkdir -p /etc/.git/info; ln -sfn "$1" /etc/.git/info/exclude; fi
apt install --no-install-recommends git etckeeper
! etckeeper unclean || etckeeper commit "the host as Gatehouse found it"
history_begins
"""


@task(
    help={"older_than": "update when the last time is longer ago than this, in hours (default 24)"},
    within={"older_than": (0, 8760)},
)
def update(c, older_than=24):
    """T2 step 1: fetch the package lists and install what is newer.

    The tutorial types it by hand; here it waits for cloud-init and for another apt, keeps the host's own conffiles,
    finishes an interrupted dpkg, and is left out when it was done within a day.  Where a package brought a newer
    conffile than the host's own, which stays, it is named.
    """
    host = Host.of(c)
    facts = host.facts
    if facts.audit or facts.clock - facts.lists_updated > float(older_than) * 3600:
        known = conffiles(facts)
        host.run("update and upgrade", UPDATE)
        for path, _ in sorted(conffiles(host.facts) - known):
            host.note(f"{path.removesuffix('.dpkg-dist')} stays the host's own; the package brought {path}: compare")
    if facts.reboot_needed:
        host.note(f"a reboot is needed ({facts.reboot_needed}): at a quiet hour, fab -H {host.name} -- sudo reboot")


def conffiles(facts: Facts) -> set[tuple[str, str]]:
    """What packages brought for files that the host has its own version of, each with its digest."""
    return {(path, entry.digest) for path, entry in facts.files.items() if path.endswith(".dpkg-dist")}


@task
def history(c):
    """Keep /etc in git by etckeeper: every change can be seen and taken back; keys and secrets stay out of it."""
    host = Host.of(c)
    host.template(EXCLUDE)
    if "etckeeper" not in host.facts.packages:
        host.run("put /etc under version control", HISTORY, EXCLUDE)


@task(help={"name": "the name that the host should have; without it, the present one stays"})
def hostname(c, name=""):
    """T2 step 2: give the host a name that it can look up itself; the tutorial edits ServerName alone."""
    host = Host.of(c)
    host.packages("libnss-myhostname")
    if name and name != host.facts.hostname:
        host.run(f"hostname {host.facts.hostname} -> {name}", 'hostnamectl set-hostname "$1"', name)


@task
def clock(c):
    """Keep the time: certificates, bans and logs depend on it (systemd-timesyncd)."""
    host = Host.of(c)
    host.packages("systemd-timesyncd")
    if host.skew:
        ahead = "ahead of" if host.skew > 0 else "behind"
        host.note(f"its clock is {abs(host.skew)} s {ahead} yours; one of the two is wrong: timedatectl")
    if host.facts.container:
        host.note("a container has its machine's clock")
    else:
        host.service("systemd-timesyncd")


@task
def upgrades(c):
    """T2 step 1: security updates install themselves; needrestart tells what still runs the old code."""
    host = Host.of(c)
    host.packages("unattended-upgrades", "needrestart", "cron")
    host.template("/etc/apt/apt.conf.d/52gatehouse", check="apt-config dump")
    host.service("unattended-upgrades")
    host.service("apt-daily-upgrade.timer")


@task
def kernel(c):
    """Kernel settings for a server on the open internet: no redirects, no source routes, SYN cookies."""
    host = Host.of(c)
    host.packages("procps")
    host.template(SYSCTL)
    load_kernel(host)


def load_kernel(host: Host) -> None:
    """The kernel takes the values as they stand in the file; without it, those it has stay until the next boot."""
    if SYSCTL not in host.facts.files:
        host.note("kernel settings stay as they are until the next boot")
        return
    # A container may set only its own network's keys; its machine's administrator sets the others.
    host.run(
        "load the kernel settings",
        'sysctl -q -p "$1" || [ -n "$2" ]',
        SYSCTL,
        host.facts.container,
        name="sysctl",
        on=[SYSCTL],
    )


STEPS = (update, history, hostname, clock, upgrades, kernel)
