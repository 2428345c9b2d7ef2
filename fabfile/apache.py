"""Apache: files and PHP for Varnish, on the loopback, one line a site.  (T1 Apache; T2 steps 2 and 6)"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .engine import Facts, Host, task
from .model import PHP as RUNS_PHP
from .model import SUEXEC as SUEXECED
from .model import Site, Zone, most_workers

ROOT = "/etc/apache2"
PORTS = f"{ROOT}/ports.conf"
SERVER = f"{ROOT}/conf-available/gatehouse.conf"
MACRO = f"{ROOT}/conf-available/vhost.conf"
FIRST = f"{ROOT}/sites-available/gatehouse.conf"
VHOSTS = f"{ROOT}/vhost.d"
UNIT = "/etc/systemd/system/apache2.service.d/gatehouse.conf"
SUEXEC = "/var/www/.suexec"
"""What suEXEC starts for sites, in a directory that is there before Apache's sandbox closes it."""
CHECK = "apache2ctl -t"

LOADED = """
alias auth_basic authn_core authn_file authz_core authz_groupfile authz_host authz_user deflate dir env expires filter
headers macro mime mpm_event proxy proxy_fcgi remoteip reqtimeout rewrite setenvif vhost_alias
"""
CONFIGURED = "deflate mime mpm_event reqtimeout setenvif"
"""Of these, Debian's configuration is taken as well. Not alias's: it shows /icons/ on every site."""

REFUSED = """
autoindex cgi dav dav_fs imagemap include info mpm_worker negotiation proxy_connect proxy_ftp proxy_uwsgi speling status
userdir
"""
"""They list directories, run programs, tell about the server, guess, or forward. `access_compat` stays as Debian has
it: many an .htaccess still says `Deny from all`."""

ELSE_CONFIGURED = ("alias.conf", "dir.conf", "fcgid.conf", "php8.2.conf", "php8.4.conf")
"""What Debian says of modules that are there, and ours says otherwise: which directories, endings and handlers."""

PREFORK = {"mpm_itk.load", "mpm_prefork.load", "mpm_prefork.conf"}
MOD_PHP = {"12": "php8.2", "13": "php8.4"}

ON_DEMAND = {
    "fcgid": "fcgid suexec",
    "cgi": "cgid suexec",
    "server": "proxy_http",
    "scgi": "proxy_scgi",
    "ajp": "proxy_ajp",
    "itk": "mpm_itk mpm_prefork",
}
"""What a runtime needs beside those, on hosts with a site of it."""

PARTS = ("/etc/gatehouse/itk/", "/etc/gatehouse/secrets/ajp/")
"""What vhosts include of elsewhere."""

DEBIAN_CONF = ("charset", "localized-error-pages", "other-vhosts-access-log", "security", "serve-cgi-bin")
"""Debian's own settings that ours replace; `security` would come after ours and say `ServerTokens OS` again."""

FORKS = 400
"""Processes that the user of an ITK site may have beside those that answer; in some containers root has no more."""

READY = """bash -c 'exec 3<> /dev/tcp/127.0.0.1/8080; printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3
read -r _ status _ <&3; [ "$status" = 421 ]' 2> /dev/null"""
"""It serves when it refuses a request without a name as it should."""


class VHost(NamedTuple):
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
    host.directory(SUEXEC)
    host.template(UNIT, user="www-data", processes=most_workers(host.sites) + FORKS)
    host.packages("apache2")
    host.directory(ROOT, mode=0o750)


@task
def modules(c):
    """T1 Apache: event MPM, macros, vhosts by name, the visitor's address, PHP-FPM; nothing that lists or tells.

    T1 wraps modules in IfModule, so that a missing one goes unnoticed. Here they are there, or nothing is changed.
    """
    host = Host.of(c)
    wanted = needed(host)
    for name in wanted:
        host.link(f"{ROOT}/mods-enabled/{name}", f"../mods-available/{name}", check=CHECK)
    refused = {f"{name}.{kind}" for name in REFUSED.split() for kind in ("load", "conf")}
    refused |= {*ELSE_CONFIGURED} | ({"mpm_event.load", "mpm_event.conf"} if "mpm_itk.load" in wanted else PREFORK)
    host.absent(*(f"{ROOT}/mods-enabled/{name}" for name in sorted(refused)), check=CHECK)


