"""F-45 to F-56: every way in which certificates go wrong. What visitors are shown is the last word on each."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.renew.authority import DAY, Authority, Pair, encrypted, key, pem

from ..certificates import (
    EXAMPLE,
    INBOX,
    KIOSK,
    SHELF,
    STATE,
    all_on_disk,
    all_served,
    code,
    digests,
    on_disk,
    outcomes,
    reasons,
    renew,
    served,
    tick,
    time_passes,
    until,
    wait_until_served,
    wear_out,
)
from ..lab import Lab
from ..machine import Machine, Stranger
from .door import Door, opened

Say = Callable[[str], None]

# What a bootstrap does about names, without the rest of it.
STEPS = ("haproxy.hosts", "haproxy.start", "cert.requests", "cert.issue")
ONE_NAME = "domain: {}\nsubdomains: []\n"


@pytest.fixture(scope="module", autouse=True)
def here(lab: Lab, vps: Machine) -> Iterator[None]:
    with lab.pointing(vps):
        yield


@pytest.fixture
def due(vps: Machine, stranger: Stranger) -> Iterator[str]:
    """The fingerprint of example.com's certificate, which is due; afterwards a good one is there, whatever happened."""
    yield wear_out(vps, stranger)
    vps.check(f"rm -f {STATE}/*.failed; gatehouse-renew")


@pytest.fixture
def door(lab: Lab) -> Iterator[Door]:
    with opened(lab.authority.machine) as door:
        yield door


Change = Callable[..., Path]


@pytest.fixture
def change(vps: Machine, lab: Lab, tmp_path: Path) -> Iterator[Change]:
    """Adds sites to the host's, in a directory for `fab -S`; afterwards it has its own again, and no trace of these."""
    sites, added = tmp_path / "sites", list[str]()
    sites.mkdir()
    for file in (lab.directory / "sites").iterdir():
        (sites / file.name).write_bytes(file.read_bytes())
    former = lab.authority.names

    def add(*domains: str) -> Path:
        for domain in domains:
            (sites / f"{domain}.yml").write_text(ONE_NAME.format(domain))
        added.extend(domains)
        return lab.describe(tmp_path, sites)

    yield add
    lab.authority.set_names(former)
    for domain in added:
        vps.check(f"rm -f {SHELF}/{domain}.pem {STATE}/{domain}.failed {STATE}/*/{domain}.pem {INBOX}/{domain}.*")
    done = vps.fab(*STEPS)
    assert done.returncode == 0, done.stdout + done.stderr
    vps.check("systemctl reload haproxy")


# ---------------------------------------------------------------------- F-45: the CA is away


@pytest.mark.fault("F-45")
def test_f45_with_the_ca_away_the_old_one_serves_and_the_next_try_is_told(
    due: str, vps: Machine, stranger: Stranger, lab: Lab, seen: Say
) -> None:
    before = digests(vps, SHELF)
    with lab.authority.unreachable():
        done = vps.fab("cert.renew", "example.com")
        assert done.returncode == 1
        assert "the CA does not answer: " in done.stdout
        assert "connection refused" in done.stdout
        again = vps.exec("gatehouse-renew --now")
        assert again.rc == 1
        assert re.search(r"(?m)^waits +example\.com +the CA does not answer: .*; next try after 2", again.out)
        assert (digests(vps, SHELF), served(stranger, vps), code(stranger, vps)) == (before, due, "200")
    time_passes(vps)
    assert outcomes(renew(vps, rc=0))["example.com"] == "issued"
    assert served(stranger, vps) == on_disk(vps) != due
    seen("exit 1, 'the CA does not answer: connection refused', next try told; then issued")


@pytest.mark.demand
@pytest.mark.fault("F-45")
@pytest.mark.parametrize(
    ("what", "told"),
    [("-d 127.0.0.11", "the CA does not answer: .*lookup ca"), ("-p tcp --dport 14000", "the CA .*: .*timeout")],
    ids=["DNS away", "silence"],
)
def test_f45_dns_away_and_a_silent_ca_are_met_once_for_all_names(
    what: str, told: str, due: str, vps: Machine, stranger: Stranger, seen: Say
) -> None:
    """Docker's own DNS, the hosts' resolver, is at 127.0.0.11; packets vanish without a word."""
    wear_out(vps, stranger, KIOSK)
    vps.check(f"iptables -I OUTPUT {what} -j DROP; ip6tables -I OUTPUT -p tcp --dport 14000 -j DROP")
    start = time.monotonic()
    try:
        said = reasons(renew(vps, rc=1))
    finally:
        vps.check(f"iptables -D OUTPUT {what} -j DROP; ip6tables -D OUTPUT -p tcp --dport 14000 -j DROP")
    took = time.monotonic() - start
    assert re.match(told, said["example.com"]), said
    assert said["kiosk.co.test"].startswith("not tried: the CA does not answer")
    assert (served(stranger, vps), took < 150) == (due, True)
    time_passes(vps)
    assert set(outcomes(renew(vps, rc=0)).values()) == {"issued"}
    assert served(stranger, vps) == on_disk(vps) != due
    seen(f"{'DNS' if '127' in what else 'CA'} silent: told after {took:.0f} s, once for all names")


# ---------------------------------------------------------------------- F-46: too many


