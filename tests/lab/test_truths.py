"""One certificate in four truths, and what `cert.verify` says of each: what an operator reads when a browser warns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.renew.authority import DAY, Authority

from .certificates import EXAMPLE, INBOX, SHELF, on_disk, served
from .machine import Machine, Stranger

PEM = f"{SHELF}/example.com.pem"


@pytest.fixture
def other(vps: Machine) -> Iterator[bytes]:
    """A certificate for the same names from somebody else; afterwards the good one lies and is served everywhere."""
    yield Authority("somebody").issue(*EXAMPLE, age=60 * DAY, left=29.5 * DAY).pem
    vps.check("gatehouse-renew --force example.com")


def listed(host: Machine) -> dict[str, Any]:
    done = host.fab("cert.list", "--json")
    (row,) = [row for row in json.loads(done.stdout) if row["domain"] == "example.com"]
    assert done.returncode == (0 if row["state"] in ("ok", "due") else 1)
    return dict(row)


def test_a_mismatch_is_told_with_what_to_type_and_that_mends_it(
    vps: Machine, stranger: Stranger, other: bytes
) -> None:
    row = listed(vps)
    assert row["state"] == "ok"
    assert len({row[truth] for truth in ("lego", "disk", "memory", "wire")}) == 1
    assert set(row["sha1"]) == {"lego", "disk", "memory", "wire"}
    assert set(row["sha1"].values()) == {on_disk(vps).replace(":", "")}

    vps.put({PEM: other}, 0o644)  # put there by hand, and HAProxy not told
    row = listed(vps)
    assert row["state"] == "differs"
    assert row["text"].endswith("fab -H vps cert.renew example.com")
    assert row["disk"] in (28, 29)
    assert row["lego"] == row["memory"] == row["wire"] > 80
    wrong = vps.fab("cert.verify", "example.com")
    assert wrong.returncode == 1
    for said in ("its key is open to others (mode 644", "HAProxy's memory holds another one", "serves another one"):
        assert said in wrong.stdout

    renewed = vps.fab(*row["text"].split()[-2:])
    assert renewed.returncode == 0, renewed.stdout
    row = listed(vps)
    assert (row["state"], len(set(row["sha1"].values()))) == ("ok", 1)
    assert served(stranger, vps) == on_disk(vps)
    assert vps.fab("cert.verify").returncode == 0


def test_what_lego_lost_is_no_fault_and_a_site_that_is_none_has_the_nearest_named(vps: Machine) -> None:
    vps.check(f"mv {INBOX}/kiosk.co.test.crt /run/kiosk.crt")
    try:
        rows = {row["domain"]: row for row in json.loads(vps.fab("cert.list", "--json").stdout)}
    finally:
        vps.check(f"mv /run/kiosk.crt {INBOX}/kiosk.co.test.crt")
    assert (rows["kiosk.co.test"]["lego"], rows["kiosk.co.test"]["state"]) == (None, "ok")
    for task in ("cert.verify", "cert.preflight", "cert.issue"):
        done = vps.fab(task, "exmaple.com")
        assert done.returncode == 2
        assert "example.com" in done.stderr
