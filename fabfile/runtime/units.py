"""Sites' own programs: a server, SCGI or Tomcat as a unit under the site's user.  (T4 "Multiple web servers", SCGI)

A program listens at a socket in a directory that its user and Apache alone can enter.  There are two instances, of
which one serves: the other one starts for a new release, a link leads to it once it answers, and the one before ends
when the requests that it is at are done.
"""

from __future__ import annotations

from ..engine import Host, task
from ..model import UNITS, Site, Zone
from . import slices, tomcat

TURN = "/usr/local/sbin/gatehouse-turn"
PROGRAMS = "/etc/gatehouse/units"
PLACE = slices.PLACE

# OVER UNIT TREE: a site that nothing was deployed to has no program yet: its first deploy starts it.
OVER = """
read_units
grep -q 'until the first deploy' "$2/$(readlink "$2/public_html").from" || gatehouse-turn over "$1" ||
    fail "$1 did not come up: journalctl -u '$1@*'"
"""
# ENDS UNIT...: and all that was made for it; the slice with its site's last one.
ENDS = """
for unit do
    short=${unit#gatehouse-}
    owner=${short%%:*} name=${short#*:}
    gatehouse-turn ends "$unit"
    rm -rf -- "/etc/systemd/system/$unit@.service" "/etc/gatehouse/units/$short.sh" \\
        "/etc/gatehouse/tomcat/$owner.$name" "/etc/gatehouse/secrets/ajp/$owner.$name" \\
        "/etc/gatehouse/secrets/ajp/$owner.$name.conf" "$home/loaded/gatehouse-$owner.$name.turn"
    ls /etc/systemd/system/gatehouse-"$owner":*@.service ||
        rm -f -- "/etc/systemd/system/gatehouse-$(echo "$owner" | tr - :).slice"
done
read_units
"""


def unit(zone: Zone) -> str:
    """What its unit is called, without its instance."""
    return f"gatehouse-{zone.owner}:{zone.name}"


def own(site: Site) -> tuple[Zone, ...]:
    """Where the site has programs of its own."""
    return tuple(zone for zone in site.zones if zone.runtime in UNITS)


@task
def units(c):
    """T4 "Multiple web servers", T4 SCGI, T4 mod_jk: each site's own programs, under its user, in its limits.

    What changed starts beside what serves, and takes over once it answers: nobody waits, and no request is lost.
    """
    host = Host.of(c)
    wanted = [(site, zone) for site in host.chosen for zone in own(site)]
    if not wanted:
        return
    host.template(TURN, mode=0o755)
    host.directory(PROGRAMS)
    for site, zone in wanted:
        if zone == own(site)[0]:
            slices.slice_of(host, site)
        _unit(host, site, zone)


def _unit(host: Host, site: Site, zone: Zone) -> None:
    name = unit(zone)
    program = f"{PROGRAMS}/{name.removeprefix('gatehouse-')}.sh"
    environment, command, more = tomcat.instance(host, site, zone) if zone.runtime == "ajp" else ((), zone.command, ())
    short = name.removeprefix("gatehouse-")
    host.template(f"{PROGRAMS}/{{name}}.sh", name=short, zone=zone, site=site, command=command)
    inside = [f"-{site.served}/{room}/{path}" for path in site.writable for room in ("_app", "_")]
    file = host.template(
        f"{PLACE}/{{unit}}@.service",
        unit=name,
        zone=zone,
        site=site,
        slice=slices.name(site.owner),
        limits=site.limits,
        program=program,
        ready=TURN,
        environment=environment,
        writable=[f"{site.root}/tmp", f"{site.root}/shared", *inside],
    )
    taken = [file, program, f"{PLACE}/{slices.name(site.owner)}", *more]
    runs = any(
        (now := host.facts.units.get(f"{name}@{n}.service")) is not None and now.active == "active" for n in (1, 2)
    )
    turned = f"{name.replace(':', '.')}.turn"  # what the host remembers has no colon in its name
    if not runs:
        host.facts.loaded.pop(turned, None)
    host.run(f"{name} serves", OVER, name, site.root, name=turned, on=taken)


@task
def ended(c):
    """T4 "Multiple web servers": programs that no site has any more end, once Apache asks others."""
    host = Host.of(c)
    wanted = {unit(zone) for site in host.sites for zone in own(site)}
    there = {name for name in _there(host) if not host.narrowed or name.partition(":")[0][10:] in _owners(host)}
    if gone := sorted(there - wanted):
        host.run(f"{', '.join(gone)} end", ENDS, *gone)


def end(host: Host, owner: str) -> None:
    """The programs of a site that is removed end, and all that was made for them goes."""
    if gone := sorted(name for name in _there(host) if name.partition(":")[0] == f"gatehouse-{owner}"):
        host.run(f"{', '.join(gone)} end", ENDS, *gone)


def _there(host: Host) -> set[str]:
    """The units of sites' programs that the host has."""
    names = (path.rpartition("/")[2].removesuffix("@.service") for path in host.facts.children(PLACE, "@.service"))
    return {name for name in names if name.startswith("gatehouse-") and ":" in name}


def _owners(host: Host) -> set[str]:
    return {site.owner for site in host.chosen}
