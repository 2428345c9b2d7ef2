"""Apache: which vhost answers which name, from which directory, and what nobody gets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile import apache
from fabfile.engine.changes import Install, PutFile, PutLink, Remove, Rename
from fabfile.model import Site

from .recording import Recorded, a_file, contents
from .recording import site as a_site

TEMPLATES = Path(__file__).parents[2] / "templates" / "etc" / "apache2"
EXAMPLE, STATIC = a_site(), a_site("static.co.uk", php=False)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return Recorded(monkeypatch, EXAMPLE, STATIC)


def directory(one: Site, name: str) -> str:
    """What `%-N+` makes of a name (mod_vhost_alias): label N from the right and all before it, `_` without one."""
    (vhost,) = [vhost for vhost in apache.vhosts_of(one) if name in vhost.names]
    return ".".join(name.split(".")[: 1 - vhost.depth]) or "_"


# ---------------------------------------------------------------------- names and directories


@pytest.mark.parametrize(
    ("one", "name", "shown"),
    [
        (a_site(), "example.com", "_"),
        (a_site(), "www.example.com", "www"),
        (a_site("kiosk.co.uk", subdomains=("a.b",)), "kiosk.co.uk", "_"),
        (a_site("kiosk.co.uk", subdomains=("a.b",)), "a.b.kiosk.co.uk", "a.b"),
        (a_site(aliases=("example.net",)), "example.net", "_"),
        (a_site(aliases=("example.net", "www.example.net")), "www.example.net", "www"),
        (a_site(aliases=("www.example.net",)), "www.example.net", "_"),
        (a_site(aliases=("x.example.co.uk", "a.x.example.co.uk")), "a.x.example.co.uk", "a"),
        (a_site(subdomains=()), "example.com", "_"),
    ],
)
def test_a_name_shows_the_directory_of_its_subdomain(one: Site, name: str, shown: str) -> None:
    assert shown == directory(one, name)


LABELS = st.lists(st.sampled_from(["a", "b", "www", "shop", "x-1"]), min_size=1, max_size=3).map(".".join)


@given(st.lists(LABELS, max_size=4, unique=True), st.lists(LABELS, max_size=6, unique=True))
def test_every_name_of_a_site_has_one_vhost(subdomains: list[str], aliases: list[str]) -> None:
    one = a_site(subdomains=tuple(subdomains), aliases=tuple(f"{name}.example.net" for name in aliases))

    names = [name for vhost in apache.vhosts_of(one) for name in vhost.names]

    assert sorted(one.names) == sorted(names)


def uses(host: Recorded, one: Site) -> list[list[str]]:
    """The arguments of a site's `Use` lines but its pool's, the last one without its quotes."""
    text = contents(host.after(apache.vhosts))[f"{apache.VHOSTS}/{one}.conf"]
    lines = [line for line in text.splitlines() if not line.startswith(("#", "Use Pool "))]
    return [[*line.partition(' "')[0].split(), line.partition(' "')[2].rstrip('"')] for line in lines]


def test_a_site_is_one_line(host: Recorded) -> None:
    assert [
        ["Use", "VHost", "example.com", "3", "example.com", "example-com", "35", "example.com www.example.com"]
    ] == uses(host, EXAMPLE)


def test_a_site_waits_for_its_php_in_a_part_of_apache_s_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for children, most in {1: 9, 5: 13, 500: 16}.items():
        one = a_site("example.com", php={"children": children})
        (line,) = re.findall("(?m)^Use Pool .*", contents(Recorded(monkeypatch, one).after(apache.vhosts)).popitem()[1])

        assert f"Use Pool example-com {most}" == line
        assert most * 16 < 16 * 25


def test_a_site_without_php_has_no_pool(host: Recorded) -> None:
    assert [
        ["Use", "StaticVHost", "static.co.uk", "4", "static.co.uk", "static-co-uk", "static.co.uk www.static.co.uk"]
    ] == uses(host, STATIC)  # fmt: skip


def test_uses_fit_their_macros(host: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    macro = contents(host.after(apache.configure))[apache.MACRO]
    wanted = {words[0]: len(words) - 1 for words in (line.split() for line in re.findall("<Macro (.*)>", macro))}

    for one in (EXAMPLE, STATIC):
        for _, name, *arguments in uses(Recorded(monkeypatch, one), one):
            assert wanted[name] == len(arguments)


def test_as_many_names_as_a_certificate_has_fit_in_apache_s_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """mod_macro replaces its parameters in lines of 8192 characters."""
    label = "x" * 61
    names = tuple(f"{label[:-3]}{number:03}.{label}.{label}" for number in range(99))
    one = a_site("a-site.example.com", subdomains=names)

    lines = uses(Recorded(monkeypatch, one), one)

    assert {*one.names} == {name for line in lines for name in line[-1].split()}
    assert 8192 > max(sum(map(len, line)) + len(line) for line in lines)


def test_names_are_those_of_the_site_and_no_wildcard(host: Recorded) -> None:
    """T1's `ServerAlias *.domain` would answer for a neighbour's shop.example.com."""
    texts = contents(host.after(apache.configure, apache.vhosts)).values()

    assert [] == [line for text in texts for line in text.splitlines() if re.match(r"\s*ServerAlias.*\*", line)]


# ---------------------------------------------------------------------- on and off


def test_a_site_that_went_is_renamed_and_one_that_came_back_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, back = f"{apache.VHOSTS}/gone.test.conf", f"{apache.VHOSTS}/example.com.conf"
    host = Recorded(monkeypatch, EXAMPLE, files={gone: a_file(), back + ".gone": a_file()})

    changes = host.after(apache.vhosts)

    assert [(gone, gone + ".gone")] == [(one.path, one.to) for one in changes if isinstance(one, Rename)]
    assert back in contents(changes)
    assert [back + ".gone"] == [one.path for one in changes if isinstance(one, Remove)]


def test_a_new_macro_is_judged_with_what_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a host that an older Gatehouse set up, with other words for its macro, could never be brought up to date."""
    conf = f"{apache.VHOSTS}/example.com.conf"
    host = Recorded(monkeypatch, EXAMPLE, STATIC, files={conf: a_file()})

    made = contents(host.after(apache.configure))

    assert {apache.MACRO, conf} <= made.keys()
    assert f"{apache.VHOSTS}/static.co.uk.conf" not in made


