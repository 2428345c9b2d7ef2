# A line a release: id, `serves` or nothing, where it is from.
for found in "$1"/releases/*; do
    case $found in *.from) continue ;; esac
    [ -e "$found" ] || continue
    serves= from=unfinished
    [ "$(readlink -- "$1/public_html")" != "releases/${found##*/}" ] || serves=serves
    [ ! -e "$found.from" ] || from=$(head -c 500 "$found.from" | tr '\t\n' '  ')
    printf '%s\t%s\t%s\n' "${found##*/}" "$serves" "$from"
done
