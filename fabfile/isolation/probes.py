"""What a site's code could try at another site, and at the server: one table, for a shell and for PHP.

A probe is denied, or it got something.  Of each it is known who may do it: the other site itself (`site`, or `php` by
its own PHP), root, or nobody.  These try as well, so that a denial is a wall, and no mistake of the probe.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import NamedTuple

from ..engine.render import php as quoted
from ..model import PHP, UNITS, Site


class Probe(NamedTuple):
    """One try.  `how` is read, list, plant, connect, port, sh or php; `target` what it is tried at."""

    kind: str
    name: str
    how: str
    target: str
    may: str = "site"
    php: str = ""


class Pair(NamedTuple):
    """The site that attacks and the one that is attacked; `mark` names this proof in both their trees."""

    attacker: Site
    victim: Site
    mark: str
    php: str
    canary: str

    @property
    def place(self) -> str:
        """Where in the victim's tree the canary lies, open to everybody by its own modes."""
        return f"{self.victim.served}/_/{self.mark}"

    @staticmethod
    def scripted(site: Site) -> bool:
        """Whether what lies in its room runs as PHP."""
        return bool(site.php) and site.runtime in PHP

    @property
    def pooled(self) -> bool:
        """Whether the attacker has a pool of PHP-FPM, of which a copy can be made without PHP's own walls."""
        return self.attacker.runtime == "fpm"

    @property
    def started(self) -> bool:
        """Whether Apache starts the attacker's code, or becomes its user: it runs in Apache's own sandbox."""
        return self.attacker.has("fcgid", "cgi", "itk")

    @property
    def listens(self) -> str:
        """How Apache would speak to a program of the victim's, where it speaks to any."""
        return "http" if self.victim.has("server") else "scgi" if self.victim.has("scgi") else ""

    @property
    def shown(self) -> bool:
        """Whether Apache itself shows the attacker's files, so that links and .htaccess may try something."""
        return self.attacker.runtime not in UNITS

    @property
    def own(self) -> str:
        """Where the attacker's programs lie."""
        return f"{self.attacker.served}/_/{self.mark}"


# @WORKER@ and @OWN@ are processes of the two sites' runtimes, known once they run.
def probes(pair: Pair) -> tuple[Probe, ...]:
    """All that is tried for this pair."""
    a, b = pair.attacker, pair.victim
    return (
        *_files(pair),
        *_processes(),
        *_server(pair),
        *_runtime(b),
        Probe(
            "become",
            "to become its user",
            "sh",
            f"setpriv --reuid {b.owner} --regid {b.owner} --clear-groups true",
            "root",
        ),
        Probe("become", "to become root", "sh", "sudo -n true", "root"),
        Probe("become", "to start a service", "sh", "systemctl --no-ask-password start multi-user.target", "root"),
        Probe("cron and at", "its crontab, by crontab", "sh", f"crontab -u {b.owner} -l", "root"),
        Probe("cron and at", "jobs of its own, outside of its runtime", "sh", _OWN_CRON, "root"),
        Probe("cron and at", "jobs by at", "sh", "at -l", "root"),
        *_sessions(pair),
        *_opcode_cache(pair),
        *(_database(a, b) if b.database else ()),
    )


_OWN_CRON = "command -v crontab && ! crontab -l 2>&1 | grep 'not allowed'"


