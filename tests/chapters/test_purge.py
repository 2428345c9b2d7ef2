"""Purging: which site is meant, what Varnish is told, and what it counts."""

from __future__ import annotations

import json

import pytest

from fabfile.model import Refusal
from fabfile.varnish.counters import read_stats
from fabfile.varnish.purging import Purged, bans, wanted

from .recording import site

SITES = (
    site(),
    site("münchen.de", subdomains=("www", "a.b")),
    site("many.test", subdomains=tuple(f"s{n}" for n in range(50))),
)


@pytest.mark.parametrize(
    ("typed", "name", "paths"),
    [
        ("https://example.com/news", "example.com", ("/news",)),
        ("http://EXAMPLE.com:80/news#top", "example.com", ("/news",)),
        ("www.example.com", "www.example.com", ("/",)),
        ("https://example.com/a?x=1&y=ä", "example.com", ("/a?x=1&y=%C3%A4",)),
        ("https://münchen.de/grün", "xn--mnchen-3ya.de", ("/gr%C3%BCn",)),
        ("https://xn--mnchen-3ya.de/gr%C3%BCn", "xn--mnchen-3ya.de", ("/gr%C3%BCn",)),
        ("https://example.com/%7Ejoe", "example.com", ("/%7Ejoe", "/~joe")),
    ],
)
def test_an_address_is_taken_in_every_spelling(typed: str, name: str, paths: tuple[str, ...]) -> None:
    target = wanted(SITES, typed, "")
    assert (target.name, target.paths) == (name, paths)


@pytest.mark.parametrize(
    ("url", "whole", "said"),
    [
        (
            "https://exmple.com/x",
            "",
            r'vps has no site with the name "exmple.com"\n  for example:  https://example.com/x',
        ),
        ("", "exmple.com", r'vps has no site "exmple.com"\n  for example:  example.com'),
        ("", "", "either an address or --site"),
        ("https://example.com/", "example.com", "either an address or --site"),
        ("ftp://example.com/", "", "is no address of a page"),
        ("https://example.com:8443/", "", "is no address of a page"),
        ("https://example.com/a\r\nHost: x", "", "is no address of a page"),
        ("https://example.com/a b", "", "is no address of a page"),
        ("https://[::1/", "", "is no address of a page"),
    ],
)
def test_what_is_none_of_the_sites_is_refused(url: str, whole: str, said: str) -> None:
    with pytest.raises(Refusal, match=said):
        wanted(SITES, url, whole, "vps has")


def test_a_site_goes_under_all_its_names_and_no_other() -> None:
    assert [*bans(SITES[1])] == ["^(xn--mnchen-3ya[.]de|www[.]xn--mnchen-3ya[.]de|a[.]b[.]xn--mnchen-3ya[.]de)$"]
    parts = [*bans(SITES[2])]
    assert len(parts) == 3
    assert sum(part.count("|") + 1 for part in parts) == 51
    assert not any(sign in part for part in parts for sign in " \"'\\\n")


def test_nothing_that_was_kept_is_said() -> None:
    assert str(Purged("vps", "https://example.com/", 0)) == "nothing was kept of https://example.com/"
    assert str(Purged("vps", "https://example.com/", 1)) == "1 kept answer of https://example.com/ went"


def test_counters_are_read_as_varnish_tells_them() -> None:
    counters = {
        "MAIN.uptime": 60, "MAIN.cache_hit": 3, "MAIN.cache_miss": 1, "MAIN.s_pass": 0, "MAIN.n_object": 7,
        "MAIN.n_lru_nuked": 0, "SMA.s0.g_bytes": 5 << 20, "SMA.s0.g_space": 11 << 20,
    }  # fmt: skip
    told = {"version": 1, "counters": {name: {"value": value} for name, value in counters.items()}}
    backends = [2, ["backend.list", "-j"], 1.5, {"boot.apache": {"probe_message": [3, 4, "healthy"]}}]
    banned = [2, ["ban.list", "-j"], 1.5, {"time": 1.0, "completed": True}, {"time": 2.0, "completed": False}]
    stats = read_stats("vps", "\0".join(map(json.dumps, (told, backends, banned))))
    assert (stats.hits, stats.memory_mb, stats.bans, stats.backends) == (3, 5, 1, {"apache": "healthy"})
    assert stats.rate == "75.0% of 4"
