"""HAProxy's chapter: what it renders for given hosts and sites, and how it reads what HAProxy says."""

import re
from collections.abc import Callable
from functools import partial

import pytest
from invoke import Exit

from fabfile import haproxy
from fabfile.engine.changes import Install, Load, PutFile
from fabfile.engine.facts import Unit
from fabfile.haproxy.traffic import COLUMNS, read_servers
from fabfile.model import Refusal

from .recording import Recorded, contents, site

EXAMPLE = site()
SHOP = site("kiosk.co.test", subdomains=("www", "shop"), aliases=("kiosk.test",))
MakeHost = Callable[..., Recorded]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> MakeHost:
    """Makes a host with IPv6, these sites, and what else is said of it."""
    return partial(Recorded, monkeypatch, ipv6="yes")


def config(host: Recorded, **options: object) -> dict[str, list[str]]:
    """The rendered configuration as sections: `frontend https from front` -> its lines."""
    found: dict[str, list[str]] = {}
    for line in contents(host.after(haproxy.configure, **options))[haproxy.CONFIG].splitlines():
        if line.startswith("    ") and not line.lstrip().startswith("#"):
            found[next(reversed(found))].append(line.strip())
        elif line and not line.startswith(("#", " ")):
            found[line] = []
    return found


def values(lines: list[str], key: str) -> list[str]:
    return [line.removeprefix(key + " ") for line in lines if line.startswith(key + " ")]


# ---------------------------------------------------------------------- names


def test_every_name_of_every_site_is_known_with_its_site_and_no_other(host: MakeHost) -> None:
    assert contents(host(EXAMPLE, SHOP).after(haproxy.hosts))["/etc/haproxy/hosts.map"].splitlines() == [
        "example.com example.com",
        "www.example.com example.com",
        "kiosk.co.test kiosk.co.test",
        "www.kiosk.co.test kiosk.co.test",
        "shop.kiosk.co.test kiosk.co.test",
        "kiosk.test kiosk.co.test",
    ]


def test_a_site_with_cache_settings_of_its_own_has_a_line_and_no_other_site_has(host: MakeHost) -> None:
    own = site("own.test", cache={"ttl": 7, "keep_cookies": ("login", "PHPSESSID")})
    closed = site("closed.test", cache={"grace": 20, "bypass": ("/admin/", "/a.b")})
    maps = contents(host(EXAMPLE, own, closed).after(haproxy.hosts))
    assert maps["/etc/haproxy/cache.map"].splitlines() == [
        "own.test ttl=7 grace=3600 keep=login,PHPSESSID",
        "closed.test ttl=120 grace=20 keep=",
    ]
    assert maps["/etc/haproxy/bypass.map"].splitlines() == ["closed.test/admin/ pass", "closed.test/a.b pass"]


def test_without_sites_the_maps_are_there_and_empty(host: MakeHost) -> None:
    assert contents(host().after(haproxy.hosts)) == dict.fromkeys(haproxy.MAPS, "")


def test_every_map_that_is_looked_into_is_written(host: MakeHost) -> None:
    looked = {path for lines in config(host()).values() for line in lines for path in re.findall(r"/\S+?\.map", line)}
    assert looked == set(haproxy.MAPS)


def test_a_thousand_sites_are_lines_of_the_maps_and_none_of_the_configuration(host: MakeHost) -> None:
    many = [site(f"s{n}.test", cache={"ttl": n, "bypass": ("/admin/",)}) for n in range(1000)]
    maps = contents(host(*many).after(haproxy.hosts))
    assert [len(maps[path].splitlines()) for path in haproxy.MAPS] == [2000, 1000, 1000, 0, 0]
    assert config(host(*many)) == config(host(EXAMPLE))


def test_a_name_is_looked_up_in_lower_case_without_port_and_dot_before_anything_goes_on(host: MakeHost) -> None:
    rules = config(host(EXAMPLE))["defaults front from base"]
    assert "http-request set-var(txn.host) req.hdr(host),host_only,lower,rtrim(.)" in rules
    refusal = next(rule for rule in rules if "status 421" in rule)
    assert refusal.endswith("unless { var(txn.site) -m found }")
    for name in ("http", "https"):
        assert f"frontend {name} from front" in config(host(EXAMPLE))


def test_no_redirect_goes_to_a_name_as_the_client_wrote_it(host: MakeHost) -> None:
    redirects = [rule for lines in config(host(EXAMPLE)).values() for rule in lines if " redirect " in rule]
    assert len(redirects) == 1
    assert "location https://%[var(txn.host)]%[pathq] code 301" in redirects[0]


