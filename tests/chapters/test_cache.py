"""The cache: sessions that no other site can read, on a host by itself and on one for all; the app hosts' way to it."""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fabfile import cache, php, site
from fabfile.cache import handing, places, redis
from fabfile.cache.memcached import share
from fabfile.engine import Problem, StepFailed
from fabfile.engine.changes import Install, Load, PutFile, PutLink, Remove, Run
from fabfile.engine.facts import File, User
from fabfile.firewall.rules import apart
from fabfile.model import Fleet
from fabfile.model.ways import cache_port

from .recording import Recorded, a_file, contents, make_passwords
from .recording import site as a_site

EXAMPLE, SHOP = a_site(), a_site("shop.example.com", php={"children": 3})
STATIC = a_site("static.co.uk", php=False)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return Recorded(monkeypatch, EXAMPLE, SHOP, STATIC)


def with_secrets(*names: str) -> dict[str, File]:
    """The files of a host on which these have their session passwords."""
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    copies = {
        handing.PASSWORD.format(owner=name): a_file(digest, 0o400, owner=name)
        for name, digest in digests.items()
        if name != redis.KEEPER
    }
    return {f"{redis.SECRETS}/{name}": a_file(digest, 0o600) for name, digest in digests.items()} | copies


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

    assert ["shop-example-com"] == [*runs[0].args[3:]]
    assert 1 == len(runs)


@pytest.mark.parametrize(
    "copy",
    [
        a_file("0" * 64, 0o400, owner="example-com"),
        a_file(hashlib.sha256(b"example-com").hexdigest(), 0o644, owner="example-com"),
        a_file(hashlib.sha256(b"example-com").hexdigest(), 0o400, owner="root"),
        None,
    ],
)
def test_a_copy_that_is_not_the_password_or_not_the_site_s_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, copy: File | None
) -> None:
    files = with_secrets(redis.KEEPER, "example-com")
    files.pop(handing.PASSWORD.format(owner="example-com"))
    there = {handing.PASSWORD.format(owner="example-com"): copy} if copy else {}
    host = Recorded(monkeypatch, EXAMPLE, files=files | there)

    runs = [change for change in host.after(redis.sessions) if isinstance(change, Run)]

    assert [["example-com"]] == [[*run.args[3:]] for run in runs]


def test_with_all_passwords_made_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, EXAMPLE, files=with_secrets(redis.KEEPER, "example-com"))

    assert [] == [change for change in host.after(redis.sessions) if isinstance(change, Run)]


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """What the script leaves on a host for the sites a-test and b-test, after a second run."""
    secrets, handed = tmp_path / "sessions", tmp_path / "sites"
    secrets.mkdir()
    for name in ("a-test", "b-test"):
        (handed / name).mkdir(parents=True)
    before: dict[Path, bytes] = {}
    for _ in range(2):
        make_passwords(secrets, handed, redis.KEEPER, "a-test", "b-test")
        now = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert before in ({}, now)
        before = now
    return secrets, handed


def test_a_password_is_random_and_for_root_alone(made: tuple[Path, Path]) -> None:
    secrets, _ = made
    passwords = {path.name: path.read_text() for path in secrets.iterdir()}

    assert {redis.KEEPER, "a-test", "b-test"} == passwords.keys()
    assert [] == [one for one in passwords.values() if not re.fullmatch("[0-9a-f]{64}", one)]
    assert 3 == len(set(passwords.values()))
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()}


def test_a_site_gets_a_copy_of_its_own_password(made: tuple[Path, Path]) -> None:
    secrets, handed = made
    copies = {path.parent.name: path for path in handed.rglob("*") if path.is_file()}

    assert {"a-test", "b-test"} == copies.keys()
    for name, copy in copies.items():
        assert ("sessions.password", 0o400) == (copy.name, stat.S_IMODE(copy.stat().st_mode))
        assert (secrets / name).read_text() == copy.read_text()


