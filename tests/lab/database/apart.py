"""MariaDB for two machines: one keeps the databases, the other makes pages and comes by network."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from ..lab import Lab
from ..machine import Machine, Result
from .conftest import BLOG

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
    """`keeper` has the databases of blog.test and shop.test, `app` serves them and comes to it; `directory` says so."""

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


def set_apart(lab: Lab, keeper: Machine, app: Machine, place: Path) -> Apart:
    """T2's pair from bare hosts, as far as the database goes: `keeper` has it, `app` comes to it."""
    (place / "sites").mkdir(parents=True)
    for domain in ("blog.test", "shop.test"):
        said = f"domain: {domain}\nsubdomains: []\ndatabase: true\nhosts: [{app.name}]\n"
        (place / "sites" / f"{domain}.yml").write_text(said)
    hosts = {
        keeper.name: {"address": keeper.ip, "roles": ["database"]},
        app.name: {"address": app.ip, "roles": ["web"]},
    }
    made = Apart(keeper, app, lab.describe(place, sites=place / "sites", hosts=hosts), [])
    app.put({"/tmp/client.php": CLIENT.encode()})
    made.done(app, "credentials", "site.users", "site.tree")
    made.done(keeper, "firewall", "database")
    made.done(app, "database", "php", "apache")
    return made
