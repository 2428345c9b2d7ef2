"""MariaDB on a web server: a site reaches its own database and nothing else; what it held comes back."""

import gzip
import json
import stat
from pathlib import Path

import pytest

from .conftest import BLOG, PRESS, SHOP, Shop

DENIED = 1045, 1044, 1142, 1227, 1698
"""MariaDB's errors for whoever may not: ER_ACCESS_DENIED_ERROR, ER_DBACCESS_DENIED_ERROR, ..."""


def test_a_second_bootstrap_looks_once_and_changes_nothing(shop: Shop) -> None:
    told = json.loads(shop.done("bootstrap", "--json"))

    assert (0, 1) == (told["changed"], told["round_trips"]), [
        step for step in told["steps"] if step["outcome"] != "kept"
    ]


def test_there_is_a_socket_and_no_port(shop: Shop) -> None:
    listening = shop.machine.check("ss -Hltunp | grep mariadb; ss -Hlxp | grep mariadb").splitlines()

    assert {"/run/mysqld/mysqld.sock"} == {line.split()[4] for line in listening}


@pytest.mark.demand
def test_a_widened_configuration_opens_no_port_either(shop: Shop) -> None:
    wide = "[mariadbd]\nskip-networking = 0\nbind-address = *\n"
    shop.machine.check("cat > /etc/mysql/mariadb.conf.d/zz.cnf", stdin=wide)
    try:
        shop.machine.exec("timeout 20 systemctl restart mariadb")
        assert "" == shop.machine.exec("ss -Hltn 'sport = :3306'").out
    finally:
        shop.machine.check("rm /etc/mysql/mariadb.conf.d/zz.cnf; systemctl restart mariadb")


def test_php_comes_in_as_its_own_site_without_a_password(shop: Shop) -> None:
    assert [[f"{BLOG}@localhost", "utf8mb4_unicode_ci"]] == shop.php("SELECT CURRENT_USER(), @@collation_database")
    assert [[BLOG], ["information_schema"]] == sorted(shop.php("SHOW DATABASES"))  # type: ignore[call-overload]
    assert True is shop.php("CREATE TABLE word (w VARCHAR(80))")
    assert True is shop.php("INSERT INTO word VALUES ('Grüße 😀')")
    assert True is shop.php("DROP TABLE word")


@pytest.mark.parametrize(("user", "database"), [("root", "mysql"), (SHOP, SHOP), ("mysql", "mysql"), ("", BLOG)])
def test_it_comes_in_as_nobody_else(shop: Shop, user: str, database: str) -> None:
    assert shop.php("SELECT 1", user, database) in DENIED
    done = shop.as_owner(f"mariadb --user='{user}' -e 'SELECT 1'")
    assert (1, "") == (done.rc, done.out) or not user


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT * FROM `{SHOP}`.t",
        "SELECT * FROM mysql.global_priv",
        f"CREATE TABLE `{SHOP}`.t (n INT)",
        "CREATE DATABASE more",
        "DROP DATABASE mysql",
        "CREATE USER 'x'@'localhost'",
        f"GRANT ALL ON *.* TO '{BLOG}'@'localhost'",
        f"GRANT SELECT ON `{BLOG}`.* TO '{SHOP}'@'localhost'",
        f"ALTER USER '{BLOG}'@'localhost' WITH MAX_USER_CONNECTIONS 0",
        "SELECT 'x' INTO OUTFILE '/var/www/blog.test/tmp/x'",
        "SELECT 'x' INTO DUMPFILE '/etc/gatehouse/empty/x'",
        "LOAD DATA INFILE '/etc/passwd' INTO TABLE t",
        "CREATE FUNCTION sys_exec RETURNS INTEGER SONAME 'lib_mysqludf_sys.so'",
        "INSTALL SONAME 'server_audit'",
        "SET GLOBAL secure_file_priv = ''",
        "SET GLOBAL general_log = 1",
        "SHUTDOWN",
        "CREATE EVENT e ON SCHEDULE EVERY 1 SECOND DO SELECT 1",
        f"CREATE DEFINER='root'@'localhost' PROCEDURE `{BLOG}`.p() SELECT 1",
    ],
)
def test_it_reaches_nothing_beyond_its_own(shop: Shop, sql: str) -> None:
    assert shop.php(sql) in (*DENIED, 1238)  # 1238: a variable that nobody sets


