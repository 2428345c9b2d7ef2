"""YAML is read as it is written, or refused with the line."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fabfile.model import Refusal, load_fleet, load_sites
from fabfile.model.document import SIZE_MAX, Trap, plain, read

from .conftest import Folder, quick

Said = Callable[[str | bytes], str]

EXAMPLE = Path(__file__).parents[2] / "sites" / "example.com.yml"


@pytest.mark.fault("F-31")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "sites/example.com.yml:1: is empty"),
        ("# nothing but words\n", "sites/example.com.yml:1: is empty"),
        ("---\n", "sites/example.com.yml:1: is empty"),
        ("- domain: example.com\n", ":1: must hold keys at the top, not a list"),
        ("example.com\n", ":1: must hold keys at the top, not one value"),
        ("domain: example.com\nphp:\n\tchildren: 5\n", ":3: is indented with a tab; indent with spaces"),
        ("domain: example.com\n\tphp: false\n", ":2: is indented with a tab"),
        (
            "domain: example.com\nowner: x\ndomain: example.org\n",
            ":3: domain: is written twice, in line 1 and in line 3",
        ),
        (
            "domain: example.com\nphp:\n  children: 5\n  children: 6\n",
            ":4: php.children: is written twice, in line 3 and in line 4",
        ),
        ("domain: example.com\nowner: 'x\n", ":2: a quote is opened here and never closed"),
        ("domain: example.com\n\naliases: [a.com\n", ":3: a [ or { is opened here"),
        ("domain: example.com\n  owner: x\n", ':2: is not YAML: there is a ": " where no key fits'),
        ("domain: example.com\nowner: @x\n", ":2: is not YAML: a value that begins with this character needs quotes"),
        ("domain: example.com\nphp: {}\n extra: 1\n", ":3: is not YAML: the indentation does not fit"),
        ("domain: example.com\n---\nowner: x\n", ":2: holds a second document"),
        ("domain: example.com\n? [a, b]\n: c\n", ":2: a key must be a plain word"),
        (b"domain: example.com\nowner: a\0b\n", ":2: holds an invisible character, U+0000; delete it"),
        ("domain: example.com\n# \u202egnp.exe\n", ":2: holds an invisible character, U+202E"),
        (b"domain: example.com\n# caf\xe9\n", ":2: is not UTF-8"),
        ("domain: example.com\n".encode("utf-16"), ":1: is UTF-16; save it as UTF-8"),
        (b"#" * (SIZE_MAX + 1), "example.com.yml: is larger than 256 KiB"),
        ("domain: !!python/object/apply:os.system [id]\n", "domain: !!python/object/apply:os.system is a tag"),
        ("domain: !!str example.com\n", ":1: domain: !!str is a tag"),
        ("domain: &a example.com\n", ":1: domain: &a is an anchor"),
        ("domain: example.com\nowner: *a\n", ":2: owner: *a is an alias"),
        ("domain: example.com\nphp:\n  <<: {}\n", ":3: php.<<: YAML reads this key as a special key"),
        ("domain: example.com\nno: 1\n", ':2: no: YAML reads this key as false\n  for example:  "no":'),
        ("[" * 5000, ":1: must hold keys at the top"),
        ("domain: " + "[" * 5000, ":1: is nested deeper than 8 levels"),
    ],
)
def test_f31_what_is_no_plain_yaml_is_refused_at_its_line(said: Said, content: str | bytes, message: str) -> None:
    assert message in said(content)


@pytest.mark.fault("F-31")
def test_f31_an_alias_bomb_is_refused_at_once(said: Said) -> None:
    bomb = "a: &a [x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{f'*{chr(97 + i)},' * 50}]\n" for i in range(20))
    start = time.perf_counter()
    assert "is an alias" in said("domain: example.com\n" + bomb)
    assert time.perf_counter() - start < 1


@pytest.mark.fault("F-31")
def test_f31_a_hundred_thousand_values_are_refused_soon(said: Said) -> None:
    start = time.perf_counter()
    assert "example.com.yml:2: holds a list of more than 1000 values" in said(
        "domain: example.com\naliases: [" + "a," * 100_000 + "]\n"
    )
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffdomain: example.com\n",
        "domain: example.com\r\nowner: x-com\r\n",
        "--- \ndomain: example.com",
        "{domain: example.com}",
    ],
    ids=["byte order mark", "Windows line ends", "document start", "flow style"],
)
def test_other_editors_and_styles_are_understood(sites: Folder, content: str) -> None:
    assert [site.domain for site in sites.write("example.com.yml", content).load()] == ["example.com"]


@pytest.mark.fault("F-32")
@pytest.mark.parametrize(
    ("text", "reading"),
    [
        *((word, "true") for word in ("yes", "Yes", "YES", "on", "On", "y", "Y", "True", "TRUE")),
        *((word, "false") for word in ("no", "No", "NO", "off", "OFF", "n", "N", "False", "FALSE")),
        ("Null", "null"),
        ("8.10", "the number 8.1"),
        ("8.", "the number 8"),
        (".5", "the number 0.5"),
        ("1e3", "the number 1000"),
        ("0123", "the number 83 (octal)"),
        ("0o17", "the number 15 (octal)"),
        ("089", "a number"),
        ("+5", "a number"),
        ("1_000", "a number"),
        ("-0", "a number"),
        ("0x1F", "a hexadecimal number"),
        ("0b101", "a binary number"),
        ("12:30", "a number in base 60"),
        ("1:2:3:4:5:6:7:8", "a number in base 60"),
        (".inf", "a number without an end"),
        (".NaN", "a number without an end"),
        ("2026-11-20", "a date"),
        ("9" * 30, "a number"),
        ("<<", "a special key"),
    ],
)
def test_f32_words_that_a_yaml_reader_would_change_are_traps(text: str, reading: str) -> None:
    found = plain(text)
    assert isinstance(found, Trap)
    assert found.text == text
    assert found.reading == reading


@pytest.mark.fault("F-32")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("0", 0),
        ("5", 5),
        ("-5", -5),
        ("4096", 4096),
        ("128M", "128M"),
        ("example.com", "example.com"),
        ("8.4.1", "8.4.1"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("10.0.0.11", "10.0.0.11"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("nobody", "nobody"),
        ("once", "once"),
        ("-rf", "-rf"),
        ("1st", "1st"),
    ],
)
def test_f32_other_words_are_what_they_say(text: str, value: object) -> None:
    found = plain(text)
    assert (type(found), found) == (type(value), value)


def test_quotes_make_text_of_everything(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text("a: 'no'\nb: \"8.10\"\nc: |\n  12\n")
    assert read(file).data == {"a": "no", "b": "8.10", "c": "12\n"}


def test_a_refusal_never_garbles_the_terminal(said: Said) -> None:
    text = said('domain: "\\e[2J\\u202e\\r.com"\nowner: "\\a"\n"\\u00a0": 1\n')
    assert all(line.isprintable() for line in text.split("\n"))


def test_what_is_no_file_is_refused(sites: Folder) -> None:
    (sites.path / "example.com.yml").mkdir()
    (sites.path / "gone.com.yml").symlink_to("nowhere")
    assert [problem.message for problem in sites.refusal().problems] == ["is not a file", "there is no such file"]


@pytest.mark.fault("F-31")
@quick
@given(st.binary(max_size=400))
@example(b"%YAML 9.9\n---\na: b")
@example(b"%TAG ! tag:x,2000:\n--- !foo\na: b")
@example(b"a: !<tag:yaml.org,2002:int> 5")
@example(b"\xef\xbb\xbf\xef\xbb\xbfa: b")
@example(b'"\\ud800": "\\ud800"')
@example(b'domain: "\\ud800.com"')
@example(b'domain: "a\\0.com"')
@example(b"? \n: \n")
@example("a: !\u00e9%0A x".encode())
@example("domain: 2026-01-01 \u3000x".encode())
@example(b"a: b\n...\nc: d\n")
def test_f31_any_bytes_load_or_are_refused(content: bytes) -> None:
    check(content)


@pytest.mark.fault("F-31")
@quick
@given(st.data())
def test_f31_any_change_of_the_example_loads_or_is_refused(data: st.DataObject) -> None:
    text = EXAMPLE.read_text()
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 8))
    noise = data.draw(st.text(alphabet="\n\t :-[]{}#&*!|>'\"%@`,?~0159.eExno\\/\u00fc\u200d\U0001f600\x00", max_size=8))
    check((text[:at] + noise + text[at + cut :]).encode())


def check(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "example.com.yml")
        file.write_bytes(content)
        for load in (lambda: load_sites(Path(directory)), lambda: load_fleet(file)):
            text = outcome(load)
            assert all(line.isprintable() for line in text.split("\n"))


def outcome(load: Callable[[], object]) -> str:
    """What the operator reads."""
    try:
        load()
    except Refusal as refusal:
        return f"{refusal.problems[0].message}\n{refusal}"
    return "loaded"
