"""How the keys of YAML are declared: each with what it is, what it may be, and an example."""

from __future__ import annotations

from typing import Any

from pydantic import AfterValidator, ConfigDict, Field

from .refusal import Wrong

FROZEN = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

LIST_MAX = 100  # also the names that Let's Encrypt puts in one certificate ("Rate Limits")


def number(default: int, low: int, high: int, what: str) -> Any:
    """A key that holds a whole number in a range."""
    return Field(
        default, ge=low, le=high, title=what, description=f"a whole number from {low} to {high}", examples=[default]
    )


def switch(default: bool, what: str) -> Any:
    """A key that is true or false."""
    return Field(default, title=what, description="true or false", examples=[not default])


def choice(default: str, other: str, what: str) -> Any:
    """A key that is one of two words."""
    return Field(default, title=what, description=f"{default} or {other}", examples=[other])


def words(what: str, expected: str, *example: str) -> Any:
    """A key that holds a list, empty by default."""
    return Field((), title=what, description=expected, examples=[list(example)])


def _unique(items: tuple[Any, ...]) -> tuple[Any, ...]:
    seen = set()
    for index, item in enumerate(items):
        if item in seen:
            raise Wrong(f"{item} is in the list twice", at=(index,))
        seen.add(item)
    if len(items) > LIST_MAX:
        raise Wrong(f"holds {len(items)} values; at most {LIST_MAX} fit")
    return items


unique = AfterValidator(_unique)  # a list without repetition, of a size that fits in a line of configuration
