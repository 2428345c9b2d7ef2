"""Apache: files and PHP for Varnish, on the loopback, one line a site.  (T1 Apache; T2 steps 2 and 6)"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .engine import Facts, Host, task
from .model import Site

ROOT = "/etc/apache2"
PORTS = f"{ROOT}/ports.conf"
SERVER = f"{ROOT}/conf-available/gatehouse.conf"
MACRO = f"{ROOT}/conf-available/vhost.conf"
FIRST = f"{ROOT}/sites-available/gatehouse.conf"
VHOSTS = f"{ROOT}/vhost.d"
UNIT = "/etc/systemd/system/apache2.service.d/gatehouse.conf"
CHECK = "apache2ctl -t"

LOADED = """
alias auth_basic authn_core authn_file authz_core authz_groupfile authz_host authz_user deflate dir env expires filter
headers macro mime mpm_event proxy proxy_fcgi remoteip reqtimeout rewrite setenvif vhost_alias
"""
CONFIGURED = "deflate mime mpm_event reqtimeout setenvif"
"""Of these, Debian's configuration is taken as well. Not alias's: it shows /icons/ on every site."""

REFUSED = """
autoindex cgi cgid dav dav_fs imagemap include info mpm_itk mpm_prefork mpm_worker negotiation proxy_ajp proxy_connect
proxy_ftp proxy_http proxy_scgi proxy_uwsgi speling status userdir
"""
"""They list directories, run programs, tell about the server, guess, or forward. `access_compat` stays as Debian has
it: many an .htaccess still says `Deny from all`."""

DEBIAN_CONF = ("charset", "localized-error-pages", "other-vhosts-access-log", "security", "serve-cgi-bin")
"""Debian's own settings that ours replace; `security` would come after ours and say `ServerTokens OS` again."""

READY = """bash -c 'exec 3<> /dev/tcp/127.0.0.1/8080; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3
read -r _ status _ <&3; [ "$status" = 421 ]' 2> /dev/null"""
"""It serves when it refuses a request without a name as it should."""


@dataclass(frozen=True, slots=True)
class VHost:
    """One bare domain of a site, and all the names that are answered with it."""

    name: str
    names: tuple[str, ...]

    @property
    def depth(self) -> int:
        """The label, from the right, where the subdomain begins: 3 in www.example.com (mod_vhost_alias, `%-N+`)."""
        return self.name.count(".") + 2


def vhosts_of(site: Site) -> tuple[VHost, ...]:
    """The site's bare domains, each with the names below it.

    An alias shows what the domain shows, `_`; an alias below another one (www.example.org and example.org) is its
    subdomain and shows `www`.
    """
    bare = [name for name in site.names if not any(name.endswith("." + other) for other in site.names)]
    return tuple(
        VHost(name, tuple(other for other in site.names if other == name or other.endswith("." + name)))
        for name in bare
    )


@task
def install(c):
    """T1 Apache, T2 step 2: the package, on 127.0.0.1:8080 and in its sandbox from its first second.

    Debian starts it on port 80 of every address the moment it is installed, so the port comes first.
    """
    host = Host.of(c)
    host.template(PORTS, check=CHECK)
    host.template(UNIT)
    host.packages("apache2")
    host.directory(ROOT, mode=0o750)


@task
def modules(c):
    """T1 Apache: event MPM, macros, vhosts by name, the visitor's address, PHP-FPM; nothing that lists or tells.

    T1 wraps modules in IfModule, so that a missing one goes unnoticed. Here they are there, or nothing is changed.
    """
    host = Host.of(c)
    wanted = [f"{name}.load" for name in LOADED.split()] + [f"{name}.conf" for name in CONFIGURED.split()]
    for name in wanted:
        host.link(f"{ROOT}/mods-enabled/{name}", f"../mods-available/{name}", check=CHECK)
    host.absent(
        *(f"{ROOT}/mods-enabled/{name}.{kind}" for name in REFUSED.split() for kind in ("load", "conf")),
        f"{ROOT}/mods-enabled/alias.conf",
        f"{ROOT}/mods-enabled/dir.conf",
        check=CHECK,
    )


