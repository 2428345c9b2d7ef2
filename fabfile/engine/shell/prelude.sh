# What the scripts of the steps are written in.  Operations speak on descriptor 3; what the tools say goes to a log,
# and its end is shown only when something fails.  $box is this request's own directory, for root alone.
set -eu
exec 3>&1 >> "$box/log" 2>&1
home=/var/lib/gatehouse
n=0

fail() { printf '%s\n' "$*"; exit 1; }
# memory: what the host remembers from run to run; a dry run has none to make.
memory() { mkdir -p "$home/former" "$home/loaded"; }
# mark TEXT: from which version of the runbook and its sites this host was changed last.
mark() { printf '%s' "$1" > "$home/mark.new"; mv -fT "$home/mark.new" "$home/mark"; }
# op WHAT: the next operation, unless the operator has said stop or is gone.
op() {
    [ ! -e "$box/stop" ] || { printf 'stopped\t%s\0' "$*" >&3; exit 130; }
    n=$((n + 1))
    : > "$box/log"
    printf 'op\t%s\t%s\0' "$n" "$*" >&3
}
# say TEXT: nobody need listen; an operation goes on when the line is cut.
say() { printf 'say\t%s\0' "$*" >&3 || :; }
# crowded: which disks have less than 1 MB, or 16 inodes, left: the shell's own printf says no more than "I/O error".
crowded() {
    for how in -Pk:1024 -Pi:16; do
        df "${how%:*}" / /etc /var /usr/local /run 2> /dev/null | awk -v least="${how#*:}" '
            NR > 1 && $2 > 0 && $4 < least && !seen[$6]++ { print "No space left on device: " $6 " (" $4 " left)" }'
    done
}
ended() {
    code=$?
    [ "$code" = 0 ] || crowded
    [ "$code" = 0 ] || printf 'failed\t%s\t%s\n%s\0' "$n" "$code" "$(tail -n 25 "$box/log" | tr -d '\000')" >&3 || :
    [ -z "${stage-}" ] || rm -rf "$stage"
}
trap ended EXIT

# progress COMMAND...: each line that it prints is shown as it comes; its exit code is kept.
progress() {
    { "$@" 2>&1 && echo 0 > "$box/code" || echo $? > "$box/code"; } |
        while IFS= read -r line; do printf '%s\n' "$line"; say "$line"; done
    return "$(cat "$box/code")"
}

# patient COMMAND...: waits while another program holds a lock of apt, dpkg or debconf: as long as the host's own setting
# DPkg::Lock::Timeout says, else 5 minutes.  Then it fails and says who holds it.  The lock is never touched.
patient() {
    limit=$(apt-config dump --format '%v' DPkg::Lock::Timeout)
    case $limit in '' | *[!0-9]*) limit=300 ;; esac
    began=$(date +%s)
    while :; do
        code=0
        : > "$box/attempt"
        "$@" >> "$box/attempt" 2>&1 || code=$?
        cat "$box/attempt"
        [ "$code" != 0 ] || return 0
        grep -q 'Could not get lock\|Unable to lock\|locked by ' "$box/attempt" || return "$code"
        pid=$(sed -n 's/.*\(held by process\|with pid\) \([0-9]\{1,\}\).*/\2/p' "$box/attempt" | tail -n 1)
        holder='another program'
        [ -z "$pid" ] || holder="$(cat "/proc/$pid/comm" 2> /dev/null || echo 'a program that has ended') (process $pid)"
        waited=$(($(date +%s) - began))
        [ "$waited" -lt "$limit" ] ||
            fail "$holder has held the lock of the packages for $waited s: wait for it, or end it, then type the same again"
        say "waiting for $holder, which works on the packages ($waited s)"
        sleep 2
    done
}

# apt COMMAND...: never asks, keeps the host's own conffiles, waits for another apt or dpkg.
apt() { patient apt_once "$@"; }
apt_once() {
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l APT_LISTCHANGES_FRONTEND=none
    {
        apt-get -y -q -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
            -o DPkg::Lock::Timeout=0 -o APT::Status-Fd=4 "$@" 4>&1 >> "$box/attempt" 2>&1 \
            && echo "code:0" || echo "code:$?"
    } | while IFS=: read -r kind name percent text; do
        case $kind in
            code) echo "$name" > "$box/code" ;;
            pmstatus | dlstatus) say "${percent%%.*}% $text" ;;
        esac
    done
    return "$(cat "$box/code")"
}

