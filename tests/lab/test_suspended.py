"""A site rests where its visitors arrive: at an edge that makes no pages itself, whichever host it is typed at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import Bare
from .lab import Lab
from .machine import Machine, Stranger

pytestmark = pytest.mark.demand

SITE, OTHER = "example.com", "kiosk.co.test"


@dataclass
class Edge:
    """`front` is an edge and nothing else, `web` makes the pages behind it."""

    front: Machine
    web: Machine
    stranger: Stranger
    directory: Path

    def done(self, machine: Machine, *words: str) -> str:
        done = machine.fab(*words, directory=self.directory)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def says(self, site: str) -> str:
        """What a visitor gets: head and page."""
        return self.stranger.curl("--include", f"https://{site}/", to=self.front).out

    def state(self, site: str) -> str:
        rows = json.loads(self.done(self.front, "site.list", "--json"))
        return next(str(row["state"]) for row in rows if row["domain"] == site)


@pytest.fixture(scope="module")
def edge(lab: Lab, own: Bare, stranger: Stranger, tmp_path_factory: pytest.TempPathFactory) -> Edge:
    """An edge, and what makes the pages behind it."""
    front, web = own(), own("bookworm")
    hosts = {front.name: {"address": front.ip, "roles": ["edge"]}, web.name: {"address": web.ip, "roles": ["web"]}}
    directory = lab.describe(tmp_path_factory.mktemp("edge"), lab.directory / "sites", hosts=hosts)
    edge = Edge(front, web, stranger, directory)
    edge.done(web, "bootstrap")
    with lab.pointing(front):
        edge.done(front, "bootstrap")
    return edge


def test_a_site_rests_at_the_edge_alone_and_over_what_else_is_done_there(edge: Edge) -> None:
    assert "Down for maintenance" not in edge.says(SITE)
    edge.done(edge.web, "site.suspend", SITE)
    page = edge.says(SITE)
    assert page.startswith("HTTP/2 503")
    assert "retry-after: 600" in page.lower()
    assert "Down for maintenance" in page
    assert "Down for maintenance" not in edge.says(OTHER)
    assert ("suspended", "served") == (edge.state(SITE), edge.state(OTHER))
    assert "changed" not in edge.done(edge.front, "haproxy").replace("0 changed", "")
    edge.done(edge.front, "site.resume", SITE)
    assert "Down for maintenance" not in edge.says(SITE)


def test_an_edge_that_is_away_is_named_and_it_is_no_success(edge: Edge) -> None:
    edge.front.check("iptables -I INPUT -p tcp --dport 22 -j REJECT")
    try:
        done = edge.web.fab("site.suspend", SITE, directory=edge.directory)
    finally:
        edge.front.check("iptables -D INPUT -p tcp --dport 22 -j REJECT")
    assert done.returncode == 1, done.stdout
    assert f"at {edge.front.name} visitors still get it" in done.stderr
