"""A visit to a site of the lab, and what each layer of the host that serves it had to say about it."""

import re
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from fabfile.model import Site, find_fleet

from .errors import LabError
from .lab import Lab
from .machine import Machine, Result

PROBE = '<?php header("Cache-Control: no-store"); echo "PHP ", PHP_VERSION, ", visited by ", $_SERVER["REMOTE_ADDR"];\n'


def visit(lab: Lab, url: str) -> Iterator[tuple[str, str]]:
    """Fetch a page twice as a stranger who trusts the lab's CA alone; yields (layer, what it did), from the outside in.

    Raises LabError when nobody serves the page.
    """
    host, first = _fetch(lab, url)
    yield "DNS", f"{urlsplit(url).hostname} is {host.ip} and {host.ip6}, the host {host.name}"
    shown = first.err
    tls = _found(r"SSL connection using (\S+) / \S+ / (\S+)", shown)
    issuer, until = _found(r"issuer: (?:CN=)?(.*)", shown), _found(r"expire date: (.*)", shown)
    yield "TLS", f"port 443: {tls}; certificate of {issuer}, verified, valid until {until}"
    yield "HAProxy", f"{_found(r'< (HTTP/.*?) *$', shown)}; {_found(r'< (strict-transport-security: .*)', shown)}"
    _, second = _fetch(lab, url)
    outcomes = [_found(r"< x-cache: (.*)", each.err) for each in (first, second)]
    yield "Varnish", f"127.0.0.1:8081: first {outcomes[0]}, then {outcomes[1]}"
    site = _site(lab, host, urlsplit(url).hostname or "")
    yield "Apache", f"127.0.0.1:8080: {host.check(f'tail -n 1 {site.root}/log/access_log').strip()}"
    yield "PHP-FPM", _php(lab, host, site)


def _fetch(lab: Lab, url: str) -> tuple[Machine, Result]:
    result = lab.stranger.curl("--verbose", "--output", "/dev/null", "--write-out", "%{remote_ip}", url)
    servers = {address: machine for machine in lab.servers for address in (machine.ip, machine.ip6)}
    if result.rc or result.out not in servers:
        raise LabError(f"nobody serves {url}: {_found(r'^curl: (.*)', result.err)}")
    return servers[result.out], result


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text.replace("\r", ""), re.MULTILINE)
    return " ".join(match.groups()) if match else "-"


def _site(lab: Lab, host: Machine, name: str) -> Site:
    sites = find_fleet(lab.directory / "ssh_config").sites_for(host.name)
    return next(site for site in sites if name in site.names)


def _php(lab: Lab, host: Machine, site: Site) -> str:
    """Let the site's owner put a page there for a moment: which PHP runs it, as whom, and who it thinks the visitor is.

    An idle worker stays for some seconds (pm = ondemand), so whose process it was is seen afterwards.
    """
    page = f"visit-{time.time_ns()}.php"
    path = f"{site.root}/public_html/_/{page}"
    host.check(f"cat >{path}", stdin=PROBE, user=site.owner)
    try:
        said = lab.stranger.curl("--fail", f"https://{site.domain}/{page}")
    finally:
        host.check(f"rm {path}", user=site.owner)
    users = host.check("ps -eo user:32=,args= | awk '$2 == \"php-fpm:\" && $3 == \"pool\" { print $1 }' | sort -u")
    return f"/run/php/{site.owner}.sock: {said.out or said.err.strip()}; run by {', '.join(users.split())}"
