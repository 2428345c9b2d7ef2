"""A wish against facts: what is missing, in pure values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from fabfile.engine import changes
from fabfile.engine.changes import Change, Install, Load, MakeDirectory, PutFile, PutLink, Remove, Rename, Seed
from fabfile.engine.facts import Facts, File, Files, Unit, User

A = hashlib.sha256(b"a").hexdigest()


def facts(**files: File) -> Facts:
    known = {"/etc/x": File("d", 0o755, "root", "root", 0, "1.0")}
    return Facts(
        files=Files({**known, **{f"/etc/x/{name}": entry for name, entry in files.items()}}), packages={"sudo": "1"}
    )


def plain(mode: int = 0o644, owner: str = "root", digest: str = A) -> File:
    return File("f", mode, owner, "root", 1, "1.0", "", digest)


CASES: list[tuple[str, Facts, Callable[[Facts], tuple[Change, ...]], tuple[Change, ...]]] = [
    ("a package that is there", facts(), lambda f: changes.for_packages(f, ["sudo"]), ()),
    ("one that is not", facts(), lambda f: changes.for_packages(f, ["sudo", "vim"]), (Install(("vim",)),)),
    ("a file as wished", facts(a=plain()), lambda f: changes.for_file(f, "/etc/x/a", b"a"), ()),
    (
        "a new file",
        facts(),
        lambda f: changes.for_file(f, "/etc/x/a", b"a"),
        (PutFile("/etc/x/a", b"a", 0o644, "root", "root"),),
    ),
    (
        "another content",
        facts(a=plain()),
        lambda f: changes.for_file(f, "/etc/x/a", b"b"),
        (PutFile("/etc/x/a", b"b", 0o644, "root", "root", "", "changed"),),
    ),
    (
        "a mode too wide",
        facts(a=plain()),
        lambda f: changes.for_file(f, "/etc/x/a", b"a", mode=0o600),
        (PutFile("/etc/x/a", b"a", 0o600, "root", "root", "", "mode 0644 -> 0600"),),
    ),
    (
        "a link where a file belongs",
        facts(a=File("l", 0o777, "root", "root", 0, "1.0", "/etc/shadow")),
        lambda f: changes.for_file(f, "/etc/x/a", b"a"),
        (PutFile("/etc/x/a", b"a", 0o644, "root", "root", "", "changed"),),
    ),
    (
        "missing parents",
        facts(),
        lambda f: changes.for_file(f, "/etc/y/z/a", b"a"),
        (
            MakeDirectory("/etc/y", 0o755, "root", "root"),
            MakeDirectory("/etc/y/z", 0o755, "root", "root"),
            PutFile("/etc/y/z/a", b"a", 0o644, "root", "root"),
        ),
    ),
    (
        "a directory of another",
        facts(d=File("d", 0o755, "site", "root", 0, "1.0")),
        lambda f: changes.for_directory(f, "/etc/x/d", 0o755, "root", "root"),
        (MakeDirectory("/etc/x/d", 0o755, "root", "root", "owner site:root -> root:root"),),
    ),
    (
        "a link elsewhere",
        facts(l=File("l", 0o777, "root", "root", 0, "1.0", "../b")),
        lambda f: changes.for_link(f, "/etc/x/l", "../a"),
        (PutLink("/etc/x/l", "../a", "", "changed"),),
    ),
    ("what should go", facts(a=plain()), lambda f: changes.for_absent(f, "/etc/x/a"), (Remove("/etc/x/a"),)),
    ("what is gone", facts(), lambda f: changes.for_absent(f, "/etc/x/a"), ()),
    (
        "another name",
        facts(a=plain()),
        lambda f: changes.for_rename(f, "/etc/x/a", "/etc/x/b"),
        (Rename("/etc/x/a", "/etc/x/b"),),
    ),
    (
        "a site's directory",
        facts(),
        lambda f: changes.for_seed(f, "/var/www/s/public_html", "s", "www-data", 0o750, []),
        (Seed("/var/www/s/public_html", "s", "www-data", 0o750, ()),),
    ),
]


@pytest.mark.parametrize(("now", "wish", "needed"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_wish_gives_what_is_missing_and_once_done_nothing(
    now: Facts, wish: Callable[[Facts], tuple[Change, ...]], needed: tuple[Change, ...]
) -> None:
    assert needed == wish(now)

    for change in needed:
        change.predict(now)

    assert () == wish(now)


def service(now: Facts, **wish: object) -> Change | None:
    needed = changes.for_service(now, "web.service", "true", **wish)  # type: ignore[arg-type]
    return needed[0] if needed else None


def running(enabled: str = "enabled", **loaded: str) -> Facts:
    now = facts(conf=plain())
    now.units["web.service"] = Unit("active", enabled)
    now.loaded.update({name.replace("_", "."): digest for name, digest in loaded.items()})
    return now


def test_a_service_that_has_taken_its_files_is_kept() -> None:
    now = running()
    now.loaded["web.service"] = now.digest(["/etc/x/"])

    assert service(now, reload_on=["/etc/x/"]) is None


def test_a_file_with_a_later_time_means_a_reload_and_is_the_reason() -> None:
    now = running()
    now.loaded["web.service"] = now.digest(["/etc/x/"])
    changes.for_file(now, "/etc/x/conf", b"new")[0].predict(now)

    change = service(now, reload_on=["/etc/x/"])

    assert isinstance(change, Load)
    assert ("reload", "/etc/x/conf changed") == (change.action, change.why)


def test_a_restart_wins_over_a_reload() -> None:
    change = service(running(), reload_on=["/etc/x/"], restart_on=["/etc/x/conf"])

    assert isinstance(change, Load)
    assert "restart" == change.action


@pytest.mark.parametrize(("active", "action"), [("inactive", "start"), ("failed", "start")])
def test_a_service_that_is_down_is_started(active: str, action: str) -> None:
    now = running()
    now.units["web.service"] = Unit(active, "enabled")

    change = service(now)

    assert isinstance(change, Load)
    assert action == change.action


def test_a_service_that_is_not_enabled_is_enabled_and_left_running() -> None:
    change = service(running(enabled="disabled"))

    assert isinstance(change, Load)
    assert (True, "") == (change.enable, change.action)


def test_a_unit_that_the_look_did_not_see_is_restarted_since_its_package_may_have_started_it() -> None:
    change = service(facts())

    assert isinstance(change, Load)
    assert (True, "restart") == (change.enable, change.action)


@pytest.mark.parametrize("state", ["masked", "masked-runtime"])
def test_a_masked_service_is_never_taken_for_fine(state: str) -> None:
    with pytest.raises(ValueError, match="systemctl unmask web"):
        service(running(enabled=state))


@pytest.mark.parametrize("path", ["/root/x", "/etc/../root/x", "etc/x", "/var/lib/x", "/usr/bin/x"])
def test_only_what_the_look_covers_can_be_wished_for(path: str) -> None:
    with pytest.raises(ValueError, match="is outside"):
        changes.for_file(facts(), path, b"")


def test_a_file_in_the_place_of_a_directory_is_named() -> None:
    with pytest.raises(ValueError, match="/etc/x/web is wanted as a directory, but a file is there"):
        changes.for_file(facts(web=plain()), "/etc/x/web/x", b"")


def test_a_directory_is_never_removed_nor_taken_for_a_file() -> None:
    with pytest.raises(ValueError, match="never removed"):
        changes.for_absent(facts(), "/etc/x")
    with pytest.raises(ValueError, match="a directory is there"):
        changes.for_file(facts(), "/etc/x", b"")


def test_a_piece_of_shell_with_files_runs_once_for_each_state_of_them() -> None:
    now = facts(a=plain())
    needed = changes.for_run(now, "load", "true", (), "load", ["/etc/x/a"])
    needed[0].predict(now)

    assert () == changes.for_run(now, "load", "true", (), "load", ["/etc/x/a"])

    changes.for_file(now, "/etc/x/a", b"new")[0].predict(now)

    assert 1 == len(changes.for_run(now, "load", "true", (), "load", ["/etc/x/a"]))


def test_a_new_user_has_the_number_that_is_wished_or_the_next_that_nobody_has() -> None:
    now = facts()
    now.users["other"] = User("other", 200_001, 200_002, "/", "/bin/sh")
    for name in ("a", "b", "c"):
        for change in changes.for_user(now, name, "/", "/bin/sh", near=200_000):
            change.predict(now)

    assert [200_000, 200_003, 200_004] == [now.users[name].uid for name in "abc"]
    assert () == changes.for_user(now, "a", "/", "/bin/sh", near=5)
    assert (changes.AddUser("d", "/", "/bin/sh", 7),) == changes.for_user(now, "d", "/", "/bin/sh", uid=7, near=5)
