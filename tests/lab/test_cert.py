"""Certificates on real hosts: issued by Pebble through HAProxy and lego, renewed when due, served without a gap."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.renew.authority import DAY, Authority

from .lab import Lab
from .machine import Machine, Stranger, run_tool

EXAMPLE = ("example.com", "www.example.com")
KIOSK = ("kiosk.co.test", "www.kiosk.co.test", "shop.kiosk.co.test", "kiosk.test")
SHELF = "/etc/haproxy/certs"


@pytest.fixture(scope="module", params=["vps", "vps12"])
def host(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Machine]:
    """Either web server, with the sites' names pointing to it, as they would for as long as it serves them."""
    machine: Machine = request.getfixturevalue(request.param)
    with lab.pointing(machine):
        yield machine


def shown(stranger: Stranger, host: Machine, name: str) -> str:
    """What a visitor is shown for a name: the certificate's SHA-1 and names, one a line."""
    return stranger.check(
        f"openssl s_client -connect {host.ip}:443 -servername {name} </dev/null 2>/dev/null | "
        "openssl x509 -noout -fingerprint -sha1 -subject -ext subjectAltName"
    )


def fingerprint(text: str) -> str:
    found = re.search(r"[Ff]ingerprint=([0-9A-F:]{59})", text)
    assert found, text
    return found[1]


def served(stranger: Stranger, host: Machine, name: str = "example.com") -> str:
    return fingerprint(shown(stranger, host, name))


def on_disk(host: Machine, name: str = "example.com") -> str:
    return fingerprint(host.check(f"openssl x509 -in {SHELF}/{name}.pem -noout -fingerprint -sha1"))


def outcomes(printed: str) -> dict[str, str]:
    """The last word on each name, from --porcelain."""
    return {line.split("\t")[1]: line.split("\t")[0] for line in printed.splitlines()}


def wear_out(host: Machine, stranger: Stranger) -> str:
    """example.com's certificate is old: 5 of 90 days left, and served. Returns its fingerprint."""
    old = Authority("yesterday").issue(*EXAMPLE, age=85 * DAY, left=5 * DAY)
    host.put({f"{SHELF}/example.com.pem": old.pem}, 0o600)
    host.check(f"touch {SHELF}/example.com.pem && systemctl reload haproxy")  # newer than what lego left
    for _ in range(50):
        if served(stranger, host) == on_disk(host):
            break
        time.sleep(0.1)
    assert served(stranger, host) == on_disk(host)
    return on_disk(host)


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
    assert (row["disk"], row["wire"], row["state"]) == (4, 4, "due")

    done = run_tool("inv", "cert.renew", "--all", "--fleet", fleet)

    (line,) = [line for line in done.stdout.splitlines() if line.startswith(host.name + " ") and "example.com" in line]
    assert "issued" in line, done.stdout + done.stderr
    assert served(stranger, host) == on_disk(host) != due
    assert host.check("ls /var/lib/gatehouse/renew/former").split() == ["example.com.pem"]


def test_cron_s_own_line_renews_what_is_due(due: str, host: Machine, stranger: Stranger) -> None:
    """Cron's own sleep would be up to 50 minutes: here it is a program that does not."""
    line = host.check("sed -n 's/^0 \\* \\* \\* \\* root //p' /etc/cron.d/gatehouse-renew").strip()
    host.put({"/tmp/hurried/sleep": b"#!/bin/sh\n"}, 0o755)
    # The first run of a host that has none behind it is now, whatever its hour.
    host.check("rm -f /var/lib/gatehouse/renew/last")
    host.check(f"env -i SHELL=/bin/sh PATH=/tmp/hurried:/usr/local/sbin:/usr/bin:/bin sh -c {line!r}")
    assert served(stranger, host) == on_disk(host) != due
    logged = host.check("journalctl --sync; journalctl -t gatehouse-renew -o cat")
    assert re.search(r"(?m)^issued +example\.com +4 of 90 days left; now ", logged)
    assert host.check("systemctl is-active cron").strip() == "active"


