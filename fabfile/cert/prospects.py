"""Would an order succeed? What the CA would meet, name by name, before it is asked: it counts failures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from ..engine import Host
from ..model import Acme, Balancer, Site
from . import caa
from .answers import Finding
from .names import Names, asked
from .reach import PATIENCE, Fetched, reached

KINDS = ("A", "AAAA")


def findings(host: Host, site: Site | Balancer) -> list[Finding]:
    """Line by line what the CA would meet.  Raises the engine's Problems."""
    names = asked(host, site.names)
    found = reached(
        host, [(name, address) for name in site.names for kind in KINDS for address in names.addresses[kind, name]]
    )
    allowed = identities(host.fleet.acme, bool(names.records))
    return [
        finding
        for name in site.names
        for finding in (*_addresses(host, name, names, found), _caa(host, name, names, allowed))
    ]


def identities(acme: Acme, ask: bool) -> list[str]:
    """By which names the CA goes in CAA records: those that it says itself, else its host and the domains above it."""
    import ssl
    import urllib.request

    host = urlsplit(acme.directory).hostname or ""
    if ask:
        try:
            trust = ssl.create_default_context(cafile=acme.ca_bundle)
            with urllib.request.urlopen(acme.directory, timeout=PATIENCE, context=trust) as answer:  # noqa: S310  (https alone)
                told = json.load(answer).get("meta", {}).get("caaIdentities", [])
            if told:
                return [str(each) for each in told]
        except (OSError, ValueError):
            pass  # the laptop need not reach the CA
    return caa.ancestors(host)[:-1] or [host]


def _addresses(
    host: Host, name: str, names: Names, found: dict[tuple[str, str], Fetched]
) -> Iterator[Finding]:
    has_any = any(names.addresses[kind, name] for kind in KINDS)
    for kind in KINDS:
        if failure := names.failed.get((kind, name)):
            yield Finding(host.name, name, kind, False, f"DNS gives no answer: {failure}")
        elif not names.addresses[kind, name]:
            well = has_any
            yield Finding(host.name, name, kind, well, "none" if well else "DNS has no address of this name")
        for address in names.addresses[kind, name]:
            yield Finding(host.name, name, kind, *_reached(host, address, names.own, found[name, address]))


def _reached(host: Host, address: str, own: Iterable[str], fetched: Fetched) -> tuple[bool, str]:
    mine = address in own
    if fetched.ours:
        through = fetched.proxy or "NAT, or a proxy"
        return True, address + (" reaches this host" if mine else f" reaches this host, by {through}")
    text = f"{address} {fetched.text}"
    if not mine:
        text += f"; {fetched.proxy} stands there, not this host" if fetched.proxy else "; it is none of this host's own"
        return False, f"{text} ({' '.join(sorted(own))})"
    if "answers 421" in text:
        text += f": HAProxy does not know the name; fab -H {host.name} haproxy"
    elif "refuses" in text:
        text += f": nobody listens there, or a firewall says no; fab -H {host.name} status"
    elif "no answer" in text:
        text += ": a firewall on the way, such as the provider's"
    return False, text


def _caa(host: Host, name: str, names: Names, allowed: list[str]) -> Finding:
    for place in caa.ancestors(name):
        if failure := names.failed.get(("CAA", place)):
            return Finding(host.name, name, "CAA", False, f"DNS gives no answer about {place}: {failure}")
        if place in names.records:
            break
    why = caa.refusal(name, names.records, allowed)
    return Finding(host.name, name, "CAA", not why, why or "lets this CA issue")
