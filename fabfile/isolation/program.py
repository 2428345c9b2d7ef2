"""The proof as one shell program: what is planted, what is tried in which guise, by whom."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..model import UNITS, Site
from .probes import Pair, Probe, probes, script, shell
from .tricks import WHO, Trick, tricks

HERE = Path(__file__).parent
MARK = "gatehouse-proof"
"""What all that a proof leaves in a tree is called."""

END = "GATEHOUSE_END_OF_FILE"

SHELL, IN_PHP, OPEN_PHP, PHP_S_SHELL, APACHE = "shell", "PHP", "PHP, no open_basedir", "shell in PHP", "Apache"
UNIT, STARTED, CGI = "shell in its unit", "shell where Apache starts it", "CGI"
WAYS = (SHELL, IN_PHP, OPEN_PHP, PHP_S_SHELL, UNIT, STARTED, CGI, APACHE)
CONTROLS = ("site", "root", "site's PHP")

WAIT = "<?php header('Cache-Control: no-store'); echo getmypid(); flush(); sleep(25);"
SESSION = """<?php header('Cache-Control: no-store'); session_start();
if (isset($_GET['end'])) session_destroy(); else { $_SESSION['canary'] = '@CANARY@'; echo 'session ', session_id(); }
error_log('a line of a proof');
"""
OWN = {"wait.php": WAIT, "who.php": WHO, "shown.txt": "shown"}
"""What the attacker has in its room, whatever is tried."""
CGI_HEAD = r"""#!/bin/sh
printf 'Content-Type: text/plain\nCache-Control: no-store\n\n'
"""
CGI_END = r"""printf 'end\tno\t%s\n' "$(id -un)"
"""
RUN = "<?php echo shell_exec('sh ' . __DIR__ . '/attack.sh 2>&1');"


def text_of(name: str) -> str:
    """A piece of shell of this package."""
    return (HERE / name).read_text()


def program(pairs: Iterable[Pair]) -> str:
    """All of it."""
    pairs = tuple(pairs)
    parts = [text_of("words.sh"), f"room=/run/{MARK}\n", _pools(pairs)]
    parts += [_pair(number, pair) for number, pair in enumerate(pairs)]
    return "".join([*parts, "printf 'end\\n'\n"])


def _pools(pairs: tuple[Pair, ...]) -> str:
    """Each attacker's pool once more, without PHP's own walls: one reload for all."""
    with_php = [(number, pair) for number, pair in enumerate(pairs) if pair.pooled]
    if not with_php:
        return ""
    php = with_php[0][1].php
    place = f"/etc/php/{php}/fpm/pool.d"
    lines = [f"pool {number} {place}/{pair.attacker}.conf" for number, pair in with_php]
    sockets = " && ".join(f"[ -S /run/php/{MARK}-{number}.sock ]" for number, _ in with_php)
    return (
        f"umask 077; {{ {'; '.join(lines)}; }} > $room/pools && mv $room/pools {place}/{MARK}.conf; umask 022\n"
        f"php-fpm{php} -t > $room/judged 2>&1 || {{ cat $room/judged; exit 1; }}\n"
        f"systemctl reload php{php}-fpm.service || exit 1\n"
        f"for tried in $(seq 50); do {sockets} && break; sleep 0.2; done\n"
    )


def _pair(number: int, pair: Pair) -> str:
    a, b = pair.attacker, pair.victim
    tried = tricks(pair)
    lines = [
        _as(b.owner, _plant(pair)),
        _listens(pair),
        _as(a.owner, _drop(pair, tried), 'sed "s,@SOCKET@,$socket,g"'),
        f"table /var/spool/cron/crontabs/{b.owner} {b.owner}\n",
        "session= worker= own=\n",
        _busy(b, pair.mark, "worker"),
        _busy(a, pair.mark, "own"),
    ]
    if pair.scripted(b):
        lines.append(f"session=$(fetch {b} /{pair.mark}/session.php | sed -n 's/^session //p')\n")
        lines.append(f"fetch {b} /{pair.mark}/secret.php > /dev/null\n")
    lines += [_controls(number, pair), _by_shell_and_php(number, pair), _by_apache(number, pair, tried)]
    if pair.scripted(b):
        lines.append(f'fetch {b} "/{pair.mark}/session.php?end" "Cookie: PHPSESSID=$session" > /dev/null\n')
    # What a unit runs is nobody's to end.
    ends = [f'as {one.owner} kill -QUIT "${name}"' for one, name in ((b, "worker"), (a, "own")) if not one.has(*UNITS)]
    lines += [f"{end}\n" for end in ends]
    return "".join(lines)


def _listens(pair: Pair) -> str:
    """A program of the victim's where its own one listens, for Apache alone: will Apache lead the attacker there?"""
    if not pair.listens:
        return "socket=\n"
    b = pair.victim
    zone = next(zone for zone in b.zones if zone.runtime == {"http": "server"}.get(pair.listens, pair.listens))
    return (
        f'socket=$(dirname "$(readlink -f {zone.socket})")/{pair.mark}.sock\n'
        f'listen {b.owner} "$socket" {pair.listens} {pair.canary}\n'
    )


