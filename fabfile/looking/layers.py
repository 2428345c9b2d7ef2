"""What is said of each layer that a request went through, and what to type next.  Pure: from a Walk to words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from .cached import Verdict, verdict
from .screen import took
from .walking import Walk

# What HAProxy answers itself, by its rules (haproxy.cfg).
RULES = {
    400: "the request is not well-formed",
    403: "it is refused",
    405: "this method is not served",
    411: "it must say how long its body is",
    413: "its body is larger than the site takes",
    414: "its address is too long",
    421: "HAProxy does not know this name yet",
    429: "this client sends too much (fab --help haproxy.configure)",
    431: "its headers are too large",
    503: "the site is suspended",
}


class Layer(NamedTuple):
    """One line of the answer; a `bad` one is why, or would be why."""

    name: str
    text: str
    bad: bool = False


class Seen(NamedTuple):
    """A walk, with what cannot be told from the host: the operator's own look at DNS, and the address he came to."""

    walk: Walk
    host: str
    here: Sequence[str]
    came_to: Sequence[str]

    @property
    def cache(self) -> Verdict | None:
        """What Varnish says of it."""
        return verdict(self.walk.varnish)

    @property
    def away(self) -> str:
        """The other host whose Varnish, or whose files, were asked, from an edge; empty when it was this host's."""
        front = self.walk.front
        server = front.server.partition(":")[0] if front else ""
        local = front is None or front.backend == "acme" or server in ("varnish", "<NOSRV>", self.host)
        return "" if local else server

    @property
    def files(self) -> str:
        """The static host that was asked; empty when it was not one, or a web server in its place."""
        front = self.walk.front
        a_file = front is not None and front.backend.partition(":")[0] == "static" and ":" not in front.server
        return front.server if front and a_file and front.server != "<NOSRV>" else ""

    def layers(self) -> list[Layer]:
        """From the outside in, as far as it came."""
        return [*self._dns(), *self._tls(), *self._haproxy(), *self._behind()]

    def _dns(self) -> Iterator[Layer]:
        there = self.walk.facts.get("resolved", "").split()
        mine = {*self.walk.facts.get("addresses", "").split(), *self.came_to}
        found = [*dict.fromkeys([*self.here, *there])]
        strange = [address for address in found if address not in mine]
        if not found:
            yield Layer("dns", f"{self.walk.target.name} has no address", True)
        elif strange:
            behind = "; behind NAT that may be right" if len(strange) == len(found) else ""
            yield Layer("dns", f"{', '.join(strange)}: not this host ({', '.join(sorted(mine))}){behind}", True)
        else:
            seen = "" if self.here else " (as seen from the host; from here it has no address)"
            yield Layer("dns", f"{', '.join(found)}: this host{seen}")

    def _tls(self) -> Iterator[Layer]:
        facts = self.walk.facts
        if self.walk.target.scheme == "http":
            yield Layer("tcp", "port 80, plain: only redirects to https, and the CA's challenges")
        elif "tls" not in facts:
            yield Layer("tls", "nobody answers on port 443", True)
        else:
            days = (int(facts["ends"]) - int(facts["end"])) // 86400 if "ends" in facts else 0
            ends = datetime.fromtimestamp(int(facts.get("ends", 0)), UTC)
            whose = (facts.get("subject") or "somebody") if "wrongname" in facts else self.walk.target.name
            text = f"{facts['tls']}, {facts.get('alpn', 'no ALPN')}; certificate for {whose} until {ends:%Y-%m-%d}"
            text += f" ({days} days), by {facts.get('issuer', 'nobody')}"
            if "wrongname" in facts:
                yield Layer("tls", f"{text}; it does not name {self.walk.target.name}", True)
            elif days < 0:
                yield Layer("tls", f"{text}; it has expired", True)
            elif not facts.get("verify", "0").startswith("0"):
                yield Layer("tls", f"{text}; no CA that this host trusts")
            else:
                yield Layer("tls", text)

    def _haproxy(self) -> Iterator[Layer]:
        walk, front = self.walk, self.walk.front
        down = [name for name, state in walk.servers.items() if state.startswith("DOWN")]
        if front is None:
            yield Layer(
                "haproxy", f"it is {walk.units.get('haproxy', 'not there')}, and has no line of the request", True
            )
            return
        text = f"{front.frontend} -> {front.backend}/{front.server}: {front.status} in {took(front.took, front.spent)}"
        if front.ending:
            why = RULES.get(front.status, "") if front.state[0] in "LP" else ""
            text += f"; {front.ending}" + (f": {why}" if why else "")
        if down:
            text += f"; down: {', '.join(down)}"
        yield Layer("haproxy", text, bool(down) or (bool(front.ending) and front.status >= 400))

    def _behind(self) -> Iterator[Layer]:
        walk, front, cache = self.walk, self.walk.front, self.cache
        if front is None or walk.target.scheme == "http":
            return
        if self.files:
            yield Layer("files", f"{front.status} from {self.files}", front.status >= 400)
            return
        if self.away:
            yield Layer("varnish", f"on {self.away}")
            return
        if cache:
            yield Layer(
                "varnish",
                f"{cache.result}: {cache.why}{f' ({cache.failed})' if cache.failed else ''}",
                bool(cache.failed),
            )
        elif front.server == "<NOSRV>":
            yield Layer("varnish", "it was not asked", walk.units.get("varnish") != "active")
        yield from self._apache()
        yield from self._php()

    def _apache(self) -> Iterator[Layer]:
        facts, back = self.walk.facts, self.walk.back
        site, directory = self.walk.target.site, self.walk.target.directory
        place = f"{site.root}/public_html/{directory}"
        if facts.get("vhost") == "off":
            yield Layer("vhost", f"{site} is suspended", True)
        elif facts.get("vhost") != "on":
            yield Layer("vhost", f"there is none for {site} on {self.host}", True)
        elif facts.get("directory") != "there":
            yield Layer("vhost", f"{place} is not there", True)
        elif back:
            yield Layer("vhost", f"{back[-1].status} from {place}", back[-1].status >= 400)
        elif self.walk.units.get("apache2") != "active":
            yield Layer("vhost", f"Apache is {self.walk.units.get('apache2', 'not there')}", True)
        else:
            yield Layer("vhost", f"{place}; it was not asked")

    def _php(self) -> Iterator[Layer]:
        busy, _, most = self.walk.facts.get("pool", "").partition(" ")
        fpm = {name: state for name, state in self.walk.units.items() if name.startswith("php")}
        if not most:
            yield Layer("php", "the site has none")
            return
        queue = self.walk.facts.get("queue") or "0"
        full = int(busy) >= int(most) or int(queue or 0) > 0
        text = f"{busy} of {most} workers, {queue} waiting"
        if any(state != "active" for state in fpm.values()):
            text += "; " + ", ".join(f"{name} is {state}" for name, state in fpm.items())
            full = True
        yield Layer("php", text, full)

    def next_step(self) -> str:
        """What to type now."""
        walk, site = self.walk, self.walk.target.site
        fab = f"fab -H {self.host}"
        number = walk.front.id[:8] if walk.front else ""
        bad = {layer.name: layer for layer in self.layers() if layer.bad}
        broken = [name for name, state in walk.units.items() if state != "active"]
        ways = (
            (walk.facts.get("vhost") == "off", f"{fab} site.resume {site}"),
            (broken or "tls" in bad or (walk.status == 421 and walk.front), f"{fab} bootstrap"),
            (self.away, f"fab -H {self.away} logs {site} --id {number}"),
            (
                "php" in bad and walk.status >= 500,
                f"{fab} logs {site}; its file in sites/ has php: children",
            ),
            (walk.status >= 400 and number, f"{fab} logs {site} --status {walk.status}"),
            ("dns" in bad, f"point {walk.target.name} to {' '.join(self.came_to)} (A, AAAA), then type the same again"),
            (bad, f"{fab} status"),
        )
        return next((step for needed, step in ways if needed), "")
