"""The servers that a page is asked of: each on a Debian 13 of its own, as its packages or a bootstrap leave it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import yaml  # type: ignore[import-untyped]

from ..lab.corner import as_user
from ..lab.errors import LabError
from ..lab.machine import CGROUPS, Machine
from ..lab.runtimes import owner
from .ground import ZONE, Ground
from .growth import DAEMONS, taken

NAME = f"s0.{ZONE}"
"""What visitors ask for, of each of them."""

ROOM = f"/var/www/{NAME}/public_html/_"
PHP = "php8.4-fpm"
LENGTH = 10_000
MILLISECONDS = 20

# So much of a processor, however many others want it as well.
WORK = f"""function used() {{
    $r = getrusage();
    return ($r['ru_utime.tv_sec'] + $r['ru_stime.tv_sec']) * 1e3 + ($r['ru_utime.tv_usec'] + $r['ru_stime.tv_usec']) / 1e3;
}}
$end = used() + {MILLISECONDS};
while (used() < $end) for ($i = 0; $i < 200; $i++) md5($i);
"""  # noqa: E501
WAIT = f"usleep({MILLISECONDS}000);\n"
SHOW = f"echo str_repeat('page ', {LENGTH // 5});\n"


def script(control: str, work: str) -> bytes:
    """A page of PHP that says how long it may be kept."""
    return f"<?php\nheader('Cache-Control: {control}');\n{work}{SHOW}".encode()


PAGES = {
    "file.css": b"a { color: red }\n" * (LENGTH // 17),
    "page.php": script("max-age=600", WORK),
    "own.php": script("private, no-store", WORK),
    "waits.php": script("max-age=600", WAIT),
}
"""The same files for all of them."""


@dataclass(frozen=True)
class Contender:
    """A server: what the tables call it, Debian's packages, its daemons, and what a person then types and writes.

    `FILES` have the certificate at CERTIFICATE and its key at KEY.
    """

    name: str
    told: str
    packages: tuple[str, ...]
    daemons: tuple[str, ...]
    typed: str = ""
    files: dict[str, str] = field(default_factory=dict, hash=False)


CERTIFICATE, KEY = "/etc/ssl/bench.pem", "/etc/ssl/bench.key"

NGINX = f"""server {{
    listen 443 ssl default_server;
    listen [::]:443 ssl default_server;
    ssl_certificate {CERTIFICATE};
    ssl_certificate_key {KEY};
    root /var/www/html;
    index index.html index.php;
    server_name _;
    location / {{
        try_files $uri $uri/ =404;
    }}
    location ~ \\.php$ {{
        include snippets/fastcgi-php.conf;
        fastcgi_pass unix:/run/php/{PHP}.sock;
    }}
}}
"""
CADDY = f"""https://{NAME} {{
    tls {CERTIFICATE} {KEY}
    root * /var/www/html
    php_fastcgi unix//run/php/{PHP}.sock
    file_server
}}
"""

GATEHOUSE = Contender("gatehouse", "Gatehouse", ("haproxy", "varnish", "apache2", PHP), DAEMONS)
PEERS = (
    Contender(
        "apache", "Apache, mod_php", ("apache2", "libapache2-mod-php8.4"), ("apache2",),
        typed=f"sed -i 's|/etc/ssl/certs/ssl-cert-snakeoil.pem|{CERTIFICATE}|; "
        f"s|/etc/ssl/private/ssl-cert-snakeoil.key|{KEY}|' /etc/apache2/sites-available/default-ssl.conf && "
        "a2enmod -q ssl && a2ensite -q default-ssl && systemctl restart apache2",
    ),
    Contender(
        "nginx", "nginx, FPM", ("nginx", PHP), ("nginx", PHP),
        typed="systemctl restart nginx", files={"/etc/nginx/sites-available/default": NGINX},
    ),
    Contender(
        "caddy", "Caddy, FPM", ("caddy", PHP), ("caddy", PHP),
        typed="usermod -a -G www-data caddy && systemctl restart caddy", files={"/etc/caddy/Caddyfile": CADDY},
    ),
)  # fmt: skip
EVERY = (GATEHOUSE, *PEERS)


def bootstrap(ground: Ground, machine: Machine, sites: int) -> None:
    """The product's, with so many sites.  Whoever loads it is its operator: the limits are for one client, not for all.

    Raises LabError.
    """
    place = ground.config("gatehouse", sites).parent
    settings = yaml.safe_load((place / "fleet.yml").read_text())
    operators = [*dict.fromkeys([*settings["operators"], ground.lab.stranger.ip])]
    ground.lab.describe(place, sites=place / "sites", operators=operators)
    done = machine.fab("bootstrap", directory=place)
    if done.returncode:
        raise LabError(f"bootstrap: exit {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    for name, text in PAGES.items():
        put = as_user(machine, owner(NAME), f"cat > {ROOM}/{name}", text.decode())
        if put.rc:
            raise LabError(f"{ROOM}/{name}: {put.err}")


def certificate(machine: Machine) -> tuple[bytes, bytes]:
    """What the product serves with: the chain that the CA issued, and its key."""
    pem = machine.check(f"cat /etc/haproxy/certs/{NAME}.pem")
    parts = [part for part in pem.split("-----BEGIN ") if part]
    chain = "".join(f"-----BEGIN {part}" for part in parts if part.startswith("CERTIFICATE"))
    key = "".join(f"-----BEGIN {part}" for part in parts if "PRIVATE KEY" in part.partition("-----")[0])
    return chain.encode(), key.encode()


def makeshift(machine: Machine) -> tuple[bytes, bytes]:
    """One of the same kind, where the product has none."""
    words = f"-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN={NAME} -days 30"
    machine.check(f"openssl req -x509 {words} -keyout /root/bench.key -out /root/bench.pem")
    return machine.check("cat /root/bench.pem").encode(), machine.check("cat /root/bench.key").encode()


def equip(peer: Contender, machine: Machine, pair: tuple[bytes, bytes]) -> None:
    """As a person does it by its own documentation: packages with what they recommend, TLS, and the pages.

    Raises LabError.
    """
    apt = "DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0"
    machine.check(f"apt-get -qq update && {apt} install {' '.join(peer.packages)} openssl", timeout=600)
    chain, key = pair
    machine.put({CERTIFICATE: chain, **{path: text.encode() for path, text in peer.files.items()}})
    machine.put({KEY: key}, 0o640)
    machine.check(f"! getent group caddy > /dev/null || chgrp caddy {KEY}")
    machine.put({f"/var/www/html/{name}": text for name, text in PAGES.items()})
    machine.check(peer.typed)


def versions(contender: Contender, machine: Machine) -> str:
    """Of the packages that serve, without Debian's own number."""
    said = machine.check(f"dpkg-query -W -f '${{Package}} ${{Version}}\\n' {' '.join(contender.packages)}")
    rows = (line.split() for line in said.splitlines())
    return ", ".join(f"{package} {version.partition('-')[0]}" for package, version in rows)


def rested(contender: Contender, machine: Machine) -> float:
    """MB of its daemons after a restart, when nobody has come."""
    machine.check(f"systemctl restart {' '.join(contender.daemons)}")
    time.sleep(5)
    return round(memory(contender, machine), 1)


def memory(contender: Contender, machine: Machine) -> float:
    """MB of its daemons now."""
    return sum(taken(machine, contender.daemons).values())


def processor(machine: Machine) -> float:
    """Seconds that all of the host's services have had of the processors since it started (cgroup v2)."""
    said = machine.check(f"cat {CGROUPS}/cpu.stat")
    return int(dict(line.split() for line in said.splitlines())["usage_usec"]) / 1e6
