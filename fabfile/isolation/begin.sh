# BEGIN MARK OWNER:TREE...: the proof that stands in $box/proof runs as a unit of its own, so that what it plants goes
# again however it ends: this run is killed, the line is cut, its time is over.
mark=$1 room=/run/$1
install -d -m 0700 "$room"
cp proof clean.sh "$room/"
systemctl reset-failed "$mark.service" || :
sh "$room/clean.sh" "$@"    # what a power cut left
install -d -m 0700 "$room"
cp proof clean.sh "$room/"
systemd-run --quiet --pipe --wait --collect --unit "$mark" -p RuntimeMaxSec=900 -p KillMode=control-group \
    -p "ExecStopPost=/bin/sh $room/clean.sh $*" sh "$room/proof" > "$box/said" < /dev/null ||
    fail "the proof ended before its end, and was cleaned up: $(tail -n 3 "$box/said")"
while IFS= read -r line; do printf 'found\t%s\0' "$line" >&3; done < "$box/said"
