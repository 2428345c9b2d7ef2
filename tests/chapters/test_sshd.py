"""sshd: by keys alone, with what this controller speaks, and nobody shut out by the step that says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fabfile import sshd
from fabfile.engine import Guarded
from fabfile.engine.changes import Load, PutFile, Run
from fabfile.engine.facts import File, Unit
from fabfile.engine.host import OPERATORS

from ..model.test_ways import API, SPLIT, fleet
from .recording import LOGIN, Recorded, a_file, contents

KEYS = ("ed25519", "rsa", "ecdsa")


def a_key(size: int) -> File:
    return File("f", 0o644, "root", "root", size, "1.0")


def etc_ssh(*keys: str, rsa: int = 562) -> dict[str, File]:
    files = {f"{sshd.ROOT}/ssh_host_{key}_key.pub": a_key(rsa if key == "rsa" else 100) for key in keys}
    return {sshd.MAIN: a_file(), sshd.MODULI: a_file(), **files}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recorded]:
    def make(*keys: str, rsa: int = 562, **known: Any) -> Recorded:
        files = etc_ssh(*(keys or KEYS), rsa=rsa) | known.pop("files", {})
        units = known.pop("units", {"ssh.service": Unit("active", "enabled")})
        return Recorded(monkeypatch, files=files, units=units, client="192.0.2.7", **known)

    return make


def lines(there: Recorded, **options: Any) -> dict[str, str]:
    """The directives of the drop-in; of several values the last."""
    text = contents(there.after(sshd.configure, **options))[sshd.DROPIN]
    return dict(line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))


def test_what_sshd_offers_is_the_yardstick_where_the_controller_can_follow() -> None:
    assert sshd.KEX["13"] == sshd.agreed(sshd.KEX["13"], {"mlkem768x25519-sha256"}, sshd.CURVES, sshd.GROUPS)
    assert sshd.KEX["12"] == sshd.agreed(sshd.KEX["12"], LOGIN.kex, sshd.CURVES, sshd.GROUPS)


def test_where_it_cannot_the_least_that_it_speaks_is_added() -> None:
    assert (*sshd.KEX["13"], *sshd.CURVES) == sshd.agreed(sshd.KEX["13"], LOGIN.kex, sshd.CURVES, sshd.GROUPS)
    assert (*sshd.KEX["13"], *sshd.GROUPS) == sshd.agreed(
        sshd.KEX["13"], {"diffie-hellman-group16-sha512"}, sshd.CURVES, sshd.GROUPS
    )


def test_without_a_common_word_nothing_is_changed() -> None:
    with pytest.raises(Guarded, match="shut out"):
        sshd.agreed(sshd.KEX["13"], {"diffie-hellman-group14-sha1"}, sshd.CURVES, sshd.GROUPS)


@pytest.mark.parametrize("release", ["12", "13"])
def test_this_very_controller_can_always_agree_with_what_is_rendered(
    host: Callable[..., Recorded], release: str
) -> None:
    """Against paramiko as it is installed here, not against a list of ours."""
    import paramiko

    ours = paramiko.Transport
    there = host(release=release)
    there.came = LOGIN._replace(
        kex=frozenset(ours._preferred_kex),
        ciphers=frozenset(ours._preferred_ciphers),
        macs=frozenset(ours._preferred_macs),
    )
    said = lines(there)

    for directive, spoken in (
        ("KexAlgorithms", ours._preferred_kex),
        ("Ciphers", ours._preferred_ciphers),
        ("MACs", ours._preferred_macs),
        ("HostKeyAlgorithms", ours._preferred_keys),
    ):
        assert set(said[directive].split(",")) & set(spoken), directive


def test_keys_alone(host: Callable[..., Recorded]) -> None:
    said = lines(host())

    assert "yes" == said["PubkeyAuthentication"]
    for directive in ("PasswordAuthentication", "KbdInteractiveAuthentication", "PermitEmptyPasswords"):
        assert "no" == said[directive]
    assert "prohibit-password" == said["PermitRootLogin"]


def test_what_came_in_by_password_is_refused_with_the_command_that_mends_it(host: Callable[..., Recorded]) -> None:
    there = host()
    there.came = LOGIN._replace(method="password")

    with pytest.raises(Guarded) as refused:
        there.after(sshd.configure)

    assert 3 == refused.value.exit_code
    assert "ssh-copy-id ops@vps" in refused.value.next_step


def test_who_knows_the_host_by_ecdsa_alone_is_refused(host: Callable[..., Recorded]) -> None:
    there = host()
    there.came = LOGIN._replace(known=frozenset({"ecdsa-sha2-nistp256"}))

    with pytest.raises(Guarded, match="ecdsa"):
        there.after(sshd.configure)


@pytest.mark.parametrize(("rsa", "shown"), [(562, True), (740, True), (390, False)])
def test_the_keys_that_are_there_are_shown_but_no_ecdsa_and_no_short_rsa(
    host: Callable[..., Recorded], rsa: int, shown: bool
) -> None:
    text = contents(host(rsa=rsa).after(sshd.configure))[sshd.DROPIN]

    assert "HostKey /etc/ssh/ssh_host_ed25519_key\n" in text
    assert shown == ("HostKey /etc/ssh/ssh_host_rsa_key\n" in text)
    assert "ecdsa" not in text


@pytest.mark.parametrize(("release", "exempt"), [("12", False), ("13", True)])
def test_operators_are_exempt_from_penalties_where_sshd_has_them(
    host: Callable[..., Recorded], release: str, exempt: bool
) -> None:
    said = lines(host(release=release, operators=("2001:db8::/64",)))

    assert exempt == ("PerSourcePenaltyExemptList" in said)
    if exempt:
        assert "192.0.2.7/32,2001:db8::/64" == said["PerSourcePenaltyExemptList"]


def test_a_second_controller_takes_nothing_from_the_first(host: Callable[..., Recorded]) -> None:
    """The first one needed the curves; the second, which does not, leaves them."""
    offered = ",".join((*sshd.KEX["13"], *sshd.CURVES))
    there = host(files={sshd.DROPIN: a_file()}, sshd={"kexalgorithms": offered})
    there.came = LOGIN._replace(kex=frozenset({"mlkem768x25519-sha256"}))

    assert offered == lines(there)["KexAlgorithms"]


def test_debian_s_own_offer_is_not_taken_for_a_wish(host: Callable[..., Recorded]) -> None:
    there = host(sshd={"kexalgorithms": ",".join((*sshd.KEX["13"], *sshd.CURVES))})
    there.came = LOGIN._replace(kex=frozenset({"mlkem768x25519-sha256"}))

    assert ",".join(sshd.KEX["13"]) == lines(there)["KexAlgorithms"]


def test_older_clients_get_what_they_speak_when_the_operator_says_so(host: Callable[..., Recorded]) -> None:
    said = lines(host(), older_clients=True)

    assert {*sshd.CURVES, *sshd.GROUPS} <= set(said["KexAlgorithms"].split(","))


def test_it_is_judged_by_what_sshd_would_really_do_and_read_by_root_alone(host: Callable[..., Recorded]) -> None:
    [put] = [change for change in host().after(sshd.configure) if isinstance(change, PutFile)]

    assert put.check.startswith("sshd -t && ")
    assert "passwordauthentication no" in put.check
    assert 0o600 == put.mode
    assert put.path < f"{sshd.MAIN}.d/50-cloud-init.conf"


def test_sshd_is_restarted_whichever_unit_starts_it(host: Callable[..., Recorded]) -> None:
    [load] = [change for change in host().after(sshd.configure) if isinstance(change, Load)]
    assert ("ssh.service", "restart") == (load.unit, load.action)

    by_socket = host(units={"ssh.socket": Unit("active", "enabled"), "ssh.service": Unit("active", "disabled")})
    changes = by_socket.after(sshd.configure)
    assert [] == [change for change in changes if isinstance(change, Load)]
    assert "restart sshd" in [change.summary for change in changes if isinstance(change, Run)]


def test_again_changes_nothing(host: Callable[..., Recorded]) -> None:
    there = host()
    there.after(*sshd.STEPS)

    assert [] == there.after(*sshd.STEPS)


# ---------------------------------------------------------------------- a bastion


def inside(there: Recorded, name: str, hosts: dict[str, Any]) -> dict[str, str]:
    there.name, there.fleet = name, fleet(hosts)
    return {key: value for key, value in lines(there).items() if key in ("AllowTcpForwarding", "PermitOpen")}


def test_an_edge_leads_to_the_ssh_of_the_hosts_inside_and_nowhere_else(host: Callable[..., Recorded]) -> None:
    there = host()
    there.ports = {"db1": 2200}
    doors = "10.0.0.11:22 10.0.0.12:22 10.0.0.13:22 10.0.0.14:2200 10.0.0.15:22"

    assert {"AllowTcpForwarding": "local", "PermitOpen": doors} == inside(there, "edge1", SPLIT)


def test_ipv6_is_written_as_ssh_config_wants_it(host: Callable[..., Recorded]) -> None:
    hosts = {
        "api": {"address": "fd00::10", "roles": ("edge", "app")},
        "db": {"address": "fd00::14", "roles": ("database",)},
    }

    assert "[fd00::14]:22" == inside(host(), "api", {"hosts": hosts})["PermitOpen"]


@pytest.mark.parametrize("name", ["db1", "app1"])
def test_a_host_inside_leads_nowhere(host: Callable[..., Recorded], name: str) -> None:
    assert {"AllowTcpForwarding": "no"} == inside(host(), name, SPLIT)


def test_the_last_host_inside_takes_the_way_with_it(host: Callable[..., Recorded]) -> None:
    there = host(files={sshd.DROPIN: a_file()}, sshd={"permitopen": "10.0.0.14:22"})
    alone = {"hosts": {"api": {"address": "10.0.0.10", "roles": ("edge", "app")}}}

    assert {"AllowTcpForwarding": "no"} == inside(there, "api", alone)


def test_the_port_that_another_operator_s_ssh_config_has_stays(host: Callable[..., Recorded]) -> None:
    there = host(files={sshd.DROPIN: a_file()}, sshd={"permitopen": "10.0.0.14:2200 10.0.0.99:22"})

    assert "10.0.0.14:22 10.0.0.14:2200" == inside(there, "api", API)["PermitOpen"]


def test_a_bastion_is_spared_penalties_and_is_no_operator(host: Callable[..., Recorded]) -> None:
    there = host()
    there.name, there.fleet = "db", fleet(API)
    there.facts.client, there.facts.operators = "10.0.0.10", ("10.0.0.10/32", "203.0.113.7/32")

    assert "203.0.113.7/32,10.0.0.10" == lines(there)["PerSourcePenaltyExemptList"]
    there.remember_operators()
    assert "203.0.113.7/32\n" == contents(there._pending)[OPERATORS]
