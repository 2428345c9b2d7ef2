"""Redis: on a socket for the sites of its own host, or on the private address of the cache host, over TLS."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..credentials import HANDED, whole
from ..engine import Host, task
from ..engine.cards import cards
from ..engine.certified import certified
from ..model.ways import REDIS as PORT
from .handing import PASSWORD, handed, place
from .places import CERTIFICATE, INCLUDES, keeper, keeps, served

STORE = "/etc/gatehouse/sessions"
SECRETS = "/etc/gatehouse/secrets/sessions"
KEEPER = "gatehouse"
"""Redis's user that may load the roster; a name that no site's owner can have."""
SOCKET = "/run/redis/gatehouse.sock"
REDIS = f"{STORE}/redis.conf"
TLS = f"{STORE}/tls"
"""Where key and certificate of the cache host are, .key and .pem."""
ROSTER = f"{STORE}/users.acl"
UNIT = "/etc/systemd/system/redis-server.service.d/gatehouse.conf"
COMMANDS = "+get +setex +del"
"""What the handler sends for sessions without locks; a lock wants EVAL, with which one site could stall all others."""

OBJECTS = (
    "+get +set +setnx +setex +psetex +getset +getdel +getex +mget +mset +msetnx +append +strlen +getrange +setrange "
    "+incr +incrby +incrbyfloat +decr +decrby +del +unlink +exists +expire +pexpire +expireat +pexpireat +persist +ttl "
    "+pttl +type +touch +rename +renamenx +hget +hset +hsetnx +hmget +hmset +hgetall +hdel +hexists +hkeys +hvals "
    "+hlen +hincrby +hincrbyfloat +hstrlen +sadd +srem +smembers +sismember +smismember +scard +spop +lpush +rpush "
    "+lpop +rpop +llen +lrange +lindex +lset +lrem +ltrim +zadd +zrem +zscore +zcard +zcount +zincrby +zrange "
    "+zrangebyscore +zrank +zrevrange +zrevrank +zremrangebyscore +zremrangebyrank +multi +exec +discard +watch "
    "+unwatch +ping +echo"
)
"""What an application does with its own keys.  None that names others' keys: KEYS, SCAN and RANDOMKEY do not ask whose
they are, nor does CLIENT TRACKING; none that runs a program, waits, or is the whole server's."""

# A copy of its own for who asks with it: the site's user, and not its group, which Apache has too.
MAKE_SECRETS = """
secrets=$1 handed=$2 keeper=$3
shift 3
umask 077
for owner do
    secret=$secrets/$owner
    if [ "$(stat -c %a.%s "$secret" 2> /dev/null)" != 600.64 ]; then
        od -An -v -tx1 -N32 /dev/urandom | tr -d ' \\n' > "$secret.new"
        [ "$(wc -c < "$secret.new")" = 64 ] || fail "no randomness for $owner"
        sync "$secret.new"
        mv -fT "$secret.new" "$secret"
    fi
    [ "$owner" != "$keeper" ] || continue
    copy=$handed/$owner/sessions.password
    install -m 0400 -o "$owner" -g root -T "$secret" "$copy.new"
    sync "$copy.new"
    mv -fT "$copy.new" "$copy"
done
"""


@task(
    help={"memory_mb": "memory for all sessions together, in MB; when it is full, the oldest go"},
    within={"memory_mb": (1, 1_000_000)},
)
def sessions(c, memory_mb=64):
    """T1 PHP-FPM: sessions in memory, which no other site can read.

    T1 leaves the store open. Here it is Redis on a socket, without a port or a disk; each site has a user in it that
    reaches its own keys alone. Passwords are made on the host and stay there; the roster holds their digests.
    """
    host = Host.of(c)
    owners = [site.owner for site in served(host)]
    if keeper(host) or not (owners or "redis-server" in host.facts.packages):
        return
    host.directory(HANDED)
    for owner in owners:
        host.directory(place(owner), mode=0o750, group=owner)
    _make(host, [owner for owner in owners if not _handed_over(host, owner)])
    for site in host.chosen:
        if site.php:
            handed(host, site, "redis", SOCKET)
    _set_up(host, [(owner, owner, digest) for owner, digest in _digests(host, owners)], COMMANDS, int(memory_mb))
    if not host.narrowed:
        # They last as long as the site's user: a site whose file vanished may come back, by its file or by `undo`.
        homes = (name for name, user in host.facts.users.items() if user.home.startswith("/var/www/"))
        kept = {KEEPER, *homes, *owners}
        host.absent(*(path for path in host.facts.children(SECRETS) if path.rpartition("/")[2] not in kept))


