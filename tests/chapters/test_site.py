"""A site's tree: whose each part is, and what root never touches."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest

from fabfile import apache, php, site
from fabfile.engine import Guarded
from fabfile.engine.changes import AddUser, JoinGroup, MakeDirectory, PutFile, PutLink, Seed
from fabfile.engine.facts import File, User

from .recording import Recorded, a_file, contents
from .recording import site as a_site

EXAMPLE, SHOP = a_site(), a_site("shop.example.com", subdomains=("www", "img"))


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return Recorded(monkeypatch, EXAMPLE, SHOP)


def test_each_site_has_a_user_at_home_in_its_tree(host: Recorded) -> None:
    users = [change for change in host.after(site.users) if isinstance(change, AddUser)]

    assert [
        ("example-com", "/var/www/example.com", "/usr/sbin/nologin"),
        ("shop-example-com", "/var/www/shop.example.com", "/usr/sbin/nologin"),
    ] == [(user.name, user.home, user.shell) for user in users if user.name != "www-data"]


def test_only_apache_joins_the_groups_of_sites(host: Recorded) -> None:
    joins = {(change.user, change.group) for change in host.after(site.users) if isinstance(change, JoinGroup)}

    assert {("www-data", "example-com"), ("www-data", "shop-example-com")} == joins


def test_somebody_else_s_user_is_never_taken_for_the_site_s(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = {"example-com": User("example-com", 1000, 1000, "/home/example-com", "/bin/bash")}

    with pytest.raises(Guarded, match=r"example\.com wants the user example-com, which vps has already"):
        Recorded(monkeypatch, EXAMPLE, users=taken).after(site.users)


def test_a_stranger_in_a_site_s_group_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = {"example-com": ("www-data", "shop-example-com"), "shop-example-com": ("www-data",)}

    with pytest.raises(Guarded, match="has other members on vps: shop-example-com"):
        Recorded(monkeypatch, EXAMPLE, SHOP, groups=groups).after(site.users)


def test_the_door_to_a_tree_is_open_for_its_site_and_apache_alone(host: Recorded) -> None:
    made = {
        change.path.removeprefix("/var/www/example.com"): (change.mode, change.owner, change.group)
        for change in host.after(site.tree)
        if isinstance(change, MakeDirectory | PutFile | Seed) and change.path.startswith("/var/www/example.com")
    }

    assert {
        "": (0o750, "root", "example-com"),
        "/log": (0o750, "root", "example-com"),
        "/log/php_errors.log": (0o640, "example-com", "example-com"),
        "/mail": (0o700, "example-com", "example-com"),
        "/tmp": (0o700, "example-com", "example-com"),
        "/shared": (0o750, "example-com", "www-data"),
        "/releases": (0o750, "root", "example-com"),
        "/releases/19700101-000000": (0o750, "example-com", "www-data"),
        "/releases/19700101-000000.from": (0o600, "root", "root"),
    } == made


def test_public_html_is_a_link_to_a_first_release_and_what_is_there_already_stays(
    monkeypatch: pytest.MonkeyPatch, host: Recorded
) -> None:
    links = [change for change in host.after(site.tree) if isinstance(change, PutLink)]
    assert ("/var/www/example.com/public_html", "releases/19700101-000000") == (links[0].path, links[0].target)

    former = {f"{EXAMPLE.root}/public_html": a_file(kind="d")}  # of an earlier Gatehouse
    assert [] == [
        change
        for change in Recorded(monkeypatch, EXAMPLE, files=former).after(site.tree)
        if isinstance(change, PutLink | Seed)
    ]


def test_a_link_that_a_broken_run_left_gets_its_release(monkeypatch: pytest.MonkeyPatch) -> None:
    dangling = File("l", 0o777, "root", "root", 0, "1", "releases/20260101-000000")
    host = Recorded(monkeypatch, EXAMPLE, files={EXAMPLE.served: dangling})

    (seed,) = [change for change in host.after(site.tree) if isinstance(change, Seed)]

    assert f"{EXAMPLE.root}/releases/20260101-000000" == seed.path


def test_root_wishes_nothing_below_a_directory_of_the_site_s(host: Recorded) -> None:
    """Not the site's pages, not its mail, not its temporary files: a link there would lead root astray (F-20)."""
    changes = host.after(*site.STEPS, *php.STEPS, *apache.STEPS)
    own = {f"{one.root}/{part}" for one in host.sites for part in ("releases/19700101-000000", "shared", "mail", "tmp")}
    paths = [PurePosixPath(path) for change in changes if (path := getattr(change, "path", ""))]

    assert own <= {str(path) for path in paths}
    assert [] == [path for path in paths if own & {str(parent) for parent in path.parents}]


def test_every_name_of_the_tree_has_a_page(host: Recorded) -> None:
    seeds = {change.path: dict(change.files) for change in host.after(site.tree) if isinstance(change, Seed)}

    assert {"_/index.html", "www/index.html"} == seeds["/var/www/example.com/releases/19700101-000000"].keys()
    shop = seeds["/var/www/shop.example.com/releases/19700101-000000"]
    assert {"_/index.html", "www/index.html", "img/index.html"} == shop.keys()
    assert b"<h1>img.shop.example.com</h1>" in shop["img/index.html"]


def test_a_placeholder_says_the_name_as_it_is_read_and_fetches_nothing() -> None:
    page = site.pages(a_site("münchen.de"))["www/index.html"]

    assert "<title>www.münchen.de</title>" in page
    assert [] == re.findall(r"(?:src|href|url|import)\b", page)


def test_logs_are_rotated_where_root_may_write(host: Recorded) -> None:
    text = contents(host.after(site.logs))[site.LOGROTATE]

    patterns = text[text.index("/var/www") : text.index("{")].split()
    assert ["/var/www/*/log/access_log", "/var/www/*/log/error_log", "/var/www/*/log/php_errors.log"] == patterns
    assert "    create\n" in text  # each new file gets the former one's owner and mode
    assert "systemctl reload apache2.service" in text


def test_what_is_right_is_left_alone(host: Recorded) -> None:
    host.after(*site.STEPS)

    assert [] == host.after(*site.STEPS)


def test_each_site_s_tmp_has_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = a_site(limits={"tmp_mb": 32}), a_site("kiosk.test", php={"upload_limit": "300M"})

    files = contents(Recorded(monkeypatch, small, large, a_site("new.test")).after(site.tmp))

    assert [
        "tmp 32 example-com /var/www/example.com",
        "tmp 600 kiosk-test /var/www/kiosk.test",
        "tmp 256 new-test /var/www/new.test",
    ] == files[site.TMP].splitlines()[1:]


def test_the_tmp_of_a_site_that_is_not_there_yet_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, EXAMPLE, SHOP)
    with host.about(EXAMPLE):
        files = contents(host.after(site.tmp))

    assert ["tmp 256 example-com /var/www/example.com"] == files[site.TMP].splitlines()[1:]
