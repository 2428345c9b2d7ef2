"""F-35, F-40, F-43: what stands in a site's file stays in its own place in every file of the host."""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from invoke import Exit
from pydantic import BaseModel, ValidationError

from fabfile import apache, database, flows, haproxy, php, sshd
from fabfile import site as chapter
from fabfile.cache import redis
from fabfile.cert import REQUESTS
from fabfile.engine import cards, render
from fabfile.engine.facts import Facts, User
from fabfile.engine.host import Host
from fabfile.engine.render import TEMPLATES, BadValue
from fabfile.fail2ban import JAIL, LOGS
from fabfile.haproxy.door import USUAL_BODY
from fabfile.model import Cache, Deploy, Fleet, Limits, Php, Site, Tls
from fabfile.site import CRON_DENY
from tests.chapters.recording import Recorded, a_file
from tests.chapters.recording import site as a_site

from .conftest import PACKAGES, Whole, Written, few, many

POOL = "/etc/php/8.4/fpm/pool.d/{}.conf"
SPECIMEN = a_site(
    aliases=("example.org", "www.example.org"),
    php={"functions": ("exec",), "allow_url_fopen": True},
    cache={"ttl": 7, "keep_cookies": ("PHPSESSID", "cart"), "bypass": ("/admin/", "/login")},
    tls={"email": "me@example.com"},
    database=True,
)
NEIGHBOUR = a_site("neighbour.example")

# ---------------------------------------------------------------------------------------------- any site

# What would end a word, a line, a string, a section or a comment somewhere, or begin one.
SHARP = (
    *"\n\r\t\0\x0b\x0c\x1b\x85\u2028 ;:,.'\"`\\$%#{}()[]<>|&*?!@=^~+-_/0A\u00fc\u200b\u202e",
    "\n[www]\nuser = root\n", "\nserver x 1.2.3.4:80\n", "\n* * * * * root id\n", "\nRequire all granted", "\\\n",
    "{{ 7*7 }}", "{% include 'x' %}", "{#",
    "${APACHE_LOG_DIR}", "%{ENV:PATH}", "%[src]", "$(id)", "`id`", "\"} vcl_x {\"",
    "</VirtualHost>", "<script>", "*/", "//", "/*",
    "%(known/failregex)s", "include = /etc/passwd", "../", "-rf", "--help",
)  # fmt: skip
NAMES = ("example.com", "shop.example.co.uk", "a--1.example", "xn--mnchen-3ya.de", "m\u00fcnchen.de", "4chan.org")

sharp = st.sampled_from(SHARP) | st.text(max_size=3)


def near(*right: str) -> st.SearchStrategy[str]:
    """A right value, or one with something sharp put in."""

    def spoilt(text: str, at: int, middle: str) -> str:
        at %= len(text) + 1
        return text[:at] + middle + text[at:]

    return st.sampled_from(right) | st.builds(spoilt, st.sampled_from(right), st.integers(0, 30), sharp)