def test_a_suspended_site_stays_so_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    off = f"{apache.VHOSTS}/example.com.conf.off"
    host = Recorded(monkeypatch, EXAMPLE, files={off: a_file()})

    assert [] == host.after(apache.vhosts)
    assert ["example.com is suspended; on again with: fab -H vps site.resume example.com"] == host.notes


def test_off_is_another_name_and_on_is_written_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a site is off, the macro that it uses may have got other words."""
    conf = f"{apache.VHOSTS}/example.com.conf"
    host = Recorded(monkeypatch, EXAMPLE, files={conf: a_file()})

    assert "served" == apache.state(host.facts, EXAMPLE)
    apache.off(host, EXAMPLE)
    assert "suspended" == apache.state(host.facts, EXAMPLE)
    apache.on(host, EXAMPLE)
    assert "served" == apache.state(host.facts, EXAMPLE)

    off, removed, *_, on = host._pending
    assert isinstance(off, Rename)
    assert (conf, conf + ".off") == (off.path, off.to)
    assert isinstance(removed, Remove)
    assert conf + ".off" == removed.path
    assert isinstance(on, PutFile)
    assert conf == on.path


def test_one_site_s_run_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = f"{apache.VHOSTS}/gone.test.conf"
    host = Recorded(monkeypatch, EXAMPLE, STATIC, files={gone: a_file()})

    with host.about(EXAMPLE):
        changes = host.after(apache.vhosts)

    assert [f"{apache.VHOSTS}/example.com.conf"] == [*contents(changes)]
    assert [] == [change for change in changes if isinstance(change, Rename)]


# ---------------------------------------------------------------------- the server


def test_the_port_is_set_before_the_package_starts_apache(host: Recorded) -> None:
    changes = host.after(apache.install)

    kinds = [type(change) for change in changes]
    assert kinds.index(PutFile) < kinds.index(Install)
    assert ["Listen 127.0.0.1:8080"] == [
        line for line in contents(changes)[apache.PORTS].splitlines() if not line.startswith("#")
    ]


def test_everything_listens_on_the_loopback_alone() -> None:
    """But a balancer's, which is the door itself."""
    other = re.compile("balancer|trying")
    paths = (path for path in TEMPLATES.rglob("*.j2") if not other.search(str(path.relative_to(TEMPLATES))))
    text = "\n".join(path.read_text() for path in paths)

    assert {"127.0.0.1:8080"} == set(re.findall(r"^\s*(?:Listen|<VirtualHost)\s+([^>\s]+)", text, re.MULTILINE))


def test_the_first_vhost_refuses(host: Recorded) -> None:
    changes = host.after(apache.configure)

    first = contents(changes)[apache.FIRST]
    assert first.index("RedirectMatch 421 ^") < first.index("IncludeOptional vhost.d/*.conf")
    links = {change.path for change in changes if isinstance(change, PutLink)}
    assert {"000-gatehouse.conf"} == {path.rpartition("/")[2] for path in links if "/sites-enabled/" in path}


def test_modules_that_tell_or_run_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    enabled = [f"{apache.ROOT}/mods-enabled/{name}.load" for name in ("status", "autoindex", "mpm_prefork", "alias")]
    host = Recorded(monkeypatch, files={path: a_file(kind="l") for path in enabled})

    changes = host.after(apache.modules)

    assert set(enabled[:3]) == {change.path for change in changes if isinstance(change, Remove)}
    linked = {change.path.rpartition("/")[2] for change in changes if isinstance(change, PutLink)}
    assert {"mpm_event.load", "macro.load", "vhost_alias.load", "remoteip.load", "proxy_fcgi.load"} <= linked


