"""`inv fleet.replace HOST`: another takes its place, and no visitor notices.  (T5: a node is made anew, not changed)

The new one is in fleet.yml beside the old one, with weight 0: so every edge knows it, and leads nobody there before it
is proved.  What is written in fleet.yml is the operator's, before and afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

from invoke import Context, Exit

from .. import release
from ..engine import Host, Problem, console
from ..engine.pool import FLEET, WORKERS, Crew, chosen_fleet
from ..engine.problems import StepFailed
from ..engine.tasks import Told
from ..haproxy.ramp import climb
from ..haproxy.traffic import FULL, take_away
from ..model import Fleet, Machine, Refusal, Site
from ..model import Problem as Wrong
from ..model.ways import VARNISH
from .making import Making
from .order import FIRST
from .rows import show

HELP = {
    "host": "the host that goes, one that makes pages",
    "by": "the one that comes; without it, the one that has weight 0 in fleet.yml",
    "every": "seconds after which it gets another quarter of its visitors, if all is well",
    "wait": "seconds to wait for the end of the requests that the old one is at",
    "fleet": FLEET,
}
WITHIN = {"every": (1, 3600), "wait": (0, 3600)}

QUARTER = 25
PATIENCE = 20
"""Seconds that a page may take which proves a host."""

# ASK ADDRESS PORT DOMAIN PAGE PATIENCE EDGE: what Varnish of another host answers to this edge, which speaks as its
# HAProxy does (PROXY protocol; Varnish takes no UNKNOWN), for itself.  No answer to that question is kept.
ASK = r"""
page=$4?
case $4 in *\?*) page="$4&" ;; esac
case $1 in *:*) family=TCP6 ;; *) family=TCP4 ;; esac
printf '%s\r\n' "PROXY $family $6 $1 40000 $2" "GET ${page}gatehouse=$(date +%s%N) HTTP/1.1" > "$box/request"
printf '%s\r\n' "Host: $3" 'User-Agent: gatehouse' 'Accept: */*' 'X-Forwarded-Proto: https' 'Connection: close' '' \
    >> "$box/request"
timeout "$5" bash -c 'exec 4<> "/dev/tcp/$1/$2"; cat "$3" >&4; cat <&4' ask "$1" "$2" "$box/request" \
    2> /dev/null | sed -n '1s,^HTTP/1\.[01] \([0-9]\{3\}\).*,\1,p'
