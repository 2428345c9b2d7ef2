"""One site and another, and the server: what example.com's programs get at, by PHP and by a shell."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pytest

from fabfile.isolation.program import APACHE, IN_PHP, OPEN_PHP, PHP_S_SHELL, SHELL

from ..corner import A_ROOT, B_ROOT, COUNT, A, B, Corner, as_user, body, status
from ..lab import Lab
from ..machine import CHECKOUT, Machine, Stranger

Seen = Callable[[str], None]
both_releases = pytest.mark.parametrize("host", ["vps", pytest.param("vps12", marks=pytest.mark.demand)], indirect=True)
one_release = pytest.mark.parametrize("host", ["vps"], indirect=True)


def proved(host: Machine) -> dict[str, set[str]]:
    """`site.prove-isolation` of B against A: what came of it, each result with what was tried."""
    done = host.fab("site.prove-isolation", "kiosk.co.test", "--by", "example.com", "--json")
    results: dict[str, set[str]] = {"code": {str(done.returncode)}}
    for one in json.loads(done.stdout):
        results.setdefault(one["result"], set()).add(f"{one['kind']}: {one['name']}")
        results.setdefault(one["way"], set()).add(one["name"])
    return results


ABSENT = {
    "mail: its mailbox of the system",
    "the server: backups",
    "logs: its error log",
    "processes: the environment of its program",
    "cron and at: its crontab, by crontab",
    "cron and at: jobs by at",
}
"""What this lab's hosts do not have, or root neither: FPM's workers have no environment."""


@both_releases
@pytest.mark.fault("F-65")
def test_f65_a_site_gets_at_nothing_of_another_s_in_any_guise(host: Machine, seen: Seen) -> None:
    before = host.check(LEFT)
    came = proved(host)

    assert {"0"} == came["code"]
    assert not came.keys() & {"reached", "untried"}
    assert came["absent"] <= ABSENT
    assert before == host.check(LEFT), "nothing of it is left"
    ways = {way: len(came[way]) for way in (SHELL, IN_PHP, OPEN_PHP, PHP_S_SHELL, APACHE)}
    assert min(ways.values()) > 20
    seen(f"denials: {', '.join(f'{number} by {way}' for way, number in ways.items())}")


LEFT = (
    "find /var/www /etc /run /tmp -name '*gatehouse-proof*' ! -path '*/log/*'; crontab -u kiosk-co-test -l; "
    "systemctl list-units --all --plain --no-legend '*proof*'; cat /etc/php/*/fpm/pool.d/*.conf | sha256sum; true"
)

GENERAL = "/etc/apache2/conf-available/gatehouse.conf"
VHOST = "/etc/apache2/conf-available/vhost.conf"
HEADERS = ("PHP_VALUE", "PHP-ADMIN-VALUE", "PHP_ADMIN_VALUE")
CACHE = "/etc/php/*/fpm/conf.d/99-gatehouse.ini"
SESSIONS = "/etc/gatehouse/sessions/users.acl"


@dataclass(frozen=True)
class Weakness:
    """How a host is made weaker, and all that is reached then."""

    how: str
    reached: set[str]
    kept: str = ""
    """Files and directories that are put back after it, as they were."""
    then: str = "true"
    """Who reads them anew."""
    back: str = "true"
    perhaps: set[str] = field(default_factory=set)
    """What may be reached besides, or may not."""


WEAKER = {
    "its tree is everybody's to see": Weakness(f"chmod o+rx {B_ROOT}", {"files: its tree"}, kept=B_ROOT),
    "one file is": Weakness(
        "chmod 0644 /etc/iptables/rules.v4; chmod 0755 /etc/iptables",
        {"the server: the firewall's rules"},
        kept="/etc/iptables /etc/iptables/rules.v4",
    ),
    "its user is in the other's group": Weakness(
        f"usermod --append --groups {B} {A}",
        {
            "files: its tree",
            "files: what it is told of database and cache",
            "logs: its access log",
            "logs: what its code complains about",
            "logs: the names of its logs",
        },
        back=f"gpasswd --delete {A} {B}",
        perhaps={"logs: its error log"},
    ),
    "a socket is everybody's": Weakness(
        "chmod 0666 /run/haproxy/admin.sock", {"sockets: HAProxy's console"}, back="chmod 0660 /run/haproxy/admin.sock"
    ),
    "the cache of scripts is": Weakness(
        f"sed -i 's,^opcache.restrict_api.*,,' {CACHE}",
        {"opcache: what is in the cache"},
        kept=CACHE,
        then="systemctl restart php*-fpm",
    ),
    "sites make cron jobs": Weakness(
        "rm /etc/cron.deny", {"cron and at: jobs of its own, outside of its runtime"}, kept="/etc/cron.deny"
    ),
    "the store knows no users": Weakness(
        f"sed -i 's/ +get / +get +keys /' {SESSIONS}",
        {"sessions: all sessions, by KEYS"},
        kept=SESSIONS,
        then="systemctl restart redis-server",
    ),
    "Apache follows links": Weakness(
        f"sed -i 's/Options SymLinksIfOwnerMatch/Options FollowSymLinks/' {GENERAL}",
        {"symlinks: a link to its page", "symlinks: a link to its tree", "symlinks: a link to the server's files"},
        kept=GENERAL,
        then="systemctl restart apache2",
    ),
    "PHP takes settings": Weakness(
        f"sed -i '/!PHP_VALUE/d; /!PHP_ADMIN_VALUE/d' {VHOST}",
        {"ini overrides: open_basedir, by SetEnv PHP_VALUE", "ini overrides: open_basedir, by SetEnv PHP_ADMIN_VALUE"},
        # A worker of PHP keeps such a setting until it ends: what is asked of it next seems to have set it.
        perhaps={f"ini overrides: open_basedir, by the header {name}" for name in HEADERS},
        kept=VHOST,
        then="systemctl restart apache2",
    ),
}


@contextmanager
def weakened(host: Machine, weakness: Weakness) -> Iterator[None]:
    box = "/root/before-it-was-weak.tar"
    if weakness.kept:
        host.check(f"tar -P -cpf {box} --no-recursion {weakness.kept}")
    try:
        host.check(f"{weakness.how}; {weakness.then}")
        yield
    finally:
        host.check(weakness.back)
        if weakness.kept:
            host.check(f"tar -P -xpf {box}; rm {box}; {weakness.then}")


@one_release
@pytest.mark.demand
@pytest.mark.fault("F-65")
@pytest.mark.parametrize("what", WEAKER)
def test_f65_the_proof_fails_where_the_wall_is_weak(host: Machine, what: str) -> None:
    """Each way to weaken a host on purpose is told, by its own names, and by no other."""
    with weakened(host, WEAKER[what]):
        came = proved(host)
    assert {"1"} == came["code"]
    assert WEAKER[what].reached == came["reached"] - WEAKER[what].perhaps


@one_release
@pytest.mark.demand
@pytest.mark.fault("F-65")
def test_f65_a_proof_against_a_site_that_does_not_answer_proves_nothing(host: Machine) -> None:
    page = f"{B_ROOT}/public_html/.htaccess"
    as_user(host, B, f"mv {page} {page}.former; echo 'Require all denied' > {page}")
    try:
        done = host.fab("site.prove-isolation", "kiosk.co.test", "--by", "example.com", "--json")
    finally:
        as_user(host, B, f"mv {page}.former {page} || rm {page}")

    assert 1 == done.returncode
    assert "kiosk.co.test: its pages do not answer" in done.stderr
    assert "proof" not in host.check(LEFT)


@one_release
@pytest.mark.demand
@pytest.mark.fault("F-65")
def test_f65_what_the_proof_planted_goes_when_it_is_killed(host: Machine, lab: Lab) -> None:
    """The operator's program is killed in its middle, and the host takes all back by itself."""
    words = ["-S", str(lab.directory / "ssh_config"), "-H", host.name, "site.prove-isolation", "kiosk.co.test"]
    running = subprocess.Popen([str(Path(sys.executable).parent / "fab"), *words], cwd=CHECKOUT, stdout=-3, stderr=-3)
    until(lambda: host.exec("ls /run/php/gatehouse-proof-0.sock").rc == 0)
    running.kill()
    running.wait()
    until(lambda: "proof" not in host.check(LEFT), seconds=90)


