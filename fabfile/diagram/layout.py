"""Where everything stands: a card a host, top down as a request goes, with what comes in above and a bus between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from ..model import Fleet, Machine, Site

EDGE, PAD, GAP = 24, 20, 46
"""Around the picture, inside a card, and between two layers: room for an arrow and its label."""

BOX, HEAD, FOOT = 54, 46, 42
MARGIN = 52
"""Right of a host that orders certificates: for the arrow from lego to the CA, and its label."""

POOL_WIDTH, POOL_HEIGHT, POOL_GAP = 158, 50, 10
MOST = 12
"""Sites that a card shows; of more, the rest is a number."""

NAME, NOTE = 7.9, 6.2
"""Width of a letter of a box's title, and of its note, about."""


class Box(NamedTuple):
    """A service: `kind` is its class in the style sheet, `port` where it listens."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str
    port: str = ""
    note: str = ""

    @property
    def shown(self) -> str:
        """The title, as far as it fits."""
        return _cut(self.title, (self.width - 24) / NAME - (len(self.port) + 2 if self.port else 0))

    @property
    def told(self) -> str:
        """The note, as far as it fits."""
        return _cut(self.note, (self.width - 20) / NOTE)

    @property
    def bottom(self) -> float:
        """Where arrows leave it."""
        return self.y + self.height

    @property
    def middle(self) -> float:
        """Its middle, from the left."""
        return self.x + self.width / 2


class Arrow(NamedTuple):
    """A flow, along right angles; `label` stands beside its point `at`."""

    points: tuple[tuple[float, float], ...]
    label: str = ""
    at: tuple[float, float] = (0, 0)
    head: bool = True

    @property
    def path(self) -> str:
        """For SVG."""
        return "M" + " L".join(f"{x:g} {y:g}" for x, y in self.points)


@dataclass
class Card:
    """A host, or a group of boxes within it."""

    x: float
    y: float
    width: float
    height: float
    title: str
    note: str = ""
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    groups: list[Card] = field(default_factory=list)


@dataclass
class Drawing:
    """The whole picture."""

    width: float
    height: float
    cards: list[Card]
    boxes: list[Box]
    arrows: list[Arrow]


def lay_out(fleet: Fleet) -> Drawing:
    """A picture of the fleet; without hosts in fleet.yml, of the one host that would be given with -H."""
    machines = list(fleet.hosts.values()) or [Machine(name="vps")]
    edges = [machine for machine in machines if "edge" in machine.roles]
    fronts = edges or [machine for machine in machines if machine.serves]
    behind = [machine for machine in machines if machine not in fronts]
    top = EDGE + BOX + (60 if len(fronts) == 1 else 84)
    first = _row(fleet, fronts, top, front=True)
    second = _row(fleet, behind, max(card.y + card.height for card in first) + 80, front=False) if behind else []
    width = max(card.x + card.width for card in [*first, *second]) + EDGE + MARGIN
    for row in (first, second):
        _centre(row, width)
    height = max(card.y + card.height for card in [*first, *second]) + EDGE
    boxes, arrows = _outside(fleet, first)
    arrows += _bus(first, [card for card in second if _box(card, "varnish")])
    return Drawing(width, height, [*first, *second], boxes, arrows)


def _row(fleet: Fleet, machines: Sequence[Machine], top: float, front: bool) -> list[Card]:
    cards: list[Card] = []
    for machine in machines:
        left = cards[-1].x + cards[-1].width + (MARGIN if front else 32) + 8 if cards else EDGE
        cards.append(_card(fleet, machine, left, top, front))
    return cards


def _card(fleet: Fleet, machine: Machine, left: float, top: float, front: bool) -> Card:
    """A host from its door down to its databases."""
    web = machine.serves
    sites = fleet.sites_for(machine.name) if web else ()
    columns = 4 if len(sites) > 3 else 3
    inner = columns * POOL_WIDTH + (columns - 1) * POOL_GAP + 2 * POOL_GAP
    card = Card(left, top, inner + 2 * PAD, 0, machine.name, _note(machine, front, web))
    x, y = left + PAD, top + HEAD
    if front:
        haproxy = Box(x, y, inner, BOX, "haproxy", "HAProxy", ":80 :443", "TLS, HTTP/2, limits for each client")
        card.boxes.append(haproxy)
        y = haproxy.bottom + GAP
        lego = Box(x + inner * 0.64, y, inner * 0.36, BOX, "lego", "lego", ":8082", "during an order alone")
        card.boxes.append(lego)
        card.arrows.append(_down(haproxy, lego, "ACME challenges"))
    if web:
        wide = inner * 0.58 if front else inner
        where = ":8081" if front or not machine.address else f"{machine.address}:8081"
        varnish = Box(x, y, wide, BOX, "varnish", "Varnish", where, "cache, grace, purge")
        card.boxes.append(varnish)
        if front:
            card.arrows.append(_down(haproxy, varnish, "PROXY protocol"))
        y = _backend(card, varnish, sites, x, inner)
    elif front:
        y += BOX
    for role in (role for role in machine.roles if role not in ("web", "edge")):
        card.boxes.append(Box(x, y, inner, BOX, "other", role))
        y += BOX + POOL_GAP
    card.height = y + FOOT - top
    return card


def _backend(card: Card, varnish: Box, sites: Sequence[Site], x: float, inner: float) -> float:
    """Apache, a pool a site, and where these keep what they know.  Returns where it ends."""
    apache = Box(x, varnish.bottom + GAP, varnish.width, BOX, "apache", "Apache", ":8080", "event MPM, a vhost a site")
    card.boxes.append(apache)
    card.arrows.append(_down(varnish, apache, "HTTP, loopback"))
    pools = _pools(sites, x, apache.bottom + GAP, inner)
    card.groups.append(pools)
    end = pools.y + pools.height
    door = (apache.middle, apache.bottom), (apache.middle, pools.y)
    card.arrows.append(Arrow(door, "FastCGI, a unix socket a site", (apache.middle + 8, apache.bottom + GAP / 2 + 4)))
    stores = []
    if any(site.php for site in sites):
        stores.append(("redis", "Redis", "sessions, in memory"))
    if any(site.database for site in sites):
        stores.append(("mariadb", "MariaDB", "a database a site"))
    if not stores:
        return end
    width = (inner - POOL_GAP) / 2
    for at, (kind, title, note) in enumerate(stores):
        store = Box(x + at * (width + POOL_GAP), end + GAP, width, BOX, kind, title, "unix socket", note)
        card.boxes.append(store)
        card.arrows.append(Arrow(((store.middle, end), (store.middle, store.y))))
    return end + GAP + BOX


def _pools(sites: Sequence[Site], x: float, y: float, inner: float) -> Card:
    """A box a site: its pool of workers and the user they run as."""
    columns = int(inner // (POOL_WIDTH + POOL_GAP))
    shown = sites if len(sites) <= MOST else sites[: MOST - 1]
    group = Card(x, y, inner, 0, "PHP-FPM", "a pool and a user a site")
    width = (inner - (columns + 1) * POOL_GAP) / columns
    for at, site in enumerate(shown):
        place = x + POOL_GAP + at % columns * (width + POOL_GAP), y + 32 + at // columns * (POOL_HEIGHT + POOL_GAP)
        group.boxes.append(_pool(site, *place, width))
    if len(sites) > len(shown):
        at = len(shown)
        place = x + POOL_GAP + at % columns * (width + POOL_GAP), y + 32 + at // columns * (POOL_HEIGHT + POOL_GAP)
        rest = f"and {len(sites) - len(shown)} more"
        group.boxes.append(Box(*place, width, POOL_HEIGHT, "more", rest, "", "sites"))
    rows = -(-len(group.boxes) // columns) or 1
    group.height = 32 + rows * (POOL_HEIGHT + POOL_GAP)
    return group


def _pool(site: Site, x: float, y: float, width: float) -> Box:
    if not site.php:
        return Box(x, y, width, POOL_HEIGHT, "files", site.shown, "", "files alone")
    workers = f"{site.php.children} worker{'' if site.php.children == 1 else 's'}"
    return Box(x, y, width, POOL_HEIGHT, "php", site.shown, "", f"{workers}, {site.owner}")


def _note(machine: Machine, front: bool, web: bool) -> str:
    """What its firewall lets in."""
    doors = "22, 80, 443" if front else "22, and 8081 from the edge" if web else "22"
    return " · ".join(part for part in (str(machine.address or ""), f"iptables lets in {doors}", "fail2ban") if part)


def _outside(fleet: Fleet, fronts: Sequence[Card]) -> tuple[list[Box], list[Arrow]]:
    """Visitors and the CA, above, and their ways in; lego's way out goes along the card's right side."""
    visitors = Box(fronts[0].x + PAD + 24, EDGE, 224, BOX, "outside", "Visitors", "", "HTTPS; plain HTTP is redirected")
    left = max(visitors.x + visitors.width + 30, fronts[-1].x + fronts[-1].width + MARGIN - 290)
    name = urlsplit(fleet.acme.directory).hostname or ""
    ca = Box(left, EDGE, 290, BOX, "outside", "Certificate authority", "", name)
    arrows = []
    # With several hosts, what goes to all of them runs on a line of its own each.
    levels = [EDGE + BOX + (22 if len(fronts) == 1 else 16 + 15 * lane) for lane in range(3)]
    for card in fronts:
        haproxy, lego = _box(card, "haproxy"), _box(card, "lego")
        if not haproxy or not lego:
            continue
        door = haproxy.x + haproxy.width * 0.29
        alone = len(fronts) == 1
        arrows.append(_via(visitors, door if alone else visitors.middle, levels[0], door, haproxy, ":80 :443"))
        arrows.append(_via(ca, lego.middle if alone else ca.x + 60, levels[1], lego.middle, haproxy, "challenge, :80"))
        side, right = card.x + card.width + MARGIN / 2, (lego.x + lego.width, lego.y + BOX / 2)
        up: tuple[tuple[float, float], ...] = ((side, ca.bottom),)
        if card is not fronts[-1]:
            up = ((side, levels[2]), (ca.x + 90, levels[2]), (ca.x + 90, ca.bottom))
        arrows.append(Arrow((right, (side, right[1]), *up), "orders", (side + 7, haproxy.y)))
    return [visitors, ca], arrows


def _bus(fronts: Sequence[Card], webs: Sequence[Card]) -> list[Arrow]:
    """From each edge's HAProxy down to a line, and from it to each web server's Varnish."""
    if not webs:
        return []
    level = webs[0].y - 36
    ends = []
    arrows = []
    for card in fronts:
        if haproxy := _box(card, "haproxy"):
            x = card.x + PAD / 2 if _box(card, "varnish") else haproxy.x + haproxy.width * 0.29
            start = (haproxy.x, haproxy.y + BOX / 2) if x < haproxy.x else (x, haproxy.bottom)
            arrows.append(Arrow((start, (x, start[1]), (x, level)), head=False))
            ends.append(x)
    for card in webs:
        if varnish := _box(card, "varnish"):
            arrows.append(Arrow(((varnish.middle, level), (varnish.middle, varnish.y))))
            ends.append(varnish.middle)
    label = "PROXY protocol, private network"
    arrows.append(Arrow(((min(ends), level), (max(ends), level)), label, (min(ends) + 10, level - 8), head=False))
    return arrows


def _box(card: Card, kind: str) -> Box | None:
    return next((box for box in card.boxes if box.kind == kind), None)


def _down(upper: Box, lower: Box, label: str) -> Arrow:
    x = lower.middle
    return Arrow(((x, upper.bottom), (x, lower.y)), label, (x + 8, (upper.bottom + lower.y) / 2 + 4))


def _via(start: Box, x: float, level: float, to_x: float, end: Box, label: str) -> Arrow:
    """Down, along a line, and down again; the label stands before the host's door."""
    points = ((x, start.bottom), (x, level), (to_x, level), (to_x, end.y))
    return Arrow(points, label, (to_x + 8, end.y - HEAD - 7))


def _cut(text: str, room: float) -> str:
    return text if len(text) <= room else text[: max(int(room) - 1, 1)].rstrip(".-, ") + "…"


def _centre(cards: Sequence[Card], width: float) -> None:
    if not cards:
        return
    used = cards[-1].x + cards[-1].width - cards[0].x
    by = (width - used - MARGIN) / 2 - cards[0].x
    for card in cards:
        _shift(card, by)


def _shift(card: Card, by: float) -> None:
    card.x += by
    card.boxes = [_moved(box, by) for box in card.boxes]
    card.arrows = [
        Arrow(tuple((x + by, y) for x, y in arrow.points), arrow.label, (arrow.at[0] + by, arrow.at[1]), arrow.head)
        for arrow in card.arrows
    ]
    for group in card.groups:
        _shift(group, by)


def _moved(box: Box, by: float) -> Box:
    return Box(box.x + by, box.y, box.width, box.height, box.kind, box.title, box.port, box.note)
