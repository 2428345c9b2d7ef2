"""What runs a site's code, on a lab host: as whom, what is dropped where, and the change from one to another."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Bare
from .corner import A_ROOT, A, Corner, borrowed, status
from .lab import Lab
from .machine import Stranger
from .shop import DOMAIN, OWNER, ROOT, Shop, bootstrapped, opened, visiting

# On hosts of their own, which it takes time to make.
pytestmark = pytest.mark.demand

ROOM = f"{ROOT}/public_html/_"
SERVED = (
    "systemctl show -p ExecMainPID,ExecMainStartTimestampMonotonic apache2; journalctl -q -u apache2 -o cat | wc -l"
)

WHO_PHP = "<?php header('Cache-Control: no-store'); echo posix_getpwuid(posix_geteuid())['name'], ' ', php_sapi_name();"
WHO_CGI = r"""#!/bin/sh
printf 'Content-Type: text/plain\nCache-Control: no-store\n\n'
echo $(id -un) cgi$(touch /tmp/x 2> /dev/null && echo ' in /tmp')
"""

DROPPED = {
    "fpm": ("", {"new.php": (WHO_PHP, f"{OWNER} fpm-fcgi")}),
    "fcgid": ("runtime: fcgid\n", {"new.php": (WHO_PHP, f"{OWNER} cgi-fcgi")}),
    "cgi": (
        "runtime: cgi\n",
        {"new.cgi": (WHO_CGI, f"{OWNER} cgi"), "cgi-bin/tool": (WHO_CGI, f"{OWNER} cgi")},
    ),
    "static": ("php: false\n", {"new.html": ("<p>new</p>", "<p>new</p>")}),
}
"""What its file says, and what is dropped into the site's directory: its text, and what it answers."""


