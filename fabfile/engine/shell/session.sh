# The one door on the host: it runs as root for the length of a visit, over one SSH channel.
# Each request is a line "SIZE MODE WHO" and a gzipped tar of SIZE bytes that holds a program named `run`.
# MODE `change` wants the host's lock, which this shell then holds until the operator's connection ends.
# Every other line is a sign of life. A minute without one: the line is dead, however long TCP would wait for it.
# `stop`, or the end of the line, lets the program that runs finish its operation and begin no other.  So does who breaks
# the lock (lock.break): /run/gatehouse.broken then names this shell, and no program begins an operation any more.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
export PATH LC_ALL
umask 077
trap '' HUP PIPE
exec 4<&0 9>>/run/gatehouse.lock
patience=60
mine=

heard() { timeout "$patience" sh -c 'IFS= read -r line && printf "%s\n" "$line"' <&4 9>&-; }
listen() {
    while IFS= read -r line; do [ "$line" != stop ] || : > "$box/stop"; done
    : > "$box/stop"
}
# receive SIZE: in parts, so that a long way to go is no reason to wait long for the next part.
receive() {
    left=$1
    while [ "$left" -gt 0 ]; do
        part=$((left < 262144 ? left : 262144))
        timeout "$patience" head -c "$part" <&4 || return
        left=$((left - part))
    done
}
# lock: one run at a time.  The first thing it does is to sweep up what killed ones left: boxes that nobody holds open.
lock() {
    flock -n 9 || return
    [ -z "$mine" ] || return 0
    mine=yes
    rm -f /run/gatehouse.broken
    find /run -maxdepth 1 -type d -user root -name 'gatehouse.????????' ! -newermt '1 minute ago' \
        -exec flock -n '{}' rm -rf '{}' ';'
}

while line=$(heard); do
    size=${line%% *} who=${line#* }
    mode=${who%% *} who=${who#* }
    case $size in '' | *[!0-9]*) continue ;; esac
    box=$(mktemp -d /run/gatehouse.XXXXXXXX) || exit 1
    trap 'rm -rf "$box"' EXIT
    exec 8< "$box"
    flock 8
    code=0
    if ! why=$(receive "$size" 9>&- | tar -xzf - -C "$box" 2>&1); then
        # What was not taken in would be read as the next request: this visit is over.
        printf 'failed\t0\t1\n%s\0done\t1\0' "$why"
        exit 1
    elif [ "$mode" = change ] && ! lock; then
        printf 'locked\t%s\0' "$(cat /run/gatehouse.holder)"
        code=3
    else
        [ "$mode" != change ] || printf '%s\t%s' $$ "$who" > /run/gatehouse.holder
        [ "$(cat /run/gatehouse.broken 2> /dev/null)" != $$ ] || : > "$box/stop"
        listen <&4 > /dev/null 9>&- &
        ear=$!
        (cd "$box" && box=$box exec sh ./run "$1") < /dev/null 4<&- 9>&-
        code=$?
        { kill "$ear"; wait "$ear"; } 2> /dev/null
    fi
    exec 8<&-
    rm -rf "$box"
    printf 'done\t%s\0' "$code"
done
