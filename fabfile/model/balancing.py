"""Whether a balancer's routes lead somewhere: what only shows when they and the machines are seen together."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from .balancer import Balancer
from .document import Document, KeyPath
from .fleet import Fleet, Machine
from .refusal import Problem
from .site import Site

BEHIND = ("member", "app")
"""Roles of hosts to which a route may lead."""

ROUTES = "balancer: {server_name: www.example.com, routes: {/: {members: [web1, web2]}}}"


def problems(fleet: Fleet, document: Document) -> Iterator[Problem]:
    """What is wrong with the balancers, their routes, and the hosts that are there for them."""
    balancers = fleet.having("balancer")
    if fleet.balancer:
        yield from _routes(fleet, fleet.balancer, document)
        if not balancers:
            message = "no host has the role balancer to lead visitors to them"
            yield document.says(("balancer", "routes"), message, "balancer1: {address: 10.0.0.10, roles: [balancer]}")
    for machine in fleet.hosts.values():
        yield from _roles(fleet, machine, document)


def site_problems(fleet: Fleet, site: Site, document: Document) -> Iterator[Problem]:
    """A name that an edge cannot tell from the balancer's beside it."""
    both = [edge for edge in fleet.edges if "balancer" in edge.roles]
    led = [edge for edge in both if any(fleet.together(edge.name, web.name) for web in fleet.webs_of(site))]
    for name in site.names:
        if fleet.balancer and led and name in fleet.balancer.names:
            message = f"{name} is a name of the balancer's in fleet.yml, and {led[0]} is edge and balancer"
            yield document.says(("domain",), f"{message}: a name belongs to one")


def _routes(fleet: Fleet, balancer: Balancer, document: Document) -> Iterator[Problem]:
    """Hosts of routes that are not there, or are there for something else."""
    written = {path.rstrip("/") or "/": path for path in _paths(document)}
    fit = [machine.name for machine in fleet.hosts.values() if {*BEHIND} & {*machine.roles}]
    for path, route in balancer.routes.items():
        for key, hosts in (("members", route.members), ("spares", route.spares)):
            for index, host in enumerate(hosts):
                where: KeyPath = ("balancer", "routes", written.get(path, path), key, index)
                if host not in fleet.hosts:
                    near = difflib.get_close_matches(host, fit or fleet.hosts, 1)
                    hint = f"did you mean {near[0]}?" if near else f"the hosts there: {', '.join(fleet.hosts)}"
                    example = f"{key}: [{near[0]}]" if near else f"{host}: {{roles: [member]}}"
                    yield document.says(where, f"there is no host {host}; {hint}", example)
                elif not {*BEHIND} & {*fleet.hosts[host].roles}:
                    message = f"{host} has neither the role member nor app, and a route leads to those alone"
                    yield document.says(where, message, f"{host}: {{roles: [member]}}")


def _paths(document: Document) -> Iterator[str]:
    """The routes as they are written."""
    for path in document.lines:
        if len(path) == 3 and path[:2] == ("balancer", "routes"):
            yield str(path[2])


def _roles(fleet: Fleet, machine: Machine, document: Document) -> Iterator[Problem]:
    """What a host cannot be beside a balancer or a member, and a role that nobody needs."""
    path: KeyPath = ("hosts", machine.name, "roles")
    own = {*machine.roles}
    if "balancer" in own:
        if not fleet.balancer:
            message = f"{machine} is a balancer, and there are no routes for it"
            yield document.says(path, f"{message}: write balancer: beside hosts:", ROUTES)
        if also := [role for role in ("web", "app", "member", "static") if role in own]:
            message = f"{machine} is balancer and {also[0]}: what it leads to is on other hosts"
            yield document.says(path, message, "roles: [balancer]")
        if "edge" in own and fleet.edge.server == "nginx":
            message = f"{machine} is edge and balancer, and before Apache there HAProxy ends TLS, not nginx"
            yield document.says(path, message, "roles: [balancer]")
    if "member" in own:
        if {"web", "app"} & own:
            message = f"{machine} is a member and makes pages of sites: its own service and Varnish are two"
            yield document.says(path, message, "roles: [member]")
        elif not fleet.having("balancer"):
            message = f"{machine} is a member, and no host has the role balancer to lead visitors to it"
            yield document.says(path, message, "balancer1: {address: 10.0.0.10, roles: [balancer]}")
