"""What fleet.yml says: the CA, the operators' addresses, the machines and their roles, and where the sites are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PrivateAttr, ValidationInfo, field_validator

from . import grammars
from .balancer import Balancer
from .fields import FROZEN, choice, number, switch, unique, words
from .refusal import Problem, Refusal, Wrong, quoted, shown_path
from .site import Site

# Let's Encrypt, "Staging Environment" and "ACME v2 Production".
PRODUCTION = "https://acme-v02.api.letsencrypt.org/directory"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"

Role = Literal["web", "edge", "static", "app", "cache", "database", "files", "balancer", "member"]
ROLES: tuple[str, ...] = get_args(Role)

INNER: tuple[Role, ...] = ("static", "app", "cache", "database", "files", "member")
"""Roles whose hosts let in the other hosts of the fleet alone."""

ELSEWHERE: tuple[Role, ...] = ("edge", "cache", "database", "files")
"""What a host that makes pages does itself, as long as no host of the fleet has that role."""

ENDINGS = (
    "avif", "css", "gif", "ico", "jpeg", "jpg", "js", "map", "mjs", "mp3", "mp4", "ogg", "otf", "png", "svg",
    "ttf", "wasm", "webm", "webp", "woff", "woff2",
)  # fmt: skip
"""What pages are made of, and media.  No documents: one may be somebody's invoice, with an .htaccess in front."""


def _role(value: Any) -> Any:
    """A role, or what was probably meant."""
    if not isinstance(value, str) or value in ROLES:
        return value
    near = difflib.get_close_matches(value, ROLES, 1)
    hint = f"did you mean {near[0]}?" if near else f"the roles are {', '.join(ROLES)}"
    raise Wrong(f"there is no role {quoted(value)}; {hint}", near[:1] or ["web"])


def _path(value: Any, info: ValidationInfo) -> Any:
    """A path as written in fleet.yml: relative to that file."""
    if not isinstance(value, str):
        return value
    if not value.strip() or "\0" in value or not value.isprintable():
        raise Wrong(f"must be a path, not {quoted(value)}")
    try:
        path = Path(value).expanduser()
    except RuntimeError:
        raise Wrong(f"must be a path, and {quoted(value)} names a user that is not here") from None
    return (info.context or {}).get("base", Path()) / path


def _bundle(path: Path) -> Path:
    """A CA bundle: a readable PEM file of certificates alone."""
    try:
        if not path.is_file():
            raise Wrong(f"{shown_path(path)} is not a file")
        with path.open("rb") as stream:
            content = stream.read(4 << 20)
    except OSError as error:
        raise Wrong(f"{shown_path(path)} cannot be read: {error.strerror}") from None
    if b"PRIVATE KEY-----" in content:
        raise Wrong(f"{shown_path(path)} holds a private key; a CA bundle has certificates alone")
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise Wrong(f"{shown_path(path)} holds no PEM certificate")
    return path


def _directory(path: Path) -> Path:
    """A directory that can be listed."""
    try:
        next(path.iterdir(), None)
    except OSError as error:
        raise Wrong(f"{shown_path(path)} cannot be listed: {error.strerror}") from None
    return path


