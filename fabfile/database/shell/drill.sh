# drill.sh OWNER FILE RIGHTS BYTES: FILE is loaded into a database of its own and read again: the same rows, or it fails.
file=$2 scratch="$1+drill"
trap 'swept "$scratch"' EXIT
rows() {
    LC_ALL=C awk '
        /^DELIMITER / { code = $2 != ";" }
        code { next }
        rows && /^\(/ { print; next }
        { rows = 0 }
        /^INSERT INTO `.* VALUES$/ { rows = 1; print }' | sha256sum
}
room "$4"
say "load it into $scratch"
{ scratch "$scratch" "$3" && loaded "$file" "$scratch"; } || fail "MariaDB does not take it"
say "count its rows, and read them again"
as_said "$file" "$scratch" || fail "it does not bring the rows that it says it has"
[ "$(gunzip -c "$file" | rows)" = "$(text_of "$scratch" | rows)" ] || fail "what it brings is not what is in it"
