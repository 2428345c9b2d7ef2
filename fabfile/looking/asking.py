"""What is asked of a host: a site's log lines, within bounds, as text that cannot be taken for anything else."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine import Host
from ..model import Site

HEAD = r"""
# HAProxy's own lines: systemd says who wrote them, and a site's user could write others under its name.
journal() {
    env --default-signal=PIPE journalctl -q --no-pager -o short-unix \
        _SYSTEMD_UNIT=haproxy.service SYSLOG_FACILITY=16 "$@"
}
# mine NAME: a site's files of that name, the oldest first, that were written to since then.  Their directory is root's.
mine() {
    find "$root/log" -maxdepth 1 -type f -name "$1*" -newermt "@$since" -printf '%T@\t%p\n' | sort -n | cut -f 2 |
        while IFS= read -r file; do zcat -f -- "$file"; done
    # A static host has one log for all sites, with the site's name in the second place.
    [ "$1" != access_log ] || find /var/log/nginx /var/log/lighttpd -maxdepth 1 -name 'static.log*' -newermt "@$since" \
        -printf '%T@\t%p\n' | sort -n | cut -f 2 | while IFS= read -r file; do zcat -f -- "$file"; done |
        awk -v names="$names" 'BEGIN { split(names, part, " "); for (n in part) mine[part[n]] } $2 in mine'
}
# within: of Apache's lines those of the time in question, by the host's own clock.
within() {
    awk -v from="$(date -d "@$since" +%Y%m%d%T)" -v to="$(date -d "@$until" +%Y%m%d%T)" '
        BEGIN {
            split("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec", names, " ")
            for (n in names) month[names[n]] = sprintf("%02d", n)
        }
        {
            if (match($0, /\[[0-9][0-9]\/[A-Z][a-z][a-z]\/[0-9][0-9][0-9][0-9]:[0-9:]+ /)) {
                t = substr($0, RSTART + 1)
                key = substr(t, 8, 4) month[substr(t, 4, 3)] substr(t, 1, 2) substr(t, 13, 8)
            } else if ($1 ~ /^\[[A-Z]/ && $5 ~ /^[0-9]+\]$/)
                key = substr($5, 1, 4) month[$2] $3 substr($4, 1, 8)
        }
        (key "") >= (from "") && (key "") <= (to "")'
}
as() { sed "s/^/$1\t/"; }
now=$(date +%s) since=$1 until=$2 root=$3 names=${9-}
case $since in -*) since=$((now + since)) ;; esac
case $until in -*) until=$((now + until)) ;; '') until=$((now + 1)) ;; esac
"""

LINES = (
    HEAD
    + r"""
owner=$4 lines=$5 front=$6 back=$7 behind=$8
{
    printf 'now\t%s\nsince\t%s\nuntil\t%s\nzone\t%s\n' "$now" "$since" "$until" "$(date +%z)"
    : > "$box/ids"
    if [ -z "$behind" ]; then
        journal | head -n 1 | sed 's/^\([0-9]*\).*/begins\t\1/'
        journal -r --since "@$since" --until "@$until" | grep -aEm "$((lines + 1))" -e "$front" > "$box/front"
        as haproxy < "$box/front"
        awk '{ split($16, part, /[|}]/) } part[2] != "" { print part[2] }' "$box/front" > "$box/ids"
        [ ! -s "$box/ids" ] || mine access_log | grep -aFf "$box/ids" | as apache
    else
        mine access_log | within | grep -aE -e "$back" | tail -n "$((lines + 1))" | as apache
    fi
    {
        [ ! -s "$box/ids" ] || mine error_log | grep -aFf "$box/ids"
        mine error_log | within | tail -n "$lines"
    } | as error
    # This one is the site's: whatever it is, it is read as the site's user, who gets no hold of our own channel.
    setpriv --reuid "$owner" --regid "$owner" --clear-groups sh -c '
        find "$1/log" -maxdepth 1 -type f -name "php_errors.log*" -newermt "@$2" -printf "%T@\t%p\n" |
            sort -n | cut -f 2 | while IFS= read -r file; do
                case $file in *.gz) timeout 3 zcat -- "$file" ;; *) tail -c 1000000 -- "$file" ;; esac
            done | tail -c 1000000 | tail -n "$3"' php "$root" "$since" "$lines" > "$box/php" 3>&- 8<&-
    as php < "$box/php"
} 2> /dev/null | tr -d '\000'
"""
)

REPORT = (
    HEAD
    + r"""
command -v goaccess > /dev/null || { echo missing; exit 0; }
# It reads what visitors wrote, so it runs as nobody, and gets the lines through a pipe.
mine access_log 2> /dev/null | within | setpriv --reuid nobody --regid nogroup --clear-groups \
    env -i HOME=/nonexistent PATH="$PATH" TERM=dumb LC_ALL=C.UTF-8 goaccess --no-global-config --no-progress \
    --log-format '%h %^ %^[%d:%t %^] "%r" %s %b "%R" "%u" %^' --date-format %d/%b/%Y --time-format %T \
    --anonymize-ip --html-report-title "$4" -o html - 2> "$box/said" 3>&- 8<&- | tr -d '\000'
tr -d '\000' < "$box/said" >&2
"""
)

FOLLOW = r"""
owner=$1 root=$2 front=$3 behind=$4
pids=
# Each source is a program of its own, which can be ended; what it prints becomes records.
source() {
    kind=$1
    shift
    mkfifo "$box/$kind"
    "$@" > "$box/$kind" 2> /dev/null 3>&- 8<&- &
    pids="$pids $!"
}
records() { while IFS= read -r line; do printf '%s\t%s\0' "$1" "$line"; done; }
trap 'kill $pids' EXIT
printf 'zone\t%s\0' "$(date +%z)"
if [ -z "$behind" ]; then
    source haproxy journalctl -q -f -n 0 -o short-unix _SYSTEMD_UNIT=haproxy.service SYSLOG_FACILITY=16
    grep --line-buffered -aE -e "$front" < "$box/haproxy" | records haproxy &
fi
source apache tail -n 0 -F "$root/log/access_log"
records apache < "$box/apache" &
source error tail -n 0 -F "$root/log/error_log"
records error < "$box/error" &
source php setpriv --reuid "$owner" --regid "$owner" --clear-groups tail -n 0 -F "$root/log/php_errors.log"
records php < "$box/php" &
# Whoever asked says stop, or is gone: the session leaves this mark then.
until [ -e "$box/stop" ]; do
    sleep 1
    printf 'tick\t\0' || break
done
"""


def behind(host: Host) -> bool:
    """Whether visitors come to this web server through another host's HAProxy, so that Apache's log is the first."""
    return "edge" not in host.fleet.roles(host.name)


def front(site: Site, statuses: Sequence[str] = (), number: str = "") -> str:
    """What a line of HAProxy's of this site looks like, for grep -E; its words are counted, so that no URL can lie.

    A host's name stands there with 64 characters at most.
    """
    names = "|".join(sorted({name[:64].replace(".", r"\.") for name in site.names}))
    return rf"^([^ ]+ ){{8}}({codes(statuses)}) ([^ ]+ ){{6}}\{{({names})\|{number}"


def back(statuses: Sequence[str] = (), number: str = "") -> str:
    """The same of Apache's access log."""
    return rf'" ({codes(statuses)}) [0-9-]+ ".* {number}[^ ]*$'


def codes(statuses: Sequence[str]) -> str:
    """The statuses as an expression that grep -E and Python read alike."""
    return "|".join(status.replace("x", "[0-9]") for status in statuses) or "[0-9-]+"
