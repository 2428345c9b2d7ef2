"""`Host`: the verbs that chapters speak.

A step states what should be true; the difference to the facts is collected, and goes over as one script when the step
ends.  The first verb on a host takes the one look; after that every decision is local.
"""

from __future__ import annotations

import base64
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, ClassVar

from fabric import Connection

from ..model import Fleet, Site, find_fleet
from . import access, changes, mark, render, script
from .changes import Change
from .facts import Facts
from .problems import CheckRefused, NoHost, Outdated, Problem, StepFailed, Stopped, WrongSystem
from .remote import Answer, Login, Visit, login
from .report import Line, Report, diff
from .stop import stoppable

OPERATORS = "/etc/gatehouse/operators"
RELEASES = {"12": "bookworm", "13": "trixie"}
MACHINES = ("amd64", "arm64")

MINUTE = 60
"""Seconds that the clocks of host and operator may differ without a word."""

ADVICE = {
    "No space left on device": "make room on the host (`status` shows which disk, or its inodes, are full)",
    "Read-only file system": "find out why it is read-only (dmesg, /etc/fstab), mount it read-write",
    "Operation not permitted": "see whether somebody made it immutable (lsattr) and why (chattr -i)",
    "Device or resource busy": "see what is mounted there (findmnt)",
}

RUNBOOK = Path(__file__).resolve().parents[2]


