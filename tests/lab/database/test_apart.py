"""Databases for other hosts: over TLS, a user for each host and site, and the password is nowhere but in its place."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Bare
from ..lab import Lab
from ..machine import Machine
from .apart import INI, PAGE, Apart, set_apart
from .conftest import BLOG, SHOP

DENIED = 1044, 1045, 1130, 1142, 1227, 1698, 3159
"""MariaDB's errors for whoever may not; the last one is for TLS that is missing."""

UNVERIFIED = 2002
"""mysqlnd's word for a server whose certificate it does not believe."""

# Everything that a host keeps or shows, but for the two files in which the password belongs: arguments and environments
# of all that runs, logs, the journal, the history of /etc, what MariaDB has, what lies about.
SEARCH = r"""
want=/dev/shm/want
umask 077
cat > $want
cd /
{
    cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2> /dev/null
    journalctl --no-pager
    git -C /etc log --all -p --text
} | tr '\0' '\n' | grep -aF -f $want | sed 's/^/seen: /'
grep -raFl -f $want /var /etc /root /home /tmp /run 2> /dev/null
rm $want
"""

# Arguments and environments while tasks run: as fast as one loop looks.
WATCH = r"""
until [ -e /tmp/watch.stop ]; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ; done 2> /dev/null |
    tr '\0' '\n' | LC_ALL=C grep -aoE '[0-9a-f]{64}' | LC_ALL=C sort -u > /tmp/watch.seen
"""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("trixie", "bookworm"), id="13 for 12"),
        pytest.param(("bookworm", "trixie"), id="12 for 13", marks=pytest.mark.demand),
    ],
)
def apart(
    lab: Lab, own: Bare, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Apart:
    keeper, app = (own(release) for release in request.param)
    return set_apart(lab, keeper, app, tmp_path_factory.mktemp("apart") / "fleet")


def answer(apart: Apart, sql: str = "SELECT CURRENT_USER()", **other: str) -> Any:
    done = apart.php(sql, **other)
    assert 0 == done.rc, done.err
    return json.loads(done.out)


def test_a_site_on_another_host_comes_in_as_itself_over_tls(apart: Apart) -> None:
    assert [[f"{BLOG}@{apart.app.ip}"]] == answer(apart)
    [[_, cipher]] = answer(apart, "SHOW STATUS LIKE 'Ssl_cipher'")
    assert cipher.startswith("TLS_")
    assert f"640 {BLOG} root" == apart.app.check(f"stat -c '%a %U %G' {INI.format(BLOG)}").strip()


@pytest.mark.demand
def test_a_page_does_it_with_what_its_file_says_and_nothing_more(apart: Apart) -> None:
    root = "/var/www/blog.test/public_html/_"
    page = shlex.quote(PAGE % INI.format(BLOG))
    apart.app.check(
        f"setpriv --reuid {BLOG} --regid {BLOG} --init-groups sh -c {shlex.quote(f'echo {page} > {root}/ask.php')}"
    )
    asks = (
        "echo file_get_contents('http://127.0.0.1:8080/ask.php', false, stream_context_create("
        "['http' => ['header' => 'Host: blog.test', 'ignore_errors' => true]]));"
    )

    assert f"{BLOG}@{apart.app.ip} O'Grüße" == apart.app.check(f"php -r {shlex.quote(asks)}")


@pytest.mark.demand
def test_nothing_is_to_do_a_second_time_on_either(apart: Apart) -> None:
    for machine in (apart.keeper, apart.app):
        assert "7 kept, 0 changed" in apart.done(machine, "database")


def test_it_listens_at_one_address_and_the_firewall_lets_in_the_app_host_alone(apart: Apart) -> None:
    listening = apart.keeper.check("ss -Hltnp | grep mariadb").split()
    assert f"{apart.keeper.ip}:3306" in listening
    assert 1 == len([word for word in listening if word.endswith(":3306")])
    rules = apart.keeper.check("iptables -S GATEHOUSE | grep -- '--dport 3306'").splitlines()
    assert [True] == [f"-s {apart.app.ip}/32" in rule for rule in rules]


def test_it_refuses_what_is_not_meant_to_come(apart: Apart) -> None:
    """No TLS, another host's address, root, another site's user, schema and password, a server of another name."""
    assert answer(apart, ca="") in DENIED
    assert answer(apart, user="root", name="mysql", password="") in DENIED
    assert answer(apart, user="root", name="mysql") in DENIED
    assert answer(apart, user=SHOP, name=SHOP) in DENIED
    assert answer(apart, name=SHOP) in DENIED
    assert answer(apart, password="0" * 64) in DENIED
    assert answer(apart, f"SELECT * FROM `{SHOP}`.t") in DENIED
    assert answer(apart, f"GRANT ALL ON *.* TO '{BLOG}'@'{apart.app.ip}'") in DENIED
    assert UNVERIFIED == answer(apart, ca="/etc/ssl/certs/ca-certificates.crt")
    apart.app.check(f"echo '{apart.keeper.ip} other.test' >> /etc/hosts")
    try:
        assert UNVERIFIED == answer(apart, host="other.test")
    finally:
        apart.app.check("sed '/ other.test$/d' /etc/hosts > /tmp/hosts && cat /tmp/hosts > /etc/hosts; rm /tmp/hosts")


def test_the_right_password_is_no_good_from_another_host(apart: Apart) -> None:
    """From the keeper itself, which no firewall keeps from its own port."""
    client = f"""
        umask 077; printf '[client]\\npassword=%s\\n' "$(cat)" > /root/my.cnf
        mariadb --defaults-file=/root/my.cnf -h {apart.keeper.ip} -u {BLOG} --ssl -e 'SELECT 1'; code=$?
        rm /root/my.cnf; exit $code"""
    done = apart.keeper.exec(client, stdin=apart.password())

    assert (1, "") == (done.rc, done.out)
    assert "1045" in done.err or "1130" in done.err


def test_the_password_is_nowhere_else(apart: Apart) -> None:
    """With one that is made, handed over and used while somebody looks at every process."""
    former = apart.password()
    for machine in (apart.keeper, apart.app):
        machine.exec("rm -f /tmp/watch.*")
        machine.check(f"systemd-run -q --unit=watch sh -c {shlex.quote(WATCH)}")
    try:
        apart.app.check(f"rm /etc/gatehouse/secrets/database/{BLOG}")
        apart.done(apart.app, "credentials")
        apart.done(apart.keeper, "--dry", "database")
        for machine, task in ((apart.keeper, "database.schemas"), (apart.app, "database.hand")):
            apart.done(machine, task)
    finally:
        for machine in (apart.keeper, apart.app):
            machine.exec("touch /tmp/watch.stop; while systemctl -q is-active watch; do sleep 0.1; done")
    password = apart.password()

    assert password != former
    assert [[f"{BLOG}@{apart.app.ip}"]] == answer(apart)
    assert answer(apart, password=former) in DENIED
    assert password not in "".join(apart.told)
    seen = [machine.check("cat /tmp/watch.seen; rm /tmp/watch.*") for machine in (apart.keeper, apart.app)]
    assert not {password, former} & {*"".join(seen).split()}
    digest = apart.app.check(f"cat /etc/gatehouse/card/database-{BLOG}").strip()
    assert searched(apart.app, password) == [f"/etc/gatehouse/secrets/database/{BLOG}", INI.format(BLOG)]
    assert searched(apart.keeper, password) == []
    assert f"/etc/gatehouse/databases/{BLOG}@{apart.app.ip}.sql" in searched(apart.keeper, digest)


def searched(machine: Machine, word: str) -> list[str]:
    """Where it is; the search itself has it from its standard input."""
    return sorted(machine.exec(SEARCH, stdin=word).out.splitlines())


@pytest.mark.demand
def test_a_host_that_leaves_is_locked_out_and_comes_back(apart: Apart, tmp_path: Path) -> None:
    apart.sql(f"CREATE TABLE IF NOT EXISTS `{BLOG}`.stays (n INT)")
    alone = tmp_path / "fleet"
    text = (apart.directory / "fleet.yml").read_text().replace(str(apart.directory), str(alone))
    fleet = json.loads(text.partition("\n")[2])
    del fleet["hosts"][apart.app.name]
    fleet["hosts"]["another"] = {"address": "10.0.0.99", "roles": ["web"]}
    (alone / "sites").mkdir(parents=True)
    for each in (apart.directory / "sites").iterdir():
        (alone / "sites" / each.name).write_text(each.read_text().replace(f"[{apart.app.name}]", "[another]"))
    for name in ("ssh_config", "known_hosts"):
        (alone / name).write_text((apart.directory / name).read_text())
    (alone / "fleet.yml").write_text(json.dumps(fleet))
    line = shlex.join(["php", "/tmp/client.php", INI.format(BLOG), json.dumps({"sql": "SELECT SLEEP(60)"})])
    apart.app.check(f"nohup {line} > /dev/null 2>&1 &")
    apart.keeper.check("until mariadb -e 'SHOW PROCESSLIST' | grep -q SLEEP; do sleep 0.1; done", timeout=20)

    told = apart.done(apart.keeper, "database.schemas", directory=alone)

    assert "another" in told
    assert "stays as it is" in told
    assert "" == apart.keeper.exec("mariadb -e 'SHOW PROCESSLIST' | grep SLEEP").out
    assert 4151 == answer(apart)
    found = json.loads(apart.done(apart.keeper, "db.users", "--json"))["users"]
    users = {one["source"]: one for one in found if one["name"] == BLOG}
    assert (True, False) == (users[apart.app.ip]["locked"], users["socket"]["locked"])
    apart.done(apart.keeper, "database.schemas")
    assert [["stays"]] == answer(apart, "SHOW TABLES LIKE 'stays'")


@pytest.mark.demand
def test_a_certificate_that_is_made_anew_is_believed_after_the_next_run(apart: Apart) -> None:
    apart.keeper.check("rm /etc/gatehouse/card/database.pem")
    apart.done(apart.keeper, "database")

    assert UNVERIFIED == answer(apart)
    apart.done(apart.app, "database")
    assert [[f"{BLOG}@{apart.app.ip}"]] == answer(apart)


@pytest.mark.demand
def test_what_is_filled_in_by_hand_is_put_right(apart: Apart) -> None:
    apart.app.check(f"echo 'password = \"mine\"' >> {INI.format(BLOG)}")

    assert "fill in" in apart.done(apart.app, "database.hand")
    assert [[f"{BLOG}@{apart.app.ip}"]] == answer(apart)


@pytest.mark.demand
def test_at_the_app_host_it_says_where_its_databases_are(apart: Apart) -> None:
    for words in (("db.list",), ("db.dump", "blog.test"), ("db.restore", "blog.test", "--kept", "newest")):
        done = apart.app.fab(*words, directory=apart.directory)
        assert 2 == done.returncode
        assert f"fab -H {apart.keeper.name} {' '.join(words[:2])}" in done.stderr
