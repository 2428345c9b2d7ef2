"""PHP: a pool a site, shut in; sessions that no other site can read; one version, Debian's own."""

from __future__ import annotations

import hashlib
import re
import stat
import subprocess
from pathlib import Path

import pytest

from fabfile import php, site
from fabfile.engine.changes import Change, Install, PutFile, Remove, Rename, Run
from fabfile.engine.facts import File, User
from fabfile.model import Refusal, Site

from .recording import Recorded, a_file, contents
from .recording import site as a_site

EXAMPLE, SHOP = a_site(), a_site("shop.example.com", php={"children": 3, "timeout": 90, "functions": ("proc_open",)})
STATIC = a_site("static.co.uk", php=False)
FPM = "/etc/php/8.4/fpm"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return Recorded(monkeypatch, EXAMPLE, SHOP, STATIC)


def with_secrets(*names: str) -> dict[str, File]:
    """The files of a host on which these have their session passwords."""
    files = {f"{php.SECRETS}/{name}": a_file(hashlib.sha256(name.encode()).hexdigest(), 0o600) for name in names}
    return files | {f"{php.POOL_SECRETS}/{name}.conf": a_file() for name in names if name != php.KEEPER}


def settings(pool: str) -> dict[str, str]:
    """A pool's lines, by key."""
    lines = [line for line in pool.splitlines() if line and line[0] not in ";["]
    keys = [line.partition(" = ")[0] for line in lines]
    assert sorted(set(keys)) == sorted(keys), "a key is there twice"
    return {key: line.partition(" = ")[2].strip('"') for key, line in zip(keys, lines, strict=True)}


def pool_of(host: Recorded, one: Site) -> dict[str, str]:
    return settings(contents(host.after(php.install, php.pools))[f"{FPM}/pool.d/{one}.conf"])


# ---------------------------------------------------------------------- pools


@pytest.mark.parametrize(("release", "version"), [("12", "8.2"), ("13", "8.4")])
def test_each_release_has_its_own_php(monkeypatch: pytest.MonkeyPatch, release: str, version: str) -> None:
    host = Recorded(monkeypatch, EXAMPLE, a_site("b.test", php={"version": version}), release=release)

    changes = host.after(*php.STEPS)

    assert f"php{version}-fpm" in [name for change in changes if isinstance(change, Install) for name in change.names]
    assert f"/etc/php/{version}/fpm/pool.d/example.com.conf" in contents(changes)


