# One look at the host: read-only, and everything that a step decides on.  Prints records that end with a NUL byte,
# since file names may hold anything else.  $1 is sshd's SSH_CONNECTION: "client port server port".
block() { printf '%s\n' "$1"; shift; "$@" 2> /dev/null || :; printf '\0'; }
# Owners are numbers, whose names are told once: find would look them up in /etc/passwd for each file anew.
entry='%y\t%m\t%U\t%G\t%s\t%T@\t%l\t%p\0'

# Which units are enabled: a link says so.  systemd itself searches all its directories for each unit, longer than all
# else here takes; so it is asked for those alone that were loaded from here and have no link, as a `static` one.
unit_files() {
    find /etc/systemd/system -type l \( -path '*.wants/*' -o -path '*.requires/*' \) -printf '%f\n' > linked
    sed 's/$/ enabled/' linked
    find /etc/systemd/system -maxdepth 1 -lname /dev/null -printf '%f masked\n'
    set -- $(ls /var/lib/gatehouse/loaded | sed -En 's/\.restart$//; /\.(service|timer|socket|automount|path)$/p' | sort -u | grep -vxFf linked)
    [ $# = 0 ] || systemctl list-unit-files --plain --no-legend --no-pager "$@"
}

# The slow parts run side by side, each into a file of its own.
{
    find /etc /usr/local -xdev -path /etc/.git -prune -o -printf "file\t$entry"
    if [ -d /var/www ]; then    # below these and in each release the site's user is at home: names there prove nothing
        find /var/www -mindepth 1 -maxdepth 3 \( -name public_html -o -name mail -o -name tmp -o -name shared \) -prune \
            -printf "file\t$entry" -o -printf "file\t$entry"
    fi
} > files &
tree=$!
find /etc /usr/local -xdev -path /etc/.git -prune -o -path /etc/ssl/certs -prune -o -type f -size -2048k -print0 |
    xargs -0r sha256sum -z > digests &
{
    block units systemctl list-units --all --plain --no-legend --no-pager --type=service,timer,socket,automount,path
    block unit-files unit_files
} > units &
{
    block rules4 iptables-save -t filter
    block rules6 ip6tables-save -t filter
    block sshd sshd -T
} > access &

. /etc/os-release
printf 'os\t%s\t%s\t%s\0' "$ID" "${VERSION_ID-}" "${VERSION_CODENAME-}"
printf 'boot\t%s\0' "$(cat /proc/sys/kernel/random/boot_id)"
printf 'clock\t%s\0' "$(date +%s)"
printf 'memory\t%s\0' "$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)"
printf 'hostname\t%s\0' "$(uname -n)"
printf 'addresses\t%s\0' "$(hostname -I 2> /dev/null)"
[ ! -e /proc/net/if_inet6 ] || printf 'ipv6\tyes\0'
printf 'connection\t%s\0' "$1"
printf 'arch\t%s\0' "$(dpkg --print-architecture)"
block packages dpkg-query -W -f='${db:Status-Abbrev}\t${Package}\t${Version}\n'
block audit dpkg --audit
block users cat /etc/passwd
block groups cat /etc/group
block loaded grep -rs . /var/lib/gatehouse/loaded
block mark cat /var/lib/gatehouse/mark
block operators cat /etc/gatehouse/operators
for card in /etc/gatehouse/card/*; do
    [ ! -f "$card" ] || printf 'card\t%s\t%s\0' "${card##*/}" "$(cat "$card")"
done
for way_back in /var/lib/gatehouse/revert.sh /var/lib/gatehouse/revert.sh.begun; do
    [ ! -e "$way_back" ] || printf 'unproved\tyes\0'
done
[ ! -e /var/lib/gatehouse/entry ] || printf 'unended\tyes\0'
printf 'lists\t%s\0' "$(stat -c %Y /var/lib/gatehouse/updated 2> /dev/null)"
printf 'reboot\t%s\0' "$([ ! -e /run/reboot-required ] || sort -u /run/reboot-required.pkgs | tr '\n' ' ')"
printf 'container\t%s\0' "$(systemd-detect-virt --container 2> /dev/null)"
wait "$tree"
cat files
wait
cat units access digests
