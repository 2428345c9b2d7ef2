"""What lies on disk is what HAProxy serves, or the run says so; HAProxy's refusal brings the former one back."""

from __future__ import annotations

import pytest

from .authority import DAY, Authority
from .conftest import Place


def test_a_run_that_was_cut_off_before_the_reload_is_put_right_by_the_next(place: Place, ca: Authority) -> None:
    for domain in ("a.test", "b.test"):
        place.ask(domain)
        place.shelve(domain, ca.issue(domain, left=70 * DAY))
        place.shelve(domain, ca.issue(domain), served=False)
    run = place.run()
    assert (run.code, set(run.outcomes.values())) == (0, {"reloaded", "kept"})
    assert place.calls() == ["reload"]
    assert place.served("a.test") == (place.shelf / "a.test.pem").read_bytes()
    assert place.run().outcomes == {"a.test": "kept", "b.test": "kept"}
    assert place.calls() == ["reload"]


def test_many_new_certificates_cost_few_reloads(place: Place, ca: Authority) -> None:
    for number in range(5):
        place.ask(f"n{number}.test")
        place.deliver(ca.issue(f"n{number}.test"), f"n{number}.test")
    run = place.run()
    assert (run.code, set(run.outcomes.values())) == (0, {"issued"})
    assert len(place.calls("reload")) <= 2
    assert all(place.served(f"n{number}.test") for number in range(5))
    assert len(list(place.certs.glob("*.issued"))) == 5


@pytest.fixture
def refused(place: Place, ca: Authority) -> Place:
    """A good new certificate for a.test, and one for b.test that has none; but HAProxy will not reload."""
    place.ask("a.test")
    place.ask("b.test")
    place.shelve("a.test", ca.issue("a.test", age=80 * DAY, left=10 * DAY))
    for domain in ("a.test", "b.test"):
        place.deliver(ca.issue(domain), domain)
    place.switch("haproxy-refuses", "parsing [/etc/haproxy/haproxy.cfg:7] : unknown keyword 'bnid'")
    return place


def test_when_haproxy_does_not_reload_the_former_ones_come_back_byte_for_byte(refused: Place) -> None:
    before = {name: found for name, found in refused.fingerprint().items() if "haproxy" in name}
    run = refused.run()
    assert (run.code, run.outcomes) == (1, {"a.test": "failed", "b.test": "failed"})
    assert "the former certificate is back: config : parsing" in run.reasons["a.test"]
    assert {name: found for name, found in refused.fingerprint().items() if "haproxy" in name} == before
    assert not list(refused.certs.glob("*.issued"))


def test_once_haproxy_reloads_again_they_are_installed_without_a_new_order(refused: Place) -> None:
    refused.run()
    (refused.double / "haproxy-refuses").unlink()
    run = refused.run()
    assert (run.code, run.outcomes) == (0, {"a.test": "installed", "b.test": "installed"})
    assert len(refused.orders()) == 2


def test_a_bad_file_on_the_shelf_does_not_keep_the_others_from_being_served(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.ask("bad.test")
    place.deliver(ca.issue("a.test"), "a.test")
    place.switch("bad.test.says", "no\n")
    place.shelve("bad.test", ca.issue("bad.test")).write_text("half a PEM\n")
    (place.shelf / "README").write_text("do not touch\n")
    (place.shelf / "other.key").write_text("HAProxy passes over it\n")
    (place.state / "former").mkdir(parents=True)
    (place.state / "former/bad.test.pem").write_bytes(former := ca.issue("bad.test", age=80 * DAY, left=9 * DAY).pem)
    run = place.run()
    assert run.outcomes == {"a.test": "issued", "bad.test": "failed", "README": "refused"}
    (text,) = [line[2] for line in run.lines if line[:2] == ("refused", "bad.test")]
    assert text.startswith("put aside (it is in ")
    assert text.endswith("; the one before is back")
    assert run.code == 1
    assert place.served("bad.test") == (place.shelf / "bad.test.pem").read_bytes() == former
    assert {path.name for path in (place.state / "aside").iterdir()} == {"bad.test.pem", "README"}
    assert (place.shelf / "other.key").exists()


def test_a_default_that_haproxy_does_not_take_is_made_anew(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.deliver(ca.issue("a.test"), "a.test")
    (default := place.shelf / "00-default.pem").write_text("half a PEM\n")

    run = place.run()

    assert {"a.test": "issued", "00-default": "issued"} == run.outcomes
    assert "half" not in default.read_text()
    assert place.served("a.test") == (place.shelf / "a.test.pem").read_bytes()


def test_before_a_start_there_is_a_default_and_nothing_that_haproxy_does_not_take(place: Place, ca: Authority) -> None:
    place.switch("haproxy-is-down")
    first = place.run("--ready")
    assert first.outcomes == {"00-default": "issued"}
    (place.shelf / "torn.test.pem").write_text("-----BEGIN CERT")
    assert place.run("--ready").outcomes == {"00-default": "kept", "torn.test": "refused"}
    assert [path.name for path in place.shelf.iterdir()] == ["00-default.pem"]
    again = place.run("--ready")
    assert (again.code, again.lines) == (0, [])


def test_a_certificate_that_visitors_are_not_shown_is_a_failure(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.shelve("other.test", ca.issue("a.test", "other.test"))
    place.switch("wire-shows", "other.test")
    place.deliver(ca.issue("a.test"))
    run = place.run()
    assert (run.code, run.outcomes["a.test"]) == (1, "failed")
    assert run.reasons["a.test"].startswith("HAProxy shows visitors another certificate (SHA-1 ")


def test_with_haproxy_down_nothing_is_ordered(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.ask("good.test")
    place.shelve("good.test", ca.issue("good.test"), served=False)
    place.switch("haproxy-is-down")
    run = place.run()
    assert run.code == 1
    assert run.reasons == {
        "a.test": "haproxy is not running, so the CA could not reach this host",
        "good.test": "haproxy is not running; the certificate waits on disk",
    }
    assert place.calls() == []


def test_the_default_certificate_names_no_customer_and_is_made_anew_only_when_broken(place: Place) -> None:
    default = place.shelf / "00-default.pem"
    assert place.run("--default").outcomes == {"00-default": "issued"}
    made = default.read_bytes()
    assert (default.stat().st_mode & 0o777, made.count(b"BEGIN CERTIFICATE"), made.count(b"PRIVATE")) == (0o600, 1, 2)
    assert place.run("--default").outcomes == {"00-default": "kept"}
    assert default.read_bytes() == made
    default.write_bytes(made[: len(made) // 2])
    assert place.run("--default").outcomes == {"00-default": "issued"}
