"""Firewall: SSH, HTTP and HTTPS come in, nothing else does, over IPv4 and IPv6 alike.  (T2, step 5)

The rules live in chains of their own: GATEHOUSE, to which INPUT jumps, and from there GATEHOUSE-NOW, what an operator
allowed or denied for a while; and GATEHOUSE-INNER, which hangs from OUTPUT on the loopback.  fail2ban's chains stand
before them and are never touched.  Both families come from one list.
"""

from __future__ import annotations

from ..engine import Host, task
from .drilling import drill
from .loading import guard, load
from .loading import layers as rules_between
from .loading import persist as persist_
from .passing import allow, deny
from .reading import show
from .rules import TOOLS, of_family

FAILSAFE = "/usr/local/sbin/gatehouse-failsafe"
FAILSAFE_UNIT = "/etc/systemd/system/gatehouse-failsafe.service"

SAVER = "iptables-persistent"


@task
def install(c):
    """T2 step 5: iptables, and the service that loads the rules at boot.

    Its question whether to save the present rules is answered with no: that would keep bans and other programs' rules.
    """
    answers = [f"{SAVER} {SAVER}/autosave_{family} boolean false" for family in ("v4", "v6")]
    Host.of(c).packages("iptables", SAVER, "netfilter-persistent", answers=answers)


@task
def operators(c):
    """Remember the address that you come from, so that neither the rules nor a ban shut you out."""
    Host.of(c).remember_operators()


@task
def failsafe(c):
    """At boot, where the rules could not be loaded: SSH comes in and nothing else, instead of everything.

    `status` then names the unit gatehouse-failsafe as failed, and `firewall` mends it.
    """
    host = Host.of(c)
    bastions = {family: of_family(family, host.bastions) for family in TOOLS} if host.bastions else {}
    host.template(FAILSAFE, check=f"sh -n {FAILSAFE}", mode=0o755, bastions=bastions)
    host.template(FAILSAFE_UNIT)
    host.service("gatehouse-failsafe")


@task
def apply(c):
    """T2 step 5: loopback, answers to what we asked, SSH on the port it really has, 80 and 443; then DROP.

    The tutorial appends its rules one by one and could lock you out half-way.  Here both families change in one commit
    each, the way back is armed on the host first, and a second SSH connection must get in before it is disarmed.
    `open:` in fleet.yml has more ports; one that is needed for hours alone is `firewall.allow`.
    """
    guard(Host.of(c))
    load(Host.of(c))


@task
def persist(c):
    """T2 step 5: the same rules at every boot, written by us.

    `netfilter-persistent save` would also keep fail2ban's bans and other programs' rules.
    """
    persist_(Host.of(c))


@task
def layers(c):
    """T2 step 5: on the loopback, only a layer speaks to the one behind it; a site's program has no business there.

    Needs Varnish's and HAProxy's users, so `bootstrap` comes here again once they are installed.
    """
    host = Host.of(c)
    if not rules_between(host):
        host.note("no layers to guard yet")
        return
    load(host)
    persist_(host)


STEPS = (install, operators, apply, persist, failsafe)

__all__ = [
    "STEPS", "allow", "apply", "deny", "drill", "failsafe", "guard", "install", "layers", "operators", "persist",
    "show",
]  # fmt: skip
