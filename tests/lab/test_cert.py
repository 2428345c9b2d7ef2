"""Certificates on real hosts: issued by Pebble through HAProxy and lego, renewed when due, served without a gap."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .certificates import EXAMPLE, KIOSK, SHELF, on_disk, outcomes, served, shown, wear_out
from .lab import Lab
from .machine import Machine, Stranger, run_tool


@pytest.fixture(scope="module", params=["vps", "vps12"])
def host(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Machine]:
    """Either web server, with the sites' names pointing to it, as they would for as long as it serves them."""
    machine: Machine = request.getfixturevalue(request.param)
    with lab.pointing(machine):
        yield machine


@pytest.fixture
def due(host: Machine, stranger: Stranger) -> Iterator[str]:
    """The fingerprint of a certificate that is due; whatever the test did, a good one is there afterwards."""
    yield wear_out(host, stranger)
    host.check("rm -f /var/lib/gatehouse/renew/example.com.failed; gatehouse-renew")


def test_every_name_of_a_site_is_in_its_certificate_and_a_visitor_trusts_it(host: Machine, stranger: Stranger) -> None:
    for names in (EXAMPLE, KIOSK):
        sans = re.findall(r"DNS:([^,\s]+)", shown(stranger, host, names[0]))
        assert sorted(sans) == sorted(names)
        for name in names:
            answer = stranger.curl("-o", "/dev/null", f"https://{name}/", to=host)
            assert (answer.rc, answer.err) == (0, "")


def test_what_is_served_is_what_lies_on_disk(host: Machine, stranger: Stranger) -> None:
    for name in ("example.com", "kiosk.co.test"):
        assert served(stranger, host, name) == on_disk(host, name)


def test_keys_are_for_root_alone(host: Machine) -> None:
    modes = host.check(
        f"stat -c '%a %U:%G %n' {SHELF} {SHELF}/* /etc/lego; find /etc/lego -type f -printf '%m %u:%g %p\\n'"
    )
    assert {line.split(" ")[0] for line in modes.splitlines() if line.endswith(("/certs", "/lego"))} == {"700"}
    assert {tuple(line.split(" ")[:2]) for line in modes.splitlines() if re.search(r"\.(pem|key|json|crt)$", line)} == {
        ("600", "root:root")
    }
    assert "accounts" in modes


def test_a_stranger_to_our_names_learns_no_customer_s(host: Machine, stranger: Stranger) -> None:
    answer = shown(stranger, host, "nosuch.invalid")
    assert "CN=default.invalid" in answer.replace(" = ", "=")
    assert re.findall(r"DNS:([^,\s]+)", answer) == ["default.invalid"]


def test_what_is_not_due_asks_nothing_of_the_ca(host: Machine, stranger: Stranger, lab: Lab) -> None:
    before = served(stranger, host)
    with lab.authority.unreachable():  # nobody would answer
        assert outcomes(host.check("gatehouse-renew --porcelain")) == {"example.com": "kept", "kiosk.co.test": "kept"}
        done = run_tool("inv", "cert.renew", "--all", "--json", "--fleet", str(lab.directory / "fleet.yml"))
    rows = [row for row in json.loads(done.stdout) if row["host"] == host.name]
    assert {row["domain"]: row["outcome"] for row in rows} == {"example.com": "kept", "kiosk.co.test": "kept"}
    assert served(stranger, host) == before


def test_inv_renews_what_is_due_on_every_host_and_lists_it(
    due: str, host: Machine, stranger: Stranger, lab: Lab
) -> None:
    fleet = str(lab.directory / "fleet.yml")
    listed = json.loads(run_tool("inv", "cert.list", "--json", "--fleet", fleet).stdout)
    (row,) = [row for row in listed if (row["host"], row["domain"]) == (host.name, "example.com")]
    assert (row["disk"], row["state"]) == (row["wire"], "late")
    assert row["disk"] in {4, 5}

    done = run_tool("inv", "cert.renew", "--all", "--fleet", fleet)

    (line,) = [line for line in done.stdout.splitlines() if line.startswith(host.name + " ") and "example.com" in line]
    assert "issued" in line, done.stdout + done.stderr
    assert served(stranger, host) == on_disk(host) != due
    assert host.check("ls /var/lib/gatehouse/renew/former").split() == ["example.com.pem"]


def test_a_renewal_under_load_loses_no_request(due: str, host: Machine, stranger: Stranger) -> None:
    """Connections that are kept, over both protocols, and one connection a request, while it is issued and reloaded."""
    kept = "curl -k -s --rate 100/s -o /dev/null -w '%{http_code}\\n'"
    stranger.put({"/tmp/one-shot": ONE_SHOT.encode()}, 0o755)
    loads = {
        "kept": f"{kept} --http1.1 'https://example.com/?[1-2000]'",
        "h2": f"{kept} --http2 'https://www.example.com/?[1-2000]'",
        "one-shot": "/tmp/one-shot 20",
    }
    with ThreadPoolExecutor() as pool:
        running = {name: pool.submit(stranger.exec, line) for name, line in loads.items()}
        time.sleep(1)
        renewed = host.check("gatehouse-renew --porcelain example.com")
        host.check("systemctl reload haproxy")
        time.sleep(1)
        still = [name for name, future in running.items() if not future.done()]
        answers = {name: future.result() for name, future in running.items()}
    assert outcomes(renewed) == {"example.com": "issued"}
    assert still, "the loads were over before the renewal"
    for name, answer in answers.items():
        codes = answer.out.split()
        assert len(codes) > 200, (name, answer.err)
        assert set(codes) == {"200"}, (name, {code: codes.count(code) for code in set(codes)})
    assert served(stranger, host) == on_disk(host) != due


# One connection a request, 50 a second (an address may open 3000 in ten), for so many seconds; the code, or what
# went wrong, on a line each.
ONE_SHOT = """\
#!/usr/bin/env python3
import http.client, ssl, sys, time
trusting = ssl._create_unverified_context()
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    time.sleep(1 / 50)
    try:
        connection = http.client.HTTPSConnection("example.com", context=trusting, timeout=10)
        connection.request("GET", "/", headers={"Connection": "close"})
        print(connection.getresponse().status)
        connection.close()
    except Exception as error:
        print(type(error).__name__)
"""


# What a bootstrap does about names, without the rest of it.
STEPS = ("haproxy.hosts", "haproxy.start", "cert.requests", "cert.issue")


@pytest.fixture
def change(host: Machine, lab: Lab, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Adds site files, or replaces them, in a directory for `fab -S`; afterwards the host has its own sites again."""
    sites = tmp_path / "sites"
    sites.mkdir()
    for file in (lab.directory / "sites").iterdir():
        (sites / file.name).write_bytes(file.read_bytes())

    def write(**files: str) -> Path:
        for domain, text in files.items():
            (sites / f"{domain.replace('_', '.')}.yml").write_text(text)
        return lab.describe(tmp_path, sites)

    yield write
    done = host.fab(*STEPS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_subdomain_more_is_ordered_at_the_next_bootstrap_and_one_less_too(
    host: Machine, stranger: Stranger, change: Callable[..., Path]
) -> None:
    directory = change(example_com="domain: example.com\nsubdomains: [www, new]\n")
    done = host.fab(*STEPS, directory=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DNS:new.example.com" in shown(stranger, host, "new.example.com")
    assert "0 changed" in host.fab("cert.issue", directory=directory).stdout

    done = host.fab(*STEPS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DNS:new.example.com" not in shown(stranger, host, "example.com")
