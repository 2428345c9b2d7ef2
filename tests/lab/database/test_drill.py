"""Dumps that are kept: a hundred thousand rows come back, row for row; what was cut or changed is refused."""

import json

import pytest

from .conftest import SHOP, Shop

ROWS = 100_000

# Everything that a dump may stumble over: names, bytes, views of views, code that looks like rows.
MANY = f"""
SET NAMES utf8mb4;
USE `{SHOP}`;
CREATE TABLE item (n INT PRIMARY KEY, w VARCHAR(80), b BLOB, f DOUBLE, t TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
INSERT INTO item (n, w, b, f) SELECT seq, CONCAT('Grüße 😀 \\n; (', seq, ')'), UNHEX(MD5(seq)), seq / 7
    FROM seq_1_to_{ROWS};
CREATE TABLE parent (n INT PRIMARY KEY);
CREATE TABLE child (n INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (n));
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (1, 2);
CREATE TABLE `we``ird Tä` (a INT, g INT GENERATED ALWAYS AS (a + 1) VIRTUAL);
INSERT INTO `we``ird Tä` (a) VALUES (3), (1), (2);
CREATE TABLE nothing (n INT);
CREATE SEQUENCE number;
CREATE VIEW word AS SELECT w FROM item;
CREATE VIEW another AS SELECT * FROM word;
CREATE FUNCTION seven() RETURNS INT RETURN 7;
CREATE PROCEDURE many() SELECT COUNT(*) FROM another;
DELIMITER ;;
CREATE TRIGGER longer BEFORE INSERT ON item FOR EACH ROW BEGIN
    -- INSERT INTO `nothing` VALUES
    SET NEW.w = CONCAT(NEW.w,
'(1);');
END;;
DELIMITER ;
"""


@pytest.fixture(scope="module")
def kept(shop: Shop) -> str:
    """The path of a dump on the host."""
    shop.sql(f"DROP DATABASE `{SHOP}`; CREATE DATABASE `{SHOP}` CHARACTER SET utf8mb4;")
    shop.sql(MANY)
    told = shop.done("db.dump", "shop.test")
    return next(word for word in told.split() if word.startswith("/var/lib/gatehouse/databases/"))


def test_the_drill_proves_it_and_leaves_nothing(shop: Shop, kept: str) -> None:
    before = shop.sql(f"CHECKSUM TABLE `{SHOP}`.item; SHOW DATABASES")
    told = shop.done("db.drill", "shop.test")

    assert f"{ROWS + 6} rows in 5 tables" in told
    assert before == shop.sql(f"CHECKSUM TABLE `{SHOP}`.item; SHOW DATABASES")
    assert "0\n" == shop.sql("SELECT COUNT(*) FROM mysql.global_priv WHERE User = 'gatehouse_restore'")
    assert "600 root 600 root" == shop.machine.check(f"stat -c '%a %U' {kept} {kept}.sha256 | xargs").strip()
    newest = {one["name"]: one["dump"] for one in json.loads(shop.done("db.list", "--json"))["databases"]}
    assert kept.rpartition("/")[2] == newest[SHOP]


@pytest.mark.demand
def test_the_drill_tells_when_rows_are_missing(shop: Shop, kept: str) -> None:
    """A dump that is whole to every checksum and has lost a row: what counts must be able to say no."""
    place, name = "/var/lib/gatehouse/databases", f"{SHOP}.20990101-000000.sql.gz"
    lose = f"zcat {kept} | sed '/^(77,/d' | gzip > {name} && sha256sum {name} > {name}.sha256"
    shop.machine.check(f"cd {place} && {lose}")
    try:
        done = shop.fab("db.drill", "shop.test")
        restored = shop.fab("db.restore", "shop.test", "--kept", "newest", "--yes")
    finally:
        shop.machine.check(f"cd {place} && rm {name} {name}.sha256")

    assert (1, 1) == (done.returncode, restored.returncode)
    assert "does not bring the rows that it says it has" in done.stdout + done.stderr
    assert "nothing was touched" in restored.stdout + restored.stderr
    assert f"{ROWS}\n" == shop.sql(f"SELECT COUNT(*) FROM `{SHOP}`.item")


DAMAGES = "truncate -s -20 {}", "printf '\\377' | dd of={} bs=1 seek=4000 conv=notrunc", "rm {}.sha256"


