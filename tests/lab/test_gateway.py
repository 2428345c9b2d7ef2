"""T2's pair: a database host that lets in the API server alone is managed through it, keys checked on both hops."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .conftest import Bare
from .lab import Lab
from .machine import CHECKOUT, Machine, Stranger
from .pair import bootstrapped


@dataclass
class Behind:
    """`gate` is the API server, `inner` the database host; `directory` has the operator's ssh_config and fleet.yml.

    `before` is what was told before the way was made.
    """

    gate: Machine
    inner: Machine
    directory: Path
    before: dict[str, subprocess.CompletedProcess[str]]

    def copy(self, to: Path, *changes: tuple[str, str]) -> Path:
        """The operator's files with something changed in ssh_config (or known_hosts, of which a copy is used)."""
        if to != self.directory:
            shutil.copytree(self.directory, to, dirs_exist_ok=True)
        config = (to / "ssh_config").read_text().replace(str(self.directory), str(to))
        for old, new in changes:
            assert old in config
            config = config.replace(old, new)
        (to / "ssh_config").write_text(config)
        return to

    def ssh(self, *words: str) -> subprocess.CompletedProcess[str]:
        """OpenSSH itself, with the operator's files."""
        line = ["ssh", "-F", str(self.directory / "ssh_config"), "-o", "BatchMode=yes", *words]
        return subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )


def entry(machine: Machine) -> str:
    return f"Host {machine.name}\n    HostName {machine.ip}\n"


@pytest.fixture(scope="module")
def behind(lab: Lab, own: Bare, tmp_path_factory: pytest.TempPathFactory) -> Behind:
    """Two bare hosts of their own, made so by the tasks themselves, as far as SSH goes."""
    gate, inner, root = own(), own(), tmp_path_factory.mktemp("gate")
    hosts = {
        gate.name: {"address": gate.ip, "roles": ["edge", "app"]},
        inner.name: {"address": inner.ip, "roles": ["database"]},
    }
    behind = Behind(gate, inner, root / "pair", {})
    lab.describe(root / "alone", lab.directory / "sites", hosts={gate.name: {"roles": ["web"]}})
    well(gate.fab("sshd", directory=root / "alone"))
    lab.describe(root / "pair", lab.directory / "sites", hosts=hosts)
    behind.before["directly"] = inner.fab("firewall", directory=root / "pair")
    behind.copy(root / "pair", (entry(inner), f"{entry(inner)}    ProxyJump {gate.name}\n"))
    behind.before["not led"] = inner.fab("firewall", directory=root / "pair")
    well(gate.fab("sshd", directory=root / "pair"))
    well(inner.fab("firewall", "sshd", directory=root / "pair"))
    return behind


@pytest.fixture(scope="module")
def api_pair(api: Lab, tmp_path_factory: pytest.TempPathFactory) -> Behind:
    """The lab's fleet `api`, bootstrapped: its database host stands in the inside network alone."""
    place = tmp_path_factory.mktemp("api")
    (place / "sites").mkdir()
    (place / "sites" / "example.com.yml").write_text("domain: example.com\ndatabase: true\n")
    bootstrapped(api.describe(place, place / "sites"))
    return Behind(api.machine("api1"), api.machine("db1"), place, {})


