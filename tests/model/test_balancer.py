"""The cluster front in fleet.yml: what is refused, with file, line and key; and who may then speak to whom.  (T3)"""

from __future__ import annotations

from pathlib import Path

import pytest

from fabfile.model import Fleet, Refusal, load_fleet
from fabfile.model.balancer import slug
from fabfile.model.ways import WORLD, ways

HOSTS = """\
hosts:
  balancer1: {address: 10.0.0.2, roles: [balancer]}
  paid1: {address: 10.0.0.3, roles: [member]}
  paid2: {address: 10.0.0.4, roles: [member]}
  web1: {address: 10.0.0.5, roles: [member]}
balancer:
  server_name: www.example.com
  routes:
"""
SPARED = "    /paid_user: {members: [paid1], spares: [paid2]}\n"
REST = "    /: {members: [web1]}\n"


def load(tmp_path: Path, text: str) -> Fleet:
    (tmp_path / "sites").mkdir(exist_ok=True)
    (tmp_path / "fleet.yml").write_text(text)
    return load_fleet(tmp_path / "fleet.yml")


def refused(tmp_path: Path, text: str) -> list[tuple[int | None, str, str]]:
    with pytest.raises(Refusal) as caught:
        load(tmp_path, text)
    assert caught.value.exit_code == 2
    assert {problem.file for problem in caught.value.problems} == {tmp_path / "fleet.yml"}
    return [(problem.line, problem.key, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("routes", "key", "message"),
    [
        ("    /a: {members: [paid1], spares: [paid1]}\n", "/a.spares[0]", "is a member of this route already"),
        ("    /a: {members: [paid1, paid1]}\n", "/a.members[1]", "is in the list twice"),
        ("    a: {members: [paid1]}\n", "a", "must be the beginning of a path: a / first"),
        ("    /a b: {members: [paid1]}\n", "/a b", "must be the beginning of a path"),
        ("    /a/../b: {members: [paid1]}\n", "/a/../b", "must not hold . or .."),
        ("    /a: {members: [pia1]}\n", "/a.members[0]", "there is no host pia1; did you mean paid1?"),
        ("    /a: {members: [paid1], spares: [gone]}\n", "/a.spares[0]", "there is no host gone"),
        ("    /a: {spares: [paid1]}\n", "/a.members", "is missing"),
        ("    /a: {members: [], spares: [paid1]}\n", "/a.members", "one at least, not an empty list"),
        ("    /a: {members: [balancer1]}\n", "/a.members[0]", "has neither the role member nor app"),
        ("    /a: {members: [paid1], port: 22}\n", "/a.port", "is SSH's port"),
        ("    /a: {members: [paid1], prot: 81}\n", "/a.prot", "did you mean port?"),
    ],
)
def test_a_wrong_route_is_refused_at_its_line(tmp_path: Path, routes: str, key: str, message: str) -> None:
    (line, at, said), *more = refused(tmp_path, HOSTS + REST + routes)
    assert not more
    assert (line, at) == (10, f"balancer.routes.{key}")
    assert message in said


def test_a_route_is_there_once_however_it_is_written(tmp_path: Path) -> None:
    ((line, key, said),) = refused(tmp_path, HOSTS + "    /a: {members: [paid1]}\n    /a/: {members: [paid2]}\n")
    assert (line, key) == (10, "balancer.routes./a/")
    assert "is the same route as /a" in said
    assert "is written twice" in refused(tmp_path, HOSTS + REST + REST)[0][2]


def test_a_slash_at_the_end_is_the_same_path_and_problems_are_at_its_line(tmp_path: Path) -> None:
    assert list(load(tmp_path, HOSTS + REST + "    /a/: {members: [paid1]}\n").balancer.routes) == ["/", "/a"]  # type: ignore[union-attr]
    assert refused(tmp_path, HOSTS + REST + "    /a/: {members: [gone]}\n")[0][0] == 10


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        (HOSTS.partition("balancer:\n")[0], 2, "hosts.balancer1.roles", "there are no routes for it"),
        (HOSTS.replace("  routes:\n", "  routes: {}\n"), 8, "balancer.routes", "must be routes by the beginning"),
        (HOSTS.replace("  routes:\n", ""), 6, "balancer.routes", "is missing"),
        (HOSTS.replace("[balancer]", "[edge]") + REST, 8, "balancer.routes", "no host has the role balancer"),
        (HOSTS.replace("[balancer]", "[balancer, web]") + REST, 2, "hosts.balancer1.roles", "is balancer and web"),
        (HOSTS.replace("address: 10.0.0.3, ", "") + REST, 3, "hosts.paid1.address", "needs its address"),
        (
            HOSTS.replace("[balancer]", "[balancer, edge]") + REST + "edge: {server: nginx}\n",
            2,
            "hosts.balancer1.roles",
            "HAProxy ends TLS, not nginx",
        ),
        (HOSTS.replace("roles: [member]}", "roles: [member, app]}", 1) + REST, 3, "hosts.paid1.roles", "makes pages"),
    ],
)
def test_a_front_without_a_back_is_refused(tmp_path: Path, text: str, line: int, key: str, message: str) -> None:
    found = refused(tmp_path, text)
    assert (line, key) in {(each[0], each[1]) for each in found}, found
    assert any(message in each[2] for each in found if each[1] == key), found


