"""
The grammars of single values. Each is a function text -> normalised value that raises Wrong, and a type made of it.

They are narrow on purpose: no accepted value has a quote, space, backslash, newline or other character that could end
a word in Apache, HAProxy, VCL, ini, cron or a shell.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from . import names, owners
from .refusal import Wrong, quoted

UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

_EMAIL_LOCAL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_+-]|\.(?!\.)){0,62}[A-Za-z0-9_+-]|[A-Za-z0-9]")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/?")
_INSIDE = re.compile(r"(?:[A-Za-z0-9_.][A-Za-z0-9._~-]*/)*[A-Za-z0-9_.][A-Za-z0-9._~-]*/?")
_COOKIE = re.compile(r"[A-Za-z0-9_-]{1,128}")
_URL = re.compile(r"https://([A-Za-z0-9.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?((?:/[A-Za-z0-9._~-]+)*/?)")
_HOST_ALIAS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


def byte_count(size: str) -> int:
    """Bytes of a PHP size such as `128M`."""
    return int(size[:-1]) * UNITS[size[-1]]


def size(low: str, high: str) -> Callable[[str], str]:
    """A check for sizes as PHP writes them (php.ini, "shorthand bytes"): a whole number and K, M or G."""

    def check(text: str) -> str:
        if not re.fullmatch(r"[1-9][0-9]{0,9}[KMGkmg]", text):
            raise Wrong(f"must be a size from {low} to {high}: a whole number and K, M or G, not {quoted(text)}")
        if not byte_count(low) <= byte_count(text.upper()) <= byte_count(high):
            raise Wrong(f"must be a size from {low} to {high}, not {text}")
        return text.upper()

    return check


def email(text: str) -> str:
    """A plain ASCII addr-spec (RFC 5322, dot-atom, without the characters that other syntaxes know)."""
    local, at, domain = text.rpartition("@")
    if not at or not _EMAIL_LOCAL.fullmatch(local) or not domain.isascii():
        raise Wrong(f"must be a plain ASCII e-mail address, not {quoted(text)}", "webmaster@example.com")
    try:
        return f"{local}@{names.host_name(domain)}"
    except Wrong as wrong:
        raise Wrong(f"must be a plain ASCII e-mail address, but {wrong.message}", "webmaster@example.com") from None


def path_prefix(text: str) -> str:
    """The beginning of a URL's path: `/admin/`."""
    if not text.startswith("/") or len(text) > 255 or not _PATH.fullmatch(text):
        raise Wrong(
            f"must be the beginning of a path: a / first, then letters, digits and . _ ~ - /, not {quoted(text)}",
            "/admin/",
        )
    if any(part in {".", ".."} for part in text.split("/")):
        raise Wrong(f"must not hold . or .. as a part of the path, as {quoted(text)} does", "/admin/")
    return text


def inside(text: str) -> str:
    """A path below a directory, without a slash at either end: `storage/uploads`."""
    parts = text.rstrip("/").split("/")
    if len(text) > 255 or not _INSIDE.fullmatch(text) or {".", ".."} & {*parts}:
        raise Wrong(
            f"must be a path inside the source: letters, digits and . _ ~ - between slashes, not {quoted(text)}",
            "storage/uploads",
        )
    return "/".join(parts)


def page(text: str) -> str:
    """The path of a page, with its query: `/health?full=1`."""
    if not re.fullmatch(r"/[A-Za-z0-9._~%&=?/+,;:@-]{0,254}", text):
        raise Wrong(f"must be the path of a page: a / first, no spaces, not {quoted(text)}", "/")
    return text


def command(text: str) -> str:
    """One line for a shell."""
    if not text.strip() or len(text) > 2000 or not text.isprintable():
        raise Wrong(f"must be one line of shell, not {quoted(text)}", "php artisan migrate --force")
    return text.strip()


def cookie_name(text: str) -> str:
    """A cookie's name: the letters of RFC 6265's token that no regular expression reads as its own."""
    if not _COOKIE.fullmatch(text):
        raise Wrong(f"must be a cookie's name: letters, digits, _ and -, not {quoted(text)}", "PHPSESSID")
    return text


def php_version(text: str) -> str:
    """`8.4`: the two numbers that Debian's package names hold."""
    if not re.fullmatch(r"[5-9]\.(?:0|[1-9][0-9]?)", text):
        raise Wrong(f"must be a PHP version of two numbers, not {quoted(text)}", "8.4")
    return text