def test_no_module_is_both_wanted_and_refused() -> None:
    assert set() == {*apache.LOADED.split()} & {*apache.REFUSED.split()}
    assert {*apache.CONFIGURED.split()} <= {*apache.LOADED.split()}


@pytest.fixture
def server(host: Recorded) -> str:
    return contents(host.after(apache.configure))[apache.SERVER]


def test_the_server_says_little_and_believes_its_proxy_alone(server: str) -> None:
    lines = {line.strip() for line in server.splitlines()}

    assert {
        'ServerName "vps"',
        "ServerTokens Prod",
        "ServerSignature Off",
        "TraceEnable Off",
        "FileETag None",
        "HttpProtocolOptions Strict",
        "RemoteIPHeader X-Forwarded-For",
        "RemoteIPInternalProxy 127.0.0.1",
        'SetEnvIf X-Forwarded-Proto "^https$" HTTPS=on',
    } <= lines
    assert [] == [line for line in lines if re.match(r"Header .*(Cache-Control|Pragma)", line)]


def test_an_htaccess_has_no_way_to_another_handler(server: str) -> None:
    words = server.replace("\\\n", " ")
    (classes,) = {line for line in re.findall(r"^\s+AllowOverride (.*)", words, re.MULTILINE) if line != "None"}
    (single,) = (line.split() for line in re.findall(r"^\s+AllowOverrideList (.*)", words, re.MULTILINE))

    assert "AuthConfig Indexes Limit Options=Indexes,MultiViews,SymLinksIfOwnerMatch" == classes
    assert [] == [
        word for word in single if re.match("(Set|Add)(Handler|.*Filter$)|Action|PassEnv|Proxy|Options", word)
    ]
    assert {"RewriteRule", "Redirect", "ErrorDocument", "Header", "SetEnv"} <= {*single}
    assert "Options SymLinksIfOwnerMatch" in server
    links = re.findall(r'<Directory "(.*?)">\n(?:[^<]*\n)?\s+Options FollowSymLinks\n', server)
    assert ["/var/www/*"] == links  # where root alone puts them


def shut(server: str, path: str) -> bool:
    """Whether one of the patterns that are denied everywhere fits this path."""
    folder, _, name = path.rpartition("/")
    sections = re.findall(r'<(Directory|Files)Match "(.*)">\n    Require all denied', server)
    assert len(sections) == 4
    return any(re.search(one, f"{folder}/" if kind == "Directory" else name) for kind, one in sections)


@pytest.mark.parametrize(
    "name",
    [
        ".env", ".git/config", "a/.svn/entries", ".htaccess", ".htpasswd", "wp-config.php~", "wp-config.php.bak",
        "index.php.OLD", "dump.sql", "dump.sql.gz", "db.sqlite3", ".index.php.swp", "settings.inc", "my.ini",
        "deploy.sh", "debug.log", "#index.php#", "x.phtml", "x.php5", "x.phar", "x.PHP", "x.Php", ".user.ini",
    ],
)  # fmt: skip
def test_leftovers_and_hidden_files_are_shut(server: str, name: str) -> None:
    assert shut(server, f"/var/www/example.com/public_html/_/{name}")


@pytest.mark.parametrize(
    "name",
    [
        "index.php", "index.html", "style.css", "robots.txt", ".well-known/security.txt", "manual.pdf", "a.b/c.js",
        "photo.php.jpg", "confirm.html", "old/index.html", "sqlite.html", "data.json", "phpinfo.html", "feed.xml",
    ],
)  # fmt: skip
def test_what_a_site_shows_is_open(server: str, name: str) -> None:
    assert not shut(server, f"/var/www/example.com/public_html/_/{name}")


def test_php_hears_of_its_own_site_alone(host: Recorded) -> None:
    macro = contents(host.after(apache.configure))[apache.MACRO]

    for name in ("PHP_VALUE", "PHP_ADMIN_VALUE", "PATH_TRANSLATED"):
        assert f'ProxyFCGISetEnvIf "true" !{name}\n' in macro
    own = re.search(r"SCRIPT_FILENAME'\) !~ m#(.*?)#\"", macro)
    assert own
    pattern = own[1].replace("$tree", "example.com")
    assert re.search(pattern, "/var/www/example.com/public_html/_/index.php")
    for path in ("/var/www/other.test/public_html/_/index.php", "/var/www/example.com/tmp/x.php", "/etc/passwd"):
        assert not re.search(pattern, path)


def test_what_is_right_is_left_alone(host: Recorded) -> None:
    host.after(*apache.STEPS)

    assert [] == host.after(*apache.STEPS)
