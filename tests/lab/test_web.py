"""Apache, PHP and sessions on real hosts: each site is served from its own tree, and no site gets at another's.

example.com is the site that misbehaves here, kiosk.co.test the one it would like to rob.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from .corner import A_ROOT, A_SOCKET, B_ROOT, B_SOCKET, COUNT, WHO, A, B, Corner, as_user, ask, body, status
from .machine import Machine, Stranger

# ---------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("example.com", "example.com"),
        ("www.example.com", "www.example.com"),
        ("WWW.Example.COM", "www.example.com"),
        ("kiosk.co.test", "kiosk.co.test"),
        ("shop.kiosk.co.test", "shop.kiosk.co.test"),
        ("kiosk.test", "kiosk.co.test"),
    ],
)
def test_a_name_is_answered_from_its_own_directory(host: Machine, name: str, shown: str) -> None:
    answer = ask(host, name, "/index.html")

    assert 200 == status(answer)
    assert f"<h1>{shown}</h1>" in answer


@pytest.mark.parametrize(
    "name", ["", "other.test", "nope.example.com", "127.0.0.1", "xexample.com", "example.com.evil.test"]
)
def test_another_name_is_refused(host: Machine, name: str) -> None:
    assert 421 == status(ask(host, name, "/"))


def test_apache_answers_this_host_alone(host: Machine, stranger: Stranger) -> None:
    listening = host.check("ss -Hltn").split("\n")

    assert ["127.0.0.1:8080"] == [line.split()[3] for line in listening if line.strip() and "8080" in line.split()[3]]
    assert [] == [line for line in listening if re.search(r":(6379|9000|80)\b", line) and "apache" in line]


def test_apache_says_little(host: Machine, corner: Corner) -> None:
    corner.put("style.css", "p { color: red }")
    heads = [answer.partition("\r\n\r\n")[0] for answer in (corner.ask("who.php"), corner.ask("style.css"))]

    for head in heads:
        assert "\r\nServer: Apache\r\n" in head + "\r\n"
        assert not re.search("(?i)^(x-powered-by|etag):", head, re.MULTILINE)
    assert re.search("(?i)^cache-control: max-age=604800", heads[1], re.MULTILINE)


def test_the_event_mpm_runs_and_nothing_that_tells_or_runs_programs(host: Machine) -> None:
    assert "event" == host.check("a2query -M").strip()
    loaded = set(re.findall(r"(\w+)_module", host.check("apache2ctl -M")))
    assert set() == loaded & {
        "autoindex",
        "status",
        "info",
        "cgi",
        "cgid",
        "userdir",
        "negotiation",
        "proxy_http",
        "include",
    }
    assert "Syntax OK" == host.exec("apache2ctl -t").err.strip()


def test_methods_and_requests_that_are_none_are_refused(host: Machine) -> None:
    assert 405 == status(ask(host, "example.com", "/", method="TRACE"))
    assert 400 == status(ask(host, "example.com", "/", "Bad Header: x"))
    assert 400 == status(ask(host, "exam ple.com", "/"))


# ---------------------------------------------------------------------- PHP


def test_php_runs_as_the_site_in_its_own_rooms(corner: Corner) -> None:
    told = json.loads(body(corner.ask("who.php/a/b")))

    assert {
        "user": A,
        "groups": 1,
        "script": f"{corner.path}/who.php",
        "path": "/a/b",
        "tmp": f"{A_ROOT}/tmp",
        "logged": f"{A_ROOT}/log/php_errors.log",
        "port": "443",
    }.items() <= told.items()


def test_php_sees_the_visitor_that_varnish_saw_and_no_forged_one(corner: Corner) -> None:
    told = json.loads(
        body(corner.ask("who.php", "X-Forwarded-For: 198.51.100.6, 203.0.113.7", "X-Forwarded-Proto: https"))
    )

    assert ("203.0.113.7", "on") == (told["client"], told["https"])


def test_through_the_whole_chain_php_sees_the_stranger(host: Machine, stranger: Stranger, corner: Corner) -> None:
    forged = ("-H", "X-Forwarded-For: 198.51.100.6", "-H", "X-Forwarded-Proto: http")

    answer = stranger.curl(*forged, f"https://example.com/{corner.name}/who.php", to=host)

    told = json.loads(answer.out)
    assert (A, stranger.ip, "on") == (told["user"], told["client"], told["https"])


def test_a_script_that_is_not_there_never_reaches_php(corner: Corner) -> None:
    corner.put("page.html", "<p>hello")
    corner.put("picture.jpg", WHO)

    assert 404 == status(corner.ask("missing.php"))
    for path in ("page.html/x.php", "picture.jpg/x.php", "picture.jpg%00.php", "who.php."):
        answer = corner.ask(path)
        assert 404 == status(answer), path
        assert A not in answer


def test_a_picture_that_is_a_script_is_shown_and_not_run(corner: Corner) -> None:
    corner.put("picture.jpg", WHO)

    assert body(corner.ask("picture.jpg")) == WHO


def test_faults_go_to_the_site_s_log_and_not_to_the_visitor(host: Machine, corner: Corner) -> None:
    corner.put("fault.php", "<?php no_such_function_of_mine();")

    answer = corner.ask("fault.php")

    assert 500 == status(answer)
    assert "no_such_function" not in answer
    log = f"{A_ROOT}/log/php_errors.log"
    assert "no_such_function_of_mine" in host.check(f"cat {log}")
    assert f"640 {A}:{A}" == host.check(f"stat -c '%a %U:%G' {log}").strip()


def test_a_slow_script_is_ended(host: Machine, corner: Corner) -> None:
    """The site's own limit holds: sleep() does not count for max_execution_time."""
    conf = host.check("cat /etc/php/*/fpm/pool.d/example.com.conf")

    limit = re.search(r"request_terminate_timeout = (\d+)s", conf)
    proxy = re.search(rf"Use VHost \S+ \d+ \S+ {A} (\d+) ", host.check("cat /etc/apache2/vhost.d/example.com.conf"))
    assert limit
    assert proxy
    assert int(limit[1]) < int(proxy[1])


