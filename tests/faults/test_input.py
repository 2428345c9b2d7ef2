"""F-31 to F-44: what a person writes is refused in time, at its place, with a right example, and touches nothing."""

# ruff: noqa: RUF001  (look-alikes are what is tested here)

from __future__ import annotations

import hashlib
import json
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile import ns
from fabfile.cache import handing, redis
from fabfile.engine import Guarded
from fabfile.engine.changes import Run
from fabfile.engine.problems import Unreachable
from fabfile.engine.remote import connect, opened
from fabfile.model import Cache, Fleet, Php, Problem, Refusal, Site, load_fleet, load_sites
from tests.chapters.recording import Recorded, a_file, make_passwords
from tests.chapters.recording import site as a_site

from .conftest import few

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "sites" / "example.com.yml").read_text()

# ---------------------------------------------------------------------------------------------- what is typed

# Every line that is asked for in one process: what it printed and its exit code, as an operator's shell would see it.
RUNNER = """
import contextlib, io, json, sys, traceback
from fabric.main import make_program
told = []
for words in json.load(sys.stdin):
    out = io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            make_program().run(["fab", *words])
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
            code = 1
    told.append([code, out.getvalue()])
json.dump(told, sys.stdout)
"""


@dataclass
class Desk:
    """An operator's directory: a fleet, sites, and an ssh_config whose every connection leaves a canary."""

    path: Path

    @property
    def canary(self) -> Path:
        return self.path / "connected"

    def write(self, name: str, content: str | bytes) -> Desk:
        (self.path / "sites" / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return self

    def fab(self, *lines: list[str]) -> list[tuple[int, str]]:
        """Each line with `-S ssh_config -H vps` before it: exit code and output."""
        given = [["-S", str(self.path / "ssh_config"), "-H", "vps", *words] for words in lines]
        done = subprocess.run(
            [sys.executable, "-c", RUNNER], cwd=ROOT, input=json.dumps(given), capture_output=True, text=True
        )
        assert not done.stderr, done.stderr
        return [(code, text) for code, text in json.loads(done.stdout)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    (tmp_path / "sites").mkdir()
    (tmp_path / "fleet.yml").write_text("sites: sites\n")
    sings = f"ProxyCommand sh -c 'echo %h >>{desk.canary}; exit 1'"
    (tmp_path / "ssh_config").write_text(f"Host *\nHostName 127.0.0.1\nUser ops\nConnectTimeout 1\n{sings}\n")
    return desk


BROKEN: dict[str, tuple[bytes, str]] = {
    "tab.com.yml": (b"domain: tab.com\nphp:\n\tchildren: 5\n", ":3: is indented with a tab"),
    "twice.com.yml": (b"domain: twice.com\nowner: a\nowner: b\n", ":3: owner: is written twice, in line 2 and in"),
    "quote.com.yml": (b"domain: quote.com\nowner: 'x\n", ":2: a quote is opened here"),
    "nul.com.yml": (b"domain: nul.com\nowner: a\0b\n", ":2: holds an invisible character, U+0000"),
    "bom.com.yml": ("\ufeff\ufeffdomain: bom.com\n".encode(), ":1: holds an invisible character, U+FEFF"),
    "utf16.com.yml": ("domain: utf16.com\n".encode("utf-16"), ":1: is UTF-16"),
    "latin1.com.yml": (b"domain: latin1.com\n# \xe9\n", ":2: is not UTF-8"),
    "empty.com.yml": (b"", ":1: is empty"),
    "list.com.yml": (b"- domain: list.com\n", ":1: must hold keys at the top, not a list"),
    "large.com.yml": (b"# " + b"x" * 10_000_000, ": is larger than 256 KiB"),
    "bomb.com.yml": (
        b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(b"b: &b [%s]\n" % (b"*a," * 9) for _ in range(9)), "is an anchor"
    ),
    "python.com.yml": (b"domain: !!python/object/apply:os.system ['touch %s']\n", "os.system is a tag"),
    "deep.com.yml": (b"domain: " + b"[" * 3000, ":1: is nested deeper than 8 levels"),
}  # fmt: skip


@pytest.mark.fault("F-31")
@pytest.mark.parametrize("where", ["a site", "the fleet"])
@pytest.mark.parametrize("name", BROKEN)
def test_f31_broken_yaml_is_refused_at_its_line(desk: Desk, name: str, where: str) -> None:
    content, message = BROKEN[name]
    file = desk.path / "fleet.yml" if where == "the fleet" else desk.path / "sites" / name
    file.write_bytes(content)

    with pytest.raises(Refusal) as refused:
        load_fleet(desk.path / "fleet.yml")

    assert 2 == refused.value.exit_code
    assert re.sub(r"^(owner|domain): ", "", message.partition(": ")[2]) in str(refused.value)
    assert file.name in str(refused.value).splitlines()[0]
    if where == "a site":
        assert message in str(refused.value)


@pytest.mark.fault("F-31")
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.demand)], ids=["every fifth", "every"])
def test_f31_all_of_it_at_once_by_every_task_and_no_connection_is_opened(
    desk: Desk, seen: Callable[[str], None], step: int
) -> None:
    for name, (content, _) in BROKEN.items():
        desk.write(name, content)
    lines = [
        [name, *("example.com" for arg in ns[name].get_arguments() if arg.positional)]
        for name in [*ns.task_names][::step]
        if name not in {"trust", "fail2ban.ban", "fail2ban.unban"}
    ] + [["fail2ban.ban", "192.0.2.1"], ["fail2ban.unban", "192.0.2.1"]]

    told = desk.fab(*lines)

    assert [] == [(line, code) for line, (code, _) in zip(lines, told, strict=True) if code != 2]
    for _, text in told:
        assert "Traceback" not in text
        assert [] == [name for name in BROKEN if f"sites/{name}" not in text]
    assert not desk.canary.exists()
    seen(f"{len(BROKEN)} broken files, each at its line, by {len(lines)} tasks; exit 2, no connection")


