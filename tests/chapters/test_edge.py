"""nginx as an edge: the same door as HAProxy's, in nginx's words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from fabfile import edge, flows, haproxy, static, varnish
from fabfile.engine.changes import Install, PutFile, PutLink, Remove, Run
from fabfile.engine.facts import Unit, User
from fabfile.firewall.loading import wanted as loaded
from fabfile.haproxy import door
from fabfile.model import Fleet, Refusal
from fabfile.status import spare

from .recording import Recorded, a_file, contents, site

HOSTS = {
    "edge1": {"address": "10.0.0.1", "roles": ("edge",)},
    "app1": {"address": "10.0.0.2", "roles": ("app",)},
    "app2": {"address": "fd00::3", "roles": ("app",), "weight": 0},
    "static1": {"address": "10.0.0.4", "roles": ("static",)},
}
SHOP = site("kiosk.co.test", subdomains=("www", "shop"), cache={"ttl": 7, "bypass": ("/admin/", "/a.b")})
ONE = site("one.test", hosts=("app2",), php={"upload_limit": "2G", "timeout": 300})
USERS = {name: User(name, uid, uid, "/", "") for name, uid in {"www-data": 33, "vcache": 107}.items()}
MakeHost = Callable[..., Recorded]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> MakeHost:
    """Makes a host of the fleet above, whose edges are nginx."""

    def make(name: str, *machines: str, **known: Any) -> Recorded:
        made = Recorded(monkeypatch, **{"users": USERS, "ssh_ports": (22,), "ipv6": "yes", **known})
        hosts = {one: HOSTS[one] for one in machines or HOSTS}
        made.name = name
        fleet = {"hosts": hosts, "edge": {"server": "nginx"}, "operators": ("203.0.113.0/24",)}
        made.fleet = Fleet.model_validate(fleet).with_sites([SHOP, ONE])
        made.sites, made.fronted = made.fleet.sites_for(name), made.fleet.fronted_by(name)
        return made

    return make


def written(host: Recorded) -> dict[str, str]:
    return contents(host.after(edge.install, edge.hosts, edge.configure))


def blocks(text: str, word: str) -> dict[str, list[str]]:
    """Blocks of nginx's on the outermost level: what stands before the brace, and the lines."""
    found = re.findall(rf"^({word}[^\n{{]*) {{\n(.*?)^}}", text, re.MULTILINE | re.DOTALL)
    return {head: [line.strip() for line in body.splitlines()] for head, body in found}


def test_the_chapter_of_the_server_that_fleet_yml_names_runs_and_no_other(host: MakeHost) -> None:
    for server, chapter, other in (("nginx", edge, haproxy), ("haproxy", haproxy, edge)):
        steps = flows.steps_of({"edge"}, server)  # type: ignore[no-untyped-call]
        assert {*chapter.STEPS} <= {*steps}
        assert not {*other.STEPS} & {*steps}
    assert not {*edge.STEPS} & {*flows.steps_of({"web"}, "nginx")}  # type: ignore[no-untyped-call]


def test_its_configuration_is_there_before_the_package_that_would_take_port_80(host: MakeHost) -> None:
    changes = host("edge1").after(edge.install)
    [package] = [place for place, change in enumerate(changes) if isinstance(change, Install)]
    assert {change.path for change in changes[:package] if isinstance(change, PutFile)} == {edge.UNIT, edge.MAIN}


def test_a_site_shows_the_default_certificate_until_it_has_one(host: MakeHost) -> None:
    there = host("edge1", files={f"{edge.SHELF}/kiosk.co.test.pem": a_file(mode=0o600)})
    links = {change.path: change.target for change in there.after(edge.hosts) if isinstance(change, PutLink)}
    assert links == {
        "/etc/nginx/certs/kiosk.co.test.pem": "/etc/haproxy/certs/kiosk.co.test.pem",
        "/etc/nginx/certs/one.test.pem": "/etc/haproxy/certs/00-default.pem",
    }


@pytest.mark.parametrize("release", ["12", "13"])
def test_tls_and_headers_are_those_of_the_door(host: MakeHost, release: str) -> None:
    put = written(host("edge1", release=release))
    config = put[edge.CONFIG]
    assert f"ssl_ciphers {':'.join(door.CIPHERS)};" in config
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in config
    assert ("X25519MLKEM768" in config) == (release == "13")
    assert put[edge.SITES].count("http2 on;") == (2 if release == "13" else 0)
    assert "ssl_reject_handshake on;" in config
    for header, value in door.SAFE.items():
        assert f'"{value}"' in config
        assert f"add_header {header} $safe_" in put[edge.ANSWER]
    for header in (*door.FORGEABLE, "X-Forwarded-Server"):
        if header != "X-Site-Cache":
            assert f'proxy_set_header {header} "";' in put[edge.ONWARD]
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in put[edge.ONWARD]


