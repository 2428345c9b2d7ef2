"""One host has the sites' files, another shows them: its own tree follows.  (T5 VM5 and VM2, `mount: sync`)"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import Bare
from .lab import Lab
from .machine import Machine, Result, Stranger
from .pair import bootstrapped

pytestmark = pytest.mark.demand

SITE, OWNER, TREE = "press.test", "press-test", "/var/www/press.test"
NEIGHBOUR, THEIRS = "quiet.test", "quiet-test"
KEEPS = "deploy:\n  shared: [uploads]\n  smoke: /up.php\n  before: ['echo built > built']\n"

PAGE = "<?php header('Cache-Control: max-age=600'); echo '{word} ', file_get_contents(__DIR__ . '/built');"
UP = "<?php http_response_code({code}); echo 'up';"


@dataclass
class Spread:
    """`files` has the trees; `app` is a web server that shows them."""

    files: Machine
    app: Machine
    stranger: Stranger
    directory: Path

    def fab(self, machine: Machine, *args: str) -> subprocess.CompletedProcess[str]:
        return machine.fab(*args, directory=self.directory)

    def done(self, machine: Machine, *args: str) -> str:
        """A task that must succeed: what it printed."""
        run = self.fab(machine, *args)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    def source(self, word: str, code: int = 200) -> Path:
        """An application that says `word`, and whose smoke page answers with `code`."""
        place = self.directory / f"source-{word}"
        (place / "uploads").mkdir(parents=True)
        (place / "index.php").write_text(PAGE.format(word=word))
        (place / "up.php").write_text(UP.format(code=code))
        (place / "uploads" / "first.txt").write_text("came with the release\n")
        return place

    def deploy(self, word: str, code: int = 200) -> subprocess.CompletedProcess[str]:
        return self.fab(self.files, "site.deploy", SITE, "--source", str(self.source(word, code)))

    def page(self) -> str:
        return self.stranger.curl(f"https://www.{SITE}/", to=self.app).out.strip()

    def serving(self, machine: Machine) -> str:
        return machine.check(f"readlink {TREE}/public_html").strip()

    def to_the_daemon(self, user: str, module: str) -> Result:
        """What the files host's daemon lets a user of the app host have of a module, by its own client."""
        return self.app.exec(f"timeout 10 rsync rsync://{self.files.ip}/{module}/", user=user)


@pytest.fixture(scope="module")
def spread(lab: Lab, own: Bare, stranger: Stranger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spread]:
    """A files host (Debian 12), and a web server (13) with its files from there."""
    app, files, directory = own(), own("bookworm"), tmp_path_factory.mktemp("spread")
    sites = directory / "sites"
    sites.mkdir()
    (sites / f"{SITE}.yml").write_text(f"domain: {SITE}\n{KEEPS}")
    (sites / f"{NEIGHBOUR}.yml").write_text(f"domain: {NEIGHBOUR}\nphp: false\n")
    hosts = {app.name: {"address": app.ip, "roles": ["web"]}, files.name: {"address": files.ip, "roles": ["files"]}}
    lab.describe(directory, sites, hosts=hosts, files={"mount": "sync"})
    with lab.pointing(app):
        bootstrapped(directory)
        yield Spread(files, app, stranger, directory)


def test_a_release_that_the_files_host_gets_is_shown_by_the_other_at_once(spread: Spread) -> None:
    spread.page()  # Varnish keeps it

    first = spread.deploy("one")

    assert first.returncode == 0, first.stdout + first.stderr
    assert spread.page() == "one built"
    assert spread.serving(spread.app) == spread.serving(spread.files)

    number = spread.app.check(f"id -u {OWNER}")
    assert number == spread.files.check(f"id -u {OWNER}")
    assert f"{OWNER} www-data 750" == spread.app.check(f"stat -Lc '%U %G %a' {TREE}/public_html").strip()


def test_a_release_whose_page_fails_serves_nowhere_and_the_former_one_goes_on(spread: Spread) -> None:
    before, page = spread.serving(spread.files), spread.page()

    bad = spread.deploy("bad", code=500)

    assert bad.returncode == 1
    assert "answered 500, and 200 is expected" in bad.stderr
    assert f"{before.removeprefix('releases/')} serves again" in bad.stderr
    assert before == spread.serving(spread.files) == spread.serving(spread.app)
    assert spread.page() == page


def test_a_rollback_and_what_is_gone_follow_without_a_task(spread: Spread) -> None:
    spread.deploy("former")
    former = spread.serving(spread.files)
    spread.deploy("newer")
    newer = spread.serving(spread.files)

    spread.done(spread.files, "site.rollback", SITE)
    assert spread.page() == "former built"
    assert former == spread.serving(spread.app)

    # By hand, as if the run had been cut off before the app host heard of it.
    spread.files.check(f"ln -sfn {newer} {TREE}/public_html && rm -rf {TREE}/{former} {TREE}/{former}.from")
    end = time.monotonic() + 60
    while (spread.serving(spread.app), spread.page()) != (newer, "newer built"):
        assert time.monotonic() < end, spread.app.check("journalctl -u gatehouse-sync -n 20")
        time.sleep(1)
    while spread.app.exec(f"ls -d {TREE}/{former}").rc == 0:
        assert time.monotonic() < end
        time.sleep(1)


