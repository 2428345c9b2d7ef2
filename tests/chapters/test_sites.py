"""A site as a whole: what is asked first, what a new file says, and who is left when the file went."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fabfile import apache, haproxy, newsite, sites
from fabfile.engine import Guarded
from fabfile.engine.facts import User
from fabfile.model import Fleet, Refusal, find_fleet, load_sites
from fabfile.release.spread import on_the_net

from .recording import Recorded, a_file, contents
from .recording import site as a_site

SITE, OTHER = a_site(), a_site("other.test")


def test_a_new_file_loads_as_it_is_and_with_all_that_it_offers(tmp_path: Path) -> None:
    path = newsite.write(Fleet().model_copy(update={"sites": tmp_path / "sites"}), "münchen.de")

    assert "xn--mnchen-3ya.de.yml" == path.name
    assert [a_site("münchen.de")] == list(load_sites(path.parent))
    text = path.read_text()
    path.write_text(re.sub(r"^# ?( *\w+:.* # .*|  \w+:.*|php:.*|cache:.*|deploy:.*)$", r"\1", text, flags=re.MULTILINE))
    (all_of_it,) = load_sites(path.parent)
    assert all_of_it.database
    assert ("example.org",) == all_of_it.aliases
    assert ("public", ("uploads",), ("php migrate.php",)) == (
        all_of_it.deploy.docroot, all_of_it.deploy.shared, all_of_it.deploy.before,
    )  # fmt: skip
    assert ("PHPSESSID",) == all_of_it.cache.keep_cookies


def test_a_file_that_is_there_and_a_name_that_is_taken_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "sites"
    place.mkdir()
    (place / "taken.test.yml").write_text("domain: taken.test\naliases: [alias.test]\n")
    (place / ".hidden").write_text("")
    before = {path: path.read_bytes() for path in place.iterdir()}
    fleet = find_fleet(None, None, tmp_path)

    for domain, reason in {
        "taken.test": "is a name of taken.test",
        "alias.test": "is a name of taken.test",
        "www.foo.test": "must be the bare domain",
        "no name": "holds a space",
        "-rf": "host name",
        "": "is empty",
    }.items():
        with pytest.raises(Refusal, match=reason):
            newsite.write(fleet, domain)
    assert before == {path: path.read_bytes() for path in place.iterdir()}

    left = Fleet().model_copy(update={"sites": place})  # as if another had just written it
    with pytest.raises(Refusal, match="is there already"):
        newsite.write(left, "taken.test")


def test_only_a_site_that_serves_can_get_a_release(monkeypatch: pytest.MonkeyPatch) -> None:
    conf = f"{apache.VHOSTS}/example.com.conf"

    on_the_net(Recorded(monkeypatch, SITE, files={conf: a_file()}), SITE)
    with pytest.raises(Refusal, match="is suspended on vps") as refused:
        on_the_net(Recorded(monkeypatch, SITE, files={conf + ".off": a_file()}), SITE)
    assert "fab -H vps site.resume example.com" in str(refused.value)
    with pytest.raises(Refusal, match="is not on vps yet") as refused:
        on_the_net(Recorded(monkeypatch, SITE), SITE)
    assert "fab -H vps site.apply example.com" in str(refused.value)


def test_a_site_with_a_file_is_not_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    Recorded(monkeypatch, SITE)

    with pytest.raises(Guarded, match="still has its file"):
        sites.remove.body.__wrapped__(None, "Example.com.")


def test_only_what_the_host_has_can_be_removed_and_not_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    users = {
        "other-test": User("other-test", 990, 990, "/var/www/other.test", ""),
        "www-data": User("www-data", 33, 33, "/var/www", ""),
        "root": User("root", 0, 0, "/root", ""),
    }
    host = Recorded(monkeypatch, SITE, users=users)
    host.dry = False

    left = sites.leftovers(host.facts, host.sites)
    assert [("other.test", "other-test")] == [(one.domain, one.owner) for one in left]
    with pytest.raises(Refusal, match="without a file in sites/"):
        sites.remove.body.__wrapped__(None, "else.test")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(Guarded, match="go from vps") as guarded:
        sites.remove.body.__wrapped__(None, "other.test")
    assert "--yes" in guarded.value.next_step


# ---------------------------------------------------------------------- in a fleet

SPLIT = {
    "hosts": {
        "edge1": {"address": "10.0.0.1", "roles": ("edge",)},
        "edge2": {"address": "10.0.0.2", "roles": ("edge",)},
        "app1": {"address": "10.0.0.3", "roles": ("app",)},
        "both": {"address": "10.0.0.4", "roles": ("edge", "web")},
    },
    "pools": {"main": ("edge1", "edge2", "app1"), "other": ("both", "edge1")},
}


def there(monkeypatch: pytest.MonkeyPatch, name: str, **known: Any) -> Recorded:
    host = Recorded(monkeypatch, SITE, **known)
    host.name, host.fleet = name, Fleet.model_validate(SPLIT).with_sites([a_site(hosts=("app1",)), OTHER])
    host.sites, host.fronted = host.fleet.sites_for(name), host.fleet.fronted_by(name)
    return host


@pytest.mark.parametrize("name", ["edge1", "edge2", "app1"])
def test_a_site_rests_at_every_edge_that_leads_to_it_wherever_it_is_typed(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert ("edge1", "edge2") == sites.doors(there(monkeypatch, name), a_site(hosts=("app1",)))
    assert ("vps",) == sites.doors(Recorded(monkeypatch, SITE), SITE)


@pytest.mark.parametrize(
    ("name", "files", "state"),
    [
        ("edge1", [f"{sites.SUSPENDED}/example.com"], "suspended"),
        ("edge1", [], "served"),
        ("app1", [f"{apache.VHOSTS}/example.com.conf.off"], "suspended"),
        ("app1", [], "new"),
    ],
)
def test_an_edge_that_makes_no_pages_remembers_by_a_file_of_its_own(
    monkeypatch: pytest.MonkeyPatch, name: str, files: list[str], state: str
) -> None:
    host = there(monkeypatch, name, files={path: a_file() for path in files})

    assert state == sites._state(host, host.facts, a_site(hosts=("app1",)))
    if name == "edge1":
        listed = contents(host.after(haproxy.hosts))[haproxy.SUSPENDED_MAP].splitlines()
        assert ("example.com 1" in listed) == (state == "suspended")
