"""NFS between two machines with kernels of their own: who may mount, what counts there, and who starts first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .lab import Lab
from .witness import Witness

pytestmark = pytest.mark.demand

SITE, OWNER = "example.com", "example-com"
TREE, SEEN = f"/var/www/{SITE}", f"/var/www/{SITE}/public_html/www/index.html"
BY_HAND = "-t nfs4 -o nfsvers=4.2,retry=0"

# Seconds in which a program hears that the files host is dead: 15 by the mount's options; the machines are slow.
PATIENCE = 90


@dataclass
class Shared:
    """`files` has the trees, `app` mounts them."""

    files: Witness
    app: Witness
    directory: Path

    def done(self, machine: Witness, *args: str) -> str:
        run = machine.fab(*args, directory=self.directory)
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    def page(self) -> str:
        """What Apache would read, as the user that it runs as."""
        return self.app.check(f"cat {SEEN}", user="www-data", timeout=PATIENCE)

    def reads_within(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while "<h1>" not in (said := self.app.exec(f"cat {SEEN}", user="www-data", timeout=PATIENCE)).out:
            assert time.monotonic() < end, said
            time.sleep(2)


@pytest.fixture(scope="module")
def shared(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Two virtual machines.  Where they cannot be made, this fails and says why: it is never skipped."""
    files, app = lab.witness(), lab.witness("twin")
    directory = tmp_path_factory.mktemp("nfs")
    (directory / "sites").mkdir()
    (directory / "sites" / f"{SITE}.yml").write_text(f"domain: {SITE}\n")
    hosts = {files.name: {"address": files.ip, "roles": ["files"]}, app.name: {"address": app.ip, "roles": ["web"]}}
    lab.describe(directory, directory / "sites", hosts=hosts)
    made = Shared(files, app, directory)
    made.done(files, "site.users", "site.tree", "files", "firewall.install")
    made.done(app, "site.users", "site.tree", "files")
    yield made
    app.exec(f"systemctl disable --now srv-sites.automount; systemctl stop srv-sites.mount; userdel {OWNER}")
    app.exec(f"rm -rf {TREE} /etc/systemd/system/srv-sites.*; systemctl daemon-reload")
    files.exec(f"systemctl disable --now nfs-server; userdel {OWNER}; rm -rf {TREE}")


def test_the_named_host_sees_what_the_files_host_has(shared: Shared) -> None:
    assert "<h1>www.example.com</h1>" in shared.page()
    mounted = shared.app.check("findmnt --noheadings --types nfs4 --output SOURCE,OPTIONS /srv/sites")
    assert mounted.startswith(f"{shared.files.ip}:/var/www ")
    for option in ("vers=4.2", "nosuid", "nodev", "noexec", "softerr", "timeo=50", "retrans=2"):
        assert option in mounted.split()[1].split(","), mounted

    shared.app.check(f"echo kept > {TREE}/shared/note", user=OWNER)
    assert "kept\n" == shared.files.check(f"cat {TREE}/shared/note")
    assert f"{OWNER}:{OWNER}" == shared.files.check(f"stat -c %U:%G {TREE}/shared/note").strip()


def test_apache_reads_through_its_groups_of_which_there_may_be_more_than_sixteen(shared: Shared) -> None:
    """AUTH_SYS has room for 16; the server asks its own list (manage-gids)."""
    many = " ".join(f"many{number}" for number in range(20))
    shared.app.check(f"for group in {many}; do groupadd -f $group; gpasswd -a www-data $group; done")
    try:
        assert "<h1>" in shared.page()
    finally:
        shared.app.check(f"for group in {many}; do groupdel $group; done")


def test_no_version_but_four_point_two_and_no_helper_answers(shared: Shared) -> None:
    listening = shared.files.check("ss -Hltun | awk '{ print $1, $5 }'").splitlines()
    own = [line for line in listening if not line.endswith(":22") and "127.0.0" not in line and "[::1]" not in line]
    assert own == [f"tcp {shared.files.ip}:2049"]
    assert 0 != shared.files.exec("systemctl is-active rpcbind.socket rpcbind.service rpc-statd.service").rc
    for version in ("3", "4.0", "4.1"):
        said = shared.app.exec(
            f"mkdir -p /tmp/old && mount -t nfs -o nolock,nfsvers={version},retry=0,soft,timeo=20,retrans=1 "
            f"{shared.files.ip}:/var/www /tmp/old", timeout=PATIENCE
        )  # fmt: skip
        assert said.rc != 0, version


def test_who_is_not_named_mounts_nothing(shared: Shared) -> None:
    """The same machine, coming from an address that fleet.yml does not name."""
    other = shared.app.ip.rpartition(".")[0] + ".199"
    source = f"ip route replace {shared.files.ip}/32 dev ens3 src"
    shared.app.check("mkdir -p /tmp/by-hand; systemctl stop srv-sites.automount srv-sites.mount; sleep 1")
    mount = f"mount {BY_HAND} {shared.files.ip}:/var/www /tmp/by-hand"
    try:
        shared.app.check(f"ip address add {other}/24 dev ens3 && {source} {other}")
        stranger = shared.app.exec(mount, timeout=PATIENCE)
        shared.app.check(f"ip route del {shared.files.ip}/32; ip address del {other}/24 dev ens3")
        named = shared.app.exec(f"{mount} && umount /tmp/by-hand", timeout=PATIENCE)
    finally:
        shared.app.exec(f"ip route del {shared.files.ip}/32; ip address del {other}/24 dev ens3; umount /tmp/by-hand")
        shared.app.check("systemctl start srv-sites.automount")

    assert named.rc == 0, named
    assert stranger.rc != 0
    assert "denied" in stranger.err or "not permitted" in stranger.err, stranger


