#!/bin/sh
# The manifest's resources, by hand: what somebody would write who needs no tool. It may be run again.
#   tar -C MANIFEST -czf - . | ssh HOST 'sudo sh -c "mkdir -p /root/setup && tar -C /root/setup -xzf - && sh /root/setup/setup.sh"'
set -eu
cd "$(dirname "$0")"
umask 022
tab='	'
asked=$(mktemp)
trap 'rm -f "$asked"' EXIT

missing=$(dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii //p' | sort |
    { sort packages.tsv > packages.sorted; comm -13 - packages.sorted; })
if [ -n "$missing" ]; then
    [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -1440)" ] || apt-get -qq update
    # shellcheck disable=SC2086  # a name a word
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o Dpkg::Options::=--force-confold \
        install $missing > /root/setup/apt.log 2>&1
fi

while IFS=$tab read -r name home shell uid; do
    [ "$uid" != - ] || uid=
    id "$name" > /dev/null 2>&1 ||
        useradd --system ${uid:+--uid "$uid"} --user-group --no-create-home --home-dir "$home" --shell "$shell" "$name"
done < users.tsv
while IFS=$tab read -r user group; do
    id -nG "$user" | grep -qw -- "$group" || usermod --append --groups "$group" "$user"
done < memberships.tsv
while IFS=$tab read -r path mode owner group; do
    [ "$(stat -c '%04a %U %G' "$path" 2> /dev/null)" = "$mode $owner $group" ] ||
        install -d -m "$mode" -o "$owner" -g "$group" "$path"
done < directories.tsv
while IFS=$tab read -r path mode owner group source notify; do
    if ! cmp -s "files/$source" "$path" || [ "$(stat -c '%04a %U %G' "$path")" != "$mode $owner $group" ]; then
        install -m "$mode" -o "$owner" -g "$group" "files/$source" "$path"
        printf '%s\n' "$notify" | tr , '\n' >> "$asked"
    fi
done < files.tsv
while IFS=$tab read -r path mode owner group source; do
    [ -e "$path" ] || install -m "$mode" -o "$owner" -g "$group" "files/$source" "$path"
done < once.tsv
while IFS=$tab read -r path target; do
    [ "$(readlink "$path")" = "$target" ] || ln -sfn "$target" "$path"
done < links.tsv
while read -r path; do rm -f "$path"; done < absent.tsv

if [ -s "$asked" ]; then
    systemctl daemon-reload
    while read -r verb unit; do
        grep -Fqx "$verb $unit" "$asked" || continue
        [ "$verb" = restart ] || ! grep -Fqx "restart $unit" "$asked" || continue
        systemctl "$verb" "$unit"
    done < reloads.tsv
fi
while read -r unit; do
    systemctl -q is-enabled "$unit" > /dev/null || systemctl -q enable "$unit"
    systemctl -q is-active "$unit" || systemctl start "$unit"
done < services.tsv
