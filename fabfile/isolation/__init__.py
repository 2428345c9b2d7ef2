"""Isolation: does what keeps sites apart hold?  It is tried, from one site's code to another site.  (T4)

What keeps one site's code from another's files is its user, and modes; PHP's own walls (open_basedir, functions that
are off) only keep an honest script from straying.  So the same is tried with them and without.
"""

from __future__ import annotations

import json as json_
import secrets
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .. import apache, php
from ..engine import Guarded, Host, as_data, console, query
from ..engine import Problem as Failure
from ..model import UNITS, Problem, Refusal, Site
from .probes import Pair
from .program import APACHE, CGI, CONTROLS, IN_PHP, MARK, OPEN_PHP, SHELL, STARTED, UNIT, WAYS, keys, program, text_of

SHOWN = {"denied": "denied", "reached": "REACHED", "absent": "nothing there", "untried": "NOT TRIED"}


class Try(NamedTuple):
    """One try and what came of it.

    result: `denied`; `reached`, which is a hole; `absent`: who may do it found nothing there either; `untried`.
    answer: the last words of who denied it.
    """

    attacker: str
    victim: str
    kind: str
    name: str
    way: str
    result: str
    answer: str


@query(
    name="prove-isolation",
    positional=["domain"],
    help={
        "domain": "the site that is attacked, as in the name of its file in sites/; without it, each site by the next",
        "by": "the site that attacks; without it, the next one",
        "json": "print every try as JSON",
    },
)
def prove_isolation(c, domain="", by="", json=False):
    """T4 "Doing something about it": try to break out of one site into another, and tell what answered.

    A canary is planted in the one, as open as that site itself could make it.  The other tries to reach it, and the
    server, by a program in its own directory through HTTP, by links, .htaccess and settings, and by a shell of its
    user; PHP in a pool with its own walls, and in one without.  Whoever may do it tries as well, so that a denial is a
    wall and no mistake of the try.  FPM is reloaded twice.  All goes again, however the run ends.  Exit code 1 when
    anything was reached.  JSON: `attacker`, `victim`, `kind`, `name`, `way`, `result`, `answer` of each.
    """
    host = Host.of(c)
    pairs = _pairs(host, domain, by)
    host.visit.who = f"{host.visit.me}: site.prove-isolation"
    found = _tried(host, pairs)
    if json:
        print(json_.dumps([as_data(one) for one in found], indent=2))
    elif found:
        _show(found)
    holes = [one for one in found if one.result in ("reached", "untried")]
    if holes:
        first = holes[0]
        what = f"{first.attacker} reached {first.victim}, {first.kind}: {first.name}, by {first.way}"
        if first.result == "untried":
            what = f"{first.way} of {first.attacker} could not be tried: {first.answer or 'it did not answer'}"
        more = f", and {len(holes) - 1} more" if len(holes) > 1 else ""
        raise Failure(what + more, f"fab -H {host.name} check  (what is not as it should be)")


def _pairs(host: Host, domain: str, by: str) -> tuple[Pair, ...]:
    """Who attacks whom.  Raises Refusal where there is nobody."""
    if "web" not in host.fleet.roles(host.name):
        raise Refusal(Problem(f"{host.name} makes no pages: no site's code runs there", next="fleet.status"))
    if not host.fleet.keeps_files(host.name):
        keeper = host.fleet.one("files")
        raise Refusal(
            Problem(
                f"a proof drops programs into sites, and the files of {host.name}'s are on {keeper}",
                next="fleet.verify  (who may speak to whom in a fleet)",
            )
        )
    victim = host.site(domain) if domain else None
    attacker = host.site(by) if by else None
    if by and not victim:
        raise Refusal(Problem("--by says who attacks; say whom", example=f"site.prove-isolation DOMAIN --by {by}"))
    if victim and victim == attacker:
        raise Refusal(Problem(f"{victim} is one site: what is its own is its own", key="--by"))
    served = [site for site in host.sites if apache.state(host.facts, site) == "served"]
    if victim and victim not in served:
        raise Guarded(f"{victim} is not served by {host.name}", f"fab -H {host.name} site.apply {victim}")
    if len(served) < 2:
        raise Guarded(
            f"{host.name} serves {len(served)} site: there is none beside it that could attack",
            "inv site.new DOMAIN, then: fab -H " + f"{host.name} site.apply DOMAIN",
        )
    if victim:
        return (_pair(host, attacker or _next(served, victim), victim),)
    return tuple(_pair(host, _next(served, site), site) for site in served)


