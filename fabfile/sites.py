"""One site as a whole: it comes, gets releases, rests, and goes.  Flows over the chapters, as plain calls."""

from __future__ import annotations

import json as json_
import shlex
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

from . import (
    apache,
    cache,
    cert,
    credentials,
    database,
    edge,
    fail2ban,
    files,
    haproxy,
    isolation,
    php,
    release,
    runtime,
    site,
    static,
    varnish,
)
from .engine import Facts, Guarded, Host, StepFailed, as_data, console, flow, query, steps
from .engine import Problem as Failure
from .engine.asking import confirmed
from .engine.pool import Crew
from .flows import preflight
from .model import Problem, Refusal, Site, chosen_site
from .release.spread import Spread, makes_pages, on_the_net

NAME = "the domain, as in the name of its file in sites/"
BACKUPS = "/var/backups/gatehouse"
SUSPENDED = "/etc/gatehouse/suspended"
"""A file a site that is suspended, on an edge that does not make its pages: there is no vhost there to be renamed."""

BEHIND = (
    *credentials.STEPS,
    site.users,
    site.tree,
    site.tmp,
    site.code,
    *database.STEPS,
    *cache.STEPS,
    *php.STEPS,
    *runtime.STEPS,
    apache.modules,
    apache.vhosts,
    apache.start,
    *php.STEPS_AFTER,
    *runtime.STEPS_AFTER,
    varnish.configure,
    varnish.start,
)
SHARED = (site.users, site.tree, *files.STEPS)
FRONT = {
    "haproxy": (cert.requests, haproxy.hosts, haproxy.start, cert.issue),
    "nginx": (cert.requests, edge.hosts, edge.start, cert.issue),
}
"""From the inside out: a site's name is answered once all behind it is there."""
FILES = (static.sites, static.start)

TAKEN_OVER = (php.configure, php.pools, php.start, apache.configure, apache.start)
"""What lets a host of an earlier Gatehouse serve releases."""

# What a running HAProxy knows; its file says the same after the next reload.
TOLD = """
systemctl -q is-active haproxy || exit 0
echo "$1 map /etc/haproxy/suspended.map $2" | socat -T 5 - UNIX-CONNECT:/run/haproxy/admin.sock
"""

# ARCHIVE TREE OWNER DOMAIN INTO: nobody of that user is left to move anything while root reads.  The tree goes into a
# directory of root's by one rename, so a run that is cut off here is gone on with.
ARCHIVE = """
tree=$1 owner=$2 domain=$3 into=$4
for try in $(seq 100); do
    pkill -KILL -u "$owner" || break
    sleep 0.1
done
! pgrep -u "$owner" || fail "processes of $owner do not end"
umask 077
[ ! -e /usr/local/sbin/gatehouse-tmp ] || gatehouse-tmp gone "$tree"
mkdir -p -m 0700 /var/backups/gatehouse "$tree.removing"
[ ! -d "$tree" ] || mv -T -- "$tree" "$tree.removing/$domain"
tar --create --gzip --one-file-system --sparse --directory "$tree.removing" --file "$into.new" -- "$domain"
tar --list --gzip --file "$into.new" > /dev/null
sync "$into.new"
mv -fT -- "$into.new" "$into"
"""

# FORGET TREE OWNER DOMAIN: a later user may get the same number, so nothing may be left that has it.
FORGET = """
tree=$1 owner=$2 domain=$3
rm -rf -- "$tree.removing"
find /tmp /var/tmp /dev/shm /var/lib/php/sessions -xdev -user "$owner" -delete || :
rm -f -- "/var/spool/cron/crontabs/$owner"
rm -rf -- "/etc/gatehouse/sites/$owner" "/var/www/.suexec/$owner" "/etc/gatehouse/fcgid/$owner" \\
    "/etc/gatehouse/itk/$owner.conf"
userdel "$owner"
! getent group "$owner" || groupdel "$owner"
"""

# UNLIST DOMAIN: its certificate and key, wherever they lie; what the CA wants to know of it.
UNLIST = """
rm -f -- "/etc/haproxy/certs/$1.pem" "/var/lib/gatehouse/renew/former/$1.pem" "/var/lib/gatehouse/renew/$1.failed" \\
    "/etc/gatehouse/certs/$1.conf" "/etc/gatehouse/certs/$1.issued"
for ending in crt key json issuer.crt; do rm -f -- "/etc/lego/certificates/$1.$ending"; done
"""

