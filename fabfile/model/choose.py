"""A name that somebody typed, among the names there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

from .balancer import Balancer
from .refusal import Problem, Refusal, quoted
from .site import Site

Named = TypeVar("Named", bound=Site | Balancer)

CANDIDATES = 5


def chosen_site(sites: Iterable[Named], name: str, where: str = "there is") -> Named:
    """The site of this domain, in either form.  Raises Refusal, with the nearest ones, when there is none."""
    sites = tuple(sites)
    wanted = name.strip().lower().rstrip(".")
    for site in sites:
        if wanted in (site.domain, site.shown):
            return site
    owner = next((site for site in sites if wanted in site.names), None)
    near = [owner.shown] if owner else nearest(wanted, [site.shown for site in sites])
    raise Refusal(
        Problem(
            f"{where} no site {quoted(name)}" + (f": it is a name of {owner}" if owner else ""),
            expected="a site's domain",
            example=", ".join(near) or "none yet: inv site.new example.com",
        )
    )


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """The names most like this one; where none is, the first few."""
    names = list(names)
    return difflib.get_close_matches(name, names, CANDIDATES) or names[:CANDIDATES]
