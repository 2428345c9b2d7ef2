"""What a site says twice and differently about what runs it, and sites that cannot be on one host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .document import Document, KeyPath
from .fleet import Fleet
from .refusal import Problem, shown_path
from .runtime import PHP, UNITS, Zone
from .site import Site

Entries = Sequence[tuple[Site, Document]]

PREFORK = frozenset({"itk"})
"""What wants Apache's prefork MPM with ITK, on a host of its own kind."""
EVENT = frozenset({"fpm", "fcgid", "cgi"})
"""What is run on hosts with the event MPM alone; the rest, Apache merely speaks to."""

COMMANDS = {"server": "exec ./serve --socket $LISTEN", "scgi": "exec ./wiki --socket $LISTEN"}


def problems(site: Site, document: Document) -> Iterator[Problem]:
    """What contradicts itself in one site's file."""
    for zone in site.zones:
        at: KeyPath = () if zone.path == "/" else ("mounts", zone.path)
        if at and ("mounts", zone.path) not in document.lines:
            at = ("mounts", zone.path + "/")  # as it was written
        yield from _of_zone(site, zone, at, document)
    if site.writable and not site.has(*UNITS):
        message = "is for programs of the site's own (server, scgi, ajp), and none of its paths has one"
        yield document.says(("writable",), f"{message}; what outlives releases is under deploy.shared")
    if site.php and site.tmp_mb << 20 < site.body_limit:
        message = f"is less than php.upload_limit, {site.php.upload_limit}: an upload lies in tmp/ while it comes"
        yield document.says(("limits", "tmp_mb"), message, f"tmp_mb: {2 * site.body_limit // 2**20}")
    if (("php",) in document.lines) and site.php and not site.has(*PHP):
        message = f"is how PHP runs, and none does: the site is {site.runtime}"
        yield document.says(("php",), message, "php: false")


def _of_zone(site: Site, zone: Zone, at: KeyPath, document: Document) -> Iterator[Problem]:
    word = zone.runtime
    if word in ("fpm", "itk") and site.php is None:
        yield document.says((*at, "runtime"), f"{word} runs PHP, and php: false says that there is none", "php: {}")
    if word in COMMANDS and not zone.command:
        message = f"{word} is a program of the site's own, and command says how it is started: it is missing"
        yield document.says((*at, "runtime"), message, f"command: {COMMANDS[word]}")
    if zone.command and word not in COMMANDS:
        message = f"is for server and scgi, and this is {word}"
        yield document.says((*at, "command"), message, "runtime: server")
    if zone.listen and word not in UNITS:
        message = f"is for server, scgi and ajp, and this is {word}"
        yield document.says((*at, "listen"), message, "runtime: server")
    if word == "ajp" and not zone.webapps:
        message = "ajp is Tomcat, and webapps says where in the source its applications are: it is missing"
        yield document.says((*at, "runtime"), message, "webapps: webapps")
    if zone.webapps and word != "ajp":
        yield document.says((*at, "webapps"), f"is for ajp, and this is {word}", "runtime: ajp")
    if at and word == "itk":
        message = "itk is chosen for a whole site: Apache becomes the site's user before it knows the path"
        yield document.says((*at, "runtime"), message, "runtime: fcgid")
    if at and site.runtime == "itk" and word not in ("itk", "static"):
        message = (
            f"an itk site has nothing but itk and static: as the site's user, Apache starts no {word} and opens no "
            "socket that is for Apache alone; give it a site, or a subdomain's site, of its own"
        )
        yield document.says((*at, "runtime"), message, "runtime: static")


def mixed(fleet: Fleet, entries: Entries) -> Iterator[Problem]:
    """ITK is of the prefork MPM and the others are of event, and an Apache has one: which site must go elsewhere.

    Without fleet.yml all sites are on one host.
    """
    hosts = [web.name for web in fleet.webs] or [""]
    for site, document in entries:
        if not site.has(*PREFORK):
            continue
        for host in hosts:
            if host and site not in fleet.sites_for(host):
                continue
            on_it = (each for each in entries if not host or each[0] in fleet.sites_for(host))
            if other := next((each for each in on_it if each[0].has(*EVENT)), None):
                yield _apart(fleet, (site, document), other, host)
                break


def _apart(fleet: Fleet, entry: tuple[Site, Document], other: tuple[Site, Document], host: str) -> Problem:
    site, document = entry
    theirs, place = other
    word = next(zone.runtime for zone in theirs.zones if zone.runtime in EVENT)
    where = f"{shown_path(place.file)}:{place.line(('runtime',))}"
    message = (
        f"itk wants Apache's prefork MPM, and {theirs.both} on {host or 'the same host'} is {word}, which wants event "
        f"({where}): a host has one of them"
    )
    could = [web.name for web in fleet.webs if web.name != host and not _event(fleet, web.name, but=site)]
    if could:
        return document.says(("runtime",), f"{message}; {' or '.join(could)} could take it", f"hosts: [{could[0]}]")
    if fleet.hosts:
        why = f"no host of {shown_path(fleet.file) if fleet.file else 'fleet.yml'} could take it"
        return document.says(("runtime",), f"{message}; {why}: add one, and name it here as hosts", "runtime: fcgid")
    why = "without fleet.yml all sites are on one host: name two hosts there, and here the one for it"
    return document.says(("runtime",), f"{message}; {why}", "runtime: fcgid")


def _event(fleet: Fleet, host: str, but: Site) -> bool:
    """Whether a host has sites of the event MPM."""
    return any(site.has(*EVENT) for site in fleet.sites_for(host) if site != but)
