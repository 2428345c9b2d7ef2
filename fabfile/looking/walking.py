"""One request is sent from the host through all its layers, and each is asked what became of it: one round trip."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from ..engine import Host
from ..engine.facts import quoted
from .lines import Fault, Passed, Served, error, passed, php, served
from .target import Target

PATIENCE = 45
"""Seconds that an answer may take."""

MARK = "X-Gatehouse-Why"
"""A header that only our own request has: Varnish's log is searched for it.  No answer depends on it."""

WALK = r"""
name=$1 port=$2 path=$3 mark=$4 site=$5 owner=$6 directory=$7 header=$8
root=/var/www/$site
say() { printf '%s\t%s\n' "$1" "$2"; }
each() { sed "s/^/$1\t/"; }
{
    addresses=$(hostname -I)
    address=${addresses%% *}
    : "${address:=127.0.0.1}"
    say addresses "$addresses"
    say zone "$(date +%z)"
    say resolved "$(timeout 5 getent ahosts "$name" | awk '!seen[$1]++ { printf "%s ", $1 }')"
    for unit in haproxy varnish apache2 $(systemctl list-units --all --plain --no-legend 'php*-fpm.service' |
            awk '{ print $1 }'); do
        say unit "${unit%.service} $(systemctl is-active "$unit")"
    done
    if [ "$port" = 443 ]; then
        timeout 10 openssl s_client -connect "$address:443" -servername "$name" -alpn h2,http/1.1 \
            < /dev/null > "$box/tls" 2> "$box/why"
        sed -n 's/^New, \(TLSv[0-9.]*\), Cipher is \(.*\)/tls\t\1 \2/p; s/^ALPN protocol: /alpn\t/p' "$box/tls"
        sed -n 's/^.*Verify return code: \([0-9]*\) (\(.*\))/verify\t\1 \2/p' "$box/tls" | head -n 1
        if openssl x509 -in "$box/tls" -out "$box/pem" 2> /dev/null; then
            openssl x509 -in "$box/pem" -noout -subject -issuer -nameopt RFC2253 | sed 's/=/\t/'
            say ends "$(date -d "$(openssl x509 -in "$box/pem" -noout -enddate | cut -d= -f2)" +%s)"
            openssl x509 -in "$box/pem" -noout -checkhost "$name" | grep -q 'does match' || say wrongname yes
        fi
    fi

    # It leaves from a port of our choice, so HAProxy's line about it can be told from all others.
    began=$(date +%s) from=$((32768 + $(od -An -N2 -tu2 /dev/urandom) % 28000))
    {
        printf 'GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: gatehouse-why\r\nAccept: */*\r\n' "$path" "$name"
        [ -z "$cookie" ] || printf 'Cookie: %s\r\n' "$cookie"
        printf '%s: %s\r\nConnection: close\r\n\r\n' "$header" "$mark"
    } > "$box/request"
    if [ "$port" = 443 ]; then
        set -- openssl s_client -quiet -connect "$address:443" -servername "$name" -alpn http/1.1 -bind "$address:$from"
    else
        set -- socat -t 60 - "TCP:$address:80,bind=$address:$from,shut-none"
    fi
    timeout __PATIENCE__ "$@" < "$box/request" 2>> "$box/why" | { head -c 16384; cat > /dev/null; } > "$box/answer"
    sed '/^\r*$/q' "$box/answer" | tr -d '\r' | each answer
    [ -s "$box/answer" ] || tail -n 3 "$box/why" | each unanswered

    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        line=$(journalctl -q --no-pager -o short-unix --since "@$began" _SYSTEMD_UNIT=haproxy.service |
            grep -F " $address:$from [" | head -n 1)
        [ -z "$line" ] || break
        sleep 0.1
    done
    say haproxy "$line"
    id=$(printf '%s\n' "$line" | awk '{ split($16, part, /[|}]/); print part[2] }')
    echo 'show stat -1 4 -1' | socat -T 5 - UNIX-CONNECT:/run/haproxy/admin.sock |
        awk -F, '$1 !~ /^#/ && NF > 20 { printf "server\t%s/%s %s\n", $1, $2, $18 }'
    if command -v varnishlog > /dev/null; then
        timeout 5 varnishlog -d -g request -q "ReqHeader:$header eq \"$mark\"" | head -n 400 | each varnish
    fi

    if [ -e "/etc/apache2/vhost.d/$site.conf" ]; then say vhost on; fi
    if [ -e "/etc/apache2/vhost.d/$site.conf.off" ]; then say vhost off; fi
    # What lies below here is the site's: its own user looks.
    setpriv --reuid "$owner" --regid "$owner" --clear-groups test -d "$root/public_html/$directory" 3>&- 8<&- &&
        say directory there
    if [ -n "$id" ] && [ -d "$root/log" ]; then
        for log in access error; do
            tail -n 5000 "$root/log/${log}_log" | grep -aF "$id" | head -n 20 | each "$log"
        done
        setpriv --reuid "$owner" --regid "$owner" --clear-groups tail -c 20000 "$root/log/php_errors.log" \
            > "$box/php" 3>&- 8<&-
        each php < "$box/php"
    fi
    for pool in /etc/php/*/fpm/pool.d/"$site".conf; do
        [ -e "$pool" ] || continue
        say pool "$(ps -eo args= | grep -cxF "php-fpm: pool $owner") $(sed -n 's/^pm.max_children *= *//p' "$pool")"
        say queue "$(ss -Hxl src "/run/php/$owner.sock" | awk '{ print $3; exit }')"
    done
    say end "$(date +%s)"
} 2> /dev/null | tr -d '\000'
""".replace("__PATIENCE__", str(PATIENCE))


