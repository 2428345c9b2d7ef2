# NOTE TREE ID FROM: the release serves well, on whichever hosts.
tree=$1 id=$2
record "$3"