def test_pages_and_files_have_their_pools(host: MakeHost) -> None:
    found = blocks(written(host("edge1"))[edge.CONFIG], "upstream")
    servers = {name.split()[1]: [one for one in lines if one.startswith("server ")] for name, lines in found.items()}
    assert servers == {
        "pages": [
            "server 10.0.0.2:8084 weight=100 max_fails=3 fail_timeout=5s;",
            "server [fd00::3]:8084 down max_fails=3 fail_timeout=5s;",
        ],
        "pages_app2": ["server [fd00::3]:8084 weight=1 max_fails=3 fail_timeout=5s;"],
        "files": [
            "server 10.0.0.4:8083 max_fails=1 fail_timeout=5s;",
            "server 10.0.0.2:8084 backup;",
            "server [fd00::3]:8084 backup;",
        ],
        "files_app2": ["server 10.0.0.4:8083 max_fails=1 fail_timeout=5s;", "server [fd00::3]:8084 backup;"],
    }
    assert all(any(line.startswith("zone ") for line in lines) for lines in found.values())
    assert written(host("edge1"))["/etc/nginx/edge.pools.map"] == "one.test _app2;\n"
    assert "files" not in blocks(written(host("edge1", "edge1", "app1"))[edge.CONFIG], "upstream")


def test_what_is_particular_to_a_site_is_in_the_maps(host: MakeHost) -> None:
    put = written(host("edge1", files={"/etc/gatehouse/suspended/one.test": a_file()}))
    assert put["/etc/nginx/edge.cache.map"] == 'kiosk.co.test "ttl=7 grace=3600 keep=";\n'
    assert put["/etc/nginx/edge.suspended.map"] == "one.test 1;\n"
    keys = re.findall(r'"~(.*)" pass;', put["/etc/nginx/edge.bypass.map"])
    for path, passed in {"/admin/x": True, "/a.b": True, "/aXb": False, "/x/admin/": False}.items():
        assert any(re.search(key, f"kiosk.co.test{path}") for key in keys) == passed
    assert f"client_max_body_size {2 * 1024**3};" in put[edge.SITES]
    assert "proxy_read_timeout 320s;" in put[edge.ANSWER]


def test_every_page_that_it_may_need_is_there(host: MakeHost) -> None:
    put = written(host("edge1"))
    named = set(re.findall(r"/\.error/(\S+);", put[edge.CONFIG] + put[edge.ANSWER]))
    assert named <= {path.rpartition("/")[2] for path in put if path.startswith(edge.ERRORS)}
    assert {"502.html", "504.html", "421.html", "429.html", "suspended.html"} <= named


def test_what_a_host_was_before_goes_with_its_role(host: MakeHost) -> None:
    before = {edge.FILES: a_file(), static.NGINX_EDGE: a_file()}
    gone = {name: {change.path for change in host(name, files=before).after(*steps) if isinstance(change, Remove)}
            for name, steps in {"edge1": edge.STEPS[2:3], "static1": static.STEPS[1:2]}.items()}  # fmt: skip
    assert gone == {"edge1": {edge.FILES}, "static1": {static.NGINX_EDGE}}


def test_haproxy_makes_room_and_comes_back(host: MakeHost) -> None:
    was = {"packages": {"haproxy": "3"}, "units": {"haproxy.service": Unit("active", "enabled")}}
    [run] = [change for change in host("edge1", **was).after(edge.start) if isinstance(change, Run)]
    assert "disable --now haproxy" in run.script
    there = host("edge1", files={edge.CONFIG: a_file()})
    there.fleet = Fleet.model_validate({"hosts": HOSTS}).with_sites([SHOP])
    [run] = [change for change in there.after(haproxy.start) if isinstance(change, Run)]
    assert "disable --now nginx" in run.script


def test_what_it_cannot_do_is_refused_before_it_is_asked(host: MakeHost) -> None:
    with pytest.raises(Refusal, match="edge1 is nginx"):
        haproxy.traffic.look(host("edge1"), "app1")


def test_varnish_believes_the_edges_alone(host: MakeHost) -> None:
    there = host("app1")
    put = contents(there.after(varnish.install, varnish.configure))
    assert "-a plain=10.0.0.2:8084,HTTP" in put[varnish.UNIT]
    assert "10.0.0.2:8081" not in put[varnish.UNIT]
    assert 'acl edges {\n    "10.0.0.1";\n}' in put[varnish.VCL]
    there.fleet = Fleet.model_validate({"hosts": HOSTS}).with_sites([SHOP])
    put = contents(there.after(varnish.install, varnish.configure))
    assert "8084" not in put[varnish.UNIT]
    assert "acl edges" not in put[varnish.VCL]


def test_a_static_host_believes_the_header_of_an_nginx_edge(host: MakeHost) -> None:
    conf = contents(host("static1").after(static.sites))[static.NGINX_SITES]
    assert "proxy_protocol" not in conf
    assert "real_ip_header X-Forwarded-For;" in conf
    assert "set_real_ip_from 10.0.0.1;" in conf


def test_www_data_alone_goes_from_the_edge_to_what_is_behind(host: MakeHost) -> None:
    opened = [rule for rule in loaded(host("app1"))[4]["GATEHOUSE"] if "808" in rule]
    assert opened == ["-s 10.0.0.1/32 -p tcp -m tcp --dport 8084 -j ACCEPT"]
    assert "-d 10.0.0.2/32 -p tcp -m tcp --dport 8084 -m owner --uid-owner 33 -j ACCEPT" in str(
        loaded(host("edge1"))[4]["GATEHOUSE-OUTER"]
    )


def test_status_minds_no_server_that_was_given_up(host: MakeHost) -> None:
    assert spare(host("edge1")) == {"haproxy", "lighttpd"}
    assert spare(host("static1")) == {"lighttpd"}