def fpm_of(host: Machine) -> str:
    """The unit of PHP-FPM."""
    return f"php{host.check('ls /etc/php').split()[0]}-fpm.service"


@both_releases
@pytest.mark.fault("F-66")
def test_f66_links_out_of_the_tree_are_refused_and_links_within_are_not(
    corner: Corner, theirs: Corner, seen: Seen
) -> None:
    theirs.put("page.html", "THEIRS")
    corner.put("own.html", "MINE")
    for name, target in {"file": f"{theirs.path}/page.html", "dir": theirs.path, "etc": "/etc/passwd"}.items():
        as_user(corner.host, A, f"ln -s {target} {corner.path}/{name}")
    as_user(corner.host, A, f"ln -s own.html {corner.path}/mine")

    assert [403, 403, 403] == [status(corner.ask(path)) for path in ("file", "dir/page.html", "etc")]
    assert "MINE" == body(corner.ask("mine"))
    seen("to B's file, to B's directory, to /etc/passwd: 403 each; within the tree: served")


# ---------------------------------------------------------------------- A takes all it can


def visits(stranger: Stranger, url: str, count: int = 40) -> list[float]:
    """So many visits, one after another: what each took, in milliseconds. All must succeed."""
    form = "%{http_code} %{time_total}\n"
    said = stranger.curl("-o", "/dev/null", "-w", form, f"{url}?[1-{count}]", "--max-time", "60").out.split()
    assert ["200"] * count == said[::2], said
    return [float(seconds) * 1000 for seconds in said[1::2]]


