"""
The system user a site runs as: derived from its domain, one to one, stable, a valid Debian user name.

`.` becomes `-` and `-` becomes `--`. A label never begins or ends with a hyphen, so a run of one hyphen was a dot and
every longer run was hyphens: `a-b.c` is `a--b-c`, `a.b-c` is `a-b--c`, and no two domains meet. Where the
result is too long, begins with a digit or is taken, a readable head and ten digits of the domain's SHA-256 stand
in; a top-level domain is never all digits, so the two forms cannot meet either.
"""

from __future__ import annotations

import hashlib
import re

from .refusal import Wrong

OWNER_MAX = 32  # useradd(8): user names are at most 32 characters; MariaDB's accounts as well
_OWNER = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?")

# Users and groups of Debian itself (base-passwd), of the packages this runbook installs, and of its operators.
# Groups count: a site's user has a group of its own name.
RESERVED = frozenset(
    # base-passwd, users and groups
    "root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody nogroup adm tty "
    "disk kmem dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl plugdev staff "
    "users "
    # systemd, udev, login, ssh and apt
    "input sgx render kvm crontab netdev messagebus polkitd sshd ssh ntp chrony tcpdump landscape uuidd dbus avahi lxd "
    "systemd-network systemd-resolve systemd-timesync systemd-coredump systemd-journal systemd-oom ssl-cert "
    # the stack
    "haproxy varnish vcache varnishlog apache apache2 httpd nginx php php-fpm redis memcache memcached mysql mariadb "
    "postgres lego acme gatehouse fail2ban etckeeper nfs statd rpc rpcuser ganesha tomcat lighttpd "
    # mail and FTP
    "postfix postdrop dovecot dovenull exim debian-exim vmail ftp proftpd vsftpd opendkim debian-spamd "
    # people and clouds
    "ops admin administrator debian ubuntu ansible deploy docker git guest test user vagrant ec2-user cloud-user".split()
)


def owner_of(domain: str) -> str:
    """The user of the site `domain` (an A-label name), at most 32 characters, the same on every run."""
    slug = domain.replace("-", "--").replace(".", "-")
    if len(slug) <= OWNER_MAX and slug[0].isalpha() and not is_reserved(slug):
        return slug
    digits = f"{int.from_bytes(hashlib.sha256(domain.encode()).digest()[:8], 'big') % 10**10:010d}"
    head = slug if slug[0].isalpha() else "s" + slug
    return f"{head[: OWNER_MAX - 11].rstrip('-')}-{digits}"


def owner(text: str) -> str:
    """A user name given by hand. Raises Wrong."""
    if not _OWNER.fullmatch(text):
        raise Wrong(
            f'"{text}" is not a user name: lower-case letters, digits and hyphens, a letter first, no hyphen '
            f"last, at most {OWNER_MAX}"
            if text.isprintable()
            else "is not a user name"
        )
    if is_reserved(text):
        raise Wrong(f'"{text}" is a user or group of Debian or of this stack; leave the key out for a derived one')
    return text


def is_reserved(name: str) -> bool:
    """Whether `name` belongs to the system, now or after the next package."""
    return name in RESERVED or name.startswith("systemd-")
