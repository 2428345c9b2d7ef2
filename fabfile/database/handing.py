"""A site is told where its database is: a file that its code reads, and that nobody else can."""

from __future__ import annotations

from ..credentials import HANDED, SECRETS
from ..engine import Host, render, task
from ..engine.cards import cards
from ..engine.filled import MARK, filled
from ..model import Site
from ..model.ways import DATABASE
from .places import SOCKET, keeper
from .tls import NAME

PASSWORDS = f"{SECRETS}/database"


@task
def hand(c):
    """T5 VM4, T2 step 7: what a site's code needs to reach its database, in a file for the site and root alone.

    The password in it was made on this host and stays here. The certificate beside it is the database host's: the code
    must verify with it. A database on this host knows the site by its system user, so there the password is empty.
    """
    host = Host.of(c)
    wanting = [site for site in host.chosen if site.database]
    if wanting:
        host.directory(HANDED)
    pem = _certificate(host) if wanting and not keeper(host) else ""
    for site in wanting:
        host.directory(place(site), mode=0o750, group=site.owner)
        if keeper(host):
            host.file(ini(site), form(site, ""), mode=0o640, owner=site.owner)
        elif pem:
            _from_elsewhere(host, site, pem)
    for site in host.chosen:
        if not site.database:
            host.absent(ini(site), f"{place(site)}/{NAME}")


def _certificate(host: Host) -> str:
    """What the database host shows, from its card; empty when it is not there yet, or does not answer."""
    one = host.fleet.one("database")
    assert one
    known = cards(host, [one])
    pem = known.get(one.name, {}).get(NAME, "")
    if one.name in known and not pem:
        host.note(f"{one} has no certificate yet: the sites are told of their databases once {one} is bootstrapped")
    return pem


def _from_elsewhere(host: Host, site: Site, pem: str) -> None:
    """The site comes to another host, with the password that was made here."""
    one = host.fleet.one("database")
    assert one
    if f"{PASSWORDS}/{site.owner}" not in host.facts.files:
        host.note(f"{site} has no password yet: fab -H {host.name} credentials")
        return
    host.file(f"{place(site)}/{NAME}", pem.strip() + "\n", mode=0o640, group=site.owner)
    filled(host, ini(site), form(site, str(one.address)), f"{PASSWORDS}/{site.owner}", owner=site.owner)


def form(site: Site, address: str) -> str:
    """The file, with a mark in the place of a password; without an address the database is on this host."""
    values = {"site": site, "address": address, "port": DATABASE, "socket": SOCKET, "ca": f"{place(site)}/{NAME}"}
    return render.render(f"{HANDED}/{{owner}}/database.ini", {**values, "password": MARK if address else ""})


def place(site: Site) -> str:
    """The directory of what a site is told."""
    return f"{HANDED}/{site.owner}"


def ini(site: Site) -> str:
    """The file that the site's code reads."""
    return f"{place(site)}/database.ini"
