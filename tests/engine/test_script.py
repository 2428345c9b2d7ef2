"""Changes become one script: quoted, ordered, and small however many sites there are."""

from __future__ import annotations

import gzip
import io
import shlex
import subprocess
import tarfile
from pathlib import Path

import pytest

from fabfile.engine import script
from fabfile.engine.changes import (
    AddUser,
    Change,
    Install,
    Load,
    MakeDirectory,
    PutFile,
    PutLink,
    Remove,
    Rename,
    Run,
    Seed,
)
from fabfile.engine.facts import Facts, File, Files

EVIL = "x'; : > canary #\" $(: > canary) `: > canary`\n: > canary"


def known(*directories: str) -> Facts:
    return Facts(files=Files({path: File("d", 0o755, "root", "root", 0, "1.0") for path in directories}))


def put(path: str, content: bytes = b"x", check: str = "") -> PutFile:
    return PutFile(path, content, 0o644, "root", "root", check)


def words(box: script.Box, command: str) -> list[list[str]]:
    """The calls of one word of prelude.sh."""
    return [shlex.split(line)[1:] for line in box.lines if line.startswith(command + " ")]


ALL: list[Change] = [
    Install((EVIL,)),
    Install((EVIL,), answers=(EVIL,), ahead=(EVIL,)),
    AddUser(EVIL, EVIL, EVIL),
    MakeDirectory(f"/etc/{EVIL}", 0o755, EVIL, EVIL),
    PutFile(f"/etc/x/{EVIL}", b"", 0o600, EVIL, EVIL, EVIL),
    PutLink(f"/etc/x/l{EVIL}", EVIL),
    Remove(f"/etc/x/r{EVIL}"),
    Rename(f"/etc/x/a{EVIL}", f"/etc/x/b{EVIL}"),
    Seed(f"/var/www/{EVIL}", EVIL, EVIL, 0o750, ((EVIL, b""),)),
    Run(EVIL, "true", (EVIL,)),
    Load(EVIL, True, "reload", EVIL, (EVIL,), (EVIL,), EVIL),
]


@pytest.mark.parametrize("change", ALL, ids=lambda change: type(change).__name__)
def test_a_hostile_value_never_becomes_shell(change: Change, tmp_path: Path) -> None:
    """Run without any command to find: only what a value smuggles in as shell could leave a trace."""
    box = script.apply([change], known("/etc/x"))

    subprocess.run(
        ["/bin/sh", "-c", "\n".join(box.lines[1:])], cwd=tmp_path, env={"PATH": "", "box": "."}, capture_output=True
    )

    assert not (tmp_path / "canary").exists()


def test_the_hostile_value_is_hostile(tmp_path: Path) -> None:
    subprocess.run(["/bin/sh", "-c", f"echo '{EVIL}"], cwd=tmp_path, capture_output=True)

    assert (tmp_path / "canary").exists()


def test_a_step_over_many_sites_is_one_script_with_few_commands() -> None:
    sites: list[Change] = [put(f"/etc/pools/{number}.conf", b"%d" % number, "fpm -t") for number in range(1000)]

    box = script.apply(sites, known("/etc/pools"))

    assert 1 == len(words(box, "judge"))
    assert 1 == len(words(box, "place"))
    assert 1000 == sum(name.startswith("put/") for name in box.files)


def test_files_are_judged_before_the_first_is_placed() -> None:
    box = script.apply(
        [put("/etc/a/one", check="check it"), put("/etc/b/two", check="check it")], known("/etc/a", "/etc/b")
    )
    order = [line.split()[0] for line in box.lines]

    assert [["check it", "/etc/a", "/etc/b"]] == words(box, "judge")
    assert order.index("judge") < order.index("keep") < order.index("place")


def test_a_directory_that_is_not_there_yet_is_judged_from_above() -> None:
    box = script.plan([put("/etc/new/one", check="check it")], [], known("/etc"))

    assert [["check it", "/etc"]] == words(box, "judge")


def test_a_dry_run_touches_nothing() -> None:
    """No word that changes the host is in the script of a plan."""
    box = script.plan([*ALL[2:8], put("/etc/x/f", check="check it")], [put("/etc/x/earlier")], known("/etc/x"))

    assert set() == {line.split()[0] for line in box.lines} & {
        "place",
        "point",
        "keep",
        "seed",
        "load",
        "apt",
        "packages",
        "add_user",
    }
    assert all(
        '"$box/view"' in line for line in box.lines if line.startswith(("install ", "mkdir ", "rm ", "mv ", "ln "))
    )


