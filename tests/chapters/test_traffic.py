"""Web servers behind an edge: who leads where, what is set, and when a shift goes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fabfile import flows, haproxy, varnish
from fabfile.engine import Guarded, Problem
from fabfile.engine.facts import User
from fabfile.engine.render import render
from fabfile.firewall import rules
from fabfile.firewall.loading import wanted as loaded
from fabfile.haproxy.backends import backend_of, backends
from fabfile.haproxy.ramp import Tally, stages, worse
from fabfile.haproxy.traffic import RECORD, Server, read_servers
from fabfile.model import Fleet, Refusal
from fabfile.status import looked

from .recording import Recorded, contents, site

FLEET = {
    "vps": {"address": "10.0.0.1", "roles": ("edge", "web")},
    "web2": {"address": "10.0.0.2", "roles": ("web",), "weight": 0},
    "web6": {"address": "fd00::6", "roles": ("web",)},
    "front": {"address": "10.0.0.9", "roles": ("edge",)},
    "db": {"roles": ("database",)},
}
EVERYWHERE, ONE = site(), site("one.test", hosts=("web2",))
USERS = {name: User(name, uid, uid, "/", "") for name, uid in {"haproxy": 105, "vcache": 107}.items()}
MakeHost = Callable[..., Recorded]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> MakeHost:
    """Makes a host of the fleet above."""

    def make(name: str, *machines: str, **known: Any) -> Recorded:
        made = Recorded(monkeypatch, **{"users": USERS, "ssh_ports": (22,), **known})
        hosts = {one: FLEET[one] for one in machines or FLEET}
        made.name, made.fleet = name, Fleet.model_validate({"hosts": hosts}).with_sites([EVERYWHERE, ONE])
        made.sites, made.fronted = made.fleet.sites_for(name), made.fleet.fronted_by(name)
        return made

    return make


# ---------------------------------------------------------------------- roles


def test_without_an_edge_a_web_server_is_its_own() -> None:
    fleet = Fleet.model_validate({"hosts": {"web1": {}, "db": {"roles": ("database",)}}})
    assert fleet.roles("web1") == {"web", "edge", "cache", "files"}
    assert fleet.roles("db") == {"database"}
    assert Fleet().roles("whatever") == {"web", "edge", "cache", "database", "files"}
    assert fleet.edges_of("web1") == fleet.webs_behind("web1") == ()


def test_an_edge_fronts_every_site_and_a_web_server_behind_it_none(host: MakeHost) -> None:
    assert [host(name).fronted for name in ("vps", "front", "web2", "db")] == [(EVERYWHERE, ONE)] * 2 + [()] * 2
    assert [host(name).sites for name in ("vps", "front", "web2")] == [(EVERYWHERE,), *[(EVERYWHERE, ONE)] * 2]


def test_steps_follow_roles() -> None:
    chapters = {
        roles: {step.__module__.split(".")[1] for step in flows.steps_of(roles)}  # type: ignore[no-untyped-call]
        for roles in (("edge",), ("web",), ("database",))
    }
    assert {"haproxy", "cert"} <= chapters["edge",]
    assert not chapters["edge",] & {"varnish", "apache", "php", "site"}
    assert {"varnish", "apache", "php", "site"} <= chapters["web",]
    assert not chapters["web",] & {"haproxy", "cert"}
    assert chapters["database",] == {"system", "firewall", "sshd", "database", "fail2ban", "hardening"}


# ---------------------------------------------------------------------- HAProxy


def test_one_backend_for_all_web_servers_and_one_for_each_other_set(host: MakeHost) -> None:
    found = {one.name: [(s.name, s.address, s.weight) for s in one.servers] for one in backends(host("vps"))}
    assert found == {
        "varnish": [("vps", "127.0.0.1:8081", 100), ("web2", "10.0.0.2:8081", 0), ("web6", "[fd00::6]:8081", 100)],
        "varnish:web2": [("web2", "10.0.0.2:8081", 0)],
    }
    fleet = host("vps").fleet
    assert [backend_of(fleet, one) for one in (EVERYWHERE, ONE)] == ["varnish", "varnish:web2"]
    put = contents(host("vps").after(haproxy.hosts))
    assert put[haproxy.BACKENDS] == "one.test varnish:web2\n"


def test_a_server_tells_nobody_its_name_in_its_cookie(host: MakeHost) -> None:
    config = contents(host("front").after(haproxy.configure))[haproxy.CONFIG]
    lines = [line.split() for line in config.splitlines() if line.startswith("    server web")]
    assert len(lines) == 3
    for _, name, _, *rest in lines:
        assert rest[:2] == ["weight", "0" if name == "web2" else "100"]
        assert rest[2] == "cookie"
        assert name not in rest[3]
    assert f"server-state-file {RECORD}" in config


def test_an_edge_waits_for_the_slowest_site_that_it_fronts(host: MakeHost) -> None:
    there = host("vps")
    there.fronted = (EVERYWHERE, site("slow.test", hosts=("web2",), php={"timeout": 300}))
    assert "timeout server 320s" in contents(there.after(haproxy.configure))[haproxy.CONFIG]


# ---------------------------------------------------------------------- the web server behind


def test_behind_an_edge_varnish_listens_on_the_private_address_too(host: MakeHost) -> None:
    for name, address in {"web2": "10.0.0.2", "web6": "[fd00::6]"}.items():
        unit = contents(host(name).after(varnish.install))[varnish.UNIT]
        assert f"-a edge={address}:8081,PROXY" in unit
        assert "network-online.target" in unit
    assert "edge=" not in contents(host("vps", "vps", "web2").after(varnish.install))[varnish.UNIT]


def test_only_edges_come_to_a_web_server_behind_them(host: MakeHost) -> None:
    found = loaded(host("web2"))
    assert "--dports 80,443" not in " ".join(found[4]["GATEHOUSE"])
    opened = [rule for rule in found[4]["GATEHOUSE"] if "8081" in rule]
    assert opened == [f"-s {edge}/32 -p tcp -m tcp --dport 8081 -j ACCEPT" for edge in ("10.0.0.1", "10.0.0.9")]
    assert not any("8081" in rule for rule in found[6]["GATEHOUSE"])
    assert found[4]["GATEHOUSE-OUTER"] == ["-p tcp -m tcp --sport 8081 -m owner ! --uid-owner 0 -j DROP"]
    assert "--dport 8081 -m owner --uid-owner 105" not in " ".join(found[4]["GATEHOUSE-INNER"])


def test_on_an_edge_haproxy_alone_speaks_to_the_web_servers(host: MakeHost) -> None:
    found = loaded(host("front"))
    there = "-d 10.0.0.2/32 -p tcp -m tcp --dport 8081"
    assert [rule for rule in found[4]["GATEHOUSE-OUTER"] if there in rule] == [
        f"{there} -m owner --uid-owner 0 -j ACCEPT",
        f"{there} -m owner --uid-owner 105 -j ACCEPT",
        f"{there} -j REJECT --reject-with tcp-reset",
    ]
    assert "-p tcp -m multiport --dports 80,443 -j ACCEPT" in found[4]["GATEHOUSE"]
    assert "GATEHOUSE-OUTER" not in loaded(host("vps", "vps"))[4]
    assert "--dports 80,443" not in " ".join(loaded(host("db"))[4]["GATEHOUSE"])


def test_rules_that_lead_nowhere_any_more_are_not_ours(host: MakeHost) -> None:
    wanted = {"GATEHOUSE": ["-j DROP"], "GATEHOUSE-INNER": []}
    live = [
        ":INPUT DROP [0:0]",
        *(f":{chain} - [0:0]" for chain in wanted),
        *(rules.JUMPS[chain] for chain in wanted),
        "-A GATEHOUSE -j DROP",
    ]
    assert rules.holds(live, wanted)
    assert not rules.holds([*live, rules.JUMPS["GATEHOUSE-OUTER"]], wanted)


def test_status_expects_varnish_on_the_private_address_behind_an_edge_alone(
    host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = f"clock\t{round(time.time())}\nload\t0 0 0\nlistens\t10.0.0.2:8081\n"
    monkeypatch.setattr(Recorded, "ask", lambda *_: told)
    faults = {}
    for name, machines in {"web2": ("vps", "web2"), "vps": ("vps", "web2")}.items():
        there = host(name, *machines)
        there.visit = SimpleNamespace(connection=SimpleNamespace(port=22))  # type: ignore[assignment]
        faults[name] = [one.fault for one in looked(there).faults]
    assert faults == {"web2": [], "vps": ["listens to the world"]}


def test_no_edge_is_ever_banned_and_the_ban_is_where_the_visitor_connects(host: MakeHost) -> None:
    def jail(name: str, *machines: str) -> str:
        there = host(name, *machines, packages={"apache2": "1"})
        values = dict.fromkeys(("bantime", "findtime", "maxretry", "most"), 1) | {"operators": (), "by_hand": "by-hand"}
        return render("/etc/fail2ban/jail.local", {**values, "facts": there.facts, "fleet": there.fleet, "host": there})

    behind = jail("web2")
    assert "           10.0.0.1\n           10.0.0.9\n" in behind
    assert "[apache-auth]" not in behind
    assert "[apache-auth]" in jail("vps", "vps")
    assert "10.0.0.1" not in jail("vps", "vps")


# ---------------------------------------------------------------------- what is set

STAT = """\
# pxname,svname,qcur,scur,stot,hrsp_1xx,hrsp_2xx,hrsp_5xx,econ,eresp,status,weight,lastchg,check_status,
varnish,vps,0,1,9,0,7,1,2,3,UP,100,61,L7OK,
varnish,web2,0,0,1,0,1,0,0,0,{status},0,61,L7OK,

