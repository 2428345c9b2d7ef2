"""dev-sec's php-baseline, asked of a site's pool on both releases: what a script of the site really finds."""

from __future__ import annotations

import json
from typing import Any

from ..machine import Machine, Stranger
from .yardstick import Yardstick

PHP = Yardstick("dev-sec php-baseline")
ROOM = "/var/www/example.com/public_html/_"

WAIVERS = {
    "file_uploads": "sites take uploads; `php: file_uploads: false` turns it off for one that takes none",
}

WANTED = {
    "max_execution_time": "30",
    "max_input_nesting_level": "64",
    "memory_limit": "128M",
    "post_max_size": "8M",
    "expose_php": ("", "0"),
    "enable_dl": ("", "0"),
    "allow_url_fopen": ("", "0"),
    "allow_url_include": ("", "0"),
    "file_uploads": ("", "0"),
    "display_errors": ("", "0", "Off"),
    "display_startup_errors": ("", "0"),
    "log_errors": "1",
    "session.cookie_httponly": "1",
    "session.cookie_secure": "1",
    "session.use_strict_mode": "1",
    "session.use_only_cookies": "1",
    "mail.add_x_header": ("", "0"),
    "cgi.fix_pathinfo": "0",
    "opcache.validate_permission": "1",
    "opcache.validate_root": "1",
}

OFF = {"exec", "passthru", "shell_exec", "system", "proc_open", "popen", "symlink", "link", "pcntl_exec"}

for key, value in WANTED.items():

    @PHP.control(key)
    def setting(found: Any, key: str = key, value: Any = value) -> bool:
        return found["ini"][key] in ((value,) if isinstance(value, str) else value)


@PHP.control("disable_functions")
def functions_that_reach_out_are_off(found: Any) -> bool:
    return not OFF & set(found["functions"])


@PHP.control("open_basedir")
def files_elsewhere_are_out_of_reach(found: Any) -> bool:
    return str(found["ini"]["open_basedir"]).startswith("/var/www/example.com/public_html/:")


@PHP.control("session.save_path")
def sessions_are_not_in_a_shared_directory(found: Any) -> bool:
    return bool(found["ini"]["session.save_handler"] == "user") and "/tmp" not in found["ini"]["session.save_path"]


@PHP.control("PHP-P1")
def it_runs_as_the_site_s_user(found: Any) -> bool:
    return bool(found["user"] == "example-com")


@PHP.control("PHP-P3")
def a_script_cannot_change_its_walls(found: Any) -> bool:
    return not any(found["changed"].values())


@PHP.control("PHP-P8")
def nothing_of_the_server_s_environment(found: Any) -> bool:
    own = {"INVOCATION_ID", "JOURNAL_STREAM", "LISTEN_FDS", "NOTIFY_SOCKET", "FPM_SOCKETS", "LANG", "LOGNAME"}
    return bool(found["env"]) and not own & set(found["env"])


PAGE = """<?php
$changed = [];
$walls = ['open_basedir' => '/', 'disable_functions' => '', 'error_log' => '/tmp/x', 'sys_temp_dir' => '/tmp'];
foreach ($walls as $key => $value) {
    $before = ini_get($key);
    @ini_set($key, $value);
    $changed[$key] = ini_get($key) !== $before;
}
header('Content-Type: application/json');
echo json_encode([
    'ini' => array_map(fn($one) => (string) $one['local_value'], ini_get_all()),
    'functions' => array_merge(...array_values(get_defined_functions(true))),
    'user' => posix_getpwuid(posix_geteuid())['name'],
    'changed' => $changed,
    'env' => array_keys(getenv(null, true)),
]);
"""


def test_php_baseline(host: Machine, stranger: Stranger) -> None:
    host.check(f"runuser -u example-com -- sh -c 'cat > {ROOM}/yardstick.php'", stdin=PAGE)
    try:
        found = json.loads(stranger.curl("-k", "https://example.com/yardstick.php", to=host).out)
    finally:
        host.check(f"rm {ROOM}/yardstick.php")
    PHP.judge(found, WAIVERS)


def test_no_pool_is_shared(host: Machine) -> None:
    users = host.check("sed -n 's/^user *= *//p' /etc/php/*/fpm/pool.d/*.conf").split()
    assert "www-data" not in users
    assert len(users) == len(set(users)) >= 2
    assert host.check("getent group www-data").strip() == "www-data:x:33:"