@task
def server(c):
    """T5 VM3: Redis for every site's sessions and objects: on the private address alone, over TLS, nothing on disk.

    The tutorial has it open to the network. Here each app host of a site has a user that reaches the site's keys alone;
    it knows the digest of its password from that host's card.
    """
    host = Host.of(c)
    if not keeps(host, "redis"):
        return
    one = keeper(host)
    assert one
    host.user("redis", home="/var/lib/redis")
    host.directory(STORE)
    certified(host, TLS, CERTIFICATE, str(one.address), "redis")
    _make(host, [])
    _set_up(host, sorted(_members(host)), OBJECTS, host.fleet.cache.memory_mb, str(one.address))


def _make(host: Host, missing: list[str]) -> None:
    """The passwords that are not there, the keeper's among them."""
    host.directory("/etc/gatehouse/secrets", mode=0o700)
    host.directory(SECRETS, mode=0o700)
    host.directory(INCLUDES, mode=0o700)
    if not _known(host, KEEPER):
        missing.append(KEEPER)
    if missing:
        label = f"make {len(missing)} session passwords"
        host.run(label, MAKE_SECRETS, SECRETS, HANDED, KEEPER, *missing)


def _set_up(
    host: Host, users: list[tuple[str, str, str]], commands: str, memory_mb: int, address: str = ""
) -> None:
    """Redis with these users: name, owner of the keys, digest.  With an address it has a port there, else none."""
    # Redis's own user, a moment before its package would make it: the roster is its to read from the first start.
    host.user("redis", home="/var/lib/redis")
    host.template(REDIS, socket=SOCKET, roster=ROSTER, memory_mb=memory_mb, address=address, port=PORT, tls=TLS)
    host.template(UNIT, conf=REDIS, socket=SOCKET, secret=f"{SECRETS}/{KEEPER}", address=address)
    keepers = _digests(host, [KEEPER])
    host.template(ROSTER, mode=0o640, group="redis", keepers=keepers, users=users, commands=commands)
    host.packages("redis-server")
    keep(host)


def keep(host: Host) -> None:
    """Redis runs, with its roster as it stands."""
    # A roster is loaded with the keeper's password, which Redis has from the one before: a new one is a restart.
    taken = [REDIS, UNIT, f"{SECRETS}/{KEEPER}", *([f"{TLS}.pem"] if keeps(host, "redis") else [])]
    host.service("redis-server", reload_on=[ROSTER], restart_on=taken, ready=f"test -S {SOCKET}")


def _members(host: Host) -> Iterator[tuple[str, str, str]]:
    """A user a site and app host, by the app hosts' cards; those of one that cannot be asked stay as they are."""
    webs = host.fleet.webs
    found = cards(host, webs)
    for web in webs:
        owners = [site.owner for site in served(host) if web in host.fleet.webs_of(site)]
        if web.name in found:
            digests = {owner: found[web.name].get(f"cache-{owner}", "") for owner in owners}
            yield from ((f"{owner}.{web}", owner, text) for owner, text in digests.items() if _is_digest(text))
            if not all(map(_is_digest, digests.values())):
                host.note(f"{web} has not made every site's password yet: this one again once {web} is bootstrapped")
    silent = [web.name for web in webs if web.name not in found]
    if silent and ROSTER in host.facts.files:
        there = re.findall(r"(?m)^user (\S+) on #([0-9a-f]{64}) .*~(\S+):\*", host.ask(f"cat {ROSTER}"))
        owners = [site.owner for site in served(host)]
        yield from ((user, owner, digest) for user, digest, owner in there
                    if owner in owners and user.removeprefix(f"{owner}.") in silent)


def _is_digest(text: str) -> bool:
    """Cards come from other hosts, and the roster's lines give orders."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def opens(host: Host, roster: str) -> bool:
    """Whether every user in a roster has the password that is on the host now."""
    return set(re.findall("#([0-9a-f]{64})", roster)) <= {
        host.facts.files[path].digest for path in host.facts.children(SECRETS)
    }


def _known(host: Host, name: str) -> bool:
    return whole(host.facts.files.get(f"{SECRETS}/{name}"))


def _handed_over(host: Host, owner: str) -> bool:
    """Whether there is a password, and the site's PHP has it."""
    secret, copy = (host.facts.files.get(path) for path in (f"{SECRETS}/{owner}", PASSWORD.format(owner=owner)))
    return (
        _known(host, owner)
        and secret is not None
        and copy is not None
        and (copy.mode, copy.owner, copy.group, copy.digest) == (0o400, owner, "root", secret.digest)
    )


def _digests(host: Host, names: list[str]) -> list[tuple[str, str]]:
    """Each name with its password's SHA-256, which is the digest of the file that holds it and nothing else.

    In a dry run some are not made yet, and are left out.
    """
    secrets = ((name, host.facts.files.get(f"{SECRETS}/{name}")) for name in names)
    return [(name, secret.digest) for name, secret in secrets if secret]
