"""MariaDB: only where a site wants it, without a port; a database and a user a site, and nothing lost with a file."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fabfile import database
from fabfile.database import CONFIG, ROSTER, Database, read_databases
from fabfile.engine import Guarded, Host, StepFailed
from fabfile.engine.changes import Change, Install, Load, Remove, Rename, Run
from fabfile.model import Refusal

from .recording import Recorded, a_file, contents
from .recording import site as a_site

SHOP = a_site("shop.example.com", database=True, php={"children": 7})
STATIC = a_site("static.test", database=True, php=False)
PLAIN = a_site()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return Recorded(monkeypatch, SHOP, STATIC, PLAIN)


def settings(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and line[0] not in "#["]
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def kinds(changes: list[Change]) -> list[str]:
    return [type(change).__name__ for change in changes]


# ---------------------------------------------------------------------- the steps


def test_a_host_whose_sites_want_none_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, PLAIN)

    assert [] == host.after(*database.STEPS)
    assert ["no site wants a database"] == host.notes


def test_a_mariadb_that_somebody_else_put_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, PLAIN, packages={"mariadb-server": "1"})

    assert [] == host.after(*database.STEPS)


def test_what_shuts_it_in_is_there_before_its_first_start(host: Recorded) -> None:
    changes = host.after(*database.STEPS)

    order = [str(getattr(change, "path", "")) or type(change).__name__ for change in changes]
    assert order.index(CONFIG) < order.index(database.UNIT) < order.index("Install") < order.index("Load")
    doing = [kind for kind in kinds(changes) if kind in ("Install", "Load", "Run")]
    assert ["Install", "Run", "Load", "Run", "Run"] == doing


def test_there_is_no_port_and_no_way_from_a_table_to_a_file(host: Recorded) -> None:
    files = contents(host.after(*database.STEPS))
    told = settings(files[CONFIG])

    assert {"skip-networking", "skip-name-resolve", "skip-symbolic-links"} <= told.keys()
    assert ("0", database.EMPTY, "utf8mb4") == (
        told["local-infile"],
        told["secure-file-priv"],
        told["character-set-server"],
    )
    assert "RestrictAddressFamilies=AF_UNIX\n" in files[database.UNIT]


@pytest.mark.parametrize(
    ("memory_mb", "buffer_mb"), [(64, 16), (480, 32), (960, 64), (1990, 128), (3915, 256), (4096, 512), (64_000, 4096)]
)
def test_it_takes_a_small_part_of_the_memory(host: Recorded, memory_mb: int, buffer_mb: int) -> None:
    host.facts.memory_mb = memory_mb

    assert f"{buffer_mb}M" == settings(contents(host.after(database.configure))[CONFIG])["innodb_buffer_pool_size"]


def test_the_operator_may_say_how_much(host: Recorded) -> None:
    text = contents(host.after(database.configure, buffer_mb=300))[CONFIG]

    assert "300M" == settings(text)["innodb_buffer_pool_size"]


def test_each_site_has_a_database_and_rights_in_it_alone(host: Recorded) -> None:
    files = contents(host.after(*database.STEPS))

    assert {f"{ROSTER}/shop-example-com.sql", f"{ROSTER}/static-test.sql"} == {
        path for path in files if path.startswith(ROSTER)
    }
    sql = files[f"{ROSTER}/shop-example-com.sql"]
    assert "CREATE DATABASE IF NOT EXISTS `shop-example-com` CHARACTER SET utf8mb4 " in sql
    assert "'shop-example-com'@'localhost' IDENTIFIED VIA unix_socket WITH MAX_USER_CONNECTIONS 14 " in sql
    grants = [line for line in sql.splitlines() if line.startswith("GRANT")]
    assert [f"GRANT {database.RIGHTS} ON `shop-example-com`.* TO 'shop-example-com'@'localhost';"] == grants
    assert "MAX_USER_CONNECTIONS 10 " in files[f"{ROSTER}/static-test.sql"]


def test_rights_are_those_of_an_application() -> None:
    rights = {right.strip() for right in database.RIGHTS.split(",")}

    assert {"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER"} <= rights
    assert set() == rights & {"ALL", "FILE", "SUPER", "PROCESS", "GRANT OPTION", "EVENT", "RELOAD", "CREATE USER"}


def test_a_host_that_has_them_is_left_alone(monkeypatch: pytest.MonkeyPatch, host: Recorded) -> None:
    host.after(*database.STEPS)

    assert [] == host.after(*database.STEPS)
    assert ["Run"] == kinds(host.after(database.create, again=True))


@pytest.mark.parametrize("now", [PLAIN, a_site("shop.example.com")], ids=["its file went", "database: false"])
def test_a_site_that_went_keeps_its_data_and_its_user_is_locked(monkeypatch: pytest.MonkeyPatch, now: object) -> None:
    files = {ROSTER: a_file(kind="d", mode=0o755), f"{ROSTER}/shop-example-com.sql": a_file()}
    host = Recorded(monkeypatch, now, files=files)  # type: ignore[arg-type]

    changes = host.after(database.create)

    assert [Rename, Run] == [type(change) for change in changes]
    assert f"{ROSTER}/shop-example-com.sql.gone" == changes[0].to  # type: ignore[union-attr]
    assert "ACCOUNT LOCK" in database.CREATE
    assert "DROP" not in database.CREATE


def test_a_site_that_came_back_is_let_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = f"{ROSTER}/shop-example-com.sql.gone"
    host = Recorded(monkeypatch, SHOP, files={ROSTER: a_file(kind="d", mode=0o755), gone: a_file()})

    changes = host.after(database.create)

    assert [gone] == [change.path for change in changes if isinstance(change, Remove)]
    assert "ACCOUNT UNLOCK" in contents(changes)[gone.removesuffix(".gone")]


def test_one_site_s_database_is_made_without_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """For site.apply: what the others' files say waits for the whole."""
    files = {ROSTER: a_file(kind="d", mode=0o755), f"{ROSTER}/gone-test.sql": a_file()}
    host = Recorded(monkeypatch, SHOP, STATIC, files=files)

    with host.about(SHOP):
        changes = host.after(database.create)

    assert [f"{ROSTER}/shop-example-com.sql"] == [*contents(changes)]
    assert "Rename" not in kinds(changes)


