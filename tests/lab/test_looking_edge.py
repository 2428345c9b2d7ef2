"""Looking behind an edge: the front says which host went on, and that one what it did."""

from __future__ import annotations

import json
import time

import pytest

from .pair import Pair
from .test_looking import SITE, layer


@pytest.mark.demand
def test_an_edge_says_which_host_answered_and_that_one_what_it_did(pair: Pair) -> None:
    """Both are asked in turn, so of two requests one goes to the other host."""
    pages = [f"https://{SITE}/gone-{time.monotonic_ns()}" for _ in range(4)]
    told = [json.loads(pair.fab("why", page, "--json").stdout) for page in pages]

    away = next(answer for answer in told if layer(answer, "varnish")["text"] == f"on {pair.second.name}")

    assert away["next"].startswith(f"fab -H {pair.second.name} logs {SITE} --id ")
    there = pair.second.fab(*away["next"].split()[3:], "--json", directory=pair.directory)
    (request,) = json.loads(there.stdout)["requests"]
    assert (404, None, away["request"]["id"]) == (request["status"], request["front"], request["id"])
    asked = pair.second.fab("why", SITE, directory=pair.directory)
    assert (2, True) == (asked.returncode, f"fab -H {pair.front.name} why {SITE}" in asked.stderr)
