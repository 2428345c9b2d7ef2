"""A lab: the hosts of one directory, brought up, described and taken away.

The directory holds what a person needs to use it (`fab -S DIRECTORY/ssh_config -H vps bootstrap`). Which hosts there
are is asked of Docker each time, by label, so nothing gets out of step. Two directories are two labs, side by side.
"""

import contextlib
import fcntl
import hashlib
import ipaddress
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import docker
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from docker.errors import APIError, DockerException, NotFound

from . import image, network, split, witness
from .authority import Authority
from .errors import LabError
from .machine import CHECKOUT, Machine, Stranger, server_options
from .witness import Witness

LABEL = "gatehouse.lab"
PACKAGES = "gatehouse-lab-packages"  # the volume in which the package depot of every lab keeps what it fetched

# Hosts with a place of their own in both subnets; those that a test adds get the next free one from ADDED on.
PLACES = {"ca": 2, "vps": 10, "vps12": 12, "witness": 14, "twin": 16, "stranger": 20}
VIRTUAL = ("witness", "twin")
ADDED = 30
FIRST = "vps"  # the host to which the sites' names point at the beginning; a fleet's edge has its place
SERVERS = {"vps": image.TRIXIE, "vps12": image.BOOKWORM}
RELEASES = {each.suite: each for each in SERVERS.values()}


class Source(Protocol):
    """What a host is made of: an image, and the Debian release in it."""

    @property
    def tag(self) -> str: ...
    @property
    def suite(self) -> str: ...


@dataclass(frozen=True)
class Picture:
    """A host as it was, as an image."""

    tag: str
    suite: str