def test_a_kernel_without_ipv6_is_not_asked_for_it(host: MakeHost) -> None:
    def binds(ipv6: str) -> list[str]:
        sections = config(host(EXAMPLE, ipv6=ipv6))
        return [line.partition(" ssl")[0] for lines in sections.values() for line in lines if line.startswith("bind :")]

    assert binds("yes") == ["bind :80,:::80 v6only", "bind :443,:::443 v6only"]
    assert binds("") == ["bind :80", "bind :443"]


# ---------------------------------------------------------------------- TLS


@pytest.mark.parametrize(("release", "hybrid"), [("13", True), ("12", False)])
def test_tls_is_mozillas_intermediate_guideline(host: MakeHost, release: str, hybrid: bool) -> None:
    lines = config(host(EXAMPLE, release=release))["global"]
    [ciphers], [suites], [curves] = (
        values(lines, f"ssl-default-bind-{kind}") for kind in ("ciphers", "ciphersuites", "curves")
    )
    assert set(ciphers.split(":")) == {
        f"ECDHE-{key}-{rest}"
        for key in ("ECDSA", "RSA")
        for rest in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    }
    assert set(suites.split(":")) == {
        f"TLS_{x}" for x in ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256")
    }
    assert curves.split(":") == ["X25519MLKEM768"] * hybrid + ["X25519", "prime256v1", "secp384r1"]
    assert values(lines, "ssl-default-bind-options") == ["prefer-client-ciphers ssl-min-ver TLSv1.2 no-tls-tickets"]
    assert values(lines, "ssl-default-server-ciphers") == [ciphers]
    assert values(lines, "ssl-default-server-ciphersuites") == [suites]


def test_every_tls_answer_has_one_hsts_and_no_plain_one_has_any(host: MakeHost) -> None:
    sections = config(host(EXAMPLE))
    said = {name: [rule for rule in lines if "Strict-Transport" in rule] for name, lines in sections.items()}
    assert said.pop("frontend https from front") == [
        'http-after-response set-header Strict-Transport-Security "max-age=63072000; includeSubDomains"'
    ]
    assert said.pop("frontend http from front") == ["http-after-response del-header Strict-Transport-Security"]
    assert not any(said.values())


# ---------------------------------------------------------------------- what clients say


def test_what_only_a_proxy_may_say_is_forgotten_before_it_is_said(host: MakeHost) -> None:
    rules = config(host(EXAMPLE))["frontend https from front"]
    assert "http-request del-header X-Forwarded -m beg" in rules
    for header in ("Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP", "Proxy", "Upgrade"):
        assert f"http-request del-header {header}" in rules
    forgotten = max(place for place, rule in enumerate(rules) if rule.startswith("http-request del-header"))
    said = {rule.split()[2]: place for place, rule in enumerate(rules) if rule.startswith("http-request set-header")}
    assert set(said) == {
        "Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Request-ID",
        "X-Site-Cache",
    }
    assert min(said.values()) > forgotten
    assert not any("option forwardfor" in line for lines in config(host(EXAMPLE)).values() for line in lines)


@pytest.mark.parametrize("frontend", ["http", "https"])
def test_limits_count_clients_and_leave_operators_alone(host: MakeHost, frontend: str) -> None:
    """In each frontend itself: HAProxy 2.6 passes over such rules in a defaults section."""
    operators = ("203.0.113.0/24", "2001:db8::/48")
    lines = config(host(EXAMPLE, operators=operators), connections=30, concurrent=9)[f"frontend {frontend} from front"]
    rules = [rule for rule in lines if rule.startswith("tcp-")]
    assert rules == [
        "tcp-request connection accept if { src 203.0.113.0/24 2001:db8::/48 }",
        "tcp-request connection track-sc0 src,ipmask(32,64) table clients",
        "tcp-request connection reject if { sc0_conn_cur gt 9 }",
        "tcp-request connection reject if { sc0_conn_rate gt 30 }",
    ]
    assert not any(" accept " in rule for rule in config(host(EXAMPLE))[f"frontend {frontend} from front"])
    assert not any(line.startswith("tcp-") for line in config(host(EXAMPLE))["defaults front from base"])


def test_a_flood_is_refused_but_for_the_ca(host: MakeHost) -> None:
    [refusal] = [rule for rule in config(host(), requests=70)["defaults front from base"] if "deny_status 429" in rule]
    assert "sc0_http_req_rate gt 70" in refusal
    assert refusal.endswith("!{ path_beg /.well-known/acme-challenge/ }")


@pytest.mark.parametrize("option", ["requests", "connections", "concurrent", "maxconn"])
def test_a_limit_that_would_shut_everybody_out_is_refused(host: MakeHost, option: str) -> None:
    with pytest.raises(Refusal, match=f"--{option} -1"):
        host(EXAMPLE).after(haproxy.configure, **{option: -1})