def test_no_secret_is_in_what_a_pool_includes_or_in_the_handler(host: Recorded) -> None:
    """PHP writes session.save_path into the site's log when the store is away; here it is empty."""
    written = contents(host.after(redis.sessions))
    include, handler = written[places.include("example-com")], written[handing.HANDLER.format(owner="example-com")]

    assert f'php_admin_value[auto_prepend_file] = "{handing.HANDLER.format(owner="example-com")}"' in include
    assert "save_path" not in include
    assert f"file_get_contents('{handing.PASSWORD.format(owner='example-com')}')" in handler
    assert "'example-com:session:'" in handler


def test_no_password_leaves_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The roster is written from the digests of the files that hold the passwords, which the look brings."""
    host = Recorded(monkeypatch, EXAMPLE, files=with_secrets(redis.KEEPER, "example-com"))

    changes = host.after(*site.STEPS, *cache.STEPS, *php.STEPS)

    assert [] == [change for change in changes if isinstance(change, PutFile) and change.path.startswith(redis.SECRETS)]


def test_what_is_right_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, EXAMPLE, SHOP, files=with_secrets(redis.KEEPER, "example-com", "shop-example-com"))
    host.after(*cache.STEPS, *php.STEPS)

    assert [] == host.after(*cache.STEPS, *php.STEPS)


# ---------------------------------------------------------------------- a cache host, and the app hosts' way to it

CARD = {"cache-example-com": "a" * 64, "cache-shop-example-com": "b" * 64}
PEM = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----"


def split(
    monkeypatch: pytest.MonkeyPatch, name: str, server: str = "redis", files: Mapping[str, File] | None = None
) -> Recorded:
    """One host of a fleet with two app hosts and a cache, all cards known."""
    hosts = {
        "edge1": {"roles": ("edge",), "address": "10.0.0.10"},
        "app1": {"roles": ("app",), "address": "10.0.0.11"},
        "app2": {"roles": ("app",), "address": "10.0.0.12"},
        "cache1": {"roles": ("cache",), "address": "10.0.0.13"},
    }
    host = Recorded(monkeypatch, EXAMPLE, SHOP, STATIC, files={**(files or {})})
    host.name = name
    fleet = Fleet.model_validate({"hosts": hosts, "cache": {"server": server, "memory_mb": 100}})
    host.fleet = fleet.with_sites(host.sites)
    host.cards = {"app1": CARD, "app2": {name: text[::-1] for name, text in CARD.items()}, "cache1": {"cache.pem": PEM}}
    return host


def keeper(monkeypatch: pytest.MonkeyPatch, **cards: Any) -> Recorded:
    """The Redis of a fleet, whose app hosts say this."""
    host = split(monkeypatch, "cache1", files=with_secrets(redis.KEEPER))
    host.cards |= cards
    return host


def roster(host: Recorded) -> dict[str, list[str]]:
    """The roster's lines, by their users."""
    lines = contents(host.after(cache.server))[redis.ROSTER].splitlines()
    return {line.split()[1]: line.split()[2:] for line in lines}


def test_the_store_is_on_the_private_address_alone_and_over_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    conf = contents(keeper(monkeypatch).after(cache.server))[redis.REDIS].splitlines()

    assert {"port 0", "bind 10.0.0.13", "tls-port 6379", 'save ""', "appendonly no", "maxmemory 100mb"} <= set(conf)
    assert "unixsocketperm 700" in conf


def test_an_app_host_has_a_user_a_site_with_the_site_s_keys_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    users = roster(keeper(monkeypatch))

    members = {f"{owner}.{app}" for owner in ("example-com", "shop-example-com") for app in ("app1", "app2")}
    assert {"default", "gatehouse", *members} == users.keys()
    shop = users["shop-example-com.app1"]
    assert f"#{'b' * 64}" in shop
    assert ["~shop-example-com:*"] == [right for right in shop if right[0] in "~%"]
    assert shop.index("-@all") < min(shop.index(right) for right in shop if right[0] == "+")
    assert [] == [right for right in shop if right.startswith("+@") or right in ("nopass", "allkeys", "allchannels")]


