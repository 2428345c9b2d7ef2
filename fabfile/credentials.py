"""Credentials: a site's passwords for what other hosts do for it, its database and its cache; made and kept here.

(T5 VM3 and VM4)  What leaves this host is a card each: the password's digest, from which the other host knows it.
"""

from __future__ import annotations

from .engine import Host, task
from .engine.cards import CARD
from .engine.facts import File
from .model import Site

SECRETS = "/etc/gatehouse/secrets"
HANDED = "/etc/gatehouse/sites"
"""A directory a site, with what its code must know to reach what other programs keep for it."""

NEEDS = ("database", "cache")
"""Roles of other hosts that know a site by its password."""

# The card goes first, and the new one comes last: a card that is there always belongs to the password beside it, also
# after a kill or a cut of the power.  MariaDB's native digest is SHA-1 twice (mysql_native_password); Redis's SHA-256.
MAKE = r"""
secrets=$1 cards=$2 need=$3
shift 3
umask 077
for owner do
    secret=$secrets/$need/$owner card=$cards/$need-$owner
    rm -f "$card"
    sync "$cards"
    if [ "$(stat -c %a.%u.%s "$secret" 2> /dev/null)" != "600.$(id -u).64" ]; then
        od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' > "$secret.new"
        [ "$(wc -c < "$secret.new")" = 64 ] || fail "no randomness for $owner"
        sync "$secret.new"
        mv -fT "$secret.new" "$secret"
        sync "$secrets/$need"
    fi
    case $need in
        database) printf '*%s\n' "$(sha1sum < "$secret" | cut -c1-40 | tr a-f A-F | basenc -d --base16 | sha1sum |
            cut -c1-40 | tr a-f A-F)" ;;
        *) sha256sum < "$secret" | cut -c1-64 ;;
    esac > "$secret.card"
    chmod 0644 "$secret.card"
    sync "$secret.card"
    mv -fT "$secret.card" "$card"
done
"""


@task
def cards(c):
    """T5 VM3, T5 VM4: a password a site for the database and the cache that lie on other hosts, and a card of each."""
    host = Host.of(c)
    for need in NEEDS:
        if not elsewhere(host, need) and f"{SECRETS}/{need}" not in host.facts.files:
            continue
        host.directory(SECRETS, mode=0o700)
        host.directory(f"{SECRETS}/{need}", mode=0o700)
        host.directory(CARD)
        owners = [site.owner for site in host.chosen if _wants(host, site, need)]
        missing = [owner for owner in owners if not _sound(host, owner, need)]
        if missing:
            host.run(f"make {len(missing)} passwords for the {need}", MAKE, SECRETS, CARD, need, *missing)
        if not host.narrowed:
            _tidy(host, need)


def elsewhere(host: Host, need: str) -> bool:
    """Whether this host makes pages, and a host of the fleet has this role for it; that may be itself."""
    return "web" in host.fleet.roles(host.name) and host.fleet.one(need) is not None


def _wants(host: Host, site: Site, need: str) -> bool:
    return elsewhere(host, need) and bool(site.database if need == "database" else site.php)


def _sound(host: Host, owner: str, need: str) -> bool:
    """Whether the password is there, whole, was never readable by others, and has a card that was made after it."""
    secret = host.facts.files.get(f"{SECRETS}/{need}/{owner}")
    card = host.facts.files.get(f"{CARD}/{need}-{owner}")
    if not secret or not card or not whole(secret):
        return False
    return (card.mode, card.owner) == (0o644, "root") and float(card.mtime) >= float(secret.mtime)


def whole(file: File | None) -> bool:
    """Whether a password is there, whole, and was never readable by others; else it is made anew."""
    return file is not None and (file.mode, file.size, file.owner) == (0o600, 64, "root")


def _tidy(host: Host, need: str) -> None:
    """Of a site that went, all goes that is here; with its user, since until then it may come back (see php.pools)."""
    kept = {site.owner for site in host.sites if _wants(host, site, need)}
    if elsewhere(host, need):
        kept |= {name for name, user in host.facts.users.items() if user.home.startswith("/var/www/")}
    for path in (*host.facts.children(f"{SECRETS}/{need}"), *host.facts.children(CARD)):
        name = path.removeprefix(f"{SECRETS}/{need}/").removeprefix(f"{CARD}/{need}-")
        if "/" not in name and name not in kept:
            host.absent(path)


def forgotten(owner: str) -> tuple[str, ...]:
    """What goes with a site that is removed."""
    return tuple(path for need in NEEDS for path in (f"{CARD}/{need}-{owner}", f"{SECRETS}/{need}/{owner}"))


STEPS = (cards,)
