"""The files host and those that have their files from there: who may what, and what is whose."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fabfile import files, site
from fabfile.engine import Guarded
from fabfile.engine.changes import AddUser, MakeDirectory, PutLink, Run, Seed
from fabfile.engine.facts import User
from fabfile.firewall import loading
from fabfile.model import Fleet, Refusal
from fabfile.model.owners import UIDS, uid_of
from fabfile.release import files_here

from .recording import Recorded, contents
from .recording import site as a_site

SITE, OTHER = a_site(), a_site("shop.test", hosts=("app2",), php=False)
HOSTS = {
    "edge1": {"address": "10.0.0.1", "roles": ("edge",)},
    "static1": {"address": "10.0.0.2", "roles": ("static",)},
    "app1": {"address": "10.0.0.3", "roles": ("app",)},
    "app2": {"address": "fd00::4", "roles": ("app",)},
    "files1": {"address": "10.0.0.5", "roles": ("files",)},
}


def a_host(monkeypatch: pytest.MonkeyPatch, name: str, known: dict[str, Any] | None = None, **said: str) -> Recorded:
    """The host of this name in that fleet; `said` are keys of `files:`."""
    fleet = Fleet.model_validate({"hosts": HOSTS, "files": said}).with_sites((SITE, OTHER))
    host = Recorded(monkeypatch, **(known or {}))
    host.name, host.fleet, host.sites = name, fleet, fleet.sites_for(name)
    return host


def test_a_fleet_without_a_files_host_has_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, SITE)

    assert [] == host.after(*files.STEPS)
    assert "shared" not in Fleet().roles("vps")


def test_exports_name_addresses_and_let_static_hosts_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = contents(a_host(monkeypatch, "files1").after(files.serve))["/etc/exports"]
    lines = dict(re.findall(r"^/var/www (\S+)\((\S+)\)$", text, re.MULTILINE))

    assert {"10.0.0.2": "ro", "10.0.0.3": "rw", "fd00::4": "rw"} == {
        address: options.partition(",")[0] for address, options in lines.items()
    }
    for options in lines.values():
        assert {"sync", "root_squash", "subtree_check", "secure", "sec=sys"} <= set(options.split(","))
    assert "no_root_squash" not in text
    assert "*" not in text.replace("# ", "")


@pytest.mark.parametrize("server", ["kernel", "ganesha"])
def test_what_earlier_versions_of_nfs_need_is_masked_before_anything_is_installed(
    monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    for name, step in (("files1", files.serve), ("app1", files.mount)):
        changes = a_host(monkeypatch, name, server=server).after(step)
        order = [change.path if isinstance(change, PutLink) else type(change).__name__ for change in changes]

        assert order.index("/etc/systemd/system/rpcbind.socket") < order.index("Install")


def test_a_container_is_told_what_it_can_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, step, way_out in (("files1", files.serve, "server: ganesha"), ("app1", files.mount, "mount: sync")):
        with pytest.raises(Guarded) as refused:
            a_host(monkeypatch, name, {"container": "docker"}).after(step)
        assert way_out in refused.value.next_step


def test_the_mount_is_bounded_in_time_and_inert(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, access in (("app1", "rw"), ("static1", "ro")):
        text = contents(a_host(monkeypatch, name).after(files.mount))["/etc/systemd/system/srv-sites.mount"]
        options = set(re.search(r"^Options=(\S+)$", text, re.MULTILINE)[1].split(","))  # type: ignore[index]

        assert {access, "nosuid", "nodev", "noexec", "_netdev", "nfsvers=4.2", "softerr", "timeo=50"} <= options
        assert "\nWhat=10.0.0.5:/var/www\n" in text
        assert "\nStartLimitIntervalSec=0\n" in text


def test_modules_of_the_daemon_are_for_the_hosts_that_show_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    text = contents(a_host(monkeypatch, "files1", mount="sync").after(files.serve))["/etc/rsyncd.conf"]
    found = re.findall(r"^\[(\S+)\](?:.|\n)*?allow = (.*)$", text, re.MULTILINE)
    allowed = {name: hosts.split() for name, hosts in found}

    assert allowed == {
        "index": ["10.0.0.2", "10.0.0.3", "fd00::4"],
        "site-example-com": ["10.0.0.2", "10.0.0.3", "fd00::4"],
        "site-shop-test": ["10.0.0.2", "fd00::4"],
    }
    for line in ("address = 10.0.0.5", "use chroot = yes", "read only = yes", "list = no", "hosts deny = *"):
        assert f"\n{line}\n" in text
    assert "uid = root" not in text


def test_only_root_speaks_to_the_daemon_of_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    reject = "-d 10.0.0.5/32 -p tcp -m tcp --dport 873 -m owner ! --uid-owner 0 -j REJECT --reject-with tcp-reset"
    for name, mount, there in (("app1", "sync", True), ("static1", "sync", True), ("app1", "nfs", False),
                               ("files1", "sync", False), ("edge1", "sync", False)):  # fmt: skip
        rules = loading.wanted(a_host(monkeypatch, name, mount=mount), operators=())

        assert there == (reject in rules[4].get("GATEHOUSE-OUTER", [])), name


def test_the_program_follows_what_its_list_says(monkeypatch: pytest.MonkeyPatch) -> None:
    put = contents(a_host(monkeypatch, "app1", mount="sync").after(files.follow))
    lines = [line for line in put["/etc/gatehouse/sync"].splitlines() if not line.startswith("#")]
    assert lines == ["site example.com example-com 8.4 35 example[.]com|www[.]example[.]com"]

    static = contents(a_host(monkeypatch, "static1", mount="sync").after(files.follow))
    lines = [line for line in static["/etc/gatehouse/sync"].splitlines() if not line.startswith("#")]
    assert [line.split()[:4] for line in lines] == [["site", "example.com", "example-com", "-"],
                                                    ["site", "shop.test", "shop-test", "-"]]  # fmt: skip


# ---------------------------------------------------------------------- users and trees


def test_a_user_has_the_same_number_on_every_host_that_has_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("static1", "app1", "files1"):
        users = [change for change in a_host(monkeypatch, name).after(site.users) if isinstance(change, AddUser)]
        assert ("example-com", 254280) in [(user.name, user.uid) for user in users]
    assert uid_of("example-com") == 254280
    assert uid_of("example-com") in UIDS


def test_a_user_with_another_number_and_a_number_with_another_user_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"example-com": User("example-com", 998, 998, SITE.root, "/usr/sbin/nologin")}
    with pytest.raises(Guarded, match=r"example-com has the number 998.*it is 254280") as refused:
        a_host(monkeypatch, "app1", {"users": other}).after(site.users)
    assert "usermod --uid 254280 example-com; groupmod --gid 254280 example-com" in refused.value.next_step

    taken = {"eve": User("eve", 254280, 254280, "/home/eve", "/bin/bash")}
    with pytest.raises(Guarded, match=r"254280, the number of example-com, is eve's") as refused:
        a_host(monkeypatch, "app1", {"users": taken}).after(site.users)
    assert "uid: 254281" in refused.value.next_step


def test_a_tree_is_where_it_is_and_elsewhere_links_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(name: str, mount: str = "nfs") -> tuple[set[str], dict[str, str], bool]:
        changes = a_host(monkeypatch, name, mount=mount).after(site.tree)
        rooms = {change.path for change in changes if isinstance(change, MakeDirectory)}
        links = {change.path.removeprefix(SITE.root): change.target for change in changes if isinstance(change, PutLink)
                 if change.path.startswith(SITE.root)}  # fmt: skip
        return (
            {room.removeprefix(SITE.root) for room in rooms if room.startswith(SITE.root)}, links,
            any(isinstance(change, Seed) for change in changes),
        )  # fmt: skip

    afar = {f"/{name}": f"/srv/sites/example.com/{name}" for name in ("public_html", "releases", "shared")}
    assert made("files1") == ({"", "/releases", "/shared"}, {"/public_html": "releases/19700101-000000"}, True)
    assert made("app1") == ({"", "/log", "/mail", "/tmp"}, afar, False)
    assert made("static1") == ({""}, afar, False)
    assert made("app1", mount="sync") == ({"", "/log", "/mail", "/tmp", "/releases", "/shared"}, {}, False)


def test_a_tree_of_its_own_is_not_hidden_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    from .recording import a_file

    there = {f"{SITE.root}": a_file(kind="d"), f"{SITE.root}/releases": a_file(kind="d")}
    with pytest.raises(Guarded, match=r"app1 has a releases of example\.com itself, and in this fleet files1"):
        a_host(monkeypatch, "app1", {"files": there}).after(site.tree)


def test_the_first_files_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = a_host(monkeypatch, "app1", mount="sync").after(files.follow)
    assert ["get the sites' files"] == [change.label for change in changes if isinstance(change, Run)]


def test_releases_are_the_files_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    files_here(a_host(monkeypatch, "files1"), SITE, "site.releases example.com")
    with pytest.raises(Refusal, match=r"the files of example\.com are on files1") as refused:
        files_here(a_host(monkeypatch, "app1"), SITE, "site.releases example.com")
    assert "fab -H files1 site.releases example.com" in str(refused.value)