def _controls(number: int, pair: Pair) -> str:
    """Who may do it does it: the site itself, root, the site's own PHP."""
    b = pair.victim
    by = {may: tuple(one for one in probes(pair) if one.may == may) for may in ("site", "root", "php")}
    text = _run(number, "site", f"as {b.owner} sh", shell(by["site"])) + _run(number, "root", "sh", shell(by["root"]))
    if pair.scripted(b):
        text += _filled(b.owner, f"{pair.place}/probes.php", script(by["php"], pair))
        text += f"fetch {b} /{pair.mark}/probes.php | body | told {number} {shlex.quote(CONTROLS[2])}\n"
    return text


def _by_shell_and_php(number: int, pair: Pair) -> str:
    a, wanted = pair.attacker, probes(pair)
    text = _run(number, SHELL, f"as {a.owner} sh", shell(wanted))
    if a.has(*UNITS):
        text += _run(number, UNIT, f"inside {_units(a)} {a.owner} sh", shell(wanted))
    if pair.started:
        text += _run(number, STARTED, f"inside apache2.service {a.owner} sh", shell(wanted))
    if a.runtime == "cgi":
        text += _filled(a.owner, f"{pair.own}/probes.cgi", CGI_HEAD + shell(wanted) + CGI_END, mode=0o755)
        text += f"fetch {a} /{pair.mark}/probes.cgi | body | told {number} {shlex.quote(CGI)}\n"
    if pair.scripted(a):
        for file, content in (("probes.php", script(wanted, pair)), ("attack.sh", shell(wanted)), ("run.php", RUN)):
            text += _filled(a.owner, f"{pair.own}/{file}", content)
        text += f"fetch {a} /{pair.mark}/probes.php | body | told {number} {shlex.quote(IN_PHP)}\n"
    if pair.pooled:
        socket = f"/run/php/{MARK}-{number}.sock"
        text += f"fcgi {socket} {pair.own}/probes.php | body | told {number} {shlex.quote(OPEN_PHP)}\n"
        text += f"fcgi {socket} {pair.own}/run.php | body | told {number} {shlex.quote(PHP_S_SHELL)}\n"
    return text


def _by_apache(number: int, pair: Pair, tried: Iterable[Trick]) -> str:
    """Where Apache itself shows the attacker's files; that it shows them is tried first."""
    a = pair.attacker
    if not pair.shown:
        return ""
    words: tuple[str, ...] = ("end", "shown", str(a), f"/{pair.mark}/shown.txt")
    lines = [f"trick {number} {APACHE} {shlex.join(words)}\n"]
    for index, one in enumerate(tried):
        if not one.php or pair.scripted(a):
            words = (f"{one.kind}: {one.name}", one.betrays, str(a), f"/{pair.mark}/{index}/{one.asked}", *one.headers)
            lines.append(f"trick {number} {APACHE} {shlex.join(words)}\n")
    return "".join(lines)