@pytest.fixture(scope="module", params=["behind", pytest.param("api_pair", marks=pytest.mark.demand)])
def led(request: pytest.FixtureRequest) -> Behind:
    """Either pair: two hosts in one network, and those of which one is inside."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def well(run: subprocess.CompletedProcess[str]) -> None:
    assert run.returncode == 0, run.stdout + run.stderr


def logins(machine: Machine) -> str:
    """What sshd saw so far of who proved, or wanted to prove, who he is."""
    journal = "journalctl --sync; journalctl -q -o cat _COMM=sshd _COMM=sshd-session"
    return machine.check(f"{journal} | grep -cE 'Accepted|Failed|Postponed|Invalid user|authenticating user' || :")


# ---------------------------------------------------------------------- the way is made


def test_who_comes_directly_before_the_way_is_shut_is_told_what_to_write(behind: Behind) -> None:
    done = behind.before["directly"]

    assert done.returncode == 3, done.stdout + done.stderr
    assert f"you came to {behind.inner.name} from" in done.stderr
    assert f"below `Host {behind.inner.name}`, write: ProxyJump {behind.gate.name}" in done.stderr
    assert f"HostName: {behind.inner.ip}" in done.stderr


def test_a_gateway_whose_sshd_leads_nobody_is_named_with_what_mends_it(behind: Behind) -> None:
    done = behind.before["not led"]

    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{behind.gate.name} is the way to {behind.inner.name}, and its sshd does not lead to" in done.stderr
    assert f"then: fab -H {behind.gate.name} sshd" in done.stderr
    assert done.stderr.count("\n") == 2, done.stderr


def test_the_gateway_leads_to_ssh_of_the_host_inside_and_nowhere_else(behind: Behind) -> None:
    led = behind.ssh("-W", f"{behind.inner.ip}:22", behind.gate.name)
    assert led.stdout.startswith("SSH-2.0-"), led.stderr
    for place in (f"{behind.inner.ip}:3306", "127.0.0.1:8080", f"{behind.gate.ip}:22", "localhost:6082"):
        refused = behind.ssh("-W", place, behind.gate.name)
        assert "administratively prohibited" in refused.stderr, (place, refused.stderr)
    back = behind.ssh("-o", "ExitOnForwardFailure=yes", "-R", "9999:localhost:22", behind.gate.name, "true")
    assert "remote port forwarding failed" in back.stderr
    assert "allowtcpforwarding no" in behind.inner.check("sshd -T")


def test_nobody_else_gets_in(behind: Behind, stranger: Stranger) -> None:
    assert stranger.exec(f"timeout 3 bash -c '< /dev/tcp/{behind.inner.ip}/22'").rc == 124
    assert stranger.exec(f"timeout 3 bash -c '< /dev/tcp/{behind.gate.ip}/22'").rc == 0


def test_who_comes_directly_afterwards_is_told_the_way(behind: Behind, tmp_path: Path) -> None:
    direct = behind.copy(tmp_path, (f"    ProxyJump {behind.gate.name}\n", "    ConnectTimeout 1\n"))

    for task in ("status", "trust"):
        done = behind.inner.fab(task, directory=direct)
        assert done.returncode == 1, done.stdout
        assert f"{behind.inner.name} lets in nobody but {behind.gate.name}" in done.stderr
        assert f"ProxyJump {behind.gate.name}" in done.stderr


# ---------------------------------------------------------------------- keys


def other_key() -> str:
    return Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.mark.parametrize("hop", ["gate", "inner"])
@pytest.mark.parametrize("key", ["unknown", "changed"])
def test_a_key_that_is_not_known_or_another_is_refused_on_either_hop(
    led: Behind, tmp_path: Path, hop: str, key: str
) -> None:
    machine: Machine = getattr(led, hop)
    directory = led.copy(tmp_path)
    lines = (directory / "known_hosts").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(f"{machine.name},")]
    kept += [f"{machine.name},{machine.ip} {other_key()}"] if key == "changed" else []
    (directory / "known_hosts").write_text("\n".join(kept) + "\n")
    before = logins(led.gate), logins(led.inner)

    done = led.inner.fab("status", directory=directory)

    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    told = {"unknown": "is not known: ", "changed": "has changed: "}[key]
    assert f"the key of {machine.name} ({machine.ip}) {told}" in done.stderr
    assert f"fab -H {machine.name} trust" in done.stderr
    assert ("it is the way to" in done.stderr) == (hop == "gate")
    after = logins(led.gate), logins(led.inner)
    assert after[1] == before[1], "nobody proved who he is to the host inside"
    assert hop == "inner" or after[0] == before[0], "nor to the gateway"


def test_both_keys_are_enrolled_one_after_the_other_the_gateway_s_first(led: Behind, tmp_path: Path) -> None:
    directory = led.copy(tmp_path)
    (directory / "known_hosts").write_text("")
    shut = led.inner.fab("trust", directory=directory)
    assert (shut.returncode, f"fab -H {led.gate.name} trust" in shut.stderr) == (3, True), shut.stderr
    for machine in (led.gate, led.inner):
        shown = machine.fab("trust", directory=directory)
        assert shown.returncode == 3
        [fingerprint] = set(re.findall(r"SHA256:\S+", shown.stderr))
        assert fingerprint in machine.check("for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $key; done")
        done = machine.fab("trust", "--fingerprint", fingerprint, directory=directory)
        assert done.returncode == 0, done.stderr
    assert led.inner.fab("lock.status", directory=directory).returncode == 0


# ---------------------------------------------------------------------- what does not work is named by its hop


@pytest.mark.demand
def test_the_hop_that_does_not_answer_or_lets_nobody_in_is_named(behind: Behind, tmp_path: Path) -> None:
    gate, inner = behind.gate.name, behind.inner.name
    user = "    User ops\n"
    cases = {
        "away": ((entry(behind.gate), f"{entry(behind.gate)}    Port 1\n"), f"{gate} ({behind.gate.ip}:1) cannot be"),
        "stranger": ((f"{entry(behind.gate)}{user}", f"{entry(behind.gate)}    User nobody\n"), f"{gate} does not let"),
        "inside": (
            (f"ProxyJump {gate}\n{user}", f"ProxyJump {gate}\n    User nobody\n"),
            f"{inner} does not let nobody in",
        ),
        "elsewhere": ((f"    HostName {behind.inner.ip}\n", "    HostName 192.0.2.1\n"), "its sshd does not lead to"),
    }
    for name, (change, said) in cases.items():
        done = behind.inner.fab("status", directory=behind.copy(tmp_path / name, change))
        assert done.returncode == 1, (name, done.stdout + done.stderr)
        assert said in done.stderr, name
        assert (f"it is the way to {inner}" in done.stderr) == (name in ("away", "stranger")), done.stderr


def test_a_host_inside_that_is_down_is_told_from_a_gateway_that_is(behind: Behind, tmp_path: Path) -> None:
    jump = f"    ProxyJump {behind.gate.name}\n"
    directory = behind.copy(tmp_path, (jump, f"{jump}    ConnectTimeout 2\n"))
    behind.inner.check("iptables -I INPUT -p tcp --dport 22 -j DROP")
    try:
        done = behind.inner.fab("status", directory=directory)
    finally:
        behind.inner.check("iptables -D INPUT -p tcp --dport 22 -j DROP")
    assert done.returncode == 1
    assert f"{behind.gate.name}, the way there, gets no connection to {behind.inner.ip}:22" in done.stderr


@pytest.mark.demand
def test_guesses_that_come_through_the_bastion_shut_nobody_out(api_pair: Behind) -> None:
    """To sshd and fail2ban inside, they all come from the bastion."""
    ignored = "grep -q '\\[sshd\\] Ignore' /var/log/fail2ban.log"
    api_pair.inner.check(": > /var/log/fail2ban.log")
    for _ in range(7):
        assert "Permission denied" in api_pair.ssh("-l", "guess", api_pair.inner.name, "true").stderr
    api_pair.inner.check(f"for try in $(seq 50); do ! {ignored} || exit 0; sleep 0.2; done; false")
    assert api_pair.gate.ip not in api_pair.inner.check("fail2ban-client status sshd")
    assert api_pair.gate.ip not in api_pair.inner.check("cat /etc/gatehouse/operators")
    assert api_pair.ssh(api_pair.inner.name, "true").returncode == 0


# ---------------------------------------------------------------------- files, and sockets

PROGRAM = """
    import sys, urllib.request, threading
    from pathlib import Path
    from fabfile.engine import Problem
    from fabfile.engine.remote import Visit, connect
    from fabfile.engine.transfer import rsync
    from fabfile.engine.tunnel import Tunnel
    directory, source, known = map(Path, sys.argv[1:4])
    c = connect(sys.argv[4], directory / "ssh_config")
    visit = Visit(c)
    with Tunnel(c, "/run/through.sock") as tunnel:
        threading.Thread(target=tunnel.serve, daemon=True).start()
        page = urllib.request.urlopen(f"http://127.0.0.1:{tunnel.port}/", timeout=20).read().decode()
        print("PAGE", page)
    try:
        rsync(visit, source, "/tmp/through", "www-data")
        print("BROUGHT")
        known.write_text("\\n".join(line for line in known.read_text().splitlines() if sys.argv[5] not in line) + "\\n")
        rsync(visit, source, "/tmp/through", "www-data")
        print("BROUGHT")
    except Problem as problem:
        print("PROBLEM", problem.message, problem.details)
