"""The rules only watch, for a while: what they find is logged, and passes."""

from __future__ import annotations

from ..engine import Host, Problem, task
from ..model import duration
from .guarding import guarded
from .places import CONF, FOR_NOW

WATCH_FOR, MOST = "1h", "7d"
TIMER = "gatehouse-waf-enforce"

# Armed before anything changes, on the host itself: nobody need be awake.  A reboot ends it as well, since /run is new
# then.  A reload that Apache refuses is tried again until somebody has put right what it refuses.
WATCH = f"""
systemctl stop {TIMER}.timer 2> /dev/null || :
systemctl reset-failed {TIMER}.service 2> /dev/null || :
systemd-run -q --collect --unit={TIMER} --on-active="$1" --timer-property=AccuracySec=1s \
    --property=Restart=on-failure --property=RestartSec=10 \
    /bin/sh -c 'rm -rf {FOR_NOW}; apache2ctl -t && systemctl reload apache2'
mkdir -p {FOR_NOW}
date -d "+$1 seconds" '+%F %T' > {FOR_NOW}/until
ln -sfn {CONF}/gatehouse-detect.conf {FOR_NOW}/detect.conf
if ! apache2ctl -t || ! systemctl reload apache2; then rm -rf {FOR_NOW}; exit 1; fi
"""
ENFORCE = f"""
systemctl stop {TIMER}.timer 2> /dev/null || :
rm -rf {FOR_NOW}
apache2ctl -t
systemctl reload apache2
"""
UNTIL = f"cat {FOR_NOW}/until 2> /dev/null || :"


def until(host: Host) -> str:
    """Until when the rules only watch, in the host's time; empty when they do not, or for good."""
    return host.ask(UNTIL).strip()


@task(help={"for_": f"how long: 30m, 2h, at most {MOST}; without it {WATCH_FOR}"})
def detect_only(c, for_=WATCH_FOR):
    """On call: the rules refuse nobody for a while; what they find is logged as ever.  It ends by itself.

    For customers whom a rule keeps from their work while you find out which: `waf.report`, then `exclude:` of the route
    in fleet.yml.  Limits, floods and jails hold all the while.  Earlier: `waf.enforce`.
    """
    seconds = duration(for_, "--for", MOST)
    host = Host.of(c)
    guarded(host)
    _has(host)
    host.run(f"the rules only watch for {for_}", WATCH, str(seconds))
    if not host.dry:
        host.flush()
        host.note(f"until {until(host)}; earlier with: fab -H {host.name} waf.enforce")


@task
def enforce(c):
    """On call: the rules refuse again what they find, before the time of `waf.detect-only` is over."""
    host = Host.of(c)
    balancer = guarded(host)
    _has(host)
    if not until(host):
        watches = balancer.waf.engine == "detect"
        host.note("fleet.yml says that they only watch (engine: detect)" if watches else "they do already")
        return
    host.run("the rules refuse again", ENFORCE)


def _has(host: Host) -> None:
    if f"{CONF}/gatehouse-detect.conf" not in host.facts.files:
        raise Problem(f"{host.name} has no web application firewall", f"fab -H {host.name} waf")
