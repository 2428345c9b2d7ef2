#!/bin/sh
# Makes the host that is called @HOST@ in fleet.yml of this machine, a Debian 13 as it was installed.
# Written by Gatehouse (inv image.render): the very steps of `fab -H HOST bootstrap`, with no controller and no SSH.
# Run it as root: as cloud-init's user data, from an image builder, or by hand.  Run again, it goes on where it was.
# Its log is /var/log/gatehouse-image.log.  Exit code: 0 all is made; 1 a step failed; 3 this machine is not for it.
set -eu
umask 077
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l APT_LISTCHANGES_FRONTEND=none

host=@HOST@
log=/var/log/gatehouse-image.log
# The packages that came for the run alone: known until they are gone again, also when this was killed midway.
borrowed=/var/lib/gatehouse-image.borrowed
needed='python3-fabric python3-jinja2 python3-pydantic python3-rich python3-yaml'

refuse() { echo "gatehouse: $*" >&2; exit 3; }

# Another apt, such as the machine's own at its first boot, ends first.  Nothing that starts here may keep our lock (9).
patient() {
    for _ in $(seq 60); do
        "$@" 9>&- > "$box/said" 2>&1 && return 0
        grep -q 'Could not get lock\|Unable to lock\|locked by ' "$box/said" || break
        sleep 5
    done
    cat "$box/said"
    return 1
}

# Debian's own Fabric, Jinja2, pydantic and rich, with what they need.
borrow() {
    patient dpkg --configure -a --force-confdef --force-confold && patient apt-get -q update || return 1
    # shellcheck disable=SC2086  # a name a word
    {
        apt-get -s -q install --no-install-recommends $needed | sed -n 's/^Inst \([^ ]*\).*/\1/p' | sort > "$box/new"
        cat "$borrowed" >> "$box/new" 2> /dev/null || :
        sort -u "$box/new" > "$borrowed.new" && mv -f "$borrowed.new" "$borrowed" || return 1
        patient apt-get -y -q install --no-install-recommends $needed
    }
}

# What nothing else has come to need goes again.
give_back() {
    xargs -r apt-mark -q auto < "$borrowed" > /dev/null
    apt-get -s -q autoremove | sed -n 's/^Remv \([^ ]*\).*/\1/p' | sort | comm -12 "$borrowed" - > "$box/gone"
    # shellcheck disable=SC2046  # a name a word
    [ ! -s "$box/gone" ] || patient apt-get -y -q purge $(cat "$box/gone") || return 1
    rm -f "$borrowed"
}

unpack() {
    payload | tr -d '\n' | python3 -c 'if True:
        import base64, io, sys, tarfile
        packed = io.BytesIO(base64.b85decode(sys.stdin.buffer.read()))
        tarfile.open(fileobj=packed, mode="r:xz").extractall(sys.argv[1], filter="data")' "$box/run"
}

make() {
    printf '%s  making %s of this machine\n' "$(date -u '+%Y-%m-%d %H:%M:%S UTC')" "$host"
    borrow && unpack || { echo 'what the run needs did not come'; return 1; }
    code=0
    (cd "$box/run" && GATEHOUSE_AT_BOOT=yes PYTHONDONTWRITEBYTECODE=1 exec python3 -m fabfile.image.atboot 9>&-) || code=$?
    give_back || echo 'what the run needed stays: apt-get autoremove'
    return "$code"
}

# What the run needs of the checkout that rendered this: a compressed tar.
payload() {
    cat <<'PAYLOAD'
@PAYLOAD@
PAYLOAD
}

[ "$(id -u)" = 0 ] || refuse 'run this as root'
. /etc/os-release
[ "$ID ${VERSION_ID-}" = 'debian 13' ] || refuse "this is ${PRETTY_NAME-$ID}, and the script is for Debian 13"
exec 9> /run/gatehouse-image.lock
flock -n 9 || refuse 'another run of this is at work'
box=$(mktemp -d /run/gatehouse-image.XXXXXXXX)
trap 'rm -rf "$box"' EXIT
mkdir "$box/run"
result=0
make < /dev/null >> "$log" 2>&1 || result=$?
tail -n 5 "$log"
[ "$result" = 0 ] || echo "gatehouse: $host is not made (exit code $result): $log says why; run this again, and it goes on"
exit "$result"
