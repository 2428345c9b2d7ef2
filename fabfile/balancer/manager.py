"""What Apache's balancer-manager tells and is told: members, their states and counts.  (mod_proxy_balancer)

It answers root on this host alone, at a path of the site itself, since it sees the pools of its own vhost and no
other's.  What is set there would be forgotten at the next reload, so it is written into RECORD as well, which the vhost
reads; `BalancerPersist` is not used: it forgets all as soon as a member is added.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..engine import Host, Problem, StepFailed
from .pools import Member, Pool, alone, front, pools

MANAGER = "/gatehouse-members"
RECORD = "/etc/apache2/balancer.states"
"""What an operator set: a line `Define` a member, which the vhost reads."""

# $1: the site's name; $2: `tls`, or `plain` where HAProxy ends TLS and Apache wants the PROXY protocol.
TALK = """
site=$1 how=$2; shift 2
talk() { # METHOD BODY: prints the answer's body
    path=/gatehouse-members?xml=1
    [ "$1" = GET ] || path=/gatehouse-members
    {
        [ "$how" = tls ] || printf 'PROXY TCP4 127.0.0.1 127.0.0.1 1 1\\r\\n'
        printf '%s %s HTTP/1.0\\r\\nHost: %s\\r\\nReferer: https://%s/\\r\\n' "$1" "$path" "$site" "$site"
        printf 'User-Agent: Gatehouse\\r\\nAccept: */*\\r\\n'
        printf 'Content-Type: application/x-www-form-urlencoded\\r\\nContent-Length: %s\\r\\n\\r\\n%s' "${#2}" "$2"
    } > "$box/asked"
    if [ "$how" = tls ]; then
        openssl s_client -quiet -verify_quiet -connect 127.0.0.1:443 -servername "$site" \\
            < "$box/asked" 2> "$box/said" > "$box/answer" || :
    else
        socat -t 10 - TCP4:127.0.0.1:8085 < "$box/asked" > "$box/answer" 2> "$box/said"
    fi
    head -n 1 "$box/answer" | grep -q ' 200 ' || { head -n 1 "$box/answer" "$box/said"; exit 1; }
    sed '1,/^\\r*$/d' "$box/answer"
}
"""
LOOK = TALK + "talk GET ''\n"
# Each further argument is `POOL MEMBER FLAGS VARIABLE STATE`; the nonce is Apache's own, of the pool.
SET = (
    TALK
    + """
exec 8>> /run/gatehouse.members
flock 8
record=$1; shift
talk GET '' > "$box/before"
cp "$record" "$box/record"
for order; do
    set -- $order
    nonce=$(sed -n "/<httpd:name>balancer:..$1</,/nonce>/s/ *<httpd:nonce>//p" "$box/before")
    nonce=${nonce%%<*}
    [ -n "$nonce" ] || { echo "Apache has no pool $1"; exit 1; }
    talk POST "b=$1&w=$2&nonce=$nonce&$3" > /dev/null
    grep -vF "Define $4 " "$box/record" > "$box/rest" || :
    [ "$5" = - ] || echo "Define $4 $5" >> "$box/rest"
    mv -f "$box/rest" "$box/record"
done
if ! cmp -s "$box/record" "$record"; then
    cp "$box/record" "$record.new"
    chmod 0644 "$record.new"
    sync "$record.new"
    mv -fT "$record.new" "$record"
fi
talk GET ''
"""
)

NAMES = {"Dis": "disabled", "Stop": "stopped", "Drn": "drained", "Err": "failed", "HcFl": "unwell", "Stby": "spare"}


class Row(NamedTuple):
    """A member as Apache tells of it; counts since Apache was reloaded last."""

    route: str
    member: str
    spare: bool
    state: str
    """`serves`, `stands by`, `drained`, `failed` (a request), `unwell` (its health check), `disabled`, `missing`."""
    set: str
    """What was set by hand and differs from fleet.yml."""
    busy: int
    served: int
    received: str
    sent: str
    pool: str
    url: str

    @property
    def up(self) -> bool:
        """It answers, as far as Apache knows."""
        return self.state in ("serves", "stands by", "drained")


def look(host: Host) -> list[Row]:
    """Every member of every route, as fleet.yml has them.  Raises Problem when Apache gives no answer."""
    return rows(host, asked(host, LOOK))


def change(host: Host, wanted: dict[tuple[str, str], tuple[bool, bool]]) -> list[Row]:
    """Give members (by pool and host) a state: whether it stands by, whether it is drained; and remember it."""
    orders = [
        _order(pool, member, *wanted[pool.name, member.host])
        for pool in pools(host)
        for member in pool.members
        if (pool.name, member.host) in wanted
    ]
    return rows(host, asked(host, SET, RECORD, *orders))


def _order(pool: Pool, member: Member, spare: bool, drained: bool) -> str:
    flags = f"w_status_H={int(spare)}&w_status_N={int(drained)}&w_status_D=0&w_status_S=0"
    state = f"{'+' if spare else '-'}H{'+' if drained else '-'}N"
    return f"{pool.name} {member.url} {flags} {member.variable} {'-' if state == member.usual else state}"


def asked(host: Host, script: str, *args: str) -> str:
    """What the script says, with `talk` at hand.  Raises Problem when Apache gives no answer."""
    site = front(host).server_name
    try:
        return host.ask("set -e\n" + script, site, "tls" if alone(host) else "plain", *args)
    except StepFailed as error:
        raise Problem(f"Apache on {host.name} gives no answer", f"fab -H {host.name} balancer", error.details) from None


def rows(host: Host, answer: str) -> list[Row]:
    """What the manager's XML says of fleet.yml's members; one that Apache does not have yet is `missing`."""
    told = read(answer)
    return [_row(pool, member, told.get((pool.name, member.url))) for pool in pools(host) for member in pool.members]


def read(answer: str) -> dict[tuple[str, str], dict[str, str]]:
    """By pool and URL, what the manager's XML says of each member."""
    from xml.etree import ElementTree as ET

    start = answer.find("<httpd:manager")
    try:
        tree = ET.fromstring(answer[start:])  # noqa: S314  (our own host's Apache)
    except ET.ParseError as error:
        raise Problem(f"Apache's answer is not understood: {error}", "", answer[:500]) from None
    found = {}
    for balancer in tree.iter("{http://httpd.apache.org}balancer"):
        name = (balancer.findtext("{http://httpd.apache.org}name") or "").removeprefix("balancer://")
        for worker in balancer.iter("{http://httpd.apache.org}worker"):
            values = {re.sub("{.*}", "", each.tag): (each.text or "").strip() for each in worker}
            found[name, values["name"]] = values
    return found


def _row(pool: Pool, member: Member, told: dict[str, str] | None) -> Row:
    words = {NAMES.get(word, word) for word in told["status"].split()} if told else set()
    spare = "spare" in words
    state = "missing" if told is None else "serves"
    for word in ("failed", "unwell", "drained", "disabled", "stopped"):
        state = word if word in words else state
    if state == "serves" and spare:
        state = "stands by"
    differs = [] if told is None or spare == member.spare else ["spare" if spare else "member"]
    return Row(
        route=pool.path,
        member=member.host,
        spare=spare,
        state=state,
        set=" ".join([*differs, *(["drain"] if "drained" in words else [])]),
        busy=int(told["busy"]) if told else 0,
        served=int(told["elected"]) if told else 0,
        received=told.get("read", "0") if told else "0",
        sent=told.get("transferred", "0") if told else "0",
        pool=pool.name,
        url=member.url,
    )
