"""The only module that touches the wire: Fabric's connections, with host keys checked on every hop.

Fabric accepts any host key and loads no known_hosts (fabric/fabric#2071); `secure` puts both right before a connection
opens.  A `Visit` is one raw channel of the connection with a root shell behind it, since Invoke's runners poll every
10 ms and feed input character by character.
"""

from __future__ import annotations

import atexit
import base64
import getpass
import hashlib
import logging
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn
from weakref import WeakSet

import paramiko
import six
from fabric import Config, Connection

from . import gateway  # noqa: F401  (Fabric asks there)
from .facts import quoted
from .hostkeys import EVERYBODY_S, known_keys
from .problems import ChangedKey, Guarded, Locked, NoRoot, NotLed, Problem, StepFailed, Stopped, UnknownKey, Unreachable
from .script import SHELL, Box

# patchwork 1.0.1 looks for the six that invoke 1 carried.
sys.modules.setdefault("invoke.vendor.six", six)
# What paramiko says it says in its exceptions too; Python would print its log where nobody has asked for one.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

CONNECT = 10
"""Seconds to wait for a host to answer."""

KEEPALIVE = 15
"""Seconds between signs of life, of SSH and of a visit; the host waits for four of them (session.sh)."""

DEAD = 60
"""Seconds after which a line that acknowledges nothing is dead; by itself TCP would try for a quarter of an hour."""

BLOCK = 1 << 18

PROHIBITED = 1
"""SSH's number for "that is not allowed here" (RFC 4254, 5.1)."""

STREAMED = (
    "umask 077; LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export LC_ALL PATH\n"
)
"""How a program begins that runs beside a visit."""

BROKEN = (OSError, EOFError, paramiko.SSHException)
"""How paramiko says that the line is gone."""

_lines: WeakSet[socket.socket] = WeakSet()
"""Those that are open."""

_asking_again = threading.Lock()
"""Held by who asks a gateway for its own answer."""


