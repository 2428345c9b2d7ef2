"""docs/oncall.md: what it tells an operator to type can be typed."""

import re
from pathlib import Path

import pytest

import fabfile
import tasks

ONCALL = Path(__file__).parents[1] / "docs" / "oncall.md"
TYPED = re.findall(r"\b(fab|inv) (?:-S \S+ |--dry |--help |-H vps )*([a-z][a-z0-9_.-]*)", ONCALL.read_text())


@pytest.mark.parametrize(("tool", "task"), sorted(set(TYPED)))
def test_every_task_that_it_names_is_there(tool: str, task: str) -> None:
    assert task in (fabfile.ns if tool == "fab" else tasks.ns)


def test_it_names_the_tasks_that_answer_on_call() -> None:
    named = {task for _, task in TYPED}
    on_call = [name for name in fabfile.ns.task_names if "On call:" in (fabfile.ns[name].__doc__ or "")]
    assert [] == [name for name in on_call if not named & {name, *fabfile.ns.task_names[name]}]