# ---------------------------------------------------------------------- what nobody gets


@pytest.mark.parametrize(
    "file",
    [
        ".env",
        ".git/config",
        ".htpasswd",
        "wp-config.php~",
        "wp-config.php.bak",
        "dump.sql",
        "x.phtml",
        "x.PHP",
        "a.inc",
    ],
)
def test_hidden_files_and_leftovers_are_refused(corner: Corner, file: str) -> None:
    as_user(corner.host, A, f"mkdir -p {corner.path}/.git")
    corner.put(file, "secret")

    answer = corner.ask(file)

    assert 403 == status(answer)
    assert "secret" not in body(answer)


@pytest.mark.parametrize("path", ["/", "/server-status", "/icons/", "/cgi-bin/", "/phpinfo.php"])
def test_there_is_no_listing_and_nothing_of_debian_s(corner: Corner, path: str) -> None:
    assert status(corner.ask("") if path == "/" else ask(corner.host, "example.com", path)) in (403, 404)


def test_well_known_names_are_served(corner: Corner) -> None:
    as_user(corner.host, A, f"mkdir -p {corner.path}/.well-known")
    corner.put(".well-known/security.txt", "Contact: mailto:a@example.com")

    assert 200 == status(corner.ask(".well-known/security.txt"))


# ---------------------------------------------------------------------- what an .htaccess may do


def test_an_htaccess_may_ask_for_a_password(corner: Corner) -> None:
    corner.put(".htpasswd", "guest:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n")  # "password"
    corner.put(".htaccess", f"AuthType Basic\nAuthName x\nAuthUserFile {corner.path}/.htpasswd\nRequire valid-user\n")

    assert 401 == status(corner.ask("who.php"))
    assert 200 == status(corner.ask("who.php", "Authorization: Basic Z3Vlc3Q6cGFzc3dvcmQ="))


def test_an_htaccess_may_rewrite_redirect_and_set(corner: Corner) -> None:
    corner.put(
        ".htaccess",
        f"RewriteEngine On\nRewriteBase /{corner.name}/\nRewriteCond %{{REQUEST_FILENAME}} !-f\n"
        "RewriteRule ^page/(.*)$ who.php [L]\n"
        "Redirect 301 /old https://example.com/new\nSetEnv GIVEN yes\nHeader set X-Mine yes\n"
        "ErrorDocument 404 nothing-here\nOptions -Indexes\nDirectoryIndex who.php\n",
    )

    answer = corner.ask("page/one")
    assert (200, "yes") == (status(answer), json.loads(body(answer))["given"])
    assert "X-Mine: yes" in answer
    assert "nothing-here" in corner.ask("nowhere")
    assert A == json.loads(body(corner.ask("")))["user"]