class _Refuse(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """An unknown key stops the connection before anything secret is sent."""

    def __init__(self, c: Connection) -> None:
        self.connection = c

    def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> NoReturn:
        raise UnknownKey(
            f"the key of {shown(self.connection)} is not known: {key.get_name()} {fingerprint(key)}",
            "compare it with the host's own, ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; then: "
            f"fab -H {typed(self.connection)} trust",
        )


def fingerprint(key: paramiko.PKey) -> str:
    """The key's SHA-256 fingerprint as ssh-keygen prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def typed(c: Connection) -> str:
    """What to type behind -H, or behind ssh: a hop of a ProxyJump may have a user and a port of its own."""
    user = "" if c.user == c.ssh_config.get("user", c.config.user) else f"{c.user}@"
    port = "" if c.port == int(c.ssh_config.get("port", c.config.port)) else f":{c.port}"
    return f"{user}{c.original_host}{port}"


def known_as(c: Connection) -> str:
    """The name under which known_hosts keeps the host's key."""
    return c.host if c.port == 22 else f"[{c.host}]:{c.port}"


def shown(c: Connection) -> str:
    """For people: the name, and what known_hosts calls it."""
    return c.original_host if c.original_host == known_as(c) else f"{c.original_host} ({known_as(c)})"


def known_hosts(c: Connection) -> list[Path]:
    """The files that the connection's ssh_config names, or the user's own; the first one is written to by `trust`."""
    return [Path(name).expanduser() for name in _paths(c.ssh_config.get("userknownhostsfile", "~/.ssh/known_hosts"))]


def _paths(value: str) -> list[str]:
    """The paths of an option of ssh_config(5); one that holds a space stands in double quotes.

    paramiko takes a quote at the very beginning and one at the very end away, whether or not they belong together.
    """
    if '"' in value:
        return shlex.split(value if value.startswith('"') or value.endswith('"') else f'"{value}"')
    words = value.split()
    several = all(word.startswith(("/", "~", "%", "none")) for word in words)
    return words if several else [value]


def secure(c: Connection) -> Connection:
    """Load the known hosts and refuse all others, on this connection and on every gateway before it."""
    client: paramiko.SSHClient = c.client
    for kind, key in known_keys((EVERYBODY_S, *known_hosts(c)), known_as(c)).items():
        client.get_host_keys().add(known_as(c), kind, key)
    client.set_missing_host_key_policy(_Refuse(c))
    if isinstance(c.gateway, Connection):
        secure(c.gateway)
    return c


def connect(host: str, ssh_config: Path | None = None, config: Config | None = None) -> Connection:
    """A connection to a host by its ssh_config name, host keys checked; it is opened by its first use."""
    config = config or Config(runtime_ssh_path=str(ssh_config) if ssh_config else None)
    return secure(Connection(host, config=config))


def _own_keys(c: Connection) -> None:
    """Raises Guarded for a private key that others can read; ssh refuses it too."""
    names = c.connect_kwargs.get("key_filename") or []
    for path in map(Path, [names] if isinstance(names, str) else names):
        if path.is_file() and (found := path.stat()).st_uid == os.getuid() and found.st_mode & 0o077:
            raise Guarded(
                f"others on this machine can read the private key {path} ({found.st_mode & 0o777:04o})",
                f"chmod 600 {shlex.quote(str(path))}, if it is still yours alone; else a new key: ssh-keygen",
            )


def opened(c: Connection) -> Connection:
    """Open the connection, and before it each gateway on the way; or say in one sentence which hop fails, and why."""
    if c.is_connected:
        return c
    if isinstance(c.gateway, Connection):
        try:
            opened(c.gateway)
        except Problem as problem:
            problem.message += f"; it is the way to {c.original_host}"
            raise
    secure(c)
    _own_keys(c)
    name = c.original_host
    c.connect_timeout = c.connect_timeout or CONNECT
    if isinstance(c.gateway, Connection):
        # By itself paramiko waits for an hour.
        c.gateway.transport.channel_timeout = c.connect_timeout
    try:
        _open(c)
    except paramiko.BadHostKeyException as error:
        raise ChangedKey(
            f"the key of {shown(c)} has changed: known {fingerprint(error.expected_key)}, "
            f"shown {fingerprint(error.key)}",
            "find out why first; if the host was reinstalled: "
            f"ssh-keygen -f {shlex.quote(str(known_hosts(c)[0]))} -R '{known_as(c)}' && fab -H {typed(c)} trust",
        ) from None
    except paramiko.AuthenticationException as error:
        raise Unreachable(f"{name} does not let {c.user} in: {error}", f"try: ssh {c.user}@{name}") from None
    except Problem:
        raise
    except BROKEN as error:
        raise _unreachable(c, error) from None
    _steady(c.transport)
    return c


def _open(c: Connection) -> None:
    """Paramiko keeps one refusal for all channels that are being opened through a gateway, and who is refused may be
    told another's, or none: so he asks again, one at a time.
    """
    try:
        c.open()
    except paramiko.SSHException as error:
        refused = isinstance(error, paramiko.ChannelException) or str(error) == "Unable to open channel."
        if not (refused and isinstance(c.gateway, Connection)):
            raise
        with _asking_again:
            c.open()


def _unreachable(c: Connection, error: Exception) -> Unreachable:
    """Nobody answers, or a gateway leads nowhere: which of the two, and what to try."""
    name, reason, where = c.original_host, _reason(error), f"{c.host}:{c.port}"
    if isinstance(c.gateway, Connection):
        gate = c.gateway.original_host
        if isinstance(error, paramiko.ChannelException) and error.code == PROHIBITED:
            problem = NotLed(
                f"{gate} is the way to {name}, and its sshd does not lead to {where}",
                f"HostName of {name} in ssh_config must be its address in fleet.yml, and {gate} an edge there; "
                f"then: fab -H {gate} sshd",
            )
            problem.gate = gate
            return problem
        if isinstance(error, paramiko.ChannelException) or reason.startswith("Timeout opening channel"):
            return Unreachable(
                f"{name} cannot be reached: {gate}, the way there, gets no connection to {where}",
                f"is it up? does it let {gate} in (fab -H {gate} status; fleet.yml)?",
            )
    elif bastions := getattr(c, "bastions", ()):
        return Unreachable(f"{name} ({where}) cannot be reached: {reason}", way_in(name, bastions))
    way_out = f"try: ssh {name}"
    if "refused" in reason:
        way_out += "; if its other ports answer, your address is banned: docs/oncall.md, I am locked out"
    return Unreachable(f"{name} ({where}) cannot be reached: {reason}", way_out)


def _steady(transport: paramiko.Transport) -> None:
    """Every hop gives signs of life, and notices when none comes through."""
    transport.set_keepalive(KEEPALIVE)
    sock = transport.sock
    if isinstance(sock, paramiko.Channel):
        _steady(sock.get_transport())
    elif isinstance(sock, socket.socket):
        # Nagle and delayed acknowledgements together cost 41 ms a channel.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD * 1000)
        _lines.add(sock)


@atexit.register
def _hang_up() -> None:
    """A line that is shut down wakes its thread at once.

    Paramiko's threads look for their end every 100 ms, and at ours it waits for one after the other.
    """
    for sock in _lines:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _reason(error: Exception) -> str:
    """The system's own words; of several addresses that were tried, the first one's."""
    if isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        error = next(iter(error.errors.values()))
    return getattr(error, "strerror", "") or str(error) or type(error).__name__


def way_in(name: str, bastions: Sequence[str]) -> str:
    """What to write into ssh_config where a host lets in nobody but its bastions."""
    return (
        f"{name} lets in nobody but {' and '.join(bastions)}: in your ssh_config, below `Host {name}`, write: "
        f"ProxyJump {bastions[0]}"
    )


def another(c: Connection, patience: int = CONNECT) -> Connection:
    """A second, new connection to the same host: the proof that one can still get in.  `patience` is in seconds.

    It comes through the same gateway, whose sshd opens a connection of its own for it.
    """
    fresh = Connection(
        c.original_host,
        user=c.user,
        port=c.port,
        config=c.config,
        gateway=c.gateway,
        connect_timeout=patience,
    )
    # Fabric adds what ssh_config names to what is there already, and paramiko would offer each key several times.
    fresh.connect_kwargs = dict(c.connect_kwargs)
    return opened(fresh)


def identity(c: Connection) -> tuple[Any, ...]:
    """What tells one machine from another: who logs in where, and through which others."""
    way = identity(c.gateway) if isinstance(c.gateway, Connection) else c.gateway
    return c.user, c.host, c.port, way


class Login(NamedTuple):
    """How an operator got in, and what this controller could agree to.

    user: the name on the host; method: SSH's word for the proof (`publickey`, ...); known: the types of host
    key under which this controller knows the host; kex, ciphers, macs: the algorithms that it speaks; asked: what the
    gateway was asked to connect to, if there is one.
    """

    user: str
    method: str
    known: frozenset[str]
    kex: frozenset[str]
    ciphers: frozenset[str]
    macs: frozenset[str]
    asked: str = ""


def login(c: Connection) -> Login:
    """The login of an open connection."""
    transport = c.transport
    return Login(
        c.user,
        transport.auth_handler.auth_method,
        frozenset(c.client.get_host_keys().lookup(known_as(c)) or ()),
        frozenset(transport.preferred_kex),
        frozenset(transport.preferred_ciphers),
        frozenset(transport.preferred_macs),
        c.host if isinstance(c.gateway, Connection) else "",
    )


def spoken() -> dict[str, list[str]]:
    """The algorithms that this controller speaks, by their kinds as Login has them; no host is asked."""
    one, other = socket.socketpair()
    with one, other:
        transport = paramiko.Transport(one)
        kinds = {"kex": "preferred_kex", "ciphers": "preferred_ciphers", "macs": "preferred_macs"}
        return {kind: sorted(getattr(transport, name)) for kind, name in kinds.items()}


def ssh_port(c: Connection, name: str) -> int:
    """The port of another host's sshd, by the ssh_config that this connection was made with."""
    return int(c.config.base_ssh_config.lookup(name).get("port", 22))


def offered_key(c: Connection) -> tuple[str, paramiko.PKey]:
    """The key that the host shows, before any login, and the name under which known_hosts keeps it.

    Raises Unreachable when nothing answers.
    """
    patience = c.connect_timeout or CONNECT
    if isinstance(c.gateway, Connection):
        opened(c.gateway).transport.channel_timeout = patience
    try:
        sock: Any = c.open_gateway() if c.gateway else socket.create_connection((c.host, c.port), timeout=patience)
        transport = paramiko.Transport(sock)
        try:
            transport.start_client(timeout=patience)
            return known_as(c), transport.get_remote_server_key()
        finally:
            transport.close()
    except BROKEN as error:
        raise _unreachable(c, error) from None


def stream(c: Connection, path: str) -> paramiko.Channel:
    """What is written goes to the unix socket at `path` of the host, and what it says comes back; as root."""
    channel = opened(c).transport.open_session()
    program = quoted(["socat", "-t", "30", "-", f"UNIX-CONNECT:{path}"])
    channel.exec_command(program if c.user == "root" else "sudo -n " + program)
    return channel


@dataclass
class Answer:
    """What came back for one request: its records, in order, and the exit code."""

    code: int
    records: list[str] = field(default_factory=list)


class Visit:
    """A root shell on the host over one channel; requests go to it one after another.

    `trips` counts them: a request and its answer are one round trip.  `who` is what a second operator is told.
    Signs of life go to the host all the while: it ends the visit, and with it the lock, when they stay away.
    """

    def __init__(self, c: Connection) -> None:
        self.connection, self.trips = c, 0
        me = f"{getpass.getuser()}@{socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S %Z')}"
        self.me = "".join(letter if letter.isprintable() else "?" for letter in me)
        self.who = self.me
        self.stopping = False
        self._channel: paramiko.Channel | None = None
        self._midway = False
        self._sending, self._now = threading.Lock(), threading.Event()
        self._greeted = False

    def send(
        self, box: Box, change: bool = False, tell: Callable[[str], None] = lambda _: None, anyway: bool = False
    ) -> Answer:
        """Run the box; `tell` hears every record as it comes.

        Raises Locked when another operator holds the host, NoRoot when there is no root to be had, Unreachable when the
        connection breaks, Stopped after `stop` unless it is to be done `anyway`.
        """
        channel = self._channel = self._channel or self._open()
        payload = box.packed()
        mode = "change" if change else "read"
        try:
            with self._sending:
                if self.stopping and not anyway:
                    raise Stopped("stopped: what was done stands, nothing more was begun")
                self.trips, self._midway = self.trips + 1, True
                channel.sendall(f"{len(payload)} {mode} {self.who}\n".encode() + payload)
        except BROKEN:
            self._lost()
        answer = self._answer(tell)
        self._midway = False
        return answer

    def stream(self, program: str, args: Iterable[str], source: IO[bytes] | None, sink: IO[bytes] | None) -> None:
        """Run shell as root beside the visit, on a channel of its own: it reads `source`, and prints into `sink`.

        For what is too large for a request.  Raises StepFailed with its last words when it ends with another code than
        0, Unreachable when the connection breaks, Stopped after `stop`; the host then sees the end of its input.
        """
        name, ended = self.connection.original_host, False
        with self._run(["sh", "-c", STREAMED + program, "gatehouse", *args]) as channel:
            while not ended and (block := source.read(BLOCK) if source else b""):
                self._go_on()
                try:
                    channel.sendall(block)
                except BROKEN:
                    ended = True
            with suppress(*BROKEN):
                channel.shutdown_write()
            while block := channel.recv(BLOCK):
                self._go_on()
                if sink:
                    sink.write(block)
            said = channel.makefile_stderr("rb").read().decode(errors="replace").strip()
            code = channel.recv_exit_status()
        if code < 0:
            raise Unreachable(f"the connection to {name} broke", "type the same again")
        if code:
            raise StepFailed(f"{name} could not: exit code {code}", "", said)

    def _go_on(self) -> None:
        if self.stopping:
            raise Stopped("stopped: nothing was changed by what was under way")

    def through(self, bastions: Sequence[str]) -> None:
        """Who cannot reach the host directly is told that it lets in nobody but these."""
        # What Invoke has for attributes that are no settings.
        self.connection._set(bastions=tuple(bastions))  # noqa: SLF001

    @property
    def ready(self) -> bool:
        """Whether the host waits for the next request."""
        return self._channel is not None and not self._channel.closed and not self._midway

    def stop(self) -> None:
        """Let the host finish the operation that it is at, and begin no other.  Safe in a signal's handler."""
        self.stopping = True
        self._now.set()

    def _open(self) -> paramiko.Channel:
        channel = self._run(["sh", "-c", (SHELL / "session.sh").read_text(), "gatehouse"], ' "$SSH_CONNECTION"')
        threading.Thread(target=self._live, args=(channel,), daemon=True).start()
        return channel

    def _run(self, words: list[str], rest: str = "") -> paramiko.Channel:
        """A new channel on which the host runs these words as root; `rest` is shell that comes after them."""
        c = opened(self.connection)
        command = quoted(words) + rest
        try:
            channel = c.transport.open_session()
            channel.exec_command(command if c.user == "root" else "sudo -n " + command)
        except BROKEN as error:
            raise Unreachable(f"{c.original_host} opens no session: {error}", "type the same again") from None
        return channel

    def _live(self, channel: paramiko.Channel) -> None:
        """The signs of life, and the word that stops a program."""
        told = False
        with suppress(*BROKEN):
            while not channel.closed:
                # What it returns is not asked: who sets it between the end of the wait and the next line is heard too.
                self._now.wait(KEEPALIVE)
                self._now.clear()
                stopping = self.stopping
                with self._sending:
                    channel.sendall(b"stop\n" if stopping and not told else b"\n")
                told = told or stopping

    def _answer(self, tell: Callable[[str], None]) -> Answer:
        answer, rest = Answer(1), b""
        channel = self._channel
        assert channel is not None
        while block := channel.recv(1 << 16):
            self._greeted = True
            *records, rest = (rest + block).split(b"\0")
            for record in records:
                if record.startswith(b"done\t"):
                    answer.code = int(record[5:])
                    return answer
                text = record.decode("utf-8", "surrogateescape")
                if text.startswith("locked\t"):
                    name, who = self.connection.original_host, text.split("\t", 2)[2]
                    raise Locked(
                        f"another run holds this host: {who}",
                        f"wait for it to end, then type the same again; what it is at: fab -H {name} lock.status; "
                        f"if whoever it is will not come back: fab -H {name} lock.break",
                    )
                answer.records.append(text)
                tell(text)
        return self._lost()

    def _lost(self) -> NoReturn:
        channel, name = self._channel, self.connection.original_host
        assert channel is not None
        self._channel = None
        channel.settimeout(2)
        text = ""
        with suppress(OSError):
            text = channel.makefile_stderr("rb").read().decode(errors="replace").strip()
        if "sudo" in text and not self._greeted:
            raise NoRoot(
                f"{self.connection.user} may not become root on {name} without a password ({text.splitlines()[-1]})",
                f"log in as root, or on the host: visudo -f /etc/sudoers.d/gatehouse, with the line "
                f"{self.connection.user} ALL=(ALL) NOPASSWD: ALL",
            )
        raise Unreachable(
            f"the connection to {name} broke" + (f" ({text})" if text else "") + "; what it was at, it ends by itself",
            f"is it up? fab -H {name} status; then type the same again: it goes on from there",
        )

    def close(self) -> None:
        """End the root shell, and with it the lock."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            self._now.set()


__all__ = [
    "Answer",
    "Login",
    "Visit",
    "another",
    "connect",
    "fingerprint",
    "identity",
    "known_hosts",
    "login",
    "offered_key",
    "opened",
    "spoken",
    "ssh_port",
    "stream",
    "way_in",
]
