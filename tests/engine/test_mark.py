"""The mark on a host: an older checkout is told apart from the same one, a newer one and one without git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fabfile.engine.mark import FORMAT, Commit, Mark, commit, newer, read


def git(tree: Path, *words: str, at: int = 0) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    when = {"GIT_COMMITTER_DATE": f"@{at} +0000", "GIT_AUTHOR_DATE": f"@{at} +0000"} if at else {}
    env = {"PATH": "/usr/bin:/bin", **when}
    done = subprocess.run(["git", *identity, *words], cwd=tree, check=True, capture_output=True, text=True, env=env)
    return done.stdout.strip()


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """A repository with two commits, an hour apart, and the second checked out."""
    git(tmp_path, "init", "-q", "-b", "main")
    for hour in (1, 2):
        (tmp_path / "site.yml").write_text(f"{hour}\n")
        git(tmp_path, "add", "--all")
        git(tmp_path, "commit", "-qm", f"hour {hour}", at=1_700_000_000 + 3600 * hour)
    return tmp_path


def marked(tree: Path, version: int = FORMAT) -> Mark:
    """What a run from this tree would leave on a host, and the next one read there."""
    found = commit(tree)
    mark = Mark({"sites": found} if found else {}, "ann@laptop since noon: bootstrap", version)
    return read(mark.text().splitlines())


def test_the_same_commit_and_a_newer_one_may(sites: Path) -> None:
    there = marked(sites)
    assert "" == newer(there, {"sites": sites})
    git(sites, "commit", "-q", "--allow-empty", "-m", "hour 3", at=1_700_000_000 + 3 * 3600)

    assert "" == newer(there, {"sites": sites})
    assert "ann@laptop since noon: bootstrap" == there.by


def test_an_older_commit_may_not_and_both_are_named(sites: Path) -> None:
    there = marked(sites)
    git(sites, "checkout", "-q", "HEAD~1")

    why = newer(there, {"sites": sites})

    assert f"{there.trees['sites'].name[:9]} of 2023-11-15 00:13 UTC" in why
    assert f"{sites} is at {git(sites, 'rev-parse', 'HEAD')[:9]}" in why


def test_a_laptop_whose_clock_was_ahead_locks_nobody_out(sites: Path) -> None:
    """Its commit is later than ours by the clock, and yet ours was made on top of it."""
    git(sites, "commit", "-q", "--allow-empty", "-m", "in 2033", at=2_000_000_000)
    there = marked(sites)
    git(sites, "commit", "-q", "--allow-empty", "-m", "today", at=1_700_020_000)

    assert "" == newer(there, {"sites": sites})


def test_a_commit_that_this_checkout_does_not_know_counts_by_its_time(sites: Path) -> None:
    def foreign(time: int) -> Mark:
        return Mark({"sites": Commit("f" * 40, time)})

    assert newer(foreign(1_700_099_999), {"sites": sites})
    assert "" == newer(foreign(1_700_000_001), {"sites": sites})


def test_without_git_and_without_a_mark_nothing_is_refused(sites: Path) -> None:
    plain = Path("/")

    assert commit(plain) is None
    assert "" == newer(marked(sites), {"sites": plain})
    assert "" == newer(read([]), {"sites": sites})
    assert "" == newer(read(["rubbish", "sites x y"]), {"sites": sites})


def test_an_older_engine_leaves_a_newer_one_s_memory_alone(sites: Path) -> None:
    assert "its format is 2" in newer(marked(sites, version=FORMAT + 1), {"sites": sites})
