"""Certificates: what a host is asked to order, decided from facts alone; and what its answers mean."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from invoke import Exit

from fabfile import cert
from fabfile.cert import answers, fleet
from fabfile.cert.answers import Certificate, Outcome
from fabfile.engine.changes import Install, Load, MakeDirectory, PutFile, Remove, Run
from fabfile.model import STAGING, Acme, Fleet, Refusal

from .recording import Recorded, a_file, contents, site

EXAMPLE = site(aliases=("example.org",), tls={"key": "rsa4096", "email": "owner@example.com"})
TRUTHS = ("lego", "disk", "memory", "wire")
SHOP = site("shop.test", subdomains=())
SATISFIED = """\
directory=https://acme-v02.api.letsencrypt.org/directory
key=rsa4096
names=example.com www.example.com example.org
"""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return Recorded(monkeypatch, EXAMPLE, SHOP)


def issued(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------------- steps


def test_before_haproxy_come_program_requests_and_a_default_certificate(host: Recorded) -> None:
    changes = host.after(*cert.STEPS_BEFORE)

    assert {"lego", "openssl", "socat", "ca-certificates", "ldnsutils"} == {
        name for change in changes if isinstance(change, Install) for name in change.names
    }
    assert [0o755] == [change.mode for change in changes if isinstance(change, PutFile) and change.path == cert.PROGRAM]
    assert [("/etc/haproxy/certs", 0o700)] == [
        (change.path, change.mode)
        for change in changes
        if isinstance(change, MakeDirectory) and change.path == "/etc/haproxy/certs"
    ]
    assert ["/usr/local/sbin/gatehouse-renew --default --wait 900"] == [
        change.script for change in changes if isinstance(change, Run)
    ]


def test_a_request_holds_every_name_of_the_site_and_nothing_else(host: Recorded) -> None:
    files = contents(host.after(cert.requests))

    assert {"/etc/gatehouse/certs/example.com.conf", "/etc/gatehouse/certs/shop.test.conf"} == set(files)
    lines = [line for line in files["/etc/gatehouse/certs/example.com.conf"].splitlines() if not line.startswith("#")]
    assert ["names=example.com www.example.com example.org", "email=owner@example.com", "key=rsa4096"] == lines


def test_without_an_address_of_its_own_a_site_shares_one_account_at_the_ca(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, site("a.test"), site("b.test"))
    assert {"email=webmaster@a.test"} == emails(host)
    host = Recorded(monkeypatch, site("a.test"), site("b.test"))
    host.fleet = Fleet(acme=Acme(email="ops@example.com"))
    assert {"email=ops@example.com"} == emails(host)


def emails(host: Recorded) -> set[str]:
    text = "".join(contents(host.after(cert.requests)).values())
    return set(re.findall(r"(?m)^email=.*", text))


def test_the_program_understands_what_is_written_for_it(host: Recorded, tmp_path: Path) -> None:
    for path, text in contents(host.after(cert.program, cert.requests)).items():
        target = tmp_path / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    said = subprocess.run(
        [str(cert.SOURCE), "--dry-run", "--porcelain"],
        env={"GATEHOUSE_ROOT": str(tmp_path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
    )

    assert ["example.com", "shop.test"] == [line.split("\t")[1] for line in said.stdout.splitlines()]
    assert {"order a certificate: no certificate yet"} == {line.split("\t")[2] for line in said.stdout.splitlines()}


def test_only_a_public_ca_must_be_vouched_for_by_the_system(host: Recorded, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    told = {}
    for name, acme in {
        "public": Acme(), "staging": Acme(staging=True), "own": Acme(directory="https://ca:14000/dir", ca_bundle=bundle)
    }.items():  # fmt: skip
        host.fleet = Fleet(acme=acme)
        told[name] = re.findall(r"(?m)^[a-z_]+=.*", contents(host.after(cert.program))["/etc/gatehouse/acme.conf"])

    system = "trust=/etc/ssl/certs/ca-certificates.crt"
    assert {
        "public": ["directory=https://acme-v02.api.letsencrypt.org/directory", "ca_bundle=", system],
        "staging": [f"directory={STAGING}", "ca_bundle=", "trust="],
        "own": ["directory=https://ca:14000/dir", "ca_bundle=/etc/gatehouse/acme-ca.pem", "trust="],
    } == told


def test_a_site_that_left_asks_no_more_and_its_certificate_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    left = ["/etc/gatehouse/certs/old.test.conf", "/etc/gatehouse/certs/old.test.issued"]
    known = {path: a_file() for path in [*left, "/etc/haproxy/certs/old.test.pem"]}
    changes = Recorded(monkeypatch, SHOP, files=known).after(cert.requests)

    assert left == [change.path for change in changes if isinstance(change, Remove)]


def test_what_was_satisfied_as_it_is_now_is_not_ordered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "/etc/haproxy/certs/example.com.pem": a_file(),
        "/etc/gatehouse/certs/example.com.issued": a_file(issued(SATISFIED)),
    }

    assert [] == Recorded(monkeypatch, EXAMPLE, files=known).after(cert.issue)


@pytest.mark.parametrize(
    ("pem", "satisfied"),
    [
        (False, SATISFIED),
        (True, ""),
        (True, SATISFIED.replace(" example.org", "")),
        (True, SATISFIED.replace("rsa4096", "ec256")),
        (True, SATISFIED.replace("acme-v02", "acme-staging-v02")),
    ],
    ids=["no PEM", "nothing satisfied", "a new name", "another kind of key", "another CA"],
)
def test_what_is_asked_for_otherwise_is_ordered_by_name(
    pem: bool, satisfied: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"/etc/haproxy/certs/example.com.pem": a_file()} if pem else {}
    known["/etc/gatehouse/certs/example.com.issued"] = a_file(issued(satisfied))
    (run,) = Recorded(monkeypatch, EXAMPLE, files=known).after(cert.issue)

    assert isinstance(run, Run)
    assert ("example.com",) == run.args
    assert 'gatehouse-renew --now --wait 900 "$@"' in run.script


def test_a_thousand_new_sites_are_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    sites = [site(f"s{number}.test") for number in range(1000)]
    (run,) = Recorded(monkeypatch, *sites).after(cert.issue)

    assert isinstance(run, Run)
    assert (1000, "1000 sites get their certificates") == (len(run.args), run.label)


def test_a_failing_name_does_not_end_a_bootstrap_and_cron_is_there_before(host: Recorded) -> None:
    assert (cert.schedule, cert.issue) == cert.STEPS_AFTER
    assert cert.issue.vital is False
    changes = host.after(cert.schedule)
    assert ["cron.service"] == [change.unit for change in changes if isinstance(change, Load)]


def test_cron_calls_every_hour_as_root_and_leaves_a_trace(host: Recorded) -> None:
    text = contents(host.after(cert.schedule))["/etc/cron.d/gatehouse-renew"]
    (line,) = [line for line in text.splitlines() if re.match(r"[\d*]", line)]
    (boot,) = [line for line in text.splitlines() if line.startswith("@reboot ")]

    assert "0 * * * * root gatehouse-renew --cron 2>&1 | logger -t gatehouse-renew" == line
    assert "@reboot root sleep 60; gatehouse-renew --cron 2>&1 | logger -t gatehouse-renew" == boot
    assert text.endswith("\n")
    assert "PATH=/usr/local/sbin:" in text


# ---------------------------------------------------------------------- answers


def test_the_last_word_on_a_name_counts_and_a_failure_hides_no_other() -> None:
    said = (
        "refused\ta.test\tkey\nissued\ta.test\t90 days\nkept\tb.test\t60 days\nfailed\ta.test\tnot served\nexit\t\t1\n"
    )

    assert [
        Outcome("vps", "a.test", "failed", "not served"),
        Outcome("vps", "b.test", "kept", "60 days"),
    ] == answers.read_outcomes("vps", said)


def test_a_run_that_did_not_take_place_is_a_failure_of_the_host() -> None:
    (row,) = answers.read_outcomes("vps", "gatehouse-renew: another run is on: process 7\nexit\t\t3\n")

    assert Outcome("vps", "", "failed", "gatehouse-renew: another run is on: process 7; exit code 3") == row


def test_the_list_is_read_with_what_is_missing() -> None:
    said = (
        "a.test\t61\t61\t1802995620\t7775999\tok\tAA\tAA\t-\t61\t61\tAA\tAA\n"
        "b.test\t-\t3649\t0\t0\tmissing\t-\tBB\tno certificate yet\t-\t-\t-\t-\n"
    )

    assert [
        Certificate("vps", "a.test", 61, 61, 61, 61, "2027-02-19", "ok", "", dict.fromkeys(TRUTHS, "AA")),
        Certificate(
            "vps", "b.test", None, None, None, 3649, "", "missing",
            "no certificate yet: fab -H vps cert.preflight b.test", {"wire": "BB"},
        ),
    ] == answers.read_list("vps", said)


def test_a_bad_row_is_exit_code_1_and_the_table_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit) as ended:
        answers.show([Outcome("vps", "a.test", "failed", "the CA " * 40), Outcome("vps2", "a.test", "kept", "")])

    assert 1 == ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert [
        "host  domain  outcome",
        "vps   a.test  failed   " + ("the CA " * 40).rstrip(),
        "vps2  a.test  kept",
    ] == lines


def test_due_is_no_fault_but_what_visitors_would_notice_is() -> None:
    states = ("ok", "due", "late", "failed", "missing", "broken", "expired", "differs", "unserved")
    rows = [Certificate("vps", "a.test", 1, 1, 1, 1, "", state, "") for state in states]

    assert [False, False, True, True, True, True, True, True, True] == [row.bad for row in rows]


@pytest.mark.parametrize("typed", ["münchen.de", "xn--mnchen-3ya.de", "XN--MNCHEN-3YA.DE."])
def test_a_site_is_known_in_both_forms(typed: str) -> None:
    assert ("xn--mnchen-3ya.de",) == answers.words([site("münchen.de")], typed)


def test_all_means_what_is_due_and_anything_else_is_refused() -> None:
    assert ("--now",) == answers.words([EXAMPLE], "--all")
    with pytest.raises(Refusal, match=r'there is no site "nope\.test"\n  for example:  example\.com'):
        answers.words([EXAMPLE], "nope.test")
    with pytest.raises(Refusal, match="neither a site's domain nor --all"):
        answers.words([EXAMPLE], "--force")


# ---------------------------------------------------------------------- inv


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "example.com.yml").write_text("domain: example.com\nhosts: [web2]\n")
    (tmp_path / "sites" / "shop.test.yml").write_text("domain: shop.test\n")
    (tmp_path / "fleet.yml").write_text(
        "hosts:\n  web1: {address: 10.0.0.1}\n  web2: {address: 10.0.0.2}\n"
        "  db: {address: 10.0.0.3, roles: [database]}\n"
    )
    return tmp_path / "fleet.yml"


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("--all", {"web1": ("--now",), "web2": ("--now",)}),
        ("example.com", {"web2": ("example.com",)}),
        ("shop.test", {"web1": ("shop.test",), "web2": ("shop.test",)}),
    ],
)
def test_a_name_is_renewed_on_the_hosts_that_serve_it(
    typed: str, asked: dict[str, tuple[str, ...]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def everywhere(found, names, work, busy):  # type: ignore[no-untyped-def]
        for name in names:
            monkeypatch.setattr(answers, "renewed", lambda host, *words: seen.update({host: words}) or [])
            yield name, work(name)

    monkeypatch.setattr(fleet, "everywhere", everywhere)
    fleet.renew(None, typed, str(folder))

    assert asked == seen


def test_a_host_that_cannot_be_asked_is_a_row_and_the_others_are_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.parent / "ssh_config").write_text("Host web*\n  HostName 127.0.0.1\n  Port 1\n  User nobody\n")
    with pytest.raises(Exit) as ended:
        fleet.list_(None, str(folder), json=True)

    assert 1 == ended.value.code
    told = capsys.readouterr().out
    assert all(f"{name} (127.0.0.1:1) cannot be reached" in told for name in ("web1", "web2"))


def test_without_hosts_inv_says_what_to_type_instead(tmp_path: Path) -> None:
    (tmp_path / "fleet.yml").write_text("{}\n")
    with pytest.raises(Refusal, match=r"fab -H vps cert\.renew --all"):
        fleet.renew(None, "--all", str(tmp_path / "fleet.yml"))
