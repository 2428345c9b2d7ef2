"""MariaDB's key and certificate, made on its host; the certificate is on its card, and app hosts believe no other."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography import x509

from ..engine import Host, task
from ..engine.cards import CARD
from .places import address, ours

PLACE = "/etc/mysql/tls"
KEY, CERTIFICATE = f"{PLACE}/gatehouse.key", f"{PLACE}/gatehouse.pem"
NAME = "database.pem"
"""What it is called on the card."""

DAYS = 3650
"""For how long it holds.  Nobody but our own app hosts reads it, and they have it by name."""

RENEWED = 400
"""Days before its end from which on a run makes the next one: more than a year, so that a yearly run finds it."""

# The card goes first and comes last: one that is there always belongs to the key beside it.
MAKE = r"""
place=$1 card=$2 address=$3 days=$4
rm -f "$card"
umask 077
stage "$place"
cat > "$stage/request" << END
[req]
distinguished_name = name
x509_extensions = own
prompt = no
[name]
CN = database of $(uname -n)
[own]
subjectAltName = IP:$address
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
END
openssl req -x509 -config "$stage/request" -days "$days" -sha256 -nodes -newkey ec \
    -pkeyopt ec_paramgen_curve:prime256v1 -keyout "$stage/key" -out "$stage/pem"
chown mysql:mysql "$stage/key"
chmod 0644 "$stage/pem"
cp "$stage/pem" "$stage/card"
chmod 0644 "$stage/card"
sync "$stage"/*
mv -fT "$stage/key" "$place/gatehouse.key"
mv -fT "$stage/pem" "$place/gatehouse.pem"
mv -fT "$stage/card" "$card"
rm -rf "$stage"
"""


@task
def certificate(c):
    """T5 VM4: a key and a certificate for MariaDB's own address, made here, before it opens a port.

    The tutorials let passwords and rows cross the network in the clear.  The certificate signs itself: an app host has
    it from this host's card and believes no other.  It holds ten years, and the last one is for renewing it.
    """
    host = Host.of(c)
    if not ours(host) or not address(host):
        return
    host.packages("openssl")
    # MariaDB's own user, a moment before its package would make it: the key is its to read from the first start.
    host.user("mysql")
    host.directory(PLACE)
    host.directory(CARD)
    if why := _worn(host):
        host.run(f"make a key and a certificate: {why}", MAKE, PLACE, f"{CARD}/{NAME}", address(host), str(DAYS))


def _worn(host: Host) -> str:
    """Why there must be a new one; empty: it need not be."""
    files = host.facts.files
    key, pem, card = files.get(KEY), files.get(CERTIFICATE), files.get(f"{CARD}/{NAME}")
    if not key or not pem or not card:
        return "new"
    if (key.mode, key.owner) != (0o600, "mysql") or pem.digest != card.digest:
        return "it is not as it was made"
    return worn(host.facts.card.get(NAME, ""), address(host), host.facts.clock)


def worn(pem: str, where: str, clock: int) -> str:
    """Why a certificate does not do for this address any more, or not for long; empty: it does."""
    try:
        found = x509.load_pem_x509_certificate(pem.encode())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return "it cannot be read"
    if [ip_address(where)] != names.get_values_for_type(x509.IPAddress):
        return f"it is not for {where}"
    left = found.not_valid_after_utc - datetime.fromtimestamp(clock, UTC)
    return f"it holds for {left.days} days more" if left.days < RENEWED else ""
