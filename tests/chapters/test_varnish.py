"""Varnish's chapter: what it renders for given sites, and which cookies and paths its expressions mean."""

import re
from collections.abc import Callable
from functools import partial

import pytest

from fabfile import varnish
from fabfile.engine.changes import Install, Load, PutFile, PutLink
from fabfile.engine.facts import Unit

from .recording import Recorded, contents, site

PLAIN = site()
MakeHost = Callable[..., Recorded]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> MakeHost:
    """Makes a host with these sites, and what else is said of it."""
    return partial(Recorded, monkeypatch)


def body(vcl: str, sub: str) -> str:
    """What stands between the braces of a sub."""
    found = re.search(rf"^sub {sub} {{\n(.*?)^}}", vcl, re.MULTILINE | re.DOTALL)
    assert found, sub
    return found[1]


# ---------------------------------------------------------------------- the door


def test_its_addresses_are_known_before_the_package_can_start_it_on_others(host: MakeHost) -> None:
    changes = host().after(varnish.install)
    install = next(place for place, change in enumerate(changes) if isinstance(change, Install))
    before = {change.path for change in changes[:install] if isinstance(change, PutFile | PutLink)}
    assert before == {varnish.UNIT, varnish.NCSA}
    assert changes[-1] == Install(("varnish", "socat"))


def test_it_listens_on_the_loopback_alone_and_purges_at_a_socket_of_roots(host: MakeHost) -> None:
    unit = contents(host().after(varnish.install))[varnish.UNIT].replace("\\\n", " ")
    assert unit.index("ExecStart=\n") < unit.index("ExecStart=/usr/sbin/varnishd")
    assert re.findall(r" -a (\S+)", unit) == [
        "front=127.0.0.1:8081,PROXY",
        "purge=/run/varnish/purge.sock,HTTP,user=root,group=root,mode=600",
    ]
    assert re.findall(r" -T (\S+)", unit) == ["127.0.0.1:6082"]
    assert " -S /etc/varnish/secret" in unit
    assert "http2" not in unit
    assert f"ConditionPathExists={varnish.VCL}" in unit


@pytest.mark.parametrize(("memory", "cache"), [(256, 64), (2048, 256), (131072, 8192)])
def test_the_cache_is_an_eighth_of_the_memory_within_reason(host: MakeHost, memory: int, cache: int) -> None:
    assert f" -s malloc,{cache}m " in contents(host(memory_mb=memory).after(varnish.install))[varnish.UNIT]


def test_the_operators_word_about_memory_counts(host: MakeHost) -> None:
    assert " -s malloc,777m " in contents(host().after(varnish.install, memory=777))[varnish.UNIT]


# ---------------------------------------------------------------------- sites


def test_the_vcl_is_the_same_for_no_site_and_for_a_thousand(host: MakeHost) -> None:
    """What is particular to a site comes with the request: a thousand branches would take minutes to compile."""
    many = (
        site(f"s{n}.test", cache={"ttl": n, "keep_cookies": ("login",), "bypass": ("/admin/",)}) for n in range(1000)
    )
    assert contents(host().after(varnish.configure)) == contents(host(*many).after(varnish.configure))


def test_varnish_waits_for_the_slowest_php(host: MakeHost) -> None:
    slow = site("slow.test", php={"timeout": 300})
    assert ".first_byte_timeout = 60s;" in contents(host(PLAIN).after(varnish.configure))[varnish.VCL]
    assert ".first_byte_timeout = 310s;" in contents(host(PLAIN, slow).after(varnish.configure))[varnish.VCL]


# ---------------------------------------------------------------------- what the expressions mean


@pytest.fixture
def expressions(host: MakeHost) -> dict[str, str]:
    vcl = contents(host().after(varnish.configure))[varnish.VCL]
    static, script = re.findall(r'req\.url (?:~|!~) "([^"]+)"', body(vcl, "judge"))
    [analytics] = re.findall(r'cookie\.filter_re\("([^"]+)"\)', vcl)
    return {"static": static, "script": script, "analytics": analytics}


