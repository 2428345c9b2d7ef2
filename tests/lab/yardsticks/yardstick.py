"""An outside yardstick: a list of controls, each named as its source names it, and what of it is waived and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Control = Callable[[Any], bool]


class Yardstick:
    """Controls, collected by a decorator; each takes testinfra's view of a host and says whether it is met."""

    def __init__(self, source: str) -> None:
        self.source, self.controls = source, dict[str, Control]()

    def control(self, name: str) -> Callable[[Control], Control]:
        def add(check: Control) -> Control:
            assert name not in self.controls, name
            self.controls[name] = check
            return check

        return add

    def unmet(self, host: Any) -> set[str]:
        """The controls that the host does not meet."""
        return {name for name, check in self.controls.items() if not check(host)}

    def judge(self, host: Any, waivers: Mapping[str, str]) -> None:
        """Every control is met but the waived ones, and no waiver is idle."""
        unmet = self.unmet(host)
        assert not unmet - set(waivers), f"{self.source}: not met: {sorted(unmet - set(waivers))}"
        assert not set(waivers) - unmet, f"{self.source}: waived but met: {sorted(set(waivers) - unmet)}"
