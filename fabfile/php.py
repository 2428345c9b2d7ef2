"""PHP-FPM: a pool a site, each its own user.  (T1 PHP-FPM; T2 steps 3 and 6)"""

from __future__ import annotations

from .engine import Host, task
from .model import Php, Problem, Refusal, Site, most_workers
from .model.grammars import byte_count

DEBIAN = {"12": "8.2", "13": "8.4"}
"""The one PHP that each release has, with security support from Debian."""

EXTENSIONS = ("curl", "mbstring", "opcache", "redis", "xml")
WITH_DATABASE = ("gd", "mysql")
"""What WordPress, and most applications that keep their pages in a database, cannot do without."""

FPM = "/etc/php/{php}/fpm"
UNIT = "/etc/systemd/system/php{php}-fpm.service.d/gatehouse.conf"
POOL_SECRETS = "/etc/gatehouse/secrets/php"
"""A file a site that its pool includes: where its sessions are (see cache)."""

FORKS = 256
"""Processes that a site's user may have beside its workers: room for what programs start, none for what forks on."""

READY = """sed -n 's/^listen = //p' {fpm}/pool.d/*.conf | while read -r socket; do [ -S "$socket" ] || exit 1; done"""


@task
def install(c):
    """T2 step 3, T1 PHP-FPM: FPM and few extensions, of Debian's own version.

    T2's `apt install php` brings mod_php, and that turns Apache's event MPM into prefork.
    """
    host = Host.of(c)
    if not _served(host):
        host.note("no site runs PHP in a pool")
        return
    host.packages(f"php{version(host)}-fpm", *extensions(host))


def extensions(host: Host) -> list[str]:
    """The packages of what PHP is extended with, whichever way it runs."""
    php = version(host)
    wanted = EXTENSIONS + (WITH_DATABASE if any(site.database for site in _with_php(host)) else ())
    if host.fleet.one("cache") and host.fleet.cache.server == "memcached":
        wanted += ("memcached",)
    return [f"php{php}-{name}" for name in wanted]