"""


def replace(_c: Context, host: str, by: str = "", every: int = 5, wait: int = 60, fleet: str = "") -> None:
    """T5: make a new host, prove it, give it the visitors quarter by quarter, and drain the old one; nobody notices.

    The new one stands in fleet.yml already, with `weight: 0`. It is bootstrapped, with what must let it in (database,
    cache, files, edges); every edge asks it for a page of each site; only then visitors come. When more requests fail
    there, it gets none again. Typed again, it goes on from there. Exit code 1 when something failed.
    """
    found = chosen_fleet(fleet, "a host by itself is not replaced, it is set up: fab -H vps bootstrap")
    old, new = found.machine(host), chosen(found, host, by)
    edges = [edge.name for edge in found.edges_of(host)]
    others = [one.name for role in FIRST if (one := found.one(role))]
    making = Making(found, [*dict.fromkeys((*others, new.name, *edges))], WORKERS, as_json=False, dry=False)
    rows = making.run()
    show(rows, as_json=False, dry=False)
    again = f"inv fleet.replace {host}{f' --by {by}' if by else ''}"
    if making.stopped:
        raise Exit(code=130)
    if not all(row.well for row in rows):
        raise Exit(f"{old} serves as before; next: {again}  (it goes on from there)", code=1)
    sites = served_by(found, old)
    with Told(None), Crew(found, [old.name, new.name, *edges]) as crew:
        _brought(crew, old, new, sites)
        for edge in edges:
            _proved(crew.hosts[edge], old, new, sites)
        for edge in edges:
            climb(crew.hosts[edge], new.name, FULL, QUARTER, every)
        for edge in edges:
            take_away(crew.hosts[edge], old.name, "drain", wait, force=False)
    for line in (
        f"{new} has the visitors of {old}.  What is left to do: in fleet.yml, delete {old}, and `weight: 0` of {new};",
        "then: inv fleet.bootstrap  (no edge leads to the old one any more, and nobody lets it in)",
    ):
        console.print(line, markup=False)


def chosen(fleet: Fleet, host: str, by: str) -> Machine:
    """The machine that takes the place of `host`.  Raises Refusal when there is none, or none can."""
    old = fleet.machine(host)
    more = [role for role in old.roles if role not in ("app", "web")]
    if not old.serves or more:
        raise _no(f"{old} is there as {' and '.join(old.roles)}; hosts are replaced that make pages and nothing else")
    if not fleet.edges_of(host):
        raise _no(f"visitors come to {old} itself: no edge could lead them to another one", "roles: [edge]")
    if fleet.edge.server != "haproxy":
        raise _no(f"the edges are {fleet.edge.server}, which is told of another host by fleet.yml alone")
    new = fleet.machine(by) if by else _waiting(fleet, old)
    if new is old:
        raise _no(f"{old} is to go, and cannot take its own place", f"inv fleet.replace {host} --by app2")
    if not new.serves:
        message = f"{new} makes no pages: it is there as {' and '.join(new.roles)}"
        raise _no(message, f"{new}: {{roles: [app], weight: 0}}")
    if new.weight:
        raise _no(f"{new} has weight {new.weight}: visitors would come before it is proved", f"{new}: {{weight: 0}}")
    if apart := [edge.name for edge in fleet.edges_of(host) if edge not in fleet.edges_of(new.name)]:
        message = f"{apart[0]} leads to {old} and not to {new}: they share no pool"
        raise _no(message, f"main: [{apart[0]}, {old}, {new}]")
    if strange := [site for site in served_by(fleet, old) if new not in fleet.webs_of(site)]:
        hosts = ", ".join(web.name for web in (*fleet.webs_of(strange[0]), new))
        raise _no(f"{strange[0]} is on {old} and not on {new}, as its file says", f"hosts: [{hosts}]")
    return new


def served_by(fleet: Fleet, machine: Machine) -> list[Site]:
    """The sites whose pages this machine makes."""
    return [site for site in fleet.all_sites if machine in fleet.webs_of(site)]


def _waiting(fleet: Fleet, old: Machine) -> Machine:
    """The one with weight 0, beside this one, that nobody has named."""
    found = [web for web in fleet.webs if not web.weight and web is not old]
    if len(found) != 1:
        several = f": {', '.join(map(str, found))}; say which" if found else ""
        message = f"{len(found) or 'no'} hosts of fleet.yml make pages and have weight 0{several}"
        raise _no(message, f"inv fleet.replace {old} --by {found[0]}" if found else "app2: {roles: [app], weight: 0}")
    return found[0]


def _no(message: str, example: str = "") -> Refusal:
    return Refusal(Wrong(message, example=example))


def _brought(crew: Crew, old: Machine, new: Machine, sites: Sequence[Site]) -> None:
    """Raises StepFailed where hosts have the files themselves, and the new one has not the release that serves."""
    if crew.hosts[new.name].fleet.one("files"):
        return
    answers = crew.each([old.name, new.name], lambda host: {one: release.serving(host.facts, one) for one in sites})
    before, now = answers[old.name], answers[new.name]
    if isinstance(now, Problem):
        raise now
    if isinstance(before, Problem):
        console.print(f"which releases {old} serves cannot be asked: {before.message}", markup=False)
        return
    if missing := [one for one in sites if before[one] and not now[one]]:
        raise StepFailed(
            f"{new} has no release of {', '.join(map(str, missing))}, as {old} has",
            f"fab -H {new} site.deploy {missing[0]} --source DIR; then the same again",
        )


def _proved(edge: Host, old: Machine, new: Machine, sites: Sequence[Site]) -> None:
    """The edge asks for each site's page there.  Raises StepFailed for one that is not as it should be, or was."""
    for one in sites:
        status, expected, before = _status(edge, new, one), str(one.deploy.expect), ""
        if status != expected and (not status or status != (before := _status(edge, old, one))):
            raise StepFailed(
                f"{new} answers {status or 'nothing'} to {edge.name} for https://{one}{one.deploy.smoke}; "
                f"{expected} is expected{f', and {old} answers {before}' if before else ''}",
                f"find out why: fab -H {new} logs {one}; then the same again",
            )
    console.print(f"{edge.name}  {new} answers for {len(sites)} sites as it should", markup=False)


def _status(edge: Host, web: Machine, site: Site) -> str:
    """What the host answers to the edge for the site's page; empty: nothing."""
    here = edge.fleet.machine(edge.name).address
    words = web.address, VARNISH, site.domain, site.deploy.smoke, PATIENCE, here
    return edge.ask(ASK, *map(str, words)).strip()
