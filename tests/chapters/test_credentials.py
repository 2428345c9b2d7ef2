"""Passwords for what other hosts do: made here, kept here; a card tells of each, and always of the one beside it."""

from __future__ import annotations

import hashlib
import re
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fabfile import credentials
from fabfile.engine.cards import CARD
from fabfile.engine.changes import Change, PutFile, Remove, Run
from fabfile.engine.facts import File, User
from fabfile.model import Fleet

from .recording import Recorded, a_file
from .recording import site as a_site

SHOP, BLOG, FLAT = a_site("shop.test", database=True), a_site("blog.test"), a_site("flat.test", php=False)
SPLIT = {
    "edge1": {"roles": ("edge",), "address": "10.0.0.10"},
    "vps": {"roles": ("app",), "address": "10.0.0.11"},
    "cache1": {"roles": ("cache",), "address": "10.0.0.12"},
    "db1": {"roles": ("database",), "address": "10.0.0.13"},
}


def app(
    monkeypatch: pytest.MonkeyPatch, *without: str, files: Mapping[str, File] | None = None, **known: Any
) -> Recorded:
    """An app host with three sites and these files, in a fleet where these hosts are missing."""
    host = Recorded(monkeypatch, SHOP, BLOG, FLAT, files={**(files or {})}, **known)
    hosts = {name: entry for name, entry in SPLIT.items() if name not in without}
    host.fleet = Fleet.model_validate({"hosts": hosts}).with_sites(host.sites)
    return host


def made(*names: str, secret: str = "5.0", card: str = "5.1") -> dict[str, File]:
    """The files of a host that has these passwords, such as `cache/shop-test`."""
    files = {}
    for name in names:
        files[f"{credentials.SECRETS}/{name}"] = File("f", 0o600, "root", "root", 64, secret, "", "a" * 64)
        files[f"{CARD}/{name.replace('/', '-')}"] = File("f", 0o644, "root", "root", 65, card)
    return files


ALL = made("database/shop-test", "cache/shop-test", "cache/blog-test")


def runs(changes: list[Change]) -> list[tuple[str, ...]]:
    """What is made: the need, and for whom."""
    return [change.args[2:] for change in changes if isinstance(change, Run)]


def removed(changes: list[Change]) -> set[str]:
    return {change.path for change in changes if isinstance(change, Remove)}


def test_a_host_by_itself_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [] == Recorded(monkeypatch, SHOP).after(credentials.cards)


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ((), [("database", "shop-test"), ("cache", "shop-test", "blog-test")]),
        (("cache1",), [("database", "shop-test")]),
        (("db1",), [("cache", "shop-test", "blog-test")]),
        (("cache1", "db1"), []),
    ],
)
def test_a_site_gets_one_for_what_it_uses_and_another_host_does(
    monkeypatch: pytest.MonkeyPatch, without: tuple[str, ...], expected: list[tuple[str, ...]]
) -> None:
    assert expected == runs(app(monkeypatch, *without).after(credentials.cards))


def test_who_makes_no_pages_makes_no_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    host = app(monkeypatch)
    host.name = "cache1"

    assert [] == host.after(credentials.cards)


def test_what_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = app(monkeypatch, files=ALL).after(credentials.cards)

    assert ([], set()) == (runs(changes), removed(changes))


@pytest.mark.parametrize(
    "file",
    [
        {f"{credentials.SECRETS}/cache/shop-test": a_file("x", 0o644)},
        {f"{credentials.SECRETS}/cache/shop-test": a_file("x", 0o600, size=3)},
        {f"{credentials.SECRETS}/cache/shop-test": a_file("x", 0o600, owner="www-data")},
        {f"{CARD}/cache-shop-test": a_file("x", 0o600)},
        made("cache/shop-test", secret="5.2", card="5.1"),
    ],
    ids=["seen by others", "torn", "not root's", "card unreadable", "card older"],
)
def test_what_is_not_whole_is_made_anew(monkeypatch: pytest.MonkeyPatch, file: dict[str, File]) -> None:
    assert [("cache", "shop-test")] == runs(app(monkeypatch, files=ALL | file).after(credentials.cards))