def some(*right: str, least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(near(*right), min_size=least, max_size=4).map(tuple)


number = st.sampled_from((0, 1, 2, 7, 30, 86400, -1, 10**9))
KEYS: dict[tuple[str, ...], st.SearchStrategy[Any]] = {
    ("domain",): near(*NAMES),
    ("subdomains",): some("www", "shop", "a.b", "x--1", "m\u00fcn"),
    ("aliases",): some("example.org", "www.example.org", "b.test", "\u043f\u0440\u0435\u0437\u0438.\u0440\u0444"),
    ("owner",): near("shop", "a-b", "x" * 32),
    ("uid",): st.sampled_from((200_000, 254_280, 499_999, 0, 33, -1, 10**9)),
    ("hosts",): some("vps", "web-1.example.com"),
    ("runtime",): near("fpm"),
    ("command",): st.none(),
    ("listen",): st.none(),
    ("webapps",): st.none(),
    ("mounts",): st.just({}),
    ("writable",): some("cache"),
    ("limits", "memory_mb"): number,
    ("limits", "cpu_percent"): number,
    ("limits", "tasks"): number,
    ("limits", "files"): number,
    ("limits", "requests"): number,
    ("limits", "tmp_mb"): number,
    ("database",): st.booleans(),
    ("php", "version"): near("8.4").filter(lambda text: text == "8.4" or not re.fullmatch(r"\d\.\d+", text)),
    ("php", "children"): number,
    ("php", "idle_timeout"): number,
    ("php", "max_requests"): number,
    ("php", "timeout"): number,
    ("php", "memory_limit"): near("128M", "16m", "8G"),
    ("php", "upload_limit"): near("8M", "1K"),
    ("php", "file_uploads"): st.booleans(),
    ("php", "allow_url_fopen"): st.booleans(),
    ("php", "functions"): some("exec", "proc_open"),
    ("cache", "ttl"): number,
    ("cache", "grace"): number,
    ("cache", "keep_cookies"): some("PHPSESSID", "__Host-id", "cart"),
    ("cache", "bypass"): some("/admin/", "/", "/a/b.php", "/~x"),
    ("tls", "email"): near("web.master+x@example.com"),
    ("tls", "key"): near("ec256", "rsa4096"),
    ("deploy", "docroot"): near("public"),
    ("deploy", "shared"): some("uploads", "storage/app", ".env"),
    ("deploy", "before"): some("php migrate.php"),
    ("deploy", "after"): some("php warm.php"),
    ("deploy", "timeout"): number,
    ("deploy", "smoke"): near("/", "/health?full=1"),
    ("deploy", "expect"): number,
    ("deploy", "keep"): number,
}


def accepted(found: dict[tuple[str, ...], Any]) -> Site:
    """A site that says as much of `found` as the model takes."""
    data: dict[str, Any] = {"domain": "example.com"}
    for path, value in found.items():
        *above, key = path
        trial = {**data, above[0]: {**data.get(above[0], {}), key: value}} if above else {**data, key: value}
        try:
            Site.model_validate(trial)
        except ValidationError:
            continue
        data = trial
    return Site.model_validate(data)


a_hostile_site = st.fixed_dictionaries({}, optional=KEYS).map(accepted)


def test_the_property_knows_every_key_of_a_site() -> None:
    models: dict[str, type[BaseModel]] = {"php": Php, "cache": Cache, "tls": Tls, "deploy": Deploy, "limits": Limits}
    keys: set[tuple[str, ...]] = {(key,) for key in Site.model_fields if key not in models}
    keys |= {(above, key) for above, model in models.items() for key in model.model_fields}

    assert keys == set(KEYS)


@pytest.mark.fault("F-35")
@settings(few, suppress_health_check=[HealthCheck.too_slow])
@given(a_hostile_site)
@example(SPECIMEN)
def test_f35_what_a_site_says_comes_back_out_of_every_file_as_it_was_said(written: Written, site: Site) -> None:
    judged(written, site)


@pytest.mark.demand
@pytest.mark.fault("F-35")
def test_f35_the_same_for_thousands_of_sites(written: Written, seen: Callable[[str], None]) -> None:
    count = 0

    @settings(many, suppress_health_check=list(HealthCheck))
    @given(a_hostile_site)
    def every(site: Site) -> None:
        nonlocal count
        judged(written, site)
        count += 1

    every()
    seen(f"{count} sites with hostile values: {len(templates())} templates, every value read back, no line more")


def judged(written: Written, site: Site) -> None:
    files = written(site, NEIGHBOUR)
    no_line_begins_with_a_value(files, first_words(written))
    for read_back in READERS:
        read_back(files, site)


@cache
def first_words(written: Written) -> dict[str, set[str]]:
    """What the lines of each file begin with for a site without anything sharp."""
    known: dict[str, set[str]] = {}
    for path, text in written(SPECIMEN, NEIGHBOUR).items():
        known.setdefault(shape(path), {""}).update(first(line) for line in text.splitlines())
    return known


def no_line_begins_with_a_value(files: dict[str, str], known: dict[str, set[str]]) -> None:
    """Each line of each file begins with a word of its template; only maps begin with names, and are read below."""
    for path, text in files.items():
        if path in (*haproxy.MAPS, CRON_DENY):
            continue
        assert {first(line) for line in text.splitlines()} <= known[shape(path)], path
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]", text), path


@cache
def shape(path: str) -> str:
    """The path without a site's name in it."""
    for template in templates():
        pattern = re.escape("/" + template).replace(r"\{", "{").replace(r"\}", "}")
        named = re.search(r"\{(site|database|owner)\}", template)
        if named and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path):
            return template
    return re.sub(r"^/var/www/[^/]+/", "/var/www/SITE/", path)