@pytest.mark.parametrize("damage", [*DAMAGES[:2], pytest.param(DAMAGES[2], marks=pytest.mark.demand)])
def test_one_that_was_cut_or_changed_is_refused_and_nothing_is_touched(shop: Shop, kept: str, damage: str) -> None:
    newest = shop.machine.check(f"ls -1r {kept.rpartition('/')[0]}/{SHOP}.*.sql.gz").split()[0]
    shop.machine.check(f"mkdir -p /root/aside && cp -p {newest} {newest}.sha256 /root/aside && {damage.format(newest)}")
    counted = "SELECT COUNT(*) FROM information_schema.tables; SHOW GLOBAL STATUS LIKE 'Com_create_db'"
    before = shop.sql(counted)
    try:
        drill = shop.fab("db.drill", "shop.test")
        restored = shop.fab("db.restore", "shop.test", "--kept", "newest", "--yes")
    finally:
        shop.machine.check(f"cp -p /root/aside/* {kept.rpartition('/')[0]}/ && rm -r /root/aside")

    for done in (drill, restored):
        assert 2 == done.returncode, done.stdout + done.stderr
        assert "nothing was touched" in done.stderr
        assert "checksum" in done.stderr
    assert before == shop.sql(counted)


def test_it_comes_back_whole_and_what_was_there_is_one_dump_more(shop: Shop, kept: str) -> None:
    state = f"""CHECKSUM TABLE `{SHOP}`.item, `{SHOP}`.child, `{SHOP}`.`we``ird Tä`; CALL `{SHOP}`.many();
        SELECT `{SHOP}`.seven(); SHOW FULL TABLES FROM `{SHOP}`"""
    before = shop.sql(state)
    shop.sql(
        f"USE `{SHOP}`; DROP TABLE child, parent; DELETE FROM item WHERE n > 9; CREATE TABLE newer (n INT);"
        "CREATE VIEW ofit AS SELECT * FROM newer; DROP PROCEDURE many; CREATE PROCEDURE few() SELECT 1"
    )
    told = shop.done("db.restore", "shop.test", "--kept", kept.rpartition("/")[2], "--yes")

    assert before == shop.sql(state)
    code = (
        f"SELECT DISTINCT definer FROM information_schema.routines WHERE routine_schema = '{SHOP}' UNION "
        f"SELECT definer FROM information_schema.views WHERE table_schema = '{SHOP}' UNION "
        f"SELECT definer FROM information_schema.triggers WHERE trigger_schema = '{SHOP}'"
    )
    assert f"{SHOP}@localhost\n" == shop.sql(code)
    assert "x(1);\n" == shop.sql(
        f"INSERT INTO `{SHOP}`.item (n, w) VALUES (0, 'x'); SELECT w FROM `{SHOP}`.item WHERE n = 0"
    )
    former = next(word for word in told.split() if word.startswith("/var/lib/")).rstrip(";")
    shop.done("db.restore", "shop.test", "--kept", former.rpartition("/")[2], "--yes")
    assert "item\nnewer\nnothing\nnumber\nofit\n" == shop.sql(
        f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{SHOP}' AND table_name NOT LIKE 'we%' "
        "AND table_name NOT IN ('another', 'word') ORDER BY 1"
    )


@pytest.mark.demand
def test_a_busy_table_is_waited_for_and_then_left_as_it_was(shop: Shop, kept: str) -> None:
    """Somebody holds a table for longer than a restore waits: nothing is renamed, and its trigger is there still."""
    shop.sql(MANY.replace("USE", "DROP DATABASE `shop-test`; CREATE DATABASE `shop-test`; USE"))
    shop.sql(f"CREATE TRIGGER `{SHOP}`.idle BEFORE INSERT ON `{SHOP}`.child FOR EACH ROW SET NEW.n = NEW.n + 1")
    hold = f"systemd-run -q --unit=holder mariadb {SHOP} -e 'LOCK TABLES item READ; SELECT SLEEP(570)'"
    shop.machine.check(hold)
    try:
        done = shop.fab("db.restore", "shop.test", "--kept", kept.rpartition("/")[2], "--yes")
    finally:
        shop.machine.check("systemctl stop holder")

    assert 1 == done.returncode
    assert "what was there is as it was" in done.stdout + done.stderr
    named = f"SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = '{SHOP}' ORDER BY 1"
    assert "idle\nlonger\n" == shop.sql(named)
    assert "0\n" == shop.sql("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE '%+%'")


@pytest.mark.demand
def test_the_newest_are_kept(shop: Shop, kept: str) -> None:
    for _ in range(2):
        shop.done("db.dump", "blog.test", "--keep", "1")

    names = shop.machine.check("ls /var/lib/gatehouse/databases").split()
    assert 2 == len([name for name in names if name.startswith("blog-test.")])
    assert kept.rpartition("/")[2] in names
