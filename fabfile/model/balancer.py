"""What fleet.yml says of the cluster front: its name, and which part of it leads to which hosts.  (T3, mod_proxy)"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator

from . import grammars, names
from .fields import FROZEN, number, switch, unique, words
from .refusal import Wrong
from .site import Tls
from .waf import Evasive, Exclusion, Limits, Loosened, Messages, Waf

MEMBER = 80
"""The port of a host with the role member, where its route names none."""

Hosts = Annotated[tuple[grammars.HostAlias, ...], unique]


class Route(BaseModel):
    """A part of the site, and who makes it (mod_proxy, "BalancerMember parameters")."""

    model_config = FROZEN

    members: Annotated[Hosts, Field(min_length=1)] = Field(
        title="the hosts among which its visitors are shared out evenly",
        description="a list of hosts by name, one at least",
        examples=[["web1", "web2"]],
    )
    spares: Hosts = words("hot spares: they serve while no member can", "a list of hosts by name", "web2")
    port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        title="the port at which its hosts answer; null is 80, and with an app host Varnish's",
        description="a port from 1 to 65535, or null",
        examples=[8080],
    )
    sticky: bool = switch(False, "whether a visitor stays with the member that served him first, by a cookie")
    connect_ms: int = number(800, 50, 10_000, "milliseconds that a member may take to take a connection")
    timeout: int = number(5, 1, 3600, "seconds that a member may be silent while it answers")
    retry: int = number(5, 1, 3600, "seconds that a member is left alone which failed a request")
    ping: int = number(
        0, 0, 60, "seconds for a member to say that a body may come (100-continue), or the next is asked; 0: not asked"
    )
    health: grammars.Page = Field(
        default="/",
        title="what each host is asked every second: one that answers 5xx, or not at all, is left out",
        description="the path of a page",
        examples=["/health"],
    )
    limits: Loosened | None = Field(
        default=None,
        title="what it takes otherwise than the balancer's limits, and why; null is nothing",
        description="keys such as body, and a reason; or null",
        examples=[{"body": 10_485_760, "reason": "photographs are sent here"}],
    )
    exclude: tuple[Exclusion, ...] = Field(
        default=(),
        title="rules of the web application firewall that are not asked here, and why",
        description="a list of exclusions",
        examples=[[{"rules": (942100,), "parameters": ("comment",), "reason": "editors write about SQL here"}]],
    )

    @field_validator("spares")
    @classmethod
    def _one_role(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """A host is a member or a spare."""
        for index, host in enumerate(value):
            if host in info.data.get("members", ()):
                raise Wrong(f"{host} is a member of this route already, and so cannot be its spare", at=(index,))
        return value

    @field_validator("port")
    @classmethod
    def _not_ssh(cls, value: int | None) -> int | None:
        if value == 22:
            raise Wrong("22 is SSH's port", 8080)
        return value

    @property
    def hosts(self) -> tuple[str, ...]:
        """All that it may lead to, members first."""
        return (*self.members, *self.spares)


def _routes(value: Any) -> Any:
    """Paths begin with a slash, end without one, and are each there once."""
    if not isinstance(value, Mapping):
        return value
    found: dict[str, Any] = {}
    written: dict[str, str] = {}
    for path, route in value.items():
        try:
            grammars.path_prefix(path)
        except Wrong as wrong:
            better = "/" + path.strip("/") if re.fullmatch(r"[A-Za-z0-9._~/-]+", path) else "/news"
            raise Wrong(wrong.message, {better: {"members": ("web1",)}}, at=(path,)) from None
        plain = path.rstrip("/") or "/"
        if plain in found:
            raise Wrong(f"is the same route as {written[plain]}", {plain: {"members": ("web1",)}}, at=(path,))
        found[plain], written[plain] = route, path
    return found


class Balancer(BaseModel):
    """One site whose parts are made by many hosts (T3).  It asks for a certificate as a Site does."""

    model_config = FROZEN

    server_name: grammars.HostName = Field(
        title="the name that visitors know", description="a full host name", examples=["www.example.com"]
    )
    aliases: Annotated[tuple[grammars.HostName, ...], unique] = words(
        "other full names of it", "a list of full host names", "example.com"
    )
    tls: Tls = Field(
        default=Tls(), title="its certificate", description="keys such as email", examples=[{"key": "ec384"}]
    )
    routes: Annotated[dict[str, Route], BeforeValidator(_routes), Field(min_length=1)] = Field(
        title="its parts: how paths begin, and the hosts behind; the longest that fits counts",
        description="routes by the beginning of their paths",
        examples=[{"/": {"members": ("web1", "web2")}}],
    )

    limits: Limits = Field(
        default=Limits(),
        title="how large a request may be",
        description="keys such as body",
        examples=[{"body": 102_400}],
    )
    evasive: Evasive = Field(
        default=Evasive(),
        title="what a flood is",
        description="keys such as site_count",
        examples=[{"site_count": 500}],
    )
    waf: Waf = Field(
        default=Waf(), title="the application firewall", description="keys such as paranoia", examples=[{"paranoia": 2}]
    )
    messages: Messages = Field(
        default_factory=dict,
        title="what the page of a status says, in place of our words",
        description="lines of text by status",
        examples=[{"404": "There is no such article. Perhaps it was sold."}],
    )
    expires: int = number(
        7200, 0, 31_536_000, "seconds that browsers keep pictures, styles and scripts of which a member says nothing"
    )

    @field_validator("aliases")
    @classmethod
    def _another(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for index, name in enumerate(value):
            if name == info.data.get("server_name"):
                raise Wrong(f"{name} is the server_name already", at=(index,))
        return value

    @property
    def domain(self) -> str:
        """What its certificate is called by."""
        return self.server_name

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of it, as in its certificate."""
        return (self.server_name, *self.aliases)

    @property
    def shown(self) -> str:
        """Its name as a person reads it."""
        return names.unicode_form(self.server_name)

    @property
    def longest_first(self) -> dict[str, Route]:
        """The routes in the order in which they are tried."""
        return dict(sorted(self.routes.items(), key=lambda entry: (-len(entry[0]), entry[0])))

    @property
    def widest(self) -> Limits:
        """The loosest numbers of all routes: what is judged before the route is known."""
        every = [self.limits, *(route.limits.over(self.limits) for route in self.routes.values() if route.limits)]
        numbers = ("body", "fields", "field_size", "line")
        return Limits(**{name: max(getattr(limits, name) for limits in every) for name in numbers})

    def routes_to(self, host: str) -> dict[str, Route]:
        """Those that may lead to this host."""
        return {path: route for path, route in self.routes.items() if host in route.hosts}

    def __str__(self) -> str:
        return self.server_name


def slug(path: str) -> str:
    """What the pool behind a route is called in Apache, in its logs too: `paid_user` for /paid_user."""
    word = path.strip("/")
    if re.fullmatch(r"[a-z0-9_-]{1,30}", word):
        return word
    digest = hashlib.sha256(path.encode()).hexdigest()[:6]
    return f"{re.sub('[^a-z0-9_-]+', '-', word.lower())[:30].strip('-')}.{digest}" if word else "the.rest"