@contextmanager
def besieged(host: Machine, stranger: Stranger, url: str, count: int) -> Iterator[None]:
    """So many visitors at once who want that page of A's, and come again; what they asked for ends with them."""
    each = 90  # streams of HTTP/2 in one connection: HAProxy's limit is 100
    lines = [
        f"curl -s -o /dev/null --parallel --parallel-immediate --parallel-max {min(each, count - start)} "
        f"'{url}?{start}-[1-9999]' > /dev/null 2>&1 & echo $!"
        for start in range(0, count, each)
    ]
    numbers = stranger.check("; ".join(lines)).split()
    try:
        yield
    finally:
        stranger.exec(f"kill {' '.join(numbers)}")
        host.check(f"systemctl restart apache2 {fpm_of(host)}")


REDIS = """s=$(cat /etc/gatehouse/secrets/sessions/gatehouse)
printf 'AUTH gatehouse %s\nINFO clients\n' "$s" | redis-cli -s /run/redis/gatehouse.sock | tr -d '\r' |
sed -n 's/^connected_clients://p'"""
HELD = """$held = [];
for ($i = 0; $i < 100000 && count($held) < 1000; $i++)
    if ($one = @stream_socket_client('unix:///run/redis/gatehouse.sock')) $held[] = $one; else usleep(100);
sleep(25);"""
WORKERS = f"pgrep -c -u {A} php-fpm"
THREADS = "ss -Htn state established '( sport = :8080 )' | wc -l"
# What A's page does, how many want it, and how to see that it has what it took: a figure, and what it must reach.
FIRST = "all workers, and 450 visitors who wait"
SIEGES = {
    FIRST: ("sleep(25);", 450, THREADS, 150),
    "the processor": ("while (true) { md5('x'); }", 20, WORKERS, 5),
    "memory": ("$x = []; while (true) { $x[] = str_repeat('x', 1 << 20); }", 20, WORKERS, 5),
    "connections to the sessions": (HELD, 20, REDIS, 4100),
    "processes": ("while (true) { @shell_exec('sleep 60 > /dev/null 2>&1 &'); }", 5, f"pgrep -c -u {A} sleep", 200),
}


