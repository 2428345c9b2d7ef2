"""The bench's own arithmetic, and that all its tools are asked for the same."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from . import paper, quiet, running, sums
from .proxy import Account
from .toolkit import handlers
from .tools import NOTHING, PEERS, Tool
from .wanted import LISTS, Manifest, Wishes, turn

ROOT = Path(__file__).parents[2]


GROWN = {
    "part": "growth", "date": "today", "shape": "small", "load": 1.3, "busy": "", "runs": [], "sizes": (1, 1000),
    "memory": {1: {"apache2": 20.0, "haproxy": 30.0}, 1000: {"apache2": 220.0, "haproxy": 329.5}},
    "reloads": {"apache2": 1.5},
}  # fmt: skip


def wishes() -> Wishes:
    """A host with a daemon that takes two files, and a site."""
    return Wishes(
        packages={"varnish": None},
        users={"site": ("/var/www/site", "/usr/sbin/nologin", None)},
        memberships={("www-data", "site"): None},
        directories={"/var/www/site": (0o2750, "site", "site")},
        files={
            "/etc/varnish/gatehouse.vcl": (b"vcl 4.1;", 0o644, "root", "root"),
            "/etc/systemd/system/varnish.service.d/gatehouse.conf": (b"[Service]", 0o644, "root", "root"),
            "/etc/motd": (b"", 0o600, "root", "root"),
        },
        once={"/var/www/site/index.php": (b"<?php", 0o644, "site", "site")},
        links={"/etc/a": "b"},
        absent={"/etc/c": None},
        services={"varnish.service": (("/etc/varnish/",), ("/etc/systemd/system/varnish.service.d/gatehouse.conf",))},
        runs={"make a certificate": None},
    )


def test_the_median_is_the_middle_and_of_nothing_there_is_none() -> None:
    assert 2 == sums.median([9, 1, 2])
    assert 1.5 == sums.median([1, 2])
    with pytest.raises(ValueError, match="no run succeeded"):
        sums.median([])


@pytest.mark.parametrize(("value", "base", "shown"), [(1, 4, "0.25 x"), (50, 4, "12.5 x"), (500, 2, "250 x")])
def test_a_ratio_is_told_in_three_figures(value: float, base: float, shown: str) -> None:
    assert shown == sums.ratio(value, base)


def test_there_is_no_ratio_to_nothing() -> None:
    with pytest.raises(ValueError, match="no base"):
        sums.ratio(1, 0)


def test_a_spread_goes_from_the_least_to_the_most() -> None:
    assert "0.50-12.0" == sums.spread([1, 12, 0.5])
    assert "" == sums.spread([1])


def test_tools_take_turns() -> None:
    assert [(0, "a"), (0, "b"), (1, "a"), (2, "a")] == [*sums.interleaved(["a", "b"], {"a": 3, "b": 1})]


def test_a_busy_machine_is_refused_and_with_anyway_the_table_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.3, 0.0, 0.0))
    monkeypatch.setattr(quiet, "WAIT", {})

    with pytest.raises(quiet.Busy, match="--anyway"):
        quiet.begin(anyway=False)

    why = quiet.begin(anyway=True)
    page = paper.tables({**GROWN, "busy": why})
    assert f"**Not to be quoted**: {why}." in page


def test_what_a_site_takes_is_what_the_daemons_have_more() -> None:
    assert "An idle site takes 0.50 MB of all daemons together" in paper.tables(GROWN)


def test_a_quiet_machine_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0, 9.0, 9.0))

    assert "" == quiet.begin(anyway=False)


def test_the_manifest_is_the_same_for_who_reads_json_and_who_reads_lines(tmp_path: Path) -> None:
    manifest, contents = wishes().manifest()

    manifest.write(tmp_path, contents)

    assert manifest == Manifest.read(tmp_path)
    rows = {name: len((tmp_path / f"{name}.tsv").read_text().splitlines()) for name in LISTS}
    assert {**rows, "all": sum(rows.values())} == manifest.counts()
    for each in (*manifest.files, *manifest.once):
        assert (tmp_path / "files" / each["source"]).is_file()


def test_a_file_asks_for_what_the_product_would_do() -> None:
    manifest, _ = wishes().manifest()

    asked = {each["path"]: each["notify"] for each in manifest.files}
    assert ["reload varnish.service"] == asked["/etc/varnish/gatehouse.vcl"]
    assert ["restart varnish.service"] == asked["/etc/systemd/system/varnish.service.d/gatehouse.conf"]
    assert [] == asked["/etc/motd"]


def test_every_peer_takes_every_kind_of_resource() -> None:
    playbook, deploy, script = ((PEERS / name).read_text() for name in ("site.yml", "deploy.py", "setup.sh"))

    for name in LISTS:
        assert f'"{{{{ {name} }}}}"' in playbook
        assert f'wanted["{name}"]' in deploy
        assert f"{name}.tsv" in script


def test_the_playbook_has_a_handler_for_what_is_asked_in_it() -> None:
    manifest, _ = wishes().manifest()

    assert {*manifest.reloads} <= {*handlers()}
    assert sorted(handlers(), key=turn) == handlers()
    (play,) = yaml.safe_load((PEERS / "site.yml").read_text())
    assert [] == [task["name"] for task in play["tasks"] if "loop" in task and "item" not in json.dumps(task)]


def test_round_trips_are_counted_where_the_client_speaks_after_the_host() -> None:
    account = Account()
    for way in ("up", "up", "down", "down", "up", "down"):
        account.took(way, 10)

    assert (2, 30, 30) == (account.turns, account.up, account.down)


@pytest.mark.parametrize(
    ("words", "said", "count"),
    [
        (NOTHING["ansible"], "host : ok=12   changed={}    unreachable=0    failed=0    skipped=0", ("0", "1", "10")),
        (NOTHING["gatehouse"], "69 steps: 69 kept, {} changed, 0 failed (1 round trip, 0.9 s)", ("0", "1", "10")),
        (NOTHING["ansible"], "a : changed={} unreachable=0 failed=0\nb : changed=0 unreachable=0 failed=0",
         ("0", "1", "10")),
        (NOTHING["pyinfra"], "    Grand total       300     {}     -       300", ("-", "1", "10")),
    ],
)
def test_a_run_that_changed_something_is_not_taken_for_one_that_did_not(
    words: str, said: str, count: tuple[str, ...]
) -> None:
    tool = Tool("one", lambda place: [], words)

    assert [True, False, False] == [tool.kept_all(said.format(each)) for each in count]


def test_a_part_goes_between_its_marks_and_leaves_the_rest() -> None:
    page = "before\n<!-- toolkit -->\nold\n<!-- end of toolkit -->\nafter\n"

    assert "before\n<!-- toolkit -->\n\nnew\n<!-- end of toolkit -->\nafter\n" == paper.placed(page, "toolkit", "new")
    with pytest.raises(ValueError, match="no marks"):
        paper.placed(page, "fleet", "new")


def test_the_page_has_a_place_for_every_part() -> None:
    for part in paper.PARTS:
        paper.placed(paper.PAGES.get(part, paper.PAGE).read_text(), part, "")


def test_the_front_page_quotes_each_tool_beside_ours() -> None:
    seen = (("gatehouse", "first run", 40.0, 0), ("gatehouse", "nothing", 0.5, 0),
            ("ansible", "first run", 160.0, 0), ("ansible", "nothing", 9.0, 99))  # fmt: skip
    runs = [{"tool": tool, "case": case, "seconds": took, "code": code} for tool, case, took, code in seen]
    data = {"part": "toolkit", "date": "today", "shape": "small", "runs": runs, "resources": {"all": 9},
            "versions": {"gatehouse": "commit 1", "ansible": "ansible-core 2"}}  # fmt: skip

    text = paper.QUOTED["toolkit"](data)

    assert "| Gatehouse | 40.0 | 0.50 |\n| ansible-core 2 | 160 (4.00 x) | failed |" in text
    assert text in paper.placed(paper.FRONT.read_text(), "toolkit", text)


def test_who_waits_no_longer_leaves_no_program_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(pid: int, options: int) -> None:
        waited_for.append(pid)
        raise KeyboardInterrupt

    waited_for: list[int] = []
    monkeypatch.setattr(os, "wait4", impatient)
    with pytest.raises(KeyboardInterrupt):
        running.run("sleep", "long", ["sleep", "60"])

    with pytest.raises(ProcessLookupError):
        os.kill(waited_for[0], 0)


def test_what_is_stopped_leaves_none_of_its_children_in_a_session_of_its_own(tmp_path: Path) -> None:
    line = f"setsid sh -c 'echo $$ > {tmp_path}/child; exec sleep 60' & wait"

    done = running.run("sleep", "long", ["bash", "-c", line], limit=1)

    assert running.STOPPED == done.code
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "status"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # init may still have it to bury, or just did
        assert "State:\tZ" in child.read_text()


def test_a_timeout_ends_it_with_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    with running.stopped():
        for number in range(3):
            seen.append(number)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    assert [0] == seen
    assert "until then" in capsys.readouterr().err
    assert signal.SIG_DFL == signal.getsignal(signal.SIGTERM)


def test_what_breaks_leaves_the_rest_its_turn(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with running.going_on():
            raise RuntimeError("the manifest could not be written")

    assert 2 == capsys.readouterr().err.count("RuntimeError: the manifest could not be written")


def test_a_failed_run_has_no_time() -> None:
    runs = [{"tool": "a", "case": "first", "seconds": took, "code": code} for took, code in ((3.0, 0), (1.0, 2))]

    assert "3.00" == paper.cell(runs, "a", "first")
    assert "failed (2)" == paper.cell(runs[1:], "a", "first")


def test_of_a_run_that_was_stopped_it_is_known_how_long_it_took_at_least() -> None:
    runs = [{"tool": tool, "case": "first", "seconds": took, "code": code}
            for tool, took, code in (("a", 3.0, 0), ("b", 60.0, running.STOPPED))]  # fmt: skip

    assert "over 60.0, over 20.0 x" == paper.cell(runs, "b", "first", "a")


@pytest.mark.parametrize("path", sorted(PEERS.glob("requirements-*.txt")), ids=lambda path: path.stem)
def test_peers_are_pinned_by_hash_and_are_none_of_the_products(path: Path) -> None:
    text = path.read_text()

    assert "//" not in text
    names = re.findall(r"(?m)^([a-z0-9_.-]+)==.* \\\n    --hash=sha256:", text)
    assert len(names) == len(re.findall(r"(?m)^[a-z]", text)) > 0
    own = (ROOT / "requirements.txt").read_text() + (ROOT / "requirements-test.txt").read_text()
    assert not re.search(r"(?m)^(ansible-core|mitogen|pyinfra|matplotlib)==", own)


SEEN = {"rate": 900.0, "p50": 1.0, "p99": 4.0, "failed": 0}
SIDE_BY_SIDE = {
    "part": "isolation", "date": "today", "shape": "small", "load": 0.1, "busy": "", "runs": [],
    "modes": {
        "fpm": {
            "first": 31.0, "rate": 1234.5, "p99": 4.2, "failed": 0, "stopped": 95, "reached": 0,
            "grown": {"sites": [1, 10, 100], "visited": [60, 240, 2000], "idle": [40, 58, 238], "processes": [5, 5, 5]},
        },
        "ajp": {
            "first": 900.0, "rate": 800.0, "p99": 9.0, "failed": 0, "stopped": 93, "reached": 0,
            "grown": {"sites": [1, 10], "visited": [130, 1030], "idle": [130, 1030], "processes": [5, 14]},
        },
    },
    "sieges": {"fpm": {"tmp": {"before": SEEN, "during": {**SEEN, "p99": 8.0}, "reached": True, "login": 1.0}}},
}  # fmt: skip


def test_runtimes_stand_side_by_side() -> None:
    text = paper.tables(SIDE_BY_SIDE)

    assert "| `fpm` | 1234 | 4.2 ms | 31 ms | 0 | 2.0 | 95 | 0 |" in text
    assert "| `ajp` | 800 | 9.0 ms | 900 ms | 1 | 100.0 | 93 | 0 |" in text
    assert "| `ajp` | 130, 130 | 1030, 1030 | not tried |" in text
    assert "| `fpm` | 4 | 8 (2.0 x) |" in text
    assert text in paper.placed(paper.PAGES["isolation"].read_text(), "isolation", text)
