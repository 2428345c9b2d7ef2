# The one door on the host: it runs as root for the length of a visit, over one SSH channel.
# Each request is a line "SIZE MODE WHO" and a gzipped tar of SIZE bytes that holds a program named `run`.
# MODE `change` wants the host's lock, which this shell then holds until the operator's connection ends.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
export PATH LC_ALL
umask 077
trap '' HUP PIPE
exec 9>>/run/gatehouse.lock
while read -r size mode who; do
    box=$(mktemp -d /run/gatehouse.XXXXXXXX) || exit 1
    trap 'rm -rf "$box"' EXIT
    code=0
    head -c "$size" | tar -xzf - -C "$box" || code=1
    if [ "$code" = 0 ] && [ "$mode" = change ] && ! flock -n 9; then
        printf 'locked\t%s\0' "$(cat /run/gatehouse.holder)"
        code=3
    elif [ "$code" = 0 ]; then
        [ "$mode" != change ] || printf '%s' "$who" > /run/gatehouse.holder
        (cd "$box" && box=$box exec sh ./run "$1") < /dev/null 9>&-
        code=$?
    fi
    rm -rf "$box"
    printf 'done\t%s\0' "$code"
done
