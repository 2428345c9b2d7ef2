# COMMAND OWNER TREE ID APP SECONDS MEMORY LINE: in a cgroup and a sandbox of its own, as narrow as the site's PHP;
# whatever it leaves running ends with it.
owner=$1 tree=$2 release=$2/releases/$3 app=$4 seconds=$5 memory=$6 line=$7
# The line goes in by standard input: systemd would put values of its own for what follows a dollar in an argument.
printf '{ cd -- "%s" && {\n%s\n}\nexit; } < /dev/null\n' "$release${app:+/$app}" "$line" |
    progress timeout --kill-after=20 $((seconds + 20)) systemd-run --quiet --pipe --wait --collect \
    --uid="$owner" --gid="$owner" --working-directory="$release" \
    --setenv=HOME="$tree" --setenv=TMPDIR="$tree/tmp" --setenv=LC_ALL=C.UTF-8 \
    -p RuntimeMaxSec="$seconds" -p MemoryMax="$memory" -p TasksMax=100 -p KillMode=control-group -p UMask=0022 \
    -p NoNewPrivileges=yes -p ProtectSystem=full -p ProtectHome=yes -p PrivateTmp=yes -p PrivateDevices=yes \
    -p ProtectProc=invisible -p RestrictSUIDSGID=yes sh ||
    fail "exit code $? (it may take $seconds s and $((memory >> 20)) MB): $line"
