"""One site and another, and the server: what example.com's programs get at, by PHP and by a shell."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import pytest

from ..corner import A_ROOT, B_ROOT, COUNT, A, B, Corner, as_user, body, status
from ..machine import Machine, Stranger
from .probes import Probes

Seen = Callable[[str], None]
both_releases = pytest.mark.parametrize("host", ["vps", pytest.param("vps12", marks=pytest.mark.demand)], indirect=True)
one_release = pytest.mark.parametrize("host", ["vps"], indirect=True)
WAIT = "<?php header('Cache-Control: no-store'); echo getmypid(); flush(); sleep(25);"


@pytest.fixture
def treasures(host: Machine, theirs: Corner) -> Iterator[Corner]:
    """What B has to lose, as open as B itself can make it; only the walls around B's tree are left."""
    theirs.put("upload.bin", "uploaded")
    b = f"{B_ROOT}/tmp/treasure {B_ROOT}/mail/treasure"
    as_user(host, B, f"chmod -R a+rwX {theirs.path}; for f in {b}; do echo dear > $f; chmod 0666 $f; done")
    host.check(f"echo '0 0 1 1 * true' | crontab -u {B} -")
    host.check(f"echo x >> {B_ROOT}/log/php_errors.log; logger -t sudo probe")
    theirs.ask("who.php")
    theirs.ask(".htaccess")
    yield theirs
    as_user(host, B, f"rm -f {b}")
    host.check(f"crontab -u {B} -r")
    host.check(f"truncate -s 0 {B_ROOT}/log/php_errors.log")


@contextmanager
def working(corner: Corner) -> Iterator[int]:
    """A PHP worker of that site that is busy meanwhile: its process."""
    corner.put("wait.php", WAIT)
    domain = corner.root.rpartition("/")[2]
    request = f"GET /{corner.name}/wait.php HTTP/1.0\\r\\nHost: {domain}\\r\\n\\r\\n"
    corner.host.check(
        f"bash -c 'exec 3<> /dev/tcp/127.0.0.1/8080; printf \"{request}\" >&3; exec cat <&3' > /dev/null 2>&1 & sleep 1"
    )
    busy = corner.host.check(f"pgrep --newest --euid {corner.user} php-fpm").strip()
    try:
        yield int(busy)
    finally:
        corner.host.exec(f"kill -KILL {busy}")


@dataclass
class Attack:
    """The same probes in every guise."""

    corner: Corner
    probes: Probes

    @property
    def host(self) -> Machine:
        return self.corner.host

    def by_shell(self) -> list[str]:
        return as_user(self.host, A, "sh -s", stdin=self.probes.shell()).out.splitlines()

    def by_root(self) -> set[str]:
        return set(self.host.exec("sh -s", stdin=self.probes.shell()).out.splitlines())

    def by_php(self, stranger: Stranger) -> list[str]:
        self.corner.put("probes.php", self.probes.script())
        answer = stranger.curl(f"https://example.com/{self.corner.name}/probes.php", to=self.host)
        return list(json.loads(answer.out))

    def by_root_s_php(self) -> set[str]:
        path = f"{self.corner.path}/probes.php"
        return set(json.loads(self.host.check(f"php {path} | tail -n 1")))

    def by_php_s_shell(self, stranger: Stranger) -> list[str]:
        """A shell that PHP starts, in the sandbox of FPM."""
        self.corner.put("probes.sh", self.probes.shell())
        self.corner.put(
            "run.php",
            "<?php header('Cache-Control: no-store'); echo shell_exec('sh ' . __DIR__ . '/probes.sh; echo ran');",
        )
        said = stranger.curl(f"https://example.com/{self.corner.name}/run.php", to=self.host).out.splitlines()
        assert "ran" == said.pop()
        return said


@pytest.fixture
def attack(host: Machine, corner: Corner, treasures: Corner) -> Iterator[Attack]:
    php = host.check("ls /etc/php").split()[0]
    with working(treasures) as worker, working(corner) as own:
        yield Attack(corner, Probes(treasures, worker, own, php))


