"""MariaDB: only where a site wants it; without a port, or for the app hosts alone; nothing is lost with a file."""

from __future__ import annotations

import gzip
import hashlib
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fabfile import database
from fabfile.database import CONFIG, ROSTER, accounts, dumping, handing, reading, restoring, tls
from fabfile.database.places import EMPTY, KEPT, SOCKET, shell
from fabfile.database.reading import Database, read_databases
from fabfile.engine import Guarded, Host, Problem, StepFailed
from fabfile.engine.certified import worn
from fabfile.engine.changes import AddUser, Change, Install, Load, Remove, Rename, Run
from fabfile.engine.facts import File
from fabfile.engine.filled import MARK
from fabfile.model import Fleet, Refusal, Site

from .recording import Recorded, a_file, contents
from .recording import site as a_site

SHOP = a_site("shop.example.com", database=True, php={"children": 7})
STATIC = a_site("static.test", database=True, php=False)
PLAIN = a_site()


STEPLESS = staticmethod(lambda _name: nullcontext())
"""Flows open their own steps; what they wish is what these tests look at."""

ADDRESSES = {"app1": "10.0.0.21", "app2": "10.0.0.22", "db1": "10.0.0.14", "edge1": "10.0.0.10"}
DIGEST = "*6BB4837EB74329105EE4568DDA7DC67ED2CA2AD9"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    monkeypatch.setattr(Recorded, "step", STEPLESS)
    return Recorded(monkeypatch, SHOP, STATIC, PLAIN)


def split(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    *sites: Site,
    cards: dict[str, dict[str, str]] | None = None,
    **known: Any,
) -> Recorded:
    """A host of a fleet with two app hosts and a database host; `cards` are those of the others that answer."""
    monkeypatch.setattr(Recorded, "step", STEPLESS)
    monkeypatch.setattr("fabfile.engine.cards.everywhere", lambda _fleet, names, *_: [(n, Problem(n)) for n in names])
    host = Recorded(monkeypatch, **known)
    roles = {"app1": ("app",), "app2": ("app",), "db1": ("database",), "edge1": ("edge",)}
    hosts = {each: {"address": ADDRESSES[each], "roles": roles[each]} for each in roles}
    host.name, host.fleet = name, Fleet.model_validate({"hosts": hosts}).with_sites(sites or (SHOP, PLAIN))
    host.sites = host.fleet.sites_for(name)
    host.cards.update(cards or {})
    return host