@pytest.mark.fault("F-31")
def test_f31_the_same_with_a_right_file_does_try_to_connect(desk: Desk) -> None:
    """The canary of the others sings: else they would prove nothing."""
    [(code, _)] = desk.write("example.com.yml", EXAMPLE).fab(["status"])

    assert 1 == code
    assert "127.0.0.1\n" == desk.canary.read_text()


# ---------------------------------------------------------------------------------------------- any text at all

LEAF = st.sampled_from(
    [
        *Site.model_fields,
        *(f"php.{key}" for key in Php.model_fields),
        *(f"cache.{key}" for key in Cache.model_fields),
        *("tls.email", "tls.key", "nonsense", "php.nonsense"),
    ]
)
PREMISES = {
    "command": ["runtime: scgi"],
    "listen": ["runtime: scgi", "command: exec ./x"],
    "webapps": ["runtime: ajp"],
    "writable": ["runtime: server", "command: exec ./x"],
}
"""What a site must say as well, so that the key means anything."""
WORDS = """no on off yes True ~ null 1e3 0123 0x50 8.10 12:30 2026-01-01 .inf 80a 0 -1 70000 128M a;reboot $(id) -rf
../../etc a.example.com [] {} [www] {a: 1} [no] [[]] [1] [a.b,A.b] "" "\\u0000" "\\e[2J" "8.4" *a &a !x | >"""
WORD = (
    st.sampled_from(WORDS.split())
    | st.text(max_size=12).map(lambda text: json.dumps(text, ensure_ascii=False))
    | st.text("abz019.-_:/@ #'\"[]{}", max_size=12)
)


@pytest.mark.fault("F-31")
@few
@given(LEAF, WORD)
def test_f31_any_value_of_any_key_is_taken_or_refused_with_an_example_that_is_right(leaf: str, word: str) -> None:
    above, _, key = leaf.rpartition(".")
    lines = [] if leaf == "domain" else ["domain: example.com", *PREMISES.get(leaf, ())]
    lines += [f"{above}:"] * bool(above) + [f"{'  ' * bool(above)}{key}: {word}"]
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "example.com.yml")
        file.write_text("\n".join(lines) + "\n")
        problems = refused(lambda: load_sites(Path(directory)))
        for problem in problems:
            assert problem.file == file
            assert 1 <= (problem.line or 0) <= len(lines) + 1
        if problems and problems[0].key == leaf and problems[0].example:
            file.write_text("\n".join([*lines[:-1], f"{'  ' * bool(above)}{problems[0].example}"]) + "\n")
            assert load_sites(Path(directory)), problems[0].example


