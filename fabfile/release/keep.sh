# KEEP TREE OWNER NUMBER: the newest ones and the one that serves stay.
tree=$1 owner=$2 number=$3
serves=$(readlink -- "$tree/public_html" || :)
for found in "$tree"/releases/*.from; do [ ! -e "$found" ] || printf '%s\n' "${found%.from}"; done |
    grep -vxF -- "$tree/$serves" | sort -r | tail -n "+$number" | while IFS= read -r release; do drop "$release"; done
