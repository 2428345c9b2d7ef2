"""What Apache, PHP and the sessions' store would read, for many sites of every kind: whole, and each site apart."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from fabfile import apache, cache, php, site
from fabfile.cache import redis
from fabfile.engine.facts import File
from tests.chapters.recording import Recorded, a_file, contents
from tests.chapters.recording import site as a_site

SITES = (
    a_site(),
    a_site("münchen.example", aliases=("muenchen.example", "www.muenchen.example")),
    a_site("kiosk.co.uk", subdomains=("www", "a.b", "x--1"), php={"children": 32, "upload_limit": "8G"}),
    a_site("0-1.example", owner="digits"),
    a_site("flat.example", php=False, subdomains=()),
    a_site(f"{'long-' * 10}x.example", php={"functions": ("exec", "proc_open"), "allow_url_fopen": True}),
    *(a_site(f"s{number:03}.example.org") for number in range(200)),
)


@pytest.fixture(scope="module", params=["12", "13"])
def written(request: pytest.FixtureRequest) -> dict[str, str]:
    """Every file of the three chapters, on both releases."""
    secrets = {f"{redis.SECRETS}/{name}": a_file("0" * 64) for name in (redis.KEEPER, *(one.owner for one in SITES))}
    pools: dict[str, File] = {f"{php.POOL_SECRETS}/{one.owner}.conf": a_file() for one in SITES}
    with pytest.MonkeyPatch.context() as monkeypatch:
        host = Recorded(monkeypatch, *SITES, release=request.param, files=secrets | pools)
        return contents(host.after(*site.STEPS, *cache.STEPS, *php.STEPS, *apache.STEPS))


def below(written: dict[str, str], folder: str) -> dict[str, str]:
    return {path: text for path, text in written.items() if f"/{folder}/" in path}


def test_nothing_is_left_of_the_templates_own_words(written: dict[str, str]) -> None:
    own = re.compile(r"\{[{%#]|[#%}]\}|<\w+ object|= (?:None|True|False)$", re.MULTILINE)

    assert [] == [path for path, text in written.items() if own.search(text)]


def test_every_file_ends_its_last_line(written: dict[str, str]) -> None:
    assert [] == [path for path, text in written.items() if text and not text.endswith("\n")]


def signature(text: str) -> str:
    """The first line; of a program the second."""
    return next(line for line in text.splitlines() if not line.startswith(("#!", "<?php")))


def test_files_say_who_wrote_them(written: dict[str, str]) -> None:
    unsigned = {path for path, text in written.items() if text and "Managed by Gatehouse" not in signature(text)}
    unsigned = {path for path in unsigned if not path.startswith("/var/www/")}

    assert {redis.ROSTER} == unsigned  # Redis takes no comments there


def test_apache_s_sections_are_closed_in_order(written: dict[str, str]) -> None:
    for path, text in below(written, "apache2").items():
        open_sections: list[str] = []
        for slash, name in re.findall(r"^\s*<(/?)(\w+)", text, re.MULTILINE):
            if slash:
                assert name == open_sections.pop(), path
            else:
                open_sections.append(name)
        assert [] == open_sections, path


def test_each_site_with_php_has_one_pool_one_vhost_and_one_password(written: dict[str, str]) -> None:
    with_php = {one.domain for one in SITES if one.php}
    pools = {path.rpartition("/")[2].removesuffix(".conf") for path in below(written, "pool.d")} - {"gatehouse"}
    vhosts = {path.rpartition("/")[2].removesuffix(".conf") for path in below(written, "vhost.d")}

    assert with_php == pools
    assert {one.domain for one in SITES} == vhosts
    assert {one.owner for one in SITES if one.php} | {"default", "gatehouse"} == {
        line.split()[1] for line in written[redis.ROSTER].splitlines()
    }


def test_a_vhost_speaks_to_the_socket_on_which_its_pool_listens(written: dict[str, str]) -> None:
    for one in SITES:
        if not one.php:
            continue
        pool = next(text for path, text in written.items() if path.endswith(f"/pool.d/{one}.conf"))
        vhost = written[f"{apache.VHOSTS}/{one}.conf"]
        owner = vhost[vhost.index("Use VHost") :].split()[5]
        assert f"\nlisten = /run/php/{owner}.sock\n" in pool
        assert f"\nuser = {owner}\n" in pool


def test_apache_waits_longer_than_php_may_take(written: dict[str, str]) -> None:
    for one in SITES:
        if one.php:
            vhost = written[f"{apache.VHOSTS}/{one}.conf"]
            assert one.php.timeout < int(vhost[vhost.index("Use VHost") :].split()[6])


def test_no_name_is_answered_by_two_sites(written: dict[str, str]) -> None:
    names = [
        {name for line in re.findall('"(.*)"', text) for name in line.split()}
        for text in below(written, "vhost.d").values()
    ]

    assert [] == [one & other for one, other in combinations(names, 2) if one & other]


def test_no_pool_names_another_site_s_tree(written: dict[str, str]) -> None:
    for one in SITES:
        for path, text in written.items():
            if path.endswith(f"/pool.d/{one}.conf"):
                assert {one.domain} == set(re.findall(r"/var/www/([^/\"]+)", text)), path


def test_a_key_of_one_site_is_no_key_of_another(written: dict[str, str]) -> None:
    """Redis's patterns have wildcards: no prefix may fit another site's keys."""
    prefixes = [line.split(" ~")[1].split()[0] for line in written[redis.ROSTER].splitlines() if " ~" in line]

    assert [] == [prefix for prefix in prefixes if not re.fullmatch(r"[a-z][a-z0-9-]*:\*", prefix)]
    assert len(prefixes) == len(set(prefixes))


def test_an_idn_is_written_as_dns_knows_it_and_shown_as_it_is_read(written: dict[str, str]) -> None:
    vhost = written[f"{apache.VHOSTS}/xn--mnchen-3ya.example.conf"]

    assert "# Managed by Gatehouse: münchen.example." == vhost.splitlines()[0]
    assert "Use VHost xn--mnchen-3ya.example 3 " in vhost
    assert '"muenchen.example www.muenchen.example"' in vhost