def test_with_the_ca_away_the_old_one_is_served_and_the_reason_is_told(
    due: str, host: Machine, stranger: Stranger, lab: Lab
) -> None:
    with lab.authority.unreachable():
        done = host.fab("cert.renew", "example.com")
        assert done.returncode == 1
        assert "the CA does not answer: " in done.stdout
        assert "connection refused" in done.stdout
        again = host.exec("gatehouse-renew --now")
        assert again.rc == 1
        assert re.search(r"(?m)^waits +example\.com +the CA does not answer: .*; next try after 2", again.out)
    assert served(stranger, host) == on_disk(host) == due
    assert stranger.curl("-o", "/dev/null", "-k", "-w", "%{http_code}", "https://example.com/", to=host).out == "200"
    assert outcomes(host.check("gatehouse-renew --porcelain example.com")) == {"example.com": "issued"}
    assert served(stranger, host) == on_disk(host) != due


def test_a_run_that_was_cut_off_before_the_reload_is_put_right(host: Machine, stranger: Stranger) -> None:
    before = served(stranger, host)
    # It outlives what lies in the inbox, so there is nothing better to install.
    fresh = Authority("yesterday").issue(*EXAMPLE, left=100 * DAY)
    kept = host.check(f"base64 -w0 {SHELF}/example.com.pem")
    host.put({f"{SHELF}/example.com.pem": fresh.pem}, 0o600)
    try:
        assert outcomes(host.check("gatehouse-renew --porcelain"))["example.com"] == "reloaded"
        assert served(stranger, host) == on_disk(host) != before
    finally:
        host.check(f"base64 -d >{SHELF}/example.com.pem", stdin=kept)
        host.check("gatehouse-renew")
    assert served(stranger, host) == before


def test_what_haproxy_refuses_leaves_everything_as_it_was(due: str, host: Machine, stranger: Stranger) -> None:
    host.check("cp -p /etc/haproxy/haproxy.cfg /root/kept.cfg && echo 'nonsense here' >>/etc/haproxy/haproxy.cfg")
    try:
        refused = host.exec("gatehouse-renew --porcelain example.com")
        assert (refused.rc, outcomes(refused.out)) == (1, {"example.com": "failed"})
        assert "the former certificate is back" in refused.out
        assert "unknown keyword 'nonsense'" in refused.out
        assert served(stranger, host) == on_disk(host) == due
    finally:
        host.check("mv /root/kept.cfg /etc/haproxy/haproxy.cfg")
    orders = host.check("gatehouse-renew --porcelain")
    assert outcomes(orders)["example.com"] == "installed"
    assert served(stranger, host) == on_disk(host) != due


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
        assert len(codes) > 500, (name, answer.err)
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


def test_a_name_that_points_nowhere_fails_with_its_reason_and_stops_nobody(
    host: Machine, stranger: Stranger, lab: Lab, change: Callable[..., Path]
) -> None:
    directory = change(**{name: f"domain: {name.replace('_', '.')}\nsubdomains: []\n" for name in ("a_test", "b_test")})
    former = lab.authority.names
    lab.resolve("a.test", None)
    try:
        done = host.fab(*STEPS, directory=directory)
    finally:
        lab.authority.set_names(former)
    assert done.returncode == 1
    assert re.search(r"a\.test: the CA cannot re(ach|solve) a\.test: ", done.stdout + done.stderr)
    assert re.findall(r"DNS:([^,\s]+)", shown(stranger, host, "b.test")) == ["b.test"]
    assert "CN=default.invalid" in shown(stranger, host, "a.test").replace(" = ", "=")
    host.check(f"rm -f {SHELF}/b.test.pem /var/lib/gatehouse/renew/a.test.failed && systemctl reload haproxy")