def test_a_site_that_went_takes_its_own_along_once_its_user_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    files = ALL | made("cache/gone-test", "database/gone-test") | {f"{CARD}/database.pem": a_file()}
    user = {"gone-test": User("gone-test", 990, 990, "/var/www/gone.test", "/bin/sh")}

    assert set() == removed(app(monkeypatch, files=files, users=user).after(credentials.cards))
    assert {path for path in files if "gone" in path} == removed(app(monkeypatch, files=files).after(credentials.cards))


def test_all_goes_with_the_other_host(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = {f"{credentials.SECRETS}/cache": a_file(kind="d", mode=0o700)}

    assert {path for path in ALL if "cache" in path} == removed(
        app(monkeypatch, "cache1", files=ALL | directory).after(credentials.cards)
    )


def test_no_password_and_no_digest_passes_through_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [] == [change for change in app(monkeypatch).after(credentials.cards) if isinstance(change, PutFile)]


# ---------------------------------------------------------------------- the program on the host


def make(where: Path, need: str, *owners: str, check: bool = True, before: str = "") -> None:
    for place in ("secrets/database", "secrets/cache", "card"):
        (where / place).mkdir(parents=True, exist_ok=True)
    script = f"set -eu\nfail() {{ exit 9; }}\n{before}\n{credentials.MAKE}"
    subprocess.run(
        ["sh", "-c", script, "make", f"{where}/secrets", f"{where}/card", need, *owners], check=check, timeout=60
    )


def native(password: bytes) -> str:
    """MariaDB's mysql_native_password, by hashlib."""
    return f"*{hashlib.sha1(hashlib.sha1(password).digest()).hexdigest().upper()}"


def fits(where: Path, need: str, owner: str) -> bool:
    password = (where / "secrets" / need / owner).read_bytes()
    digest = native(password) if need == "database" else hashlib.sha256(password).hexdigest()
    return f"{digest}\n" == (where / "card" / f"{need}-{owner}").read_text()


@pytest.mark.parametrize("need", credentials.NEEDS)
def test_a_card_has_its_password_s_digest(tmp_path: Path, need: str) -> None:
    make(tmp_path, need, "a-test", "b-test")

    passwords = [(tmp_path / "secrets" / need / owner).read_text() for owner in ("a-test", "b-test")]
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in passwords)
    assert passwords[0] != passwords[1]
    assert fits(tmp_path, need, "a-test")
    assert fits(tmp_path, need, "b-test")
    modes = {path.parent.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert {need: 0o600, "card": 0o644} == modes


def test_a_native_digest_is_mariadb_s(tmp_path: Path) -> None:
    """PASSWORD('secret') by MariaDB's own account."""
    assert "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7" == native(b"secret")


def test_a_good_password_stays_and_its_card_comes_back(tmp_path: Path) -> None:
    make(tmp_path, "cache", "a-test")
    password = (tmp_path / "secrets/cache/a-test").read_text()
    (tmp_path / "card/cache-a-test").unlink()

    make(tmp_path, "cache", "a-test")

    assert password == (tmp_path / "secrets/cache/a-test").read_text()
    assert fits(tmp_path, "cache", "a-test")


@pytest.mark.parametrize("word", ["rm", "od", "tr", "sync", "mv", "cut", "sha1sum", "chmod", "stat", "basenc"])
@pytest.mark.parametrize("later", [0, 1, 2])
def test_killed_anywhere_it_never_leaves_a_card_of_another_password(tmp_path: Path, word: str, later: int) -> None:
    """The shell dies in place of its nth use of a tool; what is there then must be right, or be made anew."""
    make(tmp_path, "database", "a-test")
    (tmp_path / "secrets/database/a-test").chmod(0o644)
    bomb = f'left={later}\n{word}() {{ [ "$left" != 0 ] || kill -9 $$; left=$((left - 1)); command {word} "$@"; }}'

    make(tmp_path, "database", "a-test", check=False, before=bomb)

    card = tmp_path / "card/database-a-test"
    assert not card.exists() or fits(tmp_path, "database", "a-test")
    assert {"database-a-test"} >= {path.name for path in (tmp_path / "card").iterdir()}
    make(tmp_path, "database", "a-test")
    assert fits(tmp_path, "database", "a-test")
