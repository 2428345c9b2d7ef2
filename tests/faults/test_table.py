"""`inv faults`: which tests it runs, what it makes of their outcomes, and how it tells them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from invoke import Exit, MockContext, Result
from rich.console import Console

import tasks
from tests.lab.faults import table
from tests.lab.faults.catalogue import FAULTS, Fault
from tests.lab.faults.table import Check, Outcome

TESTS = """
import pytest

@pytest.mark.fault("F-31")
def test_f31_a(seen):
    seen("42 files")

@pytest.mark.fault("F-31")
@pytest.mark.demand
def test_f31_b(seen):
    seen("5000 files")

@pytest.mark.fault("F-32", "F-33")
def test_f32_and_f33():
    assert 1 == 2, "one is [not] two | ever"

@pytest.mark.fault("F-34")
@pytest.mark.parametrize("n", [1, 2])
def test_f34(n):
    pass

@pytest.fixture
def broken():
    raise OSError("no host")

@pytest.mark.fault("F-36")
def test_f36(broken):
    pass

@pytest.mark.fault("F-37")
def test_f37():
    pytest.skip("not today")

def test_something_else():
    raise AssertionError("this shows no fault")
"""


class Run:
    """pytest with the plugin, over TESTS, in a directory of its own."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        pytester.makeini("[pytest]\nmarkers =\n    fault(id): x\n    demand: x\n")
        pytester.makepyfile(TESTS)

    def __call__(self, *words: str) -> pytest.HookRecorder:
        return self.pytester.inline_run("-p", "tests.lab.faults.table", "-p", "no:cacheprovider", *words)

    @property
    def kept(self) -> dict[str, Outcome]:
        return table.read(self.pytester.path / "faults.json")


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    return Run(pytester)


def test_every_outcome_is_gathered(run: Run) -> None:
    done = run("--faults", "faults.json", "--demand")

    assert 1 == done.ret
    held = {name: outcome.held for name, outcome in run.kept.items()}
    assert held == {"F-31": True, "F-32": False, "F-33": False, "F-34": True, "F-36": False, "F-37": False}
    assert run.kept["F-31"].text == "42 files; 5000 files"
    assert run.kept["F-34"].text == "as expected (2 checks)"
    assert run.kept["F-36"].text == "test_f36: OSError: no host"
    assert "not today" in run.kept["F-37"].text
    assert ("ci", "2 checks") == (run.kept["F-31"].by, f"{len(run.kept['F-31'].checks)} checks")
    assert run.kept["F-31"].oldest.commit
    assert run.kept["F-31"].whole
    assert "this shows no fault" not in str(run.kept)


def test_what_was_seen_before_stays_until_it_is_seen_again(run: Run) -> None:
    run("--faults", "faults.json", "--only", "F-32,F-34")
    assert ["F-32", "F-33", "F-34"] == list(run.kept)  # one test shows two

    run("--faults", "faults.json", "--only", "F-31")

    assert ["F-31", "F-32", "F-33", "F-34"] == list(run.kept)
    assert ("42 files", 1, 2) == (run.kept["F-31"].text, len(run.kept["F-31"].checks), run.kept["F-31"].tests)
    assert not run.kept["F-31"].whole


def test_a_part_is_run_again_and_the_rest_stays(run: Run) -> None:
    run("--faults", "faults.json", "--only", "F-31,F-32", "--demand")
    run("--faults", "faults.json", "--only", "F-31")

    assert "42 files; 5000 files" == run.kept["F-31"].text
    assert run.kept["F-31"].whole

    run.pytester.makepyfile(TESTS.replace("5000 files", "60000 files").replace("1 == 2", "1 == 1"))
    run("--faults", "faults.json", "-k", "f31_b or f32", "--demand")

    assert "42 files; 60000 files" == run.kept["F-31"].text
    assert [True, True] == [run.kept[name].held for name in ("F-32", "F-33")]


def test_a_test_that_is_no_more_is_forgotten(run: Run) -> None:
    run("--faults", "faults.json", "--only", "F-31", "--demand")
    run.pytester.makepyfile(TESTS.replace("test_f31_b", "test_f31_c").replace("5000 files", "60000 files"))

    run("--faults", "faults.json", "--only", "F-31", "-k", "f31_a")

    assert ("42 files", False) == (run.kept["F-31"].text, run.kept["F-31"].whole)


def test_what_is_kept_is_a_line_a_test(run: Run) -> None:
    run("--faults", "faults.json", "--demand")
    text = (run.pytester.path / "faults.json").read_text()

    assert sum(len(outcome.checks) for outcome in run.kept.values()) == text.count("::")
    assert all(line.count("::") <= 1 for line in text.splitlines())


def test_a_machine_reads_this_run_alone(run: Run) -> None:
    run("--faults", "faults.json", "--only", "F-32")
    run("--faults", "faults.json", "--outcomes", "now.json", "--only", "F-31,F-37", "--demand")

    data = json.loads((run.pytester.path / "now.json").read_text())

    assert (1, 2, ["F-37"]) == (data["held"], data["run"], data["not_held"])
    assert ["F-31", "F-37"] == [row["id"] for row in data["faults"]]
    assert FAULTS["F-31"].what == data["faults"][0]["fault"]
    assert ["42 files", "5000 files"] == data["faults"][0]["seen"]