@pytest.mark.fault("F-46")
def test_f46_there_is_no_order_before_the_ca_said_and_other_sites_go_on(
    due: str, vps: Machine, stranger: Stranger, door: Door, seen: Say
) -> None:
    wear_out(vps, stranger, KIOSK)
    then = time.time() + 7200
    date = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(then))
    door.limit(
        "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, "
        f"retry after {date}: see the documentation",
        about="example.com", **{"Retry-After": "7200"},
    )  # fmt: skip
    said = renew(vps, rc=1)
    assert outcomes(said) == {"example.com": "failed", "kiosk.co.test": "issued"}
    assert "the CA limits us: too many certificates (5)" in reasons(said)["example.com"]
    door.answer()  # from here on the CA would take it
    asked = door.orders
    assert len(asked) == 2
    for words in ((), ("example.com",), ("--now", "example.com"), ("--force", "example.com")):
        assert outcomes(renew(vps, *words, rc=1))["example.com"] == "waits"
    assert "waits" in tick(vps)
    assert vps.fab("cert.renew", "example.com").returncode == 1
    assert door.orders == asked
    assert served(stranger, vps) == on_disk(vps) == due
    (kept,) = re.findall(r"(?m)^next=(.*)", vps.check(f"cat {STATE}/example.com.failed"))
    assert abs(int(kept) - then) < 2
    time_passes(vps)
    assert outcomes(renew(vps, rc=0))["example.com"] == "issued"
    assert served(stranger, vps) == on_disk(vps) != due
    seen("1 order, then none by cron, by name or forced before the date; the other site was issued")


@pytest.mark.fault("F-46")
def test_f46_a_limit_on_all_holds_for_every_name_in_every_later_run(
    due: str, vps: Machine, stranger: Stranger, door: Door, seen: Say
) -> None:
    """The header alone has a time, which lego does not pass on: 1, 2, 4 days, then a week are waited for."""
    wear_out(vps, stranger, KIOSK)
    door.limit("Service busy; retry later.", **{"Retry-After": "86400"})
    said = renew(vps, rc=1)
    assert reasons(said)["kiosk.co.test"].startswith("not tried: the CA limits us: Service busy")
    door.answer()
    for words in ((), ("kiosk.co.test",)):
        assert set(outcomes(renew(vps, *words, rc=1)).values()) == {"waits"}
    assert len(door.orders) == 1
    (kept,) = re.findall(r"(?m)^next=(.*)", vps.check(f"cat {STATE}/example.com.failed"))
    assert int(kept) >= time.time() + 86400 - 60
    assert served(stranger, vps) == on_disk(vps) == due
    time_passes(vps)
    assert set(outcomes(renew(vps, rc=0)).values()) == {"issued"}
    seen("'Service busy': 1 order, then no name for a day")


# ---------------------------------------------------------------------- F-47: the challenge cannot succeed

# A server elsewhere: to names that begin with `loop` it says "go to where you came from", to others 404.
ELSEWHERE = b"""\
import http.server, socket
class Elsewhere(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        host = self.headers.get("Host", "")
        self.send_response(301 if host.startswith("loop") else 404)
        self.send_header("Location", "http://" + host + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
Server(("::", 80), Elsewhere).serve_forever()
"""


@pytest.fixture
def elsewhere(stranger: Stranger) -> Iterator[Stranger]:
    """A host on the Internet that is not ours, with a web server."""
    stranger.put({"/tmp/elsewhere.py": ELSEWHERE})
    pid = stranger.check("python3 /tmp/elsewhere.py >/dev/null 2>&1 & echo $!").strip()
    yield stranger
    stranger.check(f"kill {pid}")


@pytest.mark.fault("F-47")
def test_f47_names_that_point_elsewhere_are_told_one_by_one_and_tried_once(
    vps: Machine, elsewhere: Stranger, lab: Lab, change: Change, door: Door, seen: Say
) -> None:
    bad = {
        "away.test": r"the CA got a wrong answer from away\.test: .*404; DNS has (?=[^;]*{ip})[^;]*{ip6}.*, and this",
        "loop.test": r"the CA .* loop\.test: .*[Rr]edirect",
        "six.test": r"the CA .* six\.test: .*; DNS has {ip6}, and this host is",
        "void.test": r"DNS tells no address of void\.test, so nothing was asked of the CA",
    }
    directory = change("good.test", *bad)
    lab.authority.set_names(lab.authority.names | {
        "away.test": (elsewhere.ip, elsewhere.ip6), "loop.test": (elsewhere.ip, elsewhere.ip6),
        "six.test": (elsewhere.ip6, elsewhere.ip6), "void.test": None,
    })  # fmt: skip
    done = vps.fab(*STEPS, directory=directory)
    assert done.returncode == 1
    assert served(elsewhere, vps, "good.test") == on_disk(vps, "good.test")
    told = {name: re.findall(r"(?m)^why=(.*)", vps.check(f"cat {STATE}/{name}.failed"))[0] for name in bad}
    for name, pattern in bad.items():
        assert re.match(pattern.format(ip=elsewhere.ip, ip6=elsewhere.ip6), told[name]), told
    assert sorted(door.orders) == ["away.test", "good.test", "loop.test", "six.test"]
    for words in (("--now",), ("--now", *bad)):
        assert {outcomes(renew(vps, *words, rc=1))[name] for name in bad} == {"waits"}
    assert len(door.orders) == 4

    lab.point(vps)
    lab.authority.set_names({name: to for name, to in lab.authority.names.items() if name not in bad})
    time_passes(vps)
    found = outcomes(renew(vps, rc=0))
    assert {found[name] for name in bad} == {"issued"}
    for name in bad:
        assert served(elsewhere, vps, name) == on_disk(vps, name)
    seen("elsewhere, wrong AAAA, redirect loop, no DNS: each told with its addresses, 1 try each, 0 without DNS")


