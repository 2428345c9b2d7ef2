"""Releases: what a source means, which release is meant, and what is refused before anything is touched."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from fabfile import release
from fabfile.engine.facts import Facts, File, Files
from fabfile.model import Refusal, Site

from .recording import Recorded, a_file
from .recording import site as a_site

SITE = a_site()
FIRST, SECOND, THIRD = "20261101-120000", "20261102-120000", "20261103-120000"


def with_releases(*there: str, serves: str, unfinished: str = "", clock: int = 0) -> Facts:
    """The facts of a host on which SITE has these releases."""
    files = {f"{SITE.root}/releases/{id_}": a_file(kind="d") for id_ in (*there, unfinished) if id_}
    files |= {f"{SITE.root}/releases/{id_}.from": a_file() for id_ in there}
    files[SITE.served] = File("l", 0o777, "root", "root", 0, "1", f"releases/{serves}")
    return Facts(files=Files(files), clock=clock)


# ---------------------------------------------------------------------- the source


def test_a_directory_with_a_directory_for_the_bare_domain_is_public_html_itself(tmp_path: Path) -> None:
    (tmp_path / "_").mkdir()

    assert "" == release.source(SITE, str(tmp_path)).inner


def test_any_other_directory_is_an_application(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()  # many an application has one

    assert "/_app" == release.source(SITE, str(tmp_path)).inner


def test_a_web_root_makes_it_an_application(tmp_path: Path) -> None:
    (tmp_path / "_").mkdir()
    (tmp_path / "public").mkdir()

    assert "/_app" == release.source(a_site(deploy={"docroot": "public"}), str(tmp_path)).inner


def test_a_source_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    (tmp_path / "file").write_text("x")

    for text, reason in {
        "": "names no directory",
        str(tmp_path / "nowhere"): "is not a directory",
        str(tmp_path / "file"): "is not a directory",
        str(tmp_path / "empty"): "is empty",
    }.items():
        with pytest.raises(Refusal, match=reason):
            release.source(SITE, text)
    with pytest.raises(Refusal, match="has no directory web, which is the web root") as refused:
        release.source(a_site(deploy={"docroot": "web"}), str(tmp_path))
    assert "docroot: empty" in str(refused.value)


# ---------------------------------------------------------------------- which one


def test_a_new_release_is_called_after_the_moment_and_comes_after_all_others() -> None:
    now = 1_800_000_000
    assert time.strftime(release.WHEN, time.gmtime(now)) == release.new_id(
        with_releases(FIRST, serves=FIRST, clock=now), SITE
    )
    # A clock that went back, or a second deploy within the second.
    assert "20261103-120001" == release.new_id(with_releases(FIRST, THIRD, serves=FIRST, clock=5), SITE)
    assert "20261103-120001" == release.new_id(with_releases(FIRST, serves=FIRST, unfinished=THIRD), SITE)


def test_a_rollback_goes_to_the_release_before_the_one_that_serves() -> None:
    assert FIRST == release.target(with_releases(FIRST, SECOND, THIRD, serves=SECOND), SITE, "")
    assert THIRD == release.target(with_releases(FIRST, SECOND, THIRD, serves=SECOND), SITE, THIRD)


def test_what_never_served_is_no_release_to_return_to() -> None:
    assert FIRST == release.target(with_releases(FIRST, THIRD, serves=THIRD, unfinished=SECOND), SITE, "")
    with pytest.raises(Refusal, match=f"has no release {SECOND}") as refused:
        release.target(with_releases(FIRST, THIRD, serves=THIRD, unfinished=SECOND), SITE, SECOND)
    assert f"{THIRD}, {FIRST}" in str(refused.value)


def test_before_the_first_there_is_nothing() -> None:
    with pytest.raises(Refusal, match=f"no release before {FIRST}"):
        release.target(with_releases(FIRST, serves=FIRST), SITE, "")


# ---------------------------------------------------------------------- what goes over


def test_every_name_is_forgotten_in_words_that_a_regular_expression_takes_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = a_site(subdomains=tuple(f"s{number}" for number in range(60)))
    host = Recorded(monkeypatch, many)

    release.serve(host, many, FIRST, "8.4", "me", back=True)

    (run,) = host._pending
    patterns = run.args[11:]  # type: ignore[union-attr]
    names = [name.replace("[.]", ".") for pattern in patterns for name in pattern.split("|")]
    assert list(many.names) == names
    assert max(map(len, patterns)) < 8000  # Varnish's line


def test_a_command_has_the_site_s_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 5 * 128 * 2**20 == release.memory(SITE)
    assert 512 * 2**20 == release.memory(a_site(php=False))


def test_releases_are_told_newest_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    host = Recorded(monkeypatch, SITE)
    monkeypatch.setattr(host, "ask", lambda *_: f"{FIRST}\t\tme  /src\n{SECOND}\tserves\tyou  /src\n", raising=False)

    release.releases.body.__wrapped__(None, "example.com", json=True)

    told = json.loads(capsys.readouterr().out)
    assert [{"id": SECOND, "serves": True, "source": "you  /src"}, FIRST] == [told[0], told[1]["id"]]


@pytest.mark.parametrize("name", sorted(path.stem for path in Path(release.__file__).parent.glob("*.sh")))
def test_the_shell_is_shell(name: str) -> None:
    import subprocess

    done = subprocess.run(["sh", "-n"], input=release.shell(name), text=True, capture_output=True)
    assert "" == done.stderr


# ---------------------------------------------------------------------- the model


@pytest.mark.parametrize(
    "keys",
    [
        {"docroot": "../public"}, {"docroot": "/etc"}, {"docroot": "-rf"}, {"docroot": "a//b"}, {"docroot": "."},
        {"shared": ("a/../../b",)}, {"shared": ("up", "up/loads")}, {"shared": ("",)}, {"before": ("a\nb",)},
        {"before": ("",)}, {"smoke": "health"}, {"smoke": "/a b"}, {"smoke": "/\r\nHost: x"}, {"keep": 1},
        {"expect": 503}, {"timeout": 0},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        a_site(deploy=keys)


def test_rooms_are_what_apache_serves_from() -> None:
    one: Site = a_site(subdomains=("www", "a.b"), aliases=("example.org", "shop.example.org", "www.other.test"))

    assert ("_", "www", "a.b", "shop") == one.rooms