def test_a_check_that_misses_what_a_dry_run_cannot_make_refuses_nothing() -> None:
    candidate = put("/etc/x/f", check="check it")

    after = script.plan(
        [candidate], [AddUser("new", "/", "/bin/false"), AddUser("two", "/", "/bin/false")], known("/etc/x")
    )
    alone = script.plan([candidate], [put("/etc/x/earlier")], known("/etc/x"))

    assert "unmade='user new and 1 more'" in after.lines
    assert [] == [line for line in alone.lines if line.startswith("unmade=")]


def test_a_dry_run_never_reads_a_secret() -> None:
    facts = known("/etc/x")
    facts.files["/etc/x/key"] = File("f", 0o600, "root", "root", 1, "1.0", "", "d")
    secret = PutFile("/etc/x/key", b"new", 0o600, "root", "root", secret=True)

    assert [] == words(script.plan([secret], [], facts), "was")


@pytest.mark.parametrize("change", [Install(("vim",)), Run("label", "true", ()), AddUser("www", "/", "/bin/sh")])
def test_a_look_follows_what_only_it_can_tell(change: Change) -> None:
    assert 'sh ./look.sh "$1" >&3' == script.apply([change, put("/etc/x/f")], known()).lines[-1]


def test_files_tell_how_they_look_themselves() -> None:
    assert ["report", "/etc/x/f"] == shlex.split(script.apply([put("/etc/x/f")], known("/etc/x")).lines[-1])


def test_a_box_is_a_tar_that_only_root_can_read() -> None:
    box = script.apply([put("/etc/x/f", b"content")], known("/etc/x"))

    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(box.packed()))) as tar:
        members = {member.name: member.mode for member in tar}

    assert {0o600} == set(members.values())
    assert {"run", "prelude.sh", "put/0.0/f"} == set(members)


def test_what_a_killed_run_left_is_swept_up_before_anything_else() -> None:
    facts = known("/etc/x")
    facts.stale = ("/etc/x/.gatehouse.aB3dE6gH",)

    box = script.apply([put("/etc/x/f")], facts, ("bootstrap", "ops@laptop"))

    assert [["/etc/x/.gatehouse.aB3dE6gH"]] == words(box, "sweep")
    order = [line.split()[0] for line in box.lines]
    assert order.index("sweep") < order.index("begin_entry")


def prelude(body: str, box: Path) -> subprocess.CompletedProcess[str]:
    """Run a few lines in the words of prelude.sh."""
    return subprocess.run(
        ["sh", "-c", f". {script.SHELL}/prelude.sh\nhome={box}/home\nmemory\n{body}"],
        env={"PATH": "/usr/bin:/bin", "box": str(box)}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(("works", "asked"), [("true", ["a x y"]), ('[ "$1" = a ] && [ $# = 1 ]', ["a x y", "a"])])
def test_what_later_steps_want_comes_along_where_it_can_be_had(works: str, asked: list[str], tmp_path: Path) -> None:
    told = f'packages_held() {{ echo "$*" >> {tmp_path}/asked; {works}; }}'

    done = prelude(f"{told}\npackages_and 'x y' a", tmp_path)

    assert (0, asked) == (done.returncode, (tmp_path / "asked").read_text().splitlines())


@pytest.mark.parametrize(
    ("between", "reads"),
    [("", 1), ("touch $box/etc/a.service", 2), ("mv $box/etc/a.service $box/etc/b.service", 2),
     ("rm $box/etc/a.service", 2), ("touch -d tomorrow $home/units", 2)],
)  # fmt: skip
def test_systemd_reads_its_units_anew_where_one_changed(between: str, reads: int, tmp_path: Path) -> None:
    """Or where the clock was set back, since that comparison is then worth nothing."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "a.service").touch()
    words = 'systemctl() { echo "$*" >> $box/asked; }; find() { shift; command find "$box/etc" "$@"; }'

    assert 0 == prelude(f"{words}; read_units; sleep 0.02; {between}\nread_units", tmp_path).returncode
    assert ["daemon-reload"] * reads == (tmp_path / "asked").read_text().splitlines()


def test_an_operation_is_not_begun_once_the_operator_said_stop(tmp_path: Path) -> None:
    done = prelude('op first; : > "$box/stop"; : > "$box/rest-of-first"; op second; : > "$box/second"', tmp_path)

    assert 130 == done.returncode
    assert "stopped\tsecond\0" in done.stdout
    assert (tmp_path / "rest-of-first").exists()
    assert not (tmp_path / "second").exists()


def test_a_former_version_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    """Also when the one before was killed while it copied."""
    live = tmp_path / "etc" / "f"
    live.parent.mkdir()
    live.write_text("whole")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "keeping").write_text("wh")

    assert 0 == prelude(f"keep {live}; echo new > {live}; keep {live}; restore {live}", tmp_path).returncode
    assert "whole" == live.read_text()
