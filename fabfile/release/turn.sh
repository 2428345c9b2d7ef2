# TURN TREE ID: the switch alone, where others show what it leads to.
tree=$1 id=$2 live=$1/public_html
[ "$(readlink -- "$live" || :)" = "releases/$id" ] || switch "releases/$id"
