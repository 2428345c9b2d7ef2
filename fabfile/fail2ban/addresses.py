"""An address that was typed, and where it is looked for."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from ..engine import Guarded, Host, Problem, StepFailed
from ..model import Refusal

Address = IPv4Address | IPv6Address


def address_of(text: str) -> Address:
    """The address that was typed; raises Refusal when it is none.  IPv4 within IPv6 is taken as what it is."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        raise Refusal(f"{text!r} is not an address\n  for example:  203.0.113.7 or 2001:db8::7") from None
    if isinstance(address, IPv6Address):
        if address.scope_id:
            raise Refusal(f"{text!r} has a zone; fail2ban knows addresses without one")
        return address.ipv4_mapped or address
    return address


def never_ours(host: Host, address: Address) -> None:
    """Raises Guarded for an operator's address, one of this host's, and one of the fleet's."""
    own = [*host.operators, *host.facts.addresses, "127.0.0.0/8", "::1"]
    own += [str(machine.address) for machine in host.fleet.hosts.values() if machine.address]
    if any(address in network for network in map(ip_network, own)):
        raise Guarded(f"{address} is an operator's address or one of our own hosts': not banned")


def row_key(address: Address) -> str:
    """Under which key HAProxy counts it: an IPv4 address, or the /64 of an IPv6 one."""
    if address.version == 4:
        return f"::ffff:{address}"
    return str(ip_network((int(address) >> 64 << 64, 64)).network_address)


def asked(host: Host, question: str, *args: str) -> str:
    """Ask fail2ban; raises Problem when it does not answer."""
    try:
        return host.ask("set -e\n" + question, *args)
    except StepFailed as error:
        raise Problem(
            f"fail2ban on {host.name} gives no answer", f"fab -H {host.name} fail2ban", error.details
        ) from None
