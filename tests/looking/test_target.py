"""Which URLs `why` asks for, and what it says to the others."""

from __future__ import annotations

import pytest

from fabfile.engine import Host
from fabfile.looking.target import target
from fabfile.model import Fleet, Refusal, Site

SITES = [
    Site.model_validate({"domain": "example.com", "subdomains": ("www", "a.b"), "aliases": ("example.org",)}),
    Site.model_validate({"domain": "xn--mnchen-3ya.de"}),
    Site.model_validate({"domain": "other.test", "hosts": ("web2",)}),
]
FLEET = Fleet.model_validate({"hosts": {"web1": {}, "web2": {}}}).with_sites(SITES)
HOST = Host("web1", FLEET, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("typed", "meant", "directory"),
    [
        ("example.com", "https://example.com/", "_"),
        ("HTTP://WWW.Example.com/a?b=c d".replace(" ", "%20"), "http://www.example.com/a?b=c%20d", "www"),
        ("https://a.b.example.com:443/x/", "https://a.b.example.com/x/", "a.b"),
        ("example.org/", "https://example.org/", "_"),
        ("https://münchen.de/straße?q=ä", "https://xn--mnchen-3ya.de/stra%C3%9Fe?q=%C3%A4", "_"),
        ("example.com/'\"$(id)`", "https://example.com/'%22$(id)%60", "_"),
    ],
)
def test_what_is_typed_becomes_one_request(typed: str, meant: str, directory: str) -> None:
    found = target(HOST, typed)

    assert (meant, directory) == (str(found), found.directory)
    assert found.path.isascii()
    assert found.path.isprintable()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("exampel.com", "example.com"),
        ("https://other.test/", "fab -H web2 why other.test"),
        ("ftp://example.com/", "https://www.example.com/page"),
        ("https://me@example.com/", "https://www.example.com/page"),
        ("https://example.com:8443/", "https://www.example.com/page"),
        ("https://example.com:x/", "https://www.example.com/page"),
        ("https://example.com/ HTTP/1.1\r\nHost: x", "https://www.example.com/page"),
        ("example.com/\x1b[2J", "https://www.example.com/page"),
        ("", "https://www.example.com/page"),
        ("127.0.0.1", "IP address"),
    ],
)
def test_anything_else_is_refused_with_what_would_be_taken(typed: str, said: str) -> None:
    with pytest.raises(Refusal) as refused:
        target(HOST, typed)

    assert said in str(refused.value)
    assert "\x1b" not in str(refused.value)
