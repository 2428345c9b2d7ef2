"""The commented examples are the documentation: every key is in them, with its default, and they load."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
from pydantic import BaseModel

from fabfile.model import (
    Acme,
    Balancer,
    Cache,
    Deploy,
    Edge,
    Files,
    Fleet,
    Limits,
    Machine,
    Php,
    Route,
    Site,
    Static,
    Store,
    Tls,
    load_fleet,
    load_sites,
)
from fabfile.model.document import read
from fabfile.model.waf import Evasive, Waf
from fabfile.model.waf import Limits as MostOfRequests

ROOT = Path(__file__).parents[2]
SITE, FLEET = ROOT / "sites" / "example.com.yml", ROOT / "fleet.example.yml"


def data(file: Path) -> dict[str, Any]:
    document = read(file)
    assert not document.problems
    assert document.data is not None
    return document.data


def front() -> dict[str, Any]:
    """The balancer of the example, which is commented out there."""
    _, _, rest = FLEET.read_text().partition("balancer: null")
    lines = [line.removeprefix("# ") for line in rest.splitlines()[1:]]
    with NamedTemporaryFile("w", suffix=".yml") as file:
        file.write("\n".join(lines))
        file.flush()
        return data(Path(file.name))


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        (Site, data(SITE)),
        (Php, data(SITE)["php"]),
        (Cache, data(SITE)["cache"]),
        (Tls, data(SITE)["tls"]),
        (Limits, data(SITE)["limits"]),
        (Deploy, data(SITE)["deploy"]),
        (Fleet, data(FLEET)),
        (Acme, data(FLEET)["acme"]),
        (Edge, data(FLEET)["edge"]),
        (Static, data(FLEET)["static"]),
        (Store, data(FLEET)["cache"]),
        (Files, data(FLEET)["files"]),
        (Balancer, {**front()}),
        (Route, front()["routes"]["/paid_user"]),
        (MostOfRequests, front()["limits"]),
        (Evasive, front()["evasive"]),
        (Waf, front()["waf"]),
    ],
)
def test_the_examples_show_every_key_in_the_schemas_words(model: type[BaseModel], keys: dict[str, Any]) -> None:
    assert set(keys) == set(model.model_fields)


def test_the_example_site_is_the_default_site() -> None:
    example = next(site for site in load_sites(SITE.parent) if site.domain == "example.com")
    assert example == Site(domain="example.com")


def test_the_example_fleet_is_the_default_fleet() -> None:
    fleet = load_fleet(FLEET)
    assert fleet.model_copy(update={"sites": Fleet().sites}).model_dump() == Fleet().model_dump()
    assert fleet.sites == ROOT / "sites"


def test_the_machines_of_the_example_load_when_they_are_uncommented(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    text = FLEET.read_text().replace("hosts: {}", "hosts:")
    (tmp_path / "fleet.yml").write_text(re.sub(r"^#(  \w)|^#(    \w)", r"\1\2", text, flags=re.MULTILINE))
    fleet = load_fleet(tmp_path / "fleet.yml")
    assert list(fleet.hosts) == ["web1"]
    assert set(data(tmp_path / "fleet.yml")["hosts"]["web1"]) == set(Machine.model_fields) - {"name"}


@pytest.mark.parametrize("file", [SITE, FLEET], ids=["site", "fleet"])
def test_every_key_has_its_default_in_the_comment_behind_it(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if re.match(r" *\w+: +\S", line) and "{}" not in line]
    above = r"(php|cache|tls|deploy|limits|acme|hosts|edge|static|files): +#"
    keys = [line for line in lines if not re.match(above, line)]
    assert len(keys) > 5
    for line in keys:
        _, value, said = re.match(r" *(\w+): +(\S.*?) +# (.*)", line).groups()  # type: ignore[union-attr]
        assert re.match(rf"(no )?default:|default {re.escape(value)}\b|default {re.escape(value)}[:; ]", said), line


def test_the_ranges_in_the_comments_are_the_schemas() -> None:
    found = re.findall(r"^  (\w+): .*[,;] (\w+) to (\w+)$", SITE.read_text(), flags=re.MULTILINE)
    assert len(found) == 12
    for key, low, high in found:
        field = (Php.model_fields | Deploy.model_fields | Limits.model_fields)[key] if key != "timeout" else None
        told = [field] if field else [Php.model_fields[key], Deploy.model_fields[key]]
        assert any(f"from {low} to {high}" in (each.description or "") for each in told), key


@pytest.mark.parametrize(
    "model",
    [Site, Php, Cache, Tls, Deploy, Fleet, Acme, Machine, Edge, Static, Store, Files, Balancer, Route, MostOfRequests,
     Evasive, Waf],
)
def test_every_key_says_what_it_is_what_it_expects_and_an_example_that_is_right(model: type[BaseModel]) -> None:
    routes = {"/": {"members": ("web1",)}}
    needed: dict[Any, dict[str, Any]] = {
        Site: {"domain": "example.com"},
        Machine: {"name": "web1"},
        Balancer: {"server_name": "www.example.org", "routes": routes},
        Route: {"members": ("web3",)},
    }
    base = needed.get(model, {})
    for key, field in model.model_fields.items():
        if key == "name":
            continue
        assert field.title, key
        assert field.description, key
        for value in field.examples or []:
            given = tuple(value) if isinstance(value, list) else value
            if key in {"ca_bundle", "sites"}:
                continue  # paths that must exist
            if isinstance(given, dict):
                given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
            model.model_validate({**base, key: given})
        assert field.examples, key
