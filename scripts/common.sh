# What scripts/demo and scripts/test share: from a bare Debian with git and python3 to a virtual environment and a
# Docker Engine. Sourced; both scripts are run by bash with `set -euo pipefail` and from the checkout's top.

say() { printf '%s\n' "--> $*" >&2; }

# Packages and the Docker Engine need root. What is made here then goes to whoever called sudo.
as_root() {
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { say "this needs root: neither are you root nor is there sudo"; exit 1; }
        exec sudo -- "scripts/${0##*/}" "$@"    # they have gone to the checkout's top, so $0 need not lead there
    fi
}

give_back() {
    [ -z "${SUDO_UID:-}" ] || chown -R --no-dereference "$SUDO_UID:${SUDO_GID:-}" .venv .lab 2>/dev/null || :
}

# Debian packages, unless they are there. Their daemons are not started: where there is no systemd, one would live on
# with our output as its own.
debian() {
    local package missing=() policy=/usr/sbin/policy-rc.d
    for package; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || { say "missing: ${missing[*]}; install them, or run this as root"; exit 1; }
    say "installing ${missing[*]}"
    if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 0755 "$policy"; fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >.lab/apt.log 2>&1 ||
        { [ -z "$policy" ] || rm -f "$policy"; tail -n 20 .lab/apt.log >&2; exit 1; }
    [ -z "$policy" ] || rm -f "$policy"
}

# .venv with exactly what requirements-test.txt names, by its hashes; made again when that file has changed.
virtual_environment() {
    local wanted
    wanted=$(sha256sum requirements-test.txt)
    [ "$(cat .venv/gatehouse 2>/dev/null)" = "$wanted" ] && return
    python3 -c 'import ensurepip' 2>/dev/null || debian python3-venv
    say "making .venv"
    python3 -m venv .venv
    .venv/bin/pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements-test.txt
    printf '%s\n' "$wanted" >.venv/gatehouse
}

engine_answers() { .venv/bin/python -c 'import docker; docker.from_env().ping()' 2>/dev/null; }

# A Docker Engine: the one that answers, else Debian's; then `started` is set, and .lab/engine says how to stop it.
engine() {
    debian mmdebstrap debian-archive-keyring rsync openssh-client
    # mmdebstrap uses the mirrors of this machine's apt, and which is whose stands in apt's lists.
    ls /var/lib/apt/lists/*Release >/dev/null 2>&1 || apt-get update -qq
    engine_answers && return
    command -v dockerd >/dev/null || debian docker.io
    say "starting the Docker Engine"
    # shellcheck disable=SC2034  # scripts/test asks
    started=yes
    rm -f .lab/engine
    if [ -d /run/systemd/system ]; then
        systemctl start docker
        echo unit >.lab/engine
    else
        setsid dockerd --pidfile "$PWD/.lab/engine" >.lab/engine.log 2>&1 </dev/null &
    fi
    for _ in $(seq 100); do
        engine_answers && return
        sleep 0.2
    done
    say "the Docker Engine does not answer"
    tail -n 20 .lab/engine.log >&2 || journalctl -u docker -n 20 --no-pager >&2
    exit 1
}

# Stops the engine that `engine` started, and no other.
stop_engine() {
    [ -s .lab/engine ] || return 0
    local how
    how=$(cat .lab/engine)
    if [ "$how" = unit ]; then
        systemctl stop docker.socket docker
    elif [ "$(cat "/proc/$how/comm" 2>/dev/null)" = dockerd ]; then
        kill "$how"
        for _ in $(seq 100); do [ -e "/proc/$how" ] || break; sleep 0.2; done
    fi
    rm -f .lab/engine
}