@task(
    help={"opcache_mb": "memory for compiled scripts, of all sites together, in MB"},
    within={"opcache_mb": (8, 65536)},
)
def configure(c, opcache_mb=128):
    """T2 step 6, T1 PHP-FPM: `expose_php = Off`, the shared opcode cache, the master's limits.

    In files of our own beside php.ini, which stays Debian's.
    """
    host = Host.of(c)
    if not _installed(host):
        return
    php = version(host)
    check = _check(php)
    host.template(FPM + "/gatehouse.uncached", php=php)
    host.template(FPM + "/conf.d/99-gatehouse.ini", check=check, php=php, opcache_mb=int(opcache_mb))
    workers = max(8, host.facts.memory_mb * 3 // 4 // 64)
    host.template(FPM + "/pool.d/gatehouse.conf", check=check, php=php, workers=workers)
    host.template(UNIT, php=php, processes=most_workers(_served(host)) + FORKS)


@task
def pools(c):
    """T1 PHP-FPM: a pool a site: its own user, socket, tmp, error log and limits, with workers on demand.

    T1 gives every pool the group `nobody`, through which sites could share files; here each has its own. Debian's
    pool `www` goes with the first site: it runs as www-data, who may speak to every pool.
    """
    host = Host.of(c)
    if not _installed(host):
        return
    php = version(host)
    fpm, check = FPM.format(php=php), _check(php)
    wanted, chosen = {f"{fpm}/pool.d/gatehouse.conf", f"{fpm}/pool.d/www.conf"}, {*host.chosen}
    for site in _served(host):
        wanted.add(f"{fpm}/pool.d/{site}.conf")
        if site in chosen:
            host.template(FPM + "/pool.d/{site}.conf", check=check, php=php, site=site)
            host.absent(f"{fpm}/pool.d/{site}.conf.gone")
    former = _former(host)
    if _served(host) or former:
        host.absent(f"{fpm}/pool.d/www.conf", check=check)
    else:
        host.template(FPM + "/pool.d/www.conf", check=check, php=php)
    if host.narrowed:
        return
    wanted.update(former.values())
    for pool in host.facts.children(f"{fpm}/pool.d", ".conf"):
        if pool not in wanted:
            host.rename(pool, pool + ".gone", check=check)
    # Only now, when no pool includes them any more: FPM does not start without a file that one includes.  They last as
    # long as the site's user: a site whose file vanished may come back, by its file or by `undo`.
    homes = (name for name, user in host.facts.users.items() if user.home.startswith("/var/www/"))
    kept = {*homes, *(site.owner for site in _with_php(host))}
    for path in host.facts.children(POOL_SECRETS):
        if path.rpartition("/")[2].removesuffix(".conf") not in kept:
            host.absent(path)


def _former(host: Host) -> dict[Site, str]:
    """Pools that are there and of sites that something else runs now."""
    fpm = FPM.format(php=version(host))
    sites = [site for site in host.chosen if not site.has("fpm")]
    return {site: pool for site in sites if (pool := f"{fpm}/pool.d/{site}.conf") in host.facts.files}


# OWNER SECONDS...: until nobody is connected to these pools any more, each for as long as a request of it may take.
DRAINED = """
while [ $# -gt 0 ]; do
    socket=/run/php/$1.sock end=$(($(date +%s) + $2))
    while ss -xHn state connected | grep -qF " $socket " && [ "$(date +%s)" -lt "$end" ]; do
        say "waiting for requests that $1's former pool is at"
        sleep 0.3
    done
    shift 2
done
"""


@task
def retire(c):
    """T4: the pool of a site that something else runs now goes, once Apache asks that and its last request is over."""
    host = Host.of(c)
    if not _installed(host) or not (former := _former(host)):
        return
    php = version(host)
    patience = [word for one in former for word in (one.owner, str(one.seconds + 5))]
    host.run("former pools come to rest", DRAINED, *patience)
    if not _served(host):
        host.template(FPM + "/pool.d/www.conf", check=_check(php), php=php)
    for pool in former.values():
        host.absent(pool, check=_check(php))
    _load(host, php)


@task
def start(c):
    """T1 PHP-FPM: run it now and at every boot, and reload it when a pool, a setting or a session password changed."""
    host = Host.of(c)
    if not _installed(host):
        return
    _load(host, version(host))


def _load(host: Host, php: str) -> None:
    fpm = FPM.format(php=php)
    host.service(
        f"php{php}-fpm.service",
        reload_on=[fpm + "/", POOL_SECRETS + "/"],
        restart_on=[UNIT.format(php=php)],
        ready=READY.format(fpm=fpm),
    )


def _served(host: Host) -> tuple[Site, ...]:
    """The sites with a pool."""
    return tuple(site for site in host.sites if site.has("fpm"))


def _with_php(host: Host) -> tuple[Site, ...]:
    """The sites that run PHP in any way."""
    return tuple(site for site in host.sites if site.php)


def _installed(host: Host) -> bool:
    """Whether there is, or in a dry run would be, an FPM to set up."""
    return f"php{version(host)}-fpm" in host.facts.packages


def version(host: Host) -> str:
    """Debian's PHP; raises Refusal for sites that want another one, before anything is touched."""
    php = DEBIAN[host.facts.release]
    wrong = [site for site in _with_php(host) if site.php and site.php.version not in (None, php)]
    if wrong:
        raise Refusal(
            Problem(
                f"{site} wants PHP {site.php.version if site.php else ''}; {host.name} has Debian "
                f"{host.facts.release} and its PHP {php}",
                key="php.version",
                example=f'version: "{php}"',
            )
            for site in wrong
        )
    return php


def fits(host: Host) -> None:
    """Refuses sites whose workers alone could ask for more memory than the host has, before anything is touched.

    One site is judged by itself: workers come on demand, the pools together are bounded by FPM's own limits (below).
    """
    greedy = [site for site in _with_php(host) if site.php and _most_mb(site.php) > host.facts.memory_mb > 0]
    if greedy:
        raise Refusal(
            Problem(
                f"{site} may take {site.php.children} x {site.php.memory_limit} = {_most_mb(site.php)} MB for PHP; "
                f"{host.name} has {host.facts.memory_mb} MB",
                key="php.children, php.memory_limit",
                example=f"children: {max(1, host.facts.memory_mb * site.php.children // _most_mb(site.php) // 2)}",
            )
            for site in greedy
            if site.php
        )


def _most_mb(php: Php) -> int:
    """Megabytes when every worker takes all that it may."""
    return php.children * byte_count(php.memory_limit) // 2**20


def _check(php: str) -> str:
    return f"php-fpm{php} -t"


def settings(site: Site, told: bool) -> dict[str, str]:
    """php.ini's values for a site whose PHP runs elsewhere than in a pool: those that its pool would have.

    Its sessions are files of its own, for its user alone.  `told`: its code reads where its database or cache is.
    """
    assert site.php
    root, tmp = site.root, f"{site.root}/tmp"  # noqa: S108  (the site's own)
    mine = [f"{root}/{name}/" for name in ("public_html", "releases", "shared", "tmp")]
    mine += ["/usr/share/php/", *([f"/etc/gatehouse/sites/{site.owner}/"] if told else ())]
    return {
        "open_basedir": ":".join(mine),
        "sys_temp_dir": tmp,
        "upload_tmp_dir": tmp,
        "session.save_path": tmp,
        "session.gc_probability": "1",
        "error_log": f"{root}/log/php_errors.log",
        "disable_functions": ",".join(site.php.disable_functions),
        "allow_url_fopen": str(int(site.php.allow_url_fopen)),
        "allow_url_include": "0",
        "memory_limit": site.php.memory_limit,
        "max_execution_time": str(site.php.timeout),
        "file_uploads": str(int(site.php.file_uploads)),
        "upload_max_filesize": site.php.upload_limit,
        "post_max_size": site.php.upload_limit,
        "user_ini.filename": "",
    }


STEPS = (install, configure, pools, start)
STEPS_AFTER = (retire,)
"""What goes once Apache has taken what comes."""