def _files(pair: Pair) -> Iterable[Probe]:
    b, place = pair.victim, pair.place
    yield Probe("files", "its code", "read", f"{place}/secret.php")
    yield Probe("files", "its pages", "read", f"{place}/page.txt")
    yield Probe("files", "its tree", "list", b.root, "root")
    yield Probe("files", "its names", "list", f"{b.served}/", "site")
    yield Probe("files", "what it is told of database and cache", "list", f"/etc/gatehouse/sites/{b.owner}", "root")
    yield Probe("files", "a page of its", "plant", place)
    yield Probe("uploads", "what it keeps over releases", "read", f"{b.root}/shared/{pair.mark}")
    yield Probe("uploads", "a file among these", "plant", f"{b.root}/shared")
    yield Probe("tmp", "its temporary files", "read", f"{b.root}/tmp/{pair.mark}")
    yield Probe("tmp", "their names", "list", f"{b.root}/tmp")
    yield Probe("tmp", "a file in its tmp", "plant", f"{b.root}/tmp")
    yield Probe("mail", "its mail", "read", f"{b.root}/mail/{pair.mark}")
    yield Probe("mail", "a letter in its mail", "plant", f"{b.root}/mail")
    yield Probe("mail", "its mailbox of the system", "read", f"/var/mail/{b.owner}", "root")
    for name, file in {"its access log": "access_log", "its error log": "error_log"}.items():
        yield Probe("logs", name, "read", f"{b.root}/log/{file}", "root")
    yield Probe("logs", "what its code complains about", "read", f"{b.root}/log/php_errors.log", "root")
    yield Probe("logs", "the names of its logs", "list", f"{b.root}/log", "root")
    yield Probe("logs", "a log of its own making", "plant", f"{pair.attacker.root}/log", "root")
    yield Probe("logs", "what Varnish remembers of visits", "list", "/var/lib/varnish/varnishd/_.vsm_child", "root")
    yield Probe("logs", "the journal", "sh", "journalctl -q -n 1 -u ssh -u cron -u systemd-logind | grep -q .", "root")
    yield Probe("logs", "the log of all pools", "read", f"/var/log/php{pair.php}-fpm.log", "root")
    yield Probe("cron and at", "its crontab", "read", f"/var/spool/cron/crontabs/{b.owner}", "root")
    yield Probe("cron and at", "everybody's crontabs", "list", "/var/spool/cron/crontabs", "root")
    yield Probe("cron and at", "a cron job of root", "plant", "/etc/cron.d", "root")


def _processes() -> Iterable[Probe]:
    yield Probe("processes", "the environment of its program", "read", "/proc/@WORKER@/environ", "root")
    yield Probe("processes", "the memory map of its program", "read", "/proc/@WORKER@/maps", "root")
    yield Probe("processes", "what its program has open", "list", "/proc/@WORKER@/fd", "root")
    yield Probe("processes", "its tree, through its program's eyes", "list", "/proc/@WORKER@/root/", "root")
    yield Probe("processes", "to write into its program", "sh", ": 3<> /proc/@WORKER@/mem", "root",
                php="fopen('/proc/@WORKER@/mem', 'r+')")  # fmt: skip
    yield Probe("processes", "to signal its program", "sh", "kill -0 @WORKER@", "site", php="posix_kill(@WORKER@, 0)")
    yield Probe("processes", "to slow its program", "sh", "renice -n 10 -p @WORKER@", "")


def _server(pair: Pair) -> Iterable[Probe]:
    a, b, php = pair.attacker, pair.victim, pair.php
    for name, path in {
        "its session password": f"/etc/gatehouse/secrets/sessions/{b.owner}",
        "its pool's secret": f"/etc/gatehouse/secrets/php/{b.owner}.conf",
        "its vhost": f"/etc/apache2/vhost.d/{b}.conf",
        "its certificate's key": f"/etc/haproxy/certs/{b}.pem",
        "the roster of sessions": "/etc/gatehouse/sessions/users.acl",
        "the secret of Varnish's console": "/etc/varnish/secret",
        "passwords": "/etc/shadow",
        "the history of /etc": "/etc/.git/HEAD",
        "the firewall's rules": "/etc/iptables/rules.v4",
        "the bans": "/var/lib/fail2ban/fail2ban.sqlite3",
    }.items():
        yield Probe("the server", name, "read", path, "root")
    for name, path in {
        "all certificates": "/etc/haproxy/certs",
        "the CA account": "/etc/lego/accounts",
        "all passwords of sites": "/etc/gatehouse/secrets",
        "what a run left": "/var/lib/gatehouse",
        "backups": "/var/backups/gatehouse",
    }.items():
        yield Probe("the server", name, "list", path, "root")
    for name, path in {
        "a site": "/var/www",
        "a pool": f"/etc/php/{php}/fpm/pool.d",
        "a vhost": "/etc/apache2/vhost.d",
        "a unit": "/etc/systemd/system",
        "a program of root": "/usr/local/bin",
        "beside its own rooms": a.root,
    }.items():
        yield Probe("the server", name, "plant", path, "root")
    for name, path in {
        "its PHP": f"/run/php/{b.owner}.sock",
        "its own PHP, past Apache": f"/run/php/{a.owner}.sock",
        "HAProxy's console": "/run/haproxy/admin.sock",
        "HAProxy's master": "/run/haproxy-master.sock",
        "fail2ban": "/run/fail2ban/fail2ban.sock",
        "systemd": "/run/systemd/private",
    }.items():
        yield Probe("sockets", name, "connect", path, "root")
    yield Probe("sockets", "a socket among those of PHP", "plant", "/run/php", "root")
    yield Probe("sockets", "Apache, past the front", "port", "8080", "root")
    yield Probe("sockets", "Varnish, past the front", "port", "8081", "root")
    yield Probe("cache keys", "Varnish's purges", "connect", "/run/varnish/purge.sock", "root")
    yield Probe("cache keys", "Varnish's console", "port", "6082", "root")
    yield Probe("cache keys", "the visits, by varnishlog", "sh", "varnishlog -d -n varnishd", "root")