def test_uploads_are_the_app_host_s_own_and_stay(spread: Spread) -> None:
    spread.deploy("with-uploads")
    spread.app.check(f"echo mine > {TREE}/shared/uploads/second.txt", user=OWNER)
    spread.app.check(f"rm -f {TREE}/shared/uploads/first.txt", user=OWNER)

    spread.deploy("and-another")

    assert spread.app.check(f"ls {TREE}/public_html/_app/uploads/").split() == ["second.txt"]


def test_links_that_the_site_s_user_plants_lead_nobody_anywhere(spread: Spread) -> None:
    """On the files host by a release, on the app host by a program: root reads nothing for it, and writes nothing."""
    spread.app.check("echo secret > /etc/gatehouse/a-secret && chmod 600 /etc/gatehouse/a-secret")
    spread.files.check("echo secret > /etc/gatehouse/a-secret && chmod 600 /etc/gatehouse/a-secret")
    source = spread.source("links")
    (source / "abroad").symlink_to("/etc/gatehouse")
    (source / "upwards").symlink_to("../../../../../../../../etc/gatehouse")
    now = spread.serving(spread.app)
    # What the next release is compared with, and where what is seeded would go.
    spread.app.check(f"ln -sfn /etc {TREE}/{now}/_app/abroad; ln -sfn /etc/gatehouse {TREE}/shared/.coming", user=OWNER)
    before = spread.app.check("find /etc/gatehouse -newermt '1 second' | sort; ls -laR /etc/gatehouse | sha256sum")

    spread.done(spread.files, "site.deploy", SITE, "--source", str(source))

    live = f"{TREE}/public_html/_app"
    assert spread.app.check(f"readlink {live}/abroad {live}/upwards").split() == [
        "/etc/gatehouse", "../../../../../../../../etc/gatehouse",
    ]  # fmt: skip
    assert spread.app.exec(f"grep -r secret {TREE}/", user=OWNER).rc != 0
    assert before.split()[-2:] == spread.app.check("ls -laR /etc/gatehouse | sha256sum").split()
    for machine in (spread.app, spread.files):
        machine.check("rm /etc/gatehouse/a-secret")
    spread.app.check(f"rm -f {TREE}/shared/.coming", user=OWNER)


def test_the_daemon_is_for_the_named_host_s_root_alone(spread: Spread) -> None:
    """A site's program that could ask it would get every other site's files."""
    door = f"bash -c 'exec 3<> /dev/tcp/{spread.files.ip}/873 && head -n 1 <&3'"
    assert spread.app.exec(f"timeout 10 {door}").out.startswith("@RSYNCD:")

    assert spread.app.exec(f"timeout 10 {door}", user=OWNER).rc != 0
    assert spread.to_the_daemon(OWNER, f"site-{THEIRS}").rc != 0
    assert spread.stranger.exec(f"ncat -z -w 3 {spread.files.ip} 873").rc != 0

    root = spread.to_the_daemon("root", f"site-{OWNER}")
    assert "releases" in root.out
    assert "public_html" not in root.out
    written = spread.app.exec(f"timeout 10 rsync /etc/hostname rsync://{spread.files.ip}/site-{OWNER}/releases/")
    assert "read only" in written.err
    listening = spread.files.check("ss -Hltn 'sport = :873'")
    assert re.findall(r"\S+:873\b", listening) == [f"{spread.files.ip}:873"]


def test_a_host_that_its_firewall_would_let_in_is_still_a_stranger_to_the_daemon(spread: Spread) -> None:
    rule = f"INPUT -s {spread.stranger.ip} -p tcp --dport 873 -j ACCEPT"
    spread.files.check(f"iptables -I {rule}")
    try:
        said = spread.stranger.exec(
            f"(printf '@RSYNCD: 31.0 md5\\nsite-{OWNER}\\n'; sleep 2) | ncat -w 5 {spread.files.ip} 873"
        )
        assert "@ERROR: access denied" in said.out or "Unknown module" in said.out, said
    finally:
        spread.files.check(f"iptables -D {rule}")


def test_where_the_files_are_is_said_on_the_other_host(spread: Spread) -> None:
    for task in (("site.deploy", SITE, "--source", "/tmp"), ("site.rollback", SITE), ("site.releases", SITE)):
        run = spread.fab(spread.app, *task)
        assert run.returncode == 2
        assert f"the files of {SITE} are on {spread.files.name}" in run.stdout + run.stderr
        assert f"fab -H {spread.files.name} {shlex.join(task)}" in run.stdout + run.stderr


def test_again_nothing_changes(spread: Spread) -> None:
    for machine, tasks in ((spread.files, ("site.users", "site.tree", "files")), (spread.app, ("site.apply",))):
        out = spread.done(machine, *tasks)
        assert not re.search(r" changed  ", out), out
    rows = {row["domain"]: row for row in json.loads(spread.done(spread.files, "site.list", "--json"))}
    assert rows[SITE]["state"] == "files"
    assert rows[SITE]["release"] == spread.serving(spread.app).removeprefix("releases/")
