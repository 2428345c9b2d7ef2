"""A key and a certificate that a host makes for itself; other hosts trust the certificate, from its card."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address

from .cards import CARD
from .host import Host

DAYS = 3650
"""For how long it holds.  Nobody but hosts of the same fleet reads it, and they have it from the card."""

RENEWED = 400
"""Days before its end from which on a run makes the next one: more than a year, so that a yearly run finds it."""

# The card goes first and comes last: one that is there always belongs to the key beside it.  CA:FALSE, so that whoever
# gets hold of the key can be this host, and nobody else.
MAKE = r"""
place=$1 card=$2 address=$3 days=$4 owner=$5
rm -f "$card"
umask 077
stage "${place%/*}"
cat > "$stage/request" << END
[req]
distinguished_name = name
x509_extensions = own
prompt = no
[name]
CN = ${card##*/} of $(uname -n)
[own]
subjectAltName = IP:$address
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
END
openssl req -x509 -config "$stage/request" -days "$days" -sha256 -nodes -newkey ec \
    -pkeyopt ec_paramgen_curve:prime256v1 -keyout "$stage/key" -out "$stage/pem"
chown "$owner:$owner" "$stage/key"
chmod 0644 "$stage/pem"
cp "$stage/pem" "$stage/card"
chmod 0644 "$stage/card"
sync "$stage"/*
mv -fT "$stage/key" "$place.key"
mv -fT "$stage/pem" "$place.pem"
mv -fT "$stage/card" "$card"
rm -rf "$stage"
"""


def certified(host: Host, place: str, card: str, address: str, owner: str) -> None:
    """`place`.key, for the user `owner` alone, and `place`.pem are there, for this address; so is the card."""
    host.packages("openssl")
    host.directory(CARD)
    if why := _spoiled(host, place, card, address, owner):
        host.run(f"make a key and a certificate: {why}", MAKE, place, f"{CARD}/{card}", address, str(DAYS), owner)


def _spoiled(host: Host, place: str, card: str, address: str, owner: str) -> str:
    """Why there must be a new one; empty: it need not be."""
    key, pem, shown = (host.facts.files.get(path) for path in (f"{place}.key", f"{place}.pem", f"{CARD}/{card}"))
    if not key or not pem or not shown:
        return "new"
    if (key.mode, key.owner) != (0o600, owner) or pem.digest != shown.digest:
        return "it is not as it was made"
    return worn(host.facts.card.get(card, ""), address, host.facts.clock)


def worn(pem: str, where: str, clock: int) -> str:
    """Why a certificate does not do for this address any more, or not for long; empty: it does."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(pem.encode())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return "it cannot be read"
    if [ip_address(where)] != names.get_values_for_type(x509.IPAddress):
        return f"it is not for {where}"
    left = found.not_valid_after_utc - datetime.fromtimestamp(clock, UTC)
    return f"it holds for {left.days} days more" if left.days < RENEWED else ""