# answer LINE...: to what packages will ask.
answer() { patient answer_once "$@"; }
answer_once() { printf '%s\n' "$@" | debconf-set-selections; }

# finish: what an interrupted dpkg left half-done is done first; what it had half unpacked is installed anew.
finish() {
    DEBIAN_FRONTEND=noninteractive patient dpkg --configure -a --force-confdef --force-confold
    torn=$(dpkg-query -W -f='${db:Status-Abbrev} ${binary:Package}\n' | sed -n 's/^..R //p')
    # shellcheck disable=SC2086  # a name a word
    [ -z "$torn" ] || apt install --reinstall $torn
}
interrupted() { [ -n "$(dpkg --audit)" ] || ls /var/lib/dpkg/updates/[0-9]*; }

# add_user NAME HOME SHELL [NUMBER]: a system user with its own group, which may be left over from a user that was deleted.
add_user() {
    if [ -n "${4-}" ] && ! getent group "$1"; then groupadd --system --gid "$4" "$1"; fi
    if getent group "$1"; then own=--gid=$1; else own=--user-group; fi
    [ -z "${4-}" ] || groupmod --gid "$4" "$1"
    useradd --system ${4:+--uid="$4"} "$own" --no-create-home --home-dir "$2" --shell "$3" "$1"
}

