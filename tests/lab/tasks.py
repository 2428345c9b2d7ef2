"""`inv lab.*`: the lab for people."""

from __future__ import annotations

import json as data
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from invoke import Collection, Exit, task

CHECKOUT = Path(__file__).resolve().parents[2]


def with_lab(body: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a task the lab in place of Invoke's context; what the lab cannot do is one clear line and exit code 1."""

    @wraps(body)
    def run(_context: Any, *args: Any, **kwargs: Any) -> None:
        from .errors import LabError  # and with it docker-py: `inv --list` does without
        from .lab import Lab

        try:
            body(Lab(Path(os.environ.get("GATEHOUSE_LAB", CHECKOUT / ".lab"))), *args, **kwargs)
        except LabError as error:
            raise Exit(f"lab: {error}", code=1) from None

    return run


FLEET = {
    "fleet": "split: six hosts behind an edge (T5); api: an API and its database (T2); cluster: seven hosts behind "
    "a balancer (T3); else two web servers"
}


@task(help=FLEET)
@with_lab
def up(lab, fleet=""):
    """Bring up Debian hosts on this machine: vps (13), vps12 (12), a CA, a stranger.  Again: what is missing of it.

    With --fleet those of a fleet, bare, in an outside and an inside network; beside the others, in a directory of its
    own.
    """
    lab = lab.with_fleet(fleet) if fleet else lab
    lab.up()
    _show(lab.status())
    place = os.path.relpath(lab.directory)
    line = f"inv fleet.bootstrap --fleet {place}/fleet.yml" if fleet else f"fab -S {place}/ssh_config -H vps bootstrap"
    print(f"\nNext: .venv/bin/{line}")


@task(help={"everything": "the packages kept for the next lab and the images, too", "fleet": "this one alone"})
@with_lab
def down(lab, everything=False, fleet=""):
    """Take the lab away, with its fleets; the packages it fetched are kept for the next one."""
    for one in [lab.with_fleet(fleet)] if fleet else [*lab.fleets, lab]:
        one.down(everything=everything)


@task(help={"json": "as data"})
@with_lab
def status(lab, json=False):
    """The lab's hosts, their state and addresses; exit code 1 when there are none or one is not running."""
    rows = [row for one in (lab, *lab.fleets) for row in one.status()]
    if json:
        print(data.dumps(rows, indent=2))
    else:
        _show(rows)
    if not rows or any(row["state"] != "running" for row in rows):
        raise Exit(code=1)


@task(help={"host": "vps, vps12, ..."})
@with_lab
def point(lab, host):
    """Let example.com and the lab's other names point to a host, as when the sites move there."""
    lab.point(lab.machine(host))


@task(help={"url": "a page of a site that the lab serves"})
@with_lab
def visit(lab, url="https://example.com/"):
    """Fetch a page as a stranger and tell what each layer of the host did, from DNS to PHP."""
    from .visit import visit as layers

    for layer, did in layers(lab, url):
        print(f"{layer:8}  {did}", flush=True)


def _show(rows: list[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = [key for key in rows[0] if any(row[key] for row in rows)] if rows else ["no hosts"]
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    Console(highlight=False).print(table)


ns = Collection(up, down, status, point, visit)