# Of the engine's look, in its words, what tells of sites alone: that one reads every file below /etc.
LOOK = """
printf 'users\\n%s\\0' "$(cat /etc/passwd)"
printf 'groups\\n%s\\0' "$(cat /etc/group)"
find /etc/apache2/vhost.d /etc/gatehouse/suspended /var/www -mindepth 1 -maxdepth 2 \\
    '(' -path '*/vhost.d/*' -o -path '*/suspended/*' -o -name public_html ')' \\
    -printf 'file\\t%y\\t%m\\t%U\\t%G\\t%s\\t%T@\\t%l\\t%p\\0' -prune 2> /dev/null || :
"""


# ---------------------------------------------------------------------- it comes


@flow(
    run="site.apply",
    positional=["domain"],
    help={"domain": NAME + "; without it, all sites of the host", "json": "print the outcome of every step as JSON"},
)
def apply(c, domain="", json=False):  # noqa: ARG001  (the engine reads it)
    """On call: make one site as its file says (user, tree, PHP, vhost, names, certificate) and leave the others alone.

    The host must be bootstrapped. What lists all sites, such as HAProxy's names, lists all of them as their files are.
    """
    host = Host.of(c)
    all_ = tuple(dict.fromkeys((*host.sites, *host.fronted)))
    one = (chosen_site(all_, domain, f"{host.name} has"),) if domain else ()
    door, server = host.fleet.edge.server, host.fleet.static.server
    roles = {
        "shared": ("rsync", SHARED),
        "static": (server, FILES),
        "web": ("apache2", BEHIND),
        "edge": (door, FRONT[door]),
    }
    parts = [part for role, part in roles.items() if role in host.fleet.roles(host.name)]
    if missing := [package for package, _ in parts if package not in host.facts.packages]:
        raise Guarded(f"{host.name} is not set up yet: it has no {missing[0]}", f"fab -H {host.name} bootstrap")
    preflight(host)
    with host.about(*one) if one else nullcontext():
        for _, chapter in parts:
            steps(c, *chapter)
        _watched(c, host)


def _watched(c: Any, host: Host) -> None:
    """Which logs fail2ban reads follows from which sites there are."""
    if "fail2ban" in host.facts.packages:
        with host.step("fail2ban.logs"):
            host.template(fail2ban.LOGS, check=fail2ban.CHECK)
        steps(c, fail2ban.start)


# ---------------------------------------------------------------------- it gets releases


@flow(
    run="site.deploy",
    positional=["domain"],
    help={
        "domain": NAME,
        "source": "a directory on this machine. With a directory _ in it, it is public_html itself: one directory for "
        "each subdomain, _ for the bare domain and for names that have none. Any other is an application, shown under "
        "every name; deploy.docroot says where inside it the web root is. .git, .hg and .svn stay here",
        "json": "print the outcome of every step as JSON",
    },
)
def deploy(c, domain, source="", json=False):  # noqa: ARG001
    """On call: bring a new release, let it serve by one switch, prove it; else the former one comes back (exit code 1).

    The files and the commands of `deploy:` in the site's file are the site's user's. Until the switch, and when the
    run is broken off before it, the former release serves; what it left goes with the next deploy. In a fleet with a
    files host it is typed there: each host that shows the site hears of it, and a page of each app host proves it.
    """
    host = Host.of(c)
    one = host.site(domain)
    what = release.source(one, source)
    words = "site.deploy", str(one), "--source", shlex.quote(source)
    with _spread(host, one, " ".join(words)) as others:
        with host.about(one):
            steps(c, site.tree, *(TAKEN_OVER if host.facts.files[one.served].kind == "d" else ()))
        id_ = release.new_id(host.facts, one)
        with host.step("site.deploy"), release.again(host, *words):
            release.begin(host, one, id_)
            host.flush()
            if not host.dry:
                host.note(release.bring(host, one, id_, what))
        with host.step("site.deploy"), release.again(host, *words):
            release.finish(host, one, id_, what)
            if others:
                host.flush()
                others.fetch(id_)
            for line in one.deploy.before:
                others.command(id_, what, line)
            _serve(host, one, others, id_, f"{host.visit.who}  {what.origin}", back=True)
        with host.step("site.deploy"), release.again(host, *words):
            release.keep(host, one)
            for line in one.deploy.after:
                others.command(id_, what, line)
        others.tell_lost()


