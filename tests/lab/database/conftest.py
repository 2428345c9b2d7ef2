"""A web server some of whose sites have a database; and a page that lets PHP say what MariaDB answers."""

import json
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..front.visitor import Visitor
from ..lab import Lab
from ..machine import CHECKOUT, Machine, Result, Stranger

BLOG, SHOP, PRESS = "blog-test", "shop-test", "press-test"
SITES = {
    "blog.test": "",
    "shop.test": "",
    # An application: this page of it answers also before it is installed.
    "press.test": "deploy:\n  smoke: /readme.html\n  shared: [wp-content/uploads]\n",
}

# What PHP may do as the site's user, by the application's own means; each statement answers with rows or its error.
ASK = """<?php
header('Cache-Control: no-store');
mysqli_report(MYSQLI_REPORT_OFF);
$db = mysqli_connect('localhost', $_POST['as'], '', $_POST['in']);
if (!$db) exit(json_encode(mysqli_connect_errno()));
$answer = $db->query($_POST['sql']);
echo json_encode(is_bool($answer) ? ($db->errno ?: $answer) : $answer->fetch_all());
"""

# What the databases leave when the sites are gone; Gatehouse itself never removes a site's data.
FORGET = """
systemctl stop mariadb
DEBIAN_FRONTEND=noninteractive apt-get -qq purge 'mariadb-*' mysql-common php*-mysql php*-gd > /dev/null
rm -rf /var/lib/mysql /etc/mysql /etc/gatehouse/databases /etc/gatehouse/empty /var/lib/gatehouse/databases
rm -rf /etc/systemd/system/mariadb.service.d /var/lib/gatehouse/loaded/databases /var/lib/gatehouse/loaded/mariadb*
for site in blog shop press; do
    find /etc -name "$site.test.*" -delete
    userdel $site-test
    sed -i "/^$site-test/d" /etc/cron.deny
    groupdel $site-test
    rm -rf /var/www/$site.test /etc/gatehouse/sites/$site-test
done
systemctl daemon-reload
systemctl reset-failed mariadb
"""


@dataclass
class Shop:
    """The web server, and the directory that `fab` needs to know its sites."""

    lab: Lab
    machine: Machine
    directory: Path
    stranger: Stranger

    def fab(self, *args: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
        return self.machine.fab(*args, directory=directory or self.directory)

    def done(self, *args: str, directory: Path | None = None) -> str:
        """The same for what must succeed: what it printed."""
        done = self.fab(*args, directory=directory)
        assert 0 == done.returncode, done.stdout + done.stderr
        return done.stdout

    def without(self, domain: str) -> Path:
        """A directory in which this site's file is not."""
        other = self.directory.parent / f"without-{domain}"
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(self.directory / "sites", other / "sites")
        (other / "sites" / f"{domain}.yml").unlink()
        return self.lab.describe(other, sites=other / "sites")

    def step(self, body: str) -> None:
        """Lines of Python as another chapter would have them: what they wish of `host` is one step."""
        program = f"""
            from pathlib import Path
            from fabfile import database
            from fabfile.engine import Host
            from fabfile.engine.remote import connect
            host = Host.of(connect({self.machine.name!r}, Path({str(self.directory / "ssh_config")!r})))
            with host.running("test.step"), host.step("test.step"):
                {textwrap.indent(textwrap.dedent(body), " " * 16).strip()}
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=CHECKOUT, timeout=120, check=True)

    def sql(self, text: str) -> str:
        """As root, on the host."""
        return self.machine.check("mariadb --batch --skip-column-names", stdin=text)

    def php(self, sql: str, user: str = BLOG, database: str = BLOG) -> object:
        """What a page of blog.test gets for one statement: rows, true, or the number of the error."""
        said = {"as": user, "in": database, "sql": sql}
        form = [word for name, text in said.items() for word in ("--data-urlencode", f"{name}={text}")]
        answer = Visitor(self.stranger, self.machine)("https://blog.test/ask.php", *form)
        assert 200 == answer.status, answer.body
        return json.loads(answer.body)

    def as_owner(self, command: str, owner: str = BLOG) -> Result:
        """What the site's user can do with a shell."""
        return self.machine.exec(
            f"setpriv --reuid {owner} --regid {owner} --clear-groups sh -c {shlex.quote(f'cd /; {command}')}"
        )


@pytest.fixture(scope="package", params=["vps", pytest.param("vps12", marks=pytest.mark.demand)])
def shop(request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The sites and their databases, by one bootstrap; afterwards the host is as it was."""
    machine = request.getfixturevalue(request.param)
    place = tmp_path_factory.mktemp("shop") / "sites"
    shutil.copytree(lab.directory / "sites", place)
    for domain, more in SITES.items():
        said = f"domain: {domain}\nsubdomains: []\ndatabase: true\nhosts: [{machine.name}]\n{more}"
        (place / f"{domain}.yml").write_text(said)
    made = Shop(lab, machine, lab.describe(place.parent, sites=place), lab.stranger)
    with lab.pointing(machine):
        try:
            made.done("bootstrap")
            made.as_owner(f"echo {shlex.quote(ASK)} > /var/www/blog.test/public_html/_/ask.php")
            yield made
        finally:
            machine.exec(FORGET)
            made.done("bootstrap", directory=lab.directory)