def refused(load: Callable[[], object]) -> tuple[Problem, ...]:
    """What is said against it, which an operator's terminal can show; nothing when it loads."""
    try:
        load()
    except Refusal as refusal:
        said = refusal
    else:
        return ()
    assert 2 == said.exit_code
    assert all(part.isprintable() for part in str(said).split("\n"))
    return said.problems


@pytest.mark.fault("F-31")
@few
@given(
    st.recursive(WORD | st.none(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3))
)
def test_f31_any_tree_in_the_fleet_is_taken_or_refused(tree: Any) -> None:
    """Also for what stands under the right keys, and in the wrong places."""
    for text in (json.dumps(tree), *(f"{key}: {json.dumps(tree)}\n" for key in Fleet.model_fields)):
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "fleet.yml")
            file.write_text(text)
            assert all(problem.file is not None for problem in refused(lambda: load_fleet(file)))  # noqa: B023


# ---------------------------------------------------------------------------------------------- F-32: other types


@pytest.mark.fault("F-32")
def test_f32_an_option_of_another_type_or_out_of_its_range_is_refused_before_any_connection(
    desk: Desk, seen: Callable[[str], None]
) -> None:
    desk.write("example.com.yml", EXAMPLE)
    lines: list[list[str]] = []
    for name in ns.task_names:
        positional = [arg.value or "192.0.2.1" for arg in ns[name].get_arguments() if arg.positional]
        for arg in ns[name].get_arguments():
            if arg.kind is int:
                texts = ("abc", "-5") if lines else ("abc", "-5", "1e3", "", "0x50", "0123", "9" * 12)
                lines += [[name, *positional, f"--{arg.name.replace('_', '-')}={text}"] for text in texts]

    told = desk.fab(*lines)

    assert len(lines) > 25
    wrong = [(line[-2:], code, text[-90:]) for line, (code, text) in zip(lines, told, strict=True) if code != 2]
    assert [] == wrong
    assert [] == [text for _, text in told if "Traceback" in text or "must be a whole number" not in text]
    assert not desk.canary.exists()
    seen(f"{len(lines)} wrong numbers for the options of tasks: each refused with its range")


# ---------------------------------------------------------------------------------------------- F-33: shells


@pytest.mark.fault("F-33")
def test_f33_no_shell_ever_sees_a_value_of_a_site(desk: Desk, seen: Callable[[str], None]) -> None:
    """In every key of a site and of the fleet, in file names and on the command line."""
    shot = desk.path / "shot"
    shells = [f"$(touch {shot})", f"`touch {shot}`", f"a;touch {shot};", f"a|touch {shot}", f"a\ntouch {shot}\n", "-rf"]
    keys = ["domain", "owner", "hosts", "subdomains", "aliases"]
    for number, shell in enumerate(shells):
        text = json.dumps(shell)
        desk.write(
            f"s{number}.com.yml", "".join(f"{key}: {text if key in 'domain owner' else [shell]}\n" for key in keys)
        )
        desk.write(f"x{shell.replace('/', '_')}.yml", "domain: example.com\n")
    lines = [["bootstrap"], *(["site.suspend", shell] for shell in shells[:-1])]

    told = desk.fab(*lines)

    assert {2} == {code for code, _ in told}
    assert not shot.exists()
    assert not desk.canary.exists()
    for command in re.findall(r"next:  (mv .*)", told[0][1]):
        subprocess.run(["sh", "-c", command.replace("mv ", "echo ", 1)], cwd=desk.path, capture_output=True, check=True)
    assert not shot.exists()  # nor when the operator types what was proposed
    seen(f"{len(shells)} ways to call a shell, in {len(keys)} keys, file names and arguments: no canary")