class Host:
    """One server during one invocation of `fab`: its data, its snapshot, and the door to it."""

    known: ClassVar[dict[tuple[str, str, int], Host]] = {}

    def __init__(self, name: str, fleet: Fleet, visit: Visit, dry: bool = False) -> None:
        self.name, self.fleet, self.visit, self.dry = name, fleet, visit, dry
        self.sites: tuple[Site, ...] = fleet.sites_for(name)
        self.report: Report | None = None
        self.skew = 0
        self._facts: Facts | None = None
        self._real = Facts()
        self._pending: list[Change] = []
        self._planned: list[Change] = []
        self._held: list[Change] = []
        self._refused: CheckRefused | None = None
        self._kept: list[str] = []
        self._done: list[str] = []
        self._notes: list[str] = []
        self._diffs: list[str] = []
        self._step = ""
        self._doing = ""
        self._changed = False

    @classmethod
    def of(cls, c: Any) -> Host:
        """The host behind a task's context; the same one for every task of an invocation.

        Raises NoHost without -H, and Refusal when fleet.yml or a site is wrong: both before a connection is opened.
        """
        if not isinstance(c, Connection):
            raise NoHost("this task wants a host", "fab -H vps bootstrap")
        key = (c.user, c.host, c.port)
        if key not in cls.known:
            config = getattr(c.config, "_runtime_ssh_path", None)
            fleet = find_fleet(Path(config) if config else None, None, Path.cwd())
            cls.known[key] = cls(c.original_host, fleet, Visit(c), dry=bool(c.config.run.dry))
        return cls.known[key]

    # ------------------------------------------------------------------ what is known

    @property
    def facts(self) -> Facts:
        """The snapshot; the first use takes the look, and a use after an installation sends that first.

        Raises WrongSystem on anything but a Debian release that the chapters know, and Outdated when a run would take
        the host back to what a newer checkout has changed.
        """
        if self._pending and not self.dry and isinstance(self._pending[-1], changes.Install | changes.Run):
            self.flush()
        if self._facts is None:
            change = not self.dry and self.report is not None
            self._facts = self._look(change)
            if change and self._facts.unproved:
                self._send(access.taken_back("what another run had not proved"))
                self._facts = self._look(change)
            if self.dry:
                self._real = deepcopy(self._facts)
        return self._facts

    def _look(self, change: bool) -> Facts:
        self._busy("looking")
        asked = time.time()
        facts = Facts.of(self.visit.send(script.look(), change=change).raw)
        self.skew = skew(facts.clock, asked, time.time())
        self._checked(facts)
        if self.report is not None:
            self._refuse_to_go_back(mark.read(facts.mark))
        return facts

    def _checked(self, facts: Facts) -> Facts:
        if facts.system != "debian" or facts.release not in RELEASES:
            raise WrongSystem(
                f"{self.name} runs {facts.system or 'an unknown system'} {facts.release}; "
                "Gatehouse knows Debian 12 and 13",
                "install Debian 13 on it",
            )
        if facts.arch not in MACHINES:
            raise WrongSystem(
                f"{self.name} is a Debian for {facts.arch or 'an unknown machine'}; "
                f"Gatehouse knows {' and '.join(MACHINES)}",
                "install Debian 13 for amd64 on it",
            )
        return facts

    @property
    def places(self) -> dict[str, Path]:
        """Where what makes a host comes from: the runbook with its templates, and the sites."""
        return {"runbook": RUNBOOK, "sites": self.fleet.sites}

    def _refuse_to_go_back(self, there: mark.Mark) -> None:
        why = "" if os.environ.get(mark.ANYWAY) else mark.newer(there, self.places)
        if why:
            raise Outdated(
                f"{self.name} was last changed from {why} (by {there.by})",
                "git pull there, then type the same again; to go back on purpose, put "
                f"{mark.ANYWAY}=yes in front of it",
            )

    def _mark(self) -> str:
        """What the host shall remember of this run."""
        found = {name: mark.commit(place) for name, place in self.places.items()}
        return mark.Mark({name: commit for name, commit in found.items() if commit}, self.visit.who).text()

    @property
    def operators(self) -> list[str]:
        """The networks that must always get in: those of fleet.yml, those remembered on the host, and your own address.

        Each run adds to what the host remembers, so that two operators do not undo one another.  What somebody wrote
        there by hand and is no network is passed over, and so goes.
        """
        texts = (*self.fleet.operators, *self.facts.operators, self.facts.client)
        return sorted({str(network) for text in texts if (network := _network(str(text)))})

    @property
    def login(self) -> Login:
        """How we got in, and which algorithms this controller speaks."""
        assert self.facts
        return login(self.visit.connection)

    # ------------------------------------------------------------------ the verbs

    def remember_operators(self) -> None:
        """The host keeps the operators' networks, for whoever comes next."""
        self.file(OPERATORS, "".join(f"{network}\n" for network in self.operators))

    def packages(self, *names: str) -> None:
        """Debian packages are installed, without what they merely recommend."""
        facts = self.facts
        self._wish(changes.for_packages(facts, names), f"{names[0]} {facts.packages.get(names[0], '')} is installed")

    def user(
        self, name: str, home: str = "/nonexistent", shell: str = "/usr/sbin/nologin", groups: Iterable[str] = ()
    ) -> None:
        """A system user with a group of its own, and a member of `groups`."""
        self._wish(changes.for_user(self.facts, name, home, shell, groups), f"user {name} exists")

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
        text = answer.raw.decode(errors="replace").rstrip("\0")
        if answer.code:
            raise StepFailed(f"a question to {self.name} failed with exit code {answer.code}", "", text)
        return text

    def note(self, text: str) -> None:
        """Something the operator should read behind the step's line."""
        self._notes.append(text)

    # ------------------------------------------------------------------ steps and runs

    @contextmanager
    def running(self, run: str, as_json: bool = False) -> Iterator[Report]:
        """One run: what a person typed.  It ends with the history of /etc and the summary line."""
        if self.report is not None:
            yield self.report
            return
        self.report = Report(self.name, run, as_json)
        self.visit.trips = 0
        self.visit.who = f"{self.visit.me}: {run}"
        self._changed = False
        try:
            with stoppable(self._stop):
                try:
                    yield self.report
                    self._settle()
                except BaseException:
                    # What it changed before it failed belongs into the history too; the failure itself is what is told.
                    with suppress(Problem):
                        self._keep_history(run)
                    raise
                self._keep_history(run)
        finally:
            self.report.summary(self.visit.trips)
            self.report = None

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One step: what its body wishes goes over as one script at its end."""
        assert self.report is not None
        if self._step:
            yield
            return
        began, self._step = time.monotonic(), name
        self._kept, self._done, self._notes, self._diffs = [], [], [], []
        self._busy("")
        try:
            yield
            self.flush()
            outcome = ("would change" if self.dry else "changed") if self._done else "kept"
            reasons = self._done or [self._only_kept()]
            self.report.step(Line(name, outcome, [*self._notes, *reasons], self._seconds(began)), self._diffs)
        except BaseException as found:
            self._pending.clear()
            self._held.clear()
            self._refused = None
            self._facts = None
            error = self._left() if isinstance(found, KeyboardInterrupt) else found
            if isinstance(error, Stopped):
                error.next_step = f"fab -H {shlex.quote(self.name)} {self._run_name()}  (it goes on from there)"
            reason = error.message if isinstance(error, Problem) else str(error) or type(error).__name__
            outcome = "stopped" if isinstance(error, Stopped) else "failed"
            self.report.step(Line(name, outcome, [reason], self._seconds(began)))
            if error is not found:
                raise error from None
            raise
        finally:
            self._step = ""

    def flush(self) -> None:
        """Send what is wished so far."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        self._done += [change.summary for change in pending]
        if self.dry:
            self._plan(pending)
            return
        assert self._facts is not None
        pending, self._held, self._refused = [*self._held, *pending], [], None
        first, self._changed = not self._changed, True
        before = f"as found before gatehouse {self._run_name()}" if "etckeeper" in self._facts.packages else ""
        words = (before, self._mark()) if first else ()
        try:
            answer = self._send(script.apply(pending, self._facts, *words))
        except CheckRefused as error:
            self._hold(pending, error)
            return
        self._facts.stale = ()
        if any(isinstance(change, changes.Install | changes.Run) for change in pending):
            self._facts = self._checked(Facts.of(answer.raw))
        else:
            self._facts.take(answer.records)

    def _wish(self, needed: tuple[Change, ...], kept: str = "") -> None:
        if not needed and kept:
            self._kept.append(kept)
        for change in needed:
            self._pending.append(change)
            assert self._facts is not None
            change.predict(self._facts)

    def _hold(self, pending: list[Change], error: CheckRefused) -> None:
        """A check judges a whole service, and what it refuses may lie in a file that the flow's next step writes anew.

        So the step's files wait and are judged again with those, before the service takes any of them: nothing is in
        place yet.  What is more than files does not wait; nor does a step that is typed alone.
        """
        files = changes.PutFile | changes.PutLink | changes.Remove | changes.Rename | changes.MakeDirectory
        if self._run_name() == self._step or not (self.dry or all(isinstance(change, files) for change in pending)):
            raise error
        self._held, self._refused = pending, error
        self.note("its check refused it alone: it waits for the next step")

    def _settle(self) -> None:
        """At the end of a run nothing may wait any more."""
        error, self._refused = self._refused, None
        self._held.clear()
        if error:
            raise error

    def _plan(self, pending: list[Change]) -> None:
        """A dry run: what would be judged is judged, what would be replaced is shown."""
        box = script.plan(pending, self._planned, self._real)
        self._planned += pending
        if not box.lines:
            return
        try:
            records: Iterable[str] = self._send(box).records
            checks = {change.check for change in pending if isinstance(change, script.Candidate)}
            if {change.check for change in self._held if isinstance(change, script.Candidate)} <= checks:
                self._held, self._refused = [], None
        except CheckRefused as error:
            self._hold([*self._held, *pending], error)
            records = error.records
        former: dict[str, bytes] = {}
        for record in records:
            if record.startswith("was\t"):
                path, _, encoded = record[4:].partition("\n")
                former[path] = base64.b64decode(encoded)
        for change in pending:
            if isinstance(change, changes.PutFile) and change.path in former:
                self._diffs.append(diff(change.path, former[change.path], change.content))
            elif isinstance(change, changes.Remove) and change.path in former:
                self._diffs.append(diff(change.path, former[change.path], b""))

    def _send(self, box: script.Box, anyway: bool = False) -> Answer:
        """One request; raises StepFailed with the operation, its exit code and the last lines of its tool."""
        self._doing = self._step

        def tell(record: str) -> None:
            kind, _, text = record.partition("\t")
            if kind == "op":
                self._doing = text.partition("\t")[2]
                self._busy(self._doing)
            elif kind == "say":
                self._busy(f"{self._doing}: {text}")
            elif kind == "unjudged":
                self.note(f"not judged: {text}")

        answer = self.visit.send(box, change=not self.dry, tell=tell, anyway=anyway)
        stopped = next((record[8:] for record in answer.records if record.startswith("stopped\t")), None)
        if answer.code and stopped is not None:
            raise Stopped(f"stopped before: {stopped}; what was done stands, nothing more was begun")
        if answer.code:
            failed = next((record for record in answer.records if record.startswith("failed\t")), "failed\t\t")
            head, _, tail = failed.partition("\n")
            code = head.rpartition("\t")[2] or answer.code
            task = self._step or self._run_name()
            again = f"fab -H {shlex.quote(self.name)} {task}"
            refused = any(record.startswith("refused\t") for record in answer.records)
            error = (CheckRefused if refused else StepFailed)(
                f"{self._doing}: exit code {code}", advice(tail) + again, tail
            )
            if isinstance(error, CheckRefused):
                error.records = tuple(answer.records)
            raise error
        return answer

    def _keep_history(self, run: str) -> None:
        if self._changed and self.visit.ready:
            self._send(script.committed(f"gatehouse {run} by {self.visit.who}"), anyway=True)

    def _stop(self) -> str:
        self.visit.stop()
        if self.visit.ready:
            return "stopping"
        return f"stopping: {self.name} finishes this first: {self._doing}  (Ctrl-C again: leave it to that alone)"

    def _left(self) -> Stopped:
        """The second Ctrl-C: the line goes, and with it the host's reason to begin anything more."""
        self.visit.close()
        return Stopped(f"left at once: {self.name} ends by itself what it is at ({self._doing}), and does no more")

    def _busy(self, what: str) -> None:
        if self.report is not None:
            self.report.busy(self._step or self.report.run, what)

    def _only_kept(self) -> str:
        first = self._kept[0] if self._kept else "nothing to do"
        return first + (f", and {len(self._kept) - 1} more as wished" if len(self._kept) > 1 else "")

    def _run_name(self) -> str:
        return self.report.run if self.report else self._step

    @staticmethod
    def _seconds(began: float) -> float:
        return round(time.monotonic() - began, 2)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def advice(said: str) -> str:
    """What must be done on the host before the same can be typed again, by what its tools said."""
    for words, do in ADVICE.items():
        if words in said:
            return f"{do}, then: "
    return ""


def skew(clock: int, asked: float, answered: float) -> int:
    """Seconds that a host's clock, read between two moments of ours, is ahead (behind: negative); 0 within a minute."""
    ahead = clock - answered if clock > answered else min(clock - asked, 0)
    return round(ahead) if abs(ahead) > MINUTE else 0
