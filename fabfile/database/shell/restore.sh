# restore.sh OWNER FILE KEPT RIGHTS BYTES KEEP DAYS: what FILE holds takes the place of all that the database OWNER holds,
# by renaming; KEPT is the dump that is made of it first.
owner=$1 file=$2 kept=$3 rights=$4 bytes=$5
new="$owner+new" old="$owner+old"
safe=yes
tidy_up() {
    [ "$safe" = no ] || swept "$new" "$old"
    case $file in *.in) rm -f "$file" ;; esac
}
trap tidy_up EXIT

# each KIND DATABASE: a statement for everything of a kind.
each() {
    case $1 in
        trigger) from="trigger_name n, 'TRIGGER' k FROM information_schema.triggers WHERE trigger_schema" ;;
        view) from="table_name n, 'VIEW' k FROM information_schema.views WHERE table_schema" ;;
        routine) from="routine_name n, routine_type k FROM information_schema.routines WHERE routine_schema" ;;
    esac
    sql -e "SELECT CONCAT('DROP ', k, ' \`$2\`.\`', REPLACE(n, '\`', '\`\`'), '\`;') FROM (SELECT $from = '$2') these"
}

# pairs FROM TO: what RENAME TABLE wants to hear of all tables.
pairs() {
    sql -e "SELECT CONCAT('\`$1\`.\`', REPLACE(table_name, '\`', '\`\`'), '\` TO \`$2\`.\`',
        REPLACE(table_name, '\`', '\`\`'), '\`') FROM information_schema.tables
        WHERE table_schema = '$1' AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')"
}

# moved FROM TO FROM TO: all at once or none; the site's queries that are under way are waited for, 30 seconds.
moved() {
    away=$(pairs "$1" "$2") && here=$(pairs "$3" "$4") && triggers=$(each trigger "$1" && each trigger "$3") || return 1
    renames=$(printf '%s\n' "$away" "$here" | sed '/^$/d' | paste -sd,)
    sql -e "SET lock_wait_timeout = 30; $triggers ${renames:+RENAME TABLE $renames}"
}

# triggered: how many triggers each table has, a line a table.
triggered() {
    sql -e "SELECT CONCAT(COUNT(*), ' ', event_object_table) FROM information_schema.triggers
        WHERE trigger_schema = '$owner' GROUP BY event_object_table ORDER BY event_object_table"
}

# triggers_kept: what makes each table's anew; triggers_back: of those that have less than before.  The table that somebody
# holds has all of its own, and nobody waits for it.
triggers_kept() {
    triggered > "$box/triggered"
    number=0
    while IFS= read -r line; do
        number=$((number + 1))
        mariadb-dump --no-data --no-create-info --triggers --add-drop-trigger --default-character-set=utf8mb4 "$owner" "${line#* }" |
            nobodys > "$box/triggers.$number"
    done < "$box/triggered"
}
triggers_back() {
    triggered > "$box/triggered.now"
    number=0
    while IFS= read -r line; do
        number=$((number + 1))
        grep -qxF -- "$line" "$box/triggered.now" || as "$owner" "$owner" < "$box/triggers.$number" || return 1
    done < "$box/triggered"
}

# code_of DATABASE: what is no table, as the site's user can make it.
code_of() {
    {
        mariadb-dump --no-data --no-create-info --routines --triggers --add-drop-trigger --default-character-set=utf8mb4 "$1"
        sql -e "SELECT table_name FROM information_schema.views WHERE table_schema = '$1'" |
            xargs -r -d '\n' mariadb-dump --no-data --skip-triggers --default-character-set=utf8mb4 "$1"
    } | nobodys
}

# remade FILE: what is no table goes, and is made again as the site's user.
remade() {
    former=$(each view "$owner" && each routine "$owner" && each trigger "$owner") && sql -e "$former" &&
        as "$owner" "$owner" < "$1"
}

room "$bytes"
say "keep what is there in $kept"
archived "$owner" "$kept" || fail "what is there could not be kept, so nothing was touched"
say "load it beside what is there"
{ scratch "$new" "$rights" && loaded "$file" "$new"; } ||
    fail "MariaDB does not take the dump; nothing was touched"
as_said "$file" "$new" || fail "the dump does not bring the rows that it says it has; nothing was touched"
code_of "$owner" > "$box/code.was"
code_of "$new" > "$box/code.new"
triggers_kept
sql -e "DROP DATABASE IF EXISTS \`$old\`; CREATE DATABASE \`$old\`"
say "let it take the place of what is there"
if ! moved "$owner" "$old" "$new" "$owner"; then
    triggers_back || fail "the tables could not be renamed, and their triggers not be made again: they are in $kept"
    fail "the tables could not be renamed; what was there is as it was"
fi
safe=no
if ! remade "$box/code.new"; then
    moved "$owner" "$new" "$old" "$owner" && remade "$box/code.was" ||
        fail "what was there before could not come back by itself: it is in $kept, and its tables in $old"
    safe=yes
    fail "MariaDB does not take the dump's views, triggers or routines; what was there is back"
fi
safe=yes
tidied "${kept%/*}" "$owner" "$6" "$7"
