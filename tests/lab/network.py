"""The lab's networks: bridges with IPv4 and IPv6 of their own, beside whatever this machine is connected to."""

import contextlib
import ipaddress
import socket
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound
from docker.types import IPAMConfig, IPAMPool

from .errors import LabError

Subnets = tuple[ipaddress.IPv4Network, ipaddress.IPv6Network]


def ensure(
    client: docker.DockerClient, name: str, seed: int, labels: dict[str, str], *, internal: bool = False
) -> None:
    """Make the bridge `name` unless it is there: a /24 of 10.0.0.0/8 and a /64 of fd00::/8, both derived from `seed`.

    `internal`: nothing leads into it or out of it; it has no IPv6, which Docker would route. A /24 that another network
    has, or that this machine is in, is passed over. Raises LabError when none is free.
    """
    with contextlib.suppress(NotFound):
        client.networks.get(name)
        return
    six = ipaddress.IPv6Network((0xFD << 120 | (seed % 2**56) << 64, 64))
    for attempt in range(64):
        four = ipaddress.IPv4Network((10 << 24 | (seed + attempt) % 2**16 << 8, 24))
        if any(address in four for address in _addresses_in_use()):
            continue
        wanted = (four,) if internal else (four, six)
        pools = [IPAMPool(subnet=str(subnet), gateway=str(subnet[1])) for subnet in wanted]
        try:
            client.networks.create(
                name, driver="bridge", enable_ipv6=not internal, ipam=IPAMConfig(pool_configs=pools), labels=labels,
                internal=internal, options={"com.docker.network.driver.mtu": str(_uplink_mtu())},
            )
        except APIError as error:
            if "overlap" not in str(error):
                raise
        else:
            return
    raise LabError("found no free /24 in 10.0.0.0/8 for the lab's network")


def subnets(network: Any) -> Subnets:
    """The IPv4 and the IPv6 subnet of a network that `ensure` made."""
    four, six = sorted((pool["Subnet"] for pool in network.attrs["IPAM"]["Config"]), key=lambda subnet: ":" in subnet)
    return ipaddress.IPv4Network(four), ipaddress.IPv6Network(six)


def internal_subnet(network: Any) -> ipaddress.IPv4Network:
    """The one subnet of an internal network that `ensure` made."""
    (pool,) = network.attrs["IPAM"]["Config"]
    return ipaddress.IPv4Network(pool["Subnet"])


def _addresses_in_use() -> list[ipaddress.IPv4Address]:
    """Where this machine is, and whom it asks for names: the lab must not lie on top of either."""
    words = Path("/etc/resolv.conf").read_text().split()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; the kernel picks the address of the way out
        words.append(probe.getsockname()[0])
    found = []
    for word in words:
        with contextlib.suppress(ValueError):
            found.append(ipaddress.IPv4Address(word))
    return found


def _uplink_mtu() -> int:
    """Bytes in a packet on the way out of this machine: a bridge with more loses the large ones."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        interface, destination, *_ = line.split()
        if destination == "00000000":
            return int((Path("/sys/class/net") / interface / "mtu").read_text())
    return 1500
