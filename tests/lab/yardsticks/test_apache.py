"""dev-sec's apache-baseline, and what CIS asks of Apache beyond it, on both releases."""

from __future__ import annotations

import re
from typing import Any

from ..machine import Machine
from .yardstick import Yardstick

WAIVERS = {
    "apache-11": "in a site's own directory root alone puts links, and public_html is one, to the release that serves; "
    "below it, in the site's rooms, links are followed within one owner alone",
}

APACHE = Yardstick("dev-sec apache-baseline")


def told(host: Any, command: str) -> str:
    text: str = host.run(command).stdout
    return text


def asked(host: Any, method: str = "GET", path: str = "/", name: str = "example.com") -> str:
    """Apache itself is asked, by root, who may: its answer."""
    request = rf"{method} {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    return told(host, f"printf '%b' '{request}' | socat -t 5 - TCP4:127.0.0.1:8080")


def status(answer: str) -> str:
    return answer.split()[1]


@APACHE.control("apache-01")
def it_runs(host: Any) -> bool:
    return bool(host.service("apache2").is_running)


@APACHE.control("apache-02")
def and_at_boot(host: Any) -> bool:
    return bool(host.service("apache2").is_enabled)


@APACHE.control("apache-03")
def only_the_first_process_is_root(host: Any) -> bool:
    return told(host, "ps -C apache2 -o user=").split().count("root") == 1


@APACHE.control("apache-04")
def its_configuration_is_root_s(host: Any) -> bool:
    return not told(host, "find /etc/apache2 -xdev \\( ! -user root -o ! -group root -o -perm /022 \\) ! -type l")


@APACHE.control("apache-05")
def nobody_else_reads_it(host: Any) -> bool:
    return bool(host.file("/etc/apache2").mode & 0o007 == 0)


@APACHE.control("apache-06")
def it_works_as_www_data_that_cannot_log_in(host: Any) -> bool:
    run = told(host, "apache2ctl -t -D DUMP_RUN_CFG 2> /dev/null")
    return 'User: name="www-data"' in run and bool(host.user("www-data").shell == "/usr/sbin/nologin")


@APACHE.control("apache-07")
def it_does_not_tell_what_it_is(host: Any) -> bool:
    head = asked(host, "HEAD").lower()
    return re.search(r"(?m)^server: apache\r?$", head) is not None and "x-powered-by" not in head


@APACHE.control("apache-08")
def modules_of_no_use_are_out(host: Any) -> bool:
    loaded = set(re.findall(r"(\w+)_module", told(host, "apache2ctl -M 2> /dev/null")))
    out = {"dav", "dav_fs", "cgi", "cgid", "include", "autoindex", "status", "userdir", "info", "negotiation"}
    return bool(loaded) and not loaded & out


@APACHE.control("apache-09")
def trace_is_off(host: Any) -> bool:
    return status(asked(host, "TRACE")) == "405"


@APACHE.control("apache-10")
def other_methods_are_refused(host: Any) -> bool:
    return all(status(asked(host, method)) == "405" for method in ("PUT", "DELETE"))


@APACHE.control("apache-11")
def links_are_followed_within_one_owner_alone(host: Any) -> bool:
    text = told(host, "cat /etc/apache2/conf-enabled/*.conf /etc/apache2/sites-enabled/*.conf")
    return "SymLinksIfOwnerMatch" in text and not re.search(r"(?m)^\s*Options.*[ +]FollowSymLinks", text)


@APACHE.control("apache-12")
def no_directory_is_listed(host: Any) -> bool:
    return not re.search(r"(?m)^\s*Options.*[ +]Indexes", told(host, "cat /etc/apache2/conf-enabled/*.conf"))


@APACHE.control("apache-14")
def every_vhost_has_a_log(host: Any) -> bool:
    hosts = told(host, "cat /etc/apache2/sites-enabled/*.conf /etc/apache2/conf-enabled/vhost.conf")
    return hosts.count("CustomLog") >= 2


@APACHE.control("CIS: only the loopback")
def only_the_loopback_hears_it(host: Any) -> bool:
    heard = told(host, "ss -Hltnp | grep apache2 | awk '{ print $4 }'").split()
    return heard == ["127.0.0.1:8080"]


@APACHE.control("CIS: an unknown name is refused")
def an_unknown_name_is_refused(host: Any) -> bool:
    return status(asked(host, name="nobody.invalid")) == "421"


@APACHE.control("CIS: closed by default")
def all_is_closed_by_default(host: Any) -> bool:
    text = told(host, "cat /etc/apache2/conf-enabled/gatehouse.conf")
    root = re.search(r'(?s)<Directory "/">(.*?)</Directory>', text)
    return root is not None and "AllowOverride None" in root[1] and "Require all denied" in root[1]


@APACHE.control("CIS: strict and in time")
def requests_are_strict_and_in_time(host: Any) -> bool:
    text = told(host, "cat /etc/apache2/conf-enabled/gatehouse.conf")
    wanted = ("HttpProtocolOptions Strict", "RequestReadTimeout header=20-40", "\nLimitRequestFields ")
    return all(line in text for line in wanted)


@APACHE.control("CIS: hidden files")
def hidden_files_stay_hidden(host: Any) -> bool:
    paths = ("/.git/config", "/.env", "/.htpasswd", "/index.php~", "/dump.sql", "/%2e%2e/%2e%2e/etc/passwd", "/.%00")
    return all(status(asked(host, path=path)) in ("400", "403", "404") for path in paths)


def test_apache_baseline(host: Machine) -> None:
    APACHE.judge(host.testinfra, WAIVERS)
