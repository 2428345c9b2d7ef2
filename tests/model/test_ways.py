"""Who may speak to whom: the six of T5, T2's pair, two apps behind one edge, and a server by itself."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from fabfile.model import Fleet, Refusal, Site, load_fleet
from fabfile.model.ways import MEMCACHED, WORLD, cache_port, listener, misplaced, ways, ways_to
from tests.chapters.recording import site

SPLIT: dict[str, Any] = {
    "hosts": {
        "edge1": {"address": "10.0.0.10", "roles": ("edge",)},
        "static1": {"address": "10.0.0.11", "roles": ("static",)},
        "app1": {"address": "10.0.0.12", "roles": ("app",)},
        "cache1": {"address": "10.0.0.13", "roles": ("cache",)},
        "db1": {"address": "10.0.0.14", "roles": ("database",)},
        "files1": {"address": "10.0.0.15", "roles": ("files",)},
    }
}
API: dict[str, Any] = {
    "hosts": {
        "api": {"address": "10.0.0.10", "roles": ("edge", "app",)},
        "db": {"address": "10.0.0.14", "roles": ("database",)},
    }
}


def fleet(data: dict[str, Any], *, database: bool = True, **more: Any) -> Fleet:
    """With one site, which has a database unless it is said."""
    site = Site.model_validate({"domain": "example.com", "database": database})
    return Fleet.model_validate(data | more).with_sites([site])


def told(found: Fleet) -> set[str]:
    return {f"{way.source} -> {way.target}:{way.port} {way.what}" for way in ways(found)}


def test_each_of_the_six_is_reached_by_those_that_need_it_and_by_nobody_else() -> None:
    assert told(fleet(SPLIT)) == {
        "world -> edge1:22 ssh",
        "world -> edge1:80 web",
        "world -> edge1:443 web",
        *(f"edge1 -> {inner}:22 ssh" for inner in ("static1", "app1", "cache1", "db1", "files1")),
        "edge1 -> static1:8083 static",
        "edge1 -> app1:8081 varnish",
        "app1 -> cache1:6379 redis",
        "app1 -> db1:3306 mariadb",
        "app1 -> files1:2049 nfs",
        "static1 -> files1:2049 nfs",
    }


def test_files_that_follow_come_by_rsync() -> None:
    found = told(fleet(SPLIT, files={"mount": "sync"}))

    assert {"app1 -> files1:873 rsync", "static1 -> files1:873 rsync"} <= found
    assert not [way for way in found if ":2049" in way]


def test_each_site_has_a_port_of_its_own_at_memcached_for_its_own_hosts() -> None:
    app2 = {"app2": {"address": "10.0.0.16", "roles": ("app",)}}
    data = {"hosts": SPLIT["hosts"] | app2, "cache": {"server": "memcached", "ports": {"b-test": 20001}}}
    sites = (site("a.test", hosts=("app1",)), site("b.test"), site("flat.test", php=False))

    found = told(fleet(data).with_sites(sites))

    port = cache_port(fleet(data), sites[0])
    assert port in MEMCACHED
    assert {way for way in found if "memcached" in way} == {
        f"app1 -> cache1:{port} memcached",
        "app1 -> cache1:20001 memcached",
        "app2 -> cache1:20001 memcached",
    }
    assert not [way for way in found if ":6379" in way]


def test_the_database_of_the_pair_talks_to_the_api_server_alone() -> None:
    assert told(fleet(API)) == {
        "world -> api:22 ssh",
        "world -> api:80 web",
        "world -> api:443 web",
        "api -> db:22 ssh",
        "api -> db:3306 mariadb",
    }


def test_a_database_that_no_site_wants_is_nobodys() -> None:
    assert not [way for way in told(fleet(SPLIT, database=False)) if ":3306" in way]


def test_an_edge_leads_to_the_hosts_of_its_pool_alone() -> None:
    data = {
        "hosts": {
            name: {"address": f"10.0.0.{number}", "roles": (role,)}
            for number, (name, role) in enumerate(
                [("e1", "edge"), ("e2", "edge"), ("a1", "app"), ("a2", "app"), ("s1", "static")], start=1
            )
        },
        "pools": {"one": ("e1", "a1", "s1"), "two": ("e2", "a2")},
    }
    found = told(fleet(data))

    assert {"e1 -> a1:8081 varnish", "e2 -> a2:8081 varnish", "e1 -> s1:8083 static"} == {
        way for way in found if ":808" in way
    }


def test_a_server_by_itself_is_everybodys() -> None:
    assert {(way.source, way.port) for way in ways_to(Fleet(), "vps")} == {(WORLD, 22), (WORLD, 80), (WORLD, 443)}


@pytest.mark.parametrize(
    ("local", "place"),
    [
        ("0.0.0.0:80", ("", 80)),
        ("*:443", ("", 443)),
        ("[::]:22", ("", 22)),
        ("10.0.0.12:8081", ("10.0.0.12", 8081)),
        ("[::ffff:10.0.0.12]:8081", ("10.0.0.12", 8081)),
        ("[fd00::12]:3306", ("fd00::12", 3306)),
        ("127.0.0.53%lo:53", ("127.0.0.53", 53)),
        ("[fe80::1%eth0]:546", ("fe80::1", 546)),
    ],
)
def test_what_listens_is_read_as_ss_prints_it(local: str, place: tuple[str, int]) -> None:
    assert place == listener(local)


@pytest.mark.parametrize(
    ("host", "local", "why"),
    [
        ("db1", "10.0.0.14:3306", ""),
        ("db1", "127.0.0.1:3306", ""),
        ("db1", "0.0.0.0:3306", "listens on more than its private address 10.0.0.14"),
        ("db1", "203.0.113.4:3306", "listens on more than its private address 10.0.0.14"),
        ("db1", "0.0.0.0:22", ""),
        ("db1", "0.0.0.0:80", "listens to the world"),
        ("db1", "10.0.0.14:9999", "listens to the world"),
        ("edge1", "*:443", ""),
        ("edge1", "*:8081", "listens to the world"),
        ("app1", "10.0.0.12:8081", ""),
        ("app1", "*:8081", "listens on more than its private address 10.0.0.12"),
        ("app1", "*:8443", ""),
    ],
)
def test_what_hosts_come_to_listens_on_the_private_address_alone(host: str, local: str, why: str) -> None:
    assert why == misplaced(fleet(SPLIT, open={"8443/tcp": ()}), host, *listener(local))


def test_sshd_may_listen_where_it_really_does() -> None:
    assert not misplaced(fleet(SPLIT), "db1", "", 2222, (2222,))
    assert misplaced(fleet(SPLIT), "db1", "", 22, (2222,))


def test_two_sites_behind_one_port_of_memcached_are_refused_with_a_way_out(tmp_path: Path) -> None:
    """Found by trying: the port comes from the owner's name."""
    met: dict[int, str] = {}
    for number in itertools.count():
        port = cache_port(fleet(API), site(f"s{number:05}.test"))
        if port in met:
            break
        met[port] = f"s{number:05}.test"
    (tmp_path / "sites").mkdir()
    for domain in (met[port], f"s{number:05}.test"):
        (tmp_path / "sites" / f"{domain}.yml").write_text(f"domain: {domain}\n")
    hosts = "hosts: {app1: {address: 10.0.0.1}, cache1: {address: 10.0.0.2, roles: [cache]}}\n"
    file = tmp_path / "fleet.yml"
    file.write_text(f"{hosts}cache: {{server: memcached}}\n")

    with pytest.raises(Refusal, match=rf"s{number:05}\.test would have port {port} on cache1, as ") as refused:
        load_fleet(file)

    assert f"cache: {{ports: {{s{number:05}-test: 20000}}}}" in str(refused.value)
    file.write_text(f"{hosts}cache: {{server: memcached, ports: {{s{number:05}-test: 20000}}}}\n")
    assert 20000 == cache_port(load_fleet(file), site(f"s{number:05}.test"))
    file.write_text(hosts)
    load_fleet(file)