# Their names are everybody's to see, as Debian has it.
_ANY_FCGID = (
    "for s in /var/lib/apache2/fcgid/sock/*; do "
    "perl -MIO::Socket::UNIX -e 'exit !IO::Socket::UNIX->new(Peer => shift)' \"$s\" && exit 0; done; exit 1"
)


def _runtime(b: Site) -> Iterable[Probe]:
    """What the other site's own programs have, and what suEXEC or ITK has for it."""
    for zone in b.zones:
        if zone.runtime in UNITS:
            yield Probe("sockets", f"its program at {zone.path}", "connect", zone.socket, "root")
            unit = f"{zone.owner}:{zone.name}"
            yield Probe("the server", f"to change how {zone.path} starts", "plant", "/etc/gatehouse/units", "root")
            yield Probe("the server", f"to end what runs at {zone.path}", "sh",
                        f"systemctl --no-ask-password reset-failed 'gatehouse-{unit}@*'", "root")  # fmt: skip
        if zone.runtime == "ajp":
            file = f"/etc/gatehouse/secrets/ajp/{zone.owner}.{zone.name}"
            yield Probe("the server", f"the secret of its Tomcat at {zone.path}", "read", file, "root")
            tomcat = f"/etc/gatehouse/tomcat/{zone.owner}.{zone.name}/conf/server.xml"
            yield Probe("the server", f"the settings of its Tomcat at {zone.path}", "read", tomcat, "root")
    if b.has("fcgid"):
        yield Probe("the server", "what starts its PHP", "plant", f"/var/www/.suexec/{b.owner}", "root")
        yield Probe("sockets", "those of mod_fcgid", "sh", _ANY_FCGID, "root")
    if b.runtime in ("fcgid", "itk"):
        yield Probe("sessions", "its session's file", "read", f"{b.root}/tmp/sess_@SESSION@")


REDIS = "/run/redis/gatehouse.sock"
KEYS = r'$s = IO::Socket::UNIX->new(Peer => shift) or die "$!\n"; print $s "KEYS *\r\n"; $_ = <$s>; /^[-]/ and die $_'


def _sessions(pair: Pair) -> Iterable[Probe]:
    """Redis on this host: with nobody's password, and with the attacker's own (PHP knows it)."""
    b = pair.victim.owner
    line = f"perl -MIO::Socket::UNIX -e {shlex.quote(KEYS)} {REDIS}"
    yield Probe("sessions", "all sessions, with no password", "sh", line, "")
    words = {
        "its session": f"GET {b}:session:@SESSION@",
        "to end its session": f"DEL {b}:session:@SESSION@",
        "a session in its name": f"SETEX {b}:session:{pair.mark} 60 x",
        "all sessions, by KEYS": "KEYS *",
        "all sessions, by SCAN": "SCAN 0",
        "one of all sessions": "RANDOMKEY",
        "the store's settings": "CONFIG GET *",
        "the store's users": "ACL LIST",
        "a program in the store": "EVAL 'return 1' 0",
        "to empty the store": "FLUSHALL ASYNC",
        "to listen at the store": "MONITOR",
    }
    for name, line in words.items():
        call = ", ".join(json.dumps(word).replace("$", r"\$") for word in shlex.split(line))
        yield Probe("sessions", name, "php", f"redis({call})", "php" if name == "its session" else "")


def _opcode_cache(pair: Pair) -> Iterable[Probe]:
    code = f"'{pair.place}/secret.php'"
    yield Probe("opcache", "its code, by include", "php", f"included({code})", "php")
    yield Probe("opcache", "what is in the cache", "php", "opcache_get_status()", "")
    yield Probe("opcache", "to throw its code out", "php", f"opcache_invalidate({code}, true)", "")
    yield Probe("opcache", "to compile its code", "php", f"opcache_compile_file({code})", "")
    if pair.pooled:  # in PHP-FPM alone its own process has the memory of all pools
        yield Probe("opcache", "the cache's memory", "read", "/proc/@OWN@/maps", "root")


