"""What the tests of faults compare before and after: every file, every byte, every service, a visitor's request."""

from __future__ import annotations

from ..machine import Machine, Stranger

LISTING = (
    "find /etc /usr/local /var/www /var/lib/gatehouse -path /etc/.git -prune -o -path '*/log/*' -o "
    "-printf '%p %y %m %u %g %s %T@ %l\\n' 2> /dev/null | sort; dpkg -l | sha256sum"
)
"""Every name, mode, owner, size and time of what a run could touch."""

OURS = "find /etc /usr/local/sbin -xdev -path /etc/.git -prune -o -path /etc/.etckeeper -prune -o -type f"
FILES = (
    f"{OURS} -printf '%p\\t%m %u:%g\\n'; {OURS} -print0 | xargs -0 sha256sum | "
    "sed 's/^\\([^ ]*\\)  \\(.*\\)/\\2\\t\\1/'"
)
UNITS = "haproxy varnish apache2 php8.4-fpm redis-server fail2ban cron"


def listing(machine: Machine) -> str:
    """Every name, mode, owner, size and time of what a run could touch."""
    return machine.check(LISTING)


def files(machine: Machine) -> dict[str, str]:
    """Every file of /etc and what is installed beside it: mode, owner and SHA-256, by path."""
    found: dict[str, str] = {}
    for line in machine.check(FILES).splitlines():
        path, _, told = line.partition("\t")
        found[path] = f"{found[path]} {told}" if path in found else told
    return found


def managed(machine: Machine) -> list[str]:
    """The files that say they were written by Gatehouse, and three of those that have no room for it."""
    others = "--exclude-dir=.git --exclude-dir=sites --exclude='*.gone'"
    grep = f"grep -rlE '(Managed|Written) by Gatehouse' /etc /usr/local {others}"
    said = machine.check(grep).split()
    return [*said, "/etc/haproxy/hosts.map", "/etc/haproxy/cache.map", "/etc/gatehouse/operators"]


def serves(machine: Machine, stranger: Stranger) -> None:
    """All services are up, and a visitor gets a page of PHP's and one of another site, neither from the cache."""
    assert {"active"} == set(machine.check(f"systemctl is-active {UNITS}").split())
    for site in ("example.com", "kiosk.co.test"):
        answer = stranger.curl(
            "-o", "/dev/null", "-w", "%{http_code}", "-H", "Cache-Control: no-cache", f"https://{site}/?{site}",
            to=machine,
        )  # fmt: skip
        assert (0, "200") == (answer.rc, answer.out), answer
