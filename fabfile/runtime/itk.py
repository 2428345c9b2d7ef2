"""The ITK MPM: an Apache that becomes each site's user, with PHP as a part of it.  (T4, "ITK MPM")"""

from __future__ import annotations

from .. import php
from ..engine import Host, task
from ..engine.render import render
from . import slices

PLACE = "/etc/gatehouse/itk"
PROGRAM = "/usr/local/sbin/gatehouse-itk"
SERVICE = f"{slices.PLACE}/gatehouse-itk.service"
TIMER = f"{slices.PLACE}/gatehouse-itk.timer"


@task
def itk(c):
    """T4 ITK: mod_php in an Apache whose processes become the vhost's user before they read a file.

    A host of its own kind: Apache's MPM is prefork there, for all its sites. The packages switch the MPM themselves the
    moment they are installed; here Apache goes on as it is until its new configuration is whole. A request that takes
    longer than `php.timeout` is ended, as PHP-FPM would.
    """
    host = Host.of(c)
    sites = tuple(site for site in host.sites if site.has("itk"))
    if not sites:
        if TIMER in host.facts.files and not host.narrowed:
            host.run("nobody looks for requests of mpm-itk", "systemctl disable --now gatehouse-itk.timer")
            host.absent(TIMER, SERVICE, PROGRAM)
        return
    version = php.version(host)
    host.packages("libapache2-mpm-itk", f"libapache2-mod-php{version}", "procps", *php.extensions(host), held=True)
    ini = render(php.FPM + "/conf.d/99-gatehouse.ini", {"opcache_mb": 128})
    host.file(f"/etc/php/{version}/apache2/conf.d/99-gatehouse.ini", ini)
    for site in host.meant(sites):
        told = bool(site.database or host.fleet.one("cache"))
        host.template(PLACE + "/{site.owner}.conf", site=site, settings=php.settings(site, told))
    host.template(PROGRAM, mode=0o755, sites=sites)
    host.template(SERVICE)
    host.template(TIMER)
    host.service("gatehouse-itk.timer", restart_on=[TIMER])
