"""Through which hosts one comes to another: as OpenSSH would go, whatever Fabric makes of it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NoReturn
from unittest.mock import Mock

import pytest
from fabric import Config, Connection
from paramiko import ChannelException, SSHException

from fabfile.engine import remote
from fabfile.engine.problems import NotLed
from fabfile.engine.remote import PROHIBITED, known_as, opened, secure, shown, typed
from fabfile.engine.transfer import ssh_config

HOPS = """\
Host db1
    HostName 10.0.0.12
    ProxyJump {jump}
Host api1
    HostName 192.0.2.10
    User ann
Host office
    HostName 192.0.2.1
    Port 2222
"""


def made(tmp_path: Path, config: str, host: str = "db1") -> Connection:
    file = tmp_path / "ssh_config"
    file.write_text(config)
    return Connection(host, config=Config(runtime_ssh_path=str(file)))


def hops(c: Connection) -> list[str]:
    """From the first one on, with user and port."""
    gateway = c.gateway
    return [*(hops(gateway) if isinstance(gateway, Connection) else []), f"{c.user}@{c.host}:{c.port}"]


def openssh(tmp_path: Path, host: str = "db1") -> str:
    """What ssh itself would do: `ssh -G` names the hops."""
    done = subprocess.run(
        ["ssh", "-F", tmp_path / "ssh_config", "-G", host], capture_output=True, text=True, check=True
    ).stdout
    return next((line.partition(" ")[2] for line in done.splitlines() if line.startswith("proxyjump ")), "none")


@pytest.mark.parametrize(
    ("jump", "way"),
    [
        ("api1", ["ann@192.0.2.10:22"]),
        ("bob@api1:2200", ["bob@192.0.2.10:2200"]),
        ("ssh://bob@api1:2200", ["bob@192.0.2.10:2200"]),
        ("eve@office,api1", ["eve@192.0.2.1:2222", "ann@192.0.2.10:22"]),
        ("api1,eve@office", ["ann@192.0.2.10:22", "eve@192.0.2.1:2222"]),
        ("none", []),
        ("NONE", []),
    ],
)
def test_the_hops_are_visited_in_the_order_in_which_they_stand_each_with_its_own_user(
    tmp_path: Path, jump: str, way: list[str]
) -> None:
    assert way == hops(made(tmp_path, HOPS.format(jump=jump)))[:-1]


def test_the_first_hop_goes_as_its_own_lines_say(tmp_path: Path) -> None:
    config = HOPS.format(jump="api1") + "Host api1\n    ProxyJump eve@office\n"

    assert ["eve@192.0.2.1:2222", "ann@192.0.2.10:22"] == hops(made(tmp_path, config))[:-1]
    assert "api1" == openssh(tmp_path)


@pytest.mark.parametrize("own", ["    ProxyJump none\n", ""])
def test_a_gateway_below_a_star_is_reached_directly(tmp_path: Path, own: str) -> None:
    """Fabric would look for a host called `none`, or call itself until Python gives up."""
    config = f"Host bastion\n    HostName 192.0.2.10\n{own}Host *\n    User ops\n    ProxyJump bastion\n"

    assert ["ops@192.0.2.10:22"] == hops(made(tmp_path, config, "bastion"))
    assert ["ops@192.0.2.10:22", "ops@db1:22"] == hops(made(tmp_path, config))
    assert ("none" if own else "bastion") == openssh(tmp_path, "bastion")


def test_two_hosts_that_name_one_another_end_too(tmp_path: Path) -> None:
    config = "Host a\n    ProxyJump b\nHost b\n    ProxyJump a\nHost *\n    User ops\n"

    assert ["ops@b:22", "ops@a:22"] == hops(made(tmp_path, config, "a"))


def test_a_proxy_command_is_taken_where_no_jump_is_named(tmp_path: Path) -> None:
    assert "nc db1 22" == made(tmp_path, "Host db1\n    ProxyCommand nc %h %p\n").gateway


def test_a_hop_is_named_as_it_can_be_typed(tmp_path: Path) -> None:
    c = secure(made(tmp_path, HOPS.format(jump="eve@office,bob@api1:2200")))
    outer = c.gateway.gateway

    assert ["db1", "bob@api1:2200", "eve@office"] == [typed(c), typed(c.gateway), typed(outer)]
    assert ["db1 (10.0.0.12)", "api1 ([192.0.2.10]:2200)"] == [shown(c), shown(c.gateway)]
    assert "[192.0.2.1]:2222" == known_as(outer)


def test_rsync_s_ssh_asks_nobody_about_a_key_on_any_hop(tmp_path: Path) -> None:
    """What stands on ssh's command line holds for the last hop alone; the file that is named there, for all."""
    c = made(tmp_path, HOPS.format(jump="api1") + "Host *\n    StrictHostKeyChecking accept-new\n")
    (tmp_path / "ssh_config").write_text(ssh_config(c))

    for hop in ("db1", "api1"):
        done = subprocess.run(
            ["ssh", "-F", tmp_path / "ssh_config", "-G", hop], capture_output=True, text=True, check=True
        ).stdout
        assert "stricthostkeychecking true" in done
    assert "api1" == openssh(tmp_path)
    assert "hostname 10.0.0.12\n" in subprocess.run(
        ["ssh", "-F", tmp_path / "ssh_config", "-G", "db1"], capture_output=True, text=True, check=True
    ).stdout


def test_rsync_s_ssh_offers_the_key_that_was_typed(tmp_path: Path) -> None:
    file = tmp_path / "ssh_config"
    file.write_text("Host db1\n    IdentityFile /keys/own\n")
    typed_key = {"key_filename": ["/keys/100% mine"]}
    c = Connection("db1", config=Config(runtime_ssh_path=str(file)), connect_kwargs=typed_key)

    assert 'IdentityFile "/keys/100%% mine"\n' in ssh_config(c)
    assert 1 == ssh_config(c).count("/keys/own")


@pytest.mark.parametrize("first", [SSHException("Unable to open channel."), ChannelException(2, "another's")])
def test_who_is_refused_by_a_gateway_hears_why_he_is_himself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: SSHException
) -> None:
    """Of several that come through it at once, paramiko tells one the refusal of another, and the last one none."""
    c = made(tmp_path, HOPS.format(jump="api1"))
    told: list[SSHException] = [ChannelException(PROHIBITED, "Administratively prohibited"), first]

    def refuse(_: Connection) -> NoReturn:
        raise told.pop()

    monkeypatch.setattr(remote, "opened", lambda _: c.gateway)
    c.gateway.transport = Mock()
    monkeypatch.setattr(Connection, "open", refuse)
    with pytest.raises(NotLed, match=r"its sshd does not lead to 10\.0\.0\.12:22"):
        opened(c)
    assert not told
