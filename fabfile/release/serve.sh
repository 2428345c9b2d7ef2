# SERVE TREE OWNER ID PHP DOMAIN PAGE EXPECT PATIENCE FROM BACK DOOR NAMES...: the switch, what must hear of it, and the
# proof, in one piece: it goes on when the line is cut.  BACK: the former release comes back when the proof fails.
# DOOR: `haproxy` when it leads here and nowhere else; `apache`, the first one here that speaks plain HTTP, when not.
tree=$1 owner=$2 id=$3 php=$4 domain=$5 page=$6 expect=$7 patience=$8 from=$9
shift 9
back=$1 door=$2
shift 2
live=$tree/public_html
before=$(readlink -- "$live" || :)
marks
[ "$before" = "releases/$id" ] || switch "releases/$id"
[ -n "$before" ] || before=${former-}
tell "$@"
ask
if proved; then
    record "$from"
    settle "$@"
else
    explain
    if [ -n "$back" ] && [ -n "$before" ] && [ "$before" != "releases/$id" ]; then
        point "$before" "$live"
        tell "$@"
        settle "$@"
        fail "$what: ${before#releases/} serves again"
    fi
    fail "$what: $id serves all the same"
fi