@one_release
@pytest.mark.fault("F-67")
@pytest.mark.parametrize(
    "siege", [FIRST, *(pytest.param(name, marks=pytest.mark.demand) for name in SIEGES if name != FIRST)]
)
def test_f67_a_site_that_takes_all_it_can_leaves_enough_for_others(
    corner: Corner, theirs: Corner, stranger: Stranger, seen: Seen, siege: str
) -> None:
    """Milliseconds are told, and judged only where they are out of all proportion: the machine is not ours alone."""
    code, visitors, sign, enough = SIEGES[siege]
    corner.put("take.php", f"<?php header('Cache-Control: no-store'); {code}")
    theirs.put("count.php", COUNT)
    url = f"https://kiosk.co.test/{theirs.name}/count.php"
    quiet = visits(stranger, url)

    open_ = loosened(corner.host) if "shell_exec" in code else nullcontext()
    with open_, besieged(corner.host, stranger, f"https://example.com/{corner.name}/take.php", visitors):
        until(lambda: int(corner.host.exec(sign).out or 0) >= enough)
        times = visits(stranger, url)
    assert max(times) < 10_000
    of = [f"{median(some):.0f} (slowest {max(some):.0f})" for some in (quiet, times)]
    seen(f"A takes {siege}: B 40 of 40, median {of[0]} -> {of[1]} ms")


def shares(host: Machine, user: str) -> set[str]:
    """The units in whose share of the processor a user's workers are."""
    seen = f"for pid in $(pgrep -u {user} php-fpm); do grep '^0::' /proc/$pid/cgroup; done"
    return {line.rpartition("/")[2] for line in host.exec(seen).out.splitlines()}


@both_releases
@pytest.mark.fault("F-67")
def test_f67_a_site_that_takes_the_processor_leaves_the_others_share(
    corner: Corner, theirs: Corner, seen: Seen
) -> None:
    """What it was at ends with the pools' master, as if it had never left."""
    host, fpm, heavy = corner.host, fpm_of(corner.host), "gatehouse-heavy.service"
    corner.put("take.php", "<?php for ($end = time() + 25; time() < $end;) md5('x');")
    theirs.put("count.php", COUNT)

    with ThreadPoolExecutor() as pool:
        for _ in range(3):
            pool.submit(corner.ask, "take.php")
        until(lambda: heavy in shares(host, A))
        assert 200 == status(theirs.ask("count.php"))
        assert {fpm} == shares(host, B)
        assert f"{A}: its PHP took " in host.check(f"journalctl -q -o cat -u {heavy}")
        host.check(f"systemctl restart {fpm}")

    assert set() == shares(host, A)
    until(lambda: host.exec(f"systemctl is-active {heavy}").rc == 0)
    assert 200 == status(corner.ask("who.php"))
    seen("A takes the processor: its workers have another share of it than B's")


def until(true: Callable[[], bool], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.3)


@contextmanager
def small_disk(host: Machine) -> Iterator[None]:
    """/var/www on a disk of its own with 32 MB and 3000 files. Services see it after a restart."""
    units = f"apache2 {fpm_of(host)}"
    host.check(
        f"set -e; systemctl stop {units}; mount -t tmpfs -o size=32m,nr_inodes=3k,mode=755 disk /mnt; "
        f"cp -a /var/www/. /mnt/; mount --bind /mnt /var/www; umount /mnt; systemctl start {units}"
    )
    try:
        yield
    finally:
        host.check(f"systemctl stop {units}; umount /var/www; systemctl reset-failed {units}; systemctl start {units}")


