"""A site's user who never sleeps: plants links wherever root may come by, as fast as the machine allows.

The program runs on the host as that user until its file is taken away, then says how often each trick worked. What
works within the user's own rooms is its right; what works outside of them is a hole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..corner import A_ROOT, B_ROOT, A, as_user
from ..machine import Machine

TARGETS = ("/etc/shadow", "/etc/passwd", "/etc", "/root", "/etc/cron.d", "/usr/local/sbin/gatehouse-renew", B_ROOT)
# Names that the product, Apache, PHP, lego, logrotate and the cleaning jobs use, or that look like theirs.
NAMES = (
    "index.html", ".htaccess", "www", "_", "own", "log", "tmp", "mail", "public_html", "access_log", "error_log",
    "php_errors.log", "php_errors.log.1", "sess_0123456789abcdef", ".gatehouse.abcdefgh", ".git", ".well-known",
    "gatehouse-renew.abcdef", "example.com.pem", "acme-challenge", "_app", "uploads", "uploads.new", "shared",
)  # fmt: skip

RAID = r"""
use strict; use warnings; no warnings; use Fcntl;
my ($mode, $flag, $root, $targets, $names, $places) = @ARGV;
my @targets = split /,/, $targets; my @names = split /,/, $names; my @places = split /,/, $places;
my %did; my $round = 0;
sub did { my ($what, $ok) = @_; $did{$what} += $ok ? 1 : 0; $did{tries}++; }
sub watch {                                             # what root prepares beside its rooms, for a moment
    my ($target) = @_;
    for my $release (glob "$root/releases/*") {          # a release that comes is its own
        for my $name ("_", "_app", "www", "_app/uploads", "uploads", "_app/index.php", "_app/version.php") {
            did("links in its own rooms", symlink($target, "$release/$name"));
        }
        mkdir "$release/$_" for ("_app", "_app/uploads");
        rename("$release/_app", "$release/_app.away") if rand() < 0.002;
        symlink($target, "$release/_app"); rename("$release/_app.away", "$release/_app");
        did("rooms that moved", rename($release, "$release.away"));
        did("rooms replaced", symlink($target, $release) || symlink($target, "$root/releases/$round"));
        did("records that changed", open(my $record, ">>", "$release.from") || unlink("$release.from"));
    }
    for my $place ($root, "$root/log", "$root/releases") {
        opendir(my $in, $place) or next; my @staged = grep { /^\.gatehouse/ } readdir $in; closedir $in;
        for my $stage (map { "$place/$_" } @staged) {
            did("stages seen", 1);
            did("stages entered", symlink($target, "$stage/link") || rename("$stage/own", "$stage/gone"));
            symlink($target, "$stage/own/index.html"); symlink($target, "$stage/own/_");
        }
    }
}
while (-e $flag) {
    my $target = $targets[$round++ % @targets];
    if ($mode eq "watch") { watch($target); next }
    for my $room (map { "$root/$_" } "tmp", "mail", "shared", "public_html", "public_html/_", "public_html/raid") {
        mkdir $room;
        for my $name (@names) {                          # a link, then a directory, then a link again: F-20, F-23
            next if $room =~ /public_html/ && $name =~ /^(_|www|_app)$/;
            did("links in its own rooms", symlink($target, "$room/$name"));
            mkdir "$room/$name.d"; rename("$room/$name", "$room/$name.away"); rename("$room/$name.d", "$room/$name");
            rmdir "$room/$name"; rename("$room/$name.away", "$room/$name"); unlink "$room/$name";
        }
        did("hard links to files of root", link("/etc/shadow", "$room/shadow") || link("/etc/passwd", "$room/passwd"));
    }
    rename("$root/public_html/raid", "$root/public_html/raid.away"); symlink($target, "$root/public_html/raid");
    unlink "$root/public_html/raid"; rename("$root/public_html/raid.away", "$root/public_html/raid");
    for my $name ("log", "tmp", "mail", "public_html", "releases", "shared") { # these stand in a directory of root
        did("rooms that moved", rename("$root/$name", "$root/$name.away"));
        did("rooms replaced", symlink($target, "$root/$name"));
    }
    for my $name (@names) {                              # and so do its logs
        did("links among its logs", symlink($target, "$root/log/$name.1") || symlink($target, "$root/log/$name"));
        did("logs that went", unlink("$root/log/$name") || rename("$root/log/$name", "$root/log/$name.away"));
    }
    for my $place (@places) {                            # where everybody may write
        for my $name (@names) { symlink($target, "$place/$name"); unlink "$place/$name"; }
    }
}
print join("\n", map { "$_\t$did{$_}" } sort keys %did), "\n";
"""
EVERYBODY_S = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/var/lib/php/sessions")
WITHIN = {"links in its own rooms", "tries", "stages seen"}
WATCHED = ("/etc", "/root", "/home", "/usr/local", "/var/lib/gatehouse", "/var/spool/cron", "/var/backups", B_ROOT)


@dataclass
class Raid:
    """What came of it."""

    did: dict[str, int] = field(default_factory=dict)

    @property
    def outside(self) -> dict[str, int]:
        """What worked though it should not."""
        return {what: count for what, count in self.did.items() if count and what not in WITHIN}


@contextmanager
def raiding(host: Machine, user: str = A, root: str = A_ROOT) -> Iterator[Raid]:
    """A site's user at work meanwhile; what it did is known afterwards."""
    raid, flag = Raid(), "/var/tmp/raid"
    words = " ".join([flag, root, ",".join(TARGETS), ",".join(NAMES), ",".join(EVERYBODY_S)])
    host.put({"/usr/local/lib/raid.pl": RAID.encode()})
    for mode in ("plant", "watch"):
        line = f"perl /usr/local/lib/raid.pl {mode} {words} > {flag}.{mode} 2>&1"
        as_user(host, user, f"touch {flag}; ({line}) > /dev/null 2>&1 &")
    try:
        yield raid
    finally:
        host.check(f"rm {flag}; while pgrep -u {user} -f raid.pl > /dev/null; do sleep 0.2; done")
        lines = host.check(f"cat {flag}.*; rm -f {flag}.* /usr/local/lib/raid.pl").splitlines()
        for what, _, count in (line.partition("\t") for line in lines):
            raid.did[what] = raid.did.get(what, 0) + int(count)
        rooms = " ".join(f"{root}/{room}" for room in ("tmp", "mail", "shared", "public_html", "public_html/_"))
        names = " -o ".join(f"-name '{name}{end}'" for name, end in itertools.product(NAMES, ("", ".away", ".d")))
        as_user(
            host,
            user,
            f"find -H {rooms} -maxdepth 1 '(' {names} ')' '(' -type l -o -empty ')' -delete; "
            f"rm -rf {root}/public_html/raid*",
        )


def inventory(host: Machine) -> dict[str, str]:
    """Every name below the watched places: kind, mode, owner, target, and for files time of change and content."""
    places = " ".join(WATCHED)
    found = host.check(
        f"find {places} -xdev -path /etc/.git -prune -o -path {B_ROOT}/log -prune -o "
        r"'(' -type d -printf '%p\t%y %m %u:%g\n' -o -type l -printf '%p\t%y %l %C@\n' "
        r"-o -printf '%p\t%y %m %u:%g %s %C@\n' ')'"
    )
    sums = host.check(f"find {places} -xdev -path /etc/.git -prune -o -type f -print0 | xargs -0 sha256sum")
    names = {path: rest for path, _, rest in (line.partition("\t") for line in found.splitlines())}
    for line in sums.splitlines():
        digest, _, path = line.partition("  ")
        names[path] = f"{names.get(path, '')} {digest}"
    return names


def differences(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str, str]]:
    """What is not as it was."""
    return {
        path: (before.get(path, "-"), after.get(path, "-"))
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    }
