"""The files host: its tree goes to the hosts that fleet.yml names, and to nobody else.  (T5 VM5)"""

from __future__ import annotations

from collections.abc import Iterable

from ..engine import Guarded, Host, task
from ..model import Machine, Site

EXPORTS = "/etc/exports"
NFS = "/etc/nfs.conf.d/gatehouse.conf"
GANESHA = "/etc/ganesha/ganesha.conf"
RSYNC = "/etc/rsyncd.conf"
RSYNC_UNIT = "/etc/systemd/system/rsync.service.d/gatehouse.conf"
UNITS = "/etc/systemd/system"

UNUSED = ("rpcbind.service", "rpcbind.socket", "rpc-statd.service", "rpc-statd-notify.service", "nfs-blkmap.service")
"""What NFSv3 and block layouts need, and version 4 does not."""

KERNEL_READY = "exportfs -s | grep -q '^/var/www ' && ss -Hltn 'sport = :2049' | grep -q ."

GANESHA_READY = """busctl call org.ganesha.nfsd /org/ganesha/nfsd/ExportMgr org.ganesha.nfsd.exportmgr ShowExports |
grep -q '"/var/www"' && ss -Hltn 'sport = :2049' | grep -q ."""
"""Its unit is active also when it has nothing to export."""

RSYNC_READY = "ss -Hltn 'sport = :873' | grep -q ."


@task
def serve(c):
    """T5 VM5: /var/www for the named hosts: NFSv4 alone, or rsync's own daemon where they have a tree each.

    T5 exports to a network and to every version, with rpcbind and its helpers. Here each host is named by its address,
    static hosts may not write, root of another host is nobody, and nothing but port 2049 (or 873) is there.
    """
    host = Host.of(c)
    if not (readers := host.fleet.readers) or not host.fleet.keeps_files(host.name):
        return
    if host.fleet.files.mount == "sync":
        _rsync(host, readers)
    elif host.fleet.files.server == "ganesha":
        _ganesha(host, readers)
    else:
        _kernel(host, readers)


def _kernel(host: Host, readers: Iterable[Machine]) -> None:
    """What it may do comes first: Debian starts it as it is installed, for every version of NFS."""
    if host.facts.container:
        raise Guarded(
            f"{host.name} is a container, and the kernel that it shares has no NFS server for it",
            "in fleet.yml: files: {server: ganesha}, a server of its own; or {mount: sync}, which needs none",
        )
    version_4_alone(host)
    host.template(NFS, address=_address(host))
    host.template(EXPORTS, readers=readers)
    host.packages("nfs-kernel-server")
    host.service("nfs-server", reload_on=[EXPORTS], restart_on=[NFS], ready=KERNEL_READY)


def _ganesha(host: Host, readers: Iterable[Machine]) -> None:
    version_4_alone(host)
    host.template(GANESHA, address=_address(host), readers=readers)
    host.packages("nfs-ganesha", "nfs-ganesha-vfs")
    host.service("nfs-ganesha", restart_on=[GANESHA], ready=GANESHA_READY)


def version_4_alone(host: Host) -> None:
    """What the packages bring along for earlier versions, and start, never runs."""
    for unit in UNUSED:
        host.link(f"{UNITS}/{unit}", "/dev/null")


def _rsync(host: Host, readers: Iterable[Machine]) -> None:
    """A module a site, read as the site's own user, by the hosts that show it."""
    host.packages("rsync")
    host.template(RSYNC_UNIT)
    shown = {one: shown_by(host, one) for one in host.sites}
    host.template(RSYNC, address=_address(host), readers=readers, shown=shown)
    host.service("rsync", restart_on=[RSYNC, RSYNC_UNIT], ready=RSYNC_READY)


def shown_by(host: Host, site: Site) -> list[Machine]:
    """The other hosts that show the site."""
    webs = host.fleet.webs_of(site)
    return [one for one in host.fleet.readers if one in webs or "static" in one.roles]


def _address(host: Host) -> str:
    return str(host.fleet.machine(host.name).address)


def keeper(host: Host) -> tuple[str, str]:
    """The files host: its address, and the same as it stands before a colon."""
    machine = host.fleet.one("files")
    assert machine is not None
    assert machine.address is not None
    return str(machine.address), machine.bracketed
