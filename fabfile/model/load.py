"""Files -> Site and Fleet, all problems of all files at once; and what only shows when all sites are seen together."""

from __future__ import annotations

import difflib
import shlex
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from . import explain, names
from .document import Document, KeyPath, read
from .fleet import Fleet
from .refusal import Problem, Refusal, quoted, shown_path, there
from .site import Site

FLEET, SITES, ENDING = "fleet.yml", "sites", ".yml"

_WHAT = {"domain": "the domain", "subdomains": "a subdomain", "aliases": "an alias", "owner": "the owner"}

M = TypeVar("M", bound=BaseModel)


class Entry(NamedTuple):
    """A site and the file it came from."""

    site: Site
    document: Document


def load_sites(directory: Path) -> tuple[Site, ...]:
    """Every site of `directory`, by domain. Raises Refusal with every problem in it."""
    entries, problems = _sites(directory)
    if problems:
        raise Refusal(problems)
    return tuple(sorted((entry.site for entry in entries), key=str))


def load_fleet(file: Path, cwd: Path | None = None) -> Fleet:
    """The fleet of `file` and its sites. Where it names no directory of sites, the one beside it counts, else `cwd`'s.
    Raises Refusal with every problem in fleet.yml and in the site files.
    """
    document = read(file)
    problems = list(document.problems)
    fleet = None if document.data is None else _model(Fleet, document, problems)
    problems.sort(key=lambda problem: problem.line or 0)
    given = document.data is not None and SITES in document.data
    if given and fleet is None:
        raise Refusal(problems)  # which site files are meant is not known for sure
    directory = fleet.sites if given and fleet else _beside(file, cwd)
    entries: list[Entry] = []
    if there(directory):
        entries, found = _sites(directory)
        problems += found
    if fleet is not None:
        problems += _unlisted(fleet, entries)
        problems += _scattered(fleet, entries)
        problems += _unreachable(fleet, document)
    if problems or fleet is None:
        raise Refusal(problems)
    return fleet.model_copy(update={"sites": directory}).with_sites((entry.site for entry in entries), file)


def find_fleet(ssh_config: Path | None = None, explicit: Path | None = None, cwd: Path | None = None) -> Fleet:
    """The fleet a run is about: `explicit` (inv --fleet), else fleet.yml beside the ssh_config of `fab -S`, else
    ./fleet.yml, else the defaults with ./sites. Raises Refusal.
    """
    cwd = cwd or Path.cwd()
    if explicit is not None:
        return load_fleet(cwd / _home(explicit), cwd)
    beside = () if ssh_config is None else ((cwd / _home(ssh_config)).parent,)
    for directory in (*beside, cwd):
        file = directory / FLEET
        if there(file):
            return load_fleet(file, cwd)
        if there(other := file.with_suffix(".yaml")):  # or the defaults would count without a word
            raise Refusal(Problem(f"the fleet's file is called {FLEET}", other, next=_move(other, file)))
    directory = cwd / SITES
    fleet = Fleet().model_copy(update={"sites": directory})
    return fleet.with_sites(load_sites(directory) if there(directory) else ())


def _beside(file: Path, cwd: Path | None) -> Path:
    beside = file.parent / SITES
    return beside if there(beside) or cwd is None or not there(cwd / SITES) else cwd / SITES


def _home(path: Path) -> Path:
    """`path` with its ~ filled in. Raises Refusal for a user that is not here."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise Refusal(Problem(f"there is no such path: {error}", path)) from None


def _sites(directory: Path) -> tuple[list[Entry], list[Problem]]:
    """The sites of `directory` that are right, and all that is wrong in it."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    try:
        files = sorted(directory.iterdir())
    except OSError as error:
        return [], [Problem(f"cannot be listed: {error.strerror}", directory)]
    for file in files:
        if file.name.startswith(".") or file.suffix.lower() not in {ENDING, ".yaml"}:
            continue
        if file.suffix != ENDING:
            problems.append(Problem(f"site files end in {ENDING}", file, next=_move(file, file.with_suffix(ENDING))))
            continue
        document = read(file)
        own = list(document.problems)
        site = None if document.data is None else _model(Site, document, own)
        if site is not None:
            own += _misnamed(site, document)
            if not document.problems:
                entries.append(Entry(site, document))
        problems += sorted(own, key=lambda problem: problem.line or 0)
    problems += _shared_names(entries)
    problems += _shared_owners(entries)
    return entries, problems


def _model(model: type[M], document: Document, problems: list[Problem]) -> M | None:
    """`document` as a `model`; None, and more `problems`, when it is not one."""
    try:
        return model.model_validate(document.data, context={"base": document.file.parent})
    except ValidationError as error:
        problems += explain.problems(document, model, error)
        return None


