# judge.sh FILE: reads a dump that is kept here, and touches nothing.  Prints why it is none, or `whole BYTES TABLES ROWS`.
cd "${1%/*}" 2> /dev/null && [ -f "$1" ] || { echo "it is not there"; exit; }
[ -f "$1.sha256" ] || { echo "its checksum is missing (${1##*/}.sha256)"; exit; }
sha256sum --status --check "${1##*/}.sha256" || { echo "its checksum is another one: it was cut or changed"; exit; }
gunzip -c "$1" 2> /dev/null | LC_ALL=C awk '
    { bytes += length($0) + 1; last = $0 }
    /^-- Gatehouse: rows [0-9A-F]+ [0-9]+$/ { tables++; rows += $5 }
    END {
        if (last ~ /^-- Dump completed/) printf "whole %.0f %d %.0f\n", bytes, tables, rows
        else print "it does not end as a whole dump does (-- Dump completed)"
    }'