def needed(host: Host) -> list[str]:
    """The modules, and their configurations, that this host's sites need."""
    runtimes = {zone.runtime for site in host.sites for zone in site.zones}
    loaded = [*LOADED.split(), *(name for one in ON_DEMAND if one in runtimes for name in ON_DEMAND[one].split())]
    conf = [*CONFIGURED.split(), *(["cgid"] if "cgi" in runtimes else ())]
    if "itk" in runtimes:
        loaded = [name for name in loaded if name != "mpm_event"] + [MOD_PHP[host.facts.release]]
        conf = ["mpm_prefork" if name == "mpm_event" else name for name in conf]
    return [f"{name}.load" for name in dict.fromkeys(loaded)] + [f"{name}.conf" for name in conf]


def _unneeded(host: Host) -> None:
    """What a runtime needed that no site has any more, once no vhost speaks of it."""
    wanted = needed(host)
    ever = dict.fromkeys(name for names in ON_DEMAND.values() for name in names.split() if not name.startswith("mpm_"))
    files = [f"{name}.{kind}" for name in (*ever, *MOD_PHP.values()) for kind in ("load", "conf")]
    host.absent(*(f"{ROOT}/mods-enabled/{name}" for name in files if name not in wanted), check=CHECK)


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
    if not host.idle:
        _vhosts(host, [site for site in host.sites if f"{VHOSTS}/{site}.conf" in host.facts.files])


@task
def vhosts(c):
    """T1 Apache: a file a site with `Use VHost`, and the subdomain's directory by VirtualDocumentRoot.

    T1's label count is for two-label domains; here it comes with each domain. T1 answers `*.domain`; here only the
    names in the site's YAML, since shop.example.com may be somebody else's site (and needs its certificate anyway).
    """
    host = Host.of(c)
    _vhosts(host, host.chosen)
    if not host.narrowed:
        _unneeded(host)


def lines_of(site: Site) -> list[str]:
    """T4: what stands in a vhost for each path of the site, and what runs there; the more particular ones later."""
    programs = any(zone.runtime in PROGRAMS for zone in site.zones)
    lines = [*_room(site)]
    for zone in site.zones:
        if programs and zone.runtime not in PROGRAMS:
            lines.append(f"Use Files {zone.path}")
        if site.has(*SUEXECED) and zone.runtime not in SUEXECED:
            lines.append(f"Use NoCgi {zone.path}")
        lines += _zone(site, zone)
    return lines


def _room(site: Site) -> list[str]:
    """What holds for the whole vhost."""
    php, seconds, limits = site.php, site.seconds + 5, site.limits
    found = []
    if site.has("fcgid"):
        most, requests, idle = (php.children, php.max_requests, php.idle_timeout) if php else (5, 0, 60)
        found.append(f"Use FcgidRoom {most} {requests} {idle} {seconds} {site.body_limit}")
    if site.has("cgi"):
        found.append(f"Use CgiRoom {seconds} {limits.memory_mb << 20} {limits.tasks}")
    if site.has("itk"):
        found += [f"AssignUserID {site.owner} {site.owner}", f"Include /etc/gatehouse/itk/{site.owner}.conf"]
    return found


def _zone(site: Site, zone: Zone) -> list[str]:
    """What stands in a vhost for one path of a site."""
    path, owner, seconds = zone.path, site.owner, site.seconds + 5
    most = min(site.limits.tasks, 16)
    if zone.runtime == "ajp":
        return [f"Use Tomcat {path} {tomcat_file(zone)}"]
    if zone.runtime in PROGRAMS:
        return [f'Use Program {path} "{target(zone)}" {seconds} {most}']
    own = {
        "fpm": [f"Use Fpm {path} {owner}"],
        "fcgid": [f"Use Fcgid {path}", *([f"Use FcgidPhp {path} {owner}"] if site.php else ())],
        "cgi": [f"Use Cgi {path}"],
        "itk": [f"Use Itk {path}"],
    }
    runs_php = zone.runtime in RUNS_PHP and site.php
    return [*own.get(zone.runtime, ()), *(() if runs_php else [f'Use NoPhp "{_where(site, zone)}"'])]


PROGRAMS = {"server": "http", "scgi": "scgi", "ajp": "ajp"}
"""Those that Apache speaks to at a socket, and in which protocol."""


