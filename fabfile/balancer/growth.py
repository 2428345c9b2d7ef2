"""A route gets one more host, or one less, while visitors come.  (T3: "add a webserver_three machine")

Who is behind a route is said in fleet.yml alone, so these two bring to Apache what was changed there: by a graceful
reload, over which every other member keeps its state.  Apache could be told at run time too (BalancerGrowth), but would
have forgotten the newcomer at its next reload, and can let nobody go.
"""

from __future__ import annotations

from invoke import Exit

from ..engine import Host, Problem, console, query, steps
from ..model import Problem as Wrong
from ..model import Refusal
from ..model.ways import port_of
from .manager import LOOK, asked, look, read
from .pools import Member, Pool, front
from .states import finish, of_route

ANSWERS = r"""
# Whether a host answers the balancer, as its health check will ask it.
exec 2>&1
timeout 3 bash -c 'exec 3<> "/dev/tcp/$0/$1" || exit
    printf "HEAD %s HTTP/1.0\r\nHost: %s\r\n\r\n" "$2" "$0" >&3
    read -r _ status _ <&3 && echo "$status"' "$1" "$2" "$3" || echo "no answer within 3 s"
"""

WHAT = {"route": "as in fleet.yml, such as /paid_user", "member": "a host's name in fleet.yml"}


@query(positional=["route", "member"], help=WHAT)
def add(c, route, member):
    """On call: lead a route's visitors to a host too, which fleet.yml names there by now.

    The host is asked first, from the balancer: one that does not answer, or with 5xx, is not added (exit code 1). Then
    Apache is reloaded gracefully: no request is lost, and nobody else's state changes.
    """
    from . import STEPS  # the chapter, of which this is a part

    host = Host.of(c)
    pool = of_route(host, route)
    found = pool.member(member)
    if found is None:
        here = ", ".join(one.host for one in pool.members)
        example = f"{pool.path}: {{members: [{', '.join(pool.route.members)}, {member}]}}"
        message = f"{pool.path} leads to {here}, and not to {member}"
        raise Refusal(Wrong(message, host.fleet.file, key="balancer.routes", example=example))
    if _known(host, pool.name, found):
        console.print(f"{host.name}  {pool.path} leads to {member} already", markup=False)
        return
    said = host.ask(ANSWERS, found.address, str(found.port), pool.route.health).strip().splitlines()
    if not said or not said[-1].isdigit() or said[-1].startswith("5"):
        raise Problem(
            f"{member} does not answer {host.name} at {found.url}: {said[-1] if said else 'nothing'}; it is not added",
            f"its firewall knows of the route after: fab -H {member} bootstrap; then the same again",
        )
    with host.running("balancer.add"):
        steps(c, *STEPS)
    if host.dry:
        return
    rows = [row for row in look(host) if (row.pool, row.member) == (pool.name, member)]
    console.print(f"{host.name}  {pool.path} {member}: {rows[0].state}", markup=False)
    if not rows[0].up:
        raise Exit(code=1)


@query(positional=["route", "member"], help={**WHAT, "wait": "seconds to wait for the end of its requests"},
       within={"wait": (0, 3600)})  # fmt: skip
def remove(c, route, member, wait=60):
    """On call: lead nobody of a route to a host any more, which fleet.yml does not name there by now.

    It is drained first, and its requests are waited for; then Apache is reloaded gracefully.
    """
    from . import STEPS

    host = Host.of(c)
    pool = of_route(host, route)
    if pool.member(member):
        example = f"fab -H {host.name} balancer.drain {member} --route {pool.path}"
        message = f"fleet.yml leads {pool.path} to {member} still"
        raise Refusal(Wrong(message, host.fleet.file, key="balancer.routes", example=example))
    gone = _url(host, pool, member)
    if (pool.name, gone) not in _told(host):
        console.print(f"{host.name}  {pool.path} does not lead to {member}", markup=False)
        return
    if not host.dry:
        finish(host, pool.name, gone, member, wait)
    with host.running("balancer.remove"):
        steps(c, *STEPS)


def _told(host: Host) -> dict[tuple[str, str], dict[str, str]]:
    return read(asked(host, LOOK))


def _known(host: Host, pool: str, member: Member) -> bool:
    """Whether Apache leads to it already."""
    front(host)
    return (pool, member.url) in _told(host)


def _url(host: Host, pool: Pool, member: str) -> str:
    """As Apache knows, or knew, this host behind the route."""
    address = str(host.fleet.machine(member).address)
    return Member(member, address, port_of(host.fleet, pool.route, member), spare=False, variable="").url