def settings(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and line[0] not in "#[;"]
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
    assert ("0", EMPTY, "utf8mb4") == (
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
    assert [f"GRANT {accounts.RIGHTS} ON `shop-example-com`.* TO 'shop-example-com'@'localhost';"] == grants
    assert "MAX_USER_CONNECTIONS 10 " in files[f"{ROSTER}/static-test.sql"]


def test_rights_are_those_of_an_application() -> None:
    rights = {right.strip() for right in accounts.RIGHTS.split(",")}

    assert {"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER"} <= rights
    assert set() == rights & {"ALL", "FILE", "SUPER", "PROCESS", "GRANT OPTION", "EVENT", "RELOAD", "CREATE USER"}


def test_a_host_that_has_them_is_left_alone(monkeypatch: pytest.MonkeyPatch, host: Recorded) -> None:
    host.after(*database.STEPS)

    assert [] == host.after(*database.STEPS)
    assert ["Run"] == kinds(host.after(accounts.create))


@pytest.mark.parametrize("now", [PLAIN, a_site("shop.example.com")], ids=["its file went", "database: false"])
def test_a_site_that_went_keeps_its_data_and_its_user_is_locked(monkeypatch: pytest.MonkeyPatch, now: object) -> None:
    files = {ROSTER: a_file(kind="d", mode=0o755), f"{ROSTER}/shop-example-com.sql": a_file()}
    host = Recorded(monkeypatch, now, files=files)  # type: ignore[arg-type]

    changes = host.after(database.schemas)

    assert [Rename, Run] == [type(change) for change in changes]
    assert f"{ROSTER}/shop-example-com.sql.gone" == changes[0].to  # type: ignore[union-attr]
    assert "ACCOUNT LOCK" in shell("create")
    assert "DROP" not in shell("create")


def test_a_site_that_came_back_is_let_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = f"{ROSTER}/shop-example-com.sql.gone"
    host = Recorded(monkeypatch, SHOP, files={ROSTER: a_file(kind="d", mode=0o755), gone: a_file()})

    changes = host.after(database.schemas)

    assert [gone] == [change.path for change in changes if isinstance(change, Remove)]
    assert "ACCOUNT UNLOCK" in contents(changes)[gone.removesuffix(".gone")]


def test_one_site_s_database_is_made_without_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """For site.apply: what the others' files say waits for the whole."""
    files = {ROSTER: a_file(kind="d", mode=0o755), f"{ROSTER}/gone-test.sql": a_file()}
    host = Recorded(monkeypatch, SHOP, STATIC, files=files)

    with host.about(SHOP):
        changes = host.after(database.schemas)

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


def test_each_account_is_told_with_where_it_comes_from() -> None:
    said = (
        "user\tshop-example-com\t10.0.0.21\tmysql_native_password\t1\ttrue\t14\tshop-example-com\n"
        "user\troot\tlocalhost\tunix_socket\t0\t0\t0\t\n"
        "busy\tshop-example-com\t10.0.0.21\t3\n"
        "busy\troot\tlocalhost\t1\n"
        "a warning of the client\n"
    )
    fleet = Fleet.model_validate({"hosts": {"app1": {"address": "10.0.0.21"}}})

    shop, root = reading.read_users(said, fleet)

    assert ("10.0.0.21", "app1", "password", True, True) == (shop.source, shop.host, shop.by, shop.tls, shop.locked)
    assert (3, 14, ("shop-example-com",)) == (shop.connections, shop.most, shop.databases)
    assert ("socket", "", "socket", False, 1, ()) == (
        root.source,
        root.host,
        root.by,
        root.locked,
        root.connections,
        root.databases,
    )


# ---------------------------------------------------------------------- on a host of its own


def test_it_listens_at_its_own_address_and_takes_no_password_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    files = contents(split(monkeypatch, "db1", memory_mb=4000).after(database.configure))
    told = settings(files[CONFIG])

    assert ("10.0.0.14", "3306", "ON") == (told["bind-address"], told["port"], told["require-secure-transport"])
    assert {"skip-name-resolve"} <= told.keys()
    assert "skip-networking" not in told
    assert (tls.KEY, tls.CERTIFICATE) == (told["ssl-key"], told["ssl-cert"])
    assert "1024M" == told["innodb_buffer_pool_size"]
    assert "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n" in files[database.UNIT]


def test_its_key_is_there_before_it_opens_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = split(monkeypatch, "db1").after(*database.SERVER)

    order = [f"{type(change).__name__} {getattr(change, 'label', getattr(change, 'names', ''))}" for change in changes]
    made = next(place for place, what in enumerate(order) if what.startswith("Run make a key"))
    assert made < order.index("Install ('mariadb-server',)")
    assert "mysql" in [change.name for change in changes[:made] if isinstance(change, AddUser)]


def test_each_app_host_has_a_user_of_its_own_by_the_digest_on_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = {"app1": {"database-shop-example-com": DIGEST}, "app2": {}}
    host = split(monkeypatch, "db1", cards=cards)

    files = contents(host.after(database.schemas))

    assert {f"{ROSTER}/shop-example-com.sql", f"{ROSTER}/shop-example-com@10.0.0.21.sql"} == files.keys()
    sql = files[f"{ROSTER}/shop-example-com@10.0.0.21.sql"].splitlines()[2:]
    user = f"'shop-example-com'@'10.0.0.21' IDENTIFIED VIA mysql_native_password USING '{DIGEST}' REQUIRE SSL"
    assert f"CREATE USER IF NOT EXISTS {user};" == sql[0]
    assert f"ALTER USER {user} WITH MAX_USER_CONNECTIONS 14 ACCOUNT UNLOCK;" == sql[1]
    assert f"GRANT {accounts.RIGHTS} ON `shop-example-com`.* TO 'shop-example-com'@'10.0.0.21';" == sql[2]
    assert any("app2 has made no password for shop.example.com yet" in note for note in host.notes)


@pytest.mark.parametrize("card", ["", "*6BB4", f"{DIGEST}' OR '1", f"{DIGEST}\n", DIGEST.lower()])
def test_a_card_that_says_anything_else_enters_no_sql(monkeypatch: pytest.MonkeyPatch, card: str) -> None:
    host = split(monkeypatch, "db1", cards={"app1": {"database-shop-example-com": card}, "app2": {}})

    assert {f"{ROSTER}/shop-example-com.sql"} == contents(host.after(database.schemas)).keys()


def test_a_host_that_does_not_answer_keeps_its_user_and_one_that_left_is_locked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = [f"{ROSTER}/shop-example-com@{address}.sql" for address in ("10.0.0.21", "10.0.0.99")]
    files = {ROSTER: a_file(kind="d", mode=0o755), **dict.fromkeys(there, a_file(mode=0o600))}
    host = split(monkeypatch, "db1", files=files)

    changes = host.after(database.schemas)

    assert [there[1]] == [change.path for change in changes if isinstance(change, Rename)]
    assert [f"{ROSTER}/shop-example-com.sql"] == [*contents(changes)]
    assert ["app1: what it has here stays as it is", "app2: what it has here stays as it is"] == host.notes


def a_certificate(address: str, days: int) -> str:
    key, now = generate_private_key(SECP256R1()), datetime(2026, 1, 1, tzinfo=UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "database of db1")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(days))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
    return made.add_extension(names, False).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        (a_certificate("10.0.0.14", 3650), ""),
        (a_certificate("10.0.0.14", 401), ""),
        (a_certificate("10.0.0.14", 399), "it holds for 399 days more"),
        (a_certificate("10.0.0.15", 3650), "it is not for 10.0.0.14"),
        ("-----BEGIN CERTIFICATE-----", "it cannot be read"),
    ],
)
def test_a_certificate_is_made_anew_before_it_ends_and_for_another_address(pem: str, why: str) -> None:
    assert why == worn(pem, "10.0.0.14", int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()))


