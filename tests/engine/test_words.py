"""What is typed: words to a task's arguments, with positional ones that may be left out."""

from __future__ import annotations

from typing import Any

import pytest
from invoke import Collection
from invoke.exceptions import ParseError
from invoke.parser import Parser

from fabfile.engine import query


@query(positional=["domain"])
def verify(c, domain="", json=False):  # type: ignore[no-untyped-def]
    """One name, or all."""


@query(positional=["address"])
def ban(c, address, jail="by-hand"):  # type: ignore[no-untyped-def]
    """One address."""


def typed(line: str) -> list[tuple[str, dict[str, Any]]]:
    contexts = Collection(verify, ban).to_contexts()
    return [(each.name, each.as_kwargs) for each in Parser(contexts=contexts).parse_argv(line.split())]


@pytest.mark.parametrize(
    ("line", "domain", "json"),
    [
        ("verify", "", False),
        ("verify example.com", "example.com", False),
        ("verify --json", "", True),
        ("verify --json example.com", "example.com", True),
        ("verify example.com --json", "example.com", True),
        ("verify --domain example.com", "example.com", False),
    ],
)
def test_a_positional_with_a_default_may_be_left_out(line: str, domain: str, json: bool) -> None:
    assert [("verify", {"domain": domain, "json": json})] == typed(line)


def test_the_next_task_is_no_argument_of_this_one() -> None:
    assert ["verify", "ban", "verify"] == [name for name, _ in typed("verify ban 192.0.2.1 verify")]
    assert "192.0.2.1" == typed("verify ban 192.0.2.1 verify")[1][1]["address"]


def test_one_without_a_default_must_be_there() -> None:
    with pytest.raises(ParseError, match="address"):
        typed("ban")
