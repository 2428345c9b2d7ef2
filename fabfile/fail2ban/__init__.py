"""Fail2ban: shut the door on addresses that keep guessing passwords.  (T2, step 4; T1)

A jail for every login on the host: SSH, HTTP, and FTP and mail once such a daemon is installed; and one that operators
fill by hand.
"""

from __future__ import annotations

from ..engine import Host, task
from .banning import BY_HAND, MOST, ban, unban
from .jails import status

ROOT = "/etc/fail2ban"
JAIL = f"{ROOT}/jail.local"
LOGS = f"{ROOT}/paths-overrides.local"
UNIT = "/etc/systemd/system/fail2ban.service.d/gatehouse.conf"
CHECK = "fail2ban-client -t"

FILTERS = {
    "apache2": ("apache-common", "apache-auth"),
    "haproxy": ("haproxy-http-auth",),
    "dovecot-core": ("dovecot",),
    "libapache2-mod-security2": ("gatehouse-waf", "gatehouse-flood"),
}
"""Packages whose log lines the packaged filters misread, or that have none, and the filters that put it right."""


# ---------------------------------------------------------------------- the steps


@task
def install(c):
    """T2 step 4: the package, and what it needs to read the journal, where Debian 12 and later log."""
    Host.of(c).packages("fail2ban", "python3-systemd", "iptables")


@task(
    help={
        "bantime": "seconds that an address stays out",
        "findtime": "seconds within which its failures count",
        "maxretry": "failures after which it is banned",
    },
    within=dict.fromkeys(("bantime", "findtime", "maxretry"), (1, 315_360_000)),
)
def configure(c, bantime=172800, findtime=60, maxretry=5):
    """T2 step 4, T1: our jails beside the packaged jail.conf, for every login that this host offers.

    The tutorial copies jail.conf, all commented out, and then edits the original. Here jail.local has only what
    differs. The tutorial leaves `ignoreip` empty; here the operators' addresses are in it. Bans go through iptables,
    not Debian 13's nftables, since the firewall is made of iptables. Run it again after installing an FTP or mail
    daemon, and its jail is there.
    """
    host = Host.of(c)
    host.remember_operators()
    for package, names in FILTERS.items():
        if package in host.facts.packages:
            for name in names:
                host.template(f"{ROOT}/filter.d/{name}.local", check=CHECK)
    host.template(LOGS, check=CHECK)
    limits = {"bantime": bantime, "findtime": findtime, "maxretry": maxretry}
    host.template(JAIL, check=CHECK, operators=host.operators, by_hand=BY_HAND, most=MOST, **limits)
    host.template(UNIT)


@task
def start(c):
    """T2 step 5: run it now and at every boot.

    A reload takes new filters and new sites' logs and forgets no failure. Ports and ban actions of a running jail
    change only by a restart; that puts every ban back from the database.
    """
    Host.of(c).service(
        "fail2ban",
        reload_on=[LOGS, f"{ROOT}/filter.d/", f"{ROOT}/action.d/", f"{ROOT}/jail.d/"],
        restart_on=[JAIL, UNIT],
        ready="fail2ban-client ping",
    )


STEPS = (install, configure, start)

__all__ = ["STEPS", "ban", "configure", "install", "start", "status", "unban"]
