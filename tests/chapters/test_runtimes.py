"""What stands in a vhost for each runtime, which modules and packages come with it, and what goes when."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fabfile import apache, flows, php, runtime
from fabfile.engine.changes import Install, Load, PutLink, Remove, Run
from fabfile.engine.facts import Unit
from fabfile.model import Site

from .recording import Recorded, a_file, contents
from .recording import site as a_site

PROGRAM = {"runtime": "server", "command": "exec ./serve"}
POOL = "/etc/php/8.4/fpm/pool.d/example.com.conf"


def vhost(monkeypatch: pytest.MonkeyPatch, site: Site) -> list[str]:
    """The lines of a site's vhost."""
    text = contents(Recorded(monkeypatch, site).after(apache.vhosts))[f"{apache.VHOSTS}/{site}.conf"]
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"runtime": "fcgid"}, ["Use FcgidRoom 5 4096 10 35 8388608", "Use Fcgid /", "Use FcgidPhp / example-com"]),
        ({"runtime": "fcgid", "php": False}, ["Use FcgidRoom 5 0 60 35 8388608", "Use Fcgid /", 'Use NoPhp "^/"']),
        ({"runtime": "cgi"}, ["Use CgiRoom 35 536870912 128", "Use Cgi /", 'Use NoPhp "^/"']),
        (
            {"runtime": "itk"},
            ["AssignUserID example-com example-com", "Include /etc/gatehouse/itk/example-com.conf", "Use Itk /"],
        ),
        (PROGRAM, ['Use Program / "unix:/run/gatehouse/example-com/_.sock|http://example-com" 35 16']),
        (
            {"mounts": {"/a": {"runtime": "cgi"}, "/a/b": {"runtime": "static"}}},
            [
                "Use CgiRoom 35 536870912 128", "Use NoCgi /", "Use Fpm / example-com",
                "Use Cgi /a", 'Use NoPhp "^(?!(?:/a/b)(?![^/]))/a(?![^/])"',
                "Use NoCgi /a/b", 'Use NoPhp "^/a/b(?![^/])"',
            ],
        ),
        (
            {**PROGRAM, "mounts": {"/files": {"runtime": "static"}}},
            [
                'Use Program / "unix:/run/gatehouse/example-com/_.sock|http://example-com" 35 16',
                "Use Files /files", 'Use NoPhp "^/files(?![^/])"',
            ],
        ),
    ],
)  # fmt: skip
def test_a_vhost_is_a_room_what_runs_at_each_path_and_a_wall(
    monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], expected: list[str]
) -> None:
    room, *lines, wall = vhost(monkeypatch, a_site(**keys))

    assert 'Use Room example.com 3 example.com example-com 35 "example.com www.example.com"' == room
    assert expected == lines
    assert wall.startswith("Use Wall example.com example-com ")


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("|proxy:http://example-com/", True),
        ("|proxy:http://example-com/any/path", True),
        ("|proxy:scgi://example-com/wiki", True),
        ("|proxy:scgi://example-com/wiki/page", True),
        ("|proxy:scgi://example-com/wiki?x=1", True),
        ("|proxy:scgi://example-com/wikis", False),
        ("|proxy:scgi://example-com/", False),
        ("/run/gatehouse/kiosk-test/_.sock|proxy:http://example-com/", False),
        ("|proxy:http://kiosk-test/", False),
        ("|proxy:http://127.0.0.1:6379/", False),
        ("|proxy:fcgi://example-com/", False),
        ("/run/php/example-com.sock|proxy:fcgi://example-com/", False),
    ],
)
def test_a_vhost_leads_to_the_site_s_own_programs_and_nowhere_else(address: str, allowed: bool) -> None:
    site = a_site(**PROGRAM, mounts={"/wiki": {"runtime": "scgi", "command": "exec ./wiki"}})

    assert allowed == bool(re.match(apache.targets(site), address))
    assert not re.match(apache.targets(a_site()), address)


def test_every_vhost_ends_with_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    macros = contents(Recorded(monkeypatch, a_site()).after(apache.configure))[apache.MACRO]
    whole = re.findall(r"(?s)<VirtualHost.*?</VirtualHost>", macros)

    assert 2 == len(whole)
    assert all(re.search(r'Use Wall \$tree \$owner "\(\?!\)"\n\s*</VirtualHost>$', one) for one in whole)


