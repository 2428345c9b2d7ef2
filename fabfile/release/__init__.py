"""Releases: a site's former, present and next states, side by side; `public_html` is a link to the one that serves.

    /var/www/example.com/                   root's: what is in it, root alone renames
        public_html -> releases/20261121-063000
        releases/20261121-063000            the site's user's: `_`, `www`, ..., or `_app` and links to its web root
        releases/20261121-063000.from       who brought it, and from where; a release without it never served well
        shared/                             the site's user's: what outlives releases

Root moves links and makes and removes empty directories in its own directories; whatever happens inside a release is
done by the site's user.  So there is no moment at which that user could lead root anywhere.
"""

from __future__ import annotations

import json as json_
import re
import subprocess
import time
from calendar import timegm
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..engine import Facts, Host, Problem, StepFailed, as_data, console, query
from ..engine.transfer import LEFT_OUT, rsync
from ..haproxy.backends import balanced
from ..model import Problem as Wrong
from ..model import Refusal, Site
from ..model.grammars import byte_count

APACHE = "www-data"
VHOSTS = "/etc/apache2/vhost.d"
ID = re.compile(r"\d{8}-\d{6}")
WHEN = "%Y%m%d-%H%M%S"
APP = "_app"
"""Where an application lies in a release: no host name can be called so."""


WORDS = {"serve": ("words", "switch", "hear"), "turn": ("switch",), "note": ("switch",), "show": ("words", "hear")}
"""What a piece of shell is written in; of most others, it is `words` alone."""


HERE = Path(__file__).parent


def shell(name: str) -> str:
    """A piece of shell of this package, after the words that it is written in."""
    return "".join((HERE / f"{each}.sh").read_text() for each in (*WORDS.get(name, ("words",)), name))


class Release(NamedTuple):
    """One of a site's releases, as `site.releases` tells of it: its ID is when it came, in UTC."""

    id: str
    serves: bool
    source: str


@query(
    positional=["site"],
    help={"site": "the domain, as in the name of its file in sites/", "json": "print the same as JSON"},
)
def releases(c, site, json=False):
    """On call: a site's releases, newest first: which one serves, who brought each, and from where."""
    host = Host.of(c)
    one = host.site(site)
    files_here(host, one, f"site.releases {one}")
    found = read(host.ask(shell("list"), one.root))
    if json:
        print(json_.dumps([as_data(each) for each in found], indent=2))
        return
    for each in found:
        console.print(f"{each.id}  {'serves' if each.serves else '      '}  {each.source}", markup=False)
    if not found:
        console.print(f"none yet: fab -H {host.name} site.deploy {site} --source DIR")


def files_here(host: Host, site: Site, words: str) -> None:
    """Raises Refusal on a host that has the site's files from another one, where `words` are what to type."""
    if not host.fleet.keeps_files(host.name):
        keeper = host.fleet.one("files")
        raise Refusal(Wrong(f"the files of {site} are on {keeper}", next=f"fab -H {keeper} {words}"))


def read(answer: str) -> list[Release]:
    """The lines of LIST, newest first."""
    rows = (line.split("\t") for line in answer.splitlines())
    return sorted(
        (Release(id_, bool(serves), source) for id_, serves, source in rows), key=lambda r: r.id, reverse=True
    )


# ---------------------------------------------------------------------- what the flows are made of


class Source(NamedTuple):
    """A directory on this machine that becomes a release.

    With a directory `_` it is public_html itself: a directory for each name. Any other is an application, which lies
    in `_app` and shows its web root under every name.
    """

    path: Path
    app: str
    origin: str

    @property
    def inner(self) -> str:
        """`/_app`, or nothing: where in a release the files of the source lie."""
        return f"/{self.app}" if self.app else ""


def source(site: Site, text: str) -> Source:
    """What `--source` means.  Raises Refusal for what is no directory, is empty, or lacks the site's web root."""
    path = Path(text).expanduser()
    if not text or not path.is_dir():
        near = (
            [str(each) for each in sorted(path.parent.glob("*")) if each.is_dir()][:5] if path.parent.is_dir() else []
        )
        what = f"{text} is not a directory" if text else "--source names no directory"
        raise Refusal(Wrong(what, key="--source", example=", ".join(near)))
    if not any(each.name not in LEFT_OUT for each in path.iterdir()):
        raise Refusal(Wrong(f"{text} is empty: a release of it would be an empty site", key="--source"))
    root = site.deploy.docroot
    if root and not (path / root).is_dir():
        near = [each.name for each in sorted(path.iterdir()) if each.is_dir() and each.name not in LEFT_OUT]
        raise Refusal(
            Wrong(
                f"{text} has no directory {root}, which is the web root of {site}; it has {', '.join(near) or 'none'}",
                key="deploy.docroot",
                example=f"docroot: {near[0]}" if near else "",
            )
        )
    app = "" if (path / "_").is_dir() and not root else APP
    return Source(path, app, " ".join(filter(None, (str(path.resolve()), _commit(path)))))


