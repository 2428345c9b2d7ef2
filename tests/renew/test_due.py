"""When a new certificate is ordered, and that nothing is asked of the CA otherwise."""

from __future__ import annotations

from dataclasses import replace

from .authority import DAY, Authority, key, pem
from .conftest import Place


def test_a_third_of_the_lifetime_decides_and_half_of_a_short_one(place: Place, ca: Authority) -> None:
    lives = {"ninety": 90, "fortyfive": 45, "ten": 10, "nine": 9, "six": 6}
    kept = {"ninety": 31, "fortyfive": 16, "ten": 3.5, "nine": 4.6, "six": 3.1}
    due = {"ninety": 29, "fortyfive": 14, "ten": 3.2, "nine": 4.4, "six": 2.9}
    for expected, lefts in (("kept", kept), ("would", due)):
        for name, left in lefts.items():
            domain = f"{name}-{expected}.test"
            place.ask(domain)
            place.shelve(domain, ca.issue(domain, age=(lives[name] - left) * DAY, left=left * DAY))
    found = place.run("--dry-run").outcomes
    assert {domain: outcome for domain, outcome in found.items() if outcome not in domain} == {}
    assert len(found) == 10


def test_what_is_not_due_costs_the_ca_nothing(place: Place, ca: Authority) -> None:
    place.ask("a.test", "www.a.test")
    place.shelve("a.test", ca.issue("a.test", "www.a.test"))
    run = place.run()
    assert (run.code, run.lines, place.calls()) == (0, [("kept", "a.test", "89 of 90 days left")], [])
    assert (place.certs / "a.test.issued").read_text() == (
        "directory=https://ca.test/dir\nkey=ec256\nnames=a.test www.a.test\n"
    )


def test_missing_expired_unreadable_other_key_and_uncovered_names_are_due(place: Place, ca: Authority) -> None:
    for domain in ("missing.test", "expired.test", "garbage.test", "foreign.test"):
        place.ask(domain)
    place.ask("rsa.test", key="rsa2048")
    place.ask("more.test", "www.more.test", "shop.more.test")
    place.shelve("expired.test", ca.issue("expired.test", age=90 * DAY, left=-DAY))
    place.shelve("garbage.test", ca.issue("garbage.test")).write_text("not a PEM\n")
    place.shelve("foreign.test", replace(ca.issue("foreign.test"), key=pem(key("ec256-other"))))
    place.shelve("rsa.test", ca.issue("rsa.test"))
    place.shelve("more.test", ca.issue("more.test", "www.more.test"))
    run = place.run("--dry-run")
    reasons = {domain: reason.removeprefix("order a certificate: ") for domain, reason in run.reasons.items()}
    assert reasons.pop("expired.test").startswith("expired on 20")
    assert reasons == {
        "missing.test": "no certificate yet",
        "garbage.test": "the PEM cannot be read",
        "foreign.test": "the PEM does not hold the key of its certificate",
        "rsa.test": "its key is ec256, rsa2048 is asked for",
        "more.test": "it does not cover shop.more.test",
    }


def test_another_ca_and_a_name_less_are_due_once_the_request_says_so(place: Place, ca: Authority) -> None:
    for domain in ("staging.test", "less.test", "extra.test", "unstamped.test"):
        place.ask(domain)
    place.shelve("staging.test", ca.issue("staging.test"))
    place.stamp("staging.test", ca="https://staging.test/dir")
    place.shelve("less.test", ca.issue("less.test", "sold.test"))
    place.stamp("less.test", "sold.test")
    # Some CAs add a name of their own: that is no reason to order for ever.
    place.shelve("extra.test", ca.issue("extra.test", "www.extra.test"))
    place.stamp("extra.test")
    place.shelve("unstamped.test", ca.issue("unstamped.test", "www.unstamped.test"))
    run = place.run("--dry-run")
    assert run.outcomes == {
        "staging.test": "would", "less.test": "would", "extra.test": "kept", "unstamped.test": "kept"
    }  # fmt: skip
    assert run.reasons["staging.test"] == "order a certificate: it came from https://staging.test/dir"
    assert run.reasons["less.test"] == "order a certificate: it still covers sold.test"


def test_an_order_holds_every_name_and_the_kind_of_key(place: Place, ca: Authority) -> None:
    place.ask("a.test", "www.a.test", "a.example", key="ec384")
    place.deliver(ca.issue("a.test", "www.a.test", "a.example", kind="ec384"))
    run = place.run()
    assert run.outcomes == {"a.test": "issued"}
    (order,) = place.orders()
    assert "--domains a.test --domains www.a.test --domains a.example run" in order
    assert "--server https://ca.test/dir --accept-tos --email ops@site.test" in order
    assert "--http.port 127.0.0.1:8082 --key-type ec384" in order


def test_force_wants_names_and_then_orders_what_is_not_due(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.shelve("a.test", ca.issue("a.test", left=80 * DAY))
    place.deliver(ca.issue("a.test"))
    refused = place.run("--force")
    assert (refused.code, place.calls()) == (2, [])
    assert "--force wants the domains by name" in refused.err
    assert place.run("--force", "a.test").outcomes == {"a.test": "issued"}


def test_a_dry_run_touches_nothing(place: Place, ca: Authority) -> None:
    for domain in ("due.test", "good.test", "waiting.test"):
        place.ask(domain)
    place.shelve("good.test", ca.issue("good.test"), served=False)
    place.leave_in_inbox("waiting.test", ca.issue("waiting.test"))
    before = place.fingerprint()
    run = place.run("--dry-run")
    assert run.reasons == {
        "due.test": "order a certificate: no certificate yet",
        "good.test": "reload HAProxy: it serves another one than lies on disk",
        "waiting.test": "install the certificate that lies in the inbox",
    }
    assert (place.fingerprint(), place.calls(), list((place.root / "tmp").iterdir())) == (before, [], [])