@pytest.mark.fault("F-47")
def test_f47_with_port_80_shut_on_the_way_the_old_one_serves(
    due: str, vps: Machine, stranger: Stranger, lab: Lab, door: Door, seen: Say
) -> None:
    rule = "INPUT -p tcp --dport 80 -j REJECT --reject-with tcp-reset"
    vps.check(f"iptables -I {rule}; ip6tables -I {rule}")
    try:
        said = renew(vps, rc=1)
    finally:
        vps.check(f"iptables -D {rule}; ip6tables -D {rule}")
    assert outcomes(said) == {"example.com": "failed", "kiosk.co.test": "kept"}
    assert re.match(r"the CA cannot reach (www\.)?example\.com: .*refused", reasons(said)["example.com"])
    assert outcomes(renew(vps, "--now", rc=1))["example.com"] == "waits"
    assert len(door.orders) == 1
    assert served(stranger, vps) == on_disk(vps) == due
    time_passes(vps)
    assert outcomes(renew(vps, rc=0))["example.com"] == "issued"
    assert served(stranger, vps) == on_disk(vps) != due
    seen("port 80 shut: 'the CA cannot reach example.com', 1 try")


@pytest.mark.fault("F-47")
def test_f47_what_the_preflight_finds_hopeless_asks_nothing_of_the_ca(
    vps: Machine, elsewhere: Stranger, lab: Lab, change: Change, door: Door, seen: Say
) -> None:
    """Pebble asks nobody for CAA records; Let's Encrypt does, and refuses."""
    bad = {
        "caa.test": r"caa\.test +CAA +CAA at caa\.test lets other-ca\.example issue; this CA goes by ca",
        "aaaa.test": rf"aaaa\.test +AAAA +{elsewhere.ip6} answers 404 .*; it is none of this host's own",
        "blank.test": r"blank\.test +A +DNS has no address of this name",
    }
    directory = change(*bad)
    assert vps.fab(*STEPS[:-1], directory=directory).returncode == 0
    authority = lab.authority
    authority.set_names(authority.names | {"aaaa.test": (vps.ip, elsewhere.ip6), "blank.test": None})
    with authority.forbidding(("caa.test", "other-ca.example")):
        for name, pattern in bad.items():
            done = vps.fab("cert.issue", name, directory=directory)
            assert done.returncode == 1
            assert re.search(pattern, done.stderr), done.stderr
            assert f"fab -H vps cert.issue {name} --anyway" in done.stderr
        rows = json.loads(vps.fab("cert.preflight", "aaaa.test", "--json", directory=directory).stdout)
    assert {row["what"]: row["well"] for row in rows} == {"A": True, "AAAA": False, "CAA": True}
    assert door.orders == []
    shut = "INPUT -p tcp --dport 80 -j REJECT --reject-with tcp-reset"
    vps.check(f"iptables -I {shut}")
    try:
        told = vps.fab("cert.preflight", "example.com")
    finally:
        vps.check(f"iptables -D {shut}")
    assert told.returncode == 1
    assert f"{vps.ip} refuses port 80: nobody listens there, or a firewall says no" in told.stdout

    with authority.forbidding(("caa.test", "ca"), ("test", ";")):
        done = vps.fab("cert.issue", "caa.test", directory=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert door.orders == ["caa.test"]
    assert served(elsewhere, vps, "caa.test") == on_disk(vps, "caa.test")
    seen("CAA for others, AAAA elsewhere, no address: cert.issue names each, 0 orders; CAA for this CA: issued")


# ---------------------------------------------------------------------- F-48: the order fails after the key was made


@pytest.mark.fault("F-48")
def test_f48_an_order_that_fails_at_its_end_leaves_the_old_pair_byte_for_byte(
    due: str, vps: Machine, stranger: Stranger, door: Door, seen: Say
) -> None:
    before = digests(vps, SHELF, INBOX)
    door.answer("/finalize", 500, type="urn:ietf:params:acme:error:serverInternal", detail="Error finalizing order")
    said = renew(vps, rc=1)
    assert reasons(said)["example.com"].startswith("the CA is in trouble: Error finalizing order")
    assert len(door.asked("/finalize")) == 1
    assert digests(vps, SHELF, INBOX) == before
    assert served(stranger, vps) == on_disk(vps) == due
    door.answer()
    time_passes(vps)
    assert outcomes(renew(vps, rc=0))["example.com"] == "issued"
    assert served(stranger, vps) == on_disk(vps) != due
    seen("500 at finalize: shelf and inbox byte for byte as before; the next try was issued")


# ---------------------------------------------------------------------- F-49: bad PEMs

Bad = Callable[[Authority, str], Pair]


def _wrong_order(ca: Authority, name: str) -> Pair:
    pair = ca.issue(name)
    return replace(pair, leaf=pair.chain, chain=pair.leaf)


CORPUS: dict[str, tuple[Bad, str]] = {
    "empty": (lambda ca, name: Pair(b"", b"", ca.issue(name).key), "there is no certificate"),
    "truncated": (
        lambda ca, name: replace(ca.issue(name), chain=ca.issue(name).chain[:300]),
        "the file holds more, or less, than whole certificates",
    ),
    "junk": (
        lambda ca, name: replace(ca.issue(name), chain=ca.issue(name).chain + b"issued with love\n"),
        "the file holds more, or less, than whole certificates",
    ),
    "garbled": (
        lambda ca, name: replace(ca.issue(name), leaf=ca.issue(name).leaf[:200] + b"\n-----END CERTIFICATE-----\n"),
        "the certificate cannot be read",
    ),
    "order": (_wrong_order, "the first certificate is one of a CA; the one of the site must come first"),
    "authority": (
        lambda ca, name: ca.issue(name, authority=True),
        "the first certificate is one of a CA; the one of the site must come first",
    ),
    "alone": (lambda ca, name: ca.alone(name), "the certificate is signed by itself"),
    "chainless": (lambda ca, name: replace(ca.issue(name), chain=b""), "the intermediate certificate is missing"),
    "keyless": (lambda ca, name: replace(ca.issue(name), key=b""), "there is no key"),
    "half-key": (lambda ca, name: replace(ca.issue(name), key=ca.issue(name).key[:90]), "the key cannot be read"),
    "locked": (lambda ca, name: replace(ca.issue(name), key=encrypted()), "the key is encrypted"),
    "mismatch": (
        lambda ca, name: replace(ca.issue(name), key=pem(key("ec256-other"))),
        "the key is not the one of the certificate",
    ),
    "names": (lambda ca, name: ca.issue("other.test"), "the certificate does not cover bad-names.test"),
    "expired": (lambda ca, name: ca.issue(name, age=90 * DAY, left=-DAY), "the certificate expired on 2"),
    "future": (lambda ca, name: ca.issue(name, age=-DAY), "the certificate is not valid before 2"),
    "weak": (lambda ca, name: ca.issue(name, kind="rsa1024"), "its key is rsa1024, ec256 was asked for"),
    "forged": (lambda ca, name: ca.forge(name), "nobody whom this host trusts vouches for it: "),
    "staging": (
        lambda ca, name: Authority("staging").issue(name),
        "nobody whom this host trusts vouches for it: unable to get local issuer certificate",
    ),
}


@pytest.fixture
def public(vps: Machine, lab: Lab) -> Iterator[Authority]:
    """The CA that issues here is a public one, as far as the host can tell: a list of roots must vouch for it."""
    ca = Authority("good")
    vps.put({"/root/roots.pem": lab.ca_bundle.read_bytes() + pem(ca.root)})
    with setting(vps, "trust", "/root/roots.pem"):
        yield ca
    vps.check("rm /root/roots.pem")


@contextlib.contextmanager
def setting(host: Machine, word: str, value: str) -> Iterator[None]:
    """Another line in the file that tells the program which CA to ask."""
    file = "/etc/gatehouse/acme.conf"
    host.check(f"cp -p {file} /root/acme.conf; sed -i 's|^{word}=.*|{word}={value}|' {file}")
    try:
        yield
    finally:
        host.check(f"mv /root/acme.conf {file}")


@pytest.mark.fault("F-49")
def test_f49_every_kind_of_bad_pem_is_refused_by_name_and_the_old_one_serves(
    public: Authority, vps: Machine, stranger: Stranger, lab: Lab, change: Change, seen: Say
) -> None:
    """Each lies where lego would leave it, beside a certificate that is due."""
    kinds = {f"bad-{kind}.test": kind for kind in CORPUS}
    done = vps.fab(*STEPS[:3], directory=change(*kinds))
    assert done.returncode == 0, done.stdout + done.stderr
    old, inbox = dict[str, bytes](), dict[str, bytes]()
    for name, kind in kinds.items():
        old[f"{SHELF}/{name}.pem"] = Authority("yesterday").issue(name, age=85 * DAY, left=5 * DAY).pem
        pair = CORPUS[kind][0](public, name)
        inbox |= {f"{INBOX}/{name}.crt": pair.bundle, f"{INBOX}/{name}.key": pair.key}
    vps.put(old, 0o600)
    vps.check(f"touch -d yesterday {SHELF}/bad-*.pem && systemctl reload haproxy")
    vps.put(inbox, 0o600)
    wait_until_served(vps, stranger, "bad-staging.test")
    before, fingerprints = digests(vps, SHELF), all_served(stranger, vps, *kinds, *EXAMPLE)

    with lab.authority.unreachable():
        said = renew(vps, rc=1)
    lines = [line.split("\t") for line in said.splitlines()]
    refused = {name: text for outcome, name, text in lines if outcome == "refused"}
    for name, kind in kinds.items():
        if kind != "empty":  # a file without a letter: nothing came, and nothing is refused
            assert refused[name].startswith("what lies in the inbox: " + CORPUS[kind][1]), (kind, refused.get(name))
    assert {outcomes(said)[name] for name in kinds} == {"failed"}  # the CA could not be asked for a better one
    assert {outcomes(said)[name] for name in ("example.com", "kiosk.co.test")} == {"kept"}
    assert digests(vps, SHELF) == before
    assert all_served(stranger, vps, *kinds, *EXAMPLE) == fingerprints
    assert code(stranger, vps) == "200"

    time_passes(vps)
    found = outcomes(renew(vps, rc=0))
    assert {found[name] for name in kinds} == {"issued"}
    now = all_served(stranger, vps, *kinds)
    assert now == all_on_disk(vps, *kinds)
    assert not set(now.values()) & set(fingerprints.values())
    seen(f"{len(kinds)} kinds, each refused by its reason; the old ones served byte for byte; the next tick issued all")


@pytest.mark.fault("F-49")
def test_f49_a_bad_file_in_haproxy_s_own_directory_stops_neither_reload_nor_start(
    due: str, vps: Machine, stranger: Stranger, seen: Say
) -> None:
    """By hand, or by a disk: one such file keeps HAProxy from every reload, and from its next start."""
    kiosk, before = served(stranger, vps, "kiosk.co.test"), vps.check(f"base64 -w0 {SHELF}/kiosk.co.test.pem")
    vps.check(f"mkdir -p {STATE}/former; cp -p {SHELF}/kiosk.co.test.pem {STATE}/former/")
    try:
        vps.check(f"truncate -s 700 {SHELF}/kiosk.co.test.pem; echo notes >{SHELF}/README")
        assert vps.exec("systemctl reload haproxy").rc != 0  # what it would be without help
        said = renew(vps, "example.com", rc=0)
        assert outcomes(said) == {"kiosk.co.test": "refused", "README": "refused", "example.com": "issued"}
        assert served(stranger, vps) == on_disk(vps) != due
        assert served(stranger, vps, "kiosk.co.test") == on_disk(vps, "kiosk.co.test") == kiosk

        vps.check(f"truncate -s 700 {SHELF}/kiosk.co.test.pem; rm {STATE}/former/kiosk.co.test.pem")
        vps.check("systemctl restart haproxy")
        assert code(stranger, vps) == "200"
        assert served(stranger, vps, "kiosk.co.test") == served(stranger, vps, "nosuch.invalid")
        assert "refused" in vps.check("journalctl -q -u haproxy -n 20 -o cat")
        tick(vps)
        assert served(stranger, vps, "kiosk.co.test") == on_disk(vps, "kiosk.co.test") == kiosk
    finally:
        vps.check(f"rm -f {SHELF}/README {STATE}/aside/*; base64 -d >{SHELF}/kiosk.co.test.pem", stdin=before)
        vps.check("systemctl reload-or-restart haproxy")
    seen("half a PEM and a README among the served ones: put aside, HAProxy reloads and starts")


# ---------------------------------------------------------------------- F-50: between certificate and key


@pytest.mark.fault("F-50")
@pytest.mark.parametrize("killed", ["all of it", pytest.param("lego alone", marks=pytest.mark.demand)])
def test_f50_a_lego_killed_between_certificate_and_key_is_mended_by_the_next_run(
    killed: str, due: str, vps: Machine, stranger: Stranger, seen: Say
) -> None:
    """lego writes .crt, .issuer.crt, .key: with a pipe in the second's place, it stands still between the others."""
    pipe = f"{INBOX}/example.com.issuer.crt"
    former = vps.check(f"sha256sum {INBOX}/example.com.crt")
    vps.check(f"rm -f {pipe}; mkfifo {pipe}")
    vps.check("systemd-run --quiet --unit=cut-off -p RemainAfterExit=yes gatehouse-renew example.com")
    try:
        until(vps, f"! echo '{former.strip()}' | sha256sum --check --status")
        if killed == "lego alone":
            vps.check("kill -KILL $(pgrep -x lego)")
            until(vps, "[ $(systemctl show -P SubState cut-off) != running ]")
            assert "lego was killed (signal 9)" in vps.check(f"cat {STATE}/example.com.failed")
        else:
            vps.check("systemctl kill --signal=KILL cut-off")
    finally:
        vps.exec(f"systemctl stop cut-off; systemctl reset-failed cut-off; rm -f {pipe}")
    assert vps.check(f"openssl x509 -in {INBOX}/example.com.crt -noout -pubkey") != vps.check(
        f"openssl pkey -in {INBOX}/example.com.key -pubout"
    )  # new certificate, old key
    assert served(stranger, vps) == on_disk(vps) == due
    vps.exec(f"sed -i 's/^next=.*/next=1/' {STATE}/example.com.failed")
    said = renew(vps, rc=0)
    assert "refused\texample.com\twhat lies in the inbox: the key is not the one of the certificate" in said
    assert outcomes(said)["example.com"] == "issued"
    assert served(stranger, vps) == on_disk(vps) != due
    seen("new certificate and old key refused; the next run issued")


@pytest.mark.fault("F-50")
def test_f50_a_disk_that_is_full_after_the_certificate_is_mended_once_there_is_room(
    due: str, vps: Machine, stranger: Stranger, seen: Say
) -> None:
    vps.check(f"mount -t tmpfs -o size=8k,mode=700 tmpfs {INBOX}")  # two pages: certificate and issuer, no key
    try:
        said = renew(vps, rc=1)
        assert reasons(said)["example.com"].startswith("the disk is full: ")
        assert vps.check(f"cd {INBOX}; find . -size +0 -name 'example.com*' | sort").split() == [
            "./example.com.crt", "./example.com.issuer.crt",
        ]  # fmt: skip
        assert served(stranger, vps) == on_disk(vps) == due
        vps.check(f"mount -o remount,size=1m {INBOX}")
        time_passes(vps)
        said = renew(vps, rc=0)
        assert re.search(r"(?m)^refused\texample\.com\twhat lies in the inbox: there is no key", said)
        assert outcomes(said)["example.com"] == "issued"
        assert served(stranger, vps) == on_disk(vps) != due
    finally:
        vps.check(f"umount {INBOX}")
    seen("no room for the key: 'the disk is full'; issued once there is")


# ---------------------------------------------------------------------- F-51: the reload fails once


@pytest.mark.fault("F-51")
def test_f51_what_haproxy_refuses_leaves_everything_as_it_was_and_the_next_tick_loads_it(
    due: str, vps: Machine, stranger: Stranger, door: Door, seen: Say
) -> None:
    vps.check("cp -p /etc/haproxy/haproxy.cfg /root/kept.cfg && echo 'nonsense here' >>/etc/haproxy/haproxy.cfg")
    before = digests(vps, SHELF)
    try:
        said = renew(vps, "example.com", rc=1)
        assert outcomes(said) == {"example.com": "failed"}
        assert "the former certificate is back" in said
        assert "unknown keyword 'nonsense'" in said
        assert digests(vps, SHELF) == before
        assert served(stranger, vps) == on_disk(vps) == due
    finally:
        vps.check("mv /root/kept.cfg /etc/haproxy/haproxy.cfg")
    assert "installed" in tick(vps)
    assert len(door.orders) == 1
    assert served(stranger, vps) == on_disk(vps) != due
    seen("former one back, HAProxy's words told; the next tick installed it without a new order")


@pytest.mark.fault("F-51")
def test_f51_a_run_that_was_cut_off_before_the_reload_is_put_right(vps: Machine, stranger: Stranger) -> None:
    before = served(stranger, vps)
    # It outlives what lies in the inbox, so there is nothing better to install.
    fresh = Authority("yesterday").issue(*EXAMPLE, left=100 * DAY)
    kept = vps.check(f"base64 -w0 {SHELF}/example.com.pem")
    vps.put({f"{SHELF}/example.com.pem": fresh.pem}, 0o600)
    try:
        assert outcomes(renew(vps, rc=0))["example.com"] == "reloaded"
        assert served(stranger, vps) == on_disk(vps) != before
    finally:
        vps.check(f"base64 -d >{SHELF}/example.com.pem", stdin=kept)
        vps.check("gatehouse-renew")
    assert served(stranger, vps) == before


# ---------------------------------------------------------------------- F-52: expired, or nothing yet


@pytest.mark.fault("F-52")
def test_f52_with_an_empty_directory_the_front_starts_and_the_next_tick_orders_all(
    vps: Machine, stranger: Stranger, door: Door, seen: Say
) -> None:
    vps.check(f"rm -f {SHELF}/* {INBOX}/* && systemctl restart haproxy")
    start = time.monotonic()
    assert code(stranger, vps, "http://example.com/") == "301"
    assert served(stranger, vps) == served(stranger, vps, "nosuch.invalid")
    told = tick(vps)
    took = time.monotonic() - start
    for name in ("example.com", "kiosk.co.test"):
        assert served(stranger, vps, name) == on_disk(vps, name)
    assert stranger.curl("-o", "/dev/null", "https://example.com/", to=vps).rc == 0
    assert {",".join(EXAMPLE), ",".join(KIOSK)} == set(door.orders), told
    seen(f"no file at all: HAProxy starts with a self-signed one; all issued {took:.0f} s later")


@pytest.mark.demand
@pytest.mark.fault("F-52")
def test_f52_a_host_that_boots_with_everything_expired_heals_unattended(
    due: str, vps: Machine, stranger: Stranger, seen: Say
) -> None:
    for names in (EXAMPLE, KIOSK):
        expired = Authority("yesterday").issue(*names, age=95 * DAY, left=-5 * DAY)
        vps.put({f"{SHELF}/{names[0]}.pem": expired.pem}, 0o600)
    vps.check(f"rm -f {SHELF}/00-default.pem {INBOX}/*; touch {STATE}/last {SHELF}/*")
    start = time.monotonic()
    vps.restart()
    both = ("example.com", "kiosk.co.test")
    assert all_served(stranger, vps, *both) == all_on_disk(vps, *both)  # expired, and served: HAProxy does start
    assert stranger.curl("https://example.com/", to=vps).rc == 60
    while time.monotonic() - start < 240:  # the minute after the boot, and up to one of chance
        fine = [stranger.curl("-o", "/dev/null", f"https://{name}/", to=vps).rc == 0 for name in both]
        if all(fine):
            break
        time.sleep(2)
    took = time.monotonic() - start
    assert all(fine)
    assert all_served(stranger, vps, *both) == all_on_disk(vps, *both)
    seen(f"all expired at boot: visitors are fine again {took:.0f} s later, with nobody near")


# ---------------------------------------------------------------------- F-53: two hundred at once

# Many hosts in one: each has its identity in a directory of its own, and asks the installed program for its turn.
TURNS = """
for host in $(seq 300); do
    mkdir -p /run/many/$host/etc
    echo "machine $host" | sha256sum | cut -c1-32 >/run/many/$host/etc/machine-id
    echo web$((host % 20)) >/run/many/$host/etc/hostname
    GATEHOUSE_ROOT=/run/many/$host gatehouse-renew --turn
done
for day in 1 2 3; do gatehouse-renew --turn; done
"""


@pytest.mark.fault("F-53")
def test_f53_the_turns_of_300_hosts_are_spread_over_the_day(vps: Machine, seen: Say) -> None:
    try:
        turns = [tuple(map(int, line.split())) for line in vps.check(TURNS).splitlines()]
    finally:
        vps.check("rm -rf /run/many")
    *turns, monday, tuesday, wednesday = turns
    assert len(turns) == 300
    minutes: dict[int, int] = {}
    for first, second, pause in turns:
        assert (second, first in range(12), pause in range(3000)) == (first + 12, True, True)
        minute = first * 60 + pause // 60
        minutes[minute] = minutes.get(minute, 0) + 1
    share = max(minutes.values()) / len(turns)
    hours = [sum(count for minute, count in minutes.items() if minute // 60 == hour) for hour in range(12)]
    assert share < 0.05
    assert max(hours) < 3 * min(hours)
    assert monday[0] == tuesday[0] == wednesday[0]
    assert len({monday, tuesday, wednesday}) > 1  # never the same minute every day
    seen(f"300 hosts: the fullest minute of the 720 holds {share:.1%} of them")


MANY = 200

# The most legos at once, as long as the run lasts.
CENSUS = """
most=0
while systemctl is-active --quiet many; do
    now=$(pgrep -xc lego); [ "$now" -le "$most" ] || most=$now
    sleep 0.05
done
echo $most
"""


@pytest.mark.demand
@pytest.mark.fault("F-53")
def test_f53_two_hundred_that_are_due_are_ordered_one_by_one(
    vps: Machine, stranger: Stranger, door: Door, change: Change, seen: Say
) -> None:
    names = [f"s{number}.many.test" for number in range(MANY)]
    done = vps.fab(*STEPS[:3], directory=change(*names))
    assert done.returncode == 0, done.stdout + done.stderr
    ca = Authority("yesterday")
    vps.put({f"{SHELF}/{name}.pem": ca.issue(name, age=85 * DAY, left=5 * DAY).pem for name in names}, 0o600)
    vps.check("systemctl reload haproxy")
    mark = vps.check("journalctl -q -n 0 --show-cursor | sed -n 's/^-- cursor: //p'").strip()
    start = time.monotonic()
    vps.check("systemd-run --quiet --unit=many -p StandardOutput=file:/run/many.out gatehouse-renew --porcelain")
    load = (
        "curl -k -s --rate 5/s -o /dev/null -w '%{stderr}%{http_code}\\n' 'https://example.com/?[1-3000]' & load=$!; "
    )
    stranger.check(f"({load} echo $load >/tmp/load.pid; wait) >/tmp/load.out 2>&1 &")
    most = vps.check(CENSUS, timeout=1200).strip()
    took = time.monotonic() - start
    stranger.check("kill $(cat /tmp/load.pid)")
    codes = stranger.check("cat /tmp/load.out").split()
    found = outcomes(vps.check("cat /run/many.out; rm /run/many.out"))
    assert [name for name in names if found[name] != "issued"] == []
    assert most == "1"
    assert sorted(door.asked("/order-plz", "201")) == sorted(names)
    assert all_served(stranger, vps, *names) == all_on_disk(vps, *names)
    reloads = vps.check(f"journalctl -q -u haproxy --after-cursor '{mark}' -o cat").count("Reloaded haproxy")
    assert len(codes) > 100
    assert set(codes) == {"200"}
    seen(f"{MANY} renewed one by one in {took:.0f} s with {reloads} reloads; 0 of {len(codes)} requests failed")


# ---------------------------------------------------------------------- F-54: the account

LOSSES = {
    "key": "find /etc/lego/accounts -name '*.key' -delete",
    "account": "rm -rf /etc/lego/accounts",
    "torn": "for file in $(find /etc/lego/accounts -name account.json); do truncate -s 20 $file; done",
    "everything": "rm -rf /etc/lego",
}


@pytest.mark.fault("F-54")
@pytest.mark.parametrize("loss", ["key", *(pytest.param(each, marks=pytest.mark.demand) for each in list(LOSSES)[1:])])
def test_f54_a_lost_account_is_registered_anew_and_only_what_is_due_is_ordered(
    loss: str, due: str, vps: Machine, stranger: Stranger, door: Door, seen: Say
) -> None:
    vps.check(LOSSES[loss])
    assert outcomes(renew(vps, rc=0)) == {"example.com": "issued", "kiosk.co.test": "kept"}
    assert (door.asked("/order-plz", "201"), door.asked("/sign-me-up", "201")) == ([",".join(EXAMPLE)], [""])
    asked = door.orders
    assert set(outcomes(renew(vps, rc=0)).values()) == {"kept"}
    assert door.orders == asked
    assert served(stranger, vps) == on_disk(vps) != due
    seen(f"{loss} lost: 1 registration, 1 order for the 1 name that was due")


# ---------------------------------------------------------------------- F-55: cron


@pytest.mark.fault("F-55")
def test_f55_after_missed_turns_the_next_tick_renews_whatever_lock_was_left(
    due: str, vps: Machine, stranger: Stranger, seen: Say
) -> None:
    """The host was off for two days, and the run before had ended with the power."""
    vps.check("echo 'process 1, started long ago by root' >/run/gatehouse-renew.lock; systemctl stop cron")
    vps.check(f"touch -d '50 hours ago' {STATE}/last")
    try:
        told = vps.fab("status", "--json")
        assert told.returncode == 1
        faults = {each["name"]: each["fault"] for each in json.loads(told.stdout)["readings"] if each["fault"]}
        assert faults.items() >= {
            "renewal": "cron is not coming", "cron": "not active", "example.com": "late"
        }.items(), faults  # fmt: skip
    finally:
        vps.check("systemctl start cron")
    assert vps.fab("cert.list").returncode == 1
    logged = tick(vps)
    assert re.search(r"(?m)^issued +example\.com +[45] of 90 days left; now ", logged)
    assert served(stranger, vps) == on_disk(vps) != due
    told = vps.fab("status", "--json")
    readings = {each["name"]: each for each in json.loads(told.stdout)["readings"]}
    assert (readings["renewal"]["value"], readings["renewal"]["fault"]) == ("0 hours ago", "")
    seen("status: 'cron is not coming', 'late'; the next tick issued it past a stale lock")


@pytest.mark.demand
@pytest.mark.fault("F-55")
def test_f55_the_real_cron_daemon_renews_within_its_minute(
    due: str, vps: Machine, stranger: Stranger, seen: Say
) -> None:
    """Its line is brought forward to every minute, and the sleep is a short one; all else is the daemon's doing."""
    vps.put({"/tmp/hurried/sleep": b"#!/bin/sh\n"}, 0o755)
    table = "/etc/cron.d/gatehouse-renew"
    vps.check(f"cp -p {table} /root/kept.cron; rm -f {STATE}/last")
    vps.check(f"sed -i 's|^0 \\* |* * |; s|^PATH=|PATH=/tmp/hurried:|' {table}")
    start = time.monotonic()
    try:
        while time.monotonic() - start < 150 and served(stranger, vps) == due:
            time.sleep(2)
    finally:
        vps.check(f"mv /root/kept.cron {table}")
        until(vps, "! pgrep -x gatehouse-renew")
        vps.check("rm -r /tmp/hurried")
    assert served(stranger, vps) == on_disk(vps) != due
    seen(f"the daemon itself renewed after {time.monotonic() - start:.0f} s")


# ---------------------------------------------------------------------- F-56: short lives


@pytest.mark.fault("F-56")
def test_f56_lives_of_6_45_and_64_days_are_due_at_a_third_or_half(vps: Machine, seen: Say) -> None:
    kept = {6: 3.1, 45: 15.1, 64: 21.5, 90: 30.1}
    ask = {6: 2.9, 45: 14.9, 64: 21.2, 90: 29.9}
    files, expected = dict[str, bytes](), dict[str, str]()
    for outcome, lefts in (("kept", kept), ("would", ask)):
        for life, left in lefts.items():
            name = f"{outcome}-{life}.test"
            expected[name] = outcome
            pair = Authority("yesterday").issue(name, age=(life - left) * DAY, left=left * DAY)
            files[f"{SHELF}/{name}.pem"] = pair.pem
            files[f"/etc/gatehouse/certs/{name}.conf"] = f"names={name}\nemail=o@{name}\nkey=ec256\n".encode()
    try:
        vps.put(files, 0o600)
        vps.check("systemctl reload haproxy; sleep 1")
        found = outcomes(renew(vps, "--dry-run", *expected))
        listed = {line.split("\t")[0]: line.split("\t")[5] for line in vps.check("gatehouse-renew --list").splitlines()}
    finally:
        vps.check(f"rm -f {' '.join(files)}; systemctl reload haproxy")
    assert found == expected
    assert {name: listed[name] for name in expected} == {
        name: {"kept": "ok", "would": "due"}[outcome] for name, outcome in expected.items()
    }
    seen("6 days: due with under 3 left; 45: under 15; 64: under 21.3; 90: under 30")


@pytest.mark.demand
@pytest.mark.fault("F-56")
def test_f56_a_ca_that_issues_for_six_days_is_asked_once_in_three(
    due: str, vps: Machine, stranger: Stranger, lab: Lab, seen: Say
) -> None:
    """A second Pebble, whose certificates live for six days."""
    with short_lived(lab.authority.machine, 6) as directory, setting(vps, "directory", directory):
        assert outcomes(renew(vps, "example.com", rc=0)) == {"example.com": "issued"}
        assert outcomes(renew(vps, "example.com", rc=0)) == {"example.com": "kept"}
        row = vps.check("gatehouse-renew --list example.com").split("\t")
        assert (row[1], row[2], round(int(row[4]) / 86400), row[5]) == ("5", "5", 6, "ok")
        assert served(stranger, vps) == on_disk(vps) != due
    assert outcomes(renew(vps, "example.com", rc=0)) == {"example.com": "issued"}  # it came from another CA
    seen("a CA of 6 days: issued, and not asked again at the next tick")


@contextlib.contextmanager
def short_lived(machine: Machine, days: int) -> Iterator[str]:
    """A CA beside the lab's own, whose certificates live so long: its directory."""
    config = json.loads(machine.check("cat /etc/pebble/config.json"))
    config["pebble"] |= {
        "listenAddress": "[::]:14200", "managementListenAddress": "127.0.0.1:15200",
        "certificateValidityPeriod": days * 86400,
    }  # fmt: skip
    machine.put({"/run/short.json": json.dumps(config).encode()})
    machine.check(
        "systemd-run --quiet --collect --unit=short-lived -p Environment=PEBBLE_VA_NOSLEEP=1 "
        "-p Environment=PEBBLE_WFE_NONCEREJECT=1 pebble -config /run/short.json -dnsserver 127.0.0.1:53"
    )
    try:
        until(machine, "ss -Hltn 'sport = :14200' | grep -q .")
        yield "https://ca:14200/dir"
    finally:
        machine.check("systemctl stop short-lived; rm /run/short.json")
