"""The images that lab hosts are started from: Debian as a provider hands it out, made from Debian's own packages.

mmdebstrap(1) makes each root file system, Docker imports it. The mirror is the one this machine's apt uses. An image is
made once for each content: its tag holds a digest of this recipe, so an edited recipe makes a new one.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import ImageNotFound

from .errors import LabError

REPOSITORY = "gatehouse-lab"
RECIPE = Path(__file__).parent / "image"

# What every provider's Debian has. Nothing that the product installs may be in here.
SERVER = ("systemd", "systemd-sysv", "libpam-systemd", "dbus", "openssh-server", "sudo", "ca-certificates", "netbase",
          "iproute2", "procps")

# The CA host's daemons, and what a stranger on the Internet would bring along.
TOOLS = (*SERVER, "pebble", "dnsmasq-base", "nginx", "curl", "openssl", "nmap", "ncat", "openssh-client", "sshpass",
         "nghttp2-client", "wrk", "slowhttptest", "python3", "iptables")


# A server with a kernel of its own, as the images of Debian's cloud team are; and what runs it as a virtual machine.
KERNEL = ("linux-image-cloud-amd64", "grub-pc", "initramfs-tools")
EMULATOR = ("qemu-system-x86", "qemu-utils", "e2fsprogs", "libarchive13t64", "fdisk", "iproute2", "python3-minimal",
            "procps")


@dataclass(frozen=True)
class Image:
    """One image: the Debian release it is, its packages, the directory of files laid over it, the units to enable.

    `disk` is what lies in it as the disk of a virtual machine.
    """

    name: str
    suite: str
    packages: tuple[str, ...]
    overlay: Path | None = None
    units: tuple[str, ...] = ()
    disk: "Image | None" = None

    @property
    def tag(self) -> str:
        """`gatehouse-lab:<name>-<digest>`; the digest covers the recipe, not the day's package versions."""
        digest = hashlib.sha256(repr((self.suite, self.packages, self.disk and self.disk.tag)).encode())
        overlay = sorted(path for path in self.overlay.rglob("*") if path.is_file()) if self.overlay else []
        for path in (Path(__file__), RECIPE / "lab-init", *overlay):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return f"{REPOSITORY}:{self.name}-{digest.hexdigest()[:12]}"


TRIXIE = Image("trixie", "trixie", SERVER)
BOOKWORM = Image("bookworm", "bookworm", SERVER)
TOOLBOX = Image("tools", "trixie", TOOLS, RECIPE / "tools", ("pebble", "dnsmasq", "nginx"))
MACHINE = Image("machine", "trixie", (*SERVER, *KERNEL), RECIPE / "witness", ("lab-agent", "systemd-networkd"))
WITNESS = Image("witness", "trixie", EMULATOR, RECIPE / "hypervisor", disk=MACHINE)
IMAGES = (TRIXIE, BOOKWORM, TOOLBOX)


def ensure(client: docker.DockerClient, images: tuple[Image, ...] = IMAGES) -> None:
    """Make those images that are not there yet, all at once.

    Raises LabError when mmdebstrap is missing or fails; its own last lines are in the message.
    """
    with (RECIPE / "lab-init").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second lab waits, and then finds them
        _make_missing(client, images)


def _make_missing(client: docker.DockerClient, images: tuple[Image, ...]) -> None:
    missing = [image for image in images if not _exists(client, image)]
    if not missing:
        return
    if not shutil.which("mmdebstrap"):
        raise LabError("mmdebstrap is missing (apt-get install mmdebstrap; scripts/demo and scripts/test do it)")
    names = ", ".join(image.name for image in missing)
    print(f"making the images {names} from Debian's packages: once, about a minute", file=sys.stderr, flush=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda image: _make(client, image), missing))


def machine_apt_options() -> tuple[str, ...]:
    """How this machine's apt judges dates, and its proxy: the hosts of its lab have the same clock and the same net."""
    dump = subprocess.run(
        ["apt-config", "dump", "Acquire::Check-Date", "Acquire::Check-Valid-Until", "Acquire::http::Proxy"],
        capture_output=True, text=True, check=True,
    )
    return tuple(line for line in dump.stdout.splitlines() if not line.endswith('"";'))


def _exists(client: docker.DockerClient, image: Image) -> bool:
    try:
        client.images.get(image.tag)
    except ImageNotFound:
        return False
    return True