@task(
    help={"processes": "processes of 25 threads each: how many requests may be under way"},
    within={"processes": (1, 1000)},
)
def configure(c, processes=16):
    """T1 Apache, T2 steps 2 and 6: server name, silence, limits, the visitor's real address, and the vhost macro.

    Beside Debian's apache2.conf, which stays as it is. Not T1's `Header unset Cache-Control`: Varnish would keep
    private pages. Not T1's `AllowOverride All`: an .htaccess could reach another site's PHP. T2's ETags are off for
    files; a program may send its own.
    """
    host = Host.of(c)
    host.template(SERVER, check=CHECK, processes=int(processes))
    host.template(MACRO, check=CHECK)
    host.template(FIRST, check=CHECK)
    host.directory(VHOSTS)
    for name in ("gatehouse", "vhost"):
        host.link(f"{ROOT}/conf-enabled/{name}.conf", f"../conf-available/{name}.conf", check=CHECK)
    host.link(f"{ROOT}/sites-enabled/000-gatehouse.conf", "../sites-available/gatehouse.conf", check=CHECK)
    host.absent(*(f"{ROOT}/conf-enabled/{name}.conf" for name in DEBIAN_CONF), check=CHECK)
    host.absent(f"{ROOT}/sites-enabled/000-default.conf", check=CHECK)
    # The macro is judged with what uses it: files that an older Gatehouse wrote may call it with other words.
    _vhosts(host, [site for site in host.sites if f"{VHOSTS}/{site}.conf" in host.facts.files])


@task
def vhosts(c):
    """T1 Apache: a file a site with `Use VHost`, and the subdomain's directory by VirtualDocumentRoot.

    T1's label count is for two-label domains; here it comes with each domain. T1 answers `*.domain`; here only the
    names in the site's YAML, since shop.example.com may be somebody else's site (and needs its certificate anyway).
    """
    _vhosts(Host.of(c), Host.of(c).chosen)


def _vhosts(host: Host, sites: Iterable[Site]) -> None:
    for site in sites:
        conf = f"{VHOSTS}/{site}.conf"
        if conf + ".off" in host.facts.files:
            host.note(f"{site} is suspended; on again with: fab -H {host.name} site.resume {site}")
            host.absent(conf, check=CHECK)
            continue
        host.template(VHOSTS + "/{site}.conf", check=CHECK, site=site, vhosts=vhosts_of(site))
        host.absent(conf + ".gone")
    if host.narrowed:
        return
    wanted = {f"{VHOSTS}/{site}.conf" for site in host.sites}
    for conf in host.facts.children(VHOSTS, ".conf"):
        if conf not in wanted:
            gone = conf.removeprefix(VHOSTS + "/").removesuffix(".conf")
            host.note(f"{gone} has no file in sites/ any more: it is served no longer; /var/www/{gone} stays as it is")
            host.rename(conf, conf + ".gone", check=CHECK)


@task
def start(c):
    """T1 Apache: run it now and at every boot, and reload it when anything below /etc/apache2 changed."""
    # A reload takes everything but another MPM or another sandbox.
    mpm = [f"{ROOT}/mods-enabled/mpm_{name}.load" for name in ("event", "prefork", "worker")]
    Host.of(c).service("apache2", reload_on=[ROOT + "/"], restart_on=[UNIT, *mpm], ready=READY)


def off(host: Host, site: Site) -> None:
    """T1's way to take a site from the net: its vhost file gets another name, and keeps it until `on`."""
    conf = f"{VHOSTS}/{site}.conf"
    host.rename(conf, conf + ".off", check=CHECK)


def on(host: Host, site: Site) -> None:
    """The vhost file comes back, written anew: meanwhile the macro that it uses may have got other words."""
    host.absent(f"{VHOSTS}/{site}.conf.off", check=CHECK)
    _vhosts(host, [site])


def state(facts: Facts, site: Site) -> str:
    """What the host makes of a site: `served`, `suspended`, `gone` (no file in sites/ had it any more), or `new`."""
    conf = f"{VHOSTS}/{site}.conf"
    endings = {".off": "suspended", "": "served", ".gone": "gone"}
    return next((word for ending, word in endings.items() if conf + ending in facts.files), "new")


STEPS = (install, modules, configure, vhosts, start)
