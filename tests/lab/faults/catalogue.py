"""The faults that a single host can meet, and what is expected of each: the rows of `inv faults` and docs/faults.md.

A test says which of them it shows: `@pytest.mark.fault("F-10")`, and is named after it, `test_f10_...`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One row: what goes wrong and what must come of it; `not_here` is why it cannot be shown in this lab."""

    what: str
    expected: str
    not_here: str = ""


FAULTS = {
    # the laptop and the line
    "F-01": Fault(
        "a run is killed at operation n, for every n, on the laptop and on the host",
        "the next run converges; no lock stays; no request fails",
    ),
    "F-02": Fault("the line is cut while files go over", "the old file whole, the lock soon free, leftovers swept up"),
    "F-03": Fault("the line is cut while apt works", "apt ends on its own; who comes is told; the next run converges"),
    "F-04": Fault("Ctrl-C, once and twice", "the operation ends, nothing more is begun, exit 130, the lock free"),
    "F-05": Fault("one host of several does not answer", "the others go on; it is named; exit 1"),
    "F-06": Fault("a slow line that loses data", "it works, only slower, and nothing is done twice"),
    "F-07": Fault("the host's key has changed", "refused before the login; both fingerprints are shown"),
    "F-08": Fault("the host's key is unknown", "refused until `trust` has been told its fingerprint"),
    "F-09": Fault("sudo asks, is refused, or is missing", "one clear error within 10 s, exit 3, nothing touched"),
    "F-10": Fault("two operators at once", "the second is told who, when and what; exit 3; nothing changes"),
    "F-11": Fault("an old checkout meets a newer host", "refused by the mark that the newer run left; exit 3"),
    "F-12": Fault("the host reboots under a run", "it fails cleanly; after the boot all serves; the next converges"),
    "F-13": Fault("another system: Ubuntu, Debian 11, an odd machine", "refused before anything is touched; exit 3"),
    "F-14": Fault("odd umask, locale, time zone, path on the laptop", "the same bytes and modes on the host"),
    "F-15": Fault("the host's own guards count the operator's logins", "no ban in normal work; operators are exempt"),
    # the host's state
    "F-16": Fault("another apt or dpkg holds its lock", "waited for; after 5 minutes an error names the holder"),
    "F-17": Fault("the disk is full: /, /var, /etc", "old files whole, services up, error names it, next run mends"),
    "F-18": Fault(
        "read-only, immutable, occupied or missing places",
        "what is missing is made; else the error names the path, and nothing after it is begun",
    ),
    "F-19": Fault("dpkg was interrupted", "put right first, or a clear stop"),
    "F-20": Fault("a site's user plants links wherever root may come by", "nothing outside its own tree changes"),
    "F-21": Fault("a site's user plants a hard link to a file of root", "its owner and mode stay"),
    "F-22": Fault("logs in a directory of the site's user", "they are not: root's directory, the site only reads"),
    "F-23": Fault("a directory is renamed between look and use", "as F-20"),
    "F-25": Fault("a managed file was edited by hand", "`check` shows the difference; history keeps what was there"),
    "F-26": Fault("a service refuses what its check had accepted", "the former files come back and serve; exit 1"),
    "F-27": Fault("an upgrade brings a new conffile", "no question; the host's own stays, and it is told"),
    "F-28": Fault("a service is masked, disabled or failed", "never told as fine"),
    "F-29": Fault("the clock is days or years off", "named as such; no certificate is thrown away for it"),
    "F-30": Fault("memory runs out", "too many workers are refused; one site's worker dies, not the front"),
    # input
    "F-31": Fault("broken YAML of every kind", "file, line and key; exit 2; no connection"),
    "F-32": Fault("values of another type: no, 1e3, 8.10, 0x50", "refused or taken as written, never guessed"),
    "F-33": Fault("shell in a domain", "refused; no shell ever sees it"),
    "F-34": Fault("a path that leaves its place", "refused"),
    "F-35": Fault("template or directive text in a value", "never leaves its line in any rendered file"),
    "F-36": Fault("a domain twice, in whatever guise", "refused; both places are named"),
    "F-37": Fault("international names, look-alikes, invisible letters", "one A-label, or refused"),
    "F-38": Fault("names that no site can have", "refused"),
    "F-39": Fault("two sites whose user would be the same; reserved users", "every site its own user"),
    "F-40": Fault("a template asks for what is not there", "nothing is sent"),
    "F-41": Fault("a template renders what its daemon refuses", "its own check refuses it; the live file stays"),
    "F-42": Fault("one bad site among fifty", "the whole run is refused; the others go on serving"),
    "F-43": Fault("a site's file vanishes or gets another name", "no data goes; it is told"),
    "F-44": Fault("a secret that is empty, a placeholder, or readable by all", "refused"),
    # certificates
    "F-45": Fault(
        "the CA is down, silent, or DNS is", "the old certificate serves; exit 1; the next try is told; then it heals"
    ),
    "F-46": Fault(
        "the CA says: too many, come back later",
        "no order before that, in no run; other sites go on, unless the limit is on all",
    ),
    "F-47": Fault("the challenge cannot succeed", "said so, at most one try a wait; others go on"),
    "F-48": Fault("the order fails after the key was made", "the old pair stays, byte for byte"),
    "F-49": Fault(
        "eighteen kinds of bad PEM, in lego's directory and in HAProxy's",
        "each refused with its reason; the old one serves; HAProxy reloads and starts",
    ),
    "F-50": Fault("lego is killed between certificate and key", "the pair is refused; the next run mends it"),
    "F-51": Fault("the reload fails once", "the next tick loads it"),
    "F-52": Fault("everything has expired, or there is nothing yet", "the front starts; it heals unattended"),
    "F-53": Fault("200 sites are due at once", "one order at a time; hosts are spread over the day"),
    "F-54": Fault("the CA account is lost", "registered anew; only what is due is ordered"),
    "F-55": Fault("cron or the host was off, or its lock was left", "the next tick does it; age is told by `status`"),
    "F-56": Fault("lifetimes of 6, 45 and 64 days", "due at a third, under ten days at half"),
    # exposure and lock-out
    "F-57": Fault("rules that drop SSH", "the host lets the operator in by itself within 90 s"),
    "F-58": Fault("a rules file broken at boot", "default deny with SSH open"),
    "F-59": Fault("IPv6", "exactly as closed as IPv4"),
    "F-60": Fault("an sshd change that locks out", "the host lets the operator in by itself within 90 s"),
    "F-61": Fault("fail2ban and ten firewall runs", "bans stay; one jump each"),
    "F-62": Fault("inner ports from outside", "refused by binds alone and by the rules alone"),
    "F-63": Fault("an NFS export too wide", "refused", "no NFS on a single host: comes with the split fleet"),
    # isolation and secrets
    "F-65": Fault(
        "site A reaches for site B and for the server, some 60 ways by PHP and by shell",
        "denied, every one, also without open_basedir",
    ),
    "F-66": Fault("a link in the document root to B or /etc", "403"),
    "F-67": Fault("site A takes all workers, CPU, memory, disk, connections", "site B answers every visitor"),
    "F-68": Fault("canary secrets through a whole run", "in no argv, environment, log, journal, history or output"),
    "F-69": Fault("modes of secrets and logs", "no secret-bearing file is readable by others"),
    "F-70": Fault("copies of what was there before", "at least as strict as the original"),
    "F-71": Fault("the moment between a socket's birth and its mode", "never connectable by others"),
    "F-72": Fault(
        "PHP as the web server's user, or writing beyond its rooms",
        "it runs as the site's user, who writes into the site's own tree and nowhere else",
    ),
    "F-73": Fault("sudo rules too wide", "none are made; `status` tells what is there"),
    # HTTP
    "F-74": Fault("forged client addresses", "every layer sees the real peer"),
    "F-75": Fault("a Host that is unknown, empty, twice, or unlike the URI", "4xx, or the right site's answer"),
    "F-76": Fault("twenty ways to poison the cache", "a second, clean client gets the clean page"),
    "F-78": Fault("PURGE and BAN by strangers", "405"),
    "F-79": Fault("smuggled requests, HTTP/1 and 2", "refused, or all layers agree; nobody's answer shifts"),
    "F-80": Fault(
        "slow heads, bodies, reads, handshakes, HTTP/2 windows",
        "cut off within a minute; slow readers cost Apache nothing; an honest client notices little",
    ),
    "F-81": Fault(
        "too long, too many, too big", "414, 431, 413, 411 or closed, at once; no worker dies; no disk fills"
    ),
    "F-83": Fault("a backend dies, hangs, or answers garbage", "a stale page or 503, with HSTS; back within seconds"),
    "F-84": Fault("a whole office behind one address", "served; beyond the limits 429"),
    "F-85": Fault("hidden files, status pages, listings", "403 or 404"),
}
