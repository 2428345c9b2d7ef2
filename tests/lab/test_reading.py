"""Every task that only looks, on a host with fifty sites: valid JSON, within the time that an operator waits for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .lab import Lab
from .machine import Machine

SITES = 50
DOMAIN = "s7.many.test"
READING: dict[str, tuple[str, ...]] = {
    "status": (),
    "site.list": (),
    "site.releases": (DOMAIN,),
    "logs": (DOMAIN,),
    "why": (f"https://{DOMAIN}/",),
    "haproxy.servers": (),
    "varnish.stats": (),
    "fail2ban.status": (),
    "firewall.show": (),
    "cert.list": (),
    "cert.verify": (),
    "cert.preflight": (DOMAIN,),
    "db.list": (),
    "db.users": (),
    "history": (),
    "lock.status": (),
}
DOING = {
    *("bootstrap", "check", "renew", "undo", "lock.break"),
    *("cert.renew", "varnish.purge", "fail2ban.unban", "logs.report"),
    *("site.apply", "site.deploy", "site.rollback", "site.prove-isolation"),
    *("balancer.drill", "db.create", "db.dump", "db.restore", "db.drill"),
    *("waf.test", "waf.report"),
}
"""Tasks with --json that do something, or bring something back; and those of hosts that are no web servers."""


@pytest.fixture(scope="module")
def many(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Path]]:
    """A fresh host with fifty sites, all with their certificates."""
    host = lab.add("many", "trixie")
    try:
        place = tmp_path_factory.mktemp("many")
        (place / "sites").mkdir()
        for number in range(SITES):
            (place / "sites" / f"s{number}.many.test.yml").write_text(f"domain: s{number}.many.test\n")
        lab.resolve("many.test", host)
        directory = lab.describe(place, sites=place / "sites")
        done = host.fab("bootstrap", directory=directory, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        yield host, directory
    finally:
        lab.resolve("many.test", None)
        lab.remove(host)


@pytest.mark.demand
@pytest.mark.parametrize("task", READING)
def test_it_answers_at_once(many: tuple[Machine, Path], task: str) -> None:
    """The times are told and not judged here: a test must not fail because its machine is busy."""
    host, directory = many
    words = task, *READING[task]
    host.fab(*words, directory=directory)
    began = time.monotonic()
    told = host.fab(*words, "--json", directory=directory)
    seconds = time.monotonic() - began

    assert told.returncode in (0, 1), told.stdout + told.stderr
    json.loads(told.stdout)
    print(f"{task}: {seconds:.2f} s, exit code {told.returncode}")
