"""Certificates: lego asks the CA, gatehouse-renew puts what comes back in front of visitors.  (T1, "lego")

The tutorial runs lego by hand and concatenates what it leaves. Here a program on the host does that, so that no laptop
need be awake: `scripts/gatehouse-renew`, which tells itself how. What a site asks for is one small file; the program
leaves beside it what it satisfied, so the facts alone tell whether there is anything to order.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..engine import Host, Problem, query, task
from ..model import Balancer, Fleet, Site, chosen_site
from . import answers, prospects

PROGRAM = "/usr/local/sbin/gatehouse-renew"
SOURCE = Path(__file__).parents[2] / "scripts" / "gatehouse-renew"
REQUESTS = "/etc/gatehouse/certs"
SHELF = "/etc/haproxy/certs"
DEFAULT = f"{SHELF}/00-default.pem"
BUNDLE = "/etc/gatehouse/acme-ca.pem"
SYSTEM_TRUST = "/etc/ssl/certs/ca-certificates.crt"
CRON = "/etc/cron.d/gatehouse-renew"

PATIENCE = 900
"""Seconds to wait for a run that is on, such as cron's own."""


@task
def install(c):
    """T1 Let's Encrypt: install lego; openssl judges what it brings, socat asks HAProxy and drill DNS."""
    Host.of(c).packages("lego", "openssl", "socat", "ca-certificates", "ldnsutils")


@task
def program(c):
    """T1 Certificate creation: the program that orders, checks, installs and proves; and which CA it asks.

    A program instead of typing lego's options and `cat`: what lego leaves may be half written or for other names, so
    key, names, dates and chain are checked first, and one rename puts the PEM in place. No `-x`: of the two methods
    that it switched off, tls-sni-01 is gone and dns-01 is not chosen.
    """
    host = Host.of(c)
    acme = host.fleet.acme
    host.directory("/etc/gatehouse")
    host.directory(REQUESTS)
    if acme.ca_bundle:
        host.file(BUNDLE, acme.ca_bundle.read_bytes())
    else:
        host.absent(BUNDLE)
    # The system's list must vouch for what a public CA issues, so that a test CA's certificate never gets in front of
    # visitors. A CA of one's own, or a staging one, is in nobody's list.
    public = not (acme.ca_bundle or acme.staging)
    host.template(
        "/etc/gatehouse/acme.conf", bundle=BUNDLE if acme.ca_bundle else "", trust=SYSTEM_TRUST if public else ""
    )
    host.file(PROGRAM, SOURCE.read_bytes(), mode=0o755, check=f"sh -n {PROGRAM}")


@task
def requests(c):
    """T1 Certificate creation: what each site asks for: one certificate with all its names.

    The key is of the kind ec256 where the tutorial has rsa4096: as strong, and each handshake is cheaper. A site's
    `tls: key: rsa4096` asks for the tutorial's.
    """
    host = Host.of(c)
    for site in host.meant(host.certified):
        _request(host, site)
    if host.narrowed:
        return
    wanted = {f"{REQUESTS}/{site}{ending}" for site in host.certified for ending in (".conf", ".issued")}
    host.absent(*(path for path in host.facts.files if path.startswith(REQUESTS + "/") and path not in wanted))


@task
def default(c):
    """T1 HAProxy: a default certificate, without which HAProxy would not start.

    Self-signed, and it names nobody: it is what a stranger sees who asks for a name that is not served here.
    """
    host = Host.of(c)
    host.directory("/etc/haproxy")
    host.directory(SHELF, mode=0o700)
    if DEFAULT not in host.facts.files:
        host.run("the default certificate is made", f"{PROGRAM} --default --wait {PATIENCE}")


@task(
    vital=False,
    positional=["domain"],
    help={
        "domain": "a site's: just this one, at once, after `cert.preflight`; without it, all that are missing",
        "anyway": "order it although the preflight finds it hopeless",
    },
)
def issue(c, domain="", anyway=False):
    """T1 Certificate creation: order what is missing or asked for otherwise, name by name, through HAProxy.

    A name that fails stops nobody: it is served with the default certificate, or its old one, and the step ends with
    code 1 and the reason. It waits before it is tried again, so that typing the same twice does not run into the CA's
    limits; `cert.issue NAME` tries at once. A name without any address in DNS is not ordered.
    """
    host = Host.of(c)
    if domain:
        _issue_now(host, _site(host, domain), anyway)
    elif names := [site.domain for site in host.meant(host.certified) if not satisfied(host, site)]:
        label = f"{names[0]} gets its certificate" if len(names) == 1 else f"{len(names)} sites get their certificates"
        host.run(label, f'progress {PROGRAM} --now --wait {PATIENCE} "$@"', *names)


