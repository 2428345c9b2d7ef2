"""The script of a host: the same each time, whole, without a secret, and judged by its shell."""

from __future__ import annotations

import base64
import io
import json
import lzma
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from invoke import Context, Exit

import tasks
from fabfile.image import render
from fabfile.image.archive import Cards, script
from fabfile.model import Fleet, find_fleet

CARDS: Cards = {"db1": {"database.pem": "-----BEGIN CERTIFICATE-----"}, "edge1": None}
FLEET = """
acme: {ca_bundle: roots.pem, email: webmaster@example.com}
operators: [203.0.113.0/24]
open: {8443/tcp: [203.0.113.0/24]}
hosts:
  edge1: {address: 10.0.0.10, roles: [edge]}
  app1: {address: 10.0.0.12, roles: [app], weight: 50}
  db1: {address: 10.0.0.14, roles: [database]}
pools: {main: [edge1, app1]}
sites: places
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    place = tmp_path_factory.mktemp("image")
    (place / "roots.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    (place / "places").mkdir()
    (place / "places" / "example.com.yml").write_text("domain: example.com\n# a comment\nsubdomains: [www]\n")
    (place / "fleet.yml").write_text(FLEET)
    return find_fleet(None, place / "fleet.yml", place)


@pytest.fixture(scope="module")
def text(fleet: Fleet) -> str:
    return script(fleet, "app1", CARDS)


def unpacked(text: str, into: Path) -> Path:
    payload = re.search(r"<<'PAYLOAD'\n(.*)\nPAYLOAD\n", text, re.DOTALL)
    assert payload
    raw = lzma.decompress(base64.b85decode(payload[1].replace("\n", "")))
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        tar.extractall(into)
    return into


def test_it_is_the_same_each_time_and_fits_where_a_quarter_of_a_megabyte_does(fleet: Fleet, text: str) -> None:
    assert text == script(fleet, "app1", CARDS)
    assert text.startswith("#!/bin/sh\n")
    assert len(text) < 256 * 1024


def test_its_shell_judges_it(text: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(text)

    assert "" == subprocess.run(["sh", "-n", tmp_path / "script"], capture_output=True, text=True, check=True).stderr


def test_the_fleet_that_it_carries_is_the_fleet(fleet: Fleet, text: str, tmp_path: Path) -> None:
    there = unpacked(text, tmp_path / "there")
    carried = find_fleet(None, there / "fleet" / "fleet.yml", there)

    moved: Any = {"sites": True, "acme": {"ca_bundle"}}
    assert fleet.model_dump(exclude=moved) == carried.model_dump(exclude=moved)
    assert carried.acme.ca_bundle
    assert fleet.acme.ca_bundle
    assert carried.acme.ca_bundle.read_bytes() == fleet.acme.ca_bundle.read_bytes()
    assert carried.all_sites == fleet.all_sites


def test_it_carries_what_a_run_from_here_would_know(text: str, tmp_path: Path) -> None:
    there = unpacked(text, tmp_path / "there")
    said = json.loads((there / "manifest.json").read_text())

    assert (said["host"], said["cards"]) == ("app1", CARDS)
    assert "curve25519-sha256@libssh.org" in said["speaks"]["kex"]
    assert {"edge1": 22, "app1": 22, "db1": 22} == said["ssh_ports"]
    assert said["mark"].endswith("by image.render\n")


def test_what_it_carries_runs_by_itself(text: str, tmp_path: Path) -> None:
    """The steps are found without this checkout; their text for people is left out, and nothing else."""
    there = unpacked(text, tmp_path / "there")
    asked = "from fabfile import flows; print(*(step.body.__name__ for step in flows.BOOTSTRAP))"
    ours, theirs = (
        subprocess.run([sys.executable, "-c", asked], cwd=place, capture_output=True, text=True, check=True).stdout
        for place in (Path.cwd(), there)
    )

    assert ours == theirs
    assert not list(there.rglob("*.key"))
    assert (there / "templates/etc/varnish/gatehouse.vcl.j2").is_file()
    assert (there / "fabfile/engine/shell/session.sh").is_file()


def test_a_host_that_nobody_knows_is_refused(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exit) as ended:
        tasks.ns["image.render"](Context(), "app9", fleet=str(fleet.file))

    assert ended.value.code == 2
    assert "did you mean app1?" in capsys.readouterr().err


def test_what_the_new_host_cannot_do_alone_is_said(
    fleet: Fleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fabfile.image.everywhere", lambda _fleet, names, *_: ((name, {}) for name in names))
    monkeypatch.setattr("fabfile.image.script", lambda *_: "#!/bin/sh\n")
    render(Context(), "app1", fleet=str(fleet.file))
    assert "inv fleet.bootstrap lets database know them" in capsys.readouterr().err
    render(Context(), "edge1", fleet=str(fleet.file))
    assert "once the sites' names point to edge1" in capsys.readouterr().err
