"""`Host`: the verbs that chapters speak.

A step states what should be true; the difference to the facts is collected, and goes over as one script when the step
ends.  The first verb on a host takes the one look; after that every decision is local.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import IO, Any, ClassVar

from fabric import Connection

from ..model import Refusal, find_fleet
from . import access, changes, render, script
from .errand import Errand
from .facts import quoted
from .problems import NoHost, Problem, StepFailed
from .remote import Login, Visit, identity, login, ssh_port

OPERATORS = "/etc/gatehouse/operators"


class Host(Errand):
    """One server during one invocation of `fab`, and what may be wished of it."""

    known: ClassVar[dict[tuple[Any, ...], Host]] = {}

    @classmethod
    def of(cls, c: Any) -> Host:
        """The host behind a task's context; the same one for every task of an invocation.

        Raises NoHost without -H, and Refusal when fleet.yml or a site is wrong: both before a connection is opened.
        """
        if not isinstance(c, Connection):
            raise NoHost("this task wants a host", "fab -H vps bootstrap")
        key = identity(c)
        if key not in cls.known:
            config = getattr(c.config, "_runtime_ssh_path", None)
            fleet = find_fleet(Path(config) if config else None, None, Path.cwd())
            cls.known[key] = cls(c.original_host, fleet, Visit(c), dry=bool(c.config.run.dry))
        return cls.known[key]

    def enrol(self) -> None:
        """Steps, which are given a connection, shall find this very host behind it.

        Raises Refusal when another one of the run is the same machine.
        """
        c = self.visit.connection
        other = self.known.get(identity(c), self)
        if other.name != self.name:
            raise Refusal(f"{other.name} and {self.name} are one machine in ssh_config: {c.user}@{c.host}:{c.port}")
        self.known[identity(c)] = self

    @property
    def operators(self) -> list[str]:
        """The networks that must always get in: those of fleet.yml, those remembered on the host, and your own address.

        Each run adds to what the host remembers, so that two operators do not undo one another.  What somebody wrote
        there by hand and is no network is passed over, and so goes.  Who comes through another host of the fleet has
        that one's address here, which is nobody's own; a bastion's is none of them, whenever it was remembered.
        """
        texts = (*self.fleet.operators, *self.facts.operators, *self._client())
        networks = {network for text in texts if (network := _network(str(text)))}
        return sorted(map(str, networks - {_network(bastion) for bastion in self.bastions}))

    @property
    def bastions(self) -> list[str]:
        """The addresses of the hosts through which alone one logs in to this one; none: one comes directly."""
        return [str(bastion.address) for bastion in self.fleet.bastions(self.name)]

    def _client(self) -> tuple[str, ...]:
        """The operator's own address, where it is seen here."""
        others = {str(machine.address) for machine in self.fleet.hosts.values()}
        return (self.facts.client,) if self.facts.client not in others else ()

    @contextmanager
    def standing_in(self, c: Any) -> Iterator[None]:
        """Steps that are given this connection find this one behind it meanwhile."""
        former, self.known[identity(c)] = self.known[identity(c)], self
        try:
            yield
        finally:
            self.known[identity(c)] = former

    @property
    def login(self) -> Login:
        """How we got in, and which algorithms this controller speaks."""
        assert self.facts
        return login(self.visit.connection)

    def ssh_port(self, other: str) -> int:
        """On which port this operator finds the sshd of another host: ssh_config says."""
        return ssh_port(self.visit.connection, other)

    def remember_operators(self) -> None:
        """The host keeps the operators' networks, for whoever comes next."""
        self.file(OPERATORS, "".join(f"{network}\n" for network in self.operators))

    def packages(self, *names: str, held: bool = False, answers: Iterable[str] = ()) -> None:
        """Debian packages are installed, without what they merely recommend.

        Those that later steps of the run want come with them, and no service starts before its own step (ahead.py).
        `held`: parts of a service that runs, which shall not be restarted for them: it takes them with its next load.
        `answers` to their questions, as debconf-set-selections(1) reads them: "PACKAGE QUESTION TYPE VALUE".
        """
        kept = f"{names[0]} {self.facts.packages.get(names[0], '')} is installed"
        self._wish(changes.for_packages(self.facts, names, held, answers), kept)

    def user(
        self,
        name: str,
        home: str = "/nonexistent",
        shell: str = "/usr/sbin/nologin",
        groups: Iterable[str] = (),
        uid: int | None = None,
        near: int | None = None,
    ) -> None:
        """A system user with a group of its own, and a member of `groups`.

        A new one gets the number `uid`; or the first from `near` on that is free; else one of the host's own for system
        users, which are 900 (login.defs(5)).
        """
        self._wish(changes.for_user(self.facts, name, home, shell, groups, uid, near), f"user {name} exists")

    def directory(self, path: str, mode: int = 0o755, owner: str = "root", group: str = "root") -> None:
        """A directory with this mode and owner."""
        self._wish(changes.for_directory(self.facts, path, mode, owner, group), f"{path}/ is right")

    def template(
        self,
        path: str,
        *,
        check: str = "",
        mode: int = 0o644,
        owner: str = "root",
        group: str = "root",
        **values: Any,
    ) -> str:
        """The file at `path` holds what `templates/PATH.j2` renders; returns the path with its names filled in.

        `check` is a command that judges it, where it will be, before it is there.
        """
        given = {"host": self, "facts": self.facts, "fleet": self.fleet, "sites": self.sites, **values}
        target = render.place(path, given)
        self.file(target, render.render(path, given), check=check, mode=mode, owner=owner, group=group)
        return target

    def file(
        self,
        path: str,
        content: str | bytes,
        *,
        check: str = "",
        mode: int = 0o644,
        owner: str = "root",
        group: str = "root",
        secret: bool = False,
    ) -> None:
        """The file at `path` holds this content; a secret one is never shown in a diff."""
        data = content.encode() if isinstance(content, str) else content
        self._wish(
            changes.for_file(self.facts, path, data, mode=mode, owner=owner, group=group, check=check, secret=secret),
            f"{path} is right",
        )

    def link(self, path: str, target: str, check: str = "") -> None:
        """A symbolic link at `path` points to `target`."""
        self._wish(changes.for_link(self.facts, path, target, check), f"{path} is linked")

    def absent(self, *paths: str, check: str = "") -> None:
        """These files and links are not there."""
        for path in paths:
            self._wish(changes.for_absent(self.facts, path, check), f"{path} is absent")

    def rename(self, path: str, to: str, check: str = "") -> None:
        """What was called `path` is called `to`, in the same directory."""
        self._wish(changes.for_rename(self.facts, path, to, check), f"{to} has its name")

    def seed(self, path: str, owner: str, group: str, mode: int, files: Mapping[str, str | bytes]) -> None:
        """A directory of a site's user, filled as that user when it is made, and never touched again."""
        content = tuple((name, text.encode() if isinstance(text, str) else text) for name, text in files.items())
        self._wish(changes.for_seed(self.facts, path, owner, group, mode, content), f"{path}/ is the site's own")

    def service(
        self,
        name: str,
        *,
        reload_on: Iterable[str] = (),
        restart_on: Iterable[str] = (),
        ready: str = "true",
    ) -> None:
        """A systemd unit is enabled, runs, and has taken its files as they are.

        `reload_on` and `restart_on` name files, or directories with a slash at the end.  `ready` is a shell command
        that succeeds when the service really serves; it has 30 seconds.  When the service refuses, the former files
        come back, it is loaded again, and the step fails.
        """
        unit = name if "." in name else name + ".service"
        self._wish(changes.for_service(self.facts, unit, ready, reload_on, restart_on), f"{name} runs")

    def run(self, label: str, script: str, *args: str, name: str = "", on: Iterable[str] = ()) -> None:
        """The way out where no verb fits: a piece of shell of our own, with `args` as $1 and on.

        It always counts as a change, so decide from the facts whether it is needed; or give it a `name` and, in `on`,
        the files whose change makes it necessary: the host remembers when it last succeeded.
        `say TEXT` and `progress COMMAND` show the operator how far it is.
        """
        self._wish(changes.for_run(self.facts, label, script, args, name, on), f"{name} is up to date")

    def at_once(self, label: str, script_text: str, *args: str) -> None:
        """The same without a step: what this host does in a run that another one has, while its own lock is held.

        Raises StepFailed with the last words of what failed.
        """
        assert self.facts
        self._send(script.apply((changes.Run(label, script_text, args),), self.facts), anyway=True)

    def hear(self, label: str, script_text: str, *args: str, files: Mapping[str, str] | None = None) -> list[str]:
        """A piece of shell, with `args` as $1 and on and `files` beside it, that is run for what it finds.

        Returns what it says on descriptor 3 as `found<TAB>TEXT<NUL>`.  The host's lock is held; nothing in /etc may be
        other than before when it ends.  Raises StepFailed with the last words of what failed.
        """
        self.flush()
        box = script.program()
        for name, text in (files or {}).items():
            box.keep(name, text.encode())
        box.keep("piece", script_text.encode())
        box.add("memory")
        box.add("op", label)
        box.lines.append(f"( set -- {quoted(args)}; . ./piece )")
        return [record[6:] for record in self._send(box).records if record.startswith("found\t")]

    def access(self, label: str, apply: str, revert: str, *args: str, seconds: int = 60) -> None:
        """Change how one gets in: the host takes it back after `seconds` unless a new SSH connection proves it.

        `apply` and `revert` are shell with `args` as $1 and on; both must be safe to run twice.
        Raises StepFailed when the proof fails; the host then returns by itself, whatever happens to the laptop.
        """
        self.flush()
        self._done.append(label)
        if self.dry:
            return
        self._send(access.armed(label, apply, revert, args, seconds))
        self._prove(label, seconds)
        self._facts = None

    def shut(self, label: str, apply: str, revert: str, *args: str, seconds: int) -> None:
        """The same for a change that must not stay: a drill.  The host takes it back after `seconds`, proof or none.

        It does so whatever becomes of the laptop and of the line, and at the next boot.
        """
        self.flush()
        self._done.append(label)
        if not self.dry:
            self._send(access.armed(label, apply, revert, args, seconds))
            self._facts = None

    def take_back(self, label: str) -> None:
        """What is armed is taken back now."""
        self._send(access.taken_back(label), anyway=True)
        self._facts = None

    def armed(self) -> bool:
        """Whether a way back is armed, or is being taken."""
        return bool(self.ask(f"ls {access.KEPT} {access.KEPT}.begun 2> /dev/null || :"))

    def lets_in(self) -> bool:
        """Whether who comes now, by a new SSH connection, gets in; a host that says nothing is waited for 3 seconds."""
        return access.lets_in(self.visit.connection)

    @contextmanager
    def proving(self, label: str, reload: str, *args: str, seconds: int = 60) -> Iterator[None]:
        """The same for files: those that are wished inside come back unless a new SSH connection proves them.

        `reload` is shell, with `args` as $1 and on, that lets the daemon take the former files; it must not wait.
        """
        self.flush()
        yield
        paths = [path for change in self._pending for path in script.touched(change)]
        if self.dry or not self._pending:
            return
        taken = [name for change in self._pending for name in script.remembered(change)]
        self._send(access.armed_files(paths, taken, reload, args, seconds))
        try:
            self.flush()
        except StepFailed:
            self._send(access.taken_back(label))
            raise
        self._prove(label, seconds)

    def _prove(self, label: str, seconds: int) -> None:
        """A second connection gets in, and the way back is disarmed; else StepFailed: the host takes it by itself."""
        try:
            access.prove(self.visit.connection)
        except Problem as error:
            raise StepFailed(
                f"{label}: no new connection got in, so {self.name} takes it back within {seconds} s",
                f"wait, then: fab -H {self.name} check",
                error.message,
            ) from None
        self._send(access.disarmed(label), anyway=True)

    def ask(self, script_text: str, *args: str) -> str:
        """A read-only question: one round trip; returns what it printed.

        Raises StepFailed, with what it printed, when it ends with another code than 0.
        """
        self._busy("asking")
        answer = self.visit.send(script.asked(script_text, args))
        text = "\0".join(answer.records).encode(errors="surrogateescape").decode(errors="replace").rstrip("\0")
        if answer.code:
            raise StepFailed(f"a question to {self.name} failed with exit code {answer.code}", "", text)
        return text

    def stream(self, program: str, *args: str, source: IO[bytes] | None = None, sink: IO[bytes] | None = None) -> None:
        """What is too large for a request, at once and beside the step: shell reads `source` and prints into `sink`.

        It runs in a dry run, too.  Raises StepFailed, with its last words, when it ends with another code than 0.
        """
        self._busy("passing on")
        self.visit.stream(program, args, source, sink)

    def follow(self, script_text: str, hear: Callable[[str, str], None], *args: str) -> None:
        """A question without an end: `hear(KIND, TEXT)` gets each record `KIND<TAB>TEXT` as it comes, until Ctrl-C.

        The host is told to stop by the mark `$box/stop`, which the script must look for (see session.sh).
        """
        try:
            self.visit.send(script.asked(script_text, args), tell=lambda record: hear(*record.partition("\t")[::2]))
        except KeyboardInterrupt:
            self.visit.close()


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None
