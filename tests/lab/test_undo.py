"""Taking back: after an undo of each kind of run /etc is what it was before, and the daemons really serve it so."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .lab import Lab
from .machine import Machine, Stranger

KEPT = "find /etc -path /etc/.git -prune -o -path /etc/.etckeeper -prune -o"
TREE = f"{KEPT} -printf '%p\\t%y %m %u %g %l\\n'; {KEPT} -type f -print0 | xargs -0 sha256sum --zero | tr '\\0' '\\n'"


def tree(machine: Machine) -> dict[str, str]:
    """Every name of /etc: its kind, mode, owner, target and content; secrets as well."""
    found = {}
    for line in machine.check(TREE).splitlines():
        if line.startswith("/"):
            path, _, told = line.partition("\t")
            found[path] = told
        else:
            found[line[66:]] += " " + line[:64]
    return found


def done(run: subprocess.CompletedProcess[str], code: int = 0) -> str:
    assert code == run.returncode, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    return run.stdout + run.stderr


def entries(machine: Machine, *words: str) -> list[dict[str, object]]:
    """What `history` tells."""
    return json.loads(done(machine.fab("history", "--json", *words)))["entries"]  # type: ignore[no-any-return]


def last_run(machine: Machine) -> str:
    return next(str(entry["id"]) for entry in entries(machine) if entry["kind"] == "gatehouse")


@contextmanager
def put_back(machine: Machine) -> Iterator[None]:
    """However a test ends, the next one finds the host as its data say."""
    try:
        yield
    finally:
        machine.exec("rm -f /etc/apache2/vhost.d/*.off")
        if machine.exec("iptables-save | grep -q 8443").rc == 0:
            machine.fab("firewall.deny", "8443")
        again = machine.fab("bootstrap")
    done(again)


# ---------------------------------------------------------------------- each kind of run


@dataclass(frozen=True)
class Kind:
    """A run that changes /etc, and what a client or a daemon says of it: with it, and without."""

    tasks: tuple[str, ...]
    asked: Callable[[Machine, Stranger], str]
    changed: str
    former: str


def answers(machine: Machine, stranger: Stranger) -> str:
    """Whether somebody in a hurry is told to wait; the count of his requests ends with ten seconds of silence."""
    time.sleep(11)
    burst = stranger.check(
        f"curl -sk -o /dev/null -w '%{{http_code}}\\n' --resolve example.com:443:{machine.ip} "
        "'https://example.com/?undo=[1-60]'"
    )
    return "429" if "429" in burst else "200"


def cache(machine: Machine, stranger: Stranger) -> str:
    page = stranger.curl("-k", "-o", "/dev/null", "-w", "%{http_code}", "https://example.com/", to=machine).out
    words = machine.check("tr '\\0' ' ' < /proc/$(pgrep -o varnishd)/cmdline")
    return f"{page} {re.findall('malloc,[0-9]+m', words)}"


def retries(machine: Machine, _: Stranger) -> str:
    return machine.check("fail2ban-client get sshd maxretry").strip()


def port(machine: Machine, stranger: Stranger) -> str:
    process = machine.check("socat TCP-LISTEN:8443,fork,reuseaddr /dev/null > /dev/null 2>&1 & echo $!").strip()
    try:
        reached = stranger.exec(f"timeout 2 bash -c 'true < /dev/tcp/{machine.ip}/8443'")
        return "open" if reached.rc == 0 else "shut"
    finally:
        machine.check(f"kill {process}")


def exchange(machine: Machine, stranger: Stranger) -> str:
    told = stranger.exec(
        f"ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
        f"-o KexAlgorithms=diffie-hellman-group16-sha512 nobody@{machine.ip} true"
    ).err
    return "no common exchange" if "no matching key exchange" in told else "exchanged" if "denied" in told else told


KIOSK = "kiosk.co.test"
KINDS = {
    "haproxy": Kind(("haproxy.configure --requests 20", "haproxy.start"), answers, "429", "200"),
    "firewall": Kind(("firewall.allow 8443",), port, "open", "shut"),
    "varnish": Kind(("varnish.install --memory 77", "varnish.start"), cache, "200 ['malloc,77m']", "200 "),
    "fail2ban": Kind(("fail2ban.configure --maxretry 9", "fail2ban.start"), retries, "9", "5"),
    "suspended": Kind(("site.suspend kiosk.co.test",), lambda vps, stranger: page(vps, stranger, KIOSK), "503", "200"),
    "sshd": Kind(("sshd.configure --older-clients",), exchange, "exchanged", "no common exchange"),
}


@pytest.mark.parametrize(
    "kind",
    [name if name == "firewall" else pytest.param(name, marks=pytest.mark.demand) for name in KINDS],
)
def test_an_undo_leaves_the_files_of_before_and_the_daemon_serves_them(
    vps: Machine, stranger: Stranger, kind: str
) -> None:
    wanted = KINDS[kind]
    with put_back(vps):
        before, served = tree(vps), wanted.asked(vps, stranger)
        for task in wanted.tasks:
            done(vps.fab(*task.split()))
        assert before != tree(vps)
        assert wanted.changed == wanted.asked(vps, stranger)

        planned = done(vps.fab("--dry", "undo"))
        assert "would change" in planned
        assert before != tree(vps)
        done(vps.fab("undo", "--yes"))

        assert before == tree(vps)
        assert served == wanted.asked(vps, stranger)
        assert wanted.former in served
        assert "" == vps.check("systemctl --failed --plain --no-legend")
        done(vps.fab("check"))
        entry = entries(vps, "--lines", "1")[0]
        assert str(entry["task"]).startswith("undo ")
        assert entry["who"]
        assert entry["address"]


def test_an_undo_of_a_site_that_was_added_stops_serving_it_and_touches_no_other(
    lab: Lab, vps: Machine, stranger: Stranger, fleet: Callable[..., Path]
) -> None:
    directory = fleet("undone.test")
    with put_back(vps):
        try:
            before = tree(vps)
            done(vps.fab("bootstrap", directory=directory))
            assert "200" == page(vps, stranger, "undone.test")
            run = last_run(vps)

            told = done(vps.fab("undo", "--yes", directory=directory))

            assert "stays: user undone-test" in told
            # Users and their groups stay, and so does what no history has: secrets and certificates.
            after = tree(vps)
            differ = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
            assert STAYS == {path for path in differ if not ACCOUNTS.fullmatch(path)}
            assert "421" == page(vps, stranger, "undone.test")
            assert "200" == page(vps, stranger, KIOSK)
            assert 2 == vps.fab("check", directory=directory).returncode, "the site is still described"
            assert 0 == vps.fab("check").returncode

            done(vps.fab("undo", "--yes", directory=directory))

            assert "200" == page(vps, stranger, "undone.test"), "an undo is taken back as well"
            assert run in [entry["id"] for entry in entries(vps, "--lines", "5")]
        finally:
            vps.exec(FORGET)


ACCOUNTS = re.compile(r"/etc/(cron\.deny|passwd|group|g?shadow|sub[ug]id)-?|/etc/lego/.*")
STAYS = {
    "/etc/gatehouse/secrets/php/undone-test.conf",
    "/etc/gatehouse/secrets/sessions/undone-test",
    "/etc/gatehouse/sites/undone-test",
    "/etc/gatehouse/sites/undone-test/sessions.password",
    "/etc/gatehouse/sites/undone-test/sessions.php",
    "/etc/haproxy/certs/undone.test.pem",
}
FORGET = (
    "userdel undone-test; sed -i /^undone-test/d /etc/cron.deny; umount /var/www/undone.test/tmp; "
    "rm -rf /var/www/undone.test /etc/gatehouse/sites/undone-test; "
    "rm -f /etc/haproxy/certs/undone.test.pem /etc/lego/certificates/undone.*; "
    "rm -f /etc/apache2/vhost.d/undone.test.conf* /etc/php/*/fpm/pool.d/undone.test.conf* /etc/gatehouse/certs/undone.*"
)


def page(machine: Machine, stranger: Stranger, name: str) -> str:
    """What a visitor is answered, past the cache: -k, since a name that goes loses its certificate."""
    shown = stranger.curl(
        "-k", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Cache-Control: no-cache",
        f"https://{name}/?{time.time()}", to=machine,
    )  # fmt: skip
    return shown.out


@pytest.mark.demand
def test_an_undo_gives_a_pool_its_former_limits(
    lab: Lab, vps: Machine, stranger: Stranger, tmp_path: Path
) -> None:
    sites = tmp_path / "sites"
    shutil.copytree(lab.directory / "sites", sites)
    with (sites / "kiosk.co.test.yml").open("a") as file:
        file.write("php: {memory_limit: 77M}\n")
    directory = lab.describe(tmp_path / "described", sites=sites)
    script = "/var/www/kiosk.co.test/public_html/_/limit.php"
    vps.check(f"cat > {script}", stdin="<?= ini_get('memory_limit');", user="kiosk-co-test")

    def limit() -> str:
        return stranger.curl("-k", f"https://kiosk.co.test/limit.php?{time.time()}", to=vps).out

    with put_back(vps):
        try:
            before, former = tree(vps), limit()
            done(vps.fab("php", directory=directory))
            assert "77M" == limit()

            done(vps.fab("undo", "--yes", directory=directory))

            assert before == tree(vps)
            assert former == limit() != "77M"
            assert 2 == vps.fab("check", directory=directory).returncode
        finally:
            vps.check(f"rm {script}", user="kiosk-co-test")


@pytest.mark.demand
def test_what_somebody_broke_by_hand_in_between_is_named_and_not_gone_over(vps: Machine, stranger: Stranger) -> None:
    path = "/etc/apache2/conf-available/gatehouse.conf"
    with put_back(vps):
        before = tree(vps)
        done(vps.fab("apache.configure", "--processes", "9"))
        run = last_run(vps)
        vps.check(f"echo 'Nonsense on' >> {path}; chmod 0600 {path}")

        refused = done(vps.fab("undo", "--yes"), 3)

        assert f"changed since {run} by somebody else: {path} (" in refused
        assert "as found before gatehouse undo" in refused
        assert "--anyway" in refused
        assert "Nonsense" in vps.check(f"cat {path}")
        found = entries(vps, "--lines", "1")[0]
        assert ("found", [{"path": path, "change": "changed"}]) == (found["kind"], found["files"])

        # First what was done by hand, then the run: each is taken back by itself.
        done(vps.fab("undo", str(found["id"]), "--yes"))
        done(vps.fab("apache.start"))
        assert "200" == page(vps, stranger, KIOSK)
        done(vps.fab("undo", run, "--yes"))
        assert before == tree(vps)

        # And over it, when that is what is wanted.
        done(vps.fab("undo", "--yes"))
        run = last_run(vps)
        vps.check(f"echo 'Nonsense on' >> {path}")
        done(vps.fab("undo", run, "--yes", "--anyway"))
        assert before == tree(vps)
        done(vps.fab("check"))


WORN = """
rm /etc/sysctl.d/60-gatehouse.conf
rm -r /etc/systemd/coredump.conf.d
rm /etc/apache2/mods-enabled/authz_groupfile.load
chmod 0666 /etc/php/8.4/fpm/pool.d/kiosk.co.test.conf
chown games:games /etc/haproxy/hosts.map
chmod 0750 /etc/cron.d
ln -sf ../conf-available/charset.conf /etc/apache2/conf-enabled/charset.conf
systemctl -q disable fail2ban
"""


@pytest.mark.demand
def test_what_a_bootstrap_put_right_is_exactly_as_wrong_again(vps: Machine, stranger: Stranger) -> None:
    """Modes, owners, links, directories, what was missing and what was too much; and who starts at boot."""
    with put_back(vps):
        vps.check(WORN)
        worn = tree(vps)
        done(vps.fab("bootstrap"))
        done(vps.fab("check"))

        told = done(vps.fab("undo", "--yes"))

        after = tree(vps)
        assert {} == {path: (worn.get(path), after.get(path)) for path in worn.keys() | after.keys()
                      if worn.get(path) != after.get(path)}, told  # fmt: skip
        assert "disabled" == vps.exec("systemctl is-enabled fail2ban").out.strip()
        assert "active" == vps.check("systemctl is-active fail2ban").strip()
        assert "200" == page(vps, stranger, KIOSK)
        assert 2 == vps.fab("check").returncode


@pytest.mark.demand
def test_an_entry_that_is_not_there_is_refused_with_the_nearest(vps: Machine) -> None:
    real = last_run(vps)
    for words in (("undo", "--yes"), ("history",)):
        unknown = done(vps.fab(*words, real[:-1] + ("0" if real[-1] != "0" else "1")), 2)
        assert real in unknown
        assert "3f2a1b9" in done(vps.fab(*words, "the-last-one"), 2)


@pytest.mark.demand
def test_a_diff_shows_no_secret(vps: Machine) -> None:
    secret, key, plain = "/etc/lab.conf", "/etc/lab.pem", "/etc/lab.txt"
    try:
        vps.check(
            f"umask 077; echo 'password = canary1' > {secret}; umask 022; echo 'canary plain' > {plain}; "
            f"printf -- '-----BEGIN PRIVATE KEY-----\\ncanary2\\n' > {key}; etckeeper commit -m 'by hand'"
        )
        ours = entries(vps, "--lines", "1")[0]
        assert ("person", "by hand") == (ours["kind"], ours["task"])

        shown = done(vps.fab("history", str(ours["id"])))
        assert f"{secret}  new  (not shown)" in shown
        assert f"{key}  new  (not shown)" in shown
        assert "+canary plain" in shown
        vps.check(f"rm {secret} {key}; chmod 0600 {plain}; etckeeper commit -m 'and gone'")
        shown += done(vps.fab("history", str(entries(vps, "--lines", "1")[0]["id"])))
        planned = done(vps.fab("--dry", "undo", str(ours["id"]), "--anyway"))

        assert "canary1" not in shown + planned
        assert "canary2" not in shown + planned
    finally:
        vps.check(f"rm -f {secret} {key} {plain}; etckeeper commit -m clean || :")


def killed(vps: Machine) -> None:
    """What a run leaves that a kill ended: changed, and its entry begun and not ended."""
    done(vps.fab("haproxy.configure", "--requests", "700"))
    vps.check(
        "cd /etc && { git rev-parse HEAD^; echo 'gatehouse haproxy.configure by ann@laptop'; "
        "echo 'Gatehouse-From: 203.0.113.9'; } > /var/lib/gatehouse/entry && git reset -q --soft HEAD^"
    )


def test_the_entry_of_a_run_that_was_killed_ends_with_the_next_that_finds_nothing_to_do(vps: Machine) -> None:
    with put_back(vps):
        killed(vps)
        done(vps.fab("haproxy.configure", "--requests", "700"))
        vps.check("echo '# by hand' >> /etc/motd; etckeeper commit 'by hand'")
        try:
            by_hand, broken = entries(vps, "--lines", "2")
        finally:
            vps.check("sed -i '/^# by hand$/d' /etc/motd; etckeeper commit 'and back'")
        assert "broken off" == broken["end"]
        assert [{"path": "/etc/motd", "change": "changed"}] == by_hand["files"]
        assert [{"path": "/etc/haproxy/haproxy.cfg", "change": "changed"}] == broken["files"]


def test_a_run_that_was_killed_stands_in_the_history_and_is_taken_back(vps: Machine) -> None:
    """The next run closes its entry; so does the undo itself."""
    path = "/etc/haproxy/haproxy.cfg"
    with put_back(vps):
        before = tree(vps)
        killed(vps)
        now = entries(vps)[0]
        assert ("", "gatehouse", "haproxy.configure", "ann@laptop") == tuple(
            now[word] for word in ("id", "kind", "task", "who")
        )
        assert "broken off" in str(now["end"])

        done(vps.fab("undo", "--yes"))

        assert before == tree(vps)
        undone, broken = entries(vps, "--lines", "2")
        assert str(undone["task"]) == f"undo {broken['id']}"
        assert ("haproxy.configure", "ann@laptop", "broken off", [{"path": path, "change": "changed"}]) == tuple(
            broken[word] for word in ("task", "who", "end", "files")
        )
