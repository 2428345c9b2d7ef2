"""Two hundred sites on one host: one script a step, and all of them serve."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Bare
from .lab import Lab
from .machine import Stranger

FEW, MANY = 10, 200


def answers(stranger: Stranger, scheme: str, names: Iterable[str]) -> list[str]:
    """Of each name's answer a line `CODE NAME`."""
    asked = "next\n".join(
        f'url = {scheme}://{name}/\noutput = /dev/null\nwrite-out = "%{{http_code}} {name}\\n"\ninsecure\n'
        for name in names
    )
    return stranger.check("curl --silent --parallel --parallel-max 20 --config -", stdin=asked).splitlines()


@pytest.fixture
def grown(lab: Lab, bare: Bare, tmp_path: Path) -> Callable[[int], dict[str, Any]]:
    """Lets a fresh host have a number of sites: the account of the bootstrap that made them."""
    host = bare()
    sites = tmp_path / "sites"
    sites.mkdir()
    lab.resolve("many.test", host)

    def bootstrap(number: int) -> dict[str, Any]:
        for index in range(number):
            (sites / f"s{index}.many.test.yml").write_text(f"domain: s{index}.many.test\n")
        directory = lab.describe(tmp_path, sites=sites)
        done = host.fab("bootstrap", "--json", directory=directory, timeout=900)
        told: dict[str, Any] = json.loads(done.stdout)
        told["code"] = done.returncode
        return told

    return bootstrap


@pytest.mark.demand
def test_two_hundred_sites(
    grown: Callable[[int], dict[str, Any]],
    stranger: Stranger,
    record_property: Callable[[str, object], None],
) -> None:
    """The times are noted for a reader and not judged here: scripts/bench compares them within one run."""
    first = grown(FEW)
    assert 0 == first["code"], first
    few = grown(FEW)

    added = grown(MANY)

    assert 0 == added["code"], [step for step in added["steps"] if step["outcome"] == "failed"]
    changed = [step for step in added["steps"] if step["outcome"] == "changed"]
    # The look, the history of /etc, and a script a step; a step that makes passwords looks at them before it goes on.
    assert added["round_trips"] <= len(changed) + 3

    many = grown(MANY)

    assert [] == [step for step in many["steps"] if step["outcome"] != "kept"]
    assert 1 == few["round_trips"] == many["round_trips"]
    for label, told in (
        ("first run, 10 sites", first),
        ("no-op, 10 sites", few),
        ("190 more", added),
        ("no-op, 200", many),
    ):
        record_property(label, told["seconds"])
        print(f"{label}: {told['seconds']} s")
    names = [f"s{index}.many.test" for index in range(MANY)]
    assert {f"301 {name}" for name in names} == set(answers(stranger, "http", names))
    assert {f"200 {name}" for name in names} == set(answers(stranger, "https", names))