def test_a_name_of_a_site_beside_the_balancer_is_one_name_too_many(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "example.com.yml").write_text("domain: example.com\n")
    both = HOSTS.replace("[balancer]", "[balancer, edge]") + REST
    both = both.replace("balancer:\n", "  app1: {address: 10.0.0.9, roles: [app]}\nbalancer:\n", 1)
    with pytest.raises(Refusal, match=r"www\.example\.com is a name of the balancer's"):
        load(tmp_path, both)
    behind = both.replace("[balancer, edge]", "[balancer]").replace("[web1]", "[web1, app1]")
    assert load(tmp_path, behind).balancer


def test_only_the_balancer_comes_to_members_at_the_port_of_their_routes(tmp_path: Path) -> None:
    fleet = load(tmp_path, HOSTS + SPARED + REST + "    /x: {members: [web1], port: 8080}\n")
    found = {(way.target, way.port, way.source) for way in ways(fleet)}
    assert found == {
        ("balancer1", 22, WORLD),
        ("balancer1", 80, WORLD),
        ("balancer1", 443, WORLD),
        *((host, port, "balancer1") for host in ("paid1", "paid2", "web1") for port in (22, 80)),
        ("web1", 8080, "balancer1"),
    }
    assert [str(one) for one in fleet.bastions("paid1")] == ["balancer1"]
    assert fleet.roles("paid1") == {"member"}


def test_an_app_host_behind_a_balancer_alone_is_no_edge_and_is_reached_at_varnish(tmp_path: Path) -> None:
    text = HOSTS.replace("roles: [member]}", "roles: [app]}", 1) + SPARED
    fleet = load(tmp_path, text)
    assert ("paid1", 8084, "balancer1", "varnish") in {(w.target, w.port, w.source, w.what) for w in ways(fleet)}
    assert "edge" not in fleet.roles("paid1")
    assert {"web", "app", "cache", "database"} <= fleet.roles("paid1")


def test_the_balancer_has_a_certificate_for_its_names(tmp_path: Path) -> None:
    text = (HOSTS + REST).replace("  routes:", "  aliases: [example.com]\n  routes:")
    fleet = load(tmp_path, text)
    assert [one.names for one in fleet.certified_at("balancer1")] == [("www.example.com", "example.com")]
    assert fleet.certified_at("web1") == ()
    assert fleet.fronted_by("balancer1") == ()


def test_the_longest_route_is_tried_first(tmp_path: Path) -> None:
    fleet = load(tmp_path, HOSTS + REST + SPARED + "    /paid_user/films: {members: [paid2]}\n")
    assert fleet.balancer
    assert list(fleet.balancer.longest_first) == ["/paid_user/films", "/paid_user", "/"]


def test_every_route_has_a_pool_with_a_name_of_its_own() -> None:
    paths = ("/", "/root", "/a/b", "/a-b", "/A-b", "/paid_user", "/" + "x" * 80, "/" + "x" * 81, "/~")
    found = [slug(path) for path in paths]
    assert len({*found}) == len(paths)
    assert (found[0], found[5]) == ("the.rest", "paid_user")
    assert max(map(len, found)) <= 37
