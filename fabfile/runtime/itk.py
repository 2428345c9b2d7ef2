"""The ITK MPM: an Apache that becomes each site's user, with PHP as a part of it.  (T4, "ITK MPM")"""

from __future__ import annotations

from .. import php
from ..engine import Host, task
from ..engine.render import render
from . import slices

PLACE = "/etc/gatehouse/itk"
PROGRAM = "/usr/local/sbin/gatehouse-itk"
SERVICE = f"{slices.PLACE}/gatehouse-itk.service"
TIMEOUTS = "/etc/gatehouse/itk-timeouts"
"""Not in PLACE, of which Apache takes each file: it is written once Apache has."""


@task
def itk(c):
    """T4 ITK: mod_php in an Apache whose processes become the vhost's user before they read a file.

    A host of its own kind: Apache's MPM is prefork there, for all its sites. The packages switch the MPM themselves the
    moment they are installed; here Apache goes on as it is until its new configuration is whole.
    """
    host = Host.of(c)
    sites = tuple(site for site in host.sites if site.has("itk"))
    if not sites:
        return
    version = php.version(host)
    host.packages("libapache2-mpm-itk", f"libapache2-mod-php{version}", *php.extensions(host), held=True)
    ini = render(php.FPM + "/conf.d/99-gatehouse.ini", {"opcache_mb": 128})
    host.file(f"/etc/php/{version}/apache2/conf.d/99-gatehouse.ini", ini)
    for site in host.meant(sites):
        told = bool(site.database or host.fleet.one("cache"))
        host.template(PLACE + "/{site.owner}.conf", site=site, settings=php.settings(site, told))


@task
def overdue(c):
    """T4 ITK: a request that takes long leaves Apache's share of the processor, and ends after `php.timeout`.

    As PHP-FPM's master would end it: PHP itself counts no second in which it waits. After Apache, with which it ends.
    """
    host = Host.of(c)
    sites = tuple(site for site in host.sites if site.has("itk"))
    if sites:
        host.packages("dbus", "procps", held=True)
        host.template(TIMEOUTS, sites=sites)
        host.template(PROGRAM, mode=0o755)
        host.template(SERVICE)
        host.service("gatehouse-itk", restart_on=[SERVICE, PROGRAM])
    else:
        slices.unwatched(host, "nobody looks for long requests in Apache", SERVICE, PROGRAM, TIMEOUTS)
