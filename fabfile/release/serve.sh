# SERVE TREE OWNER ID PHP DOMAIN PAGE EXPECT PATIENCE FROM BACK DOOR NAMES...: the switch, what must hear of it, and the
# proof, in one piece: it goes on when the line is cut.  BACK: the former release comes back when the proof fails.
# DOOR: `haproxy` when it leads here and nowhere else; `apache`, the first one here that speaks plain HTTP, when not.
tree=$1 owner=$2 id=$3 php=$4 domain=$5 page=$6 expect=$7 patience=$8 from=$9
shift 9
back=$1 door=$2
shift 2
live=$tree/public_html

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

workers() { [ -z "$php" ] || pgrep -P "$(systemctl show -p MainPID --value "php$php-fpm")" -u "$owner" || :; }

# tell: each worker of this pool ends after the request that it is at; PHP-FPM makes others.  What Varnish keeps of
# this site is kept no more.
tell() {
    for pid in $(workers); do as_owner sh -c 'kill -QUIT "$1"' tell "$pid" || :; old="$old $pid"; done
    forget_pages "$@"
}
forget_pages() {
    systemctl -q is-active varnish || return 0
    for names do varnishadm -t 5 ban obj.http.X-Host '~' "^($names)\$" || deaf=yes; done
}

# settle: answers that were begun by the former release may have come to Varnish after it forgot.
settle() {
    end=$(($(date +%s) + patience))
    while [ "$(date +%s)" -lt "$end" ]; do
        now=" $(workers | tr '\n' ' ')" left=
        for pid in $old; do case $now in *" $pid "*) left=$pid ;; esac; done
        [ -n "$left" ] || break
        say 'waiting for requests that the former release is at'
        sleep 0.3
    done
    forget_pages "$@"
}

# ask: the page through the whole chain, past Varnish's memory; sets status.
ask() {
    case $page in *\?*) page="$page&" ;; *) page="$page?" ;; esac
    page=${page}gatehouse=$id
    printf '%s\r\n' "GET $page HTTP/1.1" "Host: $domain" 'User-Agent: gatehouse' 'Accept: */*' \
        'X-Forwarded-Proto: https' 'Connection: close' '' > "$box/request"
    for tried in 1 2; do
        if [ "$door" = haproxy ]; then
            timeout "$patience" openssl s_client -quiet -connect 127.0.0.1:443 -servername "$domain" \
                < "$box/request" > "$box/answer" 2> "$box/tls" || :
        else
            timeout "$patience" bash -c 'exec 4<> /dev/tcp/127.0.0.1/8080; cat "$1" >&4; cat <&4' ask "$box/request" \
                > "$box/answer" 2> "$box/tls" || :
        fi
        status=$(sed -n '1s,^HTTP/1\.[01] \([0-9]\{3\}\).*,\1,p' "$box/answer")
        [ -z "$status" ] || break
        sleep 1
    done
}

size() { stat -c %s -- "$1" 2> /dev/null || echo 0; }
since() { tail -c "+$(($2 + 1))" -- "$1" 2> /dev/null | tail -n 6 | cut -c1-300 | sed 's/[[:cntrl:]]/ /g'; }
# told LAYER WHERE LINES: which layer had to say something, and what.
told() { [ -z "$3" ] || { printf '%s (%s):\n%s\n' "$1" "$2" "$3"; }; }

old= deaf=
before=$(readlink -- "$live" || :)
errors=$tree/log/error_log scripts=$tree/log/php_errors.log pool=/var/log/php$php-fpm.log
errors_at=$(size "$errors") scripts_at=$(size "$scripts") pool_at=$(size "$pool") began=$(date +%s)
[ "$before" = "releases/$id" ] || switch "releases/$id"
[ -n "$before" ] || before=${former-}
tell "$@"
ask
if [ "$status" = "$expect" ] && [ -z "$deaf" ]; then
    umask 077
    record=$tree/releases/$id.from
    [ -e "$record" ] || { printf '%s\n' "$from" > "$record.new"; mv -fT "$record.new" "$record"; }
    settle "$@"
else
    sleep 0.5
    [ -z "$deaf" ] || told Varnish varnishadm 'it did not hear that its pages of this site are old'
    [ -s "$box/answer" ] || told connection 'nothing came' "$(tail -n 3 "$box/tls" | sed 's/[[:cntrl:]]/ /g')"
    told HAProxy journal "$(journalctl -q -u haproxy.service --since "@$began" -o cat | grep -F "gatehouse=$id" | tail -n 2)"
    told Apache "$errors" "$(since "$errors" "$errors_at")"
    [ -z "$php" ] || told PHP-FPM "$pool" "$(since "$pool" "$pool_at" | grep -F "[pool $owner]")"
    [ -z "$php" ] || told PHP "$scripts" "$(since "$scripts" "$scripts_at")"
    what="https://$domain$page answered ${status:-nothing}, and $expect is expected"
    if [ -n "$back" ] && [ -n "$before" ] && [ "$before" != "releases/$id" ]; then
        point "$before" "$live"
        tell "$@"
        settle "$@"
        fail "$what: ${before#releases/} serves again"
    fi
    fail "$what: $id serves all the same"
fi