FILL = """<?php
header('Cache-Control: no-store');
$tmp = ini_get('sys_temp_dir');
if (disk_total_space($tmp) > 64 << 20) exit('this is no small disk');
$big = @fopen("$tmp/big", 'w');
for ($i = 0; $i < 64 && @fwrite($big, str_repeat('x', 1 << 20)) === 1 << 20; $i++);
for ($i = 0; $i < 4000 && @touch("$tmp/$i"); $i++);
echo @touch("$tmp/one more") || @file_put_contents("$tmp/big", 'x', FILE_APPEND) ? 'room' : 'full';
"""


@one_release
@pytest.mark.fault("F-67")
@pytest.mark.demand
def test_f67_a_full_disk_does_not_silence_the_others(
    corner: Corner, theirs: Corner, stranger: Stranger, seen: Seen
) -> None:
    """Bytes and inodes: A has the last of both."""
    corner.put("fill.php", FILL)
    theirs.put("count.php", COUNT)
    with small_disk(corner.host):
        assert "full" == body(corner.ask("fill.php"))

        visits(stranger, f"https://kiosk.co.test/{theirs.name}/count.php")
        visits(stranger, "https://kiosk.co.test/")
    seen("A fills the disk, bytes and inodes: B 80 of 80, pages and sessions")


# ---------------------------------------------------------------------- sockets

KNOCK = r"""
use Socket; use Errno; $| = 1;
my %seen; my $end = time + shift;
while (time < $end) {
    for my $path (@ARGV) {
        socket(my $s, PF_UNIX, SOCK_STREAM, 0);
        my $ok = connect($s, sockaddr_un($path));
        $seen{$path}{$ok ? "open" : $!{EACCES} ? "denied" : $!{ENOENT} ? "absent" : "$!"}++;
    }
}
for my $path (@ARGV) { print join(" ", $path, map { "$_=$seen{$path}{$_}" } sort keys %{$seen{$path}}), "\n" }
"""
SOCKETS = (f"/run/php/{A}.sock", "/run/varnish/purge.sock", "/run/haproxy/admin.sock", "/run/haproxy-master.sock")


def knock(host: Machine, user: str, seconds: int, *sockets: str) -> dict[str, dict[str, int]]:
    """What that user met who knocked at these sockets all the time: for each, how often which answer."""
    line = f"setpriv --reuid {user} --regid {user} --init-groups perl - {seconds} {' '.join(sockets)}"
    lines = [line.split() for line in host.check(line, stdin=KNOCK).splitlines()]
    return {path: {word: int(count) for word, count in (one.split("=") for one in rest)} for path, *rest in lines}


@one_release
@pytest.mark.fault("F-71")
def test_f71_a_socket_is_never_open_to_others_not_for_a_moment(host: Machine, seen: Seen) -> None:
    """While everything behind them is restarted and reloaded, again and again."""
    fpm = fpm_of(host)
    with ThreadPoolExecutor() as pool:
        knocking = pool.submit(knock, host, B, 10, *SOCKETS)
        for _ in range(2):
            host.check(f"systemctl restart {fpm}; systemctl reload {fpm}; systemctl restart varnish haproxy")
        met = knocking.result()

    for path, answers in met.items():
        assert {"absent", "denied"} >= answers.keys(), f"{path}: {answers}"
    assert all("absent" in met[path] for path in SOCKETS[:2]), "they were away: HAProxy's take their places by a rename"
    assert {"open"} == knock(host, "www-data", 1, SOCKETS[0])[SOCKETS[0]].keys(), "Apache gets in"
    assert {"root 755"} == {host.check(f"stat -c '%U %a' {place}").strip() for place in ("/run/php", "/run/varnish")}
    tries = sum(answers["denied"] for answers in met.values())
    seen(f"{tries} tries at 4 sockets over 2 restarts of each service: none got in")


