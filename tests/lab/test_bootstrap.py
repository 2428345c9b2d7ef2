"""The whole story: from bare Debian to HTTPS sites, on both releases, again, and after a reboot."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from .lab import Lab
from .machine import Machine, Stranger

WHO = """<?php
header('Content-Type: application/json');
header('Cache-Control: no-store');
echo json_encode(['user' => posix_getpwuid(posix_geteuid())['name'], 'client' => $_SERVER['REMOTE_ADDR'],
    'https' => $_SERVER['HTTPS'] ?? '', 'host' => $_SERVER['HTTP_HOST'],
    'forwarded' => $_SERVER['HTTP_X_FORWARDED_FOR'] ?? '']);
"""
FORGED = [
    "-H",
    "X-Forwarded-For: 198.51.100.66",
    "-H",
    "Forwarded: for=198.51.100.66",
    "-H",
    "X-Real-IP: 198.51.100.66",
]


@pytest.fixture
def who(host: Machine) -> Iterator[str]:
    """A page of the site's own program, put there as the site's user."""
    user = "setpriv --reuid example-com --regid example-com --clear-groups"
    path = "/var/www/example.com/public_html/_/who.php"
    host.check(f"{user} sh -c 'cat > {path}'", stdin=WHO)
    yield "https://example.com/who.php"
    host.check(f"rm -f {path}")


@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
def test_the_example_site_is_served(host: Machine, stranger: Stranger, version: str) -> None:
    answer = stranger.curl(
        version, "-o", "/dev/null", "-w", "%{http_code} %{http_version}", "https://example.com/", to=host
    )

    assert 0 == answer.rc, answer.err
    assert f"200 {version.removeprefix('--http').removesuffix('.0')}" == answer.out


def test_php_runs_as_the_site_s_user_and_knows_the_real_client(host: Machine, stranger: Stranger, who: str) -> None:
    answer = stranger.curl(*FORGED, who, to=host)

    told = json.loads(answer.out)
    assert "example-com" == told["user"]
    assert stranger.ip == told["client"]
    assert "on" == told["https"]
    assert "example.com" == told["host"]
    assert "198.51.100.66" not in answer.out


def test_a_second_request_is_answered_from_the_cache(host: Machine, stranger: Stranger) -> None:
    url = f"https://example.com/?{time.time()}"

    first, second = (stranger.curl("-D", "-", "-o", "/dev/null", url, to=host).out.lower() for _ in range(2))

    assert "x-cache: miss" in first
    assert "x-cache: hit" in second


def test_status_says_that_all_is_well(host: Machine) -> None:
    done = host.fab("status", "--json")

    assert 0 == done.returncode, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["well"]
    assert {"service", "port", "firewall", "certificate", "haproxy", "varnish", "php", "bans", "disk", "updates"} <= {
        reading["layer"] for reading in told["readings"]
    }


def test_status_names_a_service_that_is_down(vps: Machine) -> None:
    vps.check("systemctl stop varnish")
    try:
        done = vps.fab("status")

        assert 1 == done.returncode
        assert "not active" in done.stdout
    finally:
        vps.check("systemctl start varnish")


def test_again_it_changes_nothing(host: Machine) -> None:
    done = host.fab("bootstrap", "--json")

    told = json.loads(done.stdout)
    assert [] == [step for step in told["steps"] if step["outcome"] != "kept"]
    assert told["round_trips"] <= 2


def test_after_a_reboot_all_serves_and_nothing_is_to_do(lab: Lab, host: Machine, stranger: Stranger) -> None:
    host.restart()
    deadline = time.monotonic() + 30
    while stranger.curl("-o", "/dev/null", "-f", "https://example.com/", to=host).rc and time.monotonic() < deadline:
        time.sleep(0.5)

    assert 0 == stranger.curl("-o", "/dev/null", "-f", "https://example.com/", to=host).rc
    for tool in ("iptables", "ip6tables"):
        rules = host.check(f"{tool} -S")
        assert "-P INPUT DROP" in rules
        assert "-A INPUT -j GATEHOUSE" in rules
        assert "--dports 80,443 -j ACCEPT" in rules
    told = json.loads(host.fab("bootstrap", "--json").stdout)
    assert [] == [step for step in told["steps"] if step["outcome"] != "kept"]
