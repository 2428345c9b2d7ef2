"""What one file in sites/ says: a domain, its names, its user, and how PHP, the cache and TLS treat it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from . import grammars, names, owners
from .fields import FROZEN, LIST_MAX, number, switch, unique, words
from .functions import DISABLED, loosened
from .refusal import Wrong
from .runtime import (
    PHP,
    Limits,
    Mounts,
    Port,
    Runtime,
    Zone,
    command_key,
    listen_key,
    runtime_key,
    webapps_key,
    zones,
)

COOKIES_MAX = 2000  # they travel in a header from HAProxy to Varnish, which takes 8 KiB a header


class Php(BaseModel):
    """The site's own FPM pool (T1, "PHP-FPM"), `pm = ondemand`."""

    model_config = FROZEN

    version: grammars.PhpVersion | None = Field(
        default=None,
        title="PHP version; null is Debian's own",
        description="a version in quotes, or null",
        examples=["8.4"],
    )
    children: int = number(5, 1, 500, "workers at most (pm.max_children)")
    idle_timeout: int = number(10, 1, 86400, "seconds after which an idle worker ends (pm.process_idle_timeout)")
    max_requests: int = number(4096, 0, 1_000_000, "requests until a worker is replaced, 0 never (pm.max_requests)")
    memory_limit: Annotated[str, AfterValidator(grammars.size("16M", "8G"))] = Field(
        default="128M", title="memory of one request", description="a size from 16M to 8G", examples=["128M"]
    )
    upload_limit: Annotated[str, AfterValidator(grammars.size("1K", "8G"))] = Field(
        default="8M",
        title="one request's body and each file in it (upload_max_filesize, post_max_size)",
        description="a size from 1K to 8G",
        examples=["8M"],
    )
    timeout: int = number(30, 1, 3600, "seconds one request may take (max_execution_time, request_terminate_timeout)")
    file_uploads: bool = switch(True, "whether visitors may upload files")
    allow_url_fopen: bool = switch(False, "whether fopen() and file_get_contents() may fetch URLs")
    functions: Annotated[tuple[str, ...], unique] = words(
        "functions this site may call, of those that are off by default",
        "a list of PHP functions that are off by default",
        "proc_open",
    )

    @field_validator("functions")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return loosened(value)

    @property
    def disable_functions(self) -> tuple[str, ...]:
        """The functions that stay off, sorted: the value of php.ini's disable_functions."""
        return tuple(name for name in DISABLED if name not in self.functions)

    @property
    def loosened(self) -> tuple[str, ...]:
        """What this site has looser than the strict default, as `status` reports it."""
        return (("allow_url_fopen",) if self.allow_url_fopen else ()) + self.functions


