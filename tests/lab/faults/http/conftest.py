"""Either web server with a page that tells what reached it, and somebody who means harm."""

from collections.abc import Iterator

import pytest

from ...front.visitor import Visitor, equipped, new_page
from ...machine import Machine, Stranger


@pytest.fixture(scope="module", params=["vps", "vps12"])
def host(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Both releases: HAProxy 2.6 and 3.0 read requests by different code."""
    with equipped(request.getfixturevalue(request.param)) as machine:
        yield machine


@pytest.fixture(scope="module")
def web(vps: Machine) -> Iterator[Machine]:
    """One release, where the difference does not matter and the time does."""
    with equipped(vps) as machine:
        yield machine


@pytest.fixture
def ask(stranger: Stranger, host: Machine) -> Visitor:
    """The stranger, who asks either host."""
    return Visitor(stranger, host)


@pytest.fixture
def visit(stranger: Stranger, web: Machine) -> Visitor:
    """The stranger, who asks the one host."""
    return Visitor(stranger, web)


@pytest.fixture
def page() -> str:
    return new_page()