def first(line: str) -> str:
    """A line's first word, or the key before its value; of a section and of a path the kind."""
    word = re.split(r"[\s=]", line.strip(), maxsplit=1)[0]
    return "[" if word.startswith("[") else "/var/www" if word.startswith("/var/www/") else word


@cache
def templates() -> tuple[str, ...]:
    return tuple(str(path.relative_to(TEMPLATES)).removesuffix(".j2") for path in sorted(TEMPLATES.rglob("*.j2")))


# ---------------------------------------------------------------------------------------------- each file read back


def read_the_maps(files: dict[str, str], site: Site) -> None:
    maps = ([line.split(" ") for line in files[path].splitlines()] for path in haproxy.MAPS)
    hosts, cache, bypass, bodies, suspended = maps
    mine = [[name, site.domain] for name in site.names]
    assert hosts == [*mine, *([name, NEIGHBOUR.domain] for name in NEIGHBOUR.names)]
    assert bypass == [[site.domain + prefix, "pass"] for prefix in site.cache.bypass]
    rule = [f"ttl={site.cache.ttl}", f"grace={site.cache.grace}", f"keep={','.join(site.cache.keep_cookies)}"]
    assert cache == ([] if site.cache == Cache() else [[site.domain, *rule]])
    assert suspended == []
    assert bodies == ([] if site.body_limit == USUAL_BODY else [[site.domain, str(site.body_limit)]])


def read_the_vhost(files: dict[str, str], site: Site) -> None:
    """Apache's words: spaces part them, double quotes keep them together."""
    lines = files[f"{apache.VHOSTS}/{site}.conf"].splitlines()
    head, uses = lines[:2], [shlex.split(line, posix=True) for line in lines[2:]]
    if site.php:
        assert ["Use", "Pool", site.owner] == uses.pop(0)[:3]
    assert all(line.startswith("# ") and not line.endswith("\\") for line in head)
    assert all("${" not in line and "%{" not in line for line in lines)
    assert [name for use in uses for name in use[-1].split(" ")] == [
        name for vhost in apache.vhosts_of(site) for name in vhost.names
    ]
    for use in uses:
        fixed = ["StaticVHost", site.owner] if site.php is None else ["VHost", site.owner, str(site.php.timeout + 5)]
        assert [use[0], use[1], use[4], *use[5:-1]] == ["Use", fixed[0], site.domain, *fixed[1:]]


def read_the_pool(files: dict[str, str], site: Site) -> None:
    if site.php is None:
        assert POOL.format(site) not in files
        return
    parser = configparser.ConfigParser(interpolation=None, strict=True, comment_prefixes=(";",))
    parser.read_string(files[POOL.format(site)])
    assert parser.sections() == [site.owner]
    pool = {key: value.strip('"') for key, value in parser[site.owner].items()}
    assert (
        pool
        | {
            "user": site.owner,
            "group": site.owner,
            "listen": f"/run/php/{site.owner}.sock",
            "include": f"/etc/gatehouse/secrets/php/{site.owner}.conf",
            "pm.max_children": str(site.php.children),
            "pm.max_requests": str(site.php.max_requests),
            "pm.process_idle_timeout": f"{site.php.idle_timeout}s",
            "request_terminate_timeout": f"{site.php.timeout}s",
            "php_admin_value[memory_limit]": site.php.memory_limit,
            "php_admin_value[post_max_size]": site.php.upload_limit,
            "php_admin_value[disable_functions]": ",".join(site.php.disable_functions),
            "php_admin_value[error_log]": f"/var/www/{site}/log/php_errors.log",
            "php_admin_value[open_basedir]": ":".join(
                [f"{site.root}/{room}/" for room in ("public_html", "releases", "shared", "tmp")]
                + ["/usr/share/php/", f"/etc/gatehouse/sites/{site.owner}/"]
            ),
        }
        == pool
    )
    other = configparser.ConfigParser(interpolation=None, comment_prefixes=(";",))
    other.read_string(files[POOL.format(NEIGHBOUR)])
    assert set(parser[site.owner]) == set(other[NEIGHBOUR.owner])


