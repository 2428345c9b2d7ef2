"""NFS without the kernel's: ganesha exports to the named host alone, as a client that is a program sees it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .lab import Lab
from .machine import Machine, Result

pytestmark = pytest.mark.demand

SITE, OWNER = "example.com", "example-com"
TREE = f"/var/www/{SITE}"


@dataclass
class Exported:
    """`files` has the tree, `reader` is named in fleet.yml, `other` is not."""

    files: Machine
    reader: Machine
    other: Machine
    directory: Path

    def nfs(self, machine: Machine, tool: str, path: str, *more: str, user: str = "root") -> Result:
        """libnfs-utils on a host: nfs-ls, nfs-cat, nfs-cp."""
        url = f"nfs://{self.files.ip}{path}?version=4&autoreconnect=0"
        return machine.exec(f"timeout 20 {shlex.join([tool, *more, url])}", user=user)


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def exported(
    request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Exported]:
    """A files host whose tree lies on a file system of the disk's own kind, and two bare hosts beside it."""
    machines = []
    try:
        for name, release, roles in (("files", request.param, ("files",)), ("reader", "trixie", ()),
                                     ("other", "trixie", ())):  # fmt: skip
            machines.append(lab.add(name, release, roles))
        directory = tmp_path_factory.mktemp("ganesha")
        (directory / "sites").mkdir()
        (directory / "sites" / f"{SITE}.yml").write_text(f"domain: {SITE}\n")
        files, reader, other = machines
        made = Exported(files, reader, other, directory)
        hosts = {"files": {"address": made.files.ip, "roles": ["files"]},
                 "reader": {"address": made.reader.ip, "roles": ["web"]}}  # fmt: skip
        lab.describe(directory, directory / "sites", hosts=hosts, files={"server": "ganesha"})
        done = made.files.fab("site.users", "site.tree", "files", directory=directory)
        assert done.returncode == 0, done.stdout + done.stderr
        for machine in (made.reader, made.other):
            machine.check("apt-get -qq update && apt-get -qq install libnfs-utils > /dev/null", timeout=300)
        yield made
    finally:
        for machine in machines:
            lab.remove(machine)


def test_the_named_host_reads_and_another_is_refused(exported: Exported) -> None:
    named = exported.nfs(exported.reader, "nfs-ls", "/var/www")
    assert named.rc == 0, named
    assert SITE in named.out

    other = exported.nfs(exported.other, "nfs-ls", "/var/www")
    assert other.rc != 0
    assert SITE not in other.out


def test_root_of_the_other_host_is_nobody(exported: Exported) -> None:
    assert exported.nfs(exported.reader, "nfs-ls", TREE).rc != 0
    exported.reader.check("echo x > /tmp/x")
    url = f"nfs://{exported.files.ip}/var/www/x?version=4"
    assert exported.reader.exec(f"timeout 20 nfs-cp /tmp/x {shlex.quote(url)}").rc != 0
    assert exported.files.exec("test -e /var/www/x").rc != 0


def test_nothing_else_answers(exported: Exported) -> None:
    heard = {(line.split()[0], line.split()[4]) for line in exported.files.check("ss -Htuln").splitlines()}
    ports = {(kind, port.replace("[::ffff:", "").replace("]", "")) for kind, port in heard}
    assert {("tcp", f"{exported.files.ip}:2049")} == {one for one in ports if one[1].endswith(":2049")}
    assert [] == [port for _, port in ports if port.endswith((":111", ":875", ":20048"))]


def test_again_nothing_changes_and_a_container_is_told_what_else_there_is(exported: Exported) -> None:
    again = exported.files.fab("files", directory=exported.directory)
    assert "0 changed" in again.stdout.splitlines()[-1], again.stdout

    mount = exported.reader.fab("files.mount", directory=exported.directory)
    assert mount.returncode == 3
    assert "files: {mount: sync}" in mount.stderr

    text = (exported.directory / "fleet.yml").read_text()
    (exported.directory / "fleet.yml").write_text(text.replace('"server": "ganesha"', '"server": "kernel"'))
    kernel = exported.files.fab("files", directory=exported.directory)
    assert kernel.returncode == 3
    assert "files: {server: ganesha}" in kernel.stderr
