"""The packages of later steps come with the first installation."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from fabric import Connection

from fabfile import flows, sshd
from fabfile.engine import Host
from fabfile.engine.ahead import packages
from fabfile.engine.changes import Install
from fabfile.engine.facts import Facts
from fabfile.engine.remote import identity
from fabfile.model import Fleet, Site
from tests.chapters.recording import Recorded, site

SITES = (
    site("a.example", database=True),
    site("b.example", runtime="fcgid"),
    site("c.example", runtime="ajp"),
    site("d.example", runtime="static"),
)
BARE: dict[str, Any] = {"hostname": "vps", "memory_mb": 4096, "ssh_ports": (22,)}


@pytest.fixture
def bare() -> Iterator[tuple[Connection, Host]]:
    """A bare host of these sites, which nobody can reach."""
    c = Connection("vps.invalid")
    host = Host("vps", Fleet(), visit=None)  # type: ignore[arg-type]
    host.sites = host.fronted = host.certified = SITES
    host._facts = Facts(system="debian", release="13", **BARE)
    Host.known[identity(c)] = host
    yield c, host
    del Host.known[identity(c)]


class Whole(Recorded):
    """Keeps what would go over before a step ends."""

    def flush(self) -> None:
        """Nothing goes over."""


def installed(monkeypatch: pytest.MonkeyPatch, *sites: Site) -> set[str]:
    """What a whole bootstrap installs, step after step."""
    steps = (step for step in flows.BOOTSTRAP if step is not sshd.configure)  # its guard wants a host's keys
    wished = Whole(monkeypatch, *sites, **BARE).after(*steps)
    return {name for one in wished if isinstance(one, Install) for name in one.names}


def test_all_that_the_steps_want_is_foreseen(bare: tuple[Connection, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    foreseen = packages(*bare, flows.BOOTSTRAP)

    wanted = installed(monkeypatch, *SITES)
    assert {"apache2", "mariadb-server", "libapache2-mod-fcgid", "tomcat10-common", "redis-server"} < wanted
    assert wanted <= {*foreseen.names}
    assert "iptables-persistent iptables-persistent/autosave_v4 boolean false" in foreseen.answers


def test_to_foresee_changes_nothing(bare: tuple[Connection, Host], capsys: pytest.CaptureFixture[str]) -> None:
    c, host = bare
    before = deepcopy(vars(host))

    packages(c, host, flows.BOOTSTRAP)

    assert before == vars(host)
    assert Host.of(c) is host
    assert ("", "") == capsys.readouterr()


def test_what_is_there_is_not_foreseen(bare: tuple[Connection, Host]) -> None:
    c, host = bare
    host.facts.packages.update(dict.fromkeys(packages(c, host, flows.BOOTSTRAP).names, "1"))

    assert packages(c, host, flows.BOOTSTRAP) == Install(())


def test_the_first_installation_brings_it_and_starts_nothing(bare: tuple[Connection, Host]) -> None:
    _, host = bare
    host.packages_ahead = lambda: Install(("nginx", "varnish"), answers=("nginx a/b boolean false",))

    first, second = host._packed([Install(("lego",)), Install(("socat",))])

    assert first == Install(("lego",), True, ("nginx a/b boolean false",), ("nginx", "varnish"))
    assert second == Install(("socat",))
