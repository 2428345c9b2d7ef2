"""A release on several hosts: its files are on one, and others show them.  (T5 VM5, VM2, VM1)

The files host takes the files and has the link to the release that serves; the app hosts, and in `mount: sync` the
static hosts, hear of it.  They are asked all at once, each under its own lock.
"""

from __future__ import annotations

from collections.abc import Callable

from .. import apache, php
from ..engine import Host, Problem, StepFailed
from ..engine.pool import Crew
from ..model import Problem as Wrong
from ..model import Refusal, Site
from . import Source, command, patience, patterns, shell

SYNC = "/usr/local/sbin/gatehouse-sync"


class Spread:
    """The other hosts that show a site whose files `host` has; none where it does all by itself."""

    def __init__(self, host: Host, site: Site) -> None:
        fleet = host.fleet
        readers = {reader.name for reader in fleet.readers} if fleet.keeps_files(host.name) else set[str]()
        self.host, self.site = host, site
        self.how: str = fleet.files.mount
        self.webs = [web.name for web in fleet.webs_of(site) if web.name in readers]
        statics = [static.name for static in fleet.having("static") if static.name in readers]
        self.statics = [name for name in statics if name not in self.webs] if self.how == "sync" else []
        self.lost: dict[str, Problem] = {}
        self.php: dict[str, str] = {}
        self.crew = Crew(fleet, [*self.webs, *self.statics])

    def __enter__(self) -> Spread:
        return self

    def __exit__(self, *_: object) -> None:
        self.crew.__exit__()

    def __bool__(self) -> bool:
        return bool(self.webs or self.statics)

    def gather(self) -> None:
        """Who is there?  Raises Refusal where the site is not on the net, and Problem when nobody could show it."""

        def work(other: Host) -> None:
            if other.name in self.webs:
                on_the_net(other, self.site)
                self.php[other.name] = php.version(other)

        if self:
            self._each([*self.webs, *self.statics], work, "asking the others")
            if self.webs and not self.there(self.webs) and not makes_pages(self.host):
                raise next(iter(self.lost.values()))

    def there(self, names: list[str]) -> list[str]:
        """Those of `names` that answered so far."""
        return [name for name in names if name not in self.lost]

    def fetch(self, id_: str) -> None:
        """In `sync`, each host gets the release's files, which serve nobody yet."""
        if self.how == "sync":
            self._each(
                [*self.statics, *self.webs],
                lambda other: other.at_once(f"{other.name} gets {id_}", f"progress {SYNC} {self.site} {id_}"),
                "the others get it",
            )

    def command(self, id_: str, what: Source, line: str) -> None:
        """A command of the site's where PHP is: on one host where the tree is one, on each that has its own."""
        if makes_pages(self.host):
            self.host.run(*command(self.site, id_, what, line))
            if self.how == "nfs":
                return
        webs = self.there(self.webs)
        for name in webs[:1] if self.how == "nfs" else webs:
            self._each([name], lambda other: other.at_once(*command(self.site, id_, what, line)), f"$ {line}")

    def show(self, id_: str, ask: bool = True) -> None:
        """All of them show this release now; with `ask`, a page of each must prove it."""
        self._each(self.statics, lambda other: self._shown(other, id_, ""), "the others show it")
        self._each(self.webs, lambda other: self._shown(other, id_, "ask" if ask else ""), "the others show it")

    def _shown(self, other: Host, id_: str, ask: str) -> None:
        site, program = self.site, self.php.get(other.name, "") if self.site.has("fpm") else ""
        other.at_once(
            f"{other.name} shows {id_}",
            shell("show"),
            *(site.root, site.owner, id_, program, site.domain, site.deploy.smoke, str(site.deploy.expect)),
            *(patience(site), self.how, ask, *patterns(site)),
        )

    def _each(self, names: list[str], work: Callable[[Host], None], busy: str) -> None:
        """Raises the first StepFailed or Refusal, with its host's name; who cannot be asked at all is `lost`."""
        if self.host.dry:
            return
        failed: list[Problem] = []

        def tried(other: Host) -> Refusal | None:
            other.visit.who = self.host.visit.who
            try:
                work(other)
            except Refusal as refusal:
                return refusal
            return None

        self.host.at(busy)
        for name, answer in self.crew.each(self.there(names), tried).items():
            if isinstance(answer, Refusal):
                raise answer
            if isinstance(answer, StepFailed):
                said = (answer.details or answer.message).splitlines()
                answer.details = "\n".join(f"{name}: {line}" for line in said)
                failed.append(answer)
            elif isinstance(answer, Problem):
                self.lost[name] = answer
        if failed:
            raise failed[0]

    def tell_lost(self) -> None:
        """Raises Problem when hosts were left out: what they show is told by nobody."""
        if self.lost:
            names, first = ", ".join(self.lost), next(iter(self.lost.values()))
            again = " ".join(f"fab -H {name} varnish.purge --site {self.site}" for name in list(self.lost)[:1])
            raise Problem(
                f"it serves, but {names} could not be told: {first.message}",
                f"when it answers again, it shows the same files; what its cache keeps is old: {again}",
            )


def makes_pages(host: Host) -> bool:
    """Whether PHP and Apache are on this host itself."""
    return "web" in host.fleet.roles(host.name)


def on_the_net(host: Host, one: Site) -> None:
    """Raises Refusal for a site that serves nobody: there is no visitor who could prove a release."""
    state = apache.state(host.facts, one)
    if state == "suspended":
        raise Refusal(Wrong(f"{one} is suspended on {host.name}", next=f"fab -H {host.name} site.resume {one}"))
    if state != "served":
        raise Refusal(Wrong(f"{one} is not on {host.name} yet", next=f"fab -H {host.name} site.apply {one}"))