def target(zone: Zone) -> str:
    """Where a program of a site's own listens, as mod_proxy names it; without the path.

    The name behind the protocol is nobody's: it is by it that the wall of the vhost knows where a request goes.
    """
    return f"unix:{zone.socket}|{PROGRAMS[zone.runtime]}://{zone.owner}"


def tomcat_file(zone: Zone) -> str:
    """The file with the line, for root alone, that leads to a site's Tomcat: its secret is in it."""
    return f"/etc/gatehouse/secrets/ajp/{zone.owner}.{zone.name}.conf"


def targets(site: Site) -> str:
    """A regular expression of where the vhost may lead: to the site's own programs and nowhere else.

    Of `SOCKET|proxy:URL`, as mod_proxy has taken an address apart when a request is about to go there. What ProxyPass
    leads to has no SOCKET there, since its worker has it; what an .htaccess leads to does.
    """
    found = [
        f"[|]proxy:{PROGRAMS[zone.runtime]}://{zone.owner}" + ("/" if zone.path == "/" else f"{zone.path}(?![^/?])")
        for zone in site.zones
        if zone.runtime in PROGRAMS
    ]
    return f"(?:{'|'.join(found)})" if found else "(?!)"


def _where(site: Site, zone: Zone) -> str:
    """A regular expression of the paths of a zone that are of no other, deeper one."""
    above = zone.path.rstrip("/") + "/"
    inner = [one.path for one in site.zones if one.path != "/" and one.path.startswith(above)]
    beside = f"(?!(?:{'|'.join(inner)})(?![^/]))" if inner else ""
    return f"^{beside}/" if zone.path == "/" else f"^{beside}{zone.path}(?![^/])"


def _vhosts(host: Host, sites: Iterable[Site]) -> None:
    for site in sites:
        conf = f"{VHOSTS}/{site}.conf"
        if conf + ".off" in host.facts.files:
            host.note(f"{site} is suspended; on again with: fab -H {host.name} site.resume {site}")
            host.absent(conf, check=CHECK)
            continue
        host.template(
            VHOSTS + "/{site}.conf",
            check=CHECK,
            site=site,
            vhosts=vhosts_of(site),
            lines=lines_of(site),
            targets=targets(site),
        )
        host.absent(conf + ".gone")
    if host.narrowed:
        return
    wanted = {f"{VHOSTS}/{site}.conf" for site in host.sites}
    for conf in host.facts.children(VHOSTS, ".conf"):
        if conf not in wanted:
            gone = conf.removeprefix(VHOSTS + "/").removesuffix(".conf")
            host.note(f"{gone} has no file in sites/ any more: it is served no longer; /var/www/{gone} stays as it is")
            host.rename(conf, conf + ".gone", check=CHECK)


# FIRST FILE...: these modules have a daemon.  They start it when a configuration is read for the second time, since a
# starting Apache reads it twice; a child that comes in between falls (mod_fcgid), or finds nobody to ask (mod_cgid).
# So whoever runs without them reads it once more, before the reload that follows: that one is the second.  Nobody is
# lost: a child that falls has taken no connection, and those wait in the port, which the parent holds.
FIRST_LOAD = """
systemctl -q is-active apache2 && apache2ctl -t || exit 0
now() { grep -c AH00489 /var/log/apache2/error.log || :; }
before=$(now)
apache2ctl graceful
for tried in $(seq 100); do [ "$(now)" = "$before" ] || break; sleep 0.1; done
"""


@task
def start(c):
    """T1 Apache: run it now and at every boot, and reload it when anything below /etc/apache2 changed."""
    host = Host.of(c)
    # A reload takes everything but another sandbox and another MPM.
    daemons = [f"{ROOT}/mods-enabled/{name}.load" for name in ("fcgid", "cgid")]
    if any(load in host.facts.files for load in daemons):
        host.run("Apache reads of modules with a daemon", FIRST_LOAD, name="apache2.daemons", on=daemons)
    loads = [f"{ROOT}/mods-enabled/{name}.load" for name in ("mpm_event", "mpm_prefork", "mpm_worker")]
    host.service("apache2", reload_on=[ROOT + "/", *PARTS], restart_on=[UNIT, *loads], ready=READY)


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
