# CLEAN MARK [OWNER:TREE...]: whatever a proof may have left, of this one or of one that the power cut ended.
mark=$1
shift
for one do
    owner=${one%%:*} tree=${one#*:}
    getent passwd "$owner" > /dev/null || continue
    # In its own rooms nobody acts but the site's user.
    setpriv --reuid "$owner" --regid "$owner" --init-groups sh -c '
        rm -f -- /run/gatehouse/"$3"/*/"$2".sock
        cd "$1" && rm -rf -- public_html/_/"$2"* shared/"$2"* tmp/"$2"* mail/"$2"*' clean "$tree" "$mark" "$owner" || :
    [ "$(cat "/var/spool/cron/crontabs/$owner" 2> /dev/null)" != "# $mark" ] || rm -f "/var/spool/cron/crontabs/$owner"
done
for pool in /etc/php/*/fpm/pool.d/"$mark".conf; do
    [ -e "$pool" ] || continue
    php=${pool#/etc/php/}
    rm -f -- "$pool"
    systemctl reload "php${php%%/*}-fpm.service"
done
# FPM removes the sockets of pools that are no more, once its workers have answered who they were answering.
for tried in $(seq 400); do
    set -- /run/php/"$mark"-*.sock
    [ -e "$1" ] || break
    sleep 0.1
done
rm -rf -- /run/"$mark"
