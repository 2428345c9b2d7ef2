"""HAProxy's chapter: what it renders for given hosts and sites, and how it reads what HAProxy says."""

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
from invoke import Exit

from fabfile import haproxy
from fabfile.engine import Host
from fabfile.engine.changes import Change, Install, Load, PutFile
from fabfile.engine.facts import Facts, Unit
from fabfile.model import Fleet, Refusal, Site

EXAMPLE = Site(domain="example.com")
SHOP = Site(domain="kiosk.co.test", subdomains=("www", "shop"), aliases=("kiosk.test",))
FACTS = Facts(system="debian", release="13", memory_mb=2048, ipv6="yes")
Wish = Callable[..., list[Change]]
Files = Callable[..., dict[str, str]]
Sections = Callable[..., dict[str, list[str]]]


@pytest.fixture
def wish(monkeypatch: pytest.MonkeyPatch) -> Wish:
    """What a step wishes for on a host of this release and memory, with these sites."""

    def wishes(
        step: object, *sites: Site, facts: Facts = FACTS, operators: tuple[str, ...] = (), **options: object
    ) -> list[Change]:
        host = Host("vps", Fleet.model_validate({"operators": operators}), visit=None)  # type: ignore[arg-type]
        host.sites, host._facts = sites, deepcopy(facts)
        monkeypatch.setattr(Host, "of", classmethod(lambda cls, c: host))
        step.body.__wrapped__(None, **options)  # type: ignore[attr-defined]
        return host._pending

    return wishes


@pytest.fixture
def files(wish: Wish) -> Files:
    def put(step: object, *sites: Site, **given: object) -> dict[str, str]:
        return {each.path: each.content.decode() for each in wish(step, *sites, **given) if isinstance(each, PutFile)}

    return put


@pytest.fixture
def config(files: Files) -> Sections:
    """The rendered configuration as sections: `frontend https from front` -> its lines."""

    def sections(*sites: Site, **given: object) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in files(haproxy.configure, *sites, **given)[haproxy.CONFIG].splitlines():
            if line.startswith("    ") and not line.lstrip().startswith("#"):
                found[next(reversed(found))].append(line.strip())
            elif line and not line.startswith(("#", " ")):
                found[line] = []
        return found

    return sections


def values(lines: list[str], key: str) -> list[str]:
    return [line.removeprefix(key + " ") for line in lines if line.startswith(key + " ")]


# ---------------------------------------------------------------------- names


def test_every_name_of_every_site_is_known_with_its_site_and_no_other(files: Files) -> None:
    assert files(haproxy.hosts, EXAMPLE, SHOP)["/etc/haproxy/hosts.map"].splitlines() == [
        "example.com example.com",
        "www.example.com example.com",
        "kiosk.co.test kiosk.co.test",
        "www.kiosk.co.test kiosk.co.test",
        "shop.kiosk.co.test kiosk.co.test",
        "kiosk.test kiosk.co.test",
    ]


def test_a_site_with_cache_settings_of_its_own_has_a_line_and_no_other_site_has(files: Files) -> None:
    own = Site.model_validate({"domain": "own.test", "cache": {"ttl": 7, "keep_cookies": ("login", "PHPSESSID")}})
    closed = Site.model_validate({"domain": "closed.test", "cache": {"grace": 20, "bypass": ("/admin/", "/a.b")}})
    maps = files(haproxy.hosts, EXAMPLE, own, closed)
    assert maps["/etc/haproxy/cache.map"].splitlines() == [
        "own.test ttl=7 grace=3600 keep=login,PHPSESSID",
        "closed.test ttl=120 grace=20 keep=",
    ]
    assert maps["/etc/haproxy/bypass.map"].splitlines() == ["closed.test/admin/ pass", "closed.test/a.b pass"]


def test_without_sites_the_maps_are_there_and_empty(files: Files) -> None:
    assert files(haproxy.hosts) == dict.fromkeys(haproxy.MAPS, "")


def test_every_map_that_is_looked_into_is_written(config: Sections) -> None:
    looked = {path for lines in config().values() for line in lines for path in re.findall(r"/\S+?\.map", line)}
    assert looked == set(haproxy.MAPS)


