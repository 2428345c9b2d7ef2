"""Which keys known_hosts files have for a host: what paramiko finds there, without reading everybody's."""

from __future__ import annotations

from pathlib import Path

import paramiko
import pytest
from paramiko.hostkeys import HostKeyEntry, HostKeys

from fabfile.engine.hostkeys import known_keys

RSA, OTHER = (paramiko.RSAKey.generate(1024) for _ in range(2))
ECDSA = paramiko.ECDSAKey.generate()


def line(names: str, key: paramiko.PKey) -> str:
    return f"{names} {key.get_name()} {key.get_base64()} a comment\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (line("h", RSA), "h"),
        (line("a,h,b", RSA) + line("h", ECDSA), "h"),
        (line(HostKeys.hash_host("h"), RSA) + line(HostKeys.hash_host("g"), OTHER), "h"),
        (line(HostKeys.hash_host("[h]:2222"), RSA) + line("h", OTHER), "[h]:2222"),
        (line("[h]:2222", RSA), "h"),
        (line("hh", RSA) + line("*", OTHER), "h"),
        (line("h", RSA) + line("h", OTHER), "h"),
        (f"# {line('h', OTHER)}\n\n  {line('h', RSA)}", "h"),
        ("h\nh ssh-rsa\nh ssh-none AAAA\n" + line("h", RSA), "h"),
        (line("h", RSA).replace(" ", "\t"), "h"),
    ],
    ids=["one", "two types", "hashed", "another port", "only another port", "no patterns", "the first", "comments",
         "nonsense", "tabs"],
)  # fmt: skip
def test_it_is_what_paramiko_finds(text: str, name: str, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(text)

    theirs = HostKeys(str(file)).lookup(name) or {}

    assert {kind: theirs[kind] for kind in theirs} == known_keys([file], name)


def test_the_first_file_says_it_and_one_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text(line("h", RSA))
    other.write_text(line("h", OTHER) + line("h", ECDSA))

    assert {"ssh-rsa": RSA, ECDSA.get_name(): ECDSA} == known_keys([tmp_path / "none", one, other], "h")


def test_a_line_that_is_broken_is_no_key_of_the_host(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"{line('|1|x', RSA)}|1|AA==|AA== ssh-rsa AAAA\nh ssh-rsa A\nh ssh-rsa AAAA\n")

    assert {} == known_keys([file], "h")


@pytest.mark.parametrize(
    "names", ["h", "*", "a,h", HostKeys.hash_host("h")], ids=["its name", "any", "among others", "hashed"]
)
def test_a_revoked_key_is_not_known(names: str, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    marked = f"@revoked {line(names, RSA)}@cert-authority {line('h', OTHER)}"
    file.write_text(line("h", RSA) + line("h", ECDSA) + marked)

    assert {ECDSA.get_name(): ECDSA} == known_keys([file], "h")


def test_of_a_thousand_hosts_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read = tmp_path / "known_hosts", 0
    file.write_text("".join(line(f"h{number}", RSA) for number in range(1000)))
    of_line = HostKeyEntry.from_line

    def counting(text: str) -> HostKeyEntry | None:
        nonlocal read
        read += 1
        return of_line(text)

    monkeypatch.setattr(HostKeyEntry, "from_line", counting)

    assert {"ssh-rsa": RSA} == known_keys([file], "h7")
    assert 1 == read