@both_releases
@pytest.mark.fault("F-65")
def test_f65_a_site_gets_at_nothing_of_another_s_by_php_and_by_shell(
    attack: Attack, stranger: Stranger, seen: Seen
) -> None:
    php, shell = attack.by_php(stranger), attack.by_shell()

    assert ([], []) == (php, shell)
    assert attack.probes.all_of_shell == attack.by_root(), "root gets at everything: the probes are good ones"
    assert attack.probes.all_of_script - attack.by_root_s_php() <= {"the memory map of its PHP"}
    seen(f"{len(attack.probes.all_of_script)} denials by PHP, {len(attack.probes.all_of_shell)} by shell")


def fpm_of(host: Machine) -> str:
    """The unit of PHP-FPM."""
    return f"php{host.check('ls /etc/php').split()[0]}-fpm.service"


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
@pytest.mark.fault("F-65")
def test_f65_the_wall_is_the_user_and_not_open_basedir(
    host: Machine, corner: Corner, treasures: Corner, stranger: Stranger, seen: Seen
) -> None:
    corner.put("open.php", "<?php echo strlen(file_get_contents('/etc/passwd')), ' ', shell_exec('echo ran');")
    with loosened(host), working(treasures) as worker, working(corner) as own:
        assert "ran" in body(corner.ask("open.php"))
        attack = Attack(corner, Probes(treasures, worker, own, host.check("ls /etc/php").split()[0]))

        assert [] == attack.by_php(stranger)
        assert [] == attack.by_php_s_shell(stranger)
        seen("the same without open_basedir, with all functions, and from a shell that PHP starts")
    assert "ran" not in body(corner.ask("open.php"))


@both_releases
@pytest.mark.fault("F-65")
def test_f65_a_site_s_password_opens_its_own_sessions_alone(host: Machine, corner: Corner, theirs: Corner) -> None:
    theirs.put("count.php", COUNT)
    session = body(theirs.ask("count.php")).split()[0]
    corner.put(
        "rob.php",
        f"""<?php header('Cache-Control: no-store');
        parse_str(explode('?', ini_get('session.save_path'))[1], $my);
        $redis = new Redis(); $redis->connect('/run/redis/gatehouse.sock');
        $redis->auth([$my['auth']['user'], $my['auth']['pass']]);
        $redis->setex('{A}:mine', 60, 'x');
        $said = ['mine' => $redis->get('{A}:mine')];
        foreach ([['GET', '{B}:{session}'], ['SETEX', '{B}:x', '60', 'y'], ['DEL', '{B}:{session}'], ['KEYS', '*'],
            ['SCAN', '0'], ['RANDOMKEY'], ['CONFIG', 'GET', '*'], ['ACL', 'LIST'], ['EVAL', 'return 1', '0'],
            ['FLUSHALL'], ['MONITOR'], ['INFO'], ['CLIENT', 'LIST'], ['DEBUG', 'SLEEP', '0'], ['SHUTDOWN'],
            ['SELECT', '1'], ['MODULE', 'LIST'], ['SAVE'], ['REPLICAOF', 'NO', 'ONE']] as $words) {{
            $redis->clearLastError();
            try {{ $answer = $redis->rawCommand(...$words); }} catch (RedisException $e) {{ $answer = false; }}
            if ($answer !== false) $said[$words[0]] = $answer;
        }}
        echo json_encode($said);""",
    )

    assert {"mine": "x"} == json.loads(body(corner.ask("rob.php")))
    assert session == body(theirs.ask("count.php", f"Cookie: PHPSESSID={session}")).split()[0]


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
    quiet = median(visits(stranger, url))

    with besieged(corner.host, stranger, f"https://example.com/{corner.name}/take.php", visitors):
        until(lambda: int(corner.host.exec(sign).out) >= enough)
        times = visits(stranger, url)
    assert max(times) < 10_000
    seen(f"A takes {siege}: B 40 of 40, median {quiet:.0f} -> {median(times):.0f} ms")


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
        host.check(f"systemctl stop {units}; umount /var/www; systemctl start {units}")


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
