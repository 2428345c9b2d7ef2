"""CGI with suEXEC: a program a request, as the site's user.  (T4, "suEXEC")"""

from __future__ import annotations

from ..engine import Host, task

SUEXEC = "apache2-suexec-pristine"
"""Its root is /var/www, as Apache's own; the other package of Debian's reads it from a file."""


@task(name="cgi")
def programs(c):
    """T4 suEXEC: what starts a CGI program as the site's user, and refuses one that is not the site's own.

    The program and its directory must be the site's user's, and nobody else's to write. Apache's own limits hold for
    each. suEXEC takes all of the environment but CGI's own: a program finds the site's tmp/ by its path.
    """
    host = Host.of(c)
    if any(site.has("cgi") for site in host.sites):
        host.packages(SUEXEC, held=True)