INSIDE = "deep inside"
LISTENER = rf"""
use IO::Socket::UNIX;
my $s = IO::Socket::UNIX->new(Local => $ENV{{LISTEN}}, Listen => 20) or die;
while (my $c = $s->accept) {{
    while (<$c>) {{ last if /^\r?$/ }}
    print $c "HTTP/1.0 200 OK\r\nCache-Control: no-store\r\n\r\n{INSIDE}";
    close $c;
}}"""
SERVER = "runtime: server\ncommand: exec perl serve.pl\n"


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def shop(
    request: pytest.FixtureRequest, lab: Lab, own: Bare, stranger: Stranger, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    host = bootstrapped(lab, own(request.param))
    with lab.pointing(host), opened(lab, host, stranger, tmp_path_factory.mktemp("runtimes")) as made:
        yield made


def drop(shop: Shop, name: str, text: str, mode: str = "0755") -> None:
    path = f"{ROOM}/{name}"
    shop.host.check(f"mkdir -p $(dirname {path}) && cat > {path} && chmod {mode} {path}", stdin=text, user=OWNER)


@pytest.mark.parametrize("runtime", DROPPED)
def test_a_program_that_is_dropped_into_the_site_runs_as_its_user(shop: Shop, runtime: str) -> None:
    """T4's third goal: nobody touches Apache, and nothing is loaded again."""
    keys, programs = DROPPED[runtime]
    shop.says(keys)
    shop.done("site.apply", DOMAIN)
    before = shop.host.check(SERVED)

    for name, (text, said) in programs.items():
        drop(shop, name, text)

        assert f"200 {said}" == shop.get(f"/{name}").strip()
        if runtime != "static":
            assert f"200 {said}" == shop.get(f"/{name}/more").strip()

    assert before == shop.host.check(SERVED)
    if runtime != "fpm":
        assert "php-fpm" not in shop.host.check(f"pgrep -u {OWNER} -a || :")
    if runtime in ("fpm", "fcgid"):
        assert {"5"} == set(shop.host.check(f"ps -o ni= -u {OWNER}").split())
    if runtime in ("cgi", "static"):
        drop(shop, "shown.php", WHO_PHP)
        assert "403" == shop.get("/shown.php")[:3]
    if runtime != "cgi":
        drop(shop, "shown.cgi", WHO_CGI)
        assert "cgi\n" not in shop.get("/shown.cgi").partition("#!")[0]


CODE = {
    "fpm": ("", "new.php", WHO_PHP),
    "fcgid": ("runtime: fcgid\n", "new.php", WHO_PHP),
    "cgi": ("runtime: cgi\n", "new.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\ncat /proc/self/cgroup\n"),
}
"""What a site's file says, and a program of it."""

GROUPS = f"pgrep -u {OWNER} | while read -r pid; do cat /proc/$pid/cgroup; done; pkill -u {OWNER}; sleep 0.5"


@pytest.mark.parametrize("runtime", CODE)
def test_a_site_s_code_has_another_share_of_the_processor_than_what_serves_all(shop: Shop, runtime: str) -> None:
    """Also once Apache has been loaded again, whose daemons start CGI and FastCGI: it has other ones then."""
    keys, name, text = CODE[runtime]
    shop.says(keys)
    shop.done("site.apply", DOMAIN)
    drop(shop, name, text)

    for first in ("true", "systemctl reload apache2; sleep 2"):
        shop.host.check(first)
        found, end = {""}, time.monotonic() + 30
        while found != {"gatehouse.slice"} and time.monotonic() < end:
            said = shop.get(f"/{name}") + "\n" + shop.host.check(GROUPS)
            found = {*re.findall(r"0::[^.\n]*/(\w+\.slice)", said)}
        assert {"gatehouse.slice"} == found

    for unit in ("apache2", "haproxy", "varnish", "redis-server", "ssh"):
        assert "/system.slice" in shop.host.check(f"systemctl show -P ControlGroup {unit}")
    assert "100\n" == shop.host.check("systemctl show -P CPUWeight gatehouse.slice")
    assert "" == shop.host.check("systemctl --failed --no-legend --plain")
    assert " 0 changed, 0 failed" in shop.done("site.apply", DOMAIN)


@pytest.mark.parametrize("release", ["trixie", "bookworm"])
def test_nobody_waits_while_a_site_changes_what_runs_it(
    lab: Lab, bare: Bare, stranger: Stranger, tmp_path: Path, release: str
) -> None:
    """Under visitors: of the site, whose runtime changes, and of a neighbour, whose does not.

    On a host of its own, so that it is the host's first one of mod_fcgid and of CGI: both modules have a daemon.
    """
    host = bootstrapped(lab, bare(release))
    with lab.pointing(host), opened(lab, host, stranger, tmp_path) as shop:
        assert 0 == shop.deploy("one", serve_pl=LISTENER).returncode
        pages = [f"{DOMAIN}/version.php", f"{DOMAIN}/version.txt", "example.com/"]
        before = host.check("systemctl show -p ExecMainPID apache2")
        with visiting(shop.stranger, shop.host, *pages) as visits:
            for keys in ("runtime: fcgid\n", SERVER, "", "mounts: {/cgi: {runtime: cgi}}\n", "runtime: fcgid\n", ""):
                shop.says(keys)
                shop.done("site.apply", DOMAIN)
                time.sleep(0.5)

        assert [] == visits.failed()
        assert 50 < len(visits.seen)
        assert {"200 one", f"200 {INSIDE}"} == {said for page, *_, said in visits.seen if page.endswith(".php")}
        assert before == host.check("systemctl show -p ExecMainPID apache2"), "nothing restarted Apache"
        assert "" == host.check("ls /etc/gatehouse/fcgid")
        assert " 0 changed, 0 failed" in shop.fab("site.apply", DOMAIN).stdout


def test_a_release_of_a_site_that_fcgid_runs(shop: Shop) -> None:
    shop.says("runtime: fcgid\n")
    shop.done("site.apply", DOMAIN)

    assert 0 == shop.deploy("two").returncode
    assert "200 two" == shop.get()
    shop.done("site.rollback", DOMAIN)
    assert "200 two" != shop.get()


@pytest.fixture(scope="module")
def listening(shop: Shop) -> str:
    """The socket of a program of the site's own, which its own visitors reach."""
    shop.says(SERVER)
    shop.done("site.apply", DOMAIN)
    told = shop.deploy("listening", serve_pl=LISTENER)
    assert 0 == told.returncode, told.stdout + told.stderr
    assert f"200 {INSIDE}" == shop.get("/any/path")
    return f"/run/gatehouse/{OWNER}/_.sock"


UNSET = "RequestHeader unset Max-Forwards\n"
INSIST = f'{UNSET}<If "true">\n{UNSET}</If>\n<Files "*">\n{UNSET}<If "true">\n{UNSET}</If>\n</Files>\n'
WAYS = {
    "a path": ("RewriteRule ^x$ {there} [P]\n", "x"),
    "a file's handler": ("RewriteRule ^x.html$ - [H=proxy:{there}]\n", "x.html"),
    "both": ("RewriteRule ^x.html$ {there} [P,H=proxy:unix:/run/php/example-com.sock|fcgi://example-com]\n", "x.html"),
    "an index": ("DirectoryIndex x\nRewriteRule ^x$ {there} [P]\n", ""),
    "an index's handler": ("DirectoryIndex x.html\nRewriteRule ^x.html$ - [H=proxy:{there}]\n", ""),
    "an error's page": ("ErrorDocument 404 /{name}/s/x\nRewriteRule ^s/x$ {there} [P]\n", "nowhere"),
    "a fallback": ("FallbackResource /{name}/s/x\nRewriteRule ^s/x$ {there} [P]\n", "nowhere"),
    "without a flag": ("RewriteRule ^x$ proxy:{there}\n", "x"),
}


@pytest.fixture
def corner(shop: Shop) -> Iterator[Corner]:
    yield from borrowed(shop.host, A, A_ROOT)


@pytest.mark.parametrize("insist", ["", INSIST], ids=["", "insisting"])
@pytest.mark.parametrize("way", WAYS)
def test_no_htaccess_leads_to_another_site_s_program(
    shop: Shop, listening: str, corner: Corner, way: str, insist: str
) -> None:
    """Apache may speak to every program, and programs believe what it says of a visitor."""
    rule, name = WAYS[way]
    there = f"unix:{listening}|http://{OWNER}/"
    corner.put("x.html", "mine")
    corner.put(".htaccess", insist + "RewriteEngine On\n" + rule.format(there=there, name=corner.name))

    answer = corner.ask(name)

    assert INSIDE not in answer
    assert status(answer) >= 400, answer
