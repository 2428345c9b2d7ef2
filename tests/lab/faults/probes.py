"""Ways to get at another site, and at the server itself, each in shell and in PHP: one table for both.

A probe says its name when it got something. Run as root, every one of them does: so a denial is a wall and no mistake
of the probe.
"""

from __future__ import annotations

import json
import shlex

from ..corner import A_ROOT, B_ROOT, A, B, Corner

# {place}: a directory of B's, open to everybody by its own modes; {worker}, {own}: a PHP worker of B and of A;
# {php}: the version.
READ = {
    "its code": "{place}/who.php",
    "its uploads": "{place}/upload.bin",
    "its temporary files": f"{B_ROOT}/tmp/treasure",
    "its mail": f"{B_ROOT}/mail/treasure",
    "its access log": f"{B_ROOT}/log/access_log",
    "its error log": f"{B_ROOT}/log/error_log",
    "its PHP errors": f"{B_ROOT}/log/php_errors.log",
    "its crontab": f"/var/spool/cron/crontabs/{B}",
    "its session password": f"/etc/gatehouse/secrets/sessions/{B}",
    "its pool's secret": f"/etc/gatehouse/secrets/php/{B}.conf",
    "the roster of sessions": "/etc/gatehouse/sessions/users.acl",
    "its vhost": "/etc/apache2/vhost.d/kiosk.co.test.conf",
    "its certificate's key": "/etc/haproxy/certs/kiosk.co.test.pem",
    "the key in lego's inbox": "/etc/lego/certificates/kiosk.co.test.key",
    "the secret of Varnish's console": "/etc/varnish/secret",
    "the environment of its PHP": "/proc/{worker}/environ",
    "the memory map of its PHP": "/proc/{worker}/maps",
    "a file through its PHP's eyes": "/proc/{worker}/root{place}/who.php",
    "the scripts that all pools share": "/proc/{own}/maps",
    "passwords": "/etc/shadow",
    "the history of /etc": "/etc/.git/HEAD",
    "former files": "/var/lib/gatehouse/loaded/apache2.service",
    "the firewall's rules": "/etc/iptables/rules.v4",
    "the bans": "/var/lib/fail2ban/fail2ban.sqlite3",
    "the journal of PHP": "/var/log/php{php}-fpm.log",
}
LIST = {
    "its tree": B_ROOT,
    "its names": f"{B_ROOT}/public_html",
    "its logs": f"{B_ROOT}/log",
    "its temporary names": f"{B_ROOT}/tmp",
    "everybody's crontabs": "/var/spool/cron/crontabs",
    "all certificates": "/etc/haproxy/certs",
    "all session passwords": "/etc/gatehouse/secrets/sessions",
    "the CA account": "/etc/lego/accounts",
    "the log of Varnish": "/var/lib/varnish/varnishd/_.vsm_child",
    "what its PHP has open": "/proc/{worker}/fd",
    "what its own PHP inherited": "/proc/{own}/fd",
    "the operator's home": "/home/ops/.ssh",
}
PLANT = {  # a file of the prober's own making in these directories
    "a page of its": "{place}",
    "a file in its tmp": f"{B_ROOT}/tmp",
    "a log of its own": f"{A_ROOT}/log",
    "beside its own rooms": A_ROOT,
    "a site": "/var/www",
    "a pool": "/etc/php/{php}/fpm/pool.d",
    "a socket among those of PHP": "/run/php",
    "a vhost": "/etc/apache2/vhost.d",
    "a cron job of root": "/etc/cron.d",
    "a program of root": "/usr/local/bin",
}
CONNECT = {
    "its PHP": f"/run/php/{B}.sock",
    "its own PHP, past Apache": f"/run/php/{A}.sock",
    "HAProxy's console": "/run/haproxy/admin.sock",
    "HAProxy's master": "/run/haproxy-master.sock",
    "Varnish's purges": "/run/varnish/purge.sock",
    "fail2ban": "/run/fail2ban/fail2ban.sock",
    "systemd": "/run/systemd/private",
}
PORTS = {"Apache, past the front": 8080, "Varnish, past the front": 8081, "Varnish's console": 6082}
SHELL = {
    "to become it": f"setpriv --reuid {B} true",
    "to become root": "sudo -n true",
    "to signal its PHP": "kill -0 {worker}",
    "to slow its PHP": "renice -n 10 -p {worker}",
    "to write into its PHP": ": 3<>/proc/{worker}/mem",
    "to write into its own PHP": ": 3<>/proc/{own}/mem",
    "to start a service": "systemctl start haproxy.service",
    "its crontab, by crontab": f"crontab -u {B} -l",
    "the visits, by varnishlog": "varnishlog -d -n varnishd",
    "the journal": "journalctl -n 1 -t sudo --no-pager | grep -q sudo",
}
PHP = {
    "to signal its PHP": "posix_kill({worker}, 0)",
    "to slow its PHP": "pcntl_setpriority(10, {worker})",
    "to write into its PHP": "fopen('/proc/{worker}/mem', 'r+')",
    "to write into its own PHP": "fopen('/proc/self/mem', 'r+')",
}