@pytest.mark.parametrize(
    ("keys", "modules"),
    [
        ({}, set[str]()),
        ({"runtime": "fcgid"}, {"fcgid.load", "suexec.load"}),
        ({"runtime": "cgi"}, {"cgid.load", "cgid.conf", "suexec.load"}),
        (PROGRAM, {"proxy_http.load"}),
        ({"runtime": "scgi", "command": "exec ./x"}, {"proxy_scgi.load"}),
        ({"runtime": "ajp", "webapps": "w"}, {"proxy_ajp.load"}),
        ({"runtime": "itk"}, {"mpm_itk.load", "mpm_prefork.load", "mpm_prefork.conf", "php8.4.load"}),
    ],
)
def test_a_module_is_loaded_where_a_site_needs_it(
    monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any], modules: set[str]
) -> None:
    changes = Recorded(monkeypatch, a_site(**keys)).after(apache.modules)

    linked = {change.path.rpartition("/")[2] for change in changes if isinstance(change, PutLink)}
    usual = {f"{name}.load" for name in apache.LOADED.split()} | {f"{name}.conf" for name in apache.CONFIGURED.split()}
    mine = usual - {"mpm_event.load", "mpm_event.conf"} if keys.get("runtime") == "itk" else usual
    assert mine | modules == linked


def test_a_module_goes_once_no_vhost_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before: Apache's check would refuse what is there still."""
    enabled = [f"{apache.ROOT}/mods-enabled/{name}.load" for name in ("fcgid", "suexec", "proxy_http", "rewrite")]
    host = Recorded(monkeypatch, a_site(runtime="cgi"), files={path: a_file(kind="l") for path in enabled})

    first, then = host.after(apache.modules), host.after(apache.vhosts)

    assert not {*enabled} & {change.path for change in first if isinstance(change, Remove)}
    assert {enabled[0], enabled[2]} == {change.path for change in then if isinstance(change, Remove)}