def _spread(host: Host, one: Site, words: str) -> Spread:
    """The other hosts that a release concerns.  Raises Refusal for a site that serves nobody or is elsewhere."""
    release.files_here(host, one, words)
    if makes_pages(host):
        on_the_net(host, one)
    elif one.owner not in host.facts.users:
        raise Refusal(Problem(f"{one} is not on {host.name} yet", next=f"fab -H {host.name} site.apply {one}"))
    others = Spread(host, one)
    others.gather()
    return others


def _serve(host: Host, one: Site, others: Spread, id_: str, origin: str, back: bool) -> None:
    """The switch, here and wherever it is shown; when a page fails anywhere, `back` on all of them."""
    former = release.serving(host.facts, one)
    if makes_pages(host):
        release.serve(host, one, id_, php.version(host), origin, back=back)
    else:
        release.turn(host, one, id_)
    if not others:
        return
    host.flush()
    try:
        others.show(id_)
    except StepFailed as error:
        if back and former and former != id_:
            release.turn_back(host, one, id_, former)
            if makes_pages(host):
                release.serve(host, one, former, php.version(host), "", back=False)
                host.flush()
            others.show(former, ask=False)
            error.details += f": {former} serves again"
        raise
    if origin and not makes_pages(host):
        release.note(host, one, id_, origin)


@flow(
    run="site.rollback",
    positional=["domain"],
    help={
        "domain": NAME,
        "to": "the release, of those that site.releases shows; without it, the one before the one that serves",
        "json": "print the outcome of every step as JSON",
    },
)
def rollback(c, domain, to="", json=False):  # noqa: ARG001
    """On call: let a former release serve again.  What it keeps in shared/ and in its database stays as it is now."""
    host = Host.of(c)
    one = host.site(domain)
    with _spread(host, one, f"site.rollback {one}" + (f" --to {to}" if to else "")) as others:
        id_ = release.target(host.facts, one, to)
        with host.step("site.rollback"), release.again(host, "logs", str(one)):
            if id_ == release.serving(host.facts, one):
                host.note(f"{id_} serves already")
            else:
                others.fetch(id_)
                _serve(host, one, others, id_, "", back=False)
        others.tell_lost()


# ---------------------------------------------------------------------- it rests


@flow(run="site.suspend", positional=["domain"], help={"domain": NAME})
def suspend(c, domain):
    """T1 Apache: take one site from the net: visitors get a page that says so (503), of the cache nothing any more.

    T1 renames its vhost's file, and so does this; that it has another name is all that there is to remember, and stays
    so over every `bootstrap`. Here HAProxy says it, before Varnish is asked. Its certificate goes on being renewed.
    In a fleet every edge that leads to the site says it, whichever host this is typed at; the hosts behind them go on
    as they are.
    """
    host = Host.of(c)
    one = _any_site(host, domain)
    if _makes(host, one) and apache.state(host.facts, one) not in ("served", "suspended"):
        on_the_net(host, one)
    _at_the_doors(host, one, _rest, "visitors still get it")


@flow(run="site.resume", positional=["domain"], help={"domain": NAME})
def resume(c, domain):
    """T1 Apache: put a site that `site.suspend` took from the net back on it, at every edge that leads to it."""
    host = Host.of(c)
    one = _any_site(host, domain)
    if _makes(host, one) and host.name not in doors(host, one):
        _on_again(host, one)
    _at_the_doors(host, one, _return, "it is not on the net again")


def doors(host: Host, one: Site) -> tuple[str, ...]:
    """Where the visitors of a site arrive: at the edges that lead to it; without any, at this host."""
    edges = [edge.name for edge in host.fleet.edges if one in host.fleet.fronted_by(edge.name)]
    return tuple(edges) or (host.name,)


def _any_site(host: Host, domain: str) -> Site:
    """The site of this name that the host has, or leads visitors to."""
    return chosen_site(tuple(dict.fromkeys((*host.sites, *host.fronted))), domain, f"{host.name} has")


def _makes(host: Host, one: Site) -> bool:
    """Whether this host makes the pages of the site."""
    return "web" in host.fleet.roles(host.name) and one in host.sites