def _database(a: Site, b: Site) -> Iterable[Probe]:
    for name, user in {"its database": a.owner, "its database, in its name": b.owner}.items():
        line = f"mariadb --no-defaults --user={user} --batch -e 'SHOW TABLES' {b.owner}"
        call = f"new mysqli('localhost', '{user}', '', '{b.owner}')"
        yield Probe("database", name, "sh", line, "" if user == a.owner else "site", php=call)
    yield Probe("database", "the names of all databases", "sh",
                f"mariadb --no-defaults --user={a.owner} -N -e 'SHOW DATABASES' | grep -qx {b.owner}", "")  # fmt: skip


# ---------------------------------------------------------------------- as programs

FORMS = {
    "read": "head -c 64 -- {} | grep -qaz .",
    "list": "ls -A -- {} | grep -q .",
    "plant": "touch -- {0}/.gatehouse-proof && rm -f -- {0}/.gatehouse-proof",
    "connect": "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Peer => shift) or die \"$!\\n\"' {}",
    "port": 'perl -MIO::Socket::INET -e \'IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => shift, '
    'Timeout => 3) or die "$@\\n"\' {}',
    "sh": "{}",
}

TRY = """try() {
    if said=$(timeout 10 sh -c "$2" 2>&1 < /dev/null); then got=got; else got=no; fi
    printf '%s\\t%s\\t%s\\n' "$1" "$got" "$(printf '%s' "$said" | tail -n 1 | tr -d '\\000-\\037' | cut -c1-160)"
}
"""


def shell(wanted: Iterable[Probe]) -> str:
    """A script that says of each, a line each: its name, `got` or `no`, and what was answered."""
    lines = [
        f"try {shlex.quote(key(one))} {shlex.quote(FORMS[one.how].format(one.target))}"
        for one in wanted
        if one.how in FORMS
    ]
    return TRY + "\n".join(lines) + "\n"


def script(wanted: Iterable[Probe], pair: Pair) -> str:
    """The same as a page in PHP."""
    calls = {
        "read": "(string) file_get_contents({}, false, null, 0, 64) !== ''",
        "list": "count(scandir({}) ?: []) > 2",
        "plant": "touch({0} . '/.gatehouse-proof') && unlink({0} . '/.gatehouse-proof')",
        "connect": "stream_socket_client('unix://' . {})",
        "port": "stream_socket_client('tcp://127.0.0.1:' . {}, $no, $why, 3)",
    }
    lines = []
    for one in wanted:
        code = one.php or (one.target if one.how == "php" else calls.get(one.how, "").format(quoted(one.target)))
        if code:
            lines.append(f"probe({quoted(key(one))}, fn() => {code});")
    return PAGE.replace("@CANARY@", pair.canary).replace("@PROBES@", "\n".join(lines))


def key(one: Probe) -> str:
    """What it is called in the programs' answers."""
    return f"{one.kind}: {one.name}"


PAGE = """<?php
header('Cache-Control: no-store'); header('Content-Type: text/plain');
function probe($name, $try) {
    error_clear_last();
    try { $got = @$try(); $said = error_get_last()['message'] ?? ''; }
    catch (Throwable $e) { $got = false; $said = $e->getMessage(); }
    $said = substr(preg_replace('/[\\\\x00-\\\\x1f]/', ' ', $said), 0, 240);
    echo $name, "\\t", $got ? 'got' : 'no', "\\t", $said, "\\n";
}
function included($path) { ob_start(); try { @include $path; } finally { $text = ob_get_clean(); }
    return strpos($text, '@CANARY@') !== false; }
function redis(...$words) {
    $me = posix_getpwuid(posix_geteuid())['name'];
    $redis = new Redis(); $redis->connect('/run/redis/gatehouse.sock');
    $redis->auth([$me, (string) @file_get_contents("/etc/gatehouse/sites/$me/sessions.password")]);
    $answer = $redis->rawCommand(...$words);
    if ($answer === false && $redis->getLastError()) throw new Exception($redis->getLastError());
    return $answer !== false;
}
@PROBES@
echo "end\\tno\\t", posix_getpwuid(posix_geteuid())['name'], "\\n";
"""