def _make(client: docker.DockerClient, image: Image) -> None:
    with tempfile.TemporaryDirectory(prefix="gatehouse-image-") as directory:
        tarball = Path(directory) / "root.tar"
        hooks = []
        if image.disk:
            disk = Path(directory) / "disk.tar"
            _mmdebstrap(image.disk, disk, _bootable())
            hooks = [f'upload "{disk}" /disk.tar', 'chroot "$1" install -d /var/lib/witness',
                     'chroot "$1" lab-disk /disk.tar']
        _mmdebstrap(image, tarball, hooks)
        client.api.import_image_from_file(
            str(tarball), repository=REPOSITORY, tag=image.tag.partition(":")[2],
            changes=['ENTRYPOINT ["/lab-init"]', "ENV container=docker"],
        )
    # The short tag is for people: `docker run gatehouse-lab:trixie`.
    client.images.get(image.tag).tag(REPOSITORY, image.name)


def _bootable() -> list[str]:
    """What makes a root file system one that lab-disk can put on a disk and GRUB can start."""
    modules = "/usr/lib/grub/i386-pc"
    core = "grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o /boot/grub/i386-pc/core.img biosdisk part_msdos ext2"
    start = "insmod linux\\nlinux /vmlinuz root=LABEL=root ro console=ttyS0\\ninitrd /initrd.img\\nboot\\n"
    return [
        f'chroot "$1" sh -c "mkdir -p /boot/grub/i386-pc; cp {modules}/*.mod {modules}/*.lst {modules}/boot.img '
        f'/boot/grub/i386-pc; {core}"',
        # For the first start; then update-grub writes its own, as it can ask the disk.
        f'printf "{start}" >"$1/boot/grub/grub.cfg"',
        'echo "LABEL=root / ext4 errors=remount-ro 0 1" >"$1/etc/fstab"',
    ]


def _mmdebstrap(image: Image, tarball: Path, more: list[str]) -> None:
    hooks = [
        f'copy-in "{RECIPE / "lab-init"}" /',
        'chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 ops',
        'install -d -m 0700 -o 1000 -g 1000 "$1/home/ops/.ssh"',
        'mkdir -p "$1/etc/sudoers.d"',
        'echo "ops ALL=(ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/ops" && chmod 0440 "$1/etc/sudoers.d/ops"',
        # Each host makes its own identity at its first start (lab-init).
        'rm -f "$1"/etc/ssh/ssh_host_* "$1/var/lib/dbus/machine-id" && : >"$1/etc/machine-id"',
        # A lab host need not survive a power cut; without this, half of an install is waiting for the disk.
        'echo force-unsafe-io >"$1/etc/dpkg/dpkg.cfg.d/lab"',
        'rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
    ]
    if image.overlay:
        hooks += [f'sync-in "{image.overlay}" /']
    if image.units:
        hooks += [f'chroot "$1" systemctl enable {" ".join(image.units)}']
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(image.packages)}"]
    command += [f"--aptopt={option.removesuffix(';')}" for option in machine_apt_options()]
    # GRUB is not to look for disks while its package is unpacked: lab-disk puts it in place.
    answer = "grub-pc grub-pc/install_devices_empty boolean true"
    command += [f"--essential-hook=echo {answer} | chroot \"$1\" debconf-set-selections"]
    command += [f"--customize-hook={hook}" for hook in (*hooks, *more)]
    command += [image.suite, str(tarball), *_sources(image.suite)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-12:])
        raise LabError(f"mmdebstrap could not make the image {image.name}:\n{last}")


def _sources(suite: str) -> Iterator[str]:
    """The apt lines of a suite, with its updates and security, on the mirrors that this machine's apt uses.

    Yields nothing on a machine that is not Debian: mmdebstrap then takes Debian's own default mirrors.
    Raises LabError when this is Debian but apt has no package lists yet (they tell which mirror is whose).
    """
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL) $(SITE)", "Created-By: Packages"],
        capture_output=True, text=True, check=True,
    )
    sites = dict(line.split(" ", 1) for line in listing.stdout.splitlines())
    if "Debian" in sites and "Debian-Security" in sites:
        yield f"deb {sites['Debian']} {suite} main"
        yield f"deb {sites['Debian']} {suite}-updates main"
        yield f"deb {sites['Debian-Security']} {suite}-security main"
    elif "ID=debian" in Path("/etc/os-release").read_text().splitlines():
        raise LabError("apt does not know its mirrors yet: run `apt-get update` once")
