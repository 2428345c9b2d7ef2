"""A host with a tree of its own that follows the files host's.  (T5 VM1, VM2)"""

from __future__ import annotations

from .. import php, release
from ..engine import Host, task
from ..engine.render import Block
from .serving import UNITS, keeper

PROGRAM = "/usr/local/sbin/gatehouse-sync"
LIST = "/etc/gatehouse/sync"
SERVICE = f"{UNITS}/gatehouse-sync.service"
TIMER = f"{UNITS}/gatehouse-sync.timer"

FIRST = f"""
progress {PROGRAM} || fail "the sites' files did not come: is the files host up, and does it know this one?"
"""


@task(help={"seconds": "how often it is asked what serves there"}, within={"seconds": (1, 3600)})
def follow(c, seconds=5):
    """T5 VM1, VM2, without NFS: every release comes whole, then one rename lets it serve; what goes there goes here.

    A timer asks the files host; site.deploy does not wait for it. The files are fetched as the site's user, over a
    connection that root opened: no other program of this host may speak to the files host.
    """
    host = Host.of(c)
    if host.fleet.keeps_files(host.name) or host.fleet.files.mount != "sync":
        return
    host.packages("rsync", "socat")
    address, where = keeper(host)
    words = "".join((release.HERE / f"{name}.sh").read_text() for name in ("words", "hear"))
    host.template(PROGRAM, mode=0o755, address=address, keeper=where, words=Block(words), check=f"sh -n {PROGRAM}")
    program = php.version(host) if "web" in host.fleet.roles(host.name) else ""
    host.template(LIST, php=program, patience=release.patience, patterns=release.patterns)
    host.template(SERVICE)
    host.template(TIMER, seconds=int(seconds))
    if any(one.served not in host.facts.files for one in host.sites):
        host.run("get the sites' files", FIRST)
    host.service("gatehouse-sync.timer", restart_on=[TIMER])
