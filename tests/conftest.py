"""Two rings: what is under tests/lab needs real hosts and runs with --lab, or when it is named; the rest needs none.

What is marked `demand` takes too long for CI; it runs with --demand.
"""

from pathlib import Path

import pytest

LAB = Path(__file__).parent / "lab"
pytest_plugins = ["tests.lab.faults.table", "pytester"]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gatehouse")
    group.addoption("--lab", action="store_true", help="run the tests on lab hosts as well (minutes; needs Docker)")
    group.addoption("--keep-lab", action="store_true", help="leave the tests' lab up afterwards, for the next run")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the lab ring out, unless it was asked for."""
    if collection_path != LAB or config.getoption("--lab"):
        return None
    named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return None if any(path.is_relative_to(LAB) for path in named) else True