# ---------------------------------------------------------------------- for site.remove


def test_nothing_is_archived_or_dropped_where_there_is_no_database(host: Recorded) -> None:
    host.after()
    database.archive(host, PLAIN, "/root/x.sql.gz")
    database.drop(host, PLAIN)

    assert [] == host._pending


@pytest.mark.parametrize("suffix", ["", ".gone"])
def test_what_is_dropped_is_not_made_again_for_nobody(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    file = f"{ROSTER}/shop-example-com.sql{suffix}"
    host = Recorded(monkeypatch, SHOP, files={ROSTER: a_file(kind="d", mode=0o755), file: a_file()})
    host.after()

    database.archive(host, SHOP, "/var/backups/shop.sql.gz")
    database.drop(host, SHOP)

    assert [Run, Run, Remove, Run] == [type(change) for change in host._pending]
    archived, dropped, removed, told = host._pending
    assert ("shop-example-com", "/var/backups/shop.sql.gz") == archived.args  # type: ignore[union-attr]
    assert ("shop-example-com",) == dropped.args  # type: ignore[union-attr]
    assert file == removed.path  # type: ignore[union-attr]
    assert "databases" == told.name  # type: ignore[union-attr]


# ---------------------------------------------------------------------- on call

SAID = (
    "database\tshop-example-com\t1572864\t12\n"
    "database\tgone-test\t10\t1\n"
    "user\troot\t0\t0\n"
    "user\tshop-example-com\t14\t0\n"
    "user\tgone-test\t10\ttrue\n"
    "busy\troot\t1\n"
    "busy\tshop-example-com\t3\n"
    "a warning of the client\n"
)


def test_each_database_is_told_with_its_state() -> None:
    assert [
        Database("shop.example.com", "shop-example-com", 1572864, 12, 3, 14, "open"),
        Database("static.test", "static-test", 0, 0, 0, 0, "missing"),
        Database("", "gone-test", 10, 1, 0, 10, "locked"),
    ] == list(read_databases(SAID, (SHOP, STATIC, PLAIN)))


def test_a_database_whose_user_cannot_come_in_is_closed() -> None:
    assert ["closed"] == [one.state for one in read_databases("database\tshop-example-com\t1\t1", (SHOP,))]


def a_dump(path: Path, text: str = "CREATE TABLE t (n INT);\n-- Dump completed on 2025-11-21  7:00:00\n") -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.mark.parametrize("damage", ["missing", "a directory", "plain", "cut", "flipped", "half", "empty"])
def test_a_dump_that_is_not_whole_is_refused_before_anything_is_touched(
    host: Recorded, tmp_path: Path, damage: str
) -> None:
    path = a_dump(tmp_path / "dump.sql.gz")
    whole = path.read_bytes()
    spoilt = {
        "plain": b"CREATE TABLE t (n INT);\n-- Dump completed\n",
        "cut": whole[:-9],
        "flipped": whole[:30] + bytes([whole[30] ^ 4]) + whole[31:],
        "empty": b"",
    }
    if damage in spoilt:
        path.write_bytes(spoilt[damage])
    elif damage == "half":
        a_dump(path, "CREATE TABLE t (n INT);\n")
    path = {"missing": tmp_path / "none.sql.gz", "a directory": tmp_path}.get(damage, path)

    with pytest.raises(Refusal, match="--from") as refused:
        host.after(database.load, domain="shop.example.com", from_=str(path), yes=True)

    assert (2, []) == (refused.value.exit_code, host._pending)


def test_a_dump_is_loaded_beside_what_was_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = Recorded(monkeypatch, SHOP, files={f"{ROSTER}/shop-example-com.sql": a_file()}, clock=1_763_700_000)
    path = a_dump(tmp_path / "dump.sql.gz")

    (change,) = host.after(database.load, domain="shop.example.com", from_=str(path))

    kept = f"{database.KEPT}/shop-example-com.20251121-044000.sql.gz"
    assert ("shop-example-com", f"{kept}.in", kept, ROSTER) == change.args  # type: ignore[union-attr]
    assert [f"what it held before: {kept}"] == host.notes


def test_it_asks_first_and_without_a_terminal_it_refuses(host: Recorded, tmp_path: Path) -> None:
    host.dry = False

    with pytest.raises(Guarded, match=r"all that the database of shop.example.com on vps holds is replaced"):
        host.after(database.load, domain="shop.example.com", from_=str(a_dump(tmp_path / "dump.sql.gz")))


@pytest.mark.parametrize("task", [database.dump, database.load])
@pytest.mark.parametrize(
    ("domain", "why"), [("shop.example", r"shop\.example\.com"), ("example.com", "database: true")]
)
def test_a_site_that_is_not_there_or_has_none_is_refused(host: Recorded, task: object, domain: str, why: str) -> None:
    with pytest.raises(Refusal, match=why):
        host.after(task, domain=domain)


def test_a_dump_never_replaces_a_file_and_leaves_no_half_one(
    monkeypatch: pytest.MonkeyPatch, host: Recorded, tmp_path: Path
) -> None:
    there = a_dump(tmp_path / "there.sql.gz")
    for to in (there, "", tmp_path / "none" / "new.sql.gz"):
        with pytest.raises(Refusal, match="--to"):
            host.after(database.dump, domain="shop.example.com", to=str(to))

    def broken(_host: Host, _program: str, *_args: str, **streams: object) -> None:
        streams["sink"].write(b"half")  # type: ignore[attr-defined]
        raise StepFailed("the line broke", "")

    monkeypatch.setattr(Host, "stream", broken)
    with pytest.raises(StepFailed):
        host.after(database.dump, domain="shop.example.com", to=str(tmp_path / "new.sql.gz"))

    assert [there] == list(tmp_path.iterdir())


def test_install_and_load_are_debian_s(host: Recorded) -> None:
    changes = host.after(*database.STEPS)

    assert [("mariadb-server",)] == [change.names for change in changes if isinstance(change, Install)]
    assert ["mariadb.service"] == [change.unit for change in changes if isinstance(change, Load)]