# packages NAME...: installed without what they merely recommend; a host that never fetched its lists does so first.
# What still runs old code, needrestart tells after the next upgrade: there is more of it then, and it takes seconds.
packages() {
    ! interrupted || finish
    ls /var/lib/apt/lists/*_Packages* || apt update
    ( export NEEDRESTART_SUSPEND=1 && apt install --no-install-recommends "$@" )
}

# packages_held NAME...: the same, while no package may start, stop or load a service (policy-rc.d(8)); its timers may
# run.  The mark in /run tells a policy that a killed run left from one of the host's own.
packages_held() {
    policy=/usr/sbin/policy-rc.d ours=/run/gatehouse-policy
    if [ ! -e "$policy" ] || [ -e "$ours" ]; then
        : > "$ours"
        printf '#!/bin/sh\ncase $1 in *.timer) exit 0 ;; esac\nexit 101\n' > "$policy"
        chmod 0755 "$policy"
    fi
    code=0
    ( packages "$@" ) || code=$?
    [ ! -e "$ours" ] || rm -f -- "$policy" "$ours"
    [ "$code" = 0 ] || fail "the packages could not be installed: $*"
}

# packages_and 'AHEAD...' NAME...: with what later steps want, where that can be had.
packages_and() {
    ahead=$1
    shift
    # shellcheck disable=SC2086  # a name a word
    ( packages_held "$@" $ahead ) || packages_held "$@"
}

# stage DIRECTORY: a root-only place on the same file system, from which a rename is atomic.
stage() { stage=$(mktemp -d "$1/.gatehouse.XXXXXXXX"); }

# sweep DIRECTORY...: staging places that a killed run left.
sweep() { rm -rf -- "$@"; }

# commit MESSAGE: /etc into its history.  A git that was killed leaves its locks behind.  Git itself sees no modes and
# owners, so etckeeper's list of them is brought up to date first: a change of these alone is a change as well.
commit() {
    command -v etckeeper || return 0
    pgrep -u root -x git || find /etc/.git -name '*.lock' -type f -delete || :
    etckeeper pre-commit -d /etc
    ! etckeeper unclean || printf '%s\n' "$1" | etckeeper commit --stdin
}

# begin_entry RUN WHO ADDRESS: what changes in /etc from here on is this run's entry in the history.  What a run that
# was broken off left becomes that run's, and what somebody else did is kept as it was found.
begin_entry() {
    end_entry ' (broken off)'
    commit "as found before gatehouse $1"
    {
        git -C /etc rev-parse -q --verify HEAD || echo    # no history yet: history_begins
        printf 'gatehouse %s by %s\nGatehouse-From: %s\n' "$1" "$2" "$3"
    } > "$home/entry.new"
    mv -fT "$home/entry.new" "$home/entry"
}
history_begins() { [ ! -e "$home/entry" ] || sed -i "1s/.*/$(git -C /etc rev-parse HEAD)/" "$home/entry"; }

# end_entry [NOTE [LINES]]: the entry that was begun, if there is one and if /etc did change.  Its last commit tells where
# it began, since apt commits on its way as well, perhaps all that there is.
end_entry() {
    if [ ! -e "$home/entry" ] || ! command -v etckeeper; then return; fi
    {
        IFS= read -r base
        IFS= read -r subject
        IFS= read -r from
    } < "$home/entry"
    message=$(printf '%s\n' "$subject${1-}" "" ${2:+"$2"} "$from" "Gatehouse-Base: $base")
    commit "$message"
    if [ "$(git -C /etc rev-parse HEAD)" != "$base" ] &&
        ! git -C /etc log -1 --format=%B | grep -qxF "Gatehouse-Base: $base"; then
        printf '%s\n' "$message" | git -C /etc -c user.name=root -c "user.email=root@$(uname -n)" \
            commit -q --allow-empty --no-verify -F -
    fi
    rm -f "$home/entry"
}

# keep PATH...: the former version, as it was when its service last took it, so that it can come back.  Each appears
# there by one rename: half a copy, from a run that was killed or found the disk full, must never come back.
keep() {
    for path in "$@"; do
        if [ -e "$home/former$path" ] || [ -L "$home/former$path" ] || [ -e "$home/former$path.absent" ]; then
            continue
        elif [ -e "$path" ] || [ -L "$path" ]; then
            mkdir -p "$home/former${path%/*}"    # cp --parents fails on Debian 12 (a fault of coreutils 9.1)
            rm -rf "$home/keeping"
            cp -aT -- "$path" "$home/keeping"
            mv -fT -- "$home/keeping" "$home/former$path"
        else
            mkdir -p "$home/former${path%/*}"
            : > "$home/former$path.absent"
        fi
    done
}

# place MODE OWNER GROUP DIRECTORY BOXED...: boxed files to their directory, each by one rename.
place() {
    mode=$1 owner=$2 group=$3 directory=$4
    shift 4
    stage "$directory"
    install -m "$mode" -o "$owner" -g "$group" -t "$stage" -- "$@"
    sync "$stage"/*
    mv -f -t "$directory" -- "$stage"/*
    rmdir "$stage"
    sync "$directory"
}

# point TARGET PATH: a symbolic link, replaced by one rename.
point() {
    stage "${2%/*}"
    ln -s -- "$1" "$stage/link"
    mv -fT -- "$stage/link" "$2"
    rmdir "$stage"
}

# view ROOT: a copy of what lies there, to be judged in its place.
view() { mkdir -p "$box/view$1"; cp -a -- "$1/." "$box/view$1/"; }

# judge CHECK ROOT...: runs CHECK where the candidates stand at their real paths, seen by nobody else.
# In a dry run, $unmade names what would have been made before and is not there: then a failure proves nothing.
judge() {
    check=$1
    if ! command -v "${check%% *}" > /dev/null; then
        printf 'unjudged\t%s is not installed yet\0' "${check%% *}" >&3
        return
    fi
    shift
    if unshare --mount --propagation private sh -c '
        umask 022    # the daemons own: some drop their privileges to judge
        check=$1; box=$2; shift 2
        for root in "$@"; do mount --bind "$box/view$root" "$root"; done
        exec sh -c "$check"' judge "$check" "$box" "$@"; then
        return
    fi
    if [ -z "${unmade-}" ]; then
        printf 'refused\t%s\0' "$check" >&3
        # What it says of the live files is told only when it refuses them, too: else it would drown its reason.
        sh -c "$check" > "$box/live" 2>&1 || {
            cat "$box/live"
            fail "$check refuses what is there already: remove the file that it names, or mend it; if it is one of ours," \
                "bootstrap writes it anew"
        }
        fail "the check refused it: $check"
    fi
    printf 'unjudged\t%s wants more than a dry run can show: %s\0' "$check" "$unmade" >&3
}

# digest PATH...: of the names and times of all the files there; what a service took when it was last loaded.
digest() {
    { find "$@" \( -type f -o -type l \) -printf '%T@ %p\0' 2> /dev/null || :; } | LC_ALL=C sort -z | sha256sum | cut -c1-64
}

# Former versions under the given paths: forgotten once their service has taken the new ones, or put back.
forget() { for path in "$@"; do rm -rf "$home/former${path%/}" "$home/former${path%/}.absent"; done; }
restore() {
    for path in "$@"; do
        former=$home/former${path%/}
        [ -e "$former" ] || [ -L "$former" ] || [ -e "$former.absent" ] || continue
        find "$former" "$former.absent" \( -type f -o -type l \) -print 2> /dev/null | while IFS= read -r file; do
            live=${file#"$home/former"}
            case $live in
                *.absent) rm -f -- "${live%.absent}" ;;
                *) stage "${live%/*}"; cp -a -- "$file" "$stage/former"; mv -fT -- "$stage/former" "$live"; rmdir "$stage" ;;
            esac
        done
        rm -rf "$former" "$former.absent"
    done
}

# serves UNIT READY: it is up, and stays so, and the probe agrees, within 30 seconds.
serves() {
    end=$(($(date +%s) + 30))
    until systemctl -q is-active "$1" && sh -c "$2" < /dev/null; do
        [ "$(date +%s)" -lt "$end" ] && ! systemctl -q is-failed "$1" || return 1
        sleep 0.2
    done
}

# taken NAME PATH...: what a unit is about to take; remembered under NAME once it has.
taken() {
    name=$1
    shift
    printf '%s\t%s\n' "$name" "$(digest "$@")" >> "$box/taken"
}

remember() {
    while IFS='	' read -r name digest; do
        printf '%s\n' "$digest" > "$home/loaded/$name"
        printf 'loaded\t%s\t%s\0' "$name" "$digest" >&3 || :
    done < "$box/taken"
}

# read_units: systemd reads its units anew where one was changed since it last did so here, or the clock was set back.
# With a thousand sites it takes more than a second: each site's tmp/ is a mount.
read_units() {
    : > "$home/units.new"
    if [ -e "$home/units" ] && [ ! "$home/units" -nt "$home/units.new" ] &&
        [ -z "$(find /etc/systemd -cnewer "$home/units" -print -quit)" ]; then return; fi
    systemctl daemon-reload
    mv -fT "$home/units.new" "$home/units"
}

# load UNIT ACTION READY PATH...: start, reload or restart it; when it refuses, the former files come back.
load() {
    unit=$1 action=$2 ready=$3
    shift 3
    read_units
    systemctl reset-failed "$unit" || :    # after many failures systemd refuses to start it for a while
    if systemctl "$action" "$unit" && serves "$unit" "$ready"; then
        forget "$@"
        remember
        return
    fi
    journalctl -q -n 15 --no-pager -o cat -u "$unit" || :
    restore "$@"
    systemctl reset-failed "$unit" || :
    systemctl reload-or-restart "$unit" || :
    if serves "$unit" "$ready"; then
        fail "$unit refused the new configuration; the former one is back and serves"
    fi
    fail "$unit does not serve; its former files are back"
}

# seed DIRECTORY MODE OWNER GROUP BOXED: a site's own directory, filled by the site's user, in place by one rename.
seed() {
    stage "${1%/*}"
    chmod 0711 "$stage"     # the user must reach its own directory inside, and see nothing else
    install -d -m 0700 -o "$3" -g "$3" "$stage/own"
    # The site's user may look into its own processes: this one has no hold of our channel.
    tar -cf - --mode=u=rwX,go=rX -C "$5" . | setpriv --reuid "$3" --regid "$3" --clear-groups sh -c 'umask 022; tar -xmf - --no-same-owner --no-same-permissions -C "$1"' seed "$stage/own" 3>&-
    chown -h "$3:$4" "$stage/own"
    chmod "$2" "$stage/own"
    mv -T -- "$stage/own" "$1"
    rmdir "$stage"
}

# report PATH...: how these look now, in the words of the look.
report() {
    find "$@" -maxdepth 0 -printf 'file\t%y\t%m\t%u\t%g\t%s\t%T@\t%l\t%p\0' 2> /dev/null >&3 || :
}

# was PATH: its content, for the diff of a dry run.
was() { printf 'was\t%s\n' "$1" >&3; base64 -w0 < "$1" >&3; printf '\0' >&3; }
