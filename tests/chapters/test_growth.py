"""What a run decides grows with its sites, not with their square: counted in calls of functions, not in time."""

from __future__ import annotations

import re
import sys

import pytest

from fabfile import apache, cache, cert, haproxy, php, runtime, site, varnish

from .recording import Recorded, contents
from .recording import site as a_site

FEW, MANY = 20, 200
STEPS = (
    *cert.STEPS_BEFORE[1:3], *haproxy.STEPS[:3], *varnish.STEPS[:2], *site.STEPS, *cache.STEPS,
    *php.STEPS, *apache.STEPS, *php.STEPS_AFTER, *runtime.STEPS_AFTER,
)  # fmt: skip


def calls(monkeypatch: pytest.MonkeyPatch, number: int) -> dict[str, int]:
    """By step, how many calls the second run makes, which finds all as it left it, with so many sites."""
    host = Recorded(monkeypatch, *(a_site(f"s{index}.test") for index in range(number)))
    host.after(*STEPS)
    found = {}
    for step in STEPS:
        count = 0

        def called(frame: object, event: str, arg: object) -> None:
            nonlocal count
            count += event == "call"

        sys.setprofile(called)
        try:
            host.after(step)
        finally:
            sys.setprofile(None)
        found[f"{step.body.__module__}.{step.body.__name__}"] = count
    return found


def test_a_reload_makes_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd goes through all mounts for one, and each site's tmp/ is a mount: 2 s a command with a thousand sites."""
    units = contents(Recorded(monkeypatch, a_site("example.com")).after(*STEPS)).items()
    boxed = {path: text for path, text in units if path.startswith("/etc/systemd/") and "ProtectSystem=" in text}

    assert {"haproxy", "php8.4-fpm", "apache2"} <= {path.split("/")[4].removesuffix(".service.d") for path in boxed}
    for path, text in boxed.items():
        commands = re.findall(r"(?m)^ExecReload=(.*)", text)
        assert ["", "+"] == sorted({command[:1] for command in commands}), path
        assert "" == commands[0], path  # Debian's own go


def test_ten_times_as_many_sites_are_ten_times_as_much_work(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = calls(monkeypatch, FEW), calls(monkeypatch, MANY)

    assert {} == {step: (few[step], made) for step, made in many.items() if made > 12 * few[step] + 1000}
