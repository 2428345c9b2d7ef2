# What a host does that shows another release from now on: its workers and its Varnish hear of it, a visitor asks.  It
# wants owner, php, domain, page, expect, patience, door, tree and id; NAMES are patterns for Varnish.
workers() { [ -z "$php" ] || pgrep -P "$(systemctl show -p MainPID --value "php$php-fpm")" -u "$owner" || :; }

# programs: the site's own, each a unit with two instances of which one serves (fabfile/runtime).
programs() {
    for unit in /etc/systemd/system/gatehouse-"$owner":*@.service; do
        [ ! -e "$unit" ] || basename "$unit" @.service
    done
}

# tell: each worker of this pool ends after the request that it is at; PHP-FPM makes others.  What Varnish keeps of
# this site is kept no more.
tell() {
    for pid in $(workers); do as_owner sh -c 'kill -QUIT "$1"' tell "$pid" || :; old="$old $pid"; done
    for unit in $(programs); do gatehouse-turn over "$unit" || deaf=$unit; done
    forget_pages "$@"
}
forget_pages() {
    systemctl -q is-active varnish || return 0
    for names do varnishadm -t 5 ban obj.http.X-Host '~' "^($names)\$" || deaf=varnishadm; done
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

# marks: from where on the logs tell of this release.
marks() {
    old= deaf=
    errors=$tree/log/error_log scripts=$tree/log/php_errors.log pool=/var/log/php$php-fpm.log
    errors_at=$(size "$errors") scripts_at=$(size "$scripts") pool_at=$(size "$pool") began=$(date +%s)
}
proved() { [ "$status" = "$expect" ] && [ -z "$deaf" ]; }

# explain: which layer said what; `what` is then the sentence to end with.
explain() {
    sleep 0.5
    [ -z "$deaf" ] || told "$deaf" "$(date +%T)" 'it did not hear that there is a new release'
    [ -s "$box/answer" ] || told connection 'nothing came' "$(tail -n 3 "$box/tls" | sed 's/[[:cntrl:]]/ /g')"
    told HAProxy journal "$(journalctl -q -u haproxy.service --since "@$began" -o cat | grep -F "gatehouse=$id" | tail -n 2)"
    told Apache "$errors" "$(since "$errors" "$errors_at")"
    [ -z "$php" ] || told PHP-FPM "$pool" "$(since "$pool" "$pool_at" | grep -F "[pool $owner]")"
    [ -z "$php" ] || told PHP "$scripts" "$(since "$scripts" "$scripts_at")"
    what="https://$domain$page answered ${status:-nothing}, and $expect is expected"
}