@pytest.mark.parametrize("wanted", [True, False])
def test_php_speaks_to_a_database_where_a_site_has_one(monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    host = Recorded(monkeypatch, EXAMPLE, a_site("b.test", database=wanted), a_site("c.test", database=True, php=False))

    installed = {name for change in host.after(php.install) if isinstance(change, Install) for name in change.names}

    assert wanted == ("php8.4-mysql" in installed)


def test_another_php_is_refused_before_anything_is_wished(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, EXAMPLE, a_site("old.test", php={"version": "7.4"}))

    with pytest.raises(Refusal, match=r"old\.test wants PHP 7\.4; vps has Debian 13 and its PHP 8\.4") as refused:
        host.after(php.install)

    assert (2, []) == (refused.value.exit_code, host._pending)


@pytest.mark.parametrize(("children", "limit", "fits"), [(32, "128M", True), (33, "128M", False), (2, "8G", False)])
def test_more_workers_than_memory_are_refused_and_both_keys_are_named(
    monkeypatch: pytest.MonkeyPatch, children: int, limit: str, fits: bool
) -> None:
    host = Recorded(monkeypatch, EXAMPLE, a_site("big.test", php={"children": children, "memory_limit": limit}))
    if fits:
        php.fits(host)
        return
    with pytest.raises(Refusal, match=r"php\.children, php\.memory_limit: big\.test .* vps has 4096 MB") as refused:
        php.fits(host)

    assert (2, []) == (refused.value.exit_code, host._pending)


UNSHARED = (
    "user group listen include env[TMP] env[TMPDIR] env[TEMP] php_admin_value[open_basedir] php_admin_value[error_log] "
    "php_admin_value[upload_tmp_dir] php_admin_value[sys_temp_dir]"
)


def test_pools_share_no_user_socket_directory_or_password(host: Recorded) -> None:
    pools = contents(host.after(php.install, php.pools))
    one, other = (settings(pools[f"{FPM}/pool.d/{name}.conf"]) for name in (EXAMPLE, SHOP))

    assert [] == [key for key in UNSHARED.split() if one[key] == other[key]]


def test_a_pool_is_the_tutorial_s_with_walls(host: Recorded) -> None:
    pool = pool_of(host, EXAMPLE)

    assert {
        "user": "example-com",
        "group": "example-com",
        "listen": "/run/php/example-com.sock",
        "listen.owner": "www-data",
        "listen.group": "www-data",
        "listen.mode": "0660",
        "pm": "ondemand",
        "pm.max_children": "5",
        "pm.process_idle_timeout": "10s",
        "pm.max_requests": "4096",
        "request_terminate_timeout": "30s",
        "rlimit_core": "0",
        "clear_env": "yes",
        "security.limit_extensions": ".php",
        "php_admin_value[open_basedir]": ":".join(
            f"/{place}/"
            for place in (
                *(f"var/www/example.com/{room}" for room in ("public_html", "releases", "shared", "tmp")),
                "usr/share/php",
            )
        ),
        "php_admin_value[error_log]": "/var/www/example.com/log/php_errors.log",
        "php_admin_value[session.save_handler]": "redis",
        "php_admin_flag[allow_url_include]": "off",
    }.items() <= pool.items()


def test_a_script_cannot_change_what_a_pool_sets(host: Recorded) -> None:
    """php_value and php_flag could be undone with ini_set()."""
    assert [] == [key for key in pool_of(host, EXAMPLE) if key.startswith(("php_value", "php_flag"))]


def test_a_site_s_own_limits_reach_its_pool(host: Recorded) -> None:
    pools = contents(host.after(php.install, php.pools))
    one, other = (settings(pools[f"{FPM}/pool.d/{name}.conf"]) for name in (EXAMPLE, SHOP))
    off = "php_admin_value[disable_functions]"

    assert "3" == other["pm.max_children"]
    assert "90s" == other["request_terminate_timeout"]
    assert "90" == other["php_admin_value[max_execution_time]"]
    assert {"proc_open"} == {*one[off].split(",")} - {*other[off].split(",")}


def test_the_packaged_pool_goes_with_the_first_site(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, EXAMPLE, files={f"{FPM}/pool.d/www.conf": a_file("debian's")})

    assert f"{FPM}/pool.d/www.conf" in removed(host.after(php.install, php.pools))


def test_without_a_site_fpm_keeps_a_pool_that_nobody_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    """FPM refuses to start with no pool at all."""
    host = Recorded(monkeypatch, STATIC, packages={"php8.4-fpm": "1"})

    pool = settings(contents(host.after(php.pools))[f"{FPM}/pool.d/www.conf"])

    assert ("nobody", "0600", "ondemand") == (pool["user"], pool["listen.mode"], pool["pm"])


def test_a_host_without_php_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [] == Recorded(monkeypatch, STATIC).after(*php.STEPS)


def test_the_password_of_a_site_that_went_lasts_as_long_as_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The site may come back, by its file or by `undo`: its pool includes a file with the password."""
    users = {"gone-test": User("gone-test", 990, 990, "/var/www/gone.test", "/usr/sbin/nologin")}
    host = Recorded(monkeypatch, EXAMPLE, packages={"php8.4-fpm": "1"}, files=with_secrets("gone-test"), users=users)

    assert set() == removed(host.after(php.pools))


def test_a_site_that_went_takes_its_pool_and_with_its_user_its_password_along(monkeypatch: pytest.MonkeyPatch) -> None:
    files = with_secrets(php.KEEPER, "example-com", "gone-test") | {f"{FPM}/pool.d/gone.test.conf": a_file()}
    host = Recorded(monkeypatch, EXAMPLE, packages={"php8.4-fpm": "1"}, files=files)

    changes = host.after(php.pools)

    renamed = next(index for index, change in enumerate(changes) if isinstance(change, Rename))
    assert f"{FPM}/pool.d/gone.test.conf.gone" == changes[renamed].to  # type: ignore[union-attr]
    secrets = {f"{php.POOL_SECRETS}/gone-test.conf", f"{php.SECRETS}/gone-test"}
    # FPM does not start without a file that a pool includes: the pool goes first.
    assert secrets == removed(changes[renamed + 1 :])
    assert set() == removed(changes[:renamed])


def test_a_site_that_came_back_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = f"{FPM}/pool.d/example.com.conf.gone"
    host = Recorded(monkeypatch, EXAMPLE, packages={"php8.4-fpm": "1"}, files={gone: a_file()})

    changes = host.after(php.pools)

    assert f"{FPM}/pool.d/example.com.conf" in contents(changes)
    assert {gone} == removed(changes)


def removed(changes: list[Change]) -> set[str]:
    return {change.path for change in changes if isinstance(change, Remove)}


def test_settings_for_all_are_silent_strict_and_cached(host: Recorded) -> None:
    ini = settings(contents(host.after(php.install, php.configure))[f"{FPM}/conf.d/99-gatehouse.ini"])

    assert {
        "expose_php": "Off",
        "display_errors": "Off",
        "cgi.fix_pathinfo": "0",
        "enable_dl": "Off",
        "allow_url_include": "Off",
        "opcache.validate_permission": "1",
        "opcache.validate_root": "1",
        "opcache.restrict_api": "/nonexistent",
        "session.cookie_secure": "1",
        "session.cookie_httponly": "1",
        "session.cookie_samesite": "Lax",
        "session.use_strict_mode": "1",
    }.items() <= ini.items()


@pytest.mark.parametrize(("memory_mb", "workers"), [(512, 8), (4096, 48), (65536, 768)])
def test_all_workers_together_fit_in_memory(monkeypatch: pytest.MonkeyPatch, memory_mb: int, workers: int) -> None:
    host = Recorded(monkeypatch, EXAMPLE)
    host.facts.memory_mb = memory_mb

    text = contents(host.after(php.install, php.configure))[f"{FPM}/pool.d/gatehouse.conf"]

    assert f"process.max = {workers}" in text


# ---------------------------------------------------------------------- sessions


def test_each_site_reaches_its_own_sessions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, EXAMPLE, SHOP, files=with_secrets(php.KEEPER, "example-com", "shop-example-com"))

    roster = contents(host.after(php.sessions))[php.ROSTER].splitlines()

    assert "user default off resetpass resetkeys resetchannels -@all" == roster[0]
    users = {line.split()[1]: line.split()[2:] for line in roster[1:]}
    assert {"gatehouse", "example-com", "shop-example-com"} == users.keys()
    for name, rights in users.items():
        assert f"#{hashlib.sha256(name.encode()).hexdigest()}" in rights
        assert [f"~{name}:*"] * (name != php.KEEPER) == [right for right in rights if right[0] in "~%"]
        assert [] == [right for right in rights if right in ("nopass", "allkeys", "allcommands", "allchannels")]
        assert [] == [right for right in rights if right.startswith("+@")]
        assert rights.index("-@all") < min(rights.index(right) for right in rights if right[0] == "+")


@pytest.mark.parametrize(
    "command", ["acl", "config", "debug", "eval", "flushall", "keys", "module", "monitor", "randomkey", "save", "scan"]
)
def test_a_site_may_not_give_the_store_orders(command: str) -> None:
    assert command not in re.findall(r"\+([a-z|]+)", php.COMMANDS)


def test_the_store_has_no_port_and_no_disk(host: Recorded) -> None:
    conf = contents(host.after(php.sessions))[php.REDIS].splitlines()

    assert {"port 0", f"unixsocket {php.SOCKET}", 'save ""', "appendonly no", "maxmemory 64mb"} <= set(conf)
    assert [] == [line for line in conf if line.startswith(("bind", "user ", "requirepass"))]


def test_the_store_is_set_up_before_its_package_starts_it(host: Recorded) -> None:
    changes = host.after(php.sessions)

    installed = next(index for index, change in enumerate(changes) if isinstance(change, Install))
    assert {php.REDIS, php.ROSTER, php.REDIS_UNIT} <= contents(changes[:installed]).keys()


def test_passwords_are_made_on_the_host_for_those_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, EXAMPLE, SHOP, STATIC, files=with_secrets(php.KEEPER, "example-com"))

    runs = [change for change in host.after(php.sessions) if isinstance(change, Run)]

    assert ["shop-example-com"] == [*runs[0].args[4:]]
    assert 1 == len(runs)


def test_with_all_passwords_made_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, EXAMPLE, files=with_secrets(php.KEEPER, "example-com"))

    assert [] == [change for change in host.after(php.sessions) if isinstance(change, Run)]


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """What the script leaves on a host for the sites a-test and b-test, after a second run."""
    secrets, includes = tmp_path / "sessions", tmp_path / "php"
    for directory in (secrets, includes):
        directory.mkdir()
    before: dict[Path, bytes] = {}
    for _ in range(2):
        script = "set -eu\nfail() { exit 9; }\n" + php.MAKE_SECRETS
        words = [str(secrets), str(includes), "/run/s.sock", php.KEEPER, php.KEEPER, "a-test", "b-test"]
        subprocess.run(["sh", "-c", script, "make", *words], check=True)
        now = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert before in ({}, now)
        before = now
    return secrets, includes


def test_a_password_is_random_and_for_root_alone(made: tuple[Path, Path]) -> None:
    secrets, includes = made
    passwords = {path.name: path.read_text() for path in secrets.iterdir()}

    assert {php.KEEPER, "a-test", "b-test"} == passwords.keys()
    assert [] == [one for one in passwords.values() if not re.fullmatch("[0-9a-f]{64}", one)]
    assert 3 == len(set(passwords.values()))
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in (*secrets.iterdir(), *includes.iterdir())}


def test_a_pool_gets_its_own_password_and_prefix(made: tuple[Path, Path]) -> None:
    secrets, includes = made

    assert {"a-test.conf", "b-test.conf"} == {path.name for path in includes.iterdir()}
    password = (secrets / "a-test").read_text()
    assert (
        'php_admin_value[session.save_path] = "unix:///run/s.sock?auth[user]=a-test'
        f'&auth[pass]={password}&prefix=a-test:"\n'
    ) == (includes / "a-test.conf").read_text()


def test_no_password_leaves_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The roster is written from the digests of the files that hold the passwords, which the look brings."""
    host = Recorded(monkeypatch, EXAMPLE, files=with_secrets(php.KEEPER, "example-com"))

    changes = host.after(*site.STEPS, *php.STEPS)

    assert [] == [change for change in changes if isinstance(change, PutFile) and change.path.startswith(php.SECRETS)]


def test_what_is_right_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, EXAMPLE, SHOP, files=with_secrets(php.KEEPER, "example-com", "shop-example-com"))
    host.after(*php.STEPS)

    assert [] == host.after(*php.STEPS)
