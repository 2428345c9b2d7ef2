"""What nobody should fetch, asked for by a stranger: hidden files, leftovers, status pages, listings."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ...front.visitor import ROOM, Visitor
from ...machine import Machine

pytestmark = pytest.mark.fault("F-85")

ROOT = f"{ROOM}/hidden"
SECRET = "a word that no answer may hold"
FILES = shlex.split("""
.env .env.local .git/config .git/HEAD .gitignore .svn/entries .hg/store .htaccess .htpasswd .DS_Store .user.ini .npmrc
.ssh/id_ed25519 .bash_history .aws/credentials .well-known.bak a/.env front.php~ front.php.bak front.php.old dump.sql
front.php.orig front.php.save front.php.swp .front.php.swp front.php.rej front.php.dist front.php.tmp #front.php#
dump.sql.gz db.sqlite db.sqlite3 config.ini config.inc settings.conf debug.log deploy.sh front.phps front.phtml
front.phar front.php5 front.PHP wp-config.php.bak
""")
NOT_THERE = shlex.split("""
server-status server-status?auto server-info balancer-manager cgi-bin/ cgi-bin/test.cgi icons/ icons/README manual/
~root/ ~example-com/ status ping fpm-status php-fpm-status phpinfo.php info.php test.php phpmyadmin/ pma/ adminer.php
haproxy?stats haproxy_stats stats ;csv varnish varnishstat _status nginx_status console actuator/env debug/pprof
wp-admin/setup-config.php
""")


@contextmanager
def laid(host: Machine) -> Iterator[None]:
    """A directory of example.com with every one of FILES in it, and one without an index."""
    place = f"{ROOT}/empty"
    script = f"set -e; mkdir {ROOT} {place}; cd {ROOT}\n" + "".join(
        f"mkdir -p $(dirname ./{shlex.quote(name)}); printf %s {shlex.quote(SECRET)} > ./{shlex.quote(name)}\n"
        for name in FILES
        if name != ".htaccess"
    )
    host.check("runuser -u example-com -- sh", stdin=script + f"echo '# {SECRET}' > .htaccess\n")
    try:
        yield
    finally:
        host.check(f"rm -r {ROOT}")


def test_f85_hidden_files_and_leftovers_are_refused(visit: Visitor, seen: Callable[[str], None]) -> None:
    with laid(visit.host):
        urls = [f"https://example.com/hidden/{name.replace('#', '%23')}" for name in FILES]
        urls += ["https://example.com/hidden/%2eenv", "https://example.com/hidden/x/..%2f.env"]
        urls += [
            "https://example.com//hidden//.env",
            "https://example.com/hidden/.env/",
            "https://example.com/hidden/.ENV",
        ]
        urls += ["https://example.com/hidden/.git%2fconfig", "https://example.com/hidden/;/.env"]
        for url in urls:
            answer = visit(url, "--path-as-is")
            assert answer.status in (403, 404), f"{url}: {answer.status}"
            assert SECRET not in answer.body, url
        for name in ("", "empty/", "a/"):
            answer = visit(f"https://example.com/hidden/{name}")
            assert answer.status in (403, 404)
            assert "Index of" not in answer.body
    seen(f"{len(urls)} hidden files and leftovers that are there: 403 or 404; no listing")


def test_f85_there_are_no_status_pages_for_anybody(visit: Visitor, seen: Callable[[str], None]) -> None:
    """Also for somebody who says to be this host itself, and by the names that a default vhost would answer."""
    local = ("-H", "X-Forwarded-For: 127.0.0.1", "-H", "X-Real-IP: 127.0.0.1", "-H", "Client-IP: 127.0.0.1")
    for path in NOT_THERE:
        for words in ((), local):
            answer = visit(f"https://example.com/{path}", "--path-as-is", *words)
            assert answer.status in (403, 404), f"{path}: {answer.status}"
    for name in ("localhost", "127.0.0.1", visit.host.ip, "unknown.invalid", "health.invalid", visit.host.name):
        for path in ("", "server-status", "front.php"):
            answer = visit(f"https://example.com/{path}", "-H", f"Host: {name}")
            assert (answer.status, "Debian" in answer.body) == (421, False), name
    seen(f"{len(NOT_THERE)} status and setup pages: 404; foreign names: 421")