class Acme(BaseModel):
    """The certificate authority that issues for every site."""

    model_config = FROZEN

    staging: bool = switch(False, "Let's Encrypt's staging CA: no rate limits, no browser trusts it")
    directory: grammars.HttpsUrl = Field(
        default_factory=lambda data: STAGING if data.get("staging") else PRODUCTION,
        title="the CA's ACME directory",
        description="an https:// URL",
        examples=[PRODUCTION],
    )
    ca_bundle: Annotated[Path, BeforeValidator(_path), AfterValidator(_bundle)] | None = Field(
        default=None,
        title="PEM file on this machine with the CA's own root, for a private CA; relative to this file",
        description="the path of a PEM file, or null",
        examples=["ca.pem"],
    )
    email: grammars.Email | None = Field(
        default=None,
        title="where the CA writes to",
        description="an e-mail address, or null",
        examples=["webmaster@example.com"],
    )

    @field_validator("directory")
    @classmethod
    def _one(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("staging") and value != STAGING:
            raise Wrong("staging: true chooses Let's Encrypt's staging CA; write one of the two keys")
        return value


class Edge(BaseModel):
    """What ends TLS on the hosts with the role edge."""

    model_config = FROZEN

    server: Literal["haproxy", "nginx"] = choice("haproxy", "nginx", "what visitors speak to on an edge")


class Static(BaseModel):
    """What the hosts with the role static serve, and with what."""

    model_config = FROZEN

    server: Literal["nginx", "lighttpd"] = choice("nginx", "lighttpd", "what serves files on a static host")
    endings: Annotated[tuple[grammars.Ending, ...], Field(min_length=1), unique] = Field(
        default=ENDINGS,
        title="how paths end that an edge asks a static host for; the rest goes to the app hosts",
        description="a list of file name endings",
        examples=[["css", "js", "png"]],
    )


class Store(BaseModel):
    """What keeps sessions and objects in memory on the host with the role cache."""

    model_config = FROZEN

    server: Literal["redis", "memcached"] = choice("redis", "memcached", "what keeps sessions and objects in memory")
    memory_mb: int = number(64, 8, 1_000_000, "memory for all of it together, in MB; when it is full, the oldest go")
    ports: dict[grammars.Owner, Annotated[int, Field(ge=20000, le=29999)]] = Field(
        default_factory=dict,
        title="ports of single sites' memcached, by their owners, where two would have the same one",
        description="ports from 20000 to 29999, by sites' owners",
        examples=[{"example-com": 20000}],
    )


class Files(BaseModel):
    """How the sites' files come from the host with the role files to those that serve them."""

    model_config = FROZEN

    server: Literal["kernel", "ganesha"] = choice("kernel", "ganesha", "the NFS server, where mount is nfs")
    mount: Literal["nfs", "sync"] = choice("nfs", "sync", "NFSv4, or a tree of each host's own that follows the first")


class Machine(BaseModel):
    """One host of the fleet."""

    model_config = FROZEN

    name: str
    address: grammars.Address | None = Field(
        default=None,
        title="its address on the private network, null if it has none",
        description="an IP address, or null",
        examples=["10.0.0.11"],
    )
    roles: Annotated[tuple[Annotated[Role, BeforeValidator(_role)], ...], Field(min_length=1), unique] = Field(
        default=("web",), title="what it does", description=f"a list of roles: {', '.join(ROLES)}", examples=[["web"]]
    )
    weight: int = number(
        100,
        0,
        100,
        "its share of the visitors behind an edge, in percent of a full one; 0 lets a new one come in slowly",
    )

    @property
    def serves(self) -> bool:
        """Whether pages are made on it: an app host, or one that is everything."""
        return bool({"web", "app"} & {*self.roles})

    @property
    def bracketed(self) -> str:
        """Its private address as it stands before a colon and a port (RFC 3986, 3.2.2); empty if it has none."""
        return f"[{self.address}]" if isinstance(self.address, IPv6Address) else str(self.address or "")

    def __str__(self) -> str:
        return self.name


def _machines(value: Any) -> Any:
    """Each machine gets the name it is listed under."""
    if not isinstance(value, dict):
        return value
    machines = {}
    for name, entry in value.items():
        try:
            grammars.host_alias(name)
        except Wrong as wrong:
            raise Wrong(wrong.message, {"web1": {}}, at=(name,)) from None
        if not isinstance(entry, dict | Machine):
            raise Wrong("must be keys such as address, or {} for the defaults", {name: {}}, at=(name,))
        if isinstance(entry, dict) and "name" in entry:
            raise Wrong("unknown key; the machine's name is the key above it", {name: {}}, at=(name, "name"))
        machines[name] = {"name": name, **entry} if isinstance(entry, dict) else entry
    return machines


class Fleet(BaseModel):
    """The whole: what all sites and machines share. `Fleet()` is one without a fleet.yml."""

    model_config = FROZEN

    acme: Acme = Field(default=Acme(), title="the CA", description="keys such as email", examples=[{"staging": True}])
    operators: Annotated[tuple[grammars.Network, ...], unique] = words(
        "networks that are never banned and always reach SSH", "a list of addresses and networks", "203.0.113.0/24"
    )
    open: dict[grammars.Door, Annotated[tuple[grammars.Network, ...], unique]] = Field(
        default_factory=dict,
        title="more ports that the firewall of every host lets in, and from where; [] is everybody",
        description="ports, and the addresses and networks that may come",
        examples=[{"8443/tcp": ["203.0.113.0/24"]}],
    )
    hosts: Annotated[dict[str, Machine], BeforeValidator(_machines)] = Field(
        default_factory=dict,
        title="the machines; none means any host given with -H, as a web server",
        description="machines by name",
        examples=[{"web1": {}}],
    )
    pools: dict[grammars.HostAlias, Annotated[tuple[grammars.HostAlias, ...], Field(min_length=1), unique]] = Field(
        default_factory=dict,
        title="hosts that belong together: an edge leads only to those with which it shares a pool; none means to all",
        description="lists of hosts by name",
        examples=[{"main": ["edge1", "app1"]}],
    )
    edge: Edge = Field(
        default=Edge(), title="the edges", description="keys such as server", examples=[{"server": "nginx"}]
    )
    static: Static = Field(
        default=Static(), title="the static hosts", description="keys such as server", examples=[{"server": "lighttpd"}]
    )
    cache: Store = Field(
        default=Store(), title="the cache host", description="keys such as server", examples=[{"server": "memcached"}]
    )
    files: Files = Field(
        default=Files(), title="the files host", description="keys such as mount", examples=[{"mount": "sync"}]
    )
    balancer: Balancer | None = Field(
        default=None,
        title="the site whose parts the balancers lead to other hosts; null: there is none",
        description="keys such as server_name and routes, or null",
        examples=[{"server_name": "www.example.com", "routes": {"/": {"members": ("web1", "web2")}}}],
    )
    mac: Literal["apparmor", "selinux"] = Field(
        default="apparmor",
        title="what confines the services (mandatory access control): Debian's own AppArmor, or SELinux",
        description="apparmor or selinux",
        examples=["selinux"],
    )
    sites: Annotated[Path, BeforeValidator(_path), AfterValidator(_directory)] = Field(
        default=Path("sites"),
        title="directory of the site files, relative to this file",
        description="the path of a directory",
        examples=["sites"],
    )

    _file: Path | None = PrivateAttr(None)
    _sites: tuple[Site, ...] = PrivateAttr(())

    @property
    def file(self) -> Path | None:
        """The fleet.yml this came from; None for the defaults."""
        return self._file

    @property
    def all_sites(self) -> tuple[Site, ...]:
        """Every site of the fleet, by domain."""
        return self._sites

    def with_sites(self, sites: Iterable[Site], file: Path | None = None) -> Fleet:
        """A copy of this fleet that serves `sites`."""
        fleet = self.model_copy()
        fleet._sites, fleet._file = tuple(sorted(sites, key=str)), file or self._file  # noqa: SLF001  (our own copy)
        return fleet

    def machine(self, host: str) -> Machine:
        """The machine called `host`. Raises Refusal for one that fleet.yml, which lists machines, does not list."""
        if host in self.hosts:
            return self.hosts[host]
        if not self.hosts:
            return Machine(name=host)
        near = difflib.get_close_matches(host, self.hosts, 1)
        hint = f"did you mean {near[0]}?" if near else f"the hosts there: {', '.join(self.hosts)}"
        raise Refusal(Problem(f"there is no host {host}; {hint}", self._file, key="hosts", example=f"{host}: {{}}"))

    def roles(self, host: str) -> frozenset[str]:
        """What `host` does: its roles, and for one that makes pages (`web`) all that no other host does for it.

        `shared` is said of hosts that have the sites' files for others, or from another.
        """
        own: frozenset[str] = frozenset(self.machine(host).roles)
        if host in {machine.name for machine in (*self.having("files"), *self.readers)}:
            own |= {"shared"}
        if not self.machine(host).serves:
            return own
        apart = {"edge"} if self.balancers_of(host) else set()
        return own | {"web"} | {role for role in ELSEWHERE if not self.having(role) and role not in apart}

    def having(self, role: str) -> tuple[Machine, ...]:
        """The machines that fleet.yml gives this role."""
        return tuple(machine for machine in self.hosts.values() if role in machine.roles)

    def one(self, role: str) -> Machine | None:
        """The machine with this role, of which a fleet has one at most; None: whoever needs it does it itself."""
        return next(iter(self.having(role)), None)

    @property
    def readers(self) -> tuple[Machine, ...]:
        """The machines that have the sites' files from the one with the role files; none where each has its own."""
        keeper = self.one("files")
        if keeper is None:
            return ()
        readers = (machine for machine in self.hosts.values() if machine.serves or "static" in machine.roles)
        return tuple(machine for machine in readers if machine is not keeper)

    def keeps_files(self, host: str) -> bool:
        """Whether the sites' files on `host` are its own: those of the files host, or of one in a fleet without."""
        return host not in {reader.name for reader in self.readers}

    @property
    def edges(self) -> tuple[Machine, ...]:
        """The machines with the role edge: what visitors speak to."""
        return self.having("edge")

    @property
    def fronts(self) -> tuple[Machine, ...]:
        """The machines that stand before others: edges and balancers."""
        return tuple(machine for machine in self.hosts.values() if {"edge", "balancer"} & {*machine.roles})

    def balancers_of(self, host: str) -> tuple[Machine, ...]:
        """The machines with the role balancer whose routes lead to `host`, another one."""
        if not self.balancer or not self.balancer.routes_to(host):
            return ()
        return tuple(machine for machine in self.having("balancer") if machine.name != host)

    @property
    def webs(self) -> tuple[Machine, ...]:
        """The machines that make pages."""
        return tuple(machine for machine in self.hosts.values() if machine.serves)

    def inner(self, host: str) -> bool:
        """Whether `host` lets in other hosts of the fleet alone: it has a role of those, and stands before no others.

        Nor is it one that is everything (`web`).
        """
        roles = {*self.machine(host).roles}
        return bool(self.fronts) and bool(roles & {*INNER}) and not roles & {"edge", "balancer", "web"}

    def bastions(self, host: str) -> tuple[Machine, ...]:
        """The machines through which one logs in to `host`, an inner one; none where one comes directly."""
        return self.fronts if self.inner(host) else ()

    def together(self, one: str, other: str) -> bool:
        """Whether two machines share a pool; without pools all do."""
        return not self.pools or any(one in pool and other in pool for pool in self.pools.values())

    def edges_of(self, host: str) -> tuple[Machine, ...]:
        """The other machines through which visitors come to `host`, one that makes pages; none: they come directly."""
        if "web" not in self.roles(host):
            return ()
        return tuple(edge for edge in self.edges if edge.name != host and self.together(edge.name, host))

    def webs_behind(self, host: str) -> tuple[Machine, ...]:
        """The other machines that make pages to which `host`, an edge, leads visitors."""
        if not any(edge.name == host for edge in self.edges):
            return ()
        return tuple(one for one in self.webs if one.name != host and self.together(one.name, host))

    def statics_behind(self, host: str) -> tuple[Machine, ...]:
        """The machines from which `host`, an edge, has files; it may be one itself."""
        if not any(edge.name == host for edge in self.edges):
            return ()
        return tuple(one for one in self.having("static") if self.together(one.name, host))

    def webs_of(self, site: Site) -> tuple[Machine, ...]:
        """The machines that make the pages of `site`: those that it names, by host or pool, or all of them."""
        return tuple(web for web in self.webs if self._meant(site, web.name))

    def _meant(self, site: Site, host: str) -> bool:
        return not site.hosts or any(host in self.pools.get(entry, (entry,)) for entry in site.hosts)

    def sites_for(self, host: str) -> tuple[Site, ...]:
        """The sites that `host` has to do with: for one that makes pages, its own; else all that others make for it.

        An edge has those that visitors reach through it; a static, cache, database or files host all that are made; a
        balancer or a member none.
        """
        machine = self.machine(host)
        if machine.serves:
            return tuple(site for site in self._sites if self._meant(site, host))
        if "edge" in machine.roles:
            return self.fronted_by(host)
        if {*machine.roles} <= {"balancer", "member"}:
            return ()
        return tuple(site for site in self._sites if self.webs_of(site))

    def fronted_by(self, host: str) -> tuple[Site, ...]:
        """The sites that visitors reach at `host`: at an edge all that a machine behind it has, else its own."""
        if "edge" not in self.roles(host):
            return ()
        if not self.edges:
            return self.sites_for(host)
        behind = {web.name for web in self.webs if self.together(web.name, host)}
        return tuple(site for site in self._sites if behind & {web.name for web in self.webs_of(site)})

    def certified_at(self, host: str) -> tuple[Site | Balancer, ...]:
        """What `host` has certificates for: the sites that visitors reach there, and that of a balancer."""
        own = (self.balancer,) if self.balancer and "balancer" in self.machine(host).roles else ()
        return (*self.fronted_by(host), *own)

    def email_for(self, site: Site) -> str:
        """The CA's contact for `site`: its own, else the fleet's, else the webmaster of RFC 2142."""
        return site.tls.email or self.acme.email or f"webmaster@{site.domain}"