def _next(sites: Sequence[Site], site: Site) -> Site:
    return sites[(sites.index(site) + 1) % len(sites)]


def _pair(host: Host, attacker: Site, victim: Site) -> Pair:
    return Pair(attacker, victim, MARK, php.version(host), f"canary-{secrets.token_hex(12)}")


def _tried(host: Host, pairs: Sequence[Pair]) -> list[Try]:
    if host.dry:
        console.print(f"would try {sum(len(keys(pair)) for pair in pairs)} things in up to {len(WAYS)} guises")
        return []
    sites = {site.owner: site.root for pair in pairs for site in (pair.attacker, pair.victim)}
    said = host.hear(
        f"try to break out of {len({pair.attacker.owner for pair in pairs})} sites",
        text_of("begin.sh"),
        *(MARK, *(f"{owner}:{root}" for owner, root in sites.items())),
        files={"proof": program(pairs), "clean.sh": text_of("clean.sh")},
    )
    if "end" not in said:
        raise Failure("the proof did not come to its end", f"fab -H {host.name} site.prove-isolation")
    return judged(pairs, said)


def judged(pairs: Sequence[Pair], said: Iterable[str]) -> list[Try]:
    """What the host's lines mean."""
    answers = {
        (int(pair), way, name): (got == "got", answer)
        for pair, way, name, got, answer in (line.split("\t") for line in said if line.count("\t") == 4)
    }
    tries = []
    for number, pair in enumerate(pairs):
        for way in WAYS:
            tries += _of_way(answers, number, pair, way)
    return tries


def _of_way(answers: dict[tuple[int, str, str], tuple[bool, str]], number: int, pair: Pair, way: str) -> list[Try]:
    """One pair, one guise; a guise in which nothing at all was said was not tried."""
    names = str(pair.attacker), str(pair.victim)
    tries = []
    for key, one in keys(pair).items():
        if (number, way, key) not in answers:
            continue
        got, answer = answers[number, way, key]
        controls = [answers[number, control, key][0] for control in CONTROLS if (number, control, key) in answers]
        result = "reached" if got else "absent" if controls and not any(controls) else "denied"
        tries.append(Try(*names, one.kind, one.name, way, result, answer))
    programs = {
        IN_PHP: pair.scripted(pair.attacker),
        UNIT: pair.attacker.has(*UNITS),
        STARTED: pair.started,
        CGI: pair.attacker.runtime == "cgi",
        APACHE: pair.shown,
    }
    wanted = programs.get(way, way == SHELL or pair.pooled)
    last, answer = answers.get((number, way, "end"), (False, ""))
    # A program that ended early, or a page that Apache does not show: what it did not try is no denial.
    whole = {APACHE: last, IN_PHP: bool(answer), OPEN_PHP: bool(answer), CGI: bool(answer)}.get(way, bool(tries))
    if wanted and not whole:
        tries.append(Try(*names, "all", "all", way, "untried", answer))
    return tries


def count(tries: Iterable[Try]) -> dict[str, int]:
    """How often which result."""
    return {result: sum(one.result == result for one in tries) for result in SHOWN}


def _show(tries: Sequence[Try]) -> None:
    """A line for each thing that was tried: in which guises it was denied, and in which not."""
    for kind in dict.fromkeys(one.kind for one in tries):
        console.print(f"{kind}", style="bold")
        for name in dict.fromkeys(one.name for one in tries if one.kind == kind):
            these = [one for one in tries if (one.kind, one.name) == (kind, name)]
            results = {result: _ways(one for one in these if one.result == result) for result in SHOWN}
            words = "; ".join(f"{SHOWN[result]}: {', '.join(ways)}" for result, ways in results.items() if ways)
            console.print(f"    {name:<46} {words}", markup=False, soft_wrap=True)
    for one in tries:
        if one.result in ("reached", "untried"):
            console.print(
                f"{SHOWN[one.result]}  {one.attacker} -> {one.victim}, {one.kind}: {one.name}, by {one.way}"
                f"  ({one.answer or 'no word'})",
                markup=False,
                soft_wrap=True,
            )
    console.print(", ".join(f"{number} {SHOWN[result]}" for result, number in count(tries).items() if number))


def _ways(tries: Iterable[Try]) -> list[str]:
    return list(dict.fromkeys(one.way for one in tries))