class Lab:
    """The lab of a directory; nothing is started before `up()`. Its servers are two, or a `fleet`'s (split.py)."""

    def __init__(self, directory: Path | None = None, fleet: str = "") -> None:
        self.directory = (directory or CHECKOUT / ".lab").resolve()
        self.hosts = split.hosts(fleet) if fleet else dict.fromkeys(SERVERS, ())
        self.fleet = fleet
        digest = hashlib.sha256(str(self.directory).encode()).hexdigest()
        self.name = f"gatehouse-{digest[:8]}"
        self._seed = int(digest[8:24], 16)
        self._mine = {LABEL: self.name}

    def with_fleet(self, fleet: str) -> "Lab":
        """The lab of that fleet, beside this one. Raises LabError when there is no such fleet."""
        return Lab(self.directory / fleet, fleet)

    @property
    def fleets(self) -> "list[Lab]":
        """The labs of the fleets beside this one, as far as they were brought up."""
        return [self.with_fleet(fleet) for fleet in split.FLEETS if (self.directory / fleet / "key").exists()]

    # Coming and going

    def up(self) -> None:
        """Bring the lab up, or what is missing of it: images, networks, CA host, `stranger`, and the servers.

        Those are `vps` and `vps12`, or the fleet's hosts, bare.

        Raises LabError when this machine cannot: no Docker Engine, no mmdebstrap, a host that does not start.
        """
        with self._alone():
            image.ensure(self._docker)
            _allow_many_systemds()
            network.ensure(self._docker, self.name, self._seed, self._mine)
            if self.fleet:
                network.ensure(self._docker, self._inside, self._seed + 1, self._mine, internal=True)
            if not (self.directory / "key").exists():
                for container in self._containers():  # of a directory that was deleted: nobody has their key any more
                    _discard(container)
            self._make_key()
            self._start("ca", image.TOOLBOX).wait()
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda name: self._start(name, SERVERS.get(name, image.TRIXIE)).wait(), self.hosts))
            self.authority.fetch_root()
            self._start("stranger", image.TOOLBOX)
            self.stranger.trust(self.ca_bundle.read_bytes())
            self.describe()

    def down(self, *, everything: bool = False) -> None:
        """Take the lab away: hosts, network, its files. `everything`: the kept packages and the images too."""
        with self._alone():
            with ThreadPoolExecutor() as pool:
                list(pool.map(_discard, self._containers()))
            for name in (self.name, self._inside):
                self._abandon(name)
            for name in ("ssh_config", "known_hosts", "fleet.yml", "key", "key.pub"):
                (self.directory / name).unlink(missing_ok=True)
            shutil.rmtree(self.directory / "ca", ignore_errors=True)
            if everything:
                self._forget_downloads()

    def _abandon(self, name: str) -> None:
        """Remove a network.  Docker may count hosts in it that are gone, until it starts anew; `up` takes it so."""
        with contextlib.suppress(NotFound):
            left = self._docker.networks.get(name)
            try:
                left.remove()
            except APIError as error:
                if "has active endpoints" not in str(error) or left.attrs["Containers"]:
                    raise

    def status(self) -> list[dict[str, str]]:
        """A row a host: name, release, state (Docker's word: `running`, `exited`, ...), addresses.

        `inside` is the one in a fleet's inside network.
        """
        rows = [
            {"fleet": self.fleet, "host": machine.name, "release": machine.release, "state": machine.container.status,
             "ipv4": machine.ip, "ipv6": machine.ip6, "inside": machine.inside}
            for machine in map(self._known, self._containers())
        ]
        return sorted(rows, key=lambda row: int(ipaddress.ip_address(row["ipv4"])))

    # Hosts

    def machine(self, name: str) -> Machine:
        """The host of that name. Raises LabError when the lab has none."""
        try:
            return self._known(self._docker.containers.get(f"{self.name}-{name}"))
        except NotFound:
            raise LabError(f"the lab has no host {name}; `inv lab.up` brings up {', '.join(self.hosts)}") from None

    @property
    def servers(self) -> list[Machine]:
        """Every running server of the lab; the CA and the stranger are none."""
        running = [self._known(each) for each in self._containers() if each.status == "running"]
        running.sort(key=lambda machine: int(ipaddress.ip_address(machine.inside or machine.ip)))
        return [machine for machine in running if machine.name not in ("ca", "stranger")]

    @property
    def stranger(self) -> Stranger:
        """The client on the Internet."""
        machine = self.machine("stranger")
        return Stranger(**vars(machine))

    @property
    def authority(self) -> Authority:
        """The CA host: Pebble, the lab's DNS, the package depot."""
        return Authority(self.machine("ca"), self.directory / "ca")

    @property
    def ca_bundle(self) -> Path:
        """PEM file with the root that Pebble issues from: what verifies the sites."""
        return self.authority.bundle

    def add(self, name: str, release: str = "trixie", roles: tuple[str, ...] = ()) -> Machine:
        """Start one more bare server, `trixie` or `bookworm`, and write it into the lab's files.

        In a fleet with the roles it shall have, which say in what network it stands; else only for what `files` brings.
        """
        if self.fleet and not roles:
            raise LabError(f"{name}: a host of a fleet needs its roles, such as app")
        machine = self._start(name, RELEASES[release], roles)
        machine.wait()
        self.describe()
        return machine

    def remove(self, machine: Machine) -> None:
        """Take a server away that `add` made."""
        _discard(machine.container)
        self.describe()

    @contextlib.contextmanager
    def picture(self, machine: Machine) -> Iterator[Picture]:
        """The host is stopped; what it was can be had again and again (`copies`), until the end."""
        machine.container.stop(timeout=60)
        tag = machine.container.commit(repository=image.REPOSITORY, tag=f"{self.name}-{machine.name}").tags[0]
        try:
            yield Picture(tag, machine.release)
        finally:
            self._docker.images.remove(tag, force=True)

    def copies(self, picture: Picture, names: Iterable[str]) -> list[Machine]:
        """Hosts like that one, one after another, as each start is hard work; up when this returns."""
        started = []
        for name in names:
            started.append(self._start(name, picture))
            started[-1].wait(180)
        self.describe()
        return started

    @contextlib.contextmanager
    def adding(self) -> Iterator[Callable[..., Machine]]:
        """Gives what starts bare servers: `start()`, `start("bookworm")`; up within seconds, and gone at the end."""
        started: list[Machine] = []

        def start(release: str = "trixie") -> Machine:
            taken = {machine.name for machine in self.servers}
            name = next(name for number in itertools.count(1) if (name := f"bare{number}") not in taken)
            started.append(self.add(name, release))
            return started[-1]

        try:
            yield start
        finally:
            for machine in started:
                self.remove(machine)

    def witness(self, name: str = "witness") -> Witness:
        """The virtual machine, or its `twin`, made and started when it is not there: that takes minutes."""
        with self._alone():
            image.ensure(self._docker, (image.WITNESS,))
            machine = self._start(name, image.WITNESS)
            assert isinstance(machine, Witness)
            four, six = self._subnets
            machine.equip((self.directory / "key.pub").read_bytes(), _apt_configuration(), str(four[PLACES["ca"]]),
                          (str(four[1]), str(six[1])))
        machine.wait()
        self.describe()
        return machine

    # Names

    def resolve(self, name: str, machine: Machine | None) -> None:
        """Let `name` and every name below it point to that host, over IPv4 and IPv6; None: to nothing at all."""
        self.authority.resolve(name, machine)

    def point(self, machine: Machine) -> None:
        """Let example.com, *.test and the other names reserved for such uses point to that host."""
        self.authority.point(machine)

    @contextlib.contextmanager
    def pointing(self, machine: Machine) -> Iterator[None]:
        """The same for a while, as when the sites move there; the names' former answers come back."""
        former = self.authority.names
        self.point(machine)
        try:
            yield
        finally:
            self.authority.set_names(former)

    # What a person and fab read

    def describe(self, directory: Path | None = None, sites: Path | None = None, **fleet: Any) -> Path:
        """Write ssh_config, known_hosts and fleet.yml for the running servers; returns the directory they are in.

        One logs in to a host inside through the edge, and knows the keys of both (ProxyJump). A test with sites of its
        own gives a directory and theirs, and lets `Machine.fab` use it. `fleet` adds keys to fleet.yml or replaces
        them.
        """
        target = directory or self.directory
        target.mkdir(parents=True, exist_ok=True)
        machines = self.servers
        (target / "known_hosts").write_text("".join(_known_hosts(machine) for machine in machines))
        (target / "ssh_config").write_text("".join(
            f"Host {machine.name}\n    HostName {machine.ip}\n    User ops\n"
            f'    IdentityFile "{self.directory}/key"\n    IdentitiesOnly yes\n'
            f'    UserKnownHostsFile "{target}/known_hosts"\n'
            f"    StrictHostKeyChecking yes\n{_jump(machine, machines)}\n"
            for machine in machines
        ))
        content = {
            "acme": {
                "directory": "https://ca:14000/dir",
                "ca_bundle": str(self.authority.acme_root),
                "email": "webmaster@example.com",
            },
            "operators": [str(subnet[1]) for subnet in self._subnets],
            "sites": str(sites or self._sites(target)),
            "hosts": {machine.name: {"roles": ["web"]} for machine in machines},
        }
        if self.fleet:
            content |= split.SETTINGS[self.fleet]
            content["hosts"] = {each.name: {"address": each.inside, "roles": each.roles} for each in machines}
        text = f"# Written by the lab. JSON is YAML too.\n{json.dumps(content | fleet, indent=2)}\n"
        (target / "fleet.yml").write_text(text)
        return target

    def _sites(self, target: Path) -> Path:
        """The sites beside the files, else the lab's own, where tests put some, else the checkout's."""
        places = (directory / "sites" for directory in (target, self.directory))
        return next((place for place in places if place.is_dir()), CHECKOUT / "sites")

    # Docker

    @cached_property
    def _docker(self) -> docker.DockerClient:
        try:
            return docker.from_env(timeout=180, max_pool_size=32)
        except DockerException as error:
            raise LabError(f"no Docker Engine answers; scripts/demo and scripts/test start one ({error})") from None

    def _containers(self) -> list[Any]:
        return list(self._docker.containers.list(all=True, filters={"label": f"{LABEL}={self.name}"}))

    @property
    def _subnets(self) -> network.Subnets:
        return network.subnets(self._docker.networks.get(self.name))

    @property
    def _inside(self) -> str:
        """The name of a fleet's inside network."""
        return f"{self.name}-inside"

    def _known(self, container: Any) -> Machine:
        keys = ("host", "release", "ipv4", "ipv6", "inside", "roles")
        name, release, ip, ip6, inside, roles = (container.labels.get(f"{LABEL}.{key}", "") for key in keys)
        kind = Witness if name in VIRTUAL else Machine
        return kind(name, release, ip, ip6, container, self.directory, inside, tuple(roles.split()))

    def _start(self, name: str, made_of: Source, roles: tuple[str, ...] = ()) -> Machine:
        """The host of that name, made when it is not there, started when it is stopped."""
        try:
            container = self._docker.containers.get(f"{self.name}-{name}")
        except NotFound:
            container = self._create(name, made_of, roles or self.hosts.get(name, ()))
        if container.status != "running":
            container.start()
            container.reload()
        return self._known(container)

    def _create(self, name: str, made_of: Source, roles: tuple[str, ...]) -> Any:
        place, net, inside = self._place(name), self.name, ""
        four, six = self._subnets
        ipv4, ipv6, dns = str(four[place]), str(six[place]), [str(four[PLACES["ca"]])]
        if self.fleet and name != "stranger":
            subnet = network.internal_subnet(self._docker.networks.get(self._inside))
            inside = str(subnet[place])
        if inside and roles and not split.is_outside(roles):
            net, ipv4, ipv6, dns = self._inside, inside, "", [str(subnet[PLACES["ca"]])]
        options: dict[str, Any] = server_options() | {"dns": dns} | split.options(roles)
        if name == "ca":
            options |= {"dns": None, "volumes": {PACKAGES: {"bind": "/var/cache/packages"}}}
        elif name == "stranger":
            options = {"dns": dns, "entrypoint": ["sleep", "infinity"], "init": True, "cap_add": ["NET_ADMIN"]}
        elif name in VIRTUAL:
            options = witness.options()
        endpoint = self._docker.api.create_endpoint_config(aliases=[name], ipv4_address=ipv4, ipv6_address=ipv6 or None)
        labels = {"host": name, "release": made_of.suite, "ipv4": ipv4, "ipv6": ipv6, "inside": inside,
                  "roles": " ".join(roles)}
        container = self._docker.containers.create(
            made_of.tag, name=f"{self.name}-{name}", hostname=name, network=net, networking_config={net: endpoint},
            labels=self._mine | {f"{LABEL}.{key}": value for key, value in labels.items()}, **options,
        )
        if inside not in ("", ipv4):
            self._docker.networks.get(self._inside).connect(container, aliases=[name], ipv4_address=inside)
        if name in VIRTUAL:
            return container  # it is equipped once it runs
        machine = self._known(container)
        machine.put({"/etc/apt/apt.conf.d/01lab": _apt_configuration()})
        if name == "ca":
            Authority(machine, self.directory / "ca").equip(str(four[PLACES[FIRST]]), str(six[PLACES[FIRST]]))
        elif made_of is not image.TOOLBOX:
            machine.put({"/home/ops/.ssh/authorized_keys": (self.directory / "key.pub").read_bytes()}, 0o600, 1000)
            split.equip(machine)
        return container

    def _place(self, name: str) -> int:
        """A host's number in every subnet that it is in: as agreed, in a fleet by its order, else the next free one."""
        if name in PLACES:
            return PLACES[name]
        if name in self.hosts:
            return PLACES[FIRST] + [*self.hosts].index(name)
        taken = {int(ipaddress.ip_address(each.labels[f"{LABEL}.ipv4"])) % 256 for each in self._containers()}
        return next(place for place in range(ADDED, 250) if place not in taken)

    def _forget_downloads(self) -> None:
        """Remove the kept packages and the images, unless another lab uses them."""
        with contextlib.suppress(APIError):
            self._docker.volumes.get(PACKAGES).remove()
        used = {each.attrs["Image"] for each in self._docker.containers.list(all=True)}
        for each in self._docker.images.list(name=image.REPOSITORY):
            if each.id not in used:
                self._docker.images.remove(each.id, force=True)

    def _make_key(self) -> None:
        """The operator's key pair, for this lab alone."""
        path = self.directory / "key"
        if path.exists():
            return
        key = Ed25519PrivateKey.generate()
        path.touch(mode=0o600)
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        path.with_suffix(".pub").write_bytes(public + b" gatehouse lab\n")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time: a second `up` or `down` of the same lab waits."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _discard(container: Any) -> None:
    """Remove a container, and the cgroups that its systemd left (see image/lab-init)."""
    with contextlib.suppress(NotFound):
        container.remove(force=True, v=True)
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            tree = Path(place) / "gatehouse" / container.id
            for directory, _, _ in os.walk(tree, topdown=False):
                with contextlib.suppress(OSError):  # not root, or the kernel is not done with it: harmless, it is empty
                    Path(directory).rmdir()
            return


