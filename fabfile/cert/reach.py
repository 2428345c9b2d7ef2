"""Does a challenge's path end at this host? It is fetched as the CA fetches it, from each address of a name.

From where the operator is, since a host need not reach itself by its public address and its own firewall lets it in;
where the operator has no IPv6, from the host.  For the time of it a file stands where lego would answer.
"""

from __future__ import annotations

import re
import secrets
import socket
import ssl
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from ..engine import Host

PATIENCE = 5
"""Seconds to wait for an answer of a name's address."""

HOPS = 5
"""Redirects that are followed; Let's Encrypt follows ten."""

# Root's own, on the port where HAProxy looks for lego; it goes after a minute, and an order that is on is waited for.
ANSWER = r"""
command -v socat > /dev/null || { echo 'socat is missing: fab -H HOST cert.install'; exit 1; }
here=$(mktemp -d /run/gatehouse-preflight.XXXXXXXX)
printf 'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %s\r\n\r\n%s' "${#1}" "$1" > "$here/reply"
cat > "$here/answer" << 'END'
while IFS= read -r line && [ "$line" != "$(printf '\r')" ]; do :; done
cat "${0%/*}/reply"
END
setsid sh -c '
    trap "rm -rf $1" EXIT
    trap exit TERM
    exec 9<> /run/gatehouse-renew.lock
    flock -w 30 9 && : > "$1/mine" || exit
    timeout --foreground 60 socat TCP4-LISTEN:8082,bind=127.0.0.1,reuseaddr,fork "EXEC:sh $1/answer"' sh "$here" \
    < /dev/null > /dev/null 2>&1 3>&- 8>&- &
while [ -d "/proc/$!" ]; do
    [ ! -e "$here/mine" ] || ! ss -Hltn 'sport = :8082' | grep -q . || { echo "$!"; exit; }
    sleep 0.1
done
echo 'port 8082, where lego answers the CA, could not be had: is an order on?'
exit 1
"""

FETCH = r"""
printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$3" "$1" |
    timeout "$4" socat -t "$4" - "TCP:[$2]:80,connect-timeout=$4" 2>&1 || :
"""

PROXIES = {
    "cf-ray": "Cloudflare",
    "x-amz-cf-id": "CloudFront",
    "x-akamai-transformed": "Akamai",
    "x-sucuri-id": "Sucuri",
    "x-served-by": "a CDN",
    "via": "a proxy",
}
"""Headers by which those who stand in front of other people's hosts are known."""


class Fetched(NamedTuple):
    """What came back for the challenge's path: whether it was ours, and if not, in words why."""

    ours: bool
    text: str = ""
    proxy: str = ""
    no_route: bool = False


def reached(host: Host, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Fetched]:
    """What comes back by each (name, address).  Raises the engine's Problems."""
    pairs, token = list(pairs), secrets.token_urlsafe(24)
    path = f"/.well-known/acme-challenge/{token}"

    def one(pair: tuple[str, str]) -> Fetched:
        return fetch(pair[0], pair[1], path, token)

    with _answering(host, token), ThreadPoolExecutor(max_workers=16) as pool:
        found = dict(zip(pairs, pool.map(one, pairs), strict=True))
        for pair in [pair for pair, fetched in found.items() if fetched.no_route]:
            found[pair] = _answer(host.ask(FETCH, *pair, path, str(PATIENCE)), token)
    return found


def fetch(name: str, address: str, path: str, token: str, hops: int = HOPS, secure: bool = False) -> Fetched:
    """Fetch the challenge's path of a name at one of its addresses, as the CA does: redirects are followed."""
    import http.client

    try:
        raw = socket.create_connection((address, 443 if secure else 80), PATIENCE)
    except OSError as error:
        return _unreached(error)
    connection = http.client.HTTPConnection(name, timeout=PATIENCE)
    try:
        connection.sock = _unverified().wrap_socket(raw, server_hostname=name) if secure else raw
        connection.request("GET", path, headers={"Host": name, "User-Agent": "gatehouse"})
        response = connection.getresponse()
        body, headers = response.read(4096), {key.lower(): value for key, value in response.getheaders()}
    except (OSError, http.client.HTTPException) as error:
        return Fetched(ours=False, text=f"breaks off: {error or type(error).__name__}")
    finally:
        connection.close()
        raw.close()
    if response.status in (301, 302, 303, 307, 308):
        here = f"{'https' if secure else 'http'}://{name}{path}"
        target = urlsplit(urljoin(here, headers.get("location", "")))
        if not hops:
            return Fetched(ours=False, text="redirects without end")
        if target.scheme in ("http", "https") and target.hostname == name:
            return fetch(name, address, target.path or "/", token, hops - 1, target.scheme == "https")
        return Fetched(ours=False, text=f"redirects to {target.netloc}")
    return judged(response.status, headers, body.decode("latin-1").strip(), token)


def judged(status: int, headers: dict[str, str], body: str, token: str) -> Fetched:
    """Whether an answer is ours."""
    proxy = next((who for header, who in PROXIES.items() if header in headers), "")
    if status == 200 and body == token:
        return Fetched(ours=True, proxy=proxy)
    server = headers.get("server", "")
    return Fetched(ours=False, text=f"answers {status}" + (f" ({server})" if server else ""), proxy=proxy)


@contextmanager
def _answering(host: Host, token: str) -> Iterator[None]:
    """The host answers the challenge's path with the token."""
    group = host.ask(ANSWER, token).strip()
    try:
        yield
    finally:
        host.ask('kill -- "-$1" || :', group)


def _unreached(error: OSError) -> Fetched:
    if isinstance(error, TimeoutError):
        return Fetched(ours=False, text=f"gives no answer on port 80 within {PATIENCE} s")
    if isinstance(error, ConnectionRefusedError):
        return Fetched(ours=False, text="refuses port 80")
    return Fetched(ours=False, text=f"cannot be reached: {error.strerror or error}", no_route=True)


def _answer(text: str, token: str) -> Fetched:
    """What FETCH brought back."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    if not (found := re.match(r"HTTP/\S+ (\d{3})", head)):
        silent = "gives no answer on port 80, asked from the host"
        return Fetched(ours=False, text="refuses port 80" if "refused" in text else silent)
    headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in head.splitlines()[1:])}
    return judged(int(found[1]), headers, body.strip(), token)


def _unverified() -> ssl.SSLContext:
    """As the CA does on a redirect: it wants the token, whatever the certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
