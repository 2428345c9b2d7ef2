"""A certificate authority in memory: what a good CA would have sent, and every bad variation of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = timedelta(days=1)


@functools.cache
def key(kind: str) -> Key:
    """A private key of the kind, one per session: making them is the slow part. `ec256-other` is a second one."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind.removeprefix("rsa")))
    return ec.generate_private_key(ec.SECP384R1() if kind == "ec384" else ec.SECP256R1())


def pem(thing: x509.Certificate | Key, encryption: KeySerializationEncryption | None = None) -> bytes:
    """The thing in PEM; a key as lego writes it."""
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(Encoding.PEM)
    form = PrivateFormat.PKCS8 if encryption else PrivateFormat.TraditionalOpenSSL
    return thing.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


def encrypted(kind: str = "ec256") -> bytes:
    """A key behind a password."""
    return pem(key(kind), BestAvailableEncryption(b"secret"))


@dataclass(frozen=True)
class Pair:
    """What lego leaves: the leaf with its chain, and the key."""

    leaf: bytes
    chain: bytes
    key: bytes

    @property
    def bundle(self) -> bytes:
        """lego's .crt: an empty line between leaf and chain."""
        return self.leaf + b"\n" + self.chain if self.leaf else b""

    @property
    def pem(self) -> bytes:
        """HAProxy's PEM."""
        return self.leaf + self.chain + self.key


@dataclass(frozen=True)
class Authority:
    """A root and an intermediate that issues."""

    name: str

    @functools.cached_property
    def root(self) -> x509.Certificate:
        return self._certificate(f"{self.name} root", f"{self.name} root", ca=True)

    @functools.cached_property
    def intermediate(self) -> x509.Certificate:
        return self._certificate(f"{self.name} intermediate", f"{self.name} root", ca=True)

    def issue(
        self,
        *names: str,
        age: timedelta = DAY / 2,
        left: timedelta = 89.5 * DAY,
        kind: str = "ec256",
        authority: bool = False,
    ) -> Pair:
        """A certificate for the names, `age` old, with `left` to go; `authority`: it may sign others."""
        issuer = f"{self.name} intermediate"
        leaf = self._certificate("", issuer, names=names, age=age, left=left, kind=kind, authority=authority)
        return Pair(pem(leaf), pem(self.intermediate), pem(key(kind)))

    def forge(self, name: str) -> Pair:
        """The right names all along the chain, but the leaf is signed by a key of somebody else."""
        leaf = self._certificate("", f"{self.name} intermediate", names=[name], signed_by=key("ec256-other"))
        return Pair(pem(leaf), pem(self.intermediate), pem(key("ec256")))

    def alone(self, *names: str) -> Pair:
        """One that signed itself."""
        leaf = self._certificate(names[0], names[0], names=names, signed_by=key("ec256"))
        return Pair(pem(leaf), b"", pem(key("ec256")))

    def _certificate(
        self,
        subject: str,
        issuer: str,
        *,
        names: Sequence[str] = (),
        ca: bool = False,
        authority: bool = False,
        age: timedelta = timedelta(days=1),
        left: timedelta = 900 * DAY,
        kind: str = "ec256",
        signed_by: Key | None = None,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name(issuer))
            .public_key((key(f"{self.name}-{subject}") if ca else key(kind)).public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - age)
            .not_valid_after(now + left)
            .add_extension(x509.BasicConstraints(ca=ca or authority, path_length=None), critical=True)
        )
        if names:
            sans = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(sans, critical=not subject)
        return builder.sign(signed_by or key(f"{self.name}-{issuer}"), hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])
