# Whatever in releases/ has no record never served well: a transfer that was cut off, a smoke request that failed.
tree=$1 owner=$2 id=$3
serves=$(readlink -- "$tree/public_html" || :)
for found in "$tree"/releases/*; do
    case $found in *.from) [ -e "${found%.from}" ] || rm -f -- "$found"; continue ;; esac
    [ -e "$found.from" ] || [ "releases/${found##*/}" = "$serves" ] || drop "$found"
done
mkdir -m 0750 -- "$tree/releases/$id"
chown -h "$owner:www-data" "$tree/releases/$id"