def _at_the_doors(host: Host, one: Site, does: Callable[[Host, Site], None], else_: str) -> None:
    """At each of them one after another, this host first.  Raises StepFailed when one of them could not be asked."""
    assert host.report
    run = host.report.run
    names = doors(host, one)
    if host.name in names:
        does(host, one)

    def there(other: Host) -> None:
        other.enrol()
        with other.running(run):
            does(other, one)

    if others := [name for name in names if name != host.name]:
        with Crew(host.fleet, others, host.dry) as crew:
            for name, answer in crew.each(others, there, workers=1).items():
                if isinstance(answer, Failure):
                    raise StepFailed(f"at {name} {else_}: {answer.message}", answer.next_step, answer.details)


def _rest(host: Host, one: Site) -> None:
    with host.step("site.suspend"):
        if _makes(host, one):
            apache.off(host, one)
        else:
            host.directory(SUSPENDED)
            host.file(f"{SUSPENDED}/{one}", "")
    _front(host, one, "add", f"{one} 1")
    if _makes(host, one):
        steps(host.visit.connection, apache.start)


def _return(host: Host, one: Site) -> None:
    if _makes(host, one):
        _on_again(host, one)
    else:
        with host.step("site.resume"):
            host.absent(f"{SUSPENDED}/{one}")
    _front(host, one, "del", str(one))


def _on_again(host: Host, one: Site) -> None:
    if apache.state(host.facts, one) == "suspended":
        with host.step("site.resume"), host.about(one):
            apache.on(host, one)
    else:
        on_the_net(host, one)
    steps(host.visit.connection, apache.start)


def _front(host: Host, one: Site, verb: str, words: str) -> None:
    """HAProxy hears of it twice: by its file, for good; and at once, for connections that outlive the reload."""
    if "edge" in host.fleet.roles(host.name) and host.fleet.edge.server == "nginx":
        steps(host.visit.connection, edge.hosts, edge.start)
        return
    if "haproxy" not in host.facts.packages:
        raise Guarded(f"{host.name} is not set up yet: it has no haproxy", f"fab -H {host.name} bootstrap")
    c = host.visit.connection
    before = host.facts.files.get(haproxy.SUSPENDED_MAP)
    steps(c, haproxy.hosts)
    if before and before != host.facts.files[haproxy.SUSPENDED_MAP]:
        with host.step("haproxy.suspended"):
            host.run(f"HAProxy is told of {one}", TOLD, verb, words)
    steps(c, haproxy.start)


# ---------------------------------------------------------------------- it goes


@flow(
    run="site.remove",
    positional=["domain"],
    help={"domain": "the domain of a site without a file", "yes": "do not ask"},
)
def remove(c, domain, yes=False):
    """On call: archive a site's tree and database in /var/backups/gatehouse, for root alone, and take all of it away.

    Only a site that has no file in sites/ any more: else the next `bootstrap` would make it again. A file that vanished
    removes nothing by itself.
    """
    host = Host.of(c)
    if any(domain.strip().lower().rstrip(".") in (one.domain, one.shown) for one in host.sites):
        raise Guarded(
            f"{domain} still has its file in sites/: the next bootstrap would make it again",
            f"move the file away, then type the same again; for a while only: fab -H {host.name} site.suspend {domain}",
        )
    one = chosen_site(leftovers(host.facts, host.sites), domain, f"{host.name} has, without a file in sites/,")
    name = f"{BACKUPS}/{one}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(host.facts.clock))}"
    if not yes and not host.dry:
        what = f"{one.shown}, its files, its database and its user go from {host.name}"
        confirmed(f"{what}; first all is archived in {name}.*", (one.domain, one.shown))
    _unserved(c, host, one)
    with host.step("site.remove"):
        host.run(f"archive {one.root}", ARCHIVE, one.root, one.owner, one.domain, f"{name}.tar.gz")
        if makes_pages(host):
            database.archive(host, one, f"{name}.sql.gz")
        host.note(f"all that it had: {name}.tar.gz")
    with host.step("site.remove"):
        if makes_pages(host):
            database.drop(host, one)
        host.run(f"remove {one.root} and its user", FORGET, one.root, one.owner, one.domain)
        site.no_jobs_of_their_own(host)
    if makes_pages(host):
        with host.about():
            steps(c, site.tmp)