def test_long_ones_run_on_demand_and_with_the_faults(run: Run) -> None:
    assert "test_f31_b" not in str(run().getcalls("pytest_runtest_logreport"))
    assert "test_something_else" not in str(run("--only", "all").getcalls("pytest_runtest_logreport"))
    assert "test_f31_b" in str(run("--demand").getcalls("pytest_runtest_logreport"))


def test_a_test_of_a_fault_that_is_in_no_catalogue_stops_the_run(pytester: pytest.Pytester) -> None:
    run = Run(pytester)
    pytester.makepyfile('import pytest\n@pytest.mark.fault("F-999")\ndef test_x(): pass\n')

    assert pytest.ExitCode.USAGE_ERROR == run("--faults", "faults.json").ret


# ---------------------------------------------------------------------------------------------- how it is told

SEEN = {
    "F-31": Outcome(
        3,
        {
            "a": Check(True, ["13 files, each at its line"], "ci", "abc1234", "2026-11-21"),
            "b": Check(day="2026-11-22"),
        },
    ),
    "F-35": Outcome(
        1, {"c": Check(False, ["a | b", "<script> [red]not a colour[/] *x* _y_", "two\nlines " + "long " * 60])}
    ),
}


@pytest.mark.parametrize("width", [40, 80, 100, 120, 160])
def test_the_table_fits_the_terminal(width: int) -> None:
    out = io.StringIO()
    table.show(SEEN, Console(file=out, width=width, highlight=False))
    lines = out.getvalue().splitlines()

    assert max(map(len, lines)) <= max(width, table.WIDTH)
    assert "1 of 2 held; of 1 a part was run" == lines[-1]
    assert any(line.startswith("F-31") and line.rstrip().endswith("held in part") for line in lines)
    assert any(line.startswith("F-35") and line.rstrip().endswith("NOT HELD") for line in lines)
    assert "[red]not a" in out.getvalue()


def test_the_page_has_a_row_for_every_fault_and_each_cell_stays_in_its_own() -> None:
    text = table.markdown(SEEN)
    rows = [line for line in text.splitlines() if line.startswith("|")]

    assert len(rows) == len(FAULTS) + 2
    assert {7} == {len(row.replace(r"\|", "").strip("|").split("|")) for row in rows}
    assert r"a \| b; \<script> \[red]not a colour\[/] \*x\* \_y\_; two lines long" in text
    assert "| **no** | demand |" in text
    assert "| not run yet | - |" in text
    assert all(fault.not_here in text for fault in FAULTS.values())
    assert "| yes, 2 of 3 | ci | abc1234, 2026-11-21 |" in text
    assert text.endswith("\n\n**1 of 2 held; of 1 a part was run.**\n")


def test_the_catalogue_is_in_order_and_short_enough_for_a_table() -> None:
    numbers = [int(name.removeprefix("F-")) for name in FAULTS]

    assert sorted(numbers) == numbers
    for fault in FAULTS.values():
        assert max(len(fault.what), len(fault.expected)) <= 90


# ---------------------------------------------------------------------------------------------- the task


def asked(capsys: pytest.CaptureFixture[str], code: int, **options: object) -> str:
    """The line that `inv faults` runs; raises Exit as it does."""
    lines: list[str] = []

    class Context(MockContext):  # type: ignore[misc]
        def run(self, line: str, **_: object) -> Result:
            lines.append(line)
            return Result(exited=code)

    tasks.faults.body(Context(), **options)
    return lines[0]


def test_faults_of_the_input_alone_need_no_lab(capsys: pytest.CaptureFixture[str]) -> None:
    line = asked(capsys, 0, only="f-31, F-35", quick=True, keep=True)

    assert "--only F-31,F-35" in line
    assert "--demand" not in line
    assert "--keep-lab" in line
    assert line.split("--faults=")[1].split()[0] == str(Path(tasks.__file__).parent / "docs" / "faults.json")


@pytest.mark.parametrize(("code", "ends"), [(1, 1), (2, 1), (5, 2)], ids=["not held", "interrupted", "nothing run"])
def test_the_exit_code_tells(capsys: pytest.CaptureFixture[str], code: int, ends: int) -> None:
    with pytest.raises(Exit) as ended:
        asked(capsys, code, only="F-31")
    assert ends == ended.value.code


@pytest.mark.parametrize("only", ["F-999", "nonsense", "F-31;reboot"])
def test_a_fault_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], only: str) -> None:
    with pytest.raises(Exit, match="no such fault") as ended:
        asked(capsys, 0, only=only)
    assert 2 == ended.value.code


def test_one_that_cannot_be_shown_here_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAULTS, "F-63", Fault("x", "y", "no NFS on a single host"))
    with pytest.raises(Exit, match="F-63 cannot be shown here: no NFS on a single host") as ended:
        asked(capsys, 0, only="F-63")
    assert 2 == ended.value.code
