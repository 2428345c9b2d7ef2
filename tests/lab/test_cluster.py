"""T3's cluster by one command, who may reach whom in it, and a host that makes pages as a member of it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .corner import A, as_user
from .lab import Lab
from .machine import Machine, run_tool
from .pair import bootstrapped
from .test_balancer import NAME, PLACE, who

pytestmark = pytest.mark.demand

PORTS = "22,80,443,8080-8085"
HEARD = """<?php
header('Cache-Control: no-store');
echo json_encode(['host' => gethostname(), 'client' => $_SERVER['REMOTE_ADDR'], 'https' => $_SERVER['HTTPS'] ?? '',
    'heard' => array_filter($_SERVER, fn ($value) => is_string($value) && str_contains($value, 'forged'))]);
"""


@pytest.fixture(scope="module")
def made(cluster: Lab) -> Lab:
    """All eight, by the command that a person would type."""
    bootstrapped(cluster.directory)
    return cluster


def fleet(directory: Path, task: str, *words: str) -> subprocess.CompletedProcess[str]:
    return run_tool("inv", f"fleet.{task}", "--fleet", str(directory / "fleet.yml"), *words, timeout=1200)


def proved(directory: Path, *words: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(fleet(directory, "matrix", "--prove", "--json", *words).stdout)
    return told


# ---------------------------------------------------------------------- eight hosts


def test_each_part_of_the_site_is_made_by_its_hosts(made: Lab) -> None:
    routes = {"/news_rss": "news", "/news_blog": "news", "/paid_user": "paid1", "/free_user": "free1"}
    assert {route: who(made.stranger, f"{route}/a") for route in routes} == routes
    assert {who(made.stranger, f"/{number}") for number in range(6)} == {"web1", "web2"}


def test_again_nothing_changes(made: Lab) -> None:
    rows = json.loads(fleet(made.directory, "bootstrap", "--json").stdout)
    found = {row["host"]: (row["outcome"], row["changed"], row["failed"]) for row in rows}
    assert found == dict.fromkeys(made.hosts, ("well", 0, 0))


def test_members_are_reached_by_the_balancer_alone(made: Lab) -> None:
    told = proved(made.directory, "--from-here")
    assert told["well"], json.dumps(told, indent=1)
    front, news = made.machine("balancer"), made.machine("news")
    look = f"nmap -Pn -n -T4 --max-retries 1 -p {PORTS} -oG - {front.ip} {news.inside}"
    scan = made.stranger.check(look, timeout=300)
    assert sorted(part.split("/")[0] for part in scan.split() if "/open/" in part) == ["22", "443", "80"]
    ask = f"timeout 3 bash -c '< /dev/tcp/{news.inside}/80'"
    assert made.machine("web1").exec(ask).rc == 124, "who is no balancer gets no word from it"
    assert front.exec(ask).rc == 0


def test_a_rule_that_was_removed_names_exactly_its_pair(made: Lab) -> None:
    front, news = made.machine("balancer"), made.machine("news")
    rule = f"GATEHOUSE -s {front.inside}/32 -p tcp -m tcp --dport 80 -j ACCEPT"
    news.check(f"iptables-save -t filter > /run/rules && iptables -D {rule}")
    try:
        told = proved(made.directory)
    finally:
        news.check("iptables-restore < /run/rules && rm /run/rules")
    assert [(one["source"], one["target"], one["port"]) for one in told["differences"]] == [("balancer", "news", 80)]
    assert told["rules"] == [{"host": "news", "lacks": [f"IPv4 -A {rule}"], "strange": []}]


# ---------------------------------------------------------------------- pages behind it


@pytest.fixture
def app(made: Lab, tmp_path: Path) -> Iterator[tuple[Path, Machine]]:
    """The same balancer before a new host that makes the site's pages; afterwards before its seven again."""
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "example.com.yml").write_text("domain: example.com\n")
    machine = made.add("app1", roles=("app",))
    front = made.machine("balancer")
    try:
        hosts = {one.name: {"address": one.inside, "roles": one.roles} for one in (front, machine)}
        balancer = {"server_name": NAME, "routes": {"/": {"members": ["app1"]}}, "evasive": {"enabled": False}}
        made.describe(tmp_path, tmp_path / "sites", hosts=hosts, balancer=balancer)
        bootstrapped(tmp_path)
        yield tmp_path, machine
    finally:
        made.remove(machine)
        bootstrapped(made.directory)


def test_a_host_that_makes_pages_is_a_member_and_hears_of_the_visitor(made: Lab, app: tuple[Path, Machine]) -> None:
    (directory, machine), stranger = app, made.stranger
    page = "/var/www/example.com/public_html/www/heard.php"
    assert as_user(machine, A, f"cat > {page}", HEARD).rc == 0
    lies = [f"{name}: forged" for name in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Forwarded",
            "X-Site-Cache")]  # fmt: skip
    done = stranger.curl("-4", *(word for lie in lies for word in ("-H", lie)), f"{PLACE}/heard.php?{time.time_ns()}")
    assert json.loads(done.out) == {"host": "app1", "client": stranger.ip, "https": "on", "heard": []}
    log = machine.check("tail -n 1 /var/www/example.com/log/access_log")
    assert log.startswith(f"{stranger.ip} ")

    rows = json.loads(fleet(directory, "bootstrap", "--json").stdout)
    assert {row["host"]: row["changed"] for row in rows} == {"balancer": 0, "app1": 0}
    told = proved(directory)
    assert told["well"], json.dumps(told, indent=1)

    machine.check("systemctl stop apache2")
    try:
        ask = stranger.curl("-o", "/dev/null", "-w", "%{http_code} %{time_total}", f"{PLACE}/{time.time_ns()}")
    finally:
        machine.check("systemctl start apache2")
    assert ask.out.startswith("503 "), ask.out
