"""What a run tells machines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from fabfile.engine import as_data


class Rule(NamedTuple):
    number: int
    words: tuple[str, ...] = ()


@dataclass
class Finding:
    name: str
    rules: list[Rule]


def test_records_within_records_are_objects_too() -> None:
    found = [Finding("a", [Rule(1, ("x", "y")), Rule(2)])]

    told = json.loads(json.dumps(as_data({"found": found, "at": MappingProxyType({"b": Rule(3)}), "well": None})))

    rules = [{"number": 1, "words": ["x", "y"]}, {"number": 2, "words": []}]
    wanted = {"found": [{"name": "a", "rules": rules}], "at": {"b": {"number": 3, "words": []}}, "well": None}
    assert wanted == told
