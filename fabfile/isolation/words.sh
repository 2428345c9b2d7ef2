# What a proof is written in.  It runs in a unit of its own on the host (begin.sh): whatever ends it, clean.sh follows.
# What it has to say are lines PAIR, WAY, NAME, got or no, ANSWER, with tabs between.
set -u
umask 022
cd /
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# as USER COMMAND...: a shell of that site's user, in all its groups, with nothing of root's.
as() {
    user=$1
    shift
    setpriv --reuid "$user" --regid "$user" --init-groups --inh-caps=-all env -i "PATH=$PATH" LC_ALL=C "HOME=/" "$@"
}

# main UNITS: the first process of whichever of them runs.
main() { systemctl show -p MainPID --value "$1" | grep -vx '0\{0,1\}' | head -n 1; }

# inside UNITS USER COMMAND...: the same shell in the sandbox of that program, as far as that is what it sees.
inside() {
    pid=$(main "$1") user=$2 alone=
    shift 2
    [ -n "$pid" ] || return 1
    ! grep -q '^NoNewPrivs:[[:space:]]*1' "/proc/$pid/status" || alone=--no-new-privs
    # shellcheck disable=SC2086  # a word, or none
    nsenter --mount --net --target "$pid" -- setpriv --reuid "$user" --regid "$user" --init-groups --inh-caps=-all \
        $alone env -i "PATH=$PATH" LC_ALL=C HOME=/ "$@"
}

# listen USER SOCKET PROTOCOL CANARY: a program of that user's, which says the canary to whoever comes, until the end.
listen() {
    user=$1
    shift
    as "$user" perl -MIO::Socket::UNIX -e '
        my ($path, $protocol, $canary) = @ARGV;
        umask 0117;
        my $s = IO::Socket::UNIX->new(Local => $path, Listen => 9) or die "$path: $!\n";
        while (my $c = $s->accept) {
            sysread $c, my $asked, 8192;
            print $c $protocol eq "http" ? "HTTP/1.0 200 OK\r\n\r\n" : "Status: 200 OK\r\n\r\n", $canary;
            close $c;
        }' "$@" > /dev/null 2>&1 < /dev/null &
    for tried in $(seq 50); do [ ! -S "$1" ] || break; sleep 0.1; done
}

# told PAIR WAY: passes on what a program said of its probes.
told() { tr -d '\000-\010\013-\037' | awk -F '\t' -v head="$1	$2	" 'NF == 3 { print head $0 }'; }

# fetch DOMAIN PATH [HEADER...]: what Apache answers, status line, headers and body; it is asked as Varnish asks it.
fetch() {
    domain=$1 path=$2
    shift 2
    { printf 'GET %s HTTP/1.0\r\nHost: %s\r\nX-Forwarded-Proto: https\r\n' "$path" "$domain"
      for header do printf '%s\r\n' "$header"; done
      printf '\r\n'; } | timeout 40 bash -c 'exec 4<> /dev/tcp/127.0.0.1/8080 && cat >&4 && cat <&4' 2>&1
}
body() { sed '1,/^\r\{0,1\}$/d'; }

# fcgi SOCKET SCRIPT: what that pool makes of it, asked directly.  (FastCGI Specification 1.0)
fcgi() {
    timeout 60 perl -MIO::Socket::UNIX -e '
        my ($path, $script) = @ARGV;
        my $s = IO::Socket::UNIX->new(Peer => $path) or die "$path: $!\n";
        sub record { pack("CCnnCC", 1, $_[0], 1, length $_[1], 0, 0) . $_[1] }
        my %of = (SCRIPT_FILENAME => $script, REQUEST_METHOD => "GET", SCRIPT_NAME => "/x.php", REQUEST_URI => "/x.php",
            QUERY_STRING => "", SERVER_PROTOCOL => "HTTP/1.0", GATEWAY_INTERFACE => "CGI/1.1", REMOTE_ADDR => "127.0.0.1");
        print $s record(1, pack("nCx5", 1, 0)),
            record(4, join "", map { pack("NN", 0x80000000 | length, 0x80000000 | length $of{$_}) . $_ . $of{$_} } keys %of),
            record(4, ""), record(5, "");
        $s->flush;
        while (read $s, my $head, 8) {
            my (undef, $type, undef, $length, $padding) = unpack "CCnnC", $head;
            read $s, my $data, $length if $length;
            read $s, my $rest, $padding if $padding;
            print $data if $type == 6 && $length;
            last if $type == 3;
        }' "$1" "$2" 2>&1
}

# trick PAIR WAY NAME BETRAYS DOMAIN PATH [HEADER...]: one request; the answer betrays whether it worked.
trick() {
    pair=$1 way=$2 name=$3 betrays=$4
    shift 4
    fetch "$@" > "$room/answer"
    if grep -qaF -e "$betrays" "$room/answer"; then got=got; else got=no; fi
    printf '%s\t%s\t%s\t%s\t%s\n' "$pair" "$way" "$name" "$got" "$(head -n 1 "$room/answer" | tr -d '\000-\037' | cut -c1-80)"
}

# table FILE OWNER: a crontab that does nothing, where there is none; crontab(1) makes none for those whom it denies its use.
table() {
    [ -e "$1" ] || { echo '# gatehouse-proof' > "$room/table" && chown "$2:crontab" "$room/table" &&
        chmod 0600 "$room/table" && mv -nT "$room/table" "$1"; }
}

# pool N FILE: the site's own pool once more, without open_basedir and with every function; root alone may ask it.  Nor
# has it the file before each page: compiled for a pool with other functions, the cache would give it wrong ones.
pool() {
    sed -e "s/^\[.*\]/[gatehouse-proof-$1]/" -e "s,^listen = .*,listen = /run/php/gatehouse-proof-$1.sock," \
        -e 's/^\(listen\.\(owner\|group\)\) = .*/\1 = root/' -e 's/^listen\.mode = .*/listen.mode = 0600/' \
        -e '/open_basedir\]/d; /disable_functions\]/d; /^include = /d' "$2"
}