class Probes:
    """The table, with what a test knows filled in."""

    def __init__(self, theirs: Corner, worker: int, own: int, php: str) -> None:
        self.known = {"place": theirs.path, "worker": worker, "own": own, "php": php}

    def shell(self) -> str:
        """A script that says, a line each, what it got at."""
        php = shlex.quote('exit(@stream_socket_client("unix://" . $argv[1]) ? 0 : 1);')
        forms = [
            (READ, 'test -n "$(head -c 1 -- {} | od -An -tx1)"'),
            (LIST, "ls -A -- {} | grep -q ."),
            (PLANT, "touch -- {}/.planted && rm -f -- {}/.planted"),
            (CONNECT, f"php -n -r {php} {{}}"),
            (PORTS, "bash -c 'exec 3<> /dev/tcp/127.0.0.1/{}'"),
            (SHELL, "{}"),
        ]
        lines = [
            f"if ( {form.replace('{}', str(target).format(**self.known))} ) > /dev/null 2>&1 < /dev/null; "
            f"then echo {shlex.quote(name)}; fi"
            for table, form in forms
            for name, target in table.items()  # type: ignore[attr-defined]
        ]
        return "\n".join(lines) + "\n"

    def script(self) -> str:
        """A page that answers with a JSON list of what it got at."""
        tables = [
            {name: target.format(**self.known) for name, target in table.items()}
            for table in (READ, LIST, PLANT, CONNECT)
        ]
        words = [json.dumps(json.dumps(table)).replace("$", r"\$") for table in (*tables, PORTS)]
        odd = ", ".join(f"'{name}' => fn() => {code.format(**self.known)}" for name, code in PHP.items())
        return f"""<?php
header('Cache-Control: no-store');
[$read, $list, $plant, $connect, $ports] = array_map(fn($text) => json_decode($text, true), [{", ".join(words)}]);
$got = [];
$try = function ($name, $probe) use (&$got) {{
    try {{ if (@$probe()) $got[] = $name; }} catch (Throwable $e) {{ }}
}};
foreach ($read as $name => $path) $try($name, fn() => (string) file_get_contents($path, false, null, 0, 1) !== '');
foreach ($list as $name => $path) $try($name, fn() => count(scandir($path)) > 2);
foreach ($plant as $name => $path) $try($name, fn() => touch("$path/.planted") && unlink("$path/.planted"));
foreach ($connect as $name => $path) $try($name, fn() => stream_socket_client("unix://$path"));
foreach ($ports as $name => $port) $try($name, fn() => stream_socket_client("tcp://127.0.0.1:$port", $no, $why, 3));
foreach ([{odd}] as $name => $probe) $try($name, $probe);
echo json_encode($got);
"""

    @property
    def all_of_shell(self) -> set[str]:
        """The names of all that the shell tries."""
        return {name for table in (READ, LIST, PLANT, CONNECT, PORTS, SHELL) for name in table}

    @property
    def all_of_script(self) -> set[str]:
        """The names of all that the page tries."""
        return {name for table in (READ, LIST, PLANT, CONNECT, PORTS, PHP) for name in table}