def https_url(text: str) -> str:
    """An https URL without user, query or fragment: an ACME directory (RFC 8555 section 6.1 asks for https)."""
    match = _URL.fullmatch(text)
    if not match or len(text) > 2000 or (match[2] and not 1 <= int(match[2]) <= 65535):
        raise Wrong(f"must be an https:// URL, not {quoted(text)}", "https://acme-v02.api.letsencrypt.org/directory")
    return text


def host_alias(text: str) -> str:
    """The name of a machine, as given to -H and found in ssh_config."""
    if not _HOST_ALIAS.fullmatch(text):
        raise Wrong(f"must be a host's name as -H takes it: letters, digits and . _ -, not {quoted(text)}", "web1")
    return text


UNSERVED = frozenset(
    ("bak", "backup", "conf", "dist", "dump", "inc", "ini", "log", "old", "orig", "rej", "save", "sh", "sql", "tmp")
)
"""Endings of what Apache refuses to show as well (gatehouse.conf); all that begin with `ph` are PHP's, or may be."""


def ending(text: str) -> str:
    """How a file's name ends, without the dot: `css`."""
    if not re.fullmatch(r"[a-z0-9]{1,12}", text) or text in UNSERVED or text.startswith("ph"):
        raise Wrong(f"must be how the names of plain files end, without the dot, not {quoted(text)}", "css")
    return text


def door(text: str) -> str:
    """A port and its protocol, `8443/tcp`.  Ports that are open anyway, or between the layers, are none to open."""
    number, _, protocol = text.partition("/")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", number) or int(number) > 65535 or protocol not in ("tcp", "udp"):
        raise Wrong(f"must be a port from 1 to 65535 and /tcp or /udp, not {quoted(text)}", "8443/tcp")
    if protocol == "tcp" and int(number) in (80, 443, 6082, 8080, 8081, 8082, 8083, 8084):
        raise Wrong(f"{text} is open anyway, or between the layers, where nobody outside has business", "8443/tcp")
    return text


def network(value: Any) -> Any:
    """`203.0.113.0/24`, `2001:db8::/32` or one address. Wide ones are refused: an operator is not half the Internet."""
    if not isinstance(value, str):
        return value
    try:
        found = ipaddress.ip_network(value)
    except ValueError:
        try:
            loose = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise Wrong(f"must be an address or a CIDR network, not {quoted(value)}", "203.0.113.0/24") from None
        alone = value.partition("/")[0]
        raise Wrong(f"{value} has bits behind its prefix: is it {alone} or {loose}?", str(loose)) from None
    if found.prefixlen < (8 if found.version == 4 else 16):
        raise Wrong(f"{found} is too wide for operators: at least /8 (IPv4) or /16 (IPv6)", "203.0.113.0/24")
    return found


def address(value: Any) -> Any:
    """One address of a machine, as its neighbours reach it."""
    if not isinstance(value, str):
        return value
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        raise Wrong(f"must be one IP address, not {quoted(value)}", "10.0.0.11") from None
    if mapped := getattr(found, "ipv4_mapped", None):
        raise Wrong(f"{found} is {mapped}, written for another protocol", str(mapped))
    if found.is_loopback or found.is_multicast or found.is_unspecified or getattr(found, "scope_id", None):
        raise Wrong(f"{found} cannot be reached from another machine", "10.0.0.11")
    return found


Domain = Annotated[str, AfterValidator(names.site_domain)]
HostName = Annotated[str, AfterValidator(names.host_name)]
Subdomain = Annotated[str, AfterValidator(names.subdomain)]
Owner = Annotated[str, AfterValidator(owners.owner)]
Email = Annotated[str, AfterValidator(email)]
PathPrefix = Annotated[str, AfterValidator(path_prefix)]
InsidePath = Annotated[str, AfterValidator(inside)]
Page = Annotated[str, AfterValidator(page)]
Command = Annotated[str, AfterValidator(command)]
CookieName = Annotated[str, AfterValidator(cookie_name)]
PhpVersion = Annotated[str, AfterValidator(php_version)]
HttpsUrl = Annotated[str, AfterValidator(https_url)]
HostAlias = Annotated[str, AfterValidator(host_alias)]
Ending = Annotated[str, AfterValidator(ending)]
Door = Annotated[str, AfterValidator(door)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(network)]
Address = Annotated[IPv4Address | IPv6Address, BeforeValidator(address)]
