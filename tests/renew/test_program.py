"""The program as a whole: its list, its lock, its hour."""

from __future__ import annotations

import fcntl
import os
import re
import time

from .authority import DAY, Authority
from .conftest import Place


def test_the_list_compares_disk_and_wire(place: Place, ca: Authority) -> None:
    for domain in ("ok.test", "due.test", "late.test", "differs.test", "missing.test", "broken.test", "expired.test"):
        place.ask(domain)
    place.shelve("00-default", default := ca.issue("default.invalid"))
    place.shelve("ok.test", ok := ca.issue("ok.test"))
    place.shelve("due.test", ca.issue("due.test", age=65 * DAY, left=25.5 * DAY))
    place.shelve("late.test", ca.issue("late.test", age=80 * DAY, left=9.5 * DAY))
    place.shelve("differs.test", ca.issue("differs.test", left=12.5 * DAY))
    place.shelve("differs.test", ca.issue("differs.test"), served=False)
    place.shelve("broken.test", ca.issue("broken.test")).write_bytes(ok.leaf + ca.issue("x", kind="ec384").key)
    place.shelve("expired.test", ca.issue("expired.test", age=90 * DAY, left=-2.5 * DAY))
    run = place.run("--list")
    rows = {line[0]: line[1:] for line in run.lines}
    assert {name: row[4] for name, row in rows.items()} == {
        "ok.test": "ok", "due.test": "due", "late.test": "late", "differs.test": "differs", "missing.test": "missing",
        "broken.test": "broken", "expired.test": "expired",
    }  # fmt: skip
    assert {name: row[:2] for name, row in rows.items() if name != "broken.test"} == {
        "ok.test": ("89", "89"), "due.test": ("25", "25"), "late.test": ("9", "9"), "differs.test": ("89", "12"),
        "missing.test": ("-", "89"), "expired.test": ("-2", "-2"),
    }  # fmt: skip
    not_after, lifetime, _, on_disk, on_wire, note, *_ = rows["ok.test"][2:]
    assert (round((int(not_after) - time.time()) / 86400, 1), int(lifetime), note) == (89.5, 90 * 86400, "-")
    assert (len(on_disk), on_disk) == (40, on_wire)
    assert rows["missing.test"][6] != "-"
    assert default.pem == place.served("00-default")
    assert run.code == 0


