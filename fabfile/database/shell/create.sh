# create.sh ROSTER: MariaDB has what the files there say.  A name is a site's owner, or OWNER@ADDRESS; what else lies there
# is passed over.  Who must not come any more is locked, and what is open of that user's is cut.
cd "$1"
gone() {
    for file in *.sql.gone; do
        name=${file%.sql.gone}
        owner=${name%%@*} from=localhost
        [ "$owner" = "$name" ] || from=${name#*@}
        case $owner in *[!a-z0-9-]*) continue ;; esac
        case $from in localhost) ;; *[!0-9a-f.:]*) continue ;; esac
        printf "ALTER USER IF EXISTS '%s'@'%s' ACCOUNT LOCK;\nKILL USER '%s'@'%s';\n" "$owner" "$from" "$owner" "$from"
    done
}
{
    for file in *.sql; do [ ! -e "$file" ] || cat "$file"; done
    [ -z "$(find . -maxdepth 1 -name '*.sql.gone')" ] || gone
} | mariadb --default-character-set=utf8mb4