def test_no_file_is_read_through_mariadb(shop: Shop) -> None:
    assert [[None]] == shop.php("SELECT LOAD_FILE('/etc/passwd')")
    assert True is shop.php("CREATE TEMPORARY TABLE t (line TEXT)")
    local = "CREATE TEMPORARY TABLE t (line TEXT); LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE t; SELECT * FROM t"
    done = shop.as_owner(f'mariadb --local-infile=1 {BLOG} -e "{local}"')
    assert 1 == done.rc
    assert "root:" not in done.out


@pytest.mark.demand
def test_one_site_s_connections_do_not_take_the_others(shop: Shop) -> None:
    sleeper = f"mariadb {BLOG} -e 'SELECT SLEEP(8)'"
    done = shop.as_owner(f"for n in $(seq 12); do {sleeper} > /dev/null & done; sleep 1.5; {sleeper}; kill $(jobs -p)")
    assert "max_user_connections" in done.err
    assert 0 == shop.as_owner("mariadb -e 'SELECT 1'", SHOP).rc


# ---------------------------------------------------------------------- on call


def test_the_operator_sees_each_database(shop: Shop) -> None:
    told = json.loads(shop.done("db.list", "--json"))["databases"]

    assert {("blog.test", BLOG, "open", 10), ("shop.test", SHOP, "open", 10), ("press.test", PRESS, "open", 10)} == {
        (one["site"], one["name"], one["state"], one["most"]) for one in told
    }
    assert "10" in shop.done("db.list")


@pytest.mark.demand
def test_one_that_somebody_dropped_is_told_and_made_again(shop: Shop) -> None:
    shop.sql(f"DROP DATABASE `{SHOP}`; DROP USER '{SHOP}'@'localhost'")
    done = shop.fab("db.list")

    assert 1 == done.returncode
    assert "missing" in done.stdout
    assert "db.create" in done.stdout
    shop.done("db.create")
    assert 0 == shop.as_owner(f"mariadb {SHOP} -e 'SELECT 1'", SHOP).rc


@pytest.mark.demand
def test_mariadb_that_is_down_is_a_fault_and_bootstrap_starts_it(shop: Shop) -> None:
    shop.machine.check("systemctl kill --signal=KILL mariadb; systemctl stop mariadb")
    status, listed = shop.fab("status"), shop.fab("db.list")

    assert (1, 1) == (status.returncode, listed.returncode)
    assert "mariadb" in next(line for line in status.stdout.splitlines() if "not active" in line)
    assert "gives no answer" in listed.stderr
    assert "6 kept, 1 changed, 0 failed" in shop.done("database")
    assert 0 == shop.as_owner("mariadb -e 'SELECT 1'").rc


def test_what_a_database_held_comes_back(shop: Shop, tmp_path: Path) -> None:
    made = (
        "CREATE TABLE t (n INT PRIMARY KEY, w VARCHAR(80), b BLOB); INSERT INTO t VALUES (1, 'Grüße 😀', x'00ff0a');"
        "CREATE VIEW v AS SELECT w FROM t; CREATE PROCEDURE p() SELECT w FROM t;"
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.n = NEW.n;"
    )
    shop.sql(f"SET NAMES utf8mb4; USE `{SHOP}`; {made}")
    file = tmp_path / "shop.sql.gz"
    shop.done("db.dump", "shop.test", "--to", str(file))

    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert [file, Path(f"{file}.sha256")] == sorted(tmp_path.iterdir())
    refused = shop.fab("db.dump", "shop.test", "--to", str(file))
    assert 2 == refused.returncode
    assert "is there already" in refused.stderr

    shop.sql(f"USE `{SHOP}`; DELETE FROM t; CREATE TABLE newer (n INT)")
    unasked = shop.fab("db.restore", "shop.test", "--from", str(file))
    assert 3 == unasked.returncode
    assert "--yes" in unasked.stderr
    told = shop.done("db.restore", "shop.test", "--from", str(file), "--yes")

    assert "Grüße 😀\n" == shop.sql(f"SET NAMES utf8mb4; CALL `{SHOP}`.p()")
    assert "1\t00FF0A\n" == shop.sql(f"SELECT n, HEX(b) FROM `{SHOP}`.t")
    assert "t\nv\n" == shop.sql(f"SHOW TABLES FROM `{SHOP}`")
    views = f"SELECT definer FROM information_schema.views WHERE table_schema = '{SHOP}'"
    assert f"{SHOP}@localhost\n" == shop.sql(views)
    kept = next(word for word in told.split() if word.startswith("/var/lib/gatehouse/databases/"))
    assert "600 root" == shop.machine.check(f"stat -c '%a %U' {kept.rstrip(',')}").strip()
    assert "CREATE TABLE `newer`" in shop.machine.check(f"zcat {kept.rstrip(',')}")


