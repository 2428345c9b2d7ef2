"""Either web server with a page that tells what reached it, and a visitor."""

from collections.abc import Iterator

import pytest

from ..machine import Machine, Stranger
from .visitor import Visitor, equipped, new_page


@pytest.fixture(scope="module", params=["vps", "vps12"])
def host(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with equipped(request.getfixturevalue(request.param)) as machine:
        yield machine


@pytest.fixture
def ask(stranger: Stranger, host: Machine) -> Visitor:
    return Visitor(stranger, host)


@pytest.fixture
def page() -> str:
    return new_page()