class Cache(BaseModel):
    """How Varnish treats the site's answers (T1, "Varnish")."""

    model_config = FROZEN

    ttl: int = number(120, 0, 31_536_000, "seconds an answer without Cache-Control is kept")
    grace: int = number(3600, 0, 2_592_000, "seconds an expired answer still serves while a new one is fetched")
    keep_cookies: Annotated[tuple[grammars.CookieName, ...], unique] = words(
        "cookies that reach PHP; a request with one of them is not cached", "a list of cookie names", "PHPSESSID"
    )
    bypass: Annotated[tuple[grammars.PathPrefix, ...], unique] = words(
        "beginnings of paths that are never cached", "a list of beginnings of paths", "/admin/"
    )

    @field_validator("keep_cookies")
    @classmethod
    def _fit(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if sum(map(len, value)) > COOKIES_MAX:
            raise Wrong(f"these names have more than {COOKIES_MAX} characters together: too many for a header")
        return value


class Tls(BaseModel):
    """The site's certificate (T1, "Let's Encrypt")."""

    model_config = FROZEN

    email: grammars.Email | None = Field(
        default=None,
        title="where the CA writes to; null is the fleet's",
        description="an e-mail address, or null",
        examples=["webmaster@example.com"],
    )
    key: Literal["ec256", "ec384", "rsa2048", "rsa4096"] = Field(
        default="ec256",
        title="kind of private key",
        description="ec256, ec384, rsa2048 or rsa4096",
        examples=["ec256"],
    )


class Deploy(BaseModel):
    """How a release of the site comes into being (`fab site.deploy`)."""

    model_config = FROZEN

    docroot: Annotated[str, AfterValidator(lambda text: grammars.inside(text) if text else text)] = Field(
        default="",
        title="where an application has its web root; nothing is its top",
        description='a path inside the source, or ""',
        examples=["public"],
    )
    shared: Annotated[tuple[grammars.InsidePath, ...], unique] = words(
        "what outlives releases: kept in shared/, linked into each", "a list of paths inside the source", "uploads"
    )
    before: Annotated[tuple[grammars.Command, ...], unique] = words(
        "commands in the new release before it serves, as the site's user", "a list of lines for sh", "php migrate.php"
    )
    after: Annotated[tuple[grammars.Command, ...], unique] = words(
        "the same once it serves", "a list of lines for sh", "php warm.php"
    )
    timeout: int = number(300, 1, 3600, "seconds that one command may take")
    smoke: grammars.Page = Field(
        default="/",
        title="the page that must answer once a release serves, or the former one comes back",
        description="the path of a page",
        examples=["/"],
    )
    expect: int = number(200, 200, 499, "the status that it must answer with")
    keep: int = number(5, 2, 100, "releases that are kept, with the one that serves")

    @field_validator("shared")
    @classmethod
    def _apart(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for index, item in enumerate(value):
            if outer := next((other for other in value if item.startswith(other + "/")), None):
                raise Wrong(f"{item} lies inside {outer}, which is shared as a whole", at=(index,))
        return value


def _php(value: Any) -> Any:
    """`php: false` is a site without PHP."""
    return None if value is False else value


def _php_by_default(data: dict[str, Any]) -> Php | None:
    """PHP's keys matter where PHP runs."""
    words = {data.get("runtime"), *(mount.runtime for mount in data.get("mounts", {}).values())}
    return Php() if words & PHP else None


class Site(BaseModel):
    """One web site: a domain and everything that is particular to it."""

    model_config = FROZEN

    domain: grammars.Domain = Field(
        title="the bare domain, without www; IDN as it is read", description="a domain name", examples=["example.com"]
    )
    subdomains: Annotated[tuple[grammars.Subdomain, ...], unique] = Field(
        default=("www",),
        title="names in front of the domain, each served from public_html/<name>",
        description="a list of names in front of the domain",
        examples=[["www"]],
    )
    aliases: Annotated[tuple[grammars.HostName, ...], unique] = words(
        "other full host names of this site", "a list of full host names", "example.org"
    )
    owner: grammars.Owner = Field(
        default_factory=lambda data: owners.owner_of(data["domain"]),
        title="the system user its PHP runs as; derived from the domain",
        description="a user name, or no such key",
        examples=["example-com"],
    )
    uid: int = Field(
        default_factory=lambda data: owners.uid_of(data["owner"]),
        ge=owners.UIDS.start,
        le=owners.UIDS.stop - 1,
        title="the user's number on every host of a fleet with a files host; derived from the owner",
        description=f"a whole number from {owners.UIDS.start} to {owners.UIDS.stop - 1}, or no such key",
        examples=[owners.UIDS.start],
    )
    runtime: Runtime = runtime_key(default="fpm")
    command: grammars.Command | None = command_key()
    listen: Port | None = listen_key()
    webapps: grammars.InsidePath | None = webapps_key()
    mounts: Mounts = Field(
        default_factory=dict,
        title="paths of the site that something else runs",
        description="paths, and keys such as runtime for each",
        examples=[{"/wiki": {"runtime": "scgi", "command": "exec ./wiki --socket $LISTEN"}}],
    )
    limits: Limits = Field(
        default=Limits(),
        title="what the site's own programs may take",
        description="keys such as memory_mb",
        examples=[{"memory_mb": 512}],
    )
    writable: Annotated[tuple[grammars.InsidePath, ...], unique] = words(
        "directories of a release that the site's own programs may write, beside shared/ and tmp/",
        "a list of paths inside the source",
        "cache",
    )
    php: Annotated[Php | None, BeforeValidator(_php)] = Field(
        default_factory=_php_by_default,
        title="how the site's PHP runs; false for a site without PHP",
        description="keys such as children, or false for a site without PHP",
        examples=[{"children": 5}],
    )
    database: bool = switch(False, "a MariaDB database, called as the owner, for the owner alone")
    cache: Cache = Field(default=Cache(), title="Varnish", description="keys such as ttl", examples=[{"ttl": 120}])
    tls: Tls = Field(
        default=Tls(), title="the certificate", description="keys such as key", examples=[{"key": "ec256"}]
    )
    deploy: Deploy = Field(
        default=Deploy(), title="releases", description="keys such as keep", examples=[{"docroot": "public"}]
    )
    hosts: Annotated[tuple[grammars.HostAlias, ...], unique] = words(
        "machines or pools that serve it; none means every web and app host", "a list of names from fleet.yml", "web1"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_php(cls, data: Any) -> Any:
        """`php: false` alone is a site without code."""
        if isinstance(data, dict) and data.get("php", {}) in (False, None) and "runtime" not in data:
            return data | {"runtime": "static"}
        return data

    @cached_property
    def zones(self) -> tuple[Zone, ...]:
        """What runs where: the site's own runtime at `/`, then its mounts by path."""
        own = Zone("/", self.runtime, self.owner, self.command, self.listen, self.webapps)
        return zones(self.owner, own, self.mounts)

    def has(self, *runtimes: str) -> bool:
        """Whether one of these runs any of the site's code."""
        return any(zone.runtime in runtimes for zone in self.zones)

    @property
    def seconds(self) -> int:
        """How long one request may take."""
        return (self.php or Php()).timeout

    @property
    def body_limit(self) -> int:
        """Bytes that one request's body may have, with PHP or without."""
        return grammars.byte_count((self.php or Php()).upload_limit)

    @property
    def tmp_mb(self) -> int:
        """Megabytes that its tmp/ holds: room for two uploads at least, unless its file says otherwise."""
        return self.limits.tmp_mb or max(256, 2 * self.body_limit // 2**20)

    @property
    def at_once(self) -> int | None:
        """Requests that Apache may be at for it; None: its pool or its program sees to that by itself."""
        if self.has("itk"):
            return (self.php or Php()).children
        return self.limits.requests if self.has("cgi") else None

    @field_validator("domain")
    @classmethod
    def _bare(cls, value: str) -> str:
        rest = value.removeprefix("www.")
        if rest != value and "." in rest:
            raise Wrong(f"must be the bare domain {rest}; www is one of its subdomains (by default)", rest)
        return value

    @field_validator("subdomains")
    @classmethod
    def _fit(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        room = names.NAME_MAX - len(info.data.get("domain", "")) - 1
        for index, item in enumerate(value):
            if len(item) > room:
                raise Wrong(f"{item}.{info.data['domain']} is longer than {names.NAME_MAX} characters", at=(index,))
        return cls._certifiable(value, 1)

    @field_validator("aliases")
    @classmethod
    def _elsewhere(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        domain = info.data.get("domain", ".")
        for index, item in enumerate(value):
            if item == domain:
                raise Wrong(f"{item} is the site's own domain; leave it out", at=(index,))
            if item.endswith("." + domain):
                part = item.removesuffix("." + domain)
                raise Wrong(f"{item} lies below the site's domain; write {part} under subdomains", at=(index,))
        return cls._certifiable(value, 1 + len(info.data.get("subdomains", ())))

    @staticmethod
    def _certifiable(value: tuple[str, ...], before: int) -> tuple[str, ...]:
        if before + len(value) > LIST_MAX:
            raise Wrong(f"with these the site has more than {LIST_MAX} names, and a certificate holds no more")
        return value

    @property
    def names(self) -> tuple[str, ...]:
        """Every full host name: the domain, each subdomain, the aliases. The certificate's SANs, in this order."""
        return (self.domain, *(f"{name}.{self.domain}" for name in self.subdomains), *self.aliases)

    @property
    def rooms(self) -> tuple[str, ...]:
        """The directories that its names are served from: `_`, and one for whatever stands before a bare domain."""
        return ("_", *dict.fromkeys(room for name in self.names if (room := self.room(name)) != "_"))

    def room(self, name: str) -> str:
        """The directory that one of its names is served from: `_` for a bare domain, else what stands before it."""
        bare = [other for other in self.names if name.endswith("." + other)]
        return name.removesuffix("." + min(bare, key=len)) if bare else "_"

    @property
    def kept_paths(self) -> tuple[str, ...]:
        """How the addresses of what outlives releases begin, as an application and as directories for names."""
        kept, root = self.deploy.shared, self.deploy.docroot
        if root:
            return tuple(path[len(root) :] for path in kept if path.startswith(root + "/"))
        within = (path.partition("/") for path in kept)
        bare = (f"/{rest}" for room, _, rest in within if rest and room in self.rooms)
        return tuple(dict.fromkeys((*(f"/{path}" for path in kept), *bare)))

    @property
    def labels(self) -> int:
        """Labels of the domain; `%-(labels+1)+` is the subdomain in Apache's VirtualDocumentRoot."""
        return self.domain.count(".") + 1

    @property
    def root(self) -> str:
        """The site's directory on the host."""
        return f"/var/www/{self.domain}"

    @property
    def served(self) -> str:
        """What Apache shows: a link to the release that serves."""
        return f"{self.root}/public_html"

    @property
    def shown(self) -> str:
        """The domain as a person reads it: `münchen.de` for `xn--mnchen-3ya.de`."""
        return names.unicode_form(self.domain)

    @property
    def both(self) -> str:
        """The domain in both forms, for messages: `münchen.de (xn--mnchen-3ya.de)`, or just `example.com`."""
        return names.both_forms(self.domain)

    def __str__(self) -> str:
        return self.domain

    def __hash__(self) -> int:
        return hash(self.domain)


def most_workers(sites: Iterable[Site]) -> int:
    """Of the site with most workers of PHP; in powers of two: a limit made of it takes a restart, a site should not."""
    most = max((site.php.children for site in sites if site.php), default=1)
    return max(64, 1 << (most - 1).bit_length())
