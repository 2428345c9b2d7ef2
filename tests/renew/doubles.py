"""Stand-ins for what gatehouse-renew calls on a host, as small shell programs that are put first on PATH.

They keep to one directory, `$GATEHOUSE_ROOT/double`: `memory/` is what HAProxy has loaded, `calls` what was asked of
lego, the rest are switches that a test sets.  openssl, awk, flock and the shell itself are the real ones.
"""

from __future__ import annotations

import shutil
from pathlib import Path

# lego: prints `lego.says` and fails, or delivers what a test left as `lego.crt` and `lego.key` (or DOMAIN.crt, .key).
LEGO = """
here=$GATEHOUSE_ROOT/double
case $* in
    --help) [ -e "$here/lego-is-5" ] || echo '   --http.port value'; exit ;;
esac
echo "$*" >>"$here/calls"
path= domain= previous=
for word; do
    case $previous in
        --path) path=$word ;;
        --domains) domain=${domain:-$word} ;;
    esac
    previous=$word
done
for said in "$here/$domain.says.once" "$here/$domain.says" "$here/lego.says"; do
    [ -e "$said" ] || continue
    cat "$said" >&2
    case $said in *.once) rm "$said" ;; esac
    exit 1
done
[ ! -e "$here/lego.dies" ] || kill -9 $$
mkdir -p "$path/certificates"
for kind in crt key; do
    from=$here/$domain.$kind
    [ -e "$from" ] || from=$here/lego.$kind
    rm -f "$path/certificates/$domain.$kind"
    [ ! -e "$from" ] || cp "$from" "$path/certificates/$domain.$kind"
done
"""

# systemctl: a reload copies the directory into memory, unless HAProxy is to refuse it.
SYSTEMCTL = """
here=$GATEHOUSE_ROOT/double
case $* in
    'is-active --quiet haproxy') [ ! -e "$here/haproxy-is-down" ] ;;
    'reload haproxy')
        echo reload >>"$here/calls"
        haproxy -c -f "$GATEHOUSE_ROOT/etc/haproxy/haproxy.cfg" >/dev/null || exit 1
        rm -rf "$here/memory" && cp -R "$GATEHOUSE_ROOT/etc/haproxy/certs" "$here/memory"
        ;;
    *) exit 2 ;;
esac
"""

# haproxy -c: of the whole configuration, or of a candidate.
HAPROXY = """
here=$GATEHOUSE_ROOT/double
case $3 in
    */haproxy.cfg) refused=$here/haproxy-refuses shelf=$GATEHOUSE_ROOT/etc/haproxy/certs ;;
    *) refused=$here/haproxy-dislikes shelf=$(sed -n 's/.* crt //p' "$3") ;;
esac
if [ ! -e "$refused" ]; then
    bad=$(grep -rL --exclude='*.key' 'BEGIN CERTIFICATE' "$shelf")
    [ -n "$bad" ] || exit 0
    echo "[ALERT]    (42) : config : unable to load certificate from file '$bad'."
    exit 1
fi
echo "[NOTICE]   (42) : haproxy version is 3.0"
echo "[ALERT]    (42) : config : $(cat "$refused")"
exit 1
"""

# socat: HAProxy's socket, in its interactive mode.
SOCAT = """
while read -r show ssl cert path; do
    [ "$show $ssl" = 'show ssl' ] || continue
    loaded=$GATEHOUSE_ROOT/double/memory/${path##*/}
    if [ -e "$loaded" ]; then
        sha1=$(SSL_CERT_FILE=/dev/null OPENSSL x509 -in "$loaded" -noout -fingerprint -sha1 | sed 's/.*=//; s/://g')
        dies=$(SSL_CERT_FILE=/dev/null OPENSSL x509 -in "$loaded" -noout -enddate | sed 's/notAfter=//')
        printf '\\n> Filename: %s\\nStatus: Used\\nnotAfter: %s\\nSHA1 FingerPrint: %s\\n' "$path" "$dies" "$sha1"
    else
        printf "\\n> Can't display the certificate: Not found or the certificate is a bundle!\\n"
    fi
done
"""

# openssl: a handshake shows what HAProxy has in memory for that name; all else is the real program.
OPENSSL = """
[ "$1" = s_client ] || exec OPENSSL "$@"
here=$GATEHOUSE_ROOT/double
[ ! -e "$here/haproxy-is-down" ] || exit 1
for word; do case $previous in -servername) name=$word ;; esac; previous=$word; done
[ ! -e "$here/wire-shows" ] || name=$(cat "$here/wire-shows")
cat "$here/memory/$name.pem" 2>/dev/null || cat "$here/memory/00-default.pem"
"""

# sleep: nobody waits in a test; how long it would have been is kept.
SLEEP = """
echo "$1" >>"$GATEHOUSE_ROOT/double/slept"
"""

# getent, hostname: DNS knows every name but those that a test says; they point here, or where `points-NAME` says.
GETENT = """
[ ! -e "$GATEHOUSE_ROOT/double/unknown-$2" ] || exit 2
cat "$GATEHOUSE_ROOT/double/points-$2" 2>/dev/null || echo '192.0.2.1 STREAM'
"""
HOSTNAME = """
echo '192.0.2.1 2001:db8::1 '
"""

# sync: a test has no use for the disk's own pace.
SYNC = "exec test -e $1\n"


def install(directory: Path) -> None:
    """Write the doubles as executables into `directory`."""
    openssl = shutil.which("openssl")
    assert openssl is not None
    doubles = {
        "lego": LEGO, "systemctl": SYSTEMCTL, "haproxy": HAPROXY, "socat": SOCAT, "openssl": OPENSSL, "sleep": SLEEP,
        "sync": SYNC, "getent": GETENT, "hostname": HOSTNAME,
    }  # fmt: skip
    directory.mkdir()
    for name, text in doubles.items():
        program = directory / name
        program.write_text("#!/bin/sh\nprevious=\n" + text.replace("OPENSSL", openssl))
        program.chmod(0o755)
