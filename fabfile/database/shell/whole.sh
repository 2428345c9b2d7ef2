# Debian's package does not look whether its installer made the system's tables; one that was killed meanwhile leaves a
# server that never starts, or that nobody can log in to. The installer writes m*_upgrade_info when it is done.
data=$(mariadbd --help --verbose 2> /dev/null | awk '$1 == "datadir" { print $2 }')
if ls "$data"/m*_upgrade_info; then exit 0; fi
others=$(find "$data" -mindepth 1 -maxdepth 1 -type d ! -name mysql ! -name performance_schema ! -name sys \
    ! -name test ! -name lost+found)
[ -z "$others" ] || fail "MariaDB's own tables are not whole, and there are others: look at journalctl -u mariadb"
say "MariaDB's own tables were not finished: make them anew"
systemctl stop mariadb
find "$data" -mindepth 1 ! -name lost+found -delete
mariadb-install-db --rpm --cross-bootstrap --user=mysql --disable-log-bin --skip-test-db
