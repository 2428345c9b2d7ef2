"""Who takes whose place: the one with weight 0, and nobody before it is known that it can."""

from __future__ import annotations

from typing import Any

import pytest

from fabfile.fleet.replace import chosen
from fabfile.model import Fleet, Refusal, Site

HOSTS: dict[str, Any] = {
    "edge1": {"address": "10.0.0.1", "roles": ("edge",)},
    "app1": {"address": "10.0.0.2", "roles": ("app",)},
    "app2": {"address": "10.0.0.3", "roles": ("app",), "weight": 0},
    "db1": {"address": "10.0.0.4", "roles": ("database",)},
}


def fleet(hosts: dict[str, Any] | None = None, *sites: Site, **more: Any) -> Fleet:
    made = Fleet.model_validate({"hosts": {**HOSTS, **(hosts or {})}, **more})
    return made.with_sites(sites or [Site(domain="example.com")])


def test_the_one_with_weight_0_takes_the_place() -> None:
    assert "app2" == chosen(fleet(), "app1", "").name
    assert "app2" == chosen(fleet({"app3": {**HOSTS["app2"], "address": "10.0.0.5"}}), "app1", "app2").name


@pytest.mark.parametrize(
    ("found", "host", "by", "said"),
    [
        (fleet(), "app9", "", r"there is no host app9; did you mean app"),
        (fleet(), "app1", "app9", "there is no host app9"),
        (fleet(), "app1", "app1", "cannot take its own place"),
        (fleet(), "db1", "", "db1 is there as database; hosts are replaced that make pages and nothing else"),
        (fleet(), "edge1", "", "edge1 is there as edge"),
        (fleet({"app1": {"address": "10.0.0.2", "roles": ("app", "cache")}}), "app1", "", "there as app and cache"),
        (fleet(), "app1", "db1", "db1 makes no pages"),
        (fleet({"app2": {"address": "10.0.0.3", "roles": ("app",)}}), "app1", "", "no hosts of fleet.yml .* weight 0"),
        (fleet({"app2": {"address": "10.0.0.3", "roles": ("app",)}}), "app1", "app2", "app2 has weight 100: visitors"),
        (
            fleet({"app3": {**HOSTS["app2"], "address": "10.0.0.5"}}),
            "app1",
            "",
            "2 hosts of fleet.yml make pages and have weight 0: app2, app3; say which",
        ),
        (fleet(pools={"main": ("edge1", "app1"), "other": ("app2", "db1")}), "app1", "", "edge1 leads to app1 and not"),
        (
            fleet(None, Site(domain="example.com", hosts=("app1",))),
            "app1",
            "",
            r"example\.com is on app1 and not on app2, as its file says",
        ),
        (fleet(edge={"server": "nginx"}), "app1", "", "the edges are nginx"),
        (Fleet.model_validate({"hosts": {"vps": {}, "web2": {}}}), "vps", "", "visitors come to vps itself"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(found: Fleet, host: str, by: str, said: str) -> None:
    with pytest.raises(Refusal, match=said):
        chosen(found, host, by)