# ---------------------------------------------------------------------------------------------- F-36: twice

TWICE = {
    "as its subdomain": ("domain: a.com\nsubdomains: [x.y]", "domain: x.y.a.com\nsubdomains: []"),
    "A-label and letters": ("domain: a.com\naliases: [münchen.de]", "domain: xn--mnchen-3ya.de"),
    "letters and marks": ("domain: a.com\naliases: [münchen.de]", "domain: b.com\naliases: [mu\u0308nchen.de]"),
    "full width": ("domain: a.com", "domain: b.com\naliases: [ａ.com]"),
    "ideographic full stop": ("domain: a.com", "domain: b.com\naliases: [a。com]"),
}


@pytest.mark.fault("F-36")
@pytest.mark.parametrize("guise", TWICE)
def test_f36_a_name_of_two_sites_is_refused_and_both_places_are_named(desk: Desk, guise: str) -> None:
    for text in TWICE[guise]:
        name = text.split()[1]
        desk.write(f"{name}.yml", text + "\n")

    with pytest.raises(Refusal, match="is already") as refused:
        load_sites(desk.path / "sites")

    files = [str(path) for path in (desk.path / "sites").iterdir()]
    assert all(re.search(re.escape(file) + r":\d+", str(refused.value)) for file in files)


@pytest.mark.fault("F-36")
def test_f36_two_files_for_one_site_are_refused_whatever_they_are_called(desk: Desk) -> None:
    names = ("münchen.de", "mu\u0308nchen.de", "xn--mnchen-3ya.de")
    for name in names:
        desk.write(f"{name}.yml", f"domain: {name}\n")

    with pytest.raises(Refusal) as refused:
        load_sites(desk.path / "sites")

    assert str(refused.value).count("münchen.de (xn--mnchen-3ya.de) is already the domain of") == 2


@pytest.mark.fault("F-36")
@pytest.mark.parametrize(("alias", "why"), [("a.com.", "without the dot"), ("*.a.com", "wildcards are not used")])
def test_f36_a_dot_at_the_end_and_a_wildcard_are_refused_before_they_could_overlap(
    desk: Desk, alias: str, why: str
) -> None:
    desk.write("a.com.yml", "domain: a.com\n").write("b.com.yml", f"domain: b.com\naliases: ['{alias}']\n")

    with pytest.raises(Refusal, match=why):
        load_sites(desk.path / "sites")


# ---------------------------------------------------------------------------------------------- F-42: one of fifty


@pytest.mark.fault("F-42")
def test_f42_one_bad_site_among_fifty_stops_the_run_before_it_begins(desk: Desk, seen: Callable[[str], None]) -> None:
    for number in range(49):
        desk.write(f"s{number}.com.yml", f"domain: s{number}.com\n")
    desk.write("bad.com.yml", "domain: bad.com\nphp: {children: many}\n")

    told = desk.fab(["bootstrap"], ["check"], ["apache.vhosts"])

    assert {2} == {code for code, _ in told}
    for _, text in told:
        assert "sites/bad.com.yml:2: php.children: must be a whole number from 1 to 500" in text
        assert 1 == text.count("sites/")
    assert not desk.canary.exists()
    seen("only the bad one is named; no connection, so the 49 go on as they are")


# ---------------------------------------------------------------------------------------------- F-44: secrets


@pytest.mark.fault("F-44")
def test_f44_no_file_asks_for_a_secret_and_one_that_is_written_there_is_not_repeated(desk: Desk) -> None:
    """Gatehouse makes its own on the host; so there is none to leave empty, or to put into git."""
    canary = "hunter2-canary"
    desk.write("a.com.yml", f"domain: a.com\ndatabase_password: {canary}\ntls: {{private_key: {canary}}}\n")
    (desk.path / "fleet.yml").write_text(f"acme: {{eab: {{kid: x, hmac: {canary}}}}}\nsudo_password: {canary}\n")

    with pytest.raises(Refusal) as refused:
        load_fleet(desk.path / "fleet.yml")

    text = str(refused.value)
    assert 4 == len(refused.value.problems)
    assert 3 == text.count("no secret belongs in this file")
    assert canary not in text


