"""docs/tutorials.md: generated, so it must not get out of step with the tasks."""

import tasks


def test_the_guide_is_what_inv_guide_writes() -> None:
    assert tasks.GUIDE.read_text() == tasks.guide_text(), "run: .venv/bin/inv guide"


def test_every_step_of_the_web_half_of_t2_has_its_task() -> None:
    said = " ".join(entry.step for entry in tasks.tutorial_entries() if entry.tutorial == "T2")
    assert all(number in said for number in "123456"), said
