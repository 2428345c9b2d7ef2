# SHOW TREE OWNER ID PHP DOMAIN PAGE EXPECT PATIENCE HOW ASK NAMES...: the files host has let ID serve; this host shows it.
# HOW: `nfs`, a mount; `sync`, a tree of its own, which follows now.  ASK: a visitor proves it.  Nothing for PHP: no program.
tree=$1 owner=$2 id=$3 php=$4 domain=$5 page=$6 expect=$7 patience=$8 how=$9
shift 9
ask=$1 door=apache live=$tree/public_html
shift
marks
if [ "$how" = sync ]; then
    progress /usr/local/sbin/gatehouse-sync "$domain"
    seen=$(readlink -- "$live" || :)
else
    # What a client of NFS remembers of a directory it believes for a second.  Root has no say there; the site's user has.
    for tried in $(seq 20); do
        seen=$(as_owner timeout 20 readlink -- "$(readlink -- "$live")" || :)
        [ "$seen" != "releases/$id" ] || break
        sleep 0.5
    done
fi
[ "$seen" = "releases/$id" ] || fail "it sees ${seen:-no release} where $id serves"
tell "$@"
if [ -n "$ask" ]; then
    ask
    proved || { explain; fail "$what"; }
fi
settle "$@"
