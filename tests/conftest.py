"""Three rings.  What is plainly run are the pure tests, in seconds, on every save.

--rendered adds those that run our programs as they are, with doubles around them (tests/renew); --lab those on real
hosts (tests/lab).  Either is run as well when it is named.  What is marked `demand` takes too long for CI; it runs with
--demand.
"""

import signal
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
RINGS = {TESTS / "lab": "--lab", TESTS / "renew": "--rendered"}
pytest_plugins = ["tests.lab.faults.table", "pytester"]


def pytest_configure() -> None:
    """Who is started in the background, as by a CI, may be told to ignore Ctrl-C; programs under test are not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gatehouse")
    group.addoption("--lab", action="store_true", help="run the tests on lab hosts as well (minutes; needs Docker)")
    group.addoption("--rendered", action="store_true", help="run the tests of our programs as well (seconds)")
    group.addoption("--crs", metavar="DIR", help="DIR/3.3.7 and DIR/3.3.4: checkouts of the core rule set")
    group.addoption("--keep-lab", action="store_true", help="leave the tests' lab up afterwards, for the next run")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the outer rings out, unless they were asked for."""
    if collection_path not in RINGS or config.getoption(RINGS[collection_path]):
        return None
    named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return None if any(path.is_relative_to(collection_path) for path in named) else True
