"""Static hosts: what is served under which name, what never is, and where an edge asks for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from fabfile import haproxy, static
from fabfile.engine.changes import Install, Load, PutFile, Run
from fabfile.engine.facts import Unit, User
from fabfile.firewall.loading import wanted as loaded
from fabfile.model import Fleet, Refusal
from fabfile.model.grammars import ending
from fabfile.model.refusal import Wrong

from .recording import Recorded, contents, site

HOSTS = {
    "edge1": {"address": "10.0.0.1", "roles": ("edge",)},
    "app1": {"address": "10.0.0.2", "roles": ("app",)},
    "app2": {"address": "10.0.0.3", "roles": ("app",)},
    "static1": {"address": "10.0.0.4", "roles": ("static",)},
    "static6": {"address": "fd00::4", "roles": ("static",)},
}
SHOP = site("kiosk.co.test", subdomains=("www", "shop"), aliases=("kiosk.test", "www.kiosk.test"))
ONE = site("one.test", hosts=("app2",), subdomains=())
USERS = {
    name: User(name, uid, uid, "/", "") for name, uid in {"haproxy": 105, "kiosk-co-test": 990, "one-test": 991}.items()
}
MakeHost = Callable[..., Recorded]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> MakeHost:
    """Makes a host of the fleet above, or of fewer machines, with more keys in fleet.yml."""

    def make(name: str, *machines: str, fleet: dict[str, Any] | None = None, **known: Any) -> Recorded:
        made = Recorded(monkeypatch, **{"users": USERS, "ssh_ports": (22,), **known})
        hosts = {one: HOSTS[one] for one in machines or HOSTS}
        made.name = name
        made.fleet = Fleet.model_validate({"hosts": hosts, **(fleet or {})}).with_sites([SHOP, ONE])
        made.sites, made.fronted = made.fleet.sites_for(name), made.fleet.fronted_by(name)
        return made

    return make


LIGHTTPD = {"static": {"server": "lighttpd"}}


# ---------------------------------------------------------------------- what is served


def test_each_name_shows_the_directory_that_it_shows_on_an_app_host(host: MakeHost) -> None:
    put = contents(host("static1").after(static.sites))
    assert put[static.NGINX_ROOMS].splitlines() == [
        "kiosk.co.test kiosk.co.test/public_html/_;",
        "www.kiosk.co.test kiosk.co.test/public_html/www;",
        "shop.kiosk.co.test kiosk.co.test/public_html/shop;",
        "kiosk.test kiosk.co.test/public_html/_;",
        "www.kiosk.test kiosk.co.test/public_html/www;",
        "one.test one.test/public_html/_;",
    ]
    rooms = contents(host("static1", fleet=LIGHTTPD).after(static.sites))[static.LIGHTTPD_ROOMS]
    found = re.findall(r'\["(\S+)"\] = \{ root = "(\S+)", owner = (\d+) \}', rooms)
    assert [(name, root.removeprefix("/var/www/"), owner) for name, root, owner in found] == [
        (name, tree.rstrip(";"), "991" if name == "one.test" else "990")
        for name, tree in (line.split() for line in put[static.NGINX_ROOMS].splitlines())
    ]


def test_it_listens_on_its_private_address_alone(host: MakeHost) -> None:
    for name, where in {"static1": "10.0.0.4:8083", "static6": "[fd00::4]:8083"}.items():
        conf = contents(host(name).after(static.sites))[static.NGINX_SITES]
        listens = [line.split()[1].rstrip(";") for line in conf.splitlines() if line.lstrip().startswith("listen ")]
        assert set(listens) == {where}
        assert all("proxy_protocol" in line for line in conf.splitlines() if line.lstrip().startswith("listen "))
        lines = contents(host(name, fleet=LIGHTTPD).after(static.sites))[static.LIGHTTPD].splitlines()
        address, _, port = where.rpartition(":")
        assert f'server.bind = "{address}"' in lines
        assert f"server.port = {port}" in lines


def test_for_an_edge_on_the_same_host_it_is_the_loopback(host: MakeHost) -> None:
    both = {"address": "10.0.0.1", "roles": ("edge", "static")}
    edges = {name: {"address": f"10.0.0.{n}", "roles": ("edge",)} for n, name in ((1, "edge1"), (9, "edge9"))}
    pools = {"pools": {"main": ("edge1", "edge9", "app1")}}
    for hosts, listens in (
        ({"edge1": both, "app1": HOSTS["app1"]}, ["127.0.0.1"]),
        ({**edges, "edge1": both, "app1": HOSTS["app1"]}, ["10.0.0.1", "127.0.0.1"]),
    ):
        there = host("edge1", fleet={"hosts": hosts, **(pools if "edge9" in hosts else {})})
        assert static.addresses(there) == listens
        config = contents(there.after(haproxy.configure))[haproxy.CONFIG]
        assert "server edge1 127.0.0.1:8083 check" in config
        inner = loaded(there)[4]["GATEHOUSE-INNER"]
        assert [rule.split()[-3] for rule in inner if "--dport 8083" in rule] == ["0", "105"]


def test_the_configuration_is_there_before_the_package_that_would_take_port_80(host: MakeHost) -> None:
    for fleet, conf in ((None, static.NGINX), (LIGHTTPD, static.LIGHTTPD)):
        changes = host("static1", fleet=fleet).after(static.install)
        [package] = [place for place, change in enumerate(changes) if isinstance(change, Install)]
        puts = {change.path: place for place, change in enumerate(changes) if isinstance(change, PutFile)}
        assert puts[conf] < package
        assert any(path.endswith("service.d/gatehouse.conf") for path, place in puts.items() if place < package)


@pytest.mark.parametrize("text", ["php", "phtml", "phar", "phps", "sql", "ini", "log", "bak"])
def test_what_apache_never_shows_is_no_ending_for_a_static_host(text: str) -> None:
    with pytest.raises(Wrong):
        ending(text)


def test_sendfile_is_off_where_the_files_come_over_nfs(host: MakeHost) -> None:
    def conf(**files: Any) -> str:
        hosts = {**HOSTS, "files1": {"address": "10.0.0.5", "roles": ("files",)}}
        return contents(host("static1", fleet={"hosts": hosts, **files}).after(static.sites))[static.NGINX_SITES]

    assert "sendfile off;" in conf()
    assert "sendfile on;" in conf(files={"mount": "sync"})
    assert "sendfile on;" in contents(host("static1").after(static.sites))[static.NGINX_SITES]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("style.css", "604800"),
        ("app.js", "604800"),
        ("jquery-3.7.1.min.js", "604800"),
        ("jquery-validate.js", "604800"),
        ("photo-20240131.jpg", "2592000"),
        ("deadbeef.png", "2592000"),
        ("cafe-facade.png", "2592000"),
        ("app.3f2a9c1b.js", "immutable"),
        ("app-3f2a9c1b77d0.min.css", "immutable"),
        ("index-Bk3x9aQZ.css", "immutable"),
    ],
)
def test_only_a_name_with_a_digest_in_it_is_kept_for_ever(host: MakeHost, name: str, kept: str) -> None:
    conf = contents(host("static1").after(static.sites))[static.NGINX_SITES]
    table = conf.partition("map $uri $caching {")[2].partition("\n}")[0]
    rules = re.findall(r'^ +(?:"(~\*?)(.*?)"|default) "(.*)";$', table, re.MULTILINE)
    assert len(rules) == 4
    told = next(
        value
        for kind, pattern, value in rules
        if not kind or re.search(pattern, f"/x/{name}", re.IGNORECASE if kind == "~*" else 0)
    )
    assert kept in told


def test_a_change_is_a_reload_of_nginx_and_the_other_server_goes(host: MakeHost) -> None:
    active = {name: Unit("active", "enabled") for name in ("nginx.service", "lighttpd.service")}
    changes = host("static1", units=active).after(static.start)
    [run] = [change for change in changes if isinstance(change, Run)]
    assert "disable --now lighttpd" in run.script
    [load] = [change for change in changes if isinstance(change, Load)]
    assert {static.NGINX, static.NGINX_SITES, static.NGINX_ROOMS} <= set(load.reload_on)


# ---------------------------------------------------------------------- the edge


def backends(config: str) -> dict[str, list[str]]:
    """The backends' server lines."""
    found: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=backend )", config)[1:]:
        name = block.split()[1]
        found[name] = [line.strip() for line in block.splitlines() if line.lstrip().startswith("server ")]
    return found


