"""What runs a site's code, and as whom: the ways that T4 weighs, each by one word, for a site or for a path of it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, BeforeValidator, Field

from . import grammars
from .fields import FROZEN, number
from .refusal import Wrong, quoted

Word = Literal["fpm", "fcgid", "cgi", "itk", "server", "scgi", "ajp", "static"]
RUNTIMES: tuple[str, ...] = get_args(Word)

PHP = frozenset({"fpm", "fcgid", "itk"})
"""Those in which a site's PHP runs, as `php:` says."""
UNITS = frozenset({"server", "scgi", "ajp"})
"""Those that are programs of the site's own, which Apache speaks to."""
SUEXEC = frozenset({"fcgid", "cgi"})
"""Those in which Apache starts the site's programs, through suEXEC."""
PORTS = range(10_000, 20_000)
"""Where on the loopback sites' own programs may listen: below the ports that the kernel gives to connections."""
MOUNTS_MAX = 20

GONE = {
    "suphp": (
        "mod_suphp has had no release since 2013, and no Debian of today has it: it started a program anew for each "
        "request, as CGI does",
        "fcgid",
    ),
    "perchild": (
        "Apache's perchild MPM was never finished, and Apache 2.2 (2005) came without it: PHP as a module does not "
        "bear its threads",
        "itk",
    ),
    "metux": (
        "the metux MPM, perchild's successor, stayed a patch for Apache 2.0, and its site is gone: Debian never had it",
        "itk",
    ),
    "peruser": (
        "the peruser MPM, made of metux, stayed a patch for Apache 2.2 and knows nothing of 2.4 (2012): Debian never "
        "had it",
        "itk",
    ),
    "mod_fastcgi": (
        "mod_fastcgi has had no release since 2007 and is not free software: Debian took it out in 2016",
        "fcgid",
    ),
}
"""What T4 weighs and nobody can run today: since when and why, and what does the same now."""


def _word(value: Any) -> Any:
    """A word that is gone says so."""
    if isinstance(value, str) and (gone := GONE.get(value.lower())):
        why, instead = gone
        raise Wrong(f"{value} is gone: {why}; {instead} takes its place", instead)
    return value


Runtime = Annotated[Word, BeforeValidator(_word)]
Port = Annotated[int, Field(ge=PORTS.start, le=PORTS.stop - 1)]


def runtime_key(**default: Any) -> Any:
    """The key that says what runs the code."""
    return Field(
        **default,
        title="what runs the site's code",
        description=f"one of {', '.join(RUNTIMES)}",
        examples=["fcgid"],
    )


def command_key() -> Any:
    """The key for a program of the site's own."""
    return Field(
        default=None,
        title="for server and scgi: what listens, started in the release that serves, as the site's user",
        description="a line for sh, or null",
        examples=["exec ./serve --socket $LISTEN"],
    )


def listen_key() -> Any:
    """The key for where that listens."""
    return Field(
        default=None,
        title="for server, scgi and ajp: the port of 127.0.0.1 where it listens; null is a socket of its own",
        description=f"a port from {PORTS.start} to {PORTS.stop - 1}, or null",
        examples=[PORTS.start + 90],
    )


def webapps_key() -> Any:
    """The key for Tomcat's applications."""
    return Field(
        default=None,
        title="for ajp: the directory inside the source with Tomcat's applications",
        description="a path inside the source, or null",
        examples=["webapps"],
    )


class Mount(BaseModel):
    """A path of a site, and all below it, that something else runs than the site (T4, "Multiple web servers")."""

    model_config = FROZEN

    runtime: Runtime = runtime_key()
    command: grammars.Command | None = command_key()
    listen: Port | None = listen_key()
    webapps: grammars.InsidePath | None = webapps_key()


class Limits(BaseModel):
    """What the site's programs may take together, where they are units of their own; each, where Apache starts them."""

    model_config = FROZEN

    memory_mb: int = number(512, 32, 1_000_000, "memory of the site's programs, in MB")
    cpu_percent: int = number(100, 5, 100_000, "time of one processor, in percent; 200 is two")
    tasks: int = number(128, 4, 100_000, "processes and threads")
    requests: int = number(5, 1, 500, "for cgi: requests that are answered at once")
    files: int = number(1024, 64, 1_000_000, "files that one process may have open")
    tmp_mb: int | None = Field(
        default=None,
        ge=16,
        le=1_000_000,
        title="MB of memory that its tmp/ holds, whatever runs it; null is 256, or two uploads when that is more",
        description="a whole number from 16 to 1000000, or null",
        examples=[256],
    )


_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def _mounts(value: Any) -> Any:
    """Paths without a slash at their end, each once."""
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for text, mount in value.items():
        path = text.rstrip("/") if isinstance(text, str) else ""
        parts = path.split("/")[1:]
        if path == "" and text == "/":
            raise Wrong("/ is the site itself: say there what runs it", at=(text,), example=_EXAMPLE)
        if not path.startswith("/") or len(path) > 40 or not all(_PART.fullmatch(part) for part in parts):
            what = "must be a path of at most 40 letters, digits and _ -, a / before each part"
            raise Wrong(f"{what}, not {quoted(str(text))}", at=(text,), example=_EXAMPLE)
        if path in found:
            raise Wrong(f"{path} is there twice", at=(text,), example=_EXAMPLE)
        if not isinstance(mount, dict | Mount):
            raise Wrong(f"{path} must be keys such as runtime", at=(text,), example=_EXAMPLE)
        found[path] = mount
    if len(found) > MOUNTS_MAX:
        raise Wrong(f"holds {len(found)} paths; at most {MOUNTS_MAX} fit", example=_EXAMPLE)
    return found


_EXAMPLE = {"/wiki": {"runtime": "scgi", "command": "exec ./wiki --socket $LISTEN"}}

Mounts = Annotated[dict[str, Mount], BeforeValidator(_mounts)]


class Zone(NamedTuple):
    """A path of a site and what runs there: the site's own runtime at `/`, and each of its mounts."""

    path: str
    runtime: str
    owner: str
    command: str | None = None
    listen: int | None = None
    webapps: str | None = None

    @property
    def name(self) -> str:
        """Its name among those of its site, for files and units: `_` for `/`; no two paths of a site meet."""
        return self.path.strip("/").replace("-", "--").replace("/", "-") or "_"

    @property
    def socket(self) -> str:
        """Where it listens, unless `port` says otherwise."""
        return f"/run/gatehouse/{self.owner}/{self.name}.sock"

    @property
    def port(self) -> int | None:
        """The port where the program listens, on a loopback of its own behind its socket; None: it needs none."""
        return self.listen

    @property
    def within(self) -> str:
        """A regular expression's beginning that fits the path and all below it, and no other."""
        return "/" if self.path == "/" else f"{self.path}(?:/|$)"


def zones(owner: str, own: Zone, mounted: dict[str, Mount]) -> tuple[Zone, ...]:
    """The site's own and its mounts, the more particular ones later."""
    below = (Zone(path, m.runtime, owner, m.command, m.listen, m.webapps) for path, m in sorted(mounted.items()))
    return (own, *below)

