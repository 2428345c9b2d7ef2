"""Two hundred sites on one host: one script a step, and all of them serve."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Bare
from .lab import Lab
from .machine import Machine, Stranger

FEW, MANY = 10, 200
ASK = """
while read -r name; do
    for scheme in http https; do
        echo "url = $scheme://$name/"
        echo 'output = /dev/null'
        echo 'write-out = "%{http_code} %{url}\\n"'
        echo "connect-to = ::$1:"
        echo next
    done
done | sed '$d' | curl --silent --insecure --parallel --parallel-max 20 --config -
"""


@pytest.fixture
def grown(lab: Lab, bare: Bare, tmp_path: Path) -> tuple[Machine, Callable[[int], dict[str, Any]]]:
    """A fresh host, and how to let it have a number of sites: the account of the bootstrap that made them."""
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

    return host, bootstrap


def test_two_hundred_sites(
    grown: tuple[Machine, Callable[[int], dict[str, Any]]],
    stranger: Stranger,
    record_property: Callable[[str, object], None],
) -> None:
    """The times are noted for a reader and not judged here: scripts/bench compares them within one run."""
    host, bootstrap = grown
    first = bootstrap(FEW)
    assert 0 == first["code"], first
    few = bootstrap(FEW)

    added = bootstrap(MANY)

    assert 0 == added["code"], [step for step in added["steps"] if step["outcome"] == "failed"]
    changed = [step for step in added["steps"] if step["outcome"] == "changed"]
    # The look, the history of /etc, and a script a step; a step that makes passwords looks at them before it goes on.
    assert added["round_trips"] <= len(changed) + 3

    many = bootstrap(MANY)

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
    names = "".join(f"s{index}.many.test\n" for index in range(MANY))
    answers = stranger.check(f"set -- {host.ip}; {ASK}", stdin=names).splitlines()
    assert {f"301 http://{name}/" for name in names.split()} | {
        f"200 https://{name}/" for name in names.split()
    } == set(answers)
