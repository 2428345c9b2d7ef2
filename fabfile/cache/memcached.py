"""memcached on the cache host: it asks nobody for a password, so each site has its own, behind a port of its own."""

from __future__ import annotations

from ..engine import Host, task
from ..model.ways import cache_port
from .places import keeper, keeps, served

UNITS = "/etc/systemd/system"
UNIT = UNITS + "/gatehouse-memcached-{user}.service"
DEBIAN_S = f"{UNITS}/memcached.service"

LEAVE = """
for unit do systemctl disable --now "${unit##*/}" || :; rm -f "$unit"; done
read_units
"""


@task
def instances(c):
    """T5 VM3: a memcached a site, on the private address alone, without UDP, each with its share of the memory.

    Its port is open to the site's app hosts, and there to the site's own user; the tutorial has one for all.
    """
    host = Host.of(c)
    ours = host.facts.children(UNITS, ".service")
    there = {path for path in ours if path.startswith(UNIT.partition("{")[0])}
    wanted = {}
    if keeps(host, "memcached"):
        wanted = {UNIT.format(user=site.owner): site for site in served(host)}
        # Debian's own would open a port for everybody at its installation.
        host.link(DEBIAN_S, "/dev/null")
        host.packages("memcached")
    if gone := sorted(there - wanted.keys()):
        host.run(f"{len(gone)} memcached of sites that went stop", LEAVE, *gone)
    for path, site in wanted.items():
        one = keeper(host)
        assert one
        host.template(
            UNIT,
            user=site.owner,
            site=site,
            address=str(one.address),
            port=cache_port(host.fleet, site),
            memory_mb=share(host.fleet.cache.memory_mb, len(wanted)),
        )
        host.service(path.rpartition("/")[2], restart_on=[path])


def share(memory_mb: int, sites: int) -> int:
    """A site's part, as a power of two: one site more need not empty the others' memory."""
    return max(4, 1 << max(memory_mb // max(sites, 1), 1).bit_length() - 1)