def test_a_thousand_sites_are_lines_of_the_maps_and_none_of_the_configuration(config: Sections, files: Files) -> None:
    many = [
        Site.model_validate({"domain": f"s{n}.test", "cache": {"ttl": n, "bypass": ("/admin/",)}}) for n in range(1000)
    ]
    assert [len(text.splitlines()) for text in files(haproxy.hosts, *many).values()] == [2000, 1000, 1000]
    assert config(*many) == config(EXAMPLE)


def test_a_name_is_looked_up_in_lower_case_without_port_and_dot_before_anything_goes_on(config: Sections) -> None:
    rules = config(EXAMPLE)["defaults front from base"]
    assert "http-request set-var(txn.host) req.hdr(host),host_only,lower,rtrim(.)" in rules
    refusal = next(rule for rule in rules if "status 421" in rule)
    assert refusal.endswith("unless { var(txn.site) -m found }")
    for name in ("http", "https"):
        assert f"frontend {name} from front" in config(EXAMPLE)


def test_no_redirect_goes_to_a_name_as_the_client_wrote_it(config: Sections) -> None:
    redirects = [rule for lines in config(EXAMPLE).values() for rule in lines if " redirect " in rule]
    assert len(redirects) == 1
    assert "location https://%[var(txn.host)]%[pathq] code 301" in redirects[0]


def test_a_kernel_without_ipv6_is_not_asked_for_it(config: Sections) -> None:
    def binds(ipv6: str) -> list[str]:
        sections = config(EXAMPLE, facts=replace(FACTS, ipv6=ipv6))
        return [line.partition(" ssl")[0] for lines in sections.values() for line in lines if line.startswith("bind")]

    assert binds("yes") == ["bind :80,:::80 v6only", "bind :443,:::443 v6only"]
    assert binds("") == ["bind :80", "bind :443"]


# ---------------------------------------------------------------------- TLS


@pytest.mark.parametrize(("release", "hybrid"), [("13", True), ("12", False)])
def test_tls_is_mozillas_intermediate_guideline(config: Sections, release: str, hybrid: bool) -> None:
    lines = config(EXAMPLE, facts=replace(FACTS, release=release))["global"]
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


def test_every_tls_answer_has_one_hsts_and_no_plain_one_has_any(config: Sections) -> None:
    sections = config(EXAMPLE)
    said = {name: [rule for rule in lines if "Strict-Transport" in rule] for name, lines in sections.items()}
    assert said.pop("frontend https from front") == [
        'http-after-response set-header Strict-Transport-Security "max-age=63072000; includeSubDomains"'
    ]
    assert said.pop("frontend http from front") == ["http-after-response del-header Strict-Transport-Security"]
    assert not any(said.values())


# ---------------------------------------------------------------------- what clients say


def test_what_only_a_proxy_may_say_is_forgotten_before_it_is_said(config: Sections) -> None:
    rules = config(EXAMPLE)["frontend https from front"]
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
    assert not any("option forwardfor" in line for lines in config(EXAMPLE).values() for line in lines)


@pytest.mark.parametrize("frontend", ["http", "https"])
def test_limits_count_clients_and_leave_operators_alone(config: Sections, frontend: str) -> None:
    """In each frontend itself: HAProxy 2.6 passes over such rules in a defaults section."""
    limits = {"operators": ("203.0.113.0/24", "2001:db8::/48"), "connections": 30, "concurrent": 9}
    rules = [rule for rule in config(EXAMPLE, **limits)[f"frontend {frontend} from front"] if rule.startswith("tcp-")]
    assert rules == [
        "tcp-request connection accept if { src 203.0.113.0/24 2001:db8::/48 }",
        "tcp-request connection track-sc0 src,ipmask(32,64) table clients",
        "tcp-request connection reject if { sc0_conn_cur gt 9 }",
        "tcp-request connection reject if { sc0_conn_rate gt 30 }",
    ]
    assert not any(" accept " in rule for rule in config(EXAMPLE)[f"frontend {frontend} from front"])
    assert not any(line.startswith("tcp-") for line in config(EXAMPLE)["defaults front from base"])


