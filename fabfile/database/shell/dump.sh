# A dump is all of a database as of one moment, compressed.  Its last lines say how many rows it has of each table, by
# the hexadecimal of the table's name; its first line forbids the client to run commands of it (sandbox mode).
umask 077

# counting: passes a dump on, and adds what it counted before its last line.  Each row is a line, and within a row a line
# break is written as `\n`; what is between DELIMITER lines is code.
counting() {
    LC_ALL=C awk '
        function table(line) {
            sub(/^(CREATE TABLE|INSERT INTO) `/, "", line)
            match(line, /^([^`]|``)*/)
            line = substr(line, 1, RLENGTH)
            gsub(/``/, "`", line)
            return line
        }
        function hexadecimal(text,    all, at) {
            for (at = 1; at <= length(text); at++) all = all hex[substr(text, at, 1)]
            return all
        }
        BEGIN { for (n = 1; n < 256; n++) hex[sprintf("%c", n)] = sprintf("%02X", n) }
        NR > 1 { print last }
        { last = $0 }
        /^DELIMITER / { code = $2 != ";" }
        code { next }
        rows && /^\(/ { seen[now]++; next }
        { rows = 0 }
        /^CREATE TABLE `/ { seen[table($0)] += 0 }
        /^INSERT INTO `.* VALUES$/ { now = table($0); rows = 1 }
        END {
            for (name in seen) print "-- Gatehouse: rows " hexadecimal(name) " " seen[name]
            print last
        }'
}

# text_of DATABASE: in the order of its primary keys, so that the same rows are the same text.
text_of() {
    mariadb-dump --single-transaction --quick --routines --triggers --hex-blob --no-tablespaces --order-by-primary \
        --default-character-set=utf8mb4 "$1"
}

# dumped DATABASE: to descriptor 5; fails when any part does.
dumped() {
    codes=$({
        { text_of "$1" && echo 0 >&4 || echo 1 >&4; } | { counting && echo 0 >&4 || echo 1 >&4; } | gzip -3 >&5
    } 4>&1) || return 1
    case $codes in *1*) return 1 ;; esac
}

# archived DATABASE FILE: and beside it its checksum, as sha256sum(1) reads it, which is there first.
archived() {
    mkdir -p "${2%/*}"
    [ ! -e "$2" ] || return 1
    dumped "$1" 5> "$2.new" && sync "$2.new" &&
        printf '%s  %s\n' "$(sha256sum < "$2.new" | cut -c1-64)" "${2##*/}" > "$2.sha256" &&
        sync "$2.sha256" && mv -fT "$2.new" "$2" || {
        rm -f "$2.new" "$2.sha256"
        return 1
    }
}

# tidied DIRECTORY OWNER KEEP DAYS: the newest KEEP dumps stay; of the others, those that are older than DAYS days go.
tidied() {
    find "$1" -maxdepth 1 -name "$2.[0-9]*.sql.gz" | LC_ALL=C sort -r | tail -n "+$(($3 + 1))" | while read -r file; do
        [ "$4" = 0 ] || [ -n "$(find "$file" -mtime "+$(($4 - 1))")" ] || continue
        rm -f "$file" "$file.sha256"
    done
}
