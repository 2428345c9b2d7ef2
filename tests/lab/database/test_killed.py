"""MariaDB dies while it is being made: whatever is left, the next run makes a whole one of it."""

from pathlib import Path

import pytest

from ..conftest import Bare
from ..lab import Lab

# `-x` is the server's own name; Debian's installer starts it, too, to make the system's tables.
KILLER = "systemd-run -q --unit=killer sh -c 'while :; do pkill -KILL -x mariadbd; sleep {}; done'"


@pytest.mark.demand
@pytest.mark.parametrize("release", ["trixie", "bookworm"])
@pytest.mark.parametrize("pause", [0.1, 0.4, 1.5])
def test_a_first_bootstrap_whose_mariadb_is_killed_over_and_over(
    lab: Lab, bare: Bare, tmp_path: Path, release: str, pause: float
) -> None:
    host, sites = bare(release), tmp_path / "sites"
    sites.mkdir()
    (sites / "late.test.yml").write_text(f"domain: late.test\ndatabase: true\nhosts: [{host.name}]\n")
    directory = lab.describe(tmp_path, sites=sites)
    assert 0 == host.fab("system", "site", directory=directory).returncode
    host.check(KILLER.format(pause))
    host.fab("database", directory=directory)
    host.check("systemctl stop killer")

    done = host.fab("database", directory=directory)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "7 kept, 0 changed" in host.fab("database", directory=directory).stdout
    mine = "CREATE TABLE t (n INT); INSERT INTO t VALUES (7); SELECT n FROM t"
    assert "7\n" == host.check(f"setpriv --reuid late-test --clear-groups mariadb -N late-test -e '{mine}'")
    assert "0\n" == host.check("mariadb -N -e \"SELECT COUNT(*) FROM mysql.global_priv WHERE User = ''\"")