def test_a_flood_is_refused_but_for_the_ca(config: Sections) -> None:
    [refusal] = [rule for rule in config(requests=70)["defaults front from base"] if "deny_status 429" in rule]
    assert "sc0_http_req_rate gt 70" in refusal
    assert refusal.endswith("!{ path_beg /.well-known/acme-challenge/ }")


@pytest.mark.parametrize("option", ["requests", "connections", "concurrent", "maxconn"])
def test_a_limit_that_would_shut_everybody_out_is_refused(wish: Wish, option: str) -> None:
    with pytest.raises(Refusal, match=f"--{option} -1"):
        wish(haproxy.configure, EXAMPLE, **{option: -1})


@pytest.mark.parametrize(("memory", "most"), [(256, 1000), (2048, 4096), (65536, 8000)])
def test_connections_fit_the_memory(config: Sections, memory: int, most: int) -> None:
    assert values(config(EXAMPLE, facts=replace(FACTS, memory_mb=memory))["global"], "maxconn") == [str(most)]


def test_haproxy_waits_longer_than_varnish_which_waits_longer_than_the_slowest_php(config: Sections) -> None:
    slow = Site.model_validate({"domain": "slow.test", "php": {"timeout": 300}})
    assert "timeout server 70s" in config(EXAMPLE)["defaults base"]
    assert "timeout server 320s" in config(EXAMPLE, slow)["defaults base"]


# ---------------------------------------------------------------------- pages


def test_every_page_that_haproxy_may_need_is_there_whole_and_says_nothing_about_us(
    config: Sections, files: Files
) -> None:
    put = files(haproxy.configure, EXAMPLE)
    named = {
        path for lines in config(EXAMPLE).values() for line in lines for path in re.findall(r"/\S+/errors/\S+", line)
    }
    assert named == {path for path in put if path.startswith(haproxy.ERRORS)}
    for path in sorted(named):
        head, _, body = put[path].partition("\n\n") if path.endswith(".http") else ("", "", put[path])
        code = path.rpartition("/")[2].partition(".")[0]
        if head:
            assert head.startswith(f"HTTP/1.1 {code} ")
            assert f"Content-Length: {len(body.encode())}" in head.splitlines()
        assert f"<title>{code} " in body
        assert not re.search("haproxy|varnish|apache|debian|gatehouse", head + body, re.IGNORECASE)


# ---------------------------------------------------------------------- steps


def test_the_sandbox_is_there_before_the_package_starts(wish: Wish) -> None:
    changes = wish(haproxy.install)
    put = next(place for place, change in enumerate(changes) if isinstance(change, PutFile))
    install = next(place for place, change in enumerate(changes) if isinstance(change, Install))
    assert put < install


def test_every_file_is_judged_with_warnings_as_faults(wish: Wish) -> None:
    checks = {change.check for change in wish(haproxy.configure, EXAMPLE) if isinstance(change, PutFile)}
    assert checks == {f"haproxy -c -dW -f {haproxy.CONFIG}"}


def test_a_new_name_or_page_is_a_reload_and_never_a_restart_and_certificates_load_themselves(wish: Wish) -> None:
    [load] = wish(haproxy.start, facts=replace(FACTS, units={"haproxy.service": Unit("active", "enabled")}))
    assert isinstance(load, Load)
    assert {*haproxy.MAPS, haproxy.CONFIG, haproxy.ERRORS} == set(load.reload_on)
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
    assert haproxy.read_servers(STAT) == [
        dict(zip(haproxy.COLUMNS, row, strict=True))
        for row in [
            ("acme/lego", "no check", "", 1, 0, 0, 3, 2, 60),
            ("varnish/varnish", "UP", "L7OK", 100, 1, 2, 1234, 5, 61),
        ]
    ]


def test_a_question_wants_a_host() -> None:
    import invoke

    with pytest.raises(Exit):
        haproxy.servers(invoke.Context())