@pytest.mark.parametrize(
    "line",
    [
        f'SetHandler "proxy:{B_SOCKET}"',
        f'AddHandler "proxy:{B_SOCKET}" .php',
        f'<Files who.php>\nSetHandler "proxy:{B_SOCKET}"\n</Files>',
        "ProxyFCGISetEnvIf true PHP_ADMIN_VALUE open_basedir=/",
        "Options +FollowSymLinks",
        "Options +ExecCGI",
        "Options +Includes",
        "Alias /x /etc",
        f'Header set X-Leak "expr=%{{file:{B_ROOT}/public_html/_/index.html}}"',
        f'ErrorDocument 404 "%{{file:{B_ROOT}/public_html/_/index.html}}"',
        f"<If \"file('{B_ROOT}/public_html/_/index.html') =~ /./\">\nHeader set X-Leak 1\n</If>",
    ],
)
def test_an_htaccess_gets_no_other_handler_option_or_file(corner: Corner, line: str) -> None:
    corner.put(".htaccess", line + "\n")

    assert 500 == status(corner.ask("who.php"))


ROBBERIES = {
    "their script": f"^x$ {B_SOCKET}{{theirs}}/who.php [P]",
    "their script, named": f"^x$ {B_SOCKET}{{theirs}}/who.php [P,E=SCRIPT_FILENAME:{{theirs}}/who.php]",
    "their script, named twice": f"^x$ {B_SOCKET}{{theirs}}/who.php [P,E=PATH_TRANSLATED:{{theirs}}/who.php]",
    "their script, round the corner": f"^x$ {B_SOCKET}{{mine}}/../../../../kiosk.co.test/public_html/_/who.php [P]",
    "my script": f"^x$ {B_SOCKET}{{mine}}/who.php [P]",
    "my script, handler forced": f"^x$ {B_SOCKET}{{mine}}/who.php [P,H=proxy:{A_SOCKET}]",
    "my script, handler first": f"^x$ - [H=proxy:{A_SOCKET}]\nRewriteRule ^x$ {B_SOCKET}{{mine}}/who.php [P]",
    "my script, their handler": f"^who.php$ - [H=proxy:{B_SOCKET}]",
    "their file": "^x$ {theirs}/who.php [L]",
}


@pytest.mark.parametrize("way", ROBBERIES.values(), ids=ROBBERIES)
def test_no_rewriting_leads_into_another_site_s_php(corner: Corner, theirs: Corner, way: str) -> None:
    """Apache may speak to every pool: what an .htaccess makes of that must not run as the other site."""
    as_user(corner.host, A, f"chmod 755 {A_ROOT}/public_html")  # the door of the tree holds, whatever a site opens
    try:
        rule = way.format(mine=corner.path, theirs=theirs.path)
        corner.put(".htaccess", f"RewriteEngine On\nRewriteRule {rule}\n")

        answer = corner.ask("who.php" if way.startswith("^who") else "x")

        assert status(answer) >= 400, answer
        assert f'"user":"{B}"' not in answer
    finally:
        as_user(corner.host, A, f"chmod 750 {A_ROOT}/public_html")


@pytest.mark.parametrize(
    "line",
    [
        'SetEnv PHP_ADMIN_VALUE "open_basedir=/"',
        'SetEnv PHP_VALUE "open_basedir=/"',
        "RewriteEngine On\nRewriteRule ^ - [E=PHP_ADMIN_VALUE:open_basedir=/]",
        "SetEnv SCRIPT_FILENAME /etc/passwd",
        "SetEnv PATH_TRANSLATED /etc/passwd",
    ],
)
def test_an_htaccess_does_not_loosen_php(corner: Corner, line: str) -> None:
    corner.put(".htaccess", line + "\n")

    told = json.loads(body(corner.ask("who.php")))

    assert told["basedir"].startswith(f"{A_ROOT}/public_html/")
    assert corner.host.check(f"realpath {corner.path}/who.php").strip() == told["file"]