@pytest.mark.parametrize(
    "command",
    ["acl", "client", "config", "dbsize", "debug", "eval", "flushall", "flushdb", "keys", "migrate", "monitor",
     "object", "publish", "randomkey", "scan", "script", "select", "sort", "subscribe", "swapdb", "blpop", "wait"],
)  # fmt: skip
def test_no_command_on_objects_names_others_keys_waits_or_is_the_server_s(command: str) -> None:
    assert command not in re.findall(r"\+([a-z|]+)", redis.OBJECTS)


@pytest.mark.parametrize(
    "text", ["", "x", "a" * 63, f"{'a' * 64} ~*", f"{'a' * 64}\nuser evil on nopass ~* +@all", "A" * 64]
)
def test_what_is_no_digest_does_not_reach_the_roster(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    host = keeper(monkeypatch, app1={"cache-example-com": text, "cache-shop-example-com": "c" * 64})

    users = roster(host)

    assert "example-com.app1" not in users
    assert "shop-example-com.app1" in users
    assert "evil" not in users
    assert any("app1 has not made every site's password yet" in note for note in host.notes)


def test_what_belongs_to_a_host_that_cannot_be_asked_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    host = keeper(monkeypatch, app1=StepFailed("app1 cannot be reached", ""))
    there = keeper(monkeypatch)
    text = contents(there.after(cache.server))[redis.ROSTER]
    gone = text.splitlines()[-1].replace("shop-example-com", "gone-test").replace(".app2", ".app1")
    monkeypatch.setattr(Recorded, "of", classmethod(lambda cls, c: host))
    monkeypatch.setattr("fabfile.engine.Host.of", classmethod(lambda cls, c: host))
    monkeypatch.setattr(host, "ask", lambda script: f"{text}{gone}\n")
    host.facts.files[redis.ROSTER] = a_file("old", 0o640, group="redis")

    assert text == contents(host.after(cache.server)).get(redis.ROSTER, text)
    assert "example-com.app1" in text
    assert isinstance(host.cards["app1"], Problem)


def passwords() -> dict[str, File]:
    """The files of an app host that has made its passwords."""
    return {f"{places.PASSWORDS}/{one.owner}": a_file("1" * 64, 0o600) for one in (EXAMPLE, SHOP)}


def test_a_site_s_pool_and_code_are_told_the_way_and_no_password_passes_through_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = split(monkeypatch, "app1", files=passwords()).after(cache.reach)

    files = contents(changes)
    told = "/etc/gatehouse/sites/shop-example-com"
    assert f'auto_prepend_file] = "{told}/sessions.php"' in files[places.include("shop-example-com")]
    assert f'openssl.cafile] = "{told}/cache.pem"' in files[places.include("shop-example-com")]
    assert f"{PEM}\n" == files[f"{told}/cache.pem"]
    assert f"parse_ini_file('{told}/cache.ini')" in files[f"{told}/sessions.php"]
    forms = {change.args[0]: change.args[1] for change in changes if isinstance(change, Run)}
    assert {f"/etc/gatehouse/sites/{one.owner}/cache.ini" for one in (EXAMPLE, SHOP)} == forms.keys()
    form = forms[f"{told}/cache.ini"].splitlines()
    assert {'host = "10.0.0.13"', "port = 6379", 'user = "shop-example-com.app1"', 'password = "@SECRET@"',
            'prefix = "shop-example-com:"', 'scheme = "tls"'} <= set(form)  # fmt: skip
    modes = {(change.mode, change.group) for change in changes if isinstance(change, PutFile) and told in change.path}
    assert {(0o640, "shop-example-com")} == modes


def test_without_the_cache_host_s_certificate_it_waits_and_fpm_still_finds_its_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = split(monkeypatch, "app1", files=passwords())
    host.cards["cache1"] = {}

    files = contents(host.after(cache.reach))

    assert "cafile" not in files[places.include("example-com")]
    assert any("cache1 has no certificate yet" in note for note in host.notes)


def test_the_sessions_of_before_go_with_their_store(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {redis.REDIS: a_file(), redis.ROSTER: a_file(), redis.UNIT: a_file()}

    changes = split(monkeypatch, "app1", files=passwords() | there).after(cache.reach, cache.sessions)

    runs = [change.args for change in changes if isinstance(change, Run) and "goes" in change.label]
    assert [(redis.REDIS, redis.ROSTER, redis.UNIT)] == runs


def test_a_host_that_is_by_itself_again_forgets_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [f"/etc/gatehouse/sites/example-com/{name}" for name in ("cache.ini", "cache.pem")]
    files = {path: a_file() for path in told}
    host = Recorded(monkeypatch, EXAMPLE, files=files | with_secrets(redis.KEEPER))

    changes = host.after(*cache.STEPS)

    assert {*files} == {change.path for change in changes if isinstance(change, Remove)}
    assert ["make 1 session passwords"] == [change.label for change in changes if isinstance(change, Run)]


# ---------------------------------------------------------------------- memcached


def test_a_site_has_a_memcached_of_its_own_without_udp(monkeypatch: pytest.MonkeyPatch) -> None:
    host = split(monkeypatch, "cache1", "memcached")

    changes = host.after(cache.instances, cache.server)

    units = {path: text for path, text in contents(changes).items() if "gatehouse-memcached" in path}
    names = [f"gatehouse-memcached-{one.owner}.service" for one in (EXAMPLE, SHOP)]
    assert names == [path.rpartition("/")[2] for path in units] == [
        change.unit for change in changes if isinstance(change, Load)
    ]
    ports = [cache_port(host.fleet, one) for one in (EXAMPLE, SHOP)]
    for text, port in zip(units.values(), ports, strict=True):
        assert f"-l 10.0.0.13 -p {port} -U 0 -m 32 " in text
        assert "DynamicUser=yes" in text
    kinds = [type(change) for change in changes if isinstance(change, PutLink | Install)]
    assert [PutLink, Install] == kinds  # Debian's own is shut away before it is there


def test_the_memcached_of_a_site_that_went_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "/etc/systemd/system/gatehouse-memcached-gone-test.service"

    changes = split(monkeypatch, "cache1", "memcached", {gone: a_file()}).after(cache.instances)

    assert [(gone,)] == [change.args for change in changes if isinstance(change, Run)]


@pytest.mark.parametrize(("sites", "expected"), [(0, 64), (1, 64), (2, 32), (3, 32), (4, 16), (100, 4)])
def test_a_share_of_the_memory_changes_seldom(sites: int, expected: int) -> None:
    assert expected == share(100, sites)


def test_a_site_s_user_alone_may_speak_to_the_site_s_memcached() -> None:
    users = {"a-test": User("a-test", 901, 901, "/", "/"), "b-test": User("b-test", 902, 902, "/", "/")}
    to = "-d 10.0.0.13/32 -p tcp -m tcp --dport"

    rules = apart(4, users, "10.0.0.13", {"a-test": 20007, "b-test": 20003, "not-here": 20001})

    assert [
        f"{to} 20000:29999 -m owner --uid-owner 0 -j ACCEPT",
        f"{to} 20003 -m owner --uid-owner 902 -j ACCEPT",
        f"{to} 20007 -m owner --uid-owner 901 -j ACCEPT",
        f"{to} 20000:29999 -j REJECT --reject-with tcp-reset",
    ] == rules
    assert [] == apart(6, users, "10.0.0.13", {"a-test": 20007})