def test_root_of_the_other_host_is_nobody(shared: Shared) -> None:
    shared.page()
    real = f"/srv/sites/{SITE}"
    assert 0 != shared.app.exec(f"ls {real}").rc  # 0750: not even that
    assert 0 != shared.app.exec(f"cat {SEEN}").rc
    assert 0 != shared.app.exec("touch /srv/sites/mine").rc
    assert 0 != shared.app.exec(f"chown root {real}/shared").rc
    # The link to what serves is root's there: whoever is root here cannot turn it.
    assert 0 != shared.app.exec(f"ln -sfn /etc {real}/public_html", user=OWNER).rc


def test_setuid_programs_and_devices_are_inert(shared: Shared) -> None:
    place = f"{TREE}/shared"
    shared.files.check(f"install -o root -m 4755 /usr/bin/id {place}/id && mknod -m 666 {place}/null c 1 3")
    try:
        run = shared.app.exec(f"{place}/id -u", user=OWNER)
        assert run.rc == 126, run
        assert "Permission denied" in run.err
        # nosuid, too, and not noexec alone: the loader is a program of this host.
        loaded = shared.app.exec(f"/lib64/ld-linux-x86-64.so.2 {place}/id -u", user=OWNER)
        assert loaded.out.strip() != "0"
        assert 0 != shared.app.exec(f"echo x > {place}/null", user=OWNER).rc
    finally:
        shared.files.check(f"rm -f {place}/id {place}/null")


def test_a_release_that_serves_there_is_seen_here_within_seconds(shared: Shared) -> None:
    shared.page()
    now = shared.files.check(f"readlink {TREE}/public_html").strip()
    other = "releases/20991231-000000"
    page = f"{TREE}/{other}/www/index.html"
    shared.files.check(f"cp -a {TREE}/{now} {TREE}/{other} && sed -i 's/<h1>.*/<h1>the next/' {page}")
    try:
        shared.files.check(f"ln -s {other} {TREE}/new && mv -fT {TREE}/new {TREE}/public_html")
        end = time.monotonic() + 30
        while "the next" not in shared.page():
            assert time.monotonic() < end
            time.sleep(0.5)
    finally:
        shared.files.check(f"ln -s {now} {TREE}/new; mv -fT {TREE}/new {TREE}/public_html; rm -rf {TREE}/{other}")


def test_a_dead_files_host_is_an_error_within_bounds_and_all_is_well_when_it_is_back(shared: Shared) -> None:
    """Dead as a machine that lost its power is: it says nothing at all."""
    shared.page()
    drop = "-p tcp --dport 2049 -j DROP"
    shared.files.check(f"iptables -I INPUT {drop}")
    try:
        shared.app.check("echo 3 > /proc/sys/vm/drop_caches")
        began = time.monotonic()
        said = shared.app.exec(f"cat {SEEN}", user="www-data", timeout=2 * PATIENCE)
        took = time.monotonic() - began
        assert said.rc not in (0, 124), said
        assert took < PATIENCE, took
        assert "" == shared.app.check("ps -eo stat=,comm= | awk '$1 ~ /^D/ && $2 == \"cat\"'")
    finally:
        shared.files.check(f"iptables -D INPUT {drop}")
    shared.reads_within(PATIENCE)


def test_looks_at_a_server_that_is_down_never_end_the_automount(shared: Shared) -> None:
    """systemd gives up a unit that fails five times within ten seconds, and with it what starts it."""
    shared.files.check("systemctl stop nfs-server")
    try:
        shared.app.check("systemctl stop srv-sites.mount")
        looks = "for look in 1 2 3 4 5 6 7 8 9; do ls /srv/sites && exit 1; done; exit 0"
        said = shared.app.exec(f"timeout 300 sh -c '{looks}'", timeout=310)
        assert said.rc == 0, said
    finally:
        shared.files.check("systemctl start nfs-server")
    shared.reads_within(PATIENCE)


def test_it_is_back_after_a_reboot_of_either_side_in_either_order(shared: Shared) -> None:
    shared.files.restart()
    shared.reads_within(PATIENCE)

    shared.app.restart()
    shared.reads_within(PATIENCE)

    # The one that mounts starts while the other is away, and somebody looks all the time.
    shared.files.container.pause()
    try:
        shared.app.restart()
        for _ in range(3):
            assert shared.app.exec(f"cat {SEEN}", user="www-data", timeout=2 * PATIENCE).rc not in (0, 124)
    finally:
        shared.files.container.unpause()
    shared.reads_within(2 * PATIENCE)


def test_again_nothing_changes(shared: Shared) -> None:
    for machine in (shared.files, shared.app):
        assert "0 changed" in shared.done(machine, "files").splitlines()[-1]
