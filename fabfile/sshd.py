"""sshd: in by key alone, with the ciphers of today, and nobody shut out by it.  (Not in the tutorials)

The values are dev-sec's ssh baseline and ssh-audit's policy for the release; docs/decisions.md says where they are not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from .engine import Facts, Guarded, Host, Unit, task

ROOT = "/etc/ssh"
MAIN = f"{ROOT}/sshd_config"
DROPIN = f"{ROOT}/sshd_config.d/05-gatehouse.conf"
MODULI = f"{ROOT}/moduli"

# After five starts in ten seconds systemd starts it no more (systemd.unit, StartLimitBurst=), and nobody would get in.
WAY_BACK = "systemctl reset-failed ssh.service || :; systemctl --no-block {} ssh.service"

# What sshd would really do is asked too: a file that comes before ours, or a sshd_config that includes none, would win.
CHECK = f"""sshd -t && {{
    sshd -T | grep -qx 'passwordauthentication no' || {{
        echo 'passwords are still allowed: another file wins'; grep -is passwordauth {MAIN} {MAIN}.d/*; false; }}; }}"""

# Each algorithm in the yardstick's order, which ssh-audit's policies judge as well.
POST_QUANTUM = ("sntrup761x25519-sha512", "sntrup761x25519-sha512@openssh.com")
CURVES = ("curve25519-sha256", "curve25519-sha256@libssh.org")
GROUPS = ("diffie-hellman-group16-sha512", "diffie-hellman-group18-sha512", "diffie-hellman-group-exchange-sha256")
KEX = {"12": (*POST_QUANTUM, *CURVES, *GROUPS), "13": ("mlkem768x25519-sha256", *POST_QUANTUM)}
CIPHERS = (
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-gcm@openssh.com",
    "aes128-ctr",
)
SHA2 = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
MACS = {"12": (*SHA2, "umac-128-etm@openssh.com"), "13": (*reversed(SHA2), "umac-128-etm@openssh.com")}

RSA = 540
"""Bytes of a public RSA key's file, without its comment, from 3072 bits on; 2048 bits and a host's name have fewer."""

SHORT = """
awk '/^#/ || $5 >= 3071' "$1" > "$box/moduli"
grep -q '^[0-9]' "$box/moduli" || fail "no group of 3072 bits or more in $1"
stage "${1%/*}"
install -m 0644 "$box/moduli" "$stage/moduli"
mv -fT "$stage/moduli" "$1"
rmdir "$stage"
: > "$box/taken"
taken moduli "$1"
"""


def agreed(yardstick: Collection[str], spoken: Collection[str], *wider: Collection[str]) -> tuple[str, ...]:
    """The yardstick's algorithms; and, when the controller speaks none of them, the first of `wider` that it speaks.

    Raises Guarded when there is no common word at all.
    """
    for more in ((), *wider):
        if set(spoken) & {*yardstick, *more}:
            return (*yardstick, *(name for name in more if name not in yardstick))
    raise Guarded(
        "this controller speaks none of the algorithms that sshd should offer: it would be shut out",
        "install the versions of requirements.txt, then type the same again",
    )


def host_keys(facts: Facts) -> dict[str, str]:
    """The keys that sshd shall show, by type: Ed25519, and RSA from 3072 bits on.  None is made, none goes."""
    files = {kind: f"{ROOT}/ssh_host_{kind.removeprefix('ssh-')}_key" for kind in ("ssh-ed25519", "ssh-rsa")}
    sizes = {kind: facts.files[f"{path}.pub"].size for kind, path in files.items() if f"{path}.pub" in facts.files}
    return {kind: files[kind] for kind, size in sizes.items() if kind != "ssh-rsa" or size >= RSA}


def inside(host: Host) -> list[str]:
    """To whom this host, as a bastion, leads: the addresses of the hosts inside with the ports of their SSH.

    The port is what the operator's ssh_config says, and what another operator's said before stays.
    """
    permitted = host.facts.sshd.get("permitopen", "").split() if DROPIN in host.facts.files else []
    found = set()
    for machine in host.fleet.hosts.values():
        if host.name in map(str, host.fleet.bastions(machine.name)):
            shown = machine.bracketed
            found |= {f"{shown}:{host.ssh_port(machine.name)}"}
            found |= {one for one in permitted if one.rpartition(":")[0] == shown}
    return sorted(found)


def _guard(host: Host) -> None:
    """Nobody shuts the door on himself."""
    login = host.login
    if login.method != "publickey":
        raise Guarded(
            f"you came in by {login.method}, and sshd shall take nothing but keys: you would be shut out",
            f"ssh-copy-id {login.user}@{host.name}, then type the same again",
        )
    if not login.known & host_keys(host.facts).keys():
        raise Guarded(
            f"{host.name} is known here by {' and '.join(sorted(login.known))} alone, which sshd would show no more",
            f"ssh -o UpdateHostKeys=yes {host.name} true (it learns the other keys), then type the same again",
        )


@task
def moduli(c):
    """Drop Diffie-Hellman groups under 3072 bits from /etc/ssh/moduli; again after an upgrade brought them back."""
    host = Host.of(c)
    if MODULI in host.facts.files:
        host.run("drop groups under 3072 bits", SHORT, MODULI, name="moduli", on=[MODULI])


@task(help={"older_clients": "let in clients without post-quantum key exchange as well; the host remembers it"})
def configure(c, older_clients=False):
    """Keys alone, host keys Ed25519 and RSA, the yardstick's ciphers: kept only when a second login gets in.

    Refused (exit code 3) when it would shut out who is typing: logged in by password, or knowing the host by a key that
    it would show no more.  Key exchange is the yardstick's, and wider only where this controller or another needs it.
    An edge with hosts behind it that let in nobody else leads operators to their SSH (ProxyJump), and nowhere else.
    """
    host = Host.of(c)
    _guard(host)
    login, facts = host.login, host.facts
    wider = (*CURVES, *GROUPS)
    offered = facts.sshd.get("kexalgorithms", "").split(",") if DROPIN in facts.files else ()
    kept = wider if older_clients else [name for name in wider if name in offered]
    values: dict[str, Any] = {
        "host_keys": host_keys(facts).values(),
        "kex": tuple(dict.fromkeys((*agreed(KEX[facts.release], login.kex, CURVES, GROUPS), *kept))),
        "ciphers": agreed(CIPHERS, login.ciphers),
        "macs": agreed(MACS[facts.release], login.macs),
        "inside": inside(host),
    }
    main = facts.files.get(MAIN)
    if main and main.mode != 0o600:
        host.run(f"{MAIN} for root alone", 'chmod 0600 "$1"', MAIN)
    with proved(host, "sshd by keys alone"):
        host.template(DROPIN, check=CHECK, mode=0o600, **values)


@contextmanager
def proved(host: Host, label: str) -> Iterator[None]:
    """The files that are wished within are taken by sshd, and stay only when a second login gets in."""
    by_socket = host.facts.units.get("ssh.socket", Unit()).active == "active"
    with host.proving(label, WAY_BACK.format("try-restart" if by_socket else "restart")):
        yield
        if by_socket:
            host.run("restart sshd", "systemctl try-restart ssh.service", name="sshd", on=[DROPIN])
        else:
            host.service("ssh", restart_on=[DROPIN])


STEPS = (moduli, configure)
