"""The diagram: services, ports and flows of what is configured, as SVG.  (T1, figure 1, from the data)"""

from __future__ import annotations

import sys
from pathlib import Path

import jinja2
from invoke import Context

from ..engine.pool import told
from ..model import Fleet, Problem, Refusal, find_fleet
from .layout import Drawing, lay_out

HELP = {
    "fleet": "the fleet.yml to draw; else ./fleet.yml, else one host with the sites of ./sites",
    "to": "the SVG file to write; without it, the picture goes to standard output",
}
TEMPLATE = "drawing.svg.j2"
# In light, in dark.  Spelled out: programs that are no browsers know no variables in a style sheet.
COLOURS = {
    "haproxy": ("#0969da", "#4493f8"),
    "varnish": ("#8250df", "#ab7df8"),
    "apache": ("#bc4c00", "#db6d28"),
    "lego": ("#1a7f37", "#3fb950"),
    "php": ("#0969da", "#4493f8"),
    "redis": ("#cf222e", "#f85149"),
    "mariadb": ("#9a6700", "#d29922"),
    "outside": ("#59636e", "#9198a1"),
}


@told
def diagram(_c: Context, fleet: str = "", to: str = "") -> None:
    """Draw what is configured as SVG: hosts, services, ports, sites, and who speaks to whom (T1, figure 1)."""
    found = find_fleet(None, Path(fleet) if fleet else None, Path.cwd())
    target = Path(to).expanduser()
    if to and (not target.parent.is_dir() or target.is_dir()):
        raise Refusal(Problem(f"--to {to}: must be a file, in a directory that is there", example="--to fleet.svg"))
    picture = svg(found)
    if to:
        target.write_text(picture)
    else:
        sys.stdout.write(picture)


def svg(fleet: Fleet) -> str:
    """The picture; it needs no font, no script and nothing from anywhere, and follows the reader's light or dark."""
    drawing: Drawing = lay_out(fleet)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    env = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return env.get_template(TEMPLATE).render(drawing=drawing, colours=COLOURS) + "\n"
