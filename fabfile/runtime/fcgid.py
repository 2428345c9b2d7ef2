"""mod_fcgid with suEXEC: programs that Apache starts as the site's user, and keeps.  (T4, "Best solution")"""

from __future__ import annotations

from .. import php
from ..engine import Host, task
from ..engine.render import render
from ..model import Site
from .cgi import SUEXEC
from .itk import PLACE as ITK

FORMS = "/etc/gatehouse/fcgid"
WRAPPERS = "/var/www/.suexec"
"""suEXEC starts only what lies below /var/www, and is the user's own; Apache's sandbox lets nobody write here."""

# PLACE FORM OWNER PROGRAM: root makes the directory, and the wrapper in it by one rename; who owns them may not write
# them.  The last line asks it, as the site's user: nobody is led to one that does not start.
PLACE = """
place=$1 form=$2 owner=$3
install -d -m 0755 -o root -g root "$place"
stage "$place"
install -d -m 0555 -o "$owner" -g "$owner" "$stage/new"
install -m 0555 -o "$owner" -g "$owner" "$form" "$stage/new/php"
rm -rf -- "$place/$owner.former"
[ ! -e "$place/$owner" ] || mv -T -- "$place/$owner" "$place/$owner.former"
mv -T -- "$stage/new" "$place/$owner"
rm -rf -- "$place/$owner.former"
rmdir "$stage"
setpriv --reuid "$owner" --regid "$owner" --clear-groups "$place/$owner/php" -v < /dev/null 3>&- ||
    fail "$place/$owner/php does not start"
"""


@task
def fcgid(c):
    """T4 mod_fcgid: php-cgi a site, which Apache starts through suEXEC when a request comes, and keeps for the next.

    T4's own choice. The wrapper says with which limits and php.ini's values; root makes it, and the site's code cannot
    change it. Sessions are files in the site's tmp/.
    """
    host = Host.of(c)
    sites = [site for site in host.sites if site.has("fcgid")]
    if not sites:
        return
    version = php.version(host)
    scripts = [site for site in sites if site.php]
    program = f"/usr/bin/php-cgi{version}"
    host.packages("libapache2-mod-fcgid", SUEXEC, held=True)
    if scripts:
        host.packages(f"php{version}-cgi", *php.extensions(host), held=True)
        ini = render(php.FPM + "/conf.d/99-gatehouse.ini", {"opcache_mb": 32})
        host.file(f"/etc/php/{version}/cgi/conf.d/99-gatehouse.ini", ini)
    for site in host.meant(tuple(scripts)):
        form = host.template(FORMS + "/{site.owner}", site=site, program=program, settings=_settings(host, site))
        label = f"{site} has its wrapper"
        host.run(label, PLACE, WRAPPERS, form, site.owner, name=f"fcgid-{site.owner}", on=[form])


GONE = """
for owner do
    rm -rf -- "/var/www/.suexec/$owner" "/etc/gatehouse/fcgid/$owner" "/etc/gatehouse/itk/$owner.conf" \\
        "$home/loaded/fcgid-$owner"
done
"""


@task(name="former")
def former(c):
    """T4: what suEXEC or ITK had for a site that something else runs now goes, once Apache does without it."""
    host = Host.of(c)
    left = [
        site.owner
        for site in host.chosen
        if (f"{FORMS}/{site.owner}" in host.facts.files and not site.has("fcgid"))
        or (f"{ITK}/{site.owner}.conf" in host.facts.files and not site.has("itk"))
    ]
    if left:
        host.run("former wrappers go", GONE, *left)


def forget(host: Host, owner: str) -> None:
    """What suEXEC or ITK had for a site that is removed, and what the host remembers of it, goes."""
    had = f"{FORMS}/{owner}" in host.facts.files or f"{ITK}/{owner}.conf" in host.facts.files
    if had or f"fcgid-{owner}" in host.facts.loaded:
        host.run("former wrappers go", GONE, owner)


def _settings(host: Host, site: Site) -> dict[str, str]:
    """Debian 12's PHP starts with a lock file for opcache, as the site's user, to whom Apache's own /tmp is closed."""
    settings = php.settings(site, told=bool(site.database or host.fleet.one("cache")))
    return settings | {"opcache.lockfile_path": settings["sys_temp_dir"]}
