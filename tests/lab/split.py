"""The lab's fleets: hosts in two networks, as the tutorials draw them (T5: VM0 to VM5; T2: an API and its database).

And T3's cluster: a balancer, and seven hosts with a service of their own.

The outside has the strangers, the inside the hosts.  An edge is on both, and so is the CA host, through which those
inside have their packages: nothing else leads out of there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import LabError
from .machine import Machine

Roles = tuple[str, ...]

FLEETS: Mapping[str, Mapping[str, Roles]] = {
    "split": {
        "edge1": ("edge",),
        "static1": ("static",),
        "app1": ("app",),
        "cache1": ("cache",),
        "db1": ("database",),
        "files1": ("files",),
    },
    "api": {"api1": ("edge", "app"), "db1": ("database",)},
    "cluster": {
        "balancer": ("balancer",),
        "news": ("member",),
        "paid1": ("member",),
        "paid2": ("member",),
        "free1": ("member",),
        "free2": ("member",),
        "web1": ("member",),
        "web2": ("member",),
    },
}
"""The hosts of each fleet and their roles in its fleet.yml; the first is the edge, to which the names point."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "split": {"files": {"mount": "sync"}},
    "api": {"files": {"mount": "sync"}},
    "cluster": {
        "balancer": {
            "server_name": "www.example.com",
            # What is refused is another part's (tests/lab/waf): here strangers come by thousands, with odd paths.
            "evasive": {"enabled": False},
            "limits": {"punctuation": None},
            "routes": {
                "/news_rss": {"members": ["news"]},
                "/news_blog": {"members": ["news"]},
                "/paid_user": {"members": ["paid1"], "spares": ["paid2"]},
                "/free_user": {"members": ["free1"], "spares": ["free2"]},
                "/": {"members": ["web1", "web2"]},
            },
        },
    },
}
"""What a fleet's fleet.yml says besides: a container's kernel mounts no NFS, so a tree of each host's own it is."""

MEMBER = Path(__file__).parent / "image" / "member"
"""What runs on a member: a service that Gatehouse did not put there."""

UNIT = """\
[Unit]
Description=The owner's own service
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=/usr/local/sbin/member %s 80
Restart=no

[Install]
WantedBy=multi-user.target
"""


def hosts(fleet: str) -> Mapping[str, Roles]:
    """The hosts of that fleet.  Raises LabError when there is no such fleet."""
    if fleet not in FLEETS:
        raise LabError(f"there is no fleet {fleet}; these are: {', '.join(FLEETS)}")
    return FLEETS[fleet]


def is_outside(roles: Sequence[str]) -> bool:
    """Whether a host with these roles stands in the outside network too: visitors come to it."""
    return bool({"edge", "web", "balancer"} & {*roles})


def options(roles: Sequence[str]) -> dict[str, Any]:
    """What docker-py starts a host with these roles with, besides what every server gets."""
    found: dict[str, Any] = {}
    if "files" in roles:
        found["volumes"] = ["/var/www"]  # of the disk's own kind (ext4): ganesha exports no overlay
    if roles and not is_outside(roles):
        # The inside network has IPv4 alone, and Docker takes ::1 away with the rest. Every Debian has it.
        found["sysctls"] = {"net.ipv6.conf.all.disable_ipv6": "0"}
    return found


def equip(machine: Machine) -> None:
    """A member's own service, before its first start."""
    if "member" in machine.roles:
        machine.put({"/usr/local/sbin/member": MEMBER.read_bytes()}, 0o755)
        machine.put({"/etc/systemd/system/member.service": (UNIT % machine.inside).encode()})
        machine.link("/etc/systemd/system/multi-user.target.wants/member.service", "../member.service")