def test_files_go_to_static_hosts_and_to_the_sites_own_web_servers_when_none_is_up(host: MakeHost) -> None:
    config = contents(host("edge1").after(haproxy.configure))[haproxy.CONFIG]
    found = backends(config)
    assert {name for name in found if name.startswith("static")} == {"static", "static:app2"}
    primary = [line for line in found["static"] if " backup " not in line]
    assert [line.split()[1:3] for line in primary] == [["static1", "10.0.0.4:8083"], ["static6", "[fd00::4]:8083"]]
    assert all(" check " in line and "on-error mark-down" in line for line in primary)
    followers = [line for line in found["static:app2"] if " backup " not in line]
    assert [line.split()[-2:] for line in followers] == [["track", "static/static1"], ["track", "static/static6"]]
    spare = {name: [line.split()[1:3] for line in lines if " backup " in line] for name, lines in found.items()}
    assert spare["static"] == [["app1:pages", "10.0.0.2:8081"], ["app2:pages", "10.0.0.3:8081"]]
    assert spare["static:app2"] == [["app2:pages", "10.0.0.3:8081"]]
    assert "track varnish:app2/app2" in found["static:app2"][-1]


def test_what_is_for_some_visitors_or_made_by_a_program_is_not_asked_of_a_static_host(host: MakeHost) -> None:
    config = contents(host("edge1").after(haproxy.configure))[haproxy.CONFIG]
    [rule] = [line for line in config.splitlines() if "regsub(^varnish,static)" in line]
    assert rule.endswith("if { method GET HEAD } a_file !a_program !for_some")
    endings = [word for line in config.splitlines() if " acl a_file " in line for word in line.split()[4:]]
    assert endings == [f".{one}" for one in host("edge1").fleet.static.endings]
    assert config.index("regsub(^varnish,static)") > config.index("use_backend acme")
    many = {"static": {"endings": tuple(f"x{n}" for n in range(100))}}
    config = contents(host("edge1", fleet=many).after(haproxy.configure))[haproxy.CONFIG]
    assert max(len(line.split()) for line in config.splitlines() if not line.lstrip().startswith("#")) <= 64


