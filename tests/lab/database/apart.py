"""The same MariaDB for two machines: one keeps the databases, the other makes pages, too, and comes by network."""

import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..machine import Machine, Result
from .conftest import BLOG, Shop

INI = "/etc/gatehouse/sites/{}/database.ini"

# What a site's code does: it reads its file, and believes no server but the one that shows the certificate named there.
# Each argument but the first is one thing that the file does not say.
CLIENT = r"""<?php
$is = array_merge(parse_ini_file($argv[1]), json_decode($argv[2], true));
mysqli_report(MYSQLI_REPORT_OFF);
$db = mysqli_init();
if ($is['ca'] ?? '') mysqli_ssl_set($db, null, null, $is['ca'], null, null);
$flags = ($is['ca'] ?? '') ? MYSQLI_CLIENT_SSL : 0;
if (!@mysqli_real_connect($db, $is['host'], $is['user'], $is['password'], $is['name'], $is['port'], null, $flags))
    exit(json_encode(mysqli_connect_errno()));
$answer = $db->query($is['sql']);
echo json_encode(is_bool($answer) ? ($db->errno ?: $answer) : $answer->fetch_all());
"""

# The same in a page, as PDO does it, and as a worker of the site's own pool may.
PAGE = """<?php
$is = parse_ini_file('%s');
$db = new PDO("mysql:host=$is[host];port=$is[port];dbname=$is[name];charset=utf8mb4", $is['user'], $is['password'],
    [PDO::MYSQL_ATTR_SSL_CA => $is['ca']]);
$asked = $db->prepare('SELECT CURRENT_USER(), ?');
$asked->execute(["O'Grüße"]);
echo implode(' ', $asked->fetch(PDO::FETCH_NUM));
"""


@dataclass
class Apart:
    """`keeper` has the databases, `app` comes to them; both serve blog.test and shop.test, from `directory`."""

    keeper: Machine
    app: Machine
    directory: Path
    told: list[str]

    def done(self, machine: Machine, *args: str, directory: Path | None = None) -> str:
        """What a task printed that must succeed; all of it is kept, to be searched."""
        done = machine.fab(*args, directory=directory or self.directory)
        self.told.append(done.stdout + done.stderr)
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout

    def sql(self, text: str) -> str:
        """As root, on the keeper."""
        return self.keeper.check("mariadb --batch --skip-column-names", stdin=text)

    def php(self, sql: str = "SELECT CURRENT_USER()", owner: str = BLOG, **other: str) -> Result:
        """What a site's code on the app host gets; `other` says what it takes for granted instead of its file."""
        line = shlex.join(["php", "/tmp/client.php", INI.format(owner), json.dumps({"sql": sql, **other})])
        return self.app.exec(f"setpriv --reuid {owner} --regid {owner} --clear-groups {line}")

    def password(self, owner: str = BLOG) -> str:
        return self.app.check(f"cat /etc/gatehouse/secrets/database/{owner}")


def set_apart(shop: Shop, app: Machine, place: Path) -> Iterator[Apart]:
    """The shop's own machine lets the other one in; afterwards each is as it was."""
    keeper = shop.machine
    sites = place / "sites"
    shutil.copytree(shop.directory / "sites", sites)
    for each in sites.iterdir():
        if each.stem not in ("blog.test", "shop.test"):
            each.unlink()
        else:
            each.write_text(each.read_text().replace(f"[{keeper.name}]", f"[{keeper.name}, {app.name}]"))
    hosts = {
        keeper.name: {"address": keeper.ip, "roles": ["web", "database"]},
        app.name: {"address": app.ip, "roles": ["web"]},
    }
    made = Apart(keeper, app, shop.lab.describe(place, sites=sites, hosts=hosts), [])
    client = {"/tmp/client.php": CLIENT.encode()}
    try:
        for machine in (keeper, app):
            machine.put(client)
        made.done(app, "credentials", "site", "php", "apache")
        made.done(keeper, "firewall", "database")
        made.done(app, "database")
        yield made
    finally:
        app.exec(LEAVE)
        for machine in (keeper, app):
            machine.exec("rm -f /tmp/client.php")
        keeper.exec("rm -rf /etc/mysql/tls /etc/gatehouse/card/database*")
        shop.done("firewall", "database")
        done = app.fab("bootstrap")
        if done.returncode:
            pytest.fail(done.stdout + done.stderr, pytrace=False)


# What the app host has of the shop's sites.  The packages first: they restart FPM, which does not without a pool.
LEAVE = """
DEBIAN_FRONTEND=noninteractive apt-get -qq purge php*-mysql php*-gd > /dev/null
for site in blog shop; do
    find /etc -name "$site.test.*" -delete
    userdel $site-test
    groupdel $site-test
    rm -rf /var/www/$site.test /etc/gatehouse/sites/$site-test
    rm -f /etc/gatehouse/card/*-$site-test /etc/gatehouse/secrets/*/$site-test*
done
"""
