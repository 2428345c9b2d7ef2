# The link to the release that serves, and the record that it did; it wants tree, id and live.

# switch RELEASE: one rename.  A directory, from before there were releases, changes places with the link.
switch() {
    if [ -L "$live" ] || [ ! -e "$live" ]; then
        point "$1" "$live"
        return
    fi
    moment=$(($(date -u -d "$(echo "$id" | sed 's/-\(..\)\(..\)/ \1:\2:/')" +%s) - 1))    # just before this one
    while former=releases/$(date -u -d "@$moment" +%Y%m%d-%H%M%S); [ -e "$tree/$former" ]; do
        moment=$((moment - 1))
    done
    ln -s -- "$1" "$tree/$former"
    # renameat2(2) with RENAME_EXCHANGE: Debian 12's mv cannot, and every Debian has perl.
    case $(uname -m) in x86_64) call=316 ;; aarch64) call=276 ;; *) fail "an unknown machine: $(uname -m)" ;; esac
    perl -e 'syscall(shift, -100, $ARGV[0], -100, $ARGV[1], 2) == 0 or die "$!\n"' "$call" "$tree/$former" "$live" ||
        fail "$live and the link cannot change places"
    echo 'what public_html was before there were releases' > "$tree/$former.from"
}

# record WORDS: who brought it, and from where; a release without it never served well.
record() {
    umask 077
    record=$tree/releases/$id.from
    [ -e "$record" ] || { printf '%s\n' "$1" > "$record.new"; mv -fT "$record.new" "$record"; }
}
