"""A day's work of an operator in one story, while visitors come at a steady pace: nobody on the other site notices."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .lab import Lab
from .machine import Machine, Stranger, run_tool
from .pair import Pair
from .steady import visitors

QUIET, CHANGED, NEW = "kiosk.co.test", "example.com", "third.test"
APP = """<?php header("Cache-Control: no-store"); echo "release {}, as ", posix_geteuid();"""
DAEMONS = "haproxy varnish apache2 fail2ban"


@pytest.fixture
def releases(pair: Pair, tmp_path: Path) -> Iterator[list[Path]]:
    """Two releases of one application, told apart by what they say; at the end the one of before serves again."""
    live = f"/var/www/{CHANGED}/public_html"
    before = {machine.name: machine.check(f"basename $(readlink {live})").strip() for machine in pair.machines}
    places = [tmp_path / name for name in ("one", "two")]
    for place in places:
        place.mkdir()
        (place / "app.php").write_text(APP.format(place.name))
        (place / "index.html").write_text(f"front page of {place.name}\n")
    yield places
    for machine in pair.machines:
        machine.fab("site.resume", CHANGED, directory=pair.directory)
        told(machine.fab("site.rollback", CHANGED, "--to", before[machine.name], directory=pair.directory))


@pytest.fixture
def quiet_page(pair: Pair) -> Iterator[str]:
    """A page of PHP on the site that nobody touches."""
    place = f"/var/www/{QUIET}/public_html/_/story.php"
    for machine in pair.machines:
        machine.check(f"runuser -u kiosk-co-test -- tee {place} > /dev/null", stdin=APP.format("of its own"))
    yield f"{QUIET}/story.php?"
    for machine in pair.machines:
        machine.exec(f"rm -f {place}")


@pytest.fixture
def third(pair: Pair, lab: Lab) -> Iterator[Path]:
    """The file of a site that is added; whatever is made of it goes."""
    file = pair.directory / "sites" / f"{NEW}.yml"
    lab.resolve(NEW, pair.front)
    yield file
    file.unlink(missing_ok=True)
    for machine in pair.machines:
        machine.fab("site.remove", NEW, "--yes", directory=pair.directory)
    lab.resolve(NEW, None)


def test_nobody_notices_what_an_operator_does_to_another_site(
    pair: Pair, stranger: Stranger, releases: list[Path], quiet_page: str, third: Path
) -> None:
    one, two = releases

    def on(machine: Machine, *words: str) -> str:
        return told(machine.fab(*words, directory=pair.directory))

    def everywhere(*words: str) -> None:
        for machine in reversed(pair.machines):
            on(machine, *words)

    def says(path: str) -> str:
        return stranger.curl(f"https://{CHANGED}{path}", to=pair.front).out

    front, second = pair.machines
    everywhere("site.deploy", CHANGED, "--source", str(one))
    with visitors(stranger, f"{QUIET}/?", quiet_page, f"{CHANGED}/?", f"{CHANGED}/app.php?") as visits:
        everywhere("site.deploy", CHANGED, "--source", str(two))
        assert {"two"} == {says("/app.php").split()[1].rstrip(",") for _ in range(8)}
        everywhere("site.rollback", CHANGED)
        assert {"one"} == {says("/app.php").split()[1].rstrip(",") for _ in range(8)}

        third.write_text(f"domain: {NEW}\n")
        everywhere("site.apply", NEW)
        assert "200" == stranger.curl("-o", "/dev/null", "-w", "%{http_code}", f"https://{NEW}/", to=front).out

        rests = time.time()
        on(front, "site.suspend", CHANGED)
        resting = stranger.curl("--include", f"https://{CHANGED}/", to=front).out
        assert "503" in resting.splitlines()[0]
        assert "retry-after:" in resting.lower()
        on(front, "site.resume", CHANGED)
        back = time.time()
        assert "front page of one" in says("/")

        fleet = str(pair.directory / "fleet.yml")
        assert "went" in told(run_tool("inv", "varnish.purge", f"https://{CHANGED}/", "--fleet", fleet))
        before = stranger.check(certificate(front))
        on(front, "cert.renew", CHANGED, "--force")
        assert before != stranger.check(certificate(front))

        on(front, "haproxy.drain", second.name)
        on(front, "haproxy.ready", second.name)
        on(front, "haproxy.shift", second.name, "--to", "0", "--step", "50", "--every", "1")
        on(front, "haproxy.shift", second.name, "--to", "100", "--step", "25", "--every", "2")
        for machine in pair.machines:
            machine.check(f"systemctl try-reload-or-restart {DAEMONS} 'php*-fpm'")

    assert [] == visits.failed(QUIET)
    assert [] == visits.failed(CHANGED, 503)
    for site in (QUIET, CHANGED):
        assert 4 == len(visits.kinds(site)), "a kind of visitors got no answer at all"
    resting_at = [each.second for each in visits.failed(CHANGED)]
    assert resting_at
    assert all(int(rests) <= second <= back + 1 for second in resting_at)
    print(*(f"{site}: {dict(visits.codes(site))}" for site in (QUIET, CHANGED)), sep="\n")


def certificate(front: Machine) -> str:
    """Asks for the fingerprint of the certificate that a visitor sees."""
    seen = f"openssl s_client -connect {front.ip}:443 -servername {CHANGED} < /dev/null 2> /dev/null"
    return f"{seen} | openssl x509 -noout -fingerprint -sha256"


def told(run: subprocess.CompletedProcess[str]) -> str:
    """What a task that must succeed said."""
    assert run.returncode == 0, f"{' '.join(run.args)}: exit {run.returncode}\n{run.stdout}{run.stderr}"
    return run.stdout
