"""Which keys are enrolled, and which never."""

from __future__ import annotations

from pathlib import Path

import paramiko
import pytest
from fabric import Connection

from fabfile.engine import trust
from fabfile.engine.problems import ChangedKey, Guarded
from fabfile.engine.remote import fingerprint

KEY, OTHER = (paramiko.ECDSAKey.generate() for _ in range(2))
SHOWN = fingerprint(KEY)


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The operator's known_hosts, before a host that shows KEY."""
    path = tmp_path / ".ssh/known_hosts"
    monkeypatch.setattr(trust, "offered_key", lambda _: ("vps", KEY))
    monkeypatch.setattr(trust, "known_hosts", lambda _: [path])
    return path


def knows(file: Path, *lines: str) -> str:
    file.parent.mkdir()
    file.write_text("".join(f"{line}\n" for line in lines))
    return file.read_text()


def line(key: paramiko.PKey) -> str:
    return f"vps {key.get_name()} {key.get_base64()}"


def test_a_key_with_the_right_fingerprint_is_known_from_then_on(file: Path) -> None:
    assert "is known now" in trust.enrol(Connection("vps"), SHOWN)
    assert f"{line(KEY)}\n" == file.read_text()
    assert "is known already" in trust.enrol(Connection("vps"), SHOWN)


@pytest.mark.parametrize(
    ("lines", "fingerprint", "problem", "said"),
    [
        ([f"@revoked {line(KEY)}"], SHOWN, Guarded, "which a line with @revoked forbids"),
        ([line(KEY), f"@revoked * {line(KEY).removeprefix('vps ')}"], SHOWN, Guarded, "@revoked"),
        ([line(OTHER)], SHOWN, ChangedKey, "another key than the known one"),
        ([], fingerprint(OTHER), Guarded, f"not {fingerprint(OTHER)}"),
        ([], "", Guarded, SHOWN),
    ],
    ids=["revoked", "known and revoked", "another one known", "another one expected", "nobody to ask"],
)
def test_no_other_is(file: Path, lines: list[str], fingerprint: str, problem: type[Exception], said: str) -> None:
    before = knows(file, *lines)

    with pytest.raises(problem) as refused:
        trust.enrol(Connection("vps"), fingerprint)

    assert said in str(refused.value)
    assert before == file.read_text()