@task
def schedule(c):
    """T1 Certificate renewal: cron calls every hour, and the program keeps to this host's own two times of the day.

    Due is what has less than a third of its lifetime left, not a number of days: lifetimes are getting shorter. A name
    that failed is tried again after 1, 10 and 100 minutes, then daily; one that browsers warn of by now, at once. Cron
    calls after a boot as well: the host may have been off for months.
    """
    host = Host.of(c)
    host.packages("cron")
    host.template(CRON, mode=0o600)
    host.service("cron")


STEPS_BEFORE = (install, program, requests, default)
"""Before HAProxy's first start, which needs a certificate."""

STEPS_AFTER = (schedule, issue)
"""Once HAProxy passes the CA's questions on to lego.  The schedule comes first: what fails now is tried again by it."""

STEPS = STEPS_BEFORE + STEPS_AFTER


def contact(host: Host, site: Site | Balancer) -> str:
    """Where the CA writes to: the site's address, the fleet's, else one for all sites of the host (RFC 2142).

    An address is an account at the CA, and Let's Encrypt makes ten in three hours.
    """
    return site.tls.email or host.fleet.acme.email or f"webmaster@{host.certified[0]}"


def satisfied(host: Host, site: Site | Balancer) -> bool:
    """Is the site's request, as it is now, one that the program has satisfied?  Facts alone decide."""
    issued = host.facts.files.get(f"{REQUESTS}/{site}.issued")
    return (
        f"{SHELF}/{site}.pem" in host.facts.files
        and issued is not None
        and issued.digest == hashlib.sha256(stamp(host.fleet, site).encode()).hexdigest()
    )


def stamp(fleet: Fleet, site: Site | Balancer) -> str:
    """What the program leaves beside a request that it has satisfied."""
    return f"directory={fleet.acme.directory}\nkey={site.tls.key}\nnames={' '.join(site.names)}\n"


def _site(host: Host, domain: str) -> Site | Balancer:
    """One that this host has a certificate for.  Raises Refusal with the nearest ones."""
    return chosen_site(host.certified, domain, f"{host.name} has a certificate for")


def _request(host: Host, site: Site | Balancer) -> None:
    host.template(REQUESTS + "/{site}.conf", site=site, email=contact(host, site))


def _issue_now(host: Host, site: Site | Balancer, anyway: bool) -> None:
    """One site's, at once.  Raises Problem when the preflight finds that the CA would refuse it."""
    if satisfied(host, site):
        host.note(f"{site} has what it asks for: fab -H {host.name} cert.verify {site}")
        return
    _request(host, site)
    if host.dry:
        return
    if not anyway and (wrong := [finding for finding in prospects.findings(host, site) if finding.bad]):
        raise Problem(
            f"nothing was asked of the CA: it would refuse {site}",
            f"mend it, or: fab -H {host.name} cert.issue {site} --anyway",
            "\n".join(f"{finding.name}  {finding.what}  {finding.text}" for finding in wrong),
        )
    host.run(f"{site} gets its certificate", f'progress {PROGRAM} --wait {PATIENCE} "$1"', site.domain)


@query(
    positional=["domain"],
    help={
        "domain": "a site's: just this one, at once, even when its last try failed; or --all: what is due",
        "force": "order it although it is not due (a key got out)",
        "json": "print the same as JSON",
    },
)
def renew(c, domain, force=False, json=False):
    """On call: renew what is due, now.  Exit code 1 when a name failed; its old certificate goes on being served."""
    host = Host.of(c)
    words = answers.words(host.certified, domain)
    answers.show(answers.renewed(host, *(["--force"] if force else []), *words), json)


@query(name="list", help={"json": "print the same as JSON, with the SHA-1 of each"})
def list_(c, json=False):
    """On call: every certificate in four truths, with the days that each has left; exit code 1 when one is not well.

    What lego left, what lies in HAProxy's directory, what HAProxy has in memory, and what a visitor is shown.
    """
    host = Host.of(c)
    answers.show(answers.listed(host), json)


@query(
    positional=["domain"], help={"domain": "a site's; without it, every site's", "json": "print the same as JSON"}
)
def verify(c, domain="", json=False):
    """On call: is each certificate right: chain, names, key, dates, the file's mode, what HAProxy holds and serves?

    One line each, with all that is wrong; exit code 1 when something is.
    """
    host = Host.of(c)
    answers.show(answers.verified(host, *([_site(host, domain).domain] if domain else [])), json)


@query(positional=["domain"], help={"domain": "a site's", "json": "print the same as JSON"})
def preflight(c, domain, json=False):
    """On call: would the CA reach this host by every name of a site? Asked before an order, since failures are counted.

    A and AAAA each on its own: what DNS says, and whether a challenge's path there ends at this host, asked from where
    you are (over IPv6 from the host itself where you have none); and whether CAA records let the CA issue (RFC 8659).
    One line each; exit code 1 when something is wrong.
    """
    host = Host.of(c)
    answers.show(prospects.findings(host, _site(host, domain)), json)