1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight
5 varnish 1 vps 127.0.0.1 2 0 100 100 61 15 3 4 6 0 0 0 - 8081 - 0 0 - - 0
5 varnish 2 web2 10.0.0.2 2 {admin} {weight} 100 61 15 3 4 6 0 0 0 - 8081 - 0 0 - - 0
"""


def told(status: str = "UP", admin: int = 0, weight: int = 100) -> list[Server]:
    return read_servers(STAT.format(status=status, admin=admin, weight=weight))


@pytest.mark.parametrize(
    ("status", "admin", "weight", "set_by_hand", "serves"),
    [
        ("UP", 0, 100, "", True),
        ("DRAIN", 8, 100, "drain", False),
        ("MAINT", 1, 40, "maintenance", False),
        ("UP", 0, 40, "40%", True),
        ("DRAIN", 0, 0, "0%", False),
        ("DOWN", 0, 100, "", False),
    ],
)
def test_what_was_set_is_told(status: str, admin: int, weight: int, set_by_hand: str, serves: bool) -> None:
    [vps, web2] = told(status, admin, weight)
    assert (web2.set, web2.serves, web2.weight) == (set_by_hand, serves, weight)
    assert (vps.answers, vps.failures, vps.refused, vps.broken) == (8, 1, 2, 3)


@pytest.fixture
def haproxys(host: MakeHost, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """An edge whose HAProxy answers with this; what it is told is noted."""

    def make(answer: str) -> list[str]:
        orders: list[str] = []

        def ask(_question: str, *args: str) -> str:
            orders.extend(args[:1])
            return answer

        monkeypatch.setattr(Recorded, "ask", lambda _self, question, *args: ask(question, *args))
        made = host("vps", "vps", "web2")
        made.dry = False
        return orders

    return make


def test_the_last_one_that_serves_is_not_taken_away(haproxys: Callable[..., list[str]]) -> None:
    orders = haproxys(STAT.format(status="DRAIN", admin=8, weight=100))
    with pytest.raises(Guarded, match="vps is the last server that serves"):
        haproxy.drain.body.__wrapped__(None, "vps")
    assert orders == []


def test_nor_is_it_shifted_away(haproxys: Callable[..., list[str]]) -> None:
    orders = haproxys(STAT.format(status="DOWN", admin=0, weight=100))
    with pytest.raises(Guarded, match="vps is the last server that serves the sites of all web servers"):
        haproxy.shift.body.__wrapped__(None, "vps", to=0)
    assert orders == []


def test_another_may_go_in_every_backend(haproxys: Callable[..., list[str]]) -> None:
    orders = haproxys(STAT.format(status="UP", admin=0, weight=100))
    haproxy.drain.body.__wrapped__(None, "web2")
    assert orders == ["set server varnish/web2 state drain"]


def test_an_unknown_server_is_refused_with_those_that_are_known(haproxys: Callable[..., list[str]]) -> None:
    orders = haproxys("")
    with pytest.raises(Refusal, match=r'no server "web3"\n  for example:  web2'):
        haproxy.maintenance.body.__wrapped__(None, "web3")
    assert orders == []


def test_a_host_without_haproxy_says_where_it_is(host: MakeHost) -> None:
    host("web2", "vps", "web2")
    with pytest.raises(Refusal, match=r"web2 has no HAProxy\n  for example:  fab -H vps haproxy\.servers"):
        haproxy.ready.body.__wrapped__(None, "web2")


def test_ready_gives_back_the_weight_and_a_full_one_where_there_was_none(haproxys: Callable[..., list[str]]) -> None:
    for weight, order in ((40, 40), (0, 100)):
        orders = haproxys(STAT.format(status="DRAIN", admin=8, weight=weight))
        haproxy.ready.body.__wrapped__(None, "web2")
        assert orders == [f"set server varnish/web2 weight {order}; set server varnish/web2 state ready"]


def test_one_that_is_not_well_stays_in_maintenance(haproxys: Callable[..., list[str]]) -> None:
    orders = haproxys(STAT.format(status="MAINT", admin=1, weight=100))
    with pytest.raises(Problem, match=r"web2 is not up: MAINT .*; it stays in maintenance"):
        haproxy.ready.body.__wrapped__(None, "web2", wait=0)
    assert orders == ["set server varnish/web2 state drain", "set server varnish/web2 state maint"]


# ---------------------------------------------------------------------- shifting


@pytest.mark.parametrize(
    ("weight", "to", "step", "way"),
    [
        (0, 100, 40, [40, 80, 100]),
        (0, 100, 50, [50, 100]),
        (100, 0, 60, [40, 0]),
        (30, 30, 10, []),
        (5, 6, 100, [6]),
    ],
)
def test_a_shift_ends_where_it_shall(weight: int, to: int, step: int, way: list[int]) -> None:
    assert stages(weight, to, step) == way


@pytest.mark.parametrize(
    ("gaining", "others", "bad"),
    [
        (Tally(100, 50), Tally(900, 0), True),
        (Tally(10, 0, refused=3), Tally(90, 0), True),
        (Tally(10, 0, broken=3), Tally(90, 0), True),
        (Tally(10, 1), Tally(90, 0), False),  # one may be chance
        (Tally(1000, 9), Tally(1000, 0), False),
        (Tally(100, 30), Tally(100, 30), False),  # as bad as the others: the site's own fault
        (Tally(), Tally(90, 90), False),
    ],
)
def test_what_is_worse(gaining: Tally, others: Tally, bad: bool) -> None:
    assert worse(gaining, others) is bad


def test_a_reload_begins_the_count_anew() -> None:
    assert Tally(10, 1).since(Tally(4, 1)) == Tally(6, 0)
    assert Tally(3, 0).since(Tally(4, 1)) is None