def test_an_app_host_tells_the_site_where_its_database_is(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = f"{handing.PASSWORDS}/shop-example-com"
    host = split(monkeypatch, "app1", cards={"db1": {tls.NAME: "PEM"}}, files={secret: a_file(mode=0o600)})

    changes = host.after(*database.STEPS)

    assert ["the databases are on db1"] == host.notes
    assert {"/etc/gatehouse/sites/shop-example-com/database.pem"} == contents(changes).keys()
    [fill] = [change for change in changes if isinstance(change, Run)]
    path, form, source, *_ = fill.args
    assert ("/etc/gatehouse/sites/shop-example-com/database.ini", secret) == (path, source)
    assert [
        'host = "10.0.0.14"',
        "port = 3306",
        'name = "shop-example-com"',
        'user = "shop-example-com"',
        f'password = "{MARK}"',
        'ca = "/etc/gatehouse/sites/shop-example-com/database.pem"',
    ] == [line for line in form.splitlines() if not line.startswith(";")]


def test_what_was_filled_in_is_left_alone_until_something_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    ini, secret = "/etc/gatehouse/sites/shop-example-com/database.ini", f"{handing.PASSWORDS}/shop-example-com"
    form = handing.form(SHOP, "10.0.0.14")
    loaded = {"filled" + ini.replace("/", "+"): f"{hashlib.sha256(form.encode()).hexdigest()} digest"}
    filled = a_file("digest", mode=0o640, owner="shop-example-com")

    def runs(file: File = filled, loaded: dict[str, str] = loaded, made: File | None = None) -> int:
        files = {secret: made or a_file(mode=0o600), ini: file}
        host = split(monkeypatch, "app1", cards={"db1": {tls.NAME: "PEM"}}, files=files, loaded=loaded)
        return [type(change) for change in host.after(database.hand)].count(Run)

    assert 0 == runs()
    assert 1 == runs(a_file("digest", mode=0o644, group="shop-example-com"))
    assert 1 == runs(a_file("by hand", mode=0o640, owner="shop-example-com"))
    assert 1 == runs(loaded={})
    assert 1 == runs(made=a_file(mode=0o600)._replace(mtime="2.0"))


def test_an_app_host_waits_for_what_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {f"{handing.PASSWORDS}/shop-example-com": a_file(mode=0o600)}
    bare = split(monkeypatch, "app1", cards={"db1": {}}, files=dict(secret))
    assert {"MakeDirectory"} == {*kinds(bare.after(database.hand))}
    assert ["db1 has no certificate yet: the sites are told of their databases once db1 is bootstrapped"] == bare.notes

    silent = split(monkeypatch, "app1", files=dict(secret))
    assert {"MakeDirectory"} == {*kinds(silent.after(database.hand))}
    assert ["db1: what it has here stays as it is"] == silent.notes


def test_a_site_with_its_database_beside_it_needs_no_password(host: Recorded) -> None:
    told = settings(contents(host.after(database.hand))["/etc/gatehouse/sites/shop-example-com/database.ini"])

    assert {"host", "socket", "name", "user", "password"} == told.keys()
    assert ('""', f'"{SOCKET}"') == (told["password"], told["socket"])


@pytest.mark.parametrize(
    ("task", "typed"),
    [
        (dumping.dump, "db.dump shop.example.com"),
        (restoring.restore, "db.restore shop.example.com"),
        (restoring.drill, "db.drill shop.example.com"),
        (accounts.create, "db.create shop.example.com"),
    ],
)
def test_at_an_app_host_it_says_where_to_type_it(monkeypatch: pytest.MonkeyPatch, task: object, typed: str) -> None:
    with pytest.raises(Refusal, match=f"fab -H db1 {typed}"):
        split(monkeypatch, "app1").after(task, domain="shop.example.com")


# ---------------------------------------------------------------------- dumps


def a_dump(path: Path, text: str = "CREATE TABLE t (n INT);\n-- Dump completed on 2025-11-21  7:00:00\n") -> Path:
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.mark.parametrize("damage", ["missing", "a directory", "plain", "cut", "flipped", "half", "empty", "sum"])
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
    elif damage == "sum":
        dumping.checksum(path).write_text(f"{'0' * 64}  dump.sql.gz\n")
    path = {"missing": tmp_path / "none.sql.gz", "a directory": tmp_path}.get(damage, path)

    with pytest.raises(Refusal, match="--from") as refused:
        host.after(restoring.restore, domain="shop.example.com", from_=str(path), yes=True)

    assert (2, []) == (refused.value.exit_code, host._pending)


def test_a_dump_that_is_kept_is_judged_on_its_host_first(host: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = "shop-example-com.20261121-080000.sql.gz"
    names = f"{newest}\nshop-example-com.20261120-080000.sql.gz\nshop-2.20261122-080000.sql.gz\nnotes.sql.gz\n"
    answer = "its checksum is another one: it was cut or changed"
    monkeypatch.setattr(Host, "ask", lambda _self, text, *_args: names if text == dumping.LIST else answer)

    for task, options in ((restoring.restore, {"kept": "newest", "yes": True}), (restoring.drill, {})):
        with pytest.raises(Refusal, match=f"{newest} on vps: {answer}"):
            host.after(task, domain="shop.example.com", **options)
        assert [] == host._pending
    with pytest.raises(Refusal, match=f"it has: {newest}, "):
        host.after(restoring.restore, domain="shop.example.com", kept="another", yes=True)


def test_a_dump_takes_the_place_of_what_was_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Recorded, "step", STEPLESS)
    host = Recorded(monkeypatch, SHOP, files={f"{ROSTER}/shop-example-com.sql": a_file()}, clock=1_763_700_000)
    path = a_dump(tmp_path / "dump.sql.gz")

    restorer, change = host.after(restoring.restore, domain="shop.example.com", from_=str(path))

    assert isinstance(restorer, AddUser)
    assert isinstance(change, Run)
    kept = f"{KEPT}/shop-example-com.20251121-044000.sql.gz"
    assert ("shop-example-com", f"{kept}.in", kept, accounts.RIGHTS) == change.args[:4]
    assert [f"what it held before: {kept}"] == host.notes


@pytest.mark.parametrize("options", [{}, {"from_": "a", "kept": "b"}])
def test_it_must_be_told_which_dump(host: Recorded, options: dict[str, str]) -> None:
    with pytest.raises(Refusal, match="--from FILE, or --kept NAME"):
        host.after(restoring.restore, domain="shop.example.com", **options)


def test_it_asks_first_and_without_a_terminal_it_refuses(host: Recorded, tmp_path: Path) -> None:
    host.dry = False
    path = a_dump(tmp_path / "dump.sql.gz")

    with pytest.raises(Guarded, match=r"all that the database of shop.example.com on vps holds is replaced"):
        host.after(restoring.restore, domain="shop.example.com", from_=str(path))


@pytest.mark.parametrize("task", [dumping.dump, restoring.restore, restoring.drill, accounts.create])
@pytest.mark.parametrize(
    ("domain", "why"), [("shop.example", r"shop\.example\.com"), ("example.com", "database: true")]
)
def test_a_site_that_is_not_there_or_has_none_is_refused(host: Recorded, task: object, domain: str, why: str) -> None:
    with pytest.raises(Refusal, match=why):
        host.after(task, domain=domain)


def test_a_dump_here_has_its_checksum_beside_it(
    host: Recorded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Host, "stream", lambda _self, *_args, sink: sink.write(b"all of it"))

    host.after(dumping.dump, domain="shop.example.com", to=str(tmp_path / "new.sql.gz"))

    assert {"new.sql.gz", "new.sql.gz.sha256"} == {path.name for path in tmp_path.iterdir()}
    assert {0o600} == {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    digest = hashlib.sha256(b"all of it").hexdigest()
    assert f"{digest}  new.sql.gz\n" == (tmp_path / "new.sql.gz.sha256").read_text()


def test_a_dump_never_replaces_a_file_and_leaves_no_half_one(
    monkeypatch: pytest.MonkeyPatch, host: Recorded, tmp_path: Path
) -> None:
    there = a_dump(tmp_path / "there.sql.gz")
    for to in (there, tmp_path / "none" / "new.sql.gz"):
        with pytest.raises(Refusal, match="--to"):
            host.after(dumping.dump, domain="shop.example.com", to=str(to))
    with pytest.raises(Refusal, match="--to wants one site"):
        host.after(dumping.dump, to=str(tmp_path / "new.sql.gz"))

    def broken(_host: Host, _program: str, *_args: str, **streams: object) -> None:
        streams["sink"].write(b"half")  # type: ignore[attr-defined]
        raise StepFailed("the line broke", "")

    monkeypatch.setattr(Host, "stream", broken)
    with pytest.raises(StepFailed):
        host.after(dumping.dump, domain="shop.example.com", to=str(tmp_path / "new.sql.gz"))

    assert [there] == list(tmp_path.iterdir())


def test_without_a_name_every_site_with_a_database_is_dumped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorded, "step", STEPLESS)
    files = {f"{ROSTER}/{owner}.sql": a_file() for owner in ("shop-example-com", "static-test")}
    changes = Recorded(monkeypatch, SHOP, STATIC, PLAIN, files=files).after(dumping.dump, keep=3, days=30)

    assert [("shop-example-com", "3", "30"), ("static-test", "3", "30")] == [
        (change.args[0], *change.args[3:]) for change in changes if isinstance(change, Run)
    ]


def test_install_and_load_are_debian_s(host: Recorded) -> None:
    changes = host.after(*database.STEPS)

    assert [("mariadb-server",)] == [change.names for change in changes if isinstance(change, Install)]
    assert ["mariadb.service"] == [change.unit for change in changes if isinstance(change, Load)]
