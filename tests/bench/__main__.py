"""`scripts/bench`: measure a part, and write down what was seen."""

from __future__ import annotations

import argparse
import datetime
import os
import sys

from . import fleet, growth, isolation, paper, quiet, stack, toolkit
from .tools import HOME

PARTS = {
    "fleet": fleet.measure,
    "growth": growth.measure,
    "isolation": isolation.measure,
    "stack": stack.measure,
    "toolkit": toolkit.measure,
}


def main() -> int:
    """Exit code 3: this machine is busy; 1: a tool failed."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("part", choices=sorted(PARTS))
    parser.add_argument("--rounds", type=int, default=3, help="runs of the slow; the quick have twice as many")
    parser.add_argument("--anyway", action="store_true", help="on a busy machine too; the table then says so")
    parser.add_argument("--keep", action="store_true", help="leave the pages in docs/ as they are; print only")
    given = parser.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    try:
        busy = quiet.begin(given.anyway)
    except quiet.Busy as error:
        print(error, file=sys.stderr)
        return 3
    data = {**PARTS[given.part](given.rounds), "date": datetime.date.today().isoformat(), "load": load, "busy": busy}
    print(paper.tables(data))
    if not given.keep:
        paper.write(data)
    return 1 if any(run["code"] for run in data["runs"]) else 0


if __name__ == "__main__":
    sys.exit(main())
