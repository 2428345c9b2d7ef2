"""The cache: sessions that no other site can read, on a host by itself and on one for all; the app hosts' way to it."""

from __future__ import annotations

import hashlib
import re
import stat
import subprocess
from pathlib import Path

import pytest

from fabfile import cache, php, site
from fabfile.cache import places, redis
from fabfile.engine.changes import Install, PutFile, Run
from fabfile.engine.facts import File

from .recording import Recorded, a_file, contents
from .recording import site as a_site

EXAMPLE, SHOP = a_site(), a_site("shop.example.com", php={"children": 3})
STATIC = a_site("static.co.uk", php=False)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return Recorded(monkeypatch, EXAMPLE, SHOP, STATIC)


def with_secrets(*names: str) -> dict[str, File]:
    """The files of a host on which these have their session passwords."""
    files = {f"{redis.SECRETS}/{name}": a_file(hashlib.sha256(name.encode()).hexdigest(), 0o600) for name in names}
    return files | {f"{places.INCLUDES}/{name}.conf": a_file() for name in names if name != redis.KEEPER}


# ---------------------------------------------------------------------- a host by itself

def test_each_site_reaches_its_own_sessions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, EXAMPLE, SHOP, files=with_secrets(redis.KEEPER, "example-com", "shop-example-com"))

    roster = contents(host.after(redis.sessions))[redis.ROSTER].splitlines()

    assert "user default off resetpass resetkeys resetchannels -@all" == roster[0]
    users = {line.split()[1]: line.split()[2:] for line in roster[1:]}
    assert {"gatehouse", "example-com", "shop-example-com"} == users.keys()
    for name, rights in users.items():
        assert f"#{hashlib.sha256(name.encode()).hexdigest()}" in rights
        assert [f"~{name}:*"] * (name != redis.KEEPER) == [right for right in rights if right[0] in "~%"]
        assert [] == [right for right in rights if right in ("nopass", "allkeys", "allcommands", "allchannels")]
        assert [] == [right for right in rights if right.startswith("+@")]
        assert rights.index("-@all") < min(rights.index(right) for right in rights if right[0] == "+")


@pytest.mark.parametrize(
    "command", ["acl", "config", "debug", "eval", "flushall", "keys", "module", "monitor", "randomkey", "save", "scan"]
)
def test_a_site_may_not_give_the_store_orders(command: str) -> None:
    assert command not in re.findall(r"\+([a-z|]+)", redis.COMMANDS)


def test_the_store_has_no_port_and_no_disk(host: Recorded) -> None:
    conf = contents(host.after(redis.sessions))[redis.REDIS].splitlines()

    assert {"port 0", f"unixsocket {redis.SOCKET}", 'save ""', "appendonly no", "maxmemory 64mb"} <= set(conf)
    assert [] == [line for line in conf if line.startswith(("bind", "user ", "requirepass"))]


def test_the_store_is_set_up_before_its_package_starts_it(host: Recorded) -> None:
    changes = host.after(redis.sessions)

    installed = next(index for index, change in enumerate(changes) if isinstance(change, Install))
    assert {redis.REDIS, redis.ROSTER, redis.UNIT} <= contents(changes[:installed]).keys()


def test_passwords_are_made_on_the_host_for_those_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, EXAMPLE, SHOP, STATIC, files=with_secrets(redis.KEEPER, "example-com"))

    runs = [change for change in host.after(redis.sessions) if isinstance(change, Run)]

    assert ["shop-example-com"] == [*runs[0].args[4:]]
    assert 1 == len(runs)


def test_with_all_passwords_made_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, EXAMPLE, files=with_secrets(redis.KEEPER, "example-com"))

    assert [] == [change for change in host.after(redis.sessions) if isinstance(change, Run)]


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """What the script leaves on a host for the sites a-test and b-test, after a second run."""
    secrets, includes = tmp_path / "sessions", tmp_path / "php"
    for directory in (secrets, includes):
        directory.mkdir()
    before: dict[Path, bytes] = {}
    for _ in range(2):
        script = "set -eu\nfail() { exit 9; }\n" + redis.MAKE_SECRETS
        words = [str(secrets), str(includes), "/run/s.sock", redis.KEEPER, redis.KEEPER, "a-test", "b-test"]
        subprocess.run(["sh", "-c", script, "make", *words], check=True)
        now = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert before in ({}, now)
        before = now
    return secrets, includes


def test_a_password_is_random_and_for_root_alone(made: tuple[Path, Path]) -> None:
    secrets, includes = made
    passwords = {path.name: path.read_text() for path in secrets.iterdir()}

    assert {redis.KEEPER, "a-test", "b-test"} == passwords.keys()
    assert [] == [one for one in passwords.values() if not re.fullmatch("[0-9a-f]{64}", one)]
    assert 3 == len(set(passwords.values()))
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in (*secrets.iterdir(), *includes.iterdir())}


def test_a_pool_gets_its_own_password_and_prefix(made: tuple[Path, Path]) -> None:
    secrets, includes = made

    assert {"a-test.conf", "b-test.conf"} == {path.name for path in includes.iterdir()}
    password = (secrets / "a-test").read_text()
    assert (
        'php_admin_value[session.save_path] = "unix:///run/s.sock?auth[user]=a-test'
        f'&auth[pass]={password}&prefix=a-test:"\n'
    ) == (includes / "a-test.conf").read_text()


def test_no_password_leaves_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The roster is written from the digests of the files that hold the passwords, which the look brings."""
    host = Recorded(monkeypatch, EXAMPLE, files=with_secrets(redis.KEEPER, "example-com"))

    changes = host.after(*site.STEPS, *cache.STEPS, *php.STEPS)

    assert [] == [change for change in changes if isinstance(change, PutFile) and change.path.startswith(redis.SECRETS)]


def test_what_is_right_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, EXAMPLE, SHOP, files=with_secrets(redis.KEEPER, "example-com", "shop-example-com"))
    host.after(*cache.STEPS, *php.STEPS)

    assert [] == host.after(*cache.STEPS, *php.STEPS)
