"""What only shows when all machines and sites are seen together: who reaches whom, and who has nobody to serve."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from . import balancing
from .document import Document, KeyPath
from .fleet import ELSEWHERE, INNER, Fleet
from .refusal import Problem
from .site import Site
from .ways import MEMCACHED, cache_port

ADDRESS = "10.0.0.11"


def problems(fleet: Fleet, document: Document) -> Iterator[Problem]:
    """What is wrong with the machines of fleet.yml as a whole."""
    yield from _strangers(fleet, document)
    yield from _addresses(fleet, document)
    yield from _roles(fleet, document)
    yield from _edges(fleet, document)
    yield from balancing.problems(fleet, document)


def site_problems(fleet: Fleet, site: Site, document: Document) -> Iterator[Problem]:
    """What is wrong with a site in this fleet: machines that it names, and its database on several."""
    if fleet.hosts:
        yield from _unlisted(fleet, site, document)
        yield from _scattered(fleet, site, document)
        yield from _forked(fleet, site, document)
        yield from balancing.site_problems(fleet, site, document)


def shared_ports(fleet: Fleet, entries: Iterable[tuple[Site, Document]]) -> Iterator[Problem]:
    """Two sites behind one port of memcached could read each other's sessions."""
    if not fleet.one("cache") or fleet.cache.server != "memcached":
        return
    taken: dict[int, Site] = {}
    for site, document in entries:
        port = cache_port(fleet, site)
        other = taken.setdefault(port, site) if site.php else site
        if other is not site:
            free = next(one for one in MEMCACHED if one not in taken)
            message = f"{site.both} would have port {port} on {fleet.one('cache')}, as {other.both} has"
            example = f"cache: {{ports: {{{site.owner}: {free}}}}}"
            yield document.says(("owner",), f"{message}; give it another in fleet.yml", example)


def _strangers(fleet: Fleet, document: Document) -> Iterator[Problem]:
    """Pools of machines that are not there, or called as one."""
    for name, pool in fleet.pools.items():
        path: KeyPath = ("pools", name)
        if name in fleet.hosts:
            yield document.says(path, f"{name} is the name of a host already", "main: [edge1, app1]")
        for index, host in enumerate(pool):
            if host not in fleet.hosts:
                yield document.says((*path, index), f"there is no host {host}{_near(host, fleet)}")
        if not any(host in fleet.hosts and fleet.hosts[host].serves for host in pool):
            yield document.says(path, f"nobody in the pool {name} makes pages: no app and no web host")


def _addresses(fleet: Fleet, document: Document) -> Iterator[Problem]:
    """Machines that speak to one another and have no address for it, the same one, or one of another protocol."""
    taken: dict[object, str] = {}
    for machine in fleet.hosts.values():
        path: KeyPath = ("hosts", machine.name, "address")
        if machine.address is None:
            if why := _why_address(fleet, machine.name):
                message = f"{machine.name} needs its address on the private network: {why}"
                yield document.says(path, message, f"address: {_free(fleet)}")
        elif machine.address in taken:
            message = f"{machine.address} is already {taken[machine.address]}'s"
            yield document.says(path, message, f"address: {_free(fleet)}")
        else:
            first = next((one for one in fleet.hosts.values() if one.address), machine)
            if first.address and first.address.version != machine.address.version:
                message = f"{machine.address} and {first}'s {first.address} are of two protocols: they cannot speak"
                yield document.says(path, message, f"address: {_free(fleet)}")
            taken[machine.address] = machine.name


def _free(fleet: Fleet) -> str:
    """An address beside those that the machines have."""
    known = [machine.address for machine in fleet.hosts.values() if machine.address]
    alike = [address for address in known if address.version == known[0].version]
    return str(max(alike) + 1) if alike else ADDRESS


def _why_address(fleet: Fleet, host: str) -> str:
    """Why others must find this machine, or know it when it comes; empty: they need not."""
    roles = fleet.machine(host).roles
    if behind := [edge.name for edge in fleet.edges_of(host)]:
        return f"visitors come to it through {behind[0]}"
    if fleet.webs_behind(host):
        return "the web servers let nobody else in"
    if "balancer" in roles:
        return "the hosts behind it let nobody else in"
    if inner := [role for role in roles if role in INNER]:
        return f"the others look for it as {inner[0]}"
    if fleet.machine(host).serves and any(fleet.having(role) for role in ("cache", "database", "files")):
        return "the hosts that it works with let in nobody else"
    return ""


