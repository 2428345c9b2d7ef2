"""Tomcat from Debian: an instance a site, under the site's user, that Apache alone knows the secret of.  (T4 mod_jk)

Debian's own service (the package `tomcat10`) is one Tomcat for all, at a port of every address: only its library is
installed.  Apache speaks AJP to a socket; what comes with the secret is believed to be Apache.
"""

from __future__ import annotations

from typing import Any

from ..credentials import SECRETS
from ..engine import Host, render
from ..engine.filled import MARK, filled
from ..model import Site, Zone

HOME = "/usr/share/tomcat10"
BASES = "/etc/gatehouse/tomcat"
AJP = f"{SECRETS}/ajp"

MAKE = r"""
umask 077
for secret do
    od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n' > "$secret.new"
    [ "$(wc -c < "$secret.new")" = 48 ] || fail "no randomness for $secret"
    sync "$secret.new"
    mv -fT "$secret.new" "$secret"
done
"""
JAVA = (
    "exec java -Xms16m -Xmx{heap}m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xss512k "
    '-Djava.awt.headless=true -Djava.io.tmpdir="$base" -Dcatalina.home={home} -Dcatalina.base={place} '
    "-Djava.util.logging.config.file={place}/conf/logging.properties "
    "-Djava.util.logging.manager=org.apache.juli.ClassLoaderLogManager "
    '-Dgatehouse.socket="$LISTEN" -Dgatehouse.apps="$apps" -Dgatehouse.work="$base/work" '
    "-cp {home}/bin/bootstrap.jar:{home}/bin/tomcat-juli.jar org.apache.catalina.startup.Bootstrap start"
)


def instance(host: Host, site: Site, zone: Zone) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """What the unit must know: its environment, its command, and the files that it takes when it starts."""
    name = f"{site.owner}.{zone.name}"
    place, secret = f"{BASES}/{name}", f"{AJP}/{name}"
    host.packages("tomcat10-common", "default-jre-headless")
    for path, mode in ((SECRETS, 0o700), (AJP, 0o700), (BASES, 0o755), (place, 0o755)):
        host.directory(path, mode=mode)
    host.directory(f"{place}/conf", mode=0o755)
    now = host.facts.files.get(secret)
    if not now or (now.mode, now.size, now.owner) != (0o600, 48, "root"):
        host.run(f"make the secret of {name}", MAKE, secret)
    values: dict[str, Any] = {"site": site, "zone": zone, "mark": MARK, "limits": site.limits}
    conf = f"{BASES}/{{name}}/conf"
    files = [host.template(f"{conf}/{file}", name=name, **values) for file in ("web.xml", "logging.properties")]
    server = f"{place}/conf/server.xml"
    filled(host, server, render.render(f"{conf}/server.xml", values), secret, owner=site.owner)
    line = f'ProxyPass "unix:{zone.socket}|ajp://{zone.owner}{zone.path}" secret={MARK}'
    line += f" retry=0 disablereuse=on timeout={site.seconds + 5} max={min(site.limits.tasks, 16)} acquire=500\n"
    filled(host, f"{secret}.conf", line, secret, owner="root", mode=0o600)
    apps = zone.webapps or "webapps"
    command = render.Block(
        "\n".join(
            (
                f'apps=$PWD; [ ! -d "{apps}" ] || apps=$PWD/{apps}',
                f'base=$TMPDIR/tomcat-{zone.name}-$INSTANCE; mkdir -p "$base/work" && chmod 0700 "$base" || exit 1',
                JAVA.format(heap=site.limits.memory_mb * 2 // 5, home=HOME, place=place),
            )
        )
    )
    return (), command, (*files, server, secret)


def forgotten(name: str) -> tuple[str, ...]:
    """What goes with an instance."""
    return (f"{AJP}/{name}", f"{AJP}/{name}.conf", f"{BASES}/{name}")