"""


@pytest.mark.demand
def test_files_and_sockets_come_through_and_rsync_asks_nobody_about_a_key(api_pair: Behind, tmp_path: Path) -> None:
    """ssh_config says of the gateway that any new key will do; what brings the files knows better."""
    gate = entry(api_pair.gate)
    lax = f"Host {api_pair.gate.name}\n    StrictHostKeyChecking no\n{gate}"
    directory = api_pair.copy(tmp_path / "operator", (gate, lax))
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "page.html").write_text("through\n")
    api_pair.inner.check("apt-get -qq -y install rsync socat; install -d -o www-data /tmp/through")
    speaks = "#!/bin/sh\nsed -n '/^\\r/q'\nprintf 'HTTP/1.0 200 OK\\r\\nContent-Length: 11\\r\\n\\r\\nfrom inside'\n"
    api_pair.inner.put({"/usr/local/bin/through": speaks.encode()}, 0o755)
    api_pair.inner.check(
        "systemd-run --unit through socat UNIX-LISTEN:/run/through.sock,fork EXEC:/usr/local/bin/through"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), directory, tmp_path / "source",
             directory / "known_hosts", api_pair.inner.name, f"{api_pair.gate.name},"],
            cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        brought = api_pair.inner.exec("cd /tmp/through; cat page.html; stat -c %U page.html").out
    finally:
        api_pair.inner.check("systemctl stop through; rm -rf /tmp/through /run/through.sock /usr/local/bin/through")
    assert brought == "through\nwww-data\n", done.stdout + done.stderr
    assert done.stdout.splitlines()[:2] == ["PAGE from inside", "BROUGHT"], done.stdout + done.stderr
    assert "PROBLEM rsync ended with exit code" in done.stdout
    assert "Host key verification failed" in done.stdout