def _commit(path: Path) -> str:
    """Which commit a checkout is at; nothing for what is none."""
    line = ["git", "-C", str(path), "describe", "--always", "--dirty", "--tags"]
    try:
        return subprocess.run(line, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def known(facts: Facts, site: Site) -> list[str]:
    """The site's whole releases, oldest first."""
    place = f"{site.root}/releases"
    names = (path.rpartition("/")[2] for path in facts.children(place, ".from"))
    return [name.removesuffix(".from") for name in names if f"{place}/{name.removesuffix('.from')}" in facts.files]


def serving(facts: Facts, site: Site) -> str:
    """The ID of the release that serves; nothing where public_html is a directory, on another host, or not there."""
    now = facts.files.get(site.served)
    return now.target.removeprefix("releases/") if now and now.target.startswith("releases/") else ""


def new_id(facts: Facts, site: Site) -> str:
    """The moment, and always later than every release that is there: their order is that of their names."""
    place = f"{site.root}/releases"
    taken = [path.rpartition("/")[2][:15] for path in facts.children(place)]
    latest = max((timegm(time.strptime(name, WHEN)) for name in taken if ID.fullmatch(name)), default=0)
    return time.strftime(WHEN, time.gmtime(max(facts.clock, latest + 1)))


def target(facts: Facts, site: Site, to: str) -> str:
    """The release that a rollback means.  Raises Refusal with those that there are."""
    there, now = known(facts, site), serving(facts, site)
    if to:
        if to in there:
            return to
        raise Refusal(
            Wrong(f"{site} has no release {to}", key="--to", example=", ".join(reversed(there)) or "none yet")
        )
    if earlier := [one for one in there if one < now]:
        return earlier[-1]
    raise Refusal(
        Wrong(
            f"{site} has no release before {now or 'the first'}; it has {', '.join(reversed(there)) or 'none'}",
            next=f"site.releases {site}",
        )
    )


def begin(host: Host, site: Site, id_: str) -> None:
    """An empty release of the site's user, once what broken deploys left is gone."""
    host.run(f"releases/{id_} begins", shell("begin"), site.root, site.owner, id_)


def bring(host: Host, site: Site, id_: str, what: Source) -> str:
    """The files travel; returns how much that was."""
    former = serving(host.facts, site)
    like = [f"../../{former}/{APP}", f"../../{former}/_"] if what.app else [f"../{former}"]
    said = rsync(host.visit, what.path, f"{site.root}/releases/{id_}{what.inner}", site.owner, like if former else ())
    sent = re.search(r"Total bytes sent: (\S+)", said)
    files = re.search(r"Number of files: (\S+)", said)
    return f"{files[1] if files else '?'} files, {sent[1] if sent else '?'} bytes sent"


def finish(host: Host, site: Site, id_: str, what: Source) -> None:
    """What surrounds them."""
    deploy = site.deploy
    host.run(
        f"releases/{id_} is furnished",
        shell("finish"),
        *(site.root, site.owner, id_, what.app, deploy.docroot, *site.rooms, "--", *deploy.shared),
    )


def command(site: Site, id_: str, what: Source, line: str) -> tuple[str, ...]:
    """One line of the site's YAML, as its user, within its limits: its label, the shell for it, and its words."""
    limits = str(site.deploy.timeout), str(memory(site))
    return f"$ {line}", shell("command"), site.owner, site.root, id_, what.app, *limits, line


def memory(site: Site) -> int:
    """Bytes for one command: what all workers of the site may take together."""
    return site.php.children * byte_count(site.php.memory_limit) if site.php else 512 << 20


def serve(host: Host, site: Site, id_: str, php: str, origin: str, back: bool) -> None:
    """One rename; workers, Varnish and a visitor hear of it; the former release comes `back` when the page fails."""
    # An edge with several web servers behind it might ask another one than this.
    alone = "edge" in host.fleet.roles(host.name) and not balanced(host)
    host.run(
        f"releases/{id_} serves",
        shell("serve"),
        *(site.root, site.owner, id_, php if site.has("fpm") else "", site.domain, site.deploy.smoke),
        *(str(site.deploy.expect), patience(site), origin, "back" if back else ""),
        *("haproxy" if alone else "apache", *patterns(site)),
    )


def turn(host: Host, site: Site, id_: str) -> None:
    """The switch alone, where other hosts show what serves (see spread)."""
    host.run(f"releases/{id_} is what serves", shell("turn"), site.root, id_)


def turn_back(host: Host, site: Site, id_: str, former: str) -> None:
    """The former release again, at once and whatever else was meant to stop; `id_` is none to return to."""
    host.at_once(f"releases/{former} serves again", shell("turn"), site.root, former)
    host.at_once(f"releases/{id_} is forgotten", shell("forget"), site.root, id_)


def note(host: Host, site: Site, id_: str, origin: str) -> None:
    """It serves well: it may be returned to."""
    host.run(f"releases/{id_} is noted", shell("note"), site.root, id_, origin)


def patience(site: Site) -> str:
    """Seconds in which whatever a former release is at has ended."""
    return str(site.seconds + 5)


def patterns(site: Site) -> list[str]:
    """The site's names as regular expressions, each short enough for a line of Varnish's."""
    names = [name.replace(".", "[.]") for name in site.names]
    return ["|".join(names[at : at + 25]) for at in range(0, len(names), 25)]


def keep(host: Host, site: Site) -> None:
    """Old releases go."""
    host.run(f"{site.deploy.keep} releases are kept", shell("keep"), site.root, site.owner, str(site.deploy.keep))


@contextmanager
def again(host: Host, *words: str) -> Iterator[None]:
    """What fails inside is told by its own last line, and ends with these words to type."""
    try:
        yield
        host.flush()
    except StepFailed as error:
        *more, last = error.details.splitlines() or [error.message]
        error.message, error.details = (last, "\n".join(more)) if error.details else (error.message, "")
        error.args = (error.message,)
        first = error.next_step.partition("fab -H")[0]  # such as: make room on the host, then
        error.next_step = first + " ".join(("fab", "-H", host.name, *words))
        raise


__all__ = ["Problem", "Release", "Source", "begin", "bring", "finish", "keep", "releases", "serve", "source", "target"]