@pytest.mark.parametrize(
    "name",
    ["_ga", "_ga_AB12CD", "_gid", "_gat", "_gat_UA-1", "__utma", "__utmz", "_gcl_au", "_fbp", "_pk_id.1.fff", "_hjid"],
)
def test_cookies_of_statistics_are_known(expressions: dict[str, str], name: str) -> None:
    assert re.search(expressions["analytics"], name)


@pytest.mark.parametrize("name", ["PHPSESSID", "_gadget", "ga", "my_ga", "_fb", "_hj", "utma", "wordpress_logged_in_1"])
def test_cookies_of_sites_are_left_alone(expressions: dict[str, str], name: str) -> None:
    assert not re.search(expressions["analytics"], name)


@pytest.mark.parametrize("url", ["/a.css", "/i/A.JPG?v=1", "/x.min.js", "/f.woff2", "/a.b.svgz"])
def test_what_pages_are_made_of_is_static(expressions: dict[str, str], url: str) -> None:
    assert re.search(expressions["static"], url)
    assert not re.search(expressions["script"], url)


@pytest.mark.parametrize(
    "url", ["/", "/a.php", "/a?x=.css", "/a.cssx", "/css", "/invoice.pdf", "/backup.zip", "/a.php?f=/b.css", "/.css/"]
)
def test_what_may_be_somebodys_own_is_not_static(expressions: dict[str, str], url: str) -> None:
    assert not re.search(expressions["static"], url)


@pytest.mark.parametrize("url", ["/account.php/x.css", "/a/b.PHP/c.png?d", "/x.php7/a.js"])
def test_a_path_behind_a_script_is_the_scripts(expressions: dict[str, str], url: str) -> None:
    assert re.search(expressions["script"], url)


# ---------------------------------------------------------------------- steps


def test_the_vcl_is_compiled_before_it_is_there(host: MakeHost) -> None:
    [put] = (change for change in host(PLAIN).after(varnish.configure) if isinstance(change, PutFile))
    assert (put.path, put.check) == (varnish.VCL, f"varnishd -j none -C -f {varnish.VCL}")


def test_new_vcl_is_a_reload_and_only_another_command_line_a_restart(host: MakeHost) -> None:
    running = {"varnish.service": Unit("active", "enabled")}
    [load] = host(units=running).after(varnish.start)
    assert isinstance(load, Load)
    assert load.reload_on == (varnish.VCL,)
    assert load.restart_on == (varnish.UNIT,)


def test_every_sub_is_called_since_varnish_refuses_an_unused_one(host: MakeHost) -> None:
    vcl = contents(host().after(varnish.configure))[varnish.VCL]
    subs = {name for name in re.findall(r"^sub (\w+)", vcl, re.MULTILINE) if not name.startswith("vcl_")}
    assert subs == set(re.findall(r"call (\w+);", vcl))


# ---------------------------------------------------------------------- a site's share of Apache


def test_where_apache_starts_processes_a_site_has_so_many_requests_at_once(host: MakeHost) -> None:
    """MaxClientsVHost of mpm-itk counts nobody without ExtendedStatus, and CGI has no limit at all."""
    crowd = [
        site("a.test", runtime="itk", php={"children": 3}),
        site("b.test", runtime="cgi", limits={"requests": 7}, aliases=("c.test",)),
        site("d.test", mounts={"/cgi": {"runtime": "cgi"}}),
        site("e.test"),
    ]
    vcl = contents(host(*crowd).after(varnish.configure))[varnish.VCL]
    most = dict(re.findall(r"(?s)backend (of_\S+) \{[^}]*?max_connections = (\d+);[^}]*\n\}", vcl))
    fetch = body(vcl, "vcl_backend_fetch")

    assert {"of_a-test": "3", "of_b-test": "7", "of_d-test": "5"} == most
    assert vcl.count("max_connections") == vcl.count("wait_timeout") == 3
    assert "wait_" not in contents(host(*crowd, release="12").after(varnish.configure))[varnish.VCL]
    assert (
        'if (bereq.http.Host == "b.test" || bereq.http.Host == "www.b.test" || bereq.http.Host == "c.test") {\n'
        "        set bereq.backend = of_b-test;" in fetch
    )
    assert "e.test" not in vcl