def _units(site: Site) -> str:
    """All units of the site's own programs, as systemctl finds them."""
    return shlex.quote(f"gatehouse-{site.owner}:*@*.service")


def _as(owner: str, text: str, fill: str = "cat") -> str:
    return f"{fill} << '{END}S' | as {owner} sh -s\n{text}{END}S\n"


FILL = 'sed "s/@WORKER@/$worker/g; s/@OWN@/$own/g; s/@SESSION@/$session/g"'


def _filled(owner: str, path: str, text: str, mode: int = 0o644) -> str:
    """A file of that user's, with what is known only once the sites' programs run."""
    line = f"cat > {path} && chmod {mode:04o} {path}"
    return f"{FILL} << '{END}' | as {owner} sh -c {shlex.quote(line)}\n{text}\n{END}\n"


def _run(number: int, way: str, who: str, text: str) -> str:
    return f"{FILL} << '{END}' | {who} | told {number} {shlex.quote(way)}\n{text}{END}\n"


def _busy(site: Site, mark: str, variable: str) -> str:
    """A process of the site that lasts: its unit's, a worker of its PHP in the middle of a request, or its user's."""
    if site.has(*UNITS):
        return f"{variable}=$(main {_units(site)})\n"
    if not site.php:
        return f"as {site.owner} sleep 60 & {variable}=$!\n"
    name = "php-fpm" if site.runtime == "fpm" else "."
    return (
        f"fetch {site} /{mark}/wait.php > /dev/null &\n"
        "for tried in $(seq 30); do\n"
        f"    {variable}=$(pgrep --newest --euid {site.owner} {name}) && break\n"
        "    sleep 0.1\ndone\n"
        f'[ "${variable}" ] || {{ echo "{site}: its pages do not answer, so no program of it runs"; exit 1; }}\n'
    )


def _file(path: str, text: str) -> str:
    return f"cat > {shlex.quote(path)} << '{END}'\n{text}\n{END}\n"


def _plant(pair: Pair) -> str:
    """As the victim: the canary in each of its rooms, as open as it can make it; only the walls around are left."""
    root, place, canary = pair.victim.root, pair.place, pair.canary
    files = {
        f"{place}/secret.php": f"<?php header('Cache-Control: no-store'); echo '{canary}';",
        f"{place}/page.txt": canary,
        f"{place}/wait.php": WAIT,
        f"{place}/session.php": SESSION.replace("@CANARY@", canary),
        f"{root}/shared/{pair.mark}": canary,
        f"{root}/tmp/{pair.mark}": canary,
        f"{root}/mail/{pair.mark}": canary,
    }
    # The cache of compiled scripts takes none that is younger than two seconds.
    return (
        f"mkdir -p {place}\n"
        + "".join(_file(path, text) for path, text in files.items())
        + f"chmod -R a+rwX {' '.join(shlex.quote(path) for path in files)} {place}; touch -d -1hour {place}/*\n"
    )


def _drop(pair: Pair, tried: Iterable[Trick]) -> str:
    """As the attacker: its programs, and for each trick a directory."""
    # suEXEC starts nothing in a directory that others may write; it may have been the one of a victim.
    lines = [f"mkdir -p {pair.own} && chmod 0755 {pair.own}\n"]
    lines += [_file(f"{pair.own}/{name}", text) for name, text in OWN.items()]
    for index, one in enumerate(tried):
        place = f"{pair.own}/{index}"
        lines.append(f"mkdir -p {place}\n")
        lines += [_file(f"{place}/{name}", text) for name, text in one.files.items()]
        lines += [f"ln -s {shlex.quote(to)} {place}/{name}\n" for name, to in one.links.items()]
        lines.append(f"chmod +x {place}/*.cgi 2> /dev/null\n" if "x.cgi" in one.files else "")
    return "".join(lines)


def keys(pair: Pair) -> Mapping[str, Probe | Trick]:
    """What a program may speak of, by the words in which it does."""
    every: tuple[Probe | Trick, ...] = (*probes(pair), *tricks(pair))
    return {f"{one.kind}: {one.name}": one for one in every}