@pytest.mark.parametrize(("memory", "most"), [(256, 1000), (2048, 4096), (65536, 8000)])
def test_connections_fit_the_memory(host: MakeHost, memory: int, most: int) -> None:
    assert values(config(host(EXAMPLE, memory_mb=memory))["global"], "maxconn") == [str(most)]


def test_haproxy_waits_longer_than_varnish_which_waits_longer_than_the_slowest_php(host: MakeHost) -> None:
    slow = site("slow.test", php={"timeout": 300})
    assert "timeout server 70s" in config(host(EXAMPLE))["defaults base"]
    assert "timeout server 320s" in config(host(EXAMPLE, slow))["defaults base"]


# ---------------------------------------------------------------------- pages


def test_every_page_that_haproxy_may_need_is_there_whole_and_says_nothing_about_us(host: MakeHost) -> None:
    put = contents(host(EXAMPLE).after(haproxy.configure))
    named = set(re.findall(r"/etc/haproxy/errors/\S+", put[haproxy.CONFIG]))
    assert named == {path for path in put if path.startswith(haproxy.ERRORS)}
    for path in sorted(named):
        head, _, body = put[path].partition("\n\n") if path.endswith(".http") else ("", "", put[path])
        code = path.rpartition("/")[2].partition(".")[0]
        if head:
            assert head.startswith(f"HTTP/1.1 {code} ")
            assert f"Content-Length: {len(body.encode())}" in head.splitlines()
        assert f"<title>{503 if code == 'suspended' else code} " in body
        assert not re.search("haproxy|varnish|apache|debian|gatehouse", head + body, re.IGNORECASE)


# ---------------------------------------------------------------------- steps


def test_what_the_parser_would_answer_without_our_headers_is_not_answered_over_tls(host: MakeHost) -> None:
    sections = config(host(EXAMPLE))
    silent = {name: values(lines, "errorfile") for name, lines in sections.items() if name != "http-errors pages"}
    assert silent.pop("frontend https from front") == [f"{code} /dev/null" for code in haproxy.UNSAID]
    assert silent.pop("backend varnish from base") == ["408 /dev/null"]
    assert not any(silent.values())
    for rule in (rule for lines in sections.values() for rule in lines if " deny " in rule):
        assert " errorfiles pages if " in rule or " errorfiles pages unless " in rule


def test_a_body_fits_the_site_and_so_do_haproxy_and_php(host: MakeHost) -> None:
    big = host(EXAMPLE, site("big.test", php={"upload_limit": "2G"}))
    assert contents(big.after(haproxy.hosts))["/etc/haproxy/bodies.map"] == f"big.test {2 * 1024**3}\n"
    assert any(f"/etc/haproxy/bodies.map,{8 * 1024**2})" in rule for rule in config(big)["frontend https from front"])


def test_the_sandbox_is_there_before_the_package_starts(host: MakeHost) -> None:
    changes = host().after(haproxy.install)
    put = next(place for place, change in enumerate(changes) if isinstance(change, PutFile))
    install = next(place for place, change in enumerate(changes) if isinstance(change, Install))
    assert put < install


def test_every_file_is_judged_with_warnings_as_faults(host: MakeHost) -> None:
    checks = {change.check for change in host(EXAMPLE).after(haproxy.configure) if isinstance(change, PutFile)}
    assert checks == {f"haproxy -c -dW -f {haproxy.CONFIG}"}


def test_a_new_name_or_page_is_a_reload_and_never_a_restart_and_certificates_load_themselves(host: MakeHost) -> None:
    [load] = host(units={"haproxy.service": Unit("active", "enabled")}).after(haproxy.start)
    assert isinstance(load, Load)
    assert {*haproxy.MAPS, haproxy.BACKENDS, haproxy.CONFIG, haproxy.ERRORS} == set(load.reload_on)
    assert load.restart_on == (haproxy.UNIT,)


def test_the_order_of_steps_tells_the_story() -> None:
    assert [step.name for step in haproxy.STEPS] == ["install", "hosts", "configure", "start"]


# ---------------------------------------------------------------------- on call

STAT = """\
# pxname,svname,qcur,scur,stot,econ,eresp,status,weight,lastchg,check_status
acme,lego,0,0,3,2,,no check,1,60,
varnish,varnish,1,2,1234,1,4,UP,100,61,L7OK
"""


def test_servers_are_read_as_haproxy_tells_them() -> None:
    assert [server.row for server in read_servers(STAT)] == [
        dict(zip(COLUMNS, row, strict=True))
        for row in [
            ("acme/lego", "no check", "", 1, "", 0, 0, 3, 2, 60),
            ("varnish/varnish", "UP", "L7OK", 100, "", 1, 2, 1234, 5, 61),
        ]
    ]


def test_a_question_wants_a_host() -> None:
    import invoke

    with pytest.raises(Exit):
        haproxy.servers(invoke.Context())