# ---------------------------------------------------------------------- as whom, and where to

EVERYBODY_S = r"/dev/(null|zero|full|u?random|tty|ptmx|pts/ptmx|shm|mqueue)|(/var)?/tmp|/tmp/\.\w+-unix|/run/lock"
SERVICES = r"/run/(dbus|systemd|ssh-unix-local)/\S*|/run/redis/gatehouse\.sock|/var/lib/php/sessions"


@contextmanager
def loosened(host: Machine) -> Iterator[None]:
    """A's pool without open_basedir and without a list of functions that are off."""
    pool = host.check("ls /etc/php/*/fpm/pool.d/example.com.conf").strip()
    fpm = fpm_of(host)
    host.check(f"cp -p {pool} /root/pool")
    try:
        host.check(f"sed -i '/open_basedir\\]\\|disable_functions\\]/d' {pool}; systemctl reload {fpm}; sleep 1")
        yield
    finally:
        host.check(f"cp -p /root/pool {pool}; rm /root/pool; systemctl reload {fpm}; sleep 1")


@one_release
@pytest.mark.fault("F-72")
def test_f72_what_two_sites_include_calls_the_same_functions_in_both(
    host: Machine, corner: Corner, theirs: Corner, seen: Seen
) -> None:
    """Other functions are off in each, and they share one cache of compiled scripts."""
    shared = "/usr/share/php/gatehouse-test.php"
    code = "<?php session_cache_limiter(); echo json_encode([session_status(), ucfirst('abc')]);"
    for one in (corner, theirs):
        one.put("lib.php", f"<?php header('Cache-Control: no-store'); include '{shared}';")
    host.put({shared: code.encode()})
    try:
        host.check(f"touch -d -1hour {shared}")
        with loosened(host):
            answers = [body(one.ask("lib.php")) for one in (theirs, corner) * 3]
    finally:
        host.check(f"rm {shared}")
    assert {'[1,"Abc"]'} == {*answers}
    seen("a library that two sites include does the same in both, whatever is off in each")


@one_release
@pytest.mark.fault("F-72")
def test_f72_a_site_s_programs_run_as_the_site_and_write_into_its_own_rooms_alone(
    host: Machine, corner: Corner, stranger: Stranger, seen: Seen
) -> None:
    """By PHP and by a shell: of everything on this host, only this may be written."""
    look = "find / '(' -path /proc -o -path /sys ')' -prune -o -writable ! -type l -print 2> /dev/null"
    corner.put("find.php", f"<?php header('Cache-Control: no-store'); echo shell_exec(\"{look}\");")
    told = json.loads(stranger.curl(f"https://example.com/{corner.name}/who.php").out)
    workers = host.check("ps -eo user:32=,args= | awk '/[p]hp-fpm: pool/ { print $1 }' | sort -u").split()
    with loosened(host):
        by_php = set(stranger.curl(f"https://example.com/{corner.name}/find.php").out.splitlines())
    by_shell = set(as_user(host, A, look).out.splitlines())

    assert A == told["user"]
    assert "www-data" not in workers
    assert set() == {"root"} & set(workers)
    for writable in (by_php, by_shell):
        own = {path for path in writable if path.startswith(A_ROOT)}
        others = {path for path in writable - own if not re.fullmatch(f"{EVERYBODY_S}|{SERVICES}", path)}
        assert set() == others
        rooms = {"/".join(path.split("/")[4:5]) for path in own}
        assert {"releases", "shared", "tmp", "mail", "log"} == rooms - {"public_html"}
        logs = [path for path in own if path.startswith(f"{A_ROOT}/log")]  # those that were rotated are its as well
        assert all(path.startswith(f"{A_ROOT}/log/php_errors.log") for path in logs)
    seen(f"runs as {A}; of the whole host it may write its releases, shared, tmp, mail and PHP's error log")
