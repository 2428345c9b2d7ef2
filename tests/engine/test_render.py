"""No value leaves its line, whatever the template."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fabfile.engine import render


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "a\x1bb", "a\u2028b", "a\x85b"])
def test_a_value_that_would_break_its_line_is_refused(value: str) -> None:
    template = render.environment().from_string("ServerName {{ value }}")

    with pytest.raises(render.BadValue, match="line break or a control character"):
        template.render(value=value)


def test_a_name_without_a_value_is_refused_and_the_template_named(tmp_path: Path) -> None:
    (tmp_path / "x.j2").write_text("{{ missing }}")

    with pytest.raises(render.BadValue, match=r"templates/x\.j2.*missing"):
        render.render("/x", {}, tmp_path)


def test_braces_in_a_value_are_data() -> None:
    assert "{{ 7 * 7 }}" == render.environment().from_string("{{ value }}").render(value="{{ 7 * 7 }}")


@pytest.mark.parametrize(
    ("filter_", "value", "text"),
    [
        (render.apache, 'a "b" \\c', '"a \\"b\\" \\\\c"'),
        (render.haproxy, "a'b $c", "'a'\\''b $c'"),
        (render.vcl, "a b", '"a b"'),
        (render.ini, "a;b", '"a;b"'),
    ],
)
def test_a_value_is_quoted_for_its_syntax(filter_, value: str, text: str) -> None:  # type: ignore[no-untyped-def]
    assert text == filter_(value)


@pytest.mark.parametrize(("filter_", "value"), [(render.vcl, 'a"b'), (render.ini, 'a"b'), (render.ini, "a${b}")])
def test_what_a_syntax_cannot_hold_is_refused(filter_, value: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(render.BadValue):
        filter_(value)


def test_a_path_is_stated_once() -> None:
    assert "/etc/php/8.4/x.conf" == render.place("/etc/php/{php}/{site}.conf", {"php": 8.4, "site": "x"})


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for compiled templates, and Python keeps its own too."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(render, "CACHE", tmp_path / "kept")
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept"


def drawn(root: Path, text: str) -> str:
    """What becomes of a template in a new process."""
    root.mkdir(exist_ok=True)
    (root / "x.j2").write_text(text)
    render.environment.cache_clear()
    return render.render("/x", {"name": "b"}, root)


def test_a_compiled_template_is_kept_and_goes_with_its_text(tmp_path: Path, kept: Path) -> None:
    assert "a b" == drawn(tmp_path / "root", "a {{ name }}")
    (file,) = kept.iterdir()
    compiled = file.read_bytes()

    assert "a b" == drawn(tmp_path / "root", "a {{ name }}")
    assert compiled == file.read_bytes()
    assert "c b" == drawn(tmp_path / "root", "c {{ name }}")


def test_what_another_version_of_the_filters_compiled_is_not_taken(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn(tmp_path / "root", "{{ 'a' | ini }}")
    other = tmp_path / "render.py"
    other.write_text("another one")
    monkeypatch.setattr(render, "__file__", str(other))

    drawn(tmp_path / "root", "{{ 'a' | ini }}")

    assert 2 == len([*kept.iterdir()])


def test_where_python_keeps_no_bytecode_no_template_is_kept(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    assert "a b" == drawn(tmp_path / "root", "a {{ name }}")
    assert [] == [*kept.iterdir()]


def test_a_checkout_that_cannot_be_written_to_renders_all_the_same(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    assert "a b" == drawn(tmp_path / "root", "a {{ name }}")
