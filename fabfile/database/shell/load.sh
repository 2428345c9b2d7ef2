# What a dump brings goes into a database of its own first, and as a user that reaches nothing else: whoever made the dump
# says what is in it.
restorer=gatehouse_restore
umask 077

# sql ...: as root, what is asked without a frame.
sql() { mariadb --batch --raw --skip-column-names --default-character-set=utf8mb4 "$@"; }

# as USER DATABASE: SQL from standard input, as that user of the system, who is that user of MariaDB.
as() {
    setpriv --reuid "$1" --regid "$1" --clear-groups \
        mariadb --no-defaults --default-character-set=utf8mb4 --user="$1" "$2" 3>&-
}

# nobodys: views, triggers and routines without their former owner: they become that of whoever makes them.
nobodys() {
    LC_ALL=C sed -E 's#^(CREATE|/\*![0-9]+|/\*![0-9]+ CREATE\*/ /\*![0-9]+) DEFINER=`[^`]*`@`[^`]*`#\1#'
}

# scratch DATABASE RIGHTS: made anew, empty, for the restorer.
scratch() {
    sql -e "DROP DATABASE IF EXISTS \`$1\`; CREATE DATABASE \`$1\` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
        DROP USER IF EXISTS '$restorer'@'localhost';
        CREATE USER '$restorer'@'localhost' IDENTIFIED VIA unix_socket;
        GRANT $2 ON \`$1\`.* TO '$restorer'@'localhost'"
}

# swept DATABASE...: what was made for a while is gone again.
swept() {
    for each do sql -e "DROP DATABASE IF EXISTS \`$each\`"; done
    sql -e "DROP USER IF EXISTS '$restorer'@'localhost'"
}

# room BYTES: fails when MariaDB's disk has not room for that text twice, since an index may be as large as its rows.
room() {
    data=$(sql -e 'SELECT @@datadir')
    free=$(df --output=avail -B1 "$data" | tail -n 1)
    [ "$free" -gt $((2 * $1)) ] ||
        fail "not enough room in $data: $((free >> 20)) MB are free, $(($1 >> 19)) MB may be needed; nothing was touched"
}

# loaded FILE DATABASE
loaded() { gunzip -c "$1" | nobodys | as "$restorer" "$2"; }

# as_said FILE DATABASE: fails when the dump says how many rows it has, and there are others.
as_said() {
    gunzip -c "$1" | sed -n 's/^-- Gatehouse: rows //p' | LC_ALL=C sort > "$box/said"
    [ -s "$box/said" ] || return 0
    sql -e "SELECT CONCAT('SELECT ''', HEX(table_name), ''', COUNT(*) FROM \`', REPLACE(table_name, '\`', '\`\`'), '\`;')
        FROM information_schema.tables WHERE table_schema = '$2' AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED')" |
        sql "$2" | tr '\t' ' ' | LC_ALL=C sort > "$box/there"
    cmp "$box/said" "$box/there"
}