def _roles(fleet: Fleet, document: Document) -> Iterator[Problem]:
    """Roles that nobody needs, that need another, or that one machine alone can have."""
    for machine in fleet.hosts.values():
        path: KeyPath = ("hosts", machine.name, "roles")
        own = {*machine.roles}
        if {"web", "app"} <= own:
            message = f"{machine} is web and app; app is what web is where the roles lie on several hosts"
            yield document.says(path, message, "roles: [web]")
        for role in machine.roles:
            if role == "app" and not fleet.edges and not fleet.balancers_of(machine.name) and "web" not in own:
                message = f"{machine} is an app host, and no host has the role edge; one that is everything is web"
                yield document.says(path, message, "roles: [web]")
            elif role == "static" and not fleet.edges:
                message = f"{machine} is a static host, and no host has the role edge to lead visitors there"
                yield document.says(path, message, f"edge1: {{address: {_free(fleet)}, roles: [edge]}}")
            elif role == "static" and fleet.webs and not machine.serves and not fleet.one("files"):
                message = f"{machine} is a static host, and no host has the role files to give it the sites' files"
                yield document.says(path, message, f"files1: {{address: {_free(fleet)}, roles: [files]}}")
            elif role in INNER and role not in ("app", "member") and not fleet.webs:
                message = f"{machine} is there as {role}, and no host has the role app or web to need it"
                missing = "app" if fleet.edges else "web"
                yield document.says(path, message, f"{missing}1: {{address: {_free(fleet)}, roles: [{missing}]}}")
            if role in ELSEWHERE and role != "edge" and (one := fleet.one(role)) and one.name != machine.name:
                message = f"{machine} has the role {role}, which {one} has already; a fleet has one"
                rest = ", ".join(each for each in machine.roles if each != role)
                yield document.says(path, message, f"roles: [{rest or 'app'}]")
        if fleet.pools and own & {"web", "app", "static"} and "edge" not in own and not _led_to(fleet, machine.name):
            message = f"no edge leads to {machine}: it shares a pool with none"
            yield document.says(path, message, f"pools: {{main: [{fleet.edges[0]}, {machine}]}}")


def _led_to(fleet: Fleet, host: str) -> bool:
    """Whether an edge is together with this host; without edges none is needed."""
    return not fleet.edges or any(fleet.together(edge.name, host) for edge in fleet.edges)


def _edges(fleet: Fleet, document: Document) -> Iterator[Problem]:
    """An edge without anybody to lead to, and edges of which nobody knows whether they stand for one another."""
    webs = ", ".join(web.name for web in fleet.webs)
    for index, edge in enumerate(fleet.edges):
        path: KeyPath = ("hosts", edge.name, "roles")
        if "balancer" in edge.roles and not fleet.webs:
            pass  # it leads to Apache beside it
        elif not fleet.webs:
            message = f"{edge} is an edge, and no host has the role web or app"
            yield document.says(path, message, "roles: [edge, web]")
        elif not any(fleet.together(edge.name, web.name) for web in fleet.webs):
            message = f"{edge} is an edge, and shares a pool with no app or web host"
            yield document.says(path, message, f"pools: {{main: [{edge}, {webs}]}}")
        apart = [one for one in fleet.edges[:index] if not _share(fleet, one.name, edge.name)]
        if apart:
            names = ", ".join(one.name for one in fleet.edges)
            message = f"{edge} is an edge as {apart[0]} is; a pool with both says that they lead to the same hosts"
            yield document.says(path, message, f"pools: {{main: [{names}{', ' * bool(webs)}{webs}]}}")


def _share(fleet: Fleet, one: str, other: str) -> bool:
    return any(one in pool and other in pool for pool in fleet.pools.values())


def _unlisted(fleet: Fleet, site: Site, document: Document) -> Iterator[Problem]:
    """Hosts that a site names and fleet.yml does not, or that make no pages."""
    for index, host in enumerate(site.hosts):
        if host in fleet.pools:
            continue
        if host not in fleet.hosts:
            near = difflib.get_close_matches(host, fleet.hosts, 1) or list(fleet.hosts)
            message = f"there is no host {host} in fleet.yml; did you mean {near[0]}?"
            yield document.says(("hosts", index), message, f"hosts: [{near[0]}]")
        elif not fleet.hosts[host].serves:
            webs = ", ".join(web.name for web in fleet.webs)
            message = f"{host} has not the role web or app in fleet.yml, and those alone make pages"
            yield document.says(("hosts", index), message, f"hosts: [{webs}]")


def _scattered(fleet: Fleet, site: Site, document: Document) -> Iterator[Problem]:
    """A database on its site's own host is on one alone: on two, each would go its own way."""
    hosts = [web.name for web in fleet.webs_of(site)]
    if site.database and len(hosts) > 1 and not fleet.one("database"):
        message = f"a database lies on the site's own host, and this site is on {' and '.join(hosts)}: name one"
        yield document.says(("database",), message, f"hosts: [{hosts[0]}]")


def _forked(fleet: Fleet, site: Site, document: Document) -> Iterator[Problem]:
    """What outlives releases is written where PHP runs: on two hosts with a tree each, it would be two."""
    hosts = [web.name for web in fleet.webs_of(site)]
    if site.deploy.shared and len(hosts) > 1 and fleet.one("files") and fleet.files.mount == "sync":
        message = (
            f"with files: {{mount: sync}} each host has a tree of its own, and this site, on {' and '.join(hosts)}, "
            "would have shared/ twice: let fleet.yml say files: {mount: nfs}, or name one host here"
        )
        yield document.says(("deploy", "shared"), message, f"hosts: [{hosts[0]}]")


def _near(host: str, fleet: Fleet) -> str:
    near = difflib.get_close_matches(host, fleet.hosts, 1)
    return f"; did you mean {near[0]}?" if near else f"; the hosts here: {', '.join(fleet.hosts)}"