@dataclass
class Walk:
    """What each layer said.  `facts` are single words by name, `units` and `servers` states by name."""

    target: Target
    facts: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)
    answer: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    varnish: list[str] = field(default_factory=list)
    front: Passed | None = None
    back: list[Served] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def status(self) -> int:
        """What a client was answered; 0 when nothing came."""
        words = self.answer[0].split() if self.answer else []
        return int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0

    @property
    def headers(self) -> dict[str, str]:
        """The answer's headers, by their names in lower case."""
        lines = (line.partition(":") for line in self.answer[1:])
        return {name.lower(): value.strip() for name, _, value in lines}


def walked(host: Host, target: Target, cookie: str = "") -> Walk:
    """Send the request and gather what became of it.  Raises the engine's Problems."""
    site = target.site
    words = (target.name, str(target.port), target.path, uuid.uuid4().hex, str(site), site.owner, target.directory)
    # A cookie may be somebody's session: it stands in the script, which root alone can read, and in no argument.
    return read(target, host.ask(f"cookie={quoted([cookie])}\n{WALK}", *words, MARK))


def read(target: Target, answer: str) -> Walk:
    """What the host printed, line by line `KIND<TAB>TEXT`."""
    walk = Walk(target)
    errors: list[str] = []
    phps: list[str] = []
    lists = {"answer": walk.answer, "unanswered": walk.unanswered, "varnish": walk.varnish}
    lists |= {"error": errors, "php": phps}
    for line in answer.split("\n"):
        kind, _, text = line.partition("\t")
        name, _, state = text.partition(" ")
        if kind in lists:
            lists[kind].append(text)
        elif kind == "unit":
            walk.units[name] = state
        elif kind == "server":
            walk.servers[name] = state
        elif kind == "haproxy":
            walk.front = passed(text)
        elif kind == "access" and (back := served(text)):
            walk.back.append(back)
        elif kind:
            walk.facts[kind] = text
    zone = walk.facts.get("zone", "+0000")
    walk.faults = [fault for text in errors if (fault := error(text, zone))]
    if walk.front:
        start, end = walk.front.began - 1, walk.front.at
        walk.faults += [fault for fault in php(phps) if start < fault.at <= end]
    return walk