def test_modules_with_a_daemon_are_read_once_more_before_apache_is_reloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else their daemons are not there (mod_cgid), or its children fall (mod_fcgid)."""
    loads = {f"{apache.ROOT}/mods-enabled/{name}.load": a_file(kind="l") for name in ("fcgid", "rewrite")}
    runs = {"apache2.service": Unit("active", "enabled")}
    host = Recorded(monkeypatch, a_site(runtime="fcgid"), files=loads, units=runs)

    first, then = host.after(apache.start)

    assert isinstance(first, Run)
    assert "apache2ctl graceful" in first.script
    assert isinstance(then, Load)
    assert not [path for path in then.restart_on if "cgid" in path]
    usual = Recorded(monkeypatch, a_site()).after(apache.start)
    assert [Load] == [type(change) for change in usual]


def test_parts_of_apache_come_without_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = a_site(runtime="fcgid"), a_site("tool.test", runtime="cgi")
    installed = [one for one in Recorded(monkeypatch, *sites).after(*runtime.STEPS) if isinstance(one, Install)]
    itk = Recorded(monkeypatch, a_site(runtime="itk")).after(*runtime.STEPS)

    assert installed
    assert all(one.held for one in (*installed, *(one for one in itk if isinstance(one, Install))))
    assert "libapache2-mod-fcgid" in {name for one in installed for name in one.names}


def test_the_wrapper_has_php_s_settings_and_the_site_s_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    site = a_site(runtime="fcgid", limits={"memory_mb": 256, "tasks": 20}, php={"memory_limit": "64M"})

    text = contents(Recorded(monkeypatch, site).after(*runtime.STEPS))["/etc/gatehouse/fcgid/example-com"]

    assert "--as=268435456 " in text
    assert "--nproc=20 " in text
    assert "    -d 'memory_limit=64M' \\\n" in text
    assert "-d 'open_basedir=/var/www/example.com/public_html/:" in text


# ---------------------------------------------------------------------- one takes the other's place


def test_a_pool_stays_until_apache_asks_what_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    former = {POOL: a_file(), "/etc/php/8.4/fpm/pool.d/kiosk.test.conf": a_file()}
    host = Recorded(
        monkeypatch, a_site(runtime="fcgid"), a_site("kiosk.test"), files=former, packages={"php8.4-fpm": "1"}
    )

    assert POOL not in {path for one in host.after(php.pools) for path in vars_of(one)}
    changes = host.after(php.retire)

    kinds = [type(change) for change in changes]
    assert kinds.index(Run) < kinds.index(Remove)
    assert [POOL] == [change.path for change in changes if isinstance(change, Remove)]


def vars_of(change: object) -> list[str]:
    """The paths that a change names."""
    return [value for name in ("path", "to") if isinstance(value := getattr(change, name, None), str)]


def test_a_wrapper_goes_with_its_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    form = {"/etc/gatehouse/fcgid/example-com": a_file()}

    kept = Recorded(monkeypatch, a_site(runtime="fcgid"), files=form).after(*runtime.STEPS_AFTER)
    (gone,) = Recorded(monkeypatch, a_site(runtime="static"), files=form).after(*runtime.STEPS_AFTER)

    assert [] == kept
    assert isinstance(gone, Run)
    assert ("example-com",) == gone.args


WATCH = ("/etc/systemd/system/gatehouse-programs.path", "/usr/local/sbin/gatehouse-programs")


@pytest.mark.parametrize("word", ["fcgid", "cgi"])
def test_apache_s_daemons_are_watched_for_where_they_start_programs(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    of_release = {release: contents(Recorded(monkeypatch, a_site(runtime=word), release=release).after(*runtime.STEPS))
                  for release in ("12", "13")}  # fmt: skip

    for release, files in of_release.items():
        program = files[WATCH[1]]
        assert WATCH[0] in files
        assert ("OOMPolicy" in program) == (release == "13"), "systemd 252 refuses the scope with it"
        (said,) = re.findall(r"scope\" fail (\d)(.+)\"\$@\" 0", program.replace("\\\n", ""))
        assert int(said[0]) == len(re.findall(r"[A-Z]\w+ (?:s|as|au|b|t) ", said[1]))


def test_nobody_watches_where_apache_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {path: a_file() for path in WATCH}

    usual = Recorded(monkeypatch, a_site()).after(*runtime.STEPS)
    stopped, *gone = Recorded(monkeypatch, a_site(), files=there).after(*runtime.STEPS)

    assert [] == usual
    assert isinstance(stopped, Run)
    assert {*WATCH} == {change.path for change in gone if isinstance(change, Remove)}


LONG = ("/etc/gatehouse/itk-timeouts", "/etc/systemd/system/gatehouse-itk.service", "/usr/local/sbin/gatehouse-itk")


def test_what_takes_longer_than_php_s_timeout_is_ended_in_itk_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, plain = a_site("slow.test", runtime="itk", php={"timeout": 600}), a_site("plain.test", runtime="static")
    files = contents(Recorded(monkeypatch, a_site(runtime="itk"), slow, plain).after(*runtime.STEPS_AFTER))

    assert set(LONG) <= set(files)
    assert ["example-com 30", "slow-test 600"] == files[LONG[0]].splitlines()[1:]
    assert not LONG[0].startswith(apache.PARTS), "Apache, which runs by then, would be behind"


def test_nobody_ends_requests_where_no_site_is_itk(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {path: a_file() for path in LONG}

    stopped, *gone = Recorded(monkeypatch, a_site(), files=there).after(*runtime.STEPS_AFTER)

    assert isinstance(stopped, Run)
    assert set(LONG) == {change.path for change in gone if isinstance(change, Remove)}


HEAVY = ("/etc/systemd/system/gatehouse-heavy.service", "/usr/local/sbin/gatehouse-heavy")


def test_a_pool_that_takes_much_of_the_processor_is_looked_for_where_there_are_pools(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {path: a_file() for path in HEAVY}
    files = contents(Recorded(monkeypatch, a_site()).after(*runtime.STEPS_AFTER))

    stopped, *gone = Recorded(monkeypatch, a_site(runtime="static"), files=there).after(*runtime.STEPS_AFTER)

    assert set(HEAVY) <= set(files)
    assert all("php8.4-fpm.service" in files[path] for path in HEAVY)
    assert isinstance(stopped, Run)
    assert set(HEAVY) == {change.path for change in gone if isinstance(change, Remove)}


def test_a_pool_s_requests_are_over_before_nobody_looks_for_it() -> None:
    """What ends the looking ends what it moved: the former pool's last visitors with it."""
    order = [*flows.BOOTSTRAP]

    assert order.index(php.start) < order.index(php.retire) < order.index(runtime.heavy)
