"""The picture is of what is configured, and the one in the README of what is in this checkout."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from invoke import Exit

from fabfile.diagram import diagram, svg
from fabfile.diagram.layout import lay_out
from fabfile.model import Fleet, Site, find_fleet

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "diagram.svg"


def fleet(*sites: Site, **hosts: dict[str, object]) -> Fleet:
    machines = {name: {"roles": ("web",), **entry} for name, entry in hosts.items()}
    return Fleet.model_validate({"hosts": machines}).with_sites(sites)


def site(domain: str, **keys: object) -> Site:
    return Site.model_validate({"domain": domain, **keys})


def words(found: Fleet) -> list[str]:
    return [text.strip() for text in ElementTree.fromstring(svg(found)).itertext() if text.strip()]


def test_the_readme_shows_the_example_fleet() -> None:
    """To draw it anew: inv diagram --fleet fleet.example.yml --to docs/diagram.svg"""
    assert DOCS.read_text() == svg(find_fleet(explicit=ROOT / "fleet.example.yml", cwd=ROOT))
    assert "docs/diagram.svg" in (ROOT / "README.md").read_text()


def test_each_host_shows_what_it_runs() -> None:
    both = fleet(
        site("one.test"),
        site("two.test", php=False),
        site("three.test", database=True, hosts=("web1",)),
        edge1={"roles": ("edge",), "address": "10.0.0.2"},
        web1={"address": "10.0.0.11"},
        web2={"address": "10.0.0.12"},
    )

    said = words(both)

    assert (1, 2, 2, 1) == tuple(said.count(name) for name in ("HAProxy", "Varnish", "Apache", "MariaDB"))
    assert (2, 2, 1) == tuple(said.count(name) for name in ("one.test", "two.test", "three.test"))
    assert {"10.0.0.11:8081", "10.0.0.12:8081", "files alone", "edge1", "web2"} <= set(said)


def test_a_host_alone_is_everything() -> None:
    said = words(Fleet().with_sites([site("one.test")]))

    assert {"vps", "HAProxy", "lego", "Varnish", "Apache", "one.test", "Redis"} <= set(said)
    assert "MariaDB" not in said


def test_nothing_stands_outside_or_on_another() -> None:
    many = [site(f"site{number:02}.test") for number in range(50)]
    fleets: tuple[dict[str, dict[str, object]], ...] = (
        {"a": {}},
        {"a": {}, "b": {}, "c": {"roles": ("database",)}},
        {"e": {"roles": ("edge",)}, "a": {}},
    )
    for hosts in fleets:
        drawing = lay_out(fleet(*many, **hosts))
        boxes = [*drawing.boxes]
        for card in drawing.cards:
            for box in [*card.boxes, *(box for group in card.groups for box in group.boxes)]:
                assert card.x < box.x
                assert box.x + box.width < card.x + card.width
                assert box.bottom < card.y + card.height
                boxes.append(box)
            assert 0 < card.x < card.x + card.width < drawing.width
            assert card.y + card.height < drawing.height
        for at, one in enumerate(boxes):
            for other in boxes[at + 1 :]:
                apart = one.x + one.width <= other.x or other.x + other.width <= one.x
                assert apart or one.bottom <= other.y or other.bottom <= one.y, (one, other)
        assert "and 39 more" in words(fleet(*many, **hosts))


def test_a_name_is_shown_as_it_is_read() -> None:

    assert "münchen.de" in svg(Fleet().with_sites([site("xn--mnchen-3ya.de")]))


def test_a_place_where_nothing_can_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (tmp_path, tmp_path / "nowhere" / "x.svg"):
        with pytest.raises(Exit) as refused:
            diagram(None, fleet=str(ROOT / "fleet.example.yml"), to=str(place))

        assert 2 == refused.value.code
    assert "--to fleet.svg" in capsys.readouterr().err
