"""Fixtures of the lab ring: a lab of the tests' own, its two web servers, fresh hosts, and somebody on the Internet.

The lab is `.lab/tests`, beside the one that `inv lab.up` makes; GATEHOUSE_LAB names another directory. With
`pytest -n 2` every worker has a lab of its own.
"""

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .corner import A_ROOT, B_ROOT, A, B, Corner, borrowed
from .lab import Lab
from .machine import CHECKOUT, Machine, Stranger
from .pair import Pair, paired
from .witness import Witness

# Beside example.com: three labels in its domain, a subdomain that is not www, an alias elsewhere.
SECOND_SITE = """\
domain: kiosk.co.test
subdomains: [www, shop]
aliases: [kiosk.test]
"""

Bare = Callable[..., Machine]
Engine = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Iterator[Lab]:
    """A new lab with the sites example.com and kiosk.co.test, taken away at the end; --keep-lab keeps and reuses it."""
    yield from _lab(pytestconfig)


@pytest.fixture(scope="session")
def split(pytestconfig: pytest.Config) -> Iterator[Lab]:
    """Six hosts of a split stack behind an edge, bare (tests/lab/split.py), with the same sites."""
    yield from _lab(pytestconfig, "split")


@pytest.fixture(scope="session")
def api(pytestconfig: pytest.Config) -> Iterator[Lab]:
    """An API server and its database host, bare; the same."""
    yield from _lab(pytestconfig, "api")


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Lab]:
    """A balancer and seven members with a service of their own, bare; the same."""
    yield from _lab(pytestconfig, "cluster")


def _lab(pytestconfig: pytest.Config, fleet: str = "") -> Iterator[Lab]:
    keep = pytestconfig.getoption("--keep-lab")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    lab = Lab(Path(os.environ.get("GATEHOUSE_LAB", CHECKOUT / ".lab" / "tests"), worker))
    lab = lab.with_fleet(fleet) if fleet else lab
    if not keep:
        lab.down()  # what a run that was killed has left
    sites = lab.directory / "sites"
    sites.mkdir(parents=True, exist_ok=True)
    (sites / "example.com.yml").write_bytes((CHECKOUT / "sites" / "example.com.yml").read_bytes())
    (sites / "kiosk.co.test.yml").write_text(SECOND_SITE)
    lab.up()
    yield lab
    if not keep:
        lab.down()


@pytest.fixture(scope="session")
def vps(lab: Lab) -> Machine:
    """A Debian 13 web server that serves both sites, shared by all tests: whoever changes it puts it back."""
    return _bootstrapped(lab, "vps")


@pytest.fixture(scope="session")
def vps12(lab: Lab) -> Machine:
    """The same on Debian 12. The sites' names point to `vps`, so ask with `stranger.curl(..., to=vps12)`."""
    return _bootstrapped(lab, "vps12")


@pytest.fixture(scope="session")
def witness(lab: Lab) -> Witness:
    """A virtual machine that serves both sites, shared by all tests; its start takes many minutes."""
    machine = lab.witness()
    _bootstrapped(lab, "witness")
    return machine


@pytest.fixture(params=["vps", "vps12"])
def host(request: pytest.FixtureRequest) -> Machine:
    """Either web server: the same test on both releases."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture
def corner(host: Machine) -> Iterator[Corner]:
    """A place of example.com's for this test."""
    yield from borrowed(host, A, A_ROOT)


@pytest.fixture
def theirs(host: Machine) -> Iterator[Corner]:
    """A place of kiosk.co.test's for this test."""
    yield from borrowed(host, B, B_ROOT)


@pytest.fixture
def fleet(lab: Lab, tmp_path: Path) -> Callable[..., Path]:
    """A directory like the lab's, with these sites besides its own."""

    def make(*domains: str) -> Path:
        directory = tmp_path / f"fleet{len(list(tmp_path.iterdir()))}"
        shutil.copytree(lab.directory / "sites", directory / "sites")
        for domain in domains:
            (directory / "sites" / f"{domain}.yml").write_text(f"domain: {domain}\n")
        for name in ("ssh_config", "known_hosts"):
            shutil.copy(lab.directory / name, directory)
        text = (lab.directory / "fleet.yml").read_text()
        (directory / "fleet.yml").write_text(text.replace(str(lab.directory / "sites"), str(directory / "sites")))
        return directory

    return make


@pytest.fixture(scope="module")
def pair(
    lab: Lab, vps: Machine, vps12: Machine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """`vps` as a front (edge and web) and `vps12` as a web server behind it, made so by `bootstrap`; then as before."""
    yield from paired(lab, vps, vps12, tmp_path_factory.mktemp("pair"))


@pytest.fixture
def bare(lab: Lab) -> Iterator[Bare]:
    """Starts bare servers for this test alone: `bare()`, `bare("bookworm")`; up within seconds, gone afterwards."""
    with lab.adding() as start:
        yield start


@pytest.fixture(scope="module")
def own(lab: Lab) -> Iterator[Bare]:
    """The same for the tests of a module together: who makes other hosts of them, or breaks them, takes these."""
    with lab.adding() as start:
        yield start


@pytest.fixture(scope="session")
def stranger(lab: Lab) -> Stranger:
    """A client on the Internet with tools and without credentials; it trusts the lab's CA and nobody else."""
    return lab.stranger


@pytest.fixture
def engine(lab: Lab) -> Engine:
    """Runs a few lines of Python against a host as a chapter would: the engine under a step of the test's own."""

    def run(machine: Machine, body: str, *more: str) -> subprocess.CompletedProcess[str]:
        program = f"""
            import sys
            from pathlib import Path
            from fabfile.engine import Host, Problem
            from fabfile.engine.remote import connect
            host = Host.of(connect({machine.name!r}, Path({str(lab.directory / "ssh_config")!r})))
            with host.running("test.step"), host.step("test.step"):
                try:
                    {textwrap.indent(textwrap.dedent(body), " " * 20).strip()}
                except Problem as problem:
                    print("PROBLEM", problem.message, "NEXT", problem.next_step, "DETAILS", problem.details)
        """
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), *more],
            cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    return run


def _bootstrapped(lab: Lab, name: str) -> Machine:
    """The host after the command that a person would type. Its failure is the test's, never a skip."""
    machine = lab.machine(name)
    with lab.pointing(machine):
        done = machine.fab("bootstrap")
    if done.returncode:
        pytest.fail(f"fab -H {name} bootstrap: exit {done.returncode}\n{done.stdout}{done.stderr}", pytrace=False)
    return machine