def _door(host: Host) -> Any:
    """The chapter of the server that visitors speak to."""
    return edge if host.fleet.edge.server == "nginx" else haproxy


def _unserved(c: Any, host: Host, one: Site) -> None:
    """Its names, its vhost, its pool and its passwords go; no other site's file is touched."""
    if "shared" in host.fleet.roles(host.name):
        steps(c, *files.STEPS)
    if not makes_pages(host):
        return
    pool = f"{php.FPM.format(php=php.version(host))}/pool.d/{one}.conf"
    passwords = f"{cache.SECRETS}/{one.owner}", f"{php.POOL_SECRETS}/{one.owner}.conf"
    gone = *credentials.forgotten(one.owner), *cache.forgotten(one.owner)
    with host.about():
        steps(c, _door(host).hosts)
        with host.step("site.remove"):
            host.absent(
                *(f"{apache.VHOSTS}/{one}.conf{ending}" for ending in ("", ".off", ".gone")), check=apache.CHECK
            )
            host.run(f"{one} has no certificate", UNLIST, one.domain)
        steps(c, _door(host).start, apache.start, cache.sessions, php.pools)
        with host.step("site.remove"):
            runtime.forget(host, one.owner)
            host.absent(pool, f"{pool}.gone")
            host.run("its passwords go", 'rm -f -- "$@"', *passwords, *gone)
        steps(c, php.start)
        _watched(c, host)


def leftovers(facts: Facts, sites: tuple[Site, ...]) -> tuple[Site, ...]:
    """Sites that the host has and nobody's files name: a site's user is at home in its tree."""
    known = {one.root for one in sites}
    homes = {user.home: user.name for user in facts.users.values() if user.home.startswith("/var/www/")}
    return tuple(
        Site.model_construct(domain=home.rpartition("/")[2], owner=owner, subdomains=(), aliases=())
        for home, owner in sorted(homes.items())
        if home not in known
    )


# ---------------------------------------------------------------------- what there is


class Row(NamedTuple):
    """One site of a host.

    state: `served`, `suspended`, `new` (in sites/, not applied yet), `gone` (on the host, and in no file of sites/),
    `files` (on a host that has its files and makes no pages); release: the ID of the one that serves, where its files
    are; loosened: PHP settings that are looser than the default.
    """

    domain: str
    state: str
    release: str
    user: str
    names: tuple[str, ...]
    loosened: tuple[str, ...]


@query(name="list", help={"json": "print the same as JSON"})
def show(c, json=False):
    """On call: the sites of this host: state, release, user, what is looser than the default, names."""
    host = Host.of(c)
    facts = Facts.of(host.ask(LOOK).split("\0"))
    rows = [
        Row(
            one.domain,
            _state(host, facts, one),
            release.serving(facts, one),
            one.owner,
            one.names,
            one.php.loosened if one.php else (),
        )
        for one in host.sites
    ]
    rows += [
        Row(one.domain, "gone", release.serving(facts, one), one.owner, (one.domain,), ())
        for one in leftovers(facts, host.sites)
    ]
    if json:
        print(json_.dumps([as_data(row) for row in rows], indent=2))
        return
    widths = [max((len(getattr(row, name)) for row in rows), default=0) for name in ("domain", "user")]
    for row in rows:
        line = f"{row.domain:<{widths[0]}}  {row.state:<9}  {row.release or '-':<15}  {row.user:<{widths[1]}}"
        console.print("  ".join((line, *row.loosened, *row.names[1:])).rstrip(), markup=False)
    for row in rows:
        if row.state == "gone":
            console.print(
                f"{row.domain} is in no file of sites/; for good: fab -H {host.name} site.remove {row.domain}"
            )


def _state(host: Host, facts: Facts, one: Site) -> str:
    """What the host makes of a site; an edge that does not make its pages leads visitors to them, unless it rests."""
    if _makes(host, one):
        return apache.state(facts, one)
    if "edge" in host.fleet.roles(host.name):
        return "suspended" if f"{SUSPENDED}/{one}" in facts.files else "served"
    return "files" if one.served in facts.files else apache.state(facts, one)


TASKS = (apply, deploy, rollback, suspend, resume, remove, show, release.releases, isolation.prove_isolation)
