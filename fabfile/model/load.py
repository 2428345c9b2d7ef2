"""Files -> Site and Fleet, all problems of all files at once; and what only shows when all sites are seen together."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from . import contradictions, explain, names, wiring
from .document import Document, KeyPath, read
from .fleet import Fleet
from .owners import UIDS
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
    """Every site of `directory`, by domain, as those of one host. Raises Refusal with every problem in it."""
    entries, problems = _sites(directory)
    problems += contradictions.mixed(Fleet(), [(entry.site, entry.document) for entry in entries])
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
        problems += sorted(wiring.problems(fleet, document), key=lambda problem: problem.line or 0)
        for entry in entries:
            problems += wiring.site_problems(fleet, entry.site, entry.document)
        if fleet.one("files"):
            problems += _shared_numbers(entries)
        problems += wiring.shared_ports(fleet, [(entry.site, entry.document) for entry in entries])
        placed = fleet.with_sites((entry.site for entry in entries), file)
        problems += contradictions.mixed(placed, [(entry.site, entry.document) for entry in entries])
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
            own += contradictions.problems(site, document)
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


def _shared_numbers(entries: Sequence[Entry]) -> Iterator[Problem]:
    """Where files are seen from several hosts, whose they are is a number: two sites with one would be one."""
    taken: dict[int, Entry] = {}
    for entry in entries:
        other = taken.setdefault(entry.site.uid, entry)
        if other is not entry:
            free = next(uid for uid in UIDS if uid not in {each.site.uid for each in entries})
            message = f"{entry.site.uid} is already the number of {other.site.owner}, the user of {other.site.both}"
            yield entry.document.says(("uid",), message, f"uid: {free}")
