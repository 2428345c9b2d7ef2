"""No value leaves its line, whatever the template."""

from __future__ import annotations

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