def _known_hosts(machine: Machine) -> str:
    """The host's real keys, read on the host itself, for both addresses and its name."""
    keys = machine.check("cat /etc/ssh/ssh_host_*_key.pub").splitlines()
    names = ",".join(filter(None, (machine.name, machine.ip, machine.ip6)))
    return "".join(f"{names} {' '.join(key.split()[:2])}\n" for key in keys)


def _jump(machine: Machine, machines: list[Machine]) -> str:
    """The line of ssh_config that leads to a host inside, through the edge."""
    if not machine.inside or split.is_outside(machine.roles):
        return ""
    edge = next(each.name for each in machines if split.is_outside(each.roles))
    return f"    ProxyJump {edge}\n"


def _apt_configuration() -> bytes:
    """Packages come through the depot, unless this machine has a proxy of its own to go through."""
    options = image.machine_apt_options()
    if not any("http::Proxy" in option for option in options):
        options += ('Acquire::http::Proxy "http://ca:3142";', 'Acquire::https::Proxy "DIRECT";')
    return "".join(f"{option}\n" for option in options).encode()


def _allow_many_systemds() -> None:
    """Each systemd holds some inotify instances, and the kernel counts them a user: 128 are soon gone."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    with contextlib.suppress(OSError):  # only root may; a small lab runs without
        if int(limit.read_text()) < 4096:
            limit.write_text("4096")
