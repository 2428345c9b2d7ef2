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

from .refusal import Wrong, quoted

UIDS = range(200_000, 500_000)
"""Numbers of sites' users in a fleet: above people's (login.defs), below those of containers (UIDS-GIDS.md)."""

OWNER_MAX = 32  # useradd(8): user names are at most 32 characters; MariaDB's accounts as well
_OWNER = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?")

# Users and groups of Debian's base-passwd; of systemd, udev, login and ssh; of this stack and its neighbours; of mail
# and FTP; of people and clouds. Groups count, since a site's user has a group of its own name.
_RESERVED = """
adm audio backup bin cdrom daemon dialout dip disk fax floppy games gnats irc kmem list lp mail man news nobody nogroup
operator plugdev proxy root sasl shadow src staff sudo sync sys tape tty users utmp uucp video voice www-data

avahi bluetooth chrony clock crontab dbus input kvm landscape lpadmin lxd messagebus netdev ntp polkitd rdma render
sgx ssh sshd ssl-cert systemd-coredump systemd-journal systemd-network systemd-oom systemd-resolve systemd-timesync
tcpdump uuidd

acme apache apache2 etckeeper fail2ban ganesha gatehouse haproxy httpd lego lighttpd mariadb memcache memcached mysql
nfs nginx php php-fpm postgres redis rpc rpcuser statd tomcat varnish varnishlog vcache

debian-exim debian-spamd dovecot dovenull exim ftp opendkim postdrop postfix proftpd vmail vsftpd

admin administrator ansible cloud-user debian deploy docker ec2-user git guest ops test ubuntu user vagrant
"""
RESERVED = frozenset(_RESERVED.split())


def owner_of(domain: str) -> str:
    """The user of the site `domain` (an A-label name), at most 32 characters, the same on every run."""
    slug = domain.replace("-", "--").replace(".", "-")
    if len(slug) <= OWNER_MAX and slug[0].isalpha() and not is_reserved(slug):
        return slug
    digits = f"{int.from_bytes(hashlib.sha256(domain.encode()).digest()[:8], 'big') % 10**10:010d}"
    head = slug if slug[0].isalpha() and not is_reserved(slug) else "s" + slug
    return f"{head[: OWNER_MAX - 11].rstrip('-')}-{digits}"


def uid_of(owner: str) -> int:
    """The number of the user `owner`: several hosts must have the same one, since NFS knows users by number alone."""
    return UIDS[int.from_bytes(hashlib.sha256(owner.encode()).digest()[:8], "big") % len(UIDS)]


def owner(text: str) -> str:
    """A user name given by hand. Raises Wrong."""
    if not _OWNER.fullmatch(text):
        raise Wrong(
            f"must be a user name, not {quoted(text)}: a letter, then letters, digits and hyphens, none at the end, "
            f"all lower case, at most {OWNER_MAX}"
        )
    if is_reserved(text):
        raise Wrong(f"{text} is a user or group of Debian or of this stack; leave the key out for a derived one")
    return text


def is_reserved(name: str) -> bool:
    """Whether `name` belongs to the system, now or after the next package."""
    return name in RESERVED or name.startswith("systemd-")
