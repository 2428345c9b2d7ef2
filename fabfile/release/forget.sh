# FORGET TREE ID: it served, and not well: it is none to return to.
rm -f -- "$1/releases/$2.from"
