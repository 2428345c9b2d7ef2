"""Purging: one address at Varnish's own socket, or a whole site by a ban."""

from __future__ import annotations

import json as json_
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit

from invoke import Exit

from ..engine import Host, Problem, StepFailed, as_data, console, query
from ..model import Problem as Wrong
from ..model import Refusal, Site, chosen_site, nearest
from ..model.names import unicode_form
from ..model.refusal import quoted

SAFE = "!$%&'()*+,/:;=?@-._~"
"""What stays as it is in a path and a query (RFC 3986, 3.3 and 3.4), and the sign of what is encoded already."""

# Each spelling of the path is an object of its own, with all its variants; X-Purged tells how many went.
PURGE = r"""
name=$1
shift
for path do
    printf 'PURGE %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$path" "$name" |
        socat -t 5 - UNIX-CONNECT:/run/varnish/purge.sock | tr -d '\r' | sed '/^$/q' > answer || exit 1
    count=$(sed -n 's/^[Xx]-[Pp]urged: //p' answer)
    [ -n "$count" ] || { cat answer; exit 1; }
    printf '%s\n' "$count"
done
"""

# A ban holds from the moment it is made; Varnish's lurker then looks for what it hits (ban_lurker_age, varnishd(1)).
BAN = """
for names do varnishadm -t 5 ban obj.http.X-Host '~' "$names" > said || { cat said; exit 1; }; done
"""
# `ban.list` marks a ban with C once the lurker is through, or it is gone from the list.
COUNT = """
gone() {
    varnishstat -1 -t 5 -f MAIN.bans_obj_killed -f MAIN.bans_lurker_obj_killed | awk '{ n += $2 } END { print n }'
}
before=$(gone)
"""
WAIT = """
for turn in $(seq 50); do
    [ ! -e "$box/stop" ] || break
    varnishadm -t 5 ban.list | awk '/obj.http.X-Host/ && $3 != "C" { found = 1 } END { exit !found }' || break
    sleep 0.2
done
echo "$(($(gone) - before))"
"""

NAMES_IN_A_BAN = 20


class Purged(NamedTuple):
    """What went from one host's cache: `what` is the address or the site, `removed` the number of kept answers."""

    host: str
    what: str
    removed: int
    fault: str = ""

    def __str__(self) -> str:
        if self.fault:
            return self.fault
        if self.removed:
            return f"{self.removed} kept {'answer' if self.removed == 1 else 'answers'} of {self.what} went"
        return f"nothing was kept of {self.what}"


@query(
    positional=["url"],
    help={
        "url": "an address such as https://example.com/news: that page alone, in all its variants",
        "site": "a site's domain instead: everything that is kept of it, under all its names",
        "json": "print the same as JSON",
    },
)
def purge(c, url="", site="", json=False):
    """On call: let Varnish forget an address in all its variants, or all of a site; it says how much went.

    An address is purged as it is typed: another query string is another page. Nothing kept is no failure.
    """
    host = Host.of(c)
    target = wanted(host.sites, url, site, f"{host.name} has")
    if host.dry:
        console.print(f"{host.name}  {target} would be purged", markup=False)
    else:
        show([purged(host, target)], json)


class Target(NamedTuple):
    """What shall go: a site as a whole, or the path, as it was typed and as a browser sends it, under one name."""

    site: Site
    name: str = ""
    paths: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"https://{self.name}{self.paths[0]}" if self.name else f"all of {self.site.both}"


def wanted(sites: Sequence[Site], what: str, site: str, where: str = "there is") -> Target:
    """The target that was typed.  Raises Refusal, with the nearest names, for what is none of these sites'."""
    if bool(what) == bool(site):
        raise Refusal(Wrong("either an address or --site", example="https://example.com/news, or --site example.com"))
    if site:
        return Target(chosen_site(sites, site, where))
    url = _split(what)
    names = {name: site for site in sites for name in site.names}
    typed = (url.hostname or "").rstrip(".")
    name = next((name for name in names if typed in (name, unicode_form(name))), "")
    if not name:
        examples = ", ".join(f"https://{near}{url.path or '/'}" for near in nearest(typed, names))
        raise Refusal(Wrong(f"{where} no site with the name {quoted(typed)}", example=examples or "none yet"))
    query = f"?{quote(url.query, SAFE)}" if url.query else ""
    path = url.path or "/"
    # As it was typed, and with nothing encoded that need not be: a browser sends the one or the other.
    paths = (quote(path, SAFE) + query, quote(unquote(path), SAFE.replace("%", "")) + query)
    return Target(names[name], name, tuple(dict.fromkeys(paths)))


def _split(text: str) -> SplitResult:
    try:
        url = urlsplit(text if "://" in text else f"https://{text}")
        good = url.scheme in ("http", "https") and url.port in (None, 80, 443)
    except ValueError:
        good = False
    if not good or any(not sign.isprintable() or sign.isspace() for sign in text):
        raise Refusal(Wrong(f"{quoted(text)} is no address of a page", example="https://example.com/news"))
    return url


def purged(host: Host, target: Target) -> Purged:
    """Let it go from this host's cache, and count.  Raises Problem when Varnish does not answer."""
    if target.name:
        return Purged(host.name, str(target), sum(map(int, _asked(host, PURGE, target.name, *target.paths).split())))
    return Purged(host.name, str(target), int(_asked(host, COUNT + BAN + WAIT, *bans(target.site))))


def purge_site(host: Host, site: Site) -> None:
    """Nothing that this host's Varnish keeps of the site is served any more, from this moment on.

    Raises Problem when Varnish does not answer. It does not wait for what is kept to be taken out of memory.
    """
    _asked(host, BAN, *bans(site))


def bans(site: Site) -> Iterator[str]:
    """The site's names as expressions for Varnish: a name has letters, digits, dots and hyphens, and nothing else."""
    names = [name.replace(".", "[.]") for name in site.names]
    for first in range(0, len(names), NAMES_IN_A_BAN):
        yield f"^({'|'.join(names[first : first + NAMES_IN_A_BAN])})$"


def show(rows: Sequence[Purged], json: bool = False) -> None:
    """What became of it, a line a host, or as JSON.  Exit code 1 when a host did not answer."""
    if json:
        print(json_.dumps([as_data(row) for row in rows], indent=2))
    else:
        for row in rows:
            console.print(f"{row.host}  {row}", markup=False)
    if any(row.fault for row in rows):
        raise Exit(code=1)


def _asked(host: Host, question: str, *args: str) -> str:
    try:
        return host.ask("set -e\n" + question, *args)
    except StepFailed as error:
        raise Problem(f"Varnish on {host.name} gives no answer", f"fab -H {host.name} varnish", error.details) from None