# ---------------------------------------------------------------------- one site and another


def test_a_site_s_shell_gets_at_its_own(host: Machine) -> None:
    """The probes above fail for their own reasons, and not because nothing works."""
    for command in (f"ls {A_ROOT}/public_html/_", f"cat {A_ROOT}/log/access_log", f"touch {A_ROOT}/tmp/x", "true"):
        done = as_user(host, A, command)
        assert 0 == done.rc, done.err


def test_php_cannot_look_over_the_wall(corner: Corner) -> None:
    corner.put(
        "look.php",
        f"""<?php header('Cache-Control: no-store');
        echo json_encode([@file_get_contents('{B_ROOT}/public_html/_/index.html'), @file_get_contents('/etc/passwd'),
            @scandir('{B_ROOT}'), @scandir('/var/www'), function_exists('exec'), function_exists('opcache_get_status'),
            @ini_set('open_basedir', '/'), @glob('/run/php/*')]);""",
    )

    told = json.loads(body(corner.ask("look.php")))

    assert [False] * 7 == told[:7]
    assert told[7] in (False, [])


def test_a_session_lasts_and_is_the_site_s_own(host: Machine, corner: Corner, theirs: Corner) -> None:
    for place in (corner, theirs):
        place.put("count.php", COUNT)
    first = corner.ask("count.php")
    (cookie,) = re.findall(r"(?im)^Set-Cookie: (PHPSESSID=([^;]+).*?)\r?$", first)

    counted = [body(corner.ask("count.php", f"Cookie: PHPSESSID={cookie[1]}")) for _ in range(2)]
    elsewhere = body(theirs.ask("count.php", f"Cookie: PHPSESSID={cookie[1]}"))

    assert [f"{cookie[1]} 2", f"{cookie[1]} 3"] == counted
    assert "1" == elsewhere.split()[1]
    assert cookie[1] != elsewhere.split()[0]  # an id that a visitor brings is not taken
    assert {"secure", "httponly", "samesite=lax"} <= {part.strip().lower() for part in cookie[0].split(";")}


def test_sessions_survive_a_new_roster(host: Machine, corner: Corner) -> None:
    corner.put("count.php", COUNT)
    session = body(corner.ask("count.php")).split()[0]

    host.check("systemctl reload redis-server")

    assert f"{session} 2" == body(corner.ask("count.php", f"Cookie: PHPSESSID={session}"))


def test_the_store_has_no_port_and_writes_nothing(host: Machine) -> None:
    assert "6379" not in host.check("ss -Hltn")
    assert "" == host.check("find /var/lib/redis -type f").strip()


# ---------------------------------------------------------------------- logs


def test_rotated_logs_keep_their_owners_and_go_on(host: Machine, corner: Corner) -> None:
    corner.put("fault.php", "<?php trigger_error('before');")
    corner.ask("fault.php")
    before = host.check(f"cd {A_ROOT}/log && stat -c '%n %a %U:%G' access_log error_log php_errors.log")

    host.check("logrotate --force /etc/logrotate.d/gatehouse-sites")
    corner.put("fault.php", "<?php trigger_error('after');")
    mark = f"fault.php?{time.time()}"
    _until(lambda: status(corner.ask(mark)) == 200 and mark in host.check(f"cat {A_ROOT}/log/access_log"))

    assert before == host.check(f"cd {A_ROOT}/log && stat -c '%n %a %U:%G' access_log error_log php_errors.log")
    assert "after" in host.check(f"cat {A_ROOT}/log/php_errors.log")
    assert "after" not in host.check(f"cat {A_ROOT}/log/php_errors.log.1")


def test_the_access_log_tells_the_visitor(host: Machine, corner: Corner) -> None:
    mark = uuid.uuid4().hex
    corner.ask(f"who.php?{mark}", "X-Forwarded-For: 203.0.113.9")

    (line,) = [line for line in host.check(f"cat {A_ROOT}/log/access_log").splitlines() if mark in line]
    assert line.startswith("203.0.113.9 - - [")