def test_a_fleet_without_static_hosts_has_none_of_it(host: MakeHost) -> None:
    there = host("edge1", "edge1", "app1", "app2")
    config = contents(there.after(haproxy.configure))[haproxy.CONFIG]
    assert "static" not in config
    rules = loaded(there)
    assert "8083" not in str(rules)


def test_only_edges_come_to_a_static_host_and_only_haproxy_goes_there(host: MakeHost) -> None:
    found = loaded(host("static1"))
    assert [rule for rule in found[4]["GATEHOUSE"] if "8083" in rule] == [
        "-s 10.0.0.1/32 -p tcp -m tcp --dport 8083 -j ACCEPT"
    ]
    assert found[4]["GATEHOUSE-OUTER"] == ["-p tcp -m tcp --sport 8083 -m owner ! --uid-owner 0 -j DROP"]
    there = "-d 10.0.0.4/32 -p tcp -m tcp --dport 8083"
    assert [rule for rule in loaded(host("edge1"))[4]["GATEHOUSE-OUTER"] if there in rule] == [
        f"{there} -m owner --uid-owner 0 -j ACCEPT",
        f"{there} -m owner --uid-owner 105 -j ACCEPT",
        f"{there} -j REJECT --reject-with tcp-reset",
    ]


def test_a_static_host_is_drained_by_its_name_and_a_stranger_is_not(
    host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = host("edge1")
    heads = "# pxname,svname,status,weight,check_status,"
    told = [f"static,{name},UP,100,L7OK," for name in ("static1", "static6", "app1:pages")]
    told += ["static:app2,static1,UP,100,L7OK,"]
    monkeypatch.setattr(Recorded, "ask", lambda *_: "\n".join([heads, *told, "", ""]))
    rows = haproxy.traffic.look(there, "static1")
    assert [f"{row.backend}/{row.name}" for row in haproxy.traffic.of(rows, "static1")] == ["static/static1"]
    haproxy.traffic.guard(there, rows, "static1")
    with pytest.raises(Refusal, match='no server "app1:pages"'):
        haproxy.traffic.look(there, "app1:pages")