def test_the_list_tells_the_last_failure_and_when_haproxy_is_down(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.shelve("a.test", ca.issue("a.test", age=80 * DAY, left=9.5 * DAY))
    place.switch("lego.says", "no\n")
    place.run()
    row = place.run("--list", "a.test").lines[0]
    assert row[5] == "failed"
    assert row[8].startswith("lego says: no; next try after ")
    place.switch("haproxy-is-down")
    assert place.run("--list").lines[0][5] == "unserved"


def test_a_second_run_says_who_is_on_or_waits(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.shelve("a.test", ca.issue("a.test"))
    (place.root / "run").mkdir()
    with (place.root / "run/gatehouse-renew.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("process 42, started now by ops")
        lock.flush()
        refused = place.run()
        assert (refused.code, refused.lines) == (3, [])
        assert "another run is on: process 42, started now by ops" in refused.err
        assert place.run("--list").code == 0
        patient = place.start("--wait", "10")
    assert patient.communicate(timeout=10)[0].startswith("kept\ta.test")
    assert patient.returncode == 0


def test_cron_waits_within_the_hour_and_is_silent_about_what_is_well(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.shelve("a.test", ca.issue("a.test"))
    pauses = []
    for number in range(6):
        (place.etc / "machine-id").write_text(f"{number}\n")
        (place.double / "slept").unlink(missing_ok=True)
        (place.state / "last").unlink(missing_ok=True)
        run = place.run("--cron", porcelain=False)
        assert (run.code, run.lines, run.err) == (0, [], "")
        pauses.append(int((place.double / "slept").read_text()))
    assert max(pauses) < 3000
    assert len(set(pauses)) > 3
    assert (place.state / "last").exists()


def test_a_name_that_browsers_warn_of_does_not_wait_for_the_turn(place: Place, ca: Authority) -> None:
    slept = place.double / "slept"
    place.ask("a.test")
    place.state.mkdir(parents=True)
    (place.state / "last").write_text("")
    place.shelve("a.test", ca.issue("a.test", age=90 * DAY, left=-DAY))
    place.deliver(ca.issue("a.test"))
    for turn in range(12):  # whatever its hour is
        (place.etc / "machine-id").write_text(f"{turn}\n")
        assert place.run("--cron").outcomes["a.test"] in ("issued", "installed")
        assert int(slept.read_text()) < 60
        slept.unlink()
        (place.shelf / "a.test.pem").unlink()
    (place.state / "a.test.failed").write_text(f"count=1\nnext={int(time.time()) + 3600}\nkind=name\nwhy=no\n")
    (place.etc / "machine-id").write_text(f"{_not_its_turn(place)}\n")
    assert place.run("--cron").lines == []
    assert not slept.exists()


def _not_its_turn(place: Place) -> int:
    """A machine-id whose hour is neither this one nor the next."""
    hour = time.localtime().tm_hour % 12
    for number in range(100):
        (place.etc / "machine-id").write_text(f"{number}\n")
        turn = int(place.run("--turn", porcelain=False).lines[0][0].split()[0])
        if turn not in (hour, (hour + 1) % 12):
            return number
    raise AssertionError


def test_a_site_that_left_starts_no_run(place: Place, ca: Authority) -> None:
    place.ask("a.test")
    place.shelve("a.test", ca.issue("a.test"))
    place.state.mkdir(parents=True)
    (place.state / "last").write_text("")
    (place.state / "gone.test.failed").write_text("count=4\nnext=1\nkind=name\nwhy=no\n")
    (place.etc / "machine-id").write_text(f"{_not_its_turn(place)}\n")
    assert place.run("--cron").lines == []
    assert not (place.double / "slept").exists()


def test_cron_runs_twice_a_day_and_between_only_for_a_try_whose_time_has_come(place: Place) -> None:
    place.ask("a.test")
    place.switch("lego.says", "no\n")
    place.state.mkdir(parents=True)
    slept, failed = place.double / "slept", place.state / "a.test.failed"
    turns = []
    for number in range(40):
        (place.state / "last").write_text("")
        slept.unlink(missing_ok=True)
        (place.etc / "machine-id").write_text(f"{number}\n")
        place.run("--cron")
        turns.append(slept.exists())
        if turns.count(False) >= 3 and True in turns:
            break
    assert {True, False} <= set(turns)
    number = turns.index(False)
    (place.etc / "machine-id").write_text(f"{number}\n")
    orders = len(place.orders())
    slept.unlink(missing_ok=True)
    failed.write_text(f"count=1\nnext={int(time.time()) + 3600}\nkind=name\nwhy=no\n")
    assert (place.run("--cron").lines, slept.exists()) == ([], False)
    failed.write_text("count=1\nnext=1\nkind=name\nwhy=no\n")
    assert place.run("--cron").outcomes == {"a.test": "failed"}
    assert len(place.orders()) == orders + 1


def test_a_person_reads_a_line_a_name_and_the_failures_again_at_the_end(place: Place, ca: Authority) -> None:
    for domain in ("a.test", "b.test"):
        place.ask(domain)
    place.shelve("a.test", ca.issue("a.test"))
    place.switch("lego.says", "no\n")
    out, _ = (running := place.start(porcelain=False)).communicate(timeout=10)
    lines = out.splitlines()
    assert running.returncode == 1
    assert lines[0] == "kept      a.test                           89 of 90 days left"
    assert lines[2] == "2 names: 1 kept, 0 changed, 1 failed"
    assert lines[3].startswith("  b.test: lego says: no; next try after ")


def test_bad_usage_is_refused(place: Place) -> None:
    for words in (["--frobnicate"], ["../etc"], ["A.test"], ["--wait"], ["--wait", "x"]):
        assert place.run(*words).code == 2
    (place.etc / "gatehouse/acme.conf").write_text("directory=http://plain.test/\n")
    refused = place.run()
    assert refused.code == 2
    assert "is not directory=https://" in refused.err


def test_the_list_compares_four_truths(place: Place, ca: Authority) -> None:
    for name in ("same.test", "newer.test", "older.test", "memory.test", "none.test"):
        place.ask(name)
    pairs = {name: ca.issue(name) for name in ("same.test", "none.test")}
    for name in ("newer.test", "older.test", "memory.test"):
        pairs[name] = ca.issue(name, age=10 * DAY, left=79.5 * DAY)
    for name, pair in pairs.items():
        place.shelve(name, pair)
    place.leave_in_inbox("same.test", pairs["same.test"])
    place.leave_in_inbox("newer.test", ca.issue("newer.test"))
    place.leave_in_inbox("older.test", ca.issue("older.test", age=60 * DAY, left=29.5 * DAY))
    (place.double / "memory/memory.test.pem").write_bytes(ca.issue("memory.test", left=40.5 * DAY).pem)
    for path in place.shelf.iterdir():
        os.utime(path, (1, 1))  # lego left its own afterwards
    place.ask("wanted.test")
    place.shelve("wanted.test", ca.issue("wanted.test", age=10 * DAY, left=79.5 * DAY))
    place.leave_in_inbox("wanted.test", ca.issue("wanted.test"))
    os.utime(place.inbox / "certificates/wanted.test.crt", (1, 1))

    rows = {line[0]: line for line in place.run("--list").lines}

    assert {name: (row[5], *row[8:11]) for name, row in rows.items()} == {
        "same.test": ("ok", "-", "89", "89"),
        "newer.test": ("differs", "lego has a newer one", "89", "79"),
        "older.test": ("ok", "-", "29", "79"),
        "memory.test": ("differs", "HAProxy serves another one", "-", "40"),
        "none.test": ("ok", "-", "-", "89"),
        "wanted.test": ("ok", "-", "89", "79"),
    }
    assert rows["same.test"][6] == rows["same.test"][7] == rows["same.test"][11] == rows["same.test"][12]
    assert rows["newer.test"][11] != rows["newer.test"][6] == rows["newer.test"][12]


def test_many_names_keep_their_order(place: Place, ca: Authority) -> None:
    names = [f"s{number:02}.test" for number in range(23)]
    for name in names:
        place.ask(name)
    assert names == [line[0] for line in place.run("--list").lines]
    assert ["s03.test", "s01.test"] == [line[1] for line in place.run("--verify", "s03.test", "s01.test").lines]


def test_verify_tells_all_that_is_wrong_with_each(place: Place, ca: Authority) -> None:
    good = ca.issue("good.test", "www.good.test")
    for names in (("good.test", "www.good.test"), ("names.test", "www.names.test"), ("open.test",), ("none.test",),
                  ("key.test",), ("memory.test",), ("chain.test",)):  # fmt: skip
        place.ask(*names)
    place.shelve("good.test", good)
    place.shelve("names.test", ca.issue("names.test"))
    place.shelve("open.test", ca.issue("open.test", age=90 * DAY, left=-1.5 * DAY)).chmod(0o644)
    place.shelve("key.test", ca.issue("key.test")).write_bytes(good.leaf + good.chain + ca.issue("x", kind="ec384").key)
    place.shelve("memory.test", ca.issue("memory.test"))
    place.shelve("chain.test", chain := ca.issue("chain.test")).write_bytes(chain.leaf + chain.key)
    (place.double / "memory/memory.test.pem").write_bytes(ca.issue("memory.test").pem)

    run = place.run("--verify")

    said = {name: (word, text) for word, name, text in run.lines}
    assert said["good.test"] == ("ok", "89 days, ec256, good.test www.good.test; HAProxy serves it")
    assert {name for name, (word, _) in said.items() if word == "ok"} == {"good.test"}
    assert said["names.test"][1] == "the certificate does not cover www.names.test"
    assert re.match(r"its key is open to others \(mode 644, owner \d+\); the certificate expired", said["open.test"][1])
    assert said["none.test"][1].startswith("there is no certificate; HAProxy has none in memory")
    assert "the key is not the one of the certificate" in said["key.test"][1]
    assert said["chain.test"][1] == "the intermediate certificate is missing"
    assert said["memory.test"][1] == "HAProxy's memory holds another one; HAProxy serves another one"
    assert run.code == 1
    assert place.run("--verify", "good.test").code == 0