def _misnamed(site: Site, document: Document) -> Iterator[Problem]:
    """A file is called after its site, so that `ls sites` is the list of sites."""
    file = document.file
    stem = unicodedata.normalize("NFC", file.name.removesuffix(ENDING))
    if stem in {site.domain, site.shown}:
        return
    right = file.with_name(site.domain + ENDING)
    message = f"is {site.both}, but the file is called {quoted(file.name)}; it must be called {quoted(right.name)}"
    yield Problem(message, file, document.line(("domain",)), "domain", next=_move(file, right))


def _move(file: Path, right: Path) -> str:
    return f"mv {shlex.quote(shown_path(file))} {shlex.quote(shown_path(right))}"


def _claims(entry: Entry) -> Iterator[tuple[str, KeyPath]]:
    """Every full name of a site, and the key that says so."""
    yield entry.site.domain, ("domain",)
    for index, part in enumerate(entry.site.subdomains):
        yield f"{part}.{entry.site.domain}", ("subdomains", index)
    for index, name in enumerate(entry.site.aliases):
        yield name, ("aliases", index)


def _shared_names(entries: Iterable[Entry]) -> Iterator[Problem]:
    """A name belongs to one site: HAProxy and Apache could only guess."""
    taken: dict[str, tuple[Entry, KeyPath]] = {}
    for entry in entries:
        for name, path in _claims(entry):
            if name not in taken:
                taken[name] = entry, path
                continue
            other, where = taken[name]
            yield entry.document.says(path, f"{names.both_forms(name)} is already {_place(other, where)}")


def _place(entry: Entry, path: KeyPath) -> str:
    document = entry.document
    what = _WHAT[str(path[0])]
    default = "" if path[:1] in document.lines else " (by default)"
    return f"{what} of {entry.site.both}{default}, at {shown_path(document.file)}:{document.line(path)}"


def _shared_owners(entries: Iterable[Entry]) -> Iterator[Problem]:
    """A user belongs to one site: it is what keeps sites apart."""
    taken: dict[str, Entry] = {}
    for entry in entries:
        other = taken.setdefault(entry.site.owner, entry)
        if other is not entry:
            message = f"{entry.site.owner} is already {_place(other, ('owner',))}; leave the key out for one of its own"
            yield entry.document.says(("owner",), message)


def _unreachable(fleet: Fleet, document: Document) -> Iterator[Problem]:
    """Edges and the web servers behind them that have no address for one another, or the same one."""
    taken: dict[object, str] = {}
    for machine in fleet.hosts.values():
        path: KeyPath = ("hosts", machine.name, "address")
        behind = [edge.name for edge in fleet.edges_of(machine.name)]
        if not behind and not fleet.webs_behind(machine.name):
            continue
        if machine.address is None:
            why = f"visitors come to it through {behind[0]}" if behind else "the web servers let nobody else in"
            yield document.says(path, f"{machine.name} needs its address on the private network: {why}", "10.0.0.11")
        elif machine.address in taken:
            yield document.says(path, f"{machine.address} is already {taken[machine.address]}'s")
        else:
            taken[machine.address] = machine.name
    if fleet.edges and not any("web" in machine.roles for machine in fleet.hosts.values()):
        path = ("hosts", fleet.edges[0].name, "roles")
        yield document.says(path, f"{fleet.edges[0]} is an edge, and no host has the role web", "roles: [edge, web]")


def _unlisted(fleet: Fleet, entries: Iterable[Entry]) -> Iterator[Problem]:
    """Hosts that a site names and fleet.yml, listing hosts, does not."""
    if not fleet.hosts:
        return
    for entry in entries:
        for index, host in enumerate(entry.site.hosts):
            if host not in fleet.hosts:
                near = difflib.get_close_matches(host, fleet.hosts, 1) or list(fleet.hosts)
                message = f"there is no host {host} in fleet.yml; did you mean {near[0]}?"
                yield entry.document.says(("hosts", index), message, f"hosts: [{near[0]}]")
            elif fleet.edges and "web" not in fleet.hosts[host].roles:
                webs = [name for name in fleet.hosts if "web" in fleet.hosts[name].roles]
                message = f"{host} has not the role web in fleet.yml, and through an edge only web servers are reached"
                yield entry.document.says(("hosts", index), message, f"hosts: [{', '.join(webs)}]")


def _scattered(fleet: Fleet, entries: Iterable[Entry]) -> Iterator[Problem]:
    """A database lies on its site's one host: on two, each would go its own way."""
    webs = [name for name, machine in fleet.hosts.items() if "web" in machine.roles]
    for entry in entries:
        hosts = entry.site.hosts or webs
        if entry.site.database and len(hosts) > 1:
            message = f"a database lies on the site's own host, and this site is on {' and '.join(hosts)}: name one"
            yield entry.document.says(("database",), message, f"hosts: [{hosts[0]}]")