def test_a_dump_that_reaches_beyond_its_database_is_not_taken(shop: Shop, tmp_path: Path) -> None:
    shop.sql(f"CREATE TABLE IF NOT EXISTS `{SHOP}`.kept (n INT); INSERT INTO `{SHOP}`.kept VALUES (7)")
    file = tmp_path / "bad.sql.gz"
    for reach in (f"CREATE TABLE `{BLOG}`.theirs (n INT)", f"USE `{SHOP}`; DROP TABLE kept"):
        bad = f"CREATE TABLE mine (n INT);\n{reach};\n-- Dump completed on today\n"
        file.write_bytes(gzip.compress(bad.encode()))

        done = shop.fab("db.restore", "shop.test", "--from", str(file), "--yes")

        assert 1 == done.returncode
        assert "nothing was touched" in done.stdout + done.stderr
        assert "7\n" == shop.sql(f"SELECT n FROM `{SHOP}`.kept")
    assert "0\n" == shop.sql("SELECT COUNT(*) FROM information_schema.tables WHERE table_name IN ('mine', 'theirs')")
    assert "" == shop.machine.exec("find /var/lib/gatehouse/databases -name '*.in'").out


@pytest.mark.demand
@pytest.mark.parametrize("task", ["db.dump", "db.restore", "db.drill", "db.create"])
def test_bad_input_is_refused(shop: Shop, task: str) -> None:
    for domain, expected in (("blog.tset", "blog.test"), ("example.com", "database: true")):
        done = shop.fab(task, domain)
        assert 2 == done.returncode, done.stdout + done.stderr
        assert expected in done.stderr


def test_a_site_that_goes_and_comes_back_finds_its_data(shop: Shop) -> None:
    shop.sql(f"CREATE TABLE IF NOT EXISTS `{SHOP}`.stays (n INT)")
    shop.done("database", directory=shop.without("shop.test"))

    assert "this account is locked" in shop.as_owner("mariadb -e 'SELECT 1'", SHOP).err
    told = shop.fab("db.list", "--json")
    assert 1 == told.returncode
    states = {one["name"]: one["state"] for one in json.loads(told.stdout)["databases"]}
    assert {BLOG: "open", PRESS: "open", SHOP: "closed"} == states
    shop.done("database")
    assert "stays" in shop.as_owner(f"mariadb {SHOP} -e 'SHOW TABLES'", SHOP).out


@pytest.mark.demand
def test_what_is_removed_is_archived_and_gone(shop: Shop) -> None:
    """The two functions that site.remove calls."""
    shop.sql(f"CREATE TABLE IF NOT EXISTS `{SHOP}`.goes (n INT)")
    try:
        shop.step(
            """
            site = host.site("shop.test")
            database.archive(host, site, "/root/shop.sql.gz")
            database.drop(host, site)
            """
        )
        assert "CREATE TABLE `goes`" in shop.machine.check("zcat /root/shop.sql.gz")
        assert "600" == shop.machine.check("stat -c %a /root/shop.sql.gz").strip()
        assert "0\n" == shop.sql(f"SELECT COUNT(*) FROM mysql.user WHERE User = '{SHOP}'")
        assert "0\n" == shop.sql(f"SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '{SHOP}'")
        assert "7 kept, 0 changed" in shop.done("database", directory=shop.without("shop.test"))
    finally:
        shop.machine.exec("rm -f /root/shop.sql.gz*")
        shop.done("database")