def _until(true: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


# ---------------------------------------------------------------------- sites that come and go


def _web(host: Machine, directory: Path) -> None:
    done = host.fab("site", "cache", "php", "apache", directory=directory)
    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.fault("F-43")
def test_f43_a_site_comes_goes_and_comes_back_with_its_files(host: Machine, fleet: Callable[..., Path]) -> None:
    domain = "brief.test"
    with_it, without = fleet(domain), fleet()
    try:
        _web(host, with_it)
        assert f"<h1>{domain}</h1>" in ask(host, domain, "/")
        Corner(host, "brief-test", f"/var/www/{domain}", ".").put("who.php", WHO)
        assert "brief-test" == json.loads(body(ask(host, domain, "/who.php")))["user"]

        _web(host, without)
        assert 421 == status(ask(host, domain, "/"))
        assert 1 == host.exec("test -e /run/php/brief-test.sock").rc
        # Its password lasts as long as its user, and opens nothing.
        assert 1 == host.exec("grep -q brief-test /etc/gatehouse/sessions/users.acl").rc
        assert 0 == host.exec(f"test -s /var/www/{domain}/public_html/_/who.php").rc

        host.check("userdel brief-test")  # its group stays, since Apache is in it
        _web(host, with_it)
        assert 200 == status(ask(host, domain, "/"))
    finally:
        _web(host, without)
        host.exec("sed -i /^brief-test/d /etc/cron.deny")
        host.exec(f"userdel brief-test; groupdel brief-test; umount /var/www/{domain}/tmp; rm -rf /var/www/{domain}")
        host.exec(f"find /etc -name '{domain}.conf.gone' -delete")


def test_a_dry_run_shows_a_new_site_and_makes_nothing(host: Machine, fleet: Callable[..., Path]) -> None:
    done = host.fab("--dry", "site", "cache", "php", "apache", directory=fleet("new.test"))

    assert 0 == done.returncode, done.stdout + done.stderr
    for line in ("user new-test", "/etc/php/", "/etc/apache2/vhost.d/new.test.conf new"):
        assert line in done.stdout
    assert "" == host.exec("find /etc /var/www -name '*new.test*' -o -name '*new-test*'; grep new-test /etc/passwd").out


def test_an_operator_switches_a_site_off_and_on(host: Machine) -> None:
    try:
        assert 0 == host.fab("site.suspend", "kiosk.co.test").returncode
        assert 421 == status(ask(host, "kiosk.co.test", "/"))
        assert 200 == status(ask(host, "example.com", "/"))

        again = host.fab("apache")
        assert "kiosk.co.test is suspended" in again.stdout
        assert 421 == status(ask(host, "kiosk.co.test", "/"))
    finally:
        assert 0 == host.fab("site.resume", "kiosk.co.test").returncode
    assert 200 == status(ask(host, "kiosk.co.test", "/"))


def test_another_php_is_refused_and_nothing_is_touched(host: Machine, fleet: Callable[..., Path]) -> None:
    directory = fleet("old.test")
    (directory / "sites" / "old.test.yml").write_text('domain: old.test\nphp:\n  version: "7.4"\n')

    done = host.fab("php", directory=directory)

    assert 2 == done.returncode
    assert "old.test wants PHP 7.4" in done.stderr
    assert 1 == host.exec("find /etc -name '*old.test*' | grep .").rc


def test_a_vhost_that_apache_refuses_never_gets_there(host: Machine) -> None:
    """The check judges it before it is in place; the sites go on."""
    host.check("mv /etc/apache2/mods-available/macro.load /etc/apache2/mods-available/macro.load.away")
    try:
        host.check("echo '# by hand' >> /etc/apache2/vhost.d/example.com.conf")
        before = host.check("sha256sum /etc/apache2/vhost.d/example.com.conf")

        done = host.fab("apache.vhosts")

        assert 1 == done.returncode
        assert before == host.check("sha256sum /etc/apache2/vhost.d/example.com.conf")
        assert 200 == status(ask(host, "example.com", "/"))
    finally:
        host.check("mv /etc/apache2/mods-available/macro.load.away /etc/apache2/mods-available/macro.load")
    assert 0 == host.fab("apache").returncode


def test_nothing_is_left_to_do(host: Machine) -> None:
    host.fab("site", "cache", "php", "apache")  # what tests before this one have touched
    done = host.fab("site", "cache", "php", "apache")

    assert 0 == done.returncode
    assert 4 == done.stdout.count(" 0 changed, 0 failed"), done.stdout
