"""The URL that `why` is about: of a site of this host, and nothing that could be another request."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, urlsplit

from ..engine import Host
from ..model import Problem, Refusal, Site, nearest
from ..model.names import host_name
from ..model.refusal import Wrong, quoted

PORTS = {"https": 443, "http": 80}


class Target(NamedTuple):
    """A site, one of its names, and what is asked of it."""

    site: Site
    scheme: str
    name: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.name}{self.path}"

    @property
    def port(self) -> int:
        """Where HAProxy listens for it."""
        return PORTS[self.scheme]

    @property
    def directory(self) -> str:
        """What VirtualDocumentRoot makes of the name."""
        return self.site.room(self.name)


def target(host: Host, url: str) -> Target:
    """What was typed, judged.  Raises Refusal with the nearest names, or with the host that has it."""
    parts = urlsplit(url if "://" in url else f"https://{url}")
    try:
        odd = parts.username is not None or parts.port not in (None, PORTS.get(parts.scheme))
    except ValueError:
        odd = True
    if parts.scheme not in PORTS or odd or not parts.hostname or any(ord(letter) < 33 for letter in url):
        raise Refusal(Problem(f"{quoted(url)} is no URL to ask for", example="https://www.example.com/page?x=1"))
    name = _name(parts.hostname)
    site = next((site for site in host.fleet.fronted_by(host.name) if name in site.names), None)
    if site is None:
        raise _elsewhere(host, name)
    path = quote(parts.path or "/", safe="/%:=&~+!$,;'@()*[]") + (f"?{_query(parts.query)}" if parts.query else "")
    return Target(site, parts.scheme, name, path)


def _query(text: str) -> str:
    return quote(text, safe="/%:=&~+!$,;'@()*[]?")


def _name(text: str) -> str:
    try:
        return host_name(text.rstrip("."))
    except Wrong as wrong:
        raise Refusal(wrong.message) from None


def _elsewhere(host: Host, name: str) -> Refusal:
    """Whose it is: another host's of the fleet, or nobody's."""
    others = [
        other
        for other in host.fleet.hosts
        if other != host.name and any(name in site.names for site in host.fleet.fronted_by(other))
    ]
    if others:
        return Refusal(Problem(f"visitors of {name} do not come to {host.name}", next=f"fab -H {others[0]} why {name}"))
    names = [each for site in host.fleet.fronted_by(host.name) for each in site.names]
    return Refusal(Problem(f"{host.name} has no site with the name {name}", example=", ".join(nearest(name, names))))
