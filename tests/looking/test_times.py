"""What may stand after --since."""

from __future__ import annotations

from datetime import datetime

import pytest

from fabfile.looking.gathered import Wanted
from fabfile.looking.times import moment
from fabfile.model import Refusal


@pytest.mark.parametrize(("text", "told"), [("90s", "-90"), ("15m", "-900"), ("1h", "-3600"), ("2d", "-172800")])
def test_some_time_ago_is_counted_by_the_host_s_clock(text: str, told: str) -> None:
    assert told == moment(text, "--since")


@pytest.mark.parametrize("text", ["2025-11-21T06:25:43+00:00", "2025-11-21T07:25:43+01:00", "20251121T062543Z"])
def test_an_iso_time_is_a_moment(text: str) -> None:
    assert "1763706343" == moment(text, "--since")


def test_without_a_zone_it_is_the_operator_s_own_time() -> None:
    assert str(int(datetime(2025, 11, 21, 6, 25).astimezone().timestamp())) == moment("2025-11-21T06:25", "--since")


@pytest.mark.parametrize(
    "text",
    ["", "5", "1w", "-1h", "0s", "1.5h", "yesterday", "99999d", "1h; id", "20251301", "1234", "٣m", "0001-01-01"],
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Refusal) as refused:
        moment(text, "--since")

    assert "--since 2026-01-31T14:30" in str(refused.value)


@pytest.mark.parametrize("words", [("6xx",), ("50",), ("5xx,",), ("", "xyz"), ("", "../../x"), ("", "a|b")])
def test_what_is_no_status_and_no_number_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(Refusal):
        Wanted(*words)
