"""Mozilla's guideline 6.0 by sslyze, and testssl.sh with nothing at MEDIUM or above but what the lab's CA causes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from ..lab import Lab
from ..machine import Machine, Stranger

# What testssl.sh finds all the same.
WAIVERS = {
    "cert_chain_of_trust": "the lab's CA is in nobody's list",
    "overall_grade": "T, for the same reason",
    "cert_revocation": "Pebble's certificates name no list of what was revoked",
    "BREACH": "sites may compress what they send; nothing that we add is secret",
    "engine_problem": "the scanner's own openssl has no GOST",
}


def guideline(directory: Path) -> Path:
    """Server Side TLS 6.0, for sslyze, which brings 5.7: the same without DHE."""
    text = resources.files("sslyze.mozilla_tls_profile").joinpath("5.7.json").read_text()
    rules = json.loads(text)["configurations"]["intermediate"]
    for family, names in rules["ciphers"].items():
        rules["ciphers"][family] = [name for name in names if "DHE" not in name.replace("ECDHE", "")]
    rules["dh_param_size"] = None
    path = directory / "6.0.json"
    path.write_text(json.dumps(rules))
    return path


def test_sslyze_finds_guideline_6_kept(host: Machine, lab: Lab, tmp_path: Path) -> None:
    with lab.pointing(host):
        done = subprocess.run(
            [str(Path(sys.executable).parent / "sslyze"), f"--custom_tls_config={guideline(tmp_path)}",
             "--sni=example.com", f"--certinfo_ca_file={lab.ca_bundle}", f"{host.ip}:443"],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert "Compliant." in done.stdout, done.stdout[-3000:]
    assert done.returncode == 0


@pytest.mark.demand
def test_testssl_finds_nothing_from_medium_on(host: Machine, lab: Lab, stranger: Stranger) -> None:
    install = "apt-get update -q && apt-get install -qy --no-install-recommends testssl.sh"
    stranger.check(f"command -v testssl || {{ {install}; }}", timeout=300)
    with lab.pointing(host):
        done = stranger.exec(
            f"rm -f /tmp/testssl.json; testssl --quiet --color 0 --warnings off --ip {host.ip} --severity MEDIUM "
            "--jsonfile /tmp/testssl.json https://example.com/ > /tmp/testssl.out 2>&1; cat /tmp/testssl.json",
            timeout=590,
        )
    found = {one["id"].partition(" ")[0]: f"{one['severity']} {one['finding']}" for one in json.loads(done.out)}
    assert {name: text for name, text in found.items() if name not in WAIVERS} == {}