@pytest.mark.fault("F-44")
@pytest.mark.parametrize("kind", ["", "EC ", "RSA ", "ENCRYPTED ", "OPENSSH "])
def test_f44_a_key_in_the_bundle_of_the_ca_is_refused(desk: Desk, kind: str) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n"
    (desk.path / "ca.pem").write_text(f"{pem}-----BEGIN {kind}PRIVATE KEY-----\n")
    (desk.path / "fleet.yml").write_text("acme: {ca_bundle: ca.pem}\n")

    with pytest.raises(Refusal, match=r"acme.ca_bundle: \S+ holds a private key"):
        load_fleet(desk.path / "fleet.yml")


@pytest.mark.fault("F-44")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_f44_a_private_key_that_others_can_read_is_refused_before_any_connection(tmp_path: Path, mode: int) -> None:
    """Also that of a hop before the host; paramiko itself would not look."""
    key = tmp_path / "key"
    key.write_text("")
    key.chmod(mode)
    config = tmp_path / "ssh_config"
    config.write_text(f"Host vps\nProxyJump door\nHost door\nHostName 127.0.0.1\nPort 9\nIdentityFile {key}\n")

    with pytest.raises(Guarded, match=f"can read the private key {key}") as refused:
        opened(connect("vps", config))
    assert refused.value.next_step.startswith(f"chmod 600 {key}")
    assert 3 == refused.value.exit_code

    key.chmod(0o600)
    with pytest.raises(Unreachable):
        opened(connect("vps", config))


@pytest.mark.fault("F-44")
def test_f44_nothing_secret_is_in_git() -> None:
    body = r"PRIVATE KEY-----\\?n?\"?[[:space:]]*$|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|xox[abp]-[0-9A-Za-z-]{20}"
    found = subprocess.run(["git", "grep", "-nIE", "-A1", body], cwd=ROOT, capture_output=True, text=True).stdout

    assert [] == [line for line in found.splitlines() if re.search(r"-\d+-[A-Za-z0-9+/=]{40,}$", line)]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for name in ("secrets", "sites/a-com", f"sites/{a_site().owner}"):
        (tmp_path / name).mkdir(mode=0o700, parents=True)
    return tmp_path


def make(where: Path, *owners: str) -> None:
    make_passwords(where / "secrets", where / "sites", *owners)


@pytest.mark.fault("F-44")
@pytest.mark.parametrize(("content", "mode"), [("", 0o600), ("changeme", 0o600), ("a" * 64, 0o644)])
def test_f44_a_password_on_the_host_that_is_empty_guessed_or_seen_is_made_anew(
    secrets: Path, monkeypatch: pytest.MonkeyPatch, content: str, mode: int
) -> None:
    """The facts show it, and the program replaces it, in both places."""
    site = a_site()
    bad = secrets / "secrets" / site.owner
    bad.write_text(content)
    bad.chmod(mode)
    digest = hashlib.sha256(content.encode()).hexdigest()
    known = {
        f"{redis.SECRETS}/{site.owner}": a_file(digest, mode, size=len(content)),
        f"{redis.SECRETS}/{redis.KEEPER}": a_file("1" * 64, 0o600, size=64),
        handing.PASSWORD.format(owner=site.owner): a_file(digest, 0o400, owner=site.owner),
    }
    plan = Recorded(monkeypatch, site, files=known).after(redis.sessions)
    runs = [change.args for change in plan if isinstance(change, Run)]
    assert [site.owner] == [args[-1] for args in runs]

    make(secrets, site.owner)

    made = bad.read_text()
    assert re.fullmatch("[0-9a-f]{64}", made)
    assert made != content
    assert 0o600 == stat.S_IMODE(bad.stat().st_mode)
    assert made == (secrets / "sites" / site.owner / "sessions.password").read_text()


@pytest.mark.fault("F-44")
def test_f44_a_good_password_stays(secrets: Path) -> None:
    make(secrets, "a-com", redis.KEEPER)
    before = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}

    make(secrets, "a-com", redis.KEEPER)

    assert before == {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
    assert 3 == len(before)