def read_the_request(files: dict[str, str], site: Site) -> None:
    """gatehouse-renew's own grammar: KEY=VALUE, a line each."""
    lines = files[f"{REQUESTS}/{site}.conf"].splitlines()
    email = site.tls.email or lines[2].removeprefix("email=")
    assert lines[1:] == [f"names={' '.join(site.names)}", f"email={email}", f"key={site.tls.key}"]
    assert re.fullmatch(r"webmaster@[a-z0-9.-]+", email) or email == site.tls.email


def read_the_jails(files: dict[str, str], site: Site) -> None:
    logs = configparser.ConfigParser(interpolation=None, strict=True)
    logs.read_string(files[LOGS])
    lines = logs["DEFAULT"]["apache_error_log"].split("\n")
    assert lines[2:] == [f"{one.root}/log/error_log tail" for one in (site, NEIGHBOUR)]


def read_the_page(_files: dict[str, str], site: Site) -> None:
    class Page(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.seen.append(tag)

        def handle_data(self, data: str) -> None:
            self.seen.append(data.strip())

    for sub, text in chapter.pages(site).items():
        page = Page()
        page.feed(text)
        name = site.shown if sub.startswith("_/") else f"{sub.removesuffix('/index.html')}.{site.shown}"
        told = [word for word in page.seen if word and not word.startswith("body {")]
        assert told == ["html", "meta", "meta", "title", name, "style", "h1", name, "p", "This site is being prepared."]


def read_the_roster(files: dict[str, str], site: Site) -> None:
    users = [line.split(" ") for line in files[redis.ROSTER].splitlines()]
    owners = [one.owner for one in (site, NEIGHBOUR) if one.php]
    assert [user[1] for user in users] == ["default", redis.KEEPER, *owners]
    assert {user[5] for user in users[2:]} == {f"~{owner}:*" for owner in owners}


def read_the_database(files: dict[str, str], site: Site) -> None:
    """SQL: a statement a line, and no name in it but the owner's."""
    path = f"{database.ROSTER}/{site.owner}.sql"
    assert (path in files) == site.database
    if site.database:
        comments, statements = files[path].splitlines()[:2], files[path].splitlines()[2:]
        assert all(line.startswith("-- ") for line in comments)
        user = f"'{site.owner}'@'localhost'"
        parts = [re.findall(r"`[^`]*`|'[^']*'@'[^']*'|;", line) for line in statements]
        assert parts == [[f"`{site.owner}`", ";"], [user, ";"], [user, ";"], [f"`{site.owner}`", user, ";"]]


def read_the_users(files: dict[str, str], site: Site) -> None:
    comment, *names = files[CRON_DENY].splitlines()
    assert comment.startswith("# ")
    assert sorted({site.owner, NEIGHBOUR.owner}) == names


READERS = (
    read_the_maps,
    read_the_users,
    read_the_vhost,
    read_the_pool,
    read_the_request,
    read_the_jails,
    read_the_page,
    read_the_roster,
    read_the_database,
)

# ---------------------------------------------------------------------------------------------- the second wall

# Of the others only numbers and yes or no are written, or what was looked up by them.
NOT_WRITTEN = {"uid", "file_uploads", "allow_url_fopen", "hosts", "database", "version", "functions", "timeout"}
NOT_WRITTEN |= {"runtime", "command", "listen", "webapps", "mounts", "writable"}
LEAVES = [path for path in KEYS if path[-1] not in NOT_WRITTEN and path[0] not in ("deploy", "limits")]


@pytest.mark.fault("F-35")
@pytest.mark.parametrize("end", ["\n", "\r", "\0", "\x1b", "\x85", "\u2028"], ids=lambda end: f"U+{ord(end):04X}")
@pytest.mark.parametrize("path", LEAVES, ids=".".join)
def test_f35_a_line_end_that_came_past_the_model_stops_at_the_template(
    written: Written, path: tuple[str, ...], end: str
) -> None:
    """As if every grammar had a hole: nothing is written, and the template is named."""
    reason = "holds a line break or a control character|invalid literal for int"  # a size is written as a number too
    with pytest.raises(BadValue, match=rf"^templates/(etc|var)/\S+\.j2: .*({reason})"):
        written(unchecked(path, f"x{end}evil"), NEIGHBOUR)


def unchecked(path: tuple[str, ...], evil: str) -> Site:
    """The specimen with `evil` in one place, past all checks."""
    site = SPECIMEN.model_copy()
    *above, key = path
    inside = getattr(site, above[0]).model_copy() if above else site
    value: Any = (evil,) if isinstance(getattr(inside, key), tuple) else evil
    inside.__dict__[key] = value
    if above:
        site.__dict__[above[0]] = inside
    return site


class Sly:
    """Not a text, and yet one when it is written."""

    def __str__(self) -> str:
        return "x\nevil"


@pytest.mark.fault("F-35")
@pytest.mark.parametrize("value", [Sly(), Path("x\nevil"), BadValue("x\nevil")], ids=["object", "path", "error"])
def test_f35_a_value_that_is_no_text_does_not_leave_its_line_either(value: object) -> None:
    with pytest.raises(BadValue, match="holds a line break"):
        render.environment().from_string("a {{ value }}\n").render(value=value)


# ---------------------------------------------------------------------------------------------- fleet and host


@pytest.mark.fault("F-35")
def test_f35_what_the_fleet_says_comes_back_out_of_every_file(written: Written) -> None:
    fleet = Fleet.model_validate(
        {
            "acme": {"directory": "https://ca.example.net:14000/dir", "email": "ops@example.net"},
            "operators": tuple(f"10.{number}.0.0/16" for number in range(60))
            + tuple(f"fd{n:02}::/32" for n in range(40)),
        }
    )
    files = written(SPECIMEN, fleet=fleet)
    networks = [str(network) for network in fleet.operators]

    assert files["/etc/gatehouse/acme.conf"].splitlines()[1:] == [
        "directory=https://ca.example.net:14000/dir",
        "# Who vouches for the CA's own HTTPS; empty: this system's list.",
        "ca_bundle=",
        "# Who must vouch for what it issues; empty: nobody, as for a private or a staging CA.",
        "trust=/etc/ssl/certs/ca-certificates.crt",
    ]
    accepts = [line for line in files[haproxy.CONFIG].splitlines() if "connection accept if" in line]
    told = [word for line in accepts for word in line.split("{ src ")[1].removesuffix(" }").split(" ")]
    assert [*networks, *networks] == told
    jail = configparser.ConfigParser(interpolation=None, strict=True)
    jail.read_string(files[JAIL])
    assert set(networks) <= set(jail["DEFAULT"]["ignoreip"].split())
    for family, path in {4: "/etc/iptables/rules.v4", 6: "/etc/iptables/rules.v6"}.items():
        sources = re.findall(r"^-A GATEHOUSE -s (\S+) -p tcp -m tcp --dport 22 -j ACCEPT$", files[path], re.MULTILINE)
        assert {str(n) for n in fleet.operators if n.version == family} == {str(ip_network(text)) for text in sources}


@pytest.mark.fault("F-41")
def test_f41_no_line_is_longer_or_has_more_words_than_its_daemon_reads(written: Written) -> None:
    """The largest site and fleet that the model takes. HAProxy reads 64 words a line (MAX_LINE_ARGS) and 16 KiB of a
    map's, Apache 8 KiB, a header that Varnish takes has 8 KiB, PHP's ini files are read whole."""
    longest = ".".join(["a" * 63] * 2 + ["b" * 61])
    site = a_site(
        "x" * 56 + ".example",
        subdomains=tuple(f"{longest[:185]}{n:02}" for n in range(50)),
        aliases=tuple(f"{longest}.{'c' * 50}{n:02}.example" for n in range(49)),
        cache={
            "bypass": tuple("/" + f"{n:03}" * 80 for n in range(100)),
            "keep_cookies": tuple(f"{n:02}" + "n" * 120 for n in range(16)),
        },
    )
    fleet = Fleet.model_validate(
        {"operators": tuple(f"2001:db8:aaaa:bbbb:cccc:dddd:eeee:{n + 4096:x}" for n in range(100))}
    )
    files = written(site, fleet=fleet)

    assert 100 == len(site.names)
    for path, text in files.items():
        lines = text.splitlines()
        if path == haproxy.CONFIG:
            assert max(len(line.split()) for line in lines if not line.lstrip().startswith("#")) <= 64
        if path.startswith("/etc/haproxy/"):
            assert max(map(len, lines), default=0) < 4096
        if path.startswith(apache.ROOT):
            assert max(map(len, lines), default=0) < 8192


@pytest.mark.fault("F-35")
def test_f35_what_the_host_says_of_itself_stays_in_its_line_too(written: Written) -> None:
    files = written(SPECIMEN, hostname='web"1 \\')
    line = next(line for line in files[apache.SERVER].splitlines() if line.startswith("ServerName"))

    assert line == 'ServerName "web\\"1 \\\\"'
    for name in ("web1\nRequire all granted", "${PATH}"):
        with pytest.raises(BadValue):
            written(SPECIMEN, hostname=name)


# ---------------------------------------------------------------------------------------------- F-40: what is not there

CACHING = {"address": "10.0.0.11", "roles": ("web", "cache")}
PARTS = {"etc/apache2/balancer/ports.conf", "etc/haproxy/errors/page", "etc/haproxy/limits", "etc/nginx/edge.errors"}


@pytest.mark.fault("F-40")
def test_f40_every_template_renders_and_none_asks_for_what_is_not_there(
    written: Written, monkeypatch: pytest.MonkeyPatch, seen: Callable[[str], None]
) -> None:
    asked = set()
    real = render.render

    def noted(path: str, values: dict[str, Any], root: Path = TEMPLATES) -> str:
        asked.add(path.lstrip("/"))
        return real(path, values, root)

    monkeypatch.setattr(render, "render", noted)
    monkeypatch.setattr(chapter, "render", noted)
    for release in ("12", "13"):
        packages = dict.fromkeys((*PACKAGES, "php8.2-fpm"), "1")
        written(SPECIMEN, NEIGHBOUR, release=release, packages=packages)
        written(a_site(php=False), release=release, packages=packages, ipv6="")
        for runtime in ("fcgid", "itk"):
            written(a_site(runtime=runtime), release=release, packages=packages)
        written(a_site(runtime="server", command="./x", mounts={"/x": {"runtime": "ajp", "webapps": "x"}}))
        for server, door in (("nginx", "haproxy"), ("lighttpd", "nginx")):
            all_roles = {"address": "10.0.0.1", "roles": ("edge", "web", "static")}
            servers = {"static": {"server": server}, "edge": {"server": door}}
            fleet = Fleet.model_validate({"hosts": {"vps": all_roles}, **servers})
            written(SPECIMEN, NEIGHBOUR, release=release, packages=packages, fleet=fleet)
        for roles, files in (("files", {}), ("files", {"server": "ganesha"}), ("files", {"mount": "sync"}),
                             ("app", {}), ("app", {"mount": "sync"})):  # fmt: skip
            other = "app" if roles == "files" else "files"
            hosts = {"vps": {"address": "10.0.0.1", "roles": (roles,)},
                     "other": {"address": "10.0.0.2", "roles": ("edge", other)}}  # fmt: skip
            fleet = Fleet.model_validate({"hosts": hosts, "files": files})
            known = {"release": release, "packages": packages, "client": "10.0.0.2"}
            written(SPECIMEN, NEIGHBOUR, fleet=fleet, **known)
        member = {"address": "10.0.0.3", "roles": ("member",)}
        routes = {"/": {"members": ("web1",)}, "/a": {"members": ("web1",), "sticky": True}}
        for own in (("balancer",), ("balancer", "edge")):
            hosts = {"vps": {"address": "10.0.0.2", "roles": own}, "web1": member}
            front = {"server_name": "www.example.org", "routes": routes}
            fleet = Fleet.model_validate({"hosts": hosts, "balancer": front})
            written(fleet=fleet, release=release, packages=packages)
        chapter.pages(SPECIMEN)
        for server in ("redis", "memcached"):
            fleet = Fleet.model_validate({"hosts": {"vps": CACHING}, "cache": {"server": server}}, strict=False)
            fleet = fleet.with_sites((SPECIMEN, NEIGHBOUR))
            written(SPECIMEN, NEIGHBOUR, release=release, packages=packages, fleet=fleet)
    card = {f"database-{SPECIMEN.owner}": f"*{'0' * 40}"}
    monkeypatch.setattr(cards, "everywhere", lambda _fleet, names, *_: [(name, card) for name in names])
    keeps = {"address": "10.0.0.11", "roles": ("web", "database")}
    written(SPECIMEN, fleet=Fleet.model_validate({"hosts": {"vps": keeps, "web2": {"address": "10.0.0.12"}}}))

    assert asked | PARTS == set(templates())
    seen(f"{len(asked)} templates, with and without PHP and IPv6, on both releases: StrictUndefined has nothing to say")


@pytest.mark.fault("F-40")
@pytest.mark.parametrize(
    "text", ["{{ missing }}", "{{ host.nothing }}", "{% if %}", "{{ 1 // 0 }}", "{% include 'x' %}"]
)
def test_f40_a_template_that_cannot_be_rendered_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """The step before it may stand; of this one nothing goes over, not even what was wished before the template."""
    template = tmp_path / "etc/haproxy/haproxy.cfg.j2"
    template.parent.mkdir(parents=True)
    template.write_text(f"global\n{text}\n")
    (template.parent / "errors").symlink_to(TEMPLATES / "etc/haproxy/errors")
    real = render.render
    monkeypatch.setattr(render, "render", lambda path, values: real(path, values, tmp_path))

    sent: list[object] = []

    class Line:
        trips, who, me = 0, "", "me"

        def send(self, box: object, **_: object) -> None:
            sent.append(box)
            raise AssertionError("something went over")

    host = Host("vps", Fleet(), visit=Line())  # type: ignore[arg-type]
    host.sites = (SPECIMEN,)
    host._facts = Facts(system="debian", release="13")
    monkeypatch.setattr(Host, "of", classmethod(lambda cls, c: host))
    with pytest.raises(Exit) as ended:
        haproxy.configure.body(None)

    assert (2, []) == (ended.value.code, sent)
    assert "templates/etc/haproxy/haproxy.cfg.j2" in "".join(capsys.readouterr())


# ---------------------------------------------------------------------------------------------- F-43: a site is gone


ROOMS = ("/log", "/mail", "/tmp", "/shared", "/releases", "/public_html")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorded]:
    """A host that has two sites, and then is asked for these."""

    def ask(*sites: Site) -> Recorded:
        paths = [f"{apache.VHOSTS}/{{}}.conf", POOL, f"{REQUESTS}/{{}}.conf", "/etc/haproxy/certs/{}.pem"]
        paths += [
            f"/var/www/{{}}{rest}" for rest in ("", *ROOMS, "/log/php_errors.log")
        ]
        both = (SPECIMEN, NEIGHBOUR)
        files = {path.format(one): a_file("x") for path in paths for one in both}
        files |= {f"{one.root}{room}": a_file(kind="d") for room in ("", *ROOMS) for one in both}
        files |= {f"{redis.SECRETS}/{one.owner}": a_file("x", 0o600) for one in both}
        files |= {f"{php.POOL_SECRETS}/{one.owner}.conf": a_file("x", 0o600) for one in both}
        files |= {sshd.MAIN: a_file(), f"{sshd.ROOT}/ssh_host_ed25519_key.pub": a_file()}
        users = {one.owner: User(one.owner, 999, 999, one.root, "/usr/sbin/nologin") for one in both}
        return Whole(
            monkeypatch, *sites, packages=dict.fromkeys(PACKAGES, "1"), files=files, users=users, ssh_ports=(22,)
        )

    return ask


