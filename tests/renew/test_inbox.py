"""What lego leaves is judged before HAProxy may see it: the bad kinds are refused by name, the old one stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from .authority import DAY, Authority, Pair, encrypted, key, pem
from .conftest import Place, Run

Bad = Callable[[Authority, str], Pair]


def _junk(ca: Authority, name: str) -> Pair:
    pair = ca.issue(name)
    return replace(pair, leaf=b"issued with love\n" + pair.leaf)


def _reversed(ca: Authority, name: str) -> Pair:
    pair = ca.issue(name)
    return replace(pair, leaf=pair.chain, chain=pair.leaf)


def _cut(ca: Authority, name: str) -> Pair:
    pair = ca.issue(name)
    return replace(pair, chain=pair.chain[: len(pair.chain) // 2])


def _tangled(ca: Authority, name: str) -> Pair:
    pair = ca.issue(name)
    return replace(pair, chain=Authority("stranger").issue(name).chain + pair.chain)


CORPUS: dict[str, tuple[Bad, str]] = {
    "none": (lambda ca, name: Pair(b"", b"", b""), "there is no certificate"),
    "keyless": (lambda ca, name: replace(ca.issue(name), key=b""), "there is no key"),
    "mismatch": (
        lambda ca, name: replace(ca.issue(name), key=pem(key("ec256-other"))),
        "the key is not the one of the certificate",
    ),
    "cut": (_cut, "the file holds more, or less, than whole certificates"),
    "junk": (_junk, "the file holds more, or less, than whole certificates"),
    "private": (
        lambda ca, name: replace(ca.issue(name), chain=ca.issue(name).key),
        "the file holds more, or less, than whole certificates",
    ),
    "garbled": (
        lambda ca, name: replace(ca.issue(name), leaf=ca.issue(name).leaf[:200] + b"\n-----END CERTIFICATE-----\n"),
        "the certificate cannot be read",
    ),
    "half-key": (lambda ca, name: replace(ca.issue(name), key=ca.issue(name).key[:90]), "the key cannot be read"),
    "locked": (lambda ca, name: replace(ca.issue(name), key=encrypted()), "the key is encrypted"),
    "reversed": (_reversed, "the first certificate is one of a CA; the one of the site must come first"),
    "authority": (
        lambda ca, name: ca.issue(name, authority=True),
        "the first certificate is one of a CA; the one of the site must come first",
    ),
    "weak": (lambda ca, name: ca.issue(name, kind="rsa1024"), "its key is rsa1024, ec256 was asked for"),
    "chainless": (lambda ca, name: replace(ca.issue(name), chain=b""), "the intermediate certificate is missing"),
    "tangled": (_tangled, "the chain is out of order"),
    "self": (lambda ca, name: ca.alone(name), "the certificate is signed by itself"),
    "names": (lambda ca, name: ca.issue("other.test"), "the certificate does not cover names.test"),
    "expired": (lambda ca, name: ca.issue(name, age=90 * DAY, left=-DAY), "the certificate expired on 2"),
    "future": (lambda ca, name: ca.issue(name, age=-DAY), "the certificate is not valid before 2"),
    "kind": (lambda ca, name: ca.issue(name, kind="ec384"), "its key is ec384, ec256 was asked for"),
    "forged": (lambda ca, name: ca.forge(name), "nobody whom this host trusts vouches for it: "),
    "untrusted": (
        lambda ca, name: Authority("staging").issue(name),
        "nobody whom this host trusts vouches for it: unable to get local issuer certificate",
    ),
}


Brought = tuple[Place, Run, dict[str, bytes]]


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory, programs: Path, ca: Authority) -> Brought:
    """One run in which the CA answers every name with its own kind of bad pair."""
    place = Place(tmp_path_factory.mktemp("corpus"), programs)
    trust = place.etc / "trust.pem"
    trust.write_bytes(pem(ca.root))
    place.settings(trust=trust)
    former = {}
    for kind, (make, _) in CORPUS.items():
        domain = f"{kind}.test"
        place.ask(domain)
        old = place.shelve(domain, ca.issue(domain, age=80 * DAY, left=10 * DAY))
        former[domain] = old.read_bytes()
        place.deliver(make(ca, domain), domain)
    return place, place.run(), former


@pytest.mark.parametrize("kind", CORPUS)
def test_a_bad_pair_is_refused_by_name_and_the_old_certificate_stays(kind: str, brought: Brought) -> None:
    place, run, former = brought
    domain = f"{kind}.test"
    assert run.outcomes[domain] == "failed"
    assert run.reasons[domain].startswith("refused what the CA sent: " + CORPUS[kind][1])
    assert (place.shelf / f"{domain}.pem").read_bytes() == former[domain]


def test_after_bad_pairs_nothing_else_changed(brought: Brought) -> None:
    place, run, former = brought
    assert run.code == 1
    assert {path.name for path in place.shelf.iterdir()} == {f"{domain}.pem" for domain in former}
    assert list((place.etc / "haproxy/.certs-stage").iterdir()) == []
    assert place.calls("reload") == []
    assert list(place.certs.glob("*.issued")) == []


def test_a_good_pair_becomes_one_pem_for_root_alone(place: Place, ca: Authority) -> None:
    place.ask("a.test", "www.a.test")
    old = ca.issue("a.test", age=80 * DAY, left=10 * DAY)
    place.shelve("a.test", old)
    new = ca.issue("a.test", "www.a.test")
    place.deliver(new)
    run = place.run()
    assert (run.code, run.outcomes) == (0, {"a.test": "issued"})
    written = (place.shelf / "a.test.pem").read_bytes()
    assert written.startswith(new.leaf + new.chain + b"-----BEGIN PRIVATE KEY-----\n")
    assert b"\n\n" not in written
    assert (place.shelf / "a.test.pem").stat().st_mode & 0o777 == 0o600
    assert place.served("a.test") == written
    assert (place.state / "former/a.test.pem").read_bytes() == old.pem


def test_what_haproxy_dislikes_is_refused_before_it_is_in_its_directory(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.deliver(ca.issue("a.test"))
    place.switch("haproxy-dislikes", "unable to load certificate from file")
    run = place.run()
    assert run.code == 1
    assert "HAProxy does not take it: config : unable to load certificate from file" in run.reasons["a.test"]
    assert list(place.shelf.iterdir()) == []


def test_a_good_pair_that_lies_there_is_installed_without_an_order(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.ask("old.test")
    place.shelve("a.test", ca.issue("a.test", age=80 * DAY, left=10 * DAY))
    place.leave_in_inbox("a.test", new := ca.issue("a.test"))
    place.leave_in_inbox("old.test", ca.issue("old.test", age=80 * DAY, left=10 * DAY))
    place.shelve("old.test", ca.issue("old.test"))
    run = place.run()
    assert (run.code, run.outcomes) == (0, {"a.test": "installed", "old.test": "kept"})
    assert place.calls() == ["reload"]
    assert place.served("a.test").startswith(new.leaf)


def test_a_bad_pair_that_lies_there_is_named_and_left(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.shelve("a.test", ca.issue("a.test"))
    place.leave_in_inbox("a.test", replace(ca.issue("a.test"), key=pem(key("ec256-other"))))
    run = place.run()
    assert run.code == 0
    assert run.lines == [
        ("refused", "a.test", "what lies in the inbox: the key is not the one of the certificate"),
        ("kept", "a.test", "89 of 90 days left"),
    ]
