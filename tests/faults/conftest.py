"""Every file that a bootstrap would write, for sites of a test's own; and how many examples a property gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from fabfile import flows, php, sshd
from fabfile.cache import places, redis
from fabfile.model import Fleet, Site
from tests.chapters.recording import Recorded, a_file, contents

# The same examples on every machine, and no file left behind; `many` is for --demand.
few = settings(database=None, deadline=None, max_examples=40, derandomize=True)
many = settings(database=None, deadline=None, max_examples=2000, derandomize=True)

Written = Callable[..., dict[str, str]]

# So that fail2ban's every jail is there.
PACKAGES = ("apache2", "haproxy", "vsftpd", "proftpd-core", "dovecot-core", "postfix", "php8.4-fpm", "redis-server")


class Whole(Recorded):
    """Keeps also what would go over before a step ends."""

    def flush(self) -> None:
        """Nothing goes over."""


@pytest.fixture(scope="session")
def written() -> Iterator[Written]:
    """`written(site, ..., fleet=...)`: path -> text of what `bootstrap` would put on a Debian 13 host."""
    with pytest.MonkeyPatch.context() as monkeypatch:

        def write(*sites: Site, fleet: Fleet | None = None, **known: Any) -> dict[str, str]:
            owners = {site.owner for site in sites if site.php}
            files = {f"{redis.SECRETS}/{name}": a_file("0" * 64, 0o600) for name in {redis.KEEPER, *owners}}
            files |= {f"{php.POOL_SECRETS}/{name}.conf": a_file("1" * 64, 0o600) for name in owners}
            files |= {f"{places.PASSWORDS}/{name}": a_file("2" * 64, 0o600) for name in owners}
            files |= {sshd.MAIN: a_file(), f"{sshd.ROOT}/ssh_host_ed25519_key.pub": a_file()}
            facts: dict[str, Any] = {"packages": dict.fromkeys(PACKAGES, "1"), "files": files, "ipv6": "1"}
            host = Whole(monkeypatch, *sites, **(facts | {"ssh_ports": (22,)} | known))
            host.fleet = fleet or host.fleet
            wanted = flows.steps_of(host.fleet.roles(host.name), host.fleet.edge.server)  # type: ignore[no-untyped-call]
            return contents(host.after(*wanted))

        yield write