@pytest.mark.fault("F-43")
@pytest.mark.parametrize(
    "sites", [(SPECIMEN,), (SPECIMEN, a_site("renamed.example")), ()], ids=["removed", "renamed", "all removed"]
)
def test_f43_a_site_that_vanishes_from_the_yaml_loses_no_data_and_it_is_told(
    served: Callable[..., Recorded], sites: tuple[Site, ...]
) -> None:
    host = served(*sites)
    plan = host.after(*flows.BOOTSTRAP)
    told = " ".join(host.notes)

    touched = [change for change in plan if f"/var/www/{NEIGHBOUR}" in repr(change)]
    assert [] == touched
    assert [] == [change for change in plan if NEIGHBOUR.owner in str(getattr(change, "name", ""))]
    assert f"{apache.VHOSTS}/{NEIGHBOUR}.conf.gone" in host.facts.files
    assert POOL.format(NEIGHBOUR) + ".gone" in host.facts.files
    assert f"/etc/haproxy/certs/{NEIGHBOUR}.pem" in host.facts.files
    assert f"{NEIGHBOUR} has no file in sites/ any more" in told
    assert f"/var/www/{NEIGHBOUR}" in told


@pytest.mark.fault("F-43")
def test_f43_it_is_told_once_more_only_when_it_happens(served: Callable[..., Recorded]) -> None:
    host = served(SPECIMEN)
    host.after(apache.vhosts)

    host.after(apache.vhosts)

    assert [] == host.notes
