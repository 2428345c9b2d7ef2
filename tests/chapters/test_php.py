"""PHP: a pool a site, shut in; one version, Debian's own."""

from __future__ import annotations

import pytest

from fabfile import php
from fabfile.engine.changes import Change, Install, Remove, Rename
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


def included(*names: str) -> dict[str, File]:
    """The files that these sites' pools include."""
    return {f"{php.POOL_SECRETS}/{name}.conf": a_file() for name in names}


def settings(pool: str) -> dict[str, str]:
    """A pool's lines, by key."""
    lines = [line for line in pool.splitlines() if line and line[0] not in ";["]
    keys = [line.partition(" = ")[0] for line in lines]
    assert sorted(set(keys)) == sorted(keys), "a key is there twice"
    return {key: line.partition(" = ")[2].strip('"') for key, line in zip(keys, lines, strict=True)}


def pool_of(host: Recorded, one: Site) -> dict[str, str]:
    return settings(contents(host.after(php.install, php.pools))[f"{FPM}/pool.d/{one}.conf"])


def unit_of(monkeypatch: pytest.MonkeyPatch, *sites: Site) -> str:
    host = Recorded(monkeypatch, *sites)
    return contents(host.after(php.install, php.configure))[php.UNIT.format(php="8.4")]


def test_another_site_does_not_change_the_unit_which_would_take_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    large = a_site("large.test", php={"children": 70, "memory_limit": "32M"})

    assert unit_of(monkeypatch, EXAMPLE) == unit_of(monkeypatch, EXAMPLE, SHOP)
    assert "\nLimitNPROC=320\n" in unit_of(monkeypatch, EXAMPLE)
    assert "\nLimitNPROC=384\n" in unit_of(monkeypatch, EXAMPLE, large)


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
                "etc/gatehouse/sites/example-com",
            )
        ),
        "php_admin_value[error_log]": "/var/www/example.com/log/php_errors.log",
        "include": "/etc/gatehouse/secrets/php/example-com.conf",
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
    host = Recorded(monkeypatch, EXAMPLE, packages={"php8.4-fpm": "1"}, files=included("gone-test"), users=users)

    assert set() == removed(host.after(php.pools))


def test_a_site_that_went_takes_its_pool_and_with_its_user_its_password_along(monkeypatch: pytest.MonkeyPatch) -> None:
    files = included("example-com", "gone-test") | {f"{FPM}/pool.d/gone.test.conf": a_file()}
    host = Recorded(monkeypatch, EXAMPLE, packages={"php8.4-fpm": "1"}, files=files)

    changes = host.after(php.pools)

    renamed = next(index for index, change in enumerate(changes) if isinstance(change, Rename))
    assert f"{FPM}/pool.d/gone.test.conf.gone" == changes[renamed].to  # type: ignore[union-attr]
    # FPM does not start without a file that a pool includes: the pool goes first.
    assert {f"{php.POOL_SECRETS}/gone-test.conf"} == removed(changes[renamed + 1 :])
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


