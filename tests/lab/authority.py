"""The lab's CA host: Pebble issues as Let's Encrypt does; its DNS is every host's; its depot keeps Debian packages."""

import contextlib
import datetime
import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .machine import Machine

# What RFC 2606 keeps free for documentation and tests; in the lab all of it points to one host, unless told otherwise.
RESERVED = ("test", "example", "example.com", "example.net", "example.org")

Names = dict[str, tuple[str, str] | None]


class Authority:
    """The CA host. `directory` gets acme.pem, the root of its own HTTPS, and bundle.pem, what it issues from."""

    caa: tuple[tuple[str, str], ...] = ()

    def __init__(self, machine: Machine, directory: Path) -> None:
        self.machine = machine
        self.acme_root = directory / "acme.pem"
        self.bundle = directory / "bundle.pem"
        self._names = directory / "names.json"

    def equip(self, ip: str, ip6: str) -> None:
        """Before the host's first start: its identity, and every reserved name pointing to these addresses."""
        self.acme_root.parent.mkdir(parents=True, exist_ok=True)
        root, certificate, key = _tls_identity(self.machine)
        self.machine.put({"/etc/pebble/root.pem": root, "/etc/pebble/cert.pem": certificate})
        self.machine.put({"/etc/pebble/key.pem": key}, 0o600)
        self.acme_root.write_bytes(root)
        self._write_names(dict.fromkeys(RESERVED, (ip, ip6)))

    def fetch_root(self) -> None:
        """Write bundle.pem, what a client verifies the sites with: Pebble makes a new root whenever it starts."""
        root = self.machine.check(
            "curl --silent --show-error --retry 40 --retry-delay 0 --retry-max-time 20 --retry-connrefused "
            "--cacert /etc/pebble/root.pem https://localhost:15000/roots/0"
        )
        self.bundle.write_text(root)

    @contextlib.contextmanager
    def unreachable(self) -> Iterator[None]:
        """Refuse every connection to the CA for a while; it keeps its state, unlike with a stop."""
        rule = "INPUT -p tcp --dport 14000 -j REJECT --reject-with tcp-reset"
        self.machine.check(f"iptables -I {rule} && ip6tables -I {rule}")
        try:
            yield
        finally:
            self.machine.check(f"iptables -D {rule} && ip6tables -D {rule}")

    # DNS

    @property
    def names(self) -> Names:
        """Domain to (IPv4, IPv6), with every name below it; None: it does not exist."""
        names: Names = json.loads(self._names.read_text())
        return names

    @contextlib.contextmanager
    def forbidding(self, *records: tuple[str, str]) -> Iterator[None]:
        """CAA records for a while: each a name and who may issue for it and those below it; `;` is nobody."""
        self.caa = records
        self.set_names(self.names)
        try:
            yield
        finally:
            self.caa = ()
            self.set_names(self.names)

    def resolve(self, name: str, machine: Machine | None) -> None:
        """Let `name` and the names below it point to a host, or to nothing."""
        self.set_names(self.names | {name: (machine.ip, machine.ip6) if machine else None})

    def point(self, machine: Machine) -> None:
        """Let every reserved name point to a host."""
        self.set_names(self.names | dict.fromkeys(RESERVED, (machine.ip, machine.ip6)))

    def set_names(self, names: Names) -> None:
        """Replace all that the lab's DNS says about names of its own; the rest it asks Docker's."""
        self._write_names(names)
        # Two tests that follow closely are no reason to refuse it.
        self.machine.check("systemctl reset-failed dnsmasq; systemctl restart dnsmasq")

    def _write_names(self, names: Names) -> None:
        lines = ["no-resolv", "no-hosts", "cache-size=0", "server=127.0.0.11", "local=/invalid/"]
        # Nobody else is asked about these names, nor whether others may issue for those above them.
        lines += [f"dns-rr={top},257,{caa_record('iodef', 'mailto:ca@' + top)}" for top in ("com", "net", "org")]
        for name, addresses in names.items():
            lines += [f"local=/{name}/", *(f"address=/{name}/{address}" for address in addresses or ())]
        lines += [f"dns-rr={name},257,{caa_record('issue', value)}" for name, value in self.caa]
        self.machine.put({"/etc/lab-names.conf": "".join(f"{line}\n" for line in lines).encode()})
        self._names.write_text(json.dumps(names))


def caa_record(tag: str, value: str, flags: int = 0) -> str:
    """A CAA record's data (RFC 8659, 4.1), in the hexadecimal that dnsmasq takes for kinds it does not know."""
    return (bytes([flags, len(tag)]) + tag.encode() + value.encode()).hex()


def _tls_identity(machine: Machine) -> tuple[bytes, bytes, bytes]:
    """A root, and a certificate with its key under it for Pebble's own HTTPS; all PEM, good for ten years."""
    root_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Gatehouse lab: HTTPS of the CA")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, machine.name)])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)

    def certificate(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (x509.CertificateBuilder().issuer_name(issuer).subject_name(name).public_key(public)
                .serial_number(x509.random_serial_number())
                .not_valid_before(start).not_valid_after(start + datetime.timedelta(days=3650)))

    names = [x509.DNSName(machine.name), x509.DNSName("localhost"),
             *(x509.IPAddress(ipaddress.ip_address(each)) for each in (machine.ip, machine.ip6))]
    root = (certificate(issuer, root_key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(root_key, hashes.SHA256()))
    leaf = (certificate(subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(root_key, hashes.SHA256()))
    pem = serialization.Encoding.PEM
    return root.public_bytes(pem), leaf.public_bytes(pem), key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
