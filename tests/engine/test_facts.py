"""The look's text becomes facts, whatever the names of files are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fabfile.engine.facts import Facts, File, Files, Unit, User
from fabfile.engine.script import SHELL

LOOK = b"\0".join(
    [
        b"os\tdebian\t13\ttrixie",
        b"connection\t192.0.2.7 51000 198.51.100.9 2222",
        b"packages\nii \tsudo\t1.9\nrc \tgone\t1.0\nhi \theld\t2.0",
        b"users\nroot:x:0:0:root:/root:/bin/bash\nsite:x:998:997::/var/www/site:/usr/sbin/nologin",
        b"groups\nadm:x:4:syslog,ops\nsite:x:997:",
        b"units\nhaproxy.service loaded active running HAProxy\nx.service loaded failed failed Some thing",
        b"unit-files\nhaproxy.service enabled enabled\nnew.service disabled enabled",
        b"loaded\n/var/lib/gatehouse/loaded/haproxy.service:" + b"a" * 64,
        b"sshd\nport 22\nport 2222\naddressfamily any",
        b"rules4\n*filter\n:INPUT DROP [0:0]\n",
        b"file\tf\t644\t998\t4\t5\t1700000000.5000000000\t\t/etc/odd\nname\twith tab",
        b"file\tl\t777\t0\t12345\t3\t1700000000.0000000000\t/dev/null\t/etc/link",
        b"0" * 64 + b"  /etc/odd\nname\twith tab",
    ]
)
RECORDS = LOOK.decode().split("\0")


def test_each_record_is_read() -> None:
    facts = Facts.of(RECORDS)

    assert ("debian", "13", "trixie") == (facts.system, facts.release, facts.codename)
    assert {"sudo": "1.9", "held": "2.0"} == facts.packages
    assert User("site", 998, 997, "/var/www/site", "/usr/sbin/nologin") == facts.users["site"]
    assert ("syslog", "ops") == facts.groups["adm"]
    assert Unit("active", "enabled") == facts.units["haproxy.service"]
    assert Unit("failed", "") == facts.units["x.service"]
    assert Unit("inactive", "disabled") == facts.units["new.service"]
    assert {"haproxy.service": "a" * 64} == facts.loaded
    assert ("*filter", ":INPUT DROP [0:0]") == facts.rules4


def test_a_look_asks_for_each_type_of_unit_that_a_step_loads() -> None:
    """Else the host never has it, and each run starts it anew."""
    chapters = (path.read_text() for path in SHELL.parent.parent.rglob("*.py"))
    loaded = {kind for text in chapters for kind in re.findall(r'\.service\("[\w.-]+\.(\w+)"', text)}
    look = (SHELL / "look.sh").read_text()

    assert {"timer", "automount", "path"} <= loaded
    for types, mark in (re.findall(r"--type=(\S+)", look), ","), (re.findall(r"/\\\.\(([a-z|]+)\)\$/p", look), "|"):
        assert loaded <= set("".join(types).split(mark)), types


def test_the_operator_and_the_port_that_sshd_really_has_are_known() -> None:
    facts = Facts.of(RECORDS)

    assert "192.0.2.7" == facts.client
    assert (22, 2222) == facts.ssh_ports


@pytest.mark.parametrize(("said", "known"), [("none", ""), ("", ""), ("docker", "docker"), ("lxc", "lxc")])
def test_a_machine_of_its_own_is_no_container(said: str, known: str) -> None:
    """systemd-detect-virt says "none" there, in so many words; seen on the witness."""
    assert known == Facts.of([f"container\t{said}"]).container


def test_a_name_with_a_line_break_and_a_tab_is_one_file() -> None:
    facts = Facts.of(RECORDS)

    odd = facts.files["/etc/odd\nname\twith tab"]
    assert ("f", 0o644, "0" * 64) == (odd.kind, odd.mode, odd.digest)
    assert "/dev/null" == facts.files["/etc/link"].target


def test_owners_come_as_numbers_and_have_their_names_or_else_stay_numbers() -> None:
    facts = Facts.of(RECORDS)

    odd, link = facts.files["/etc/odd\nname\twith tab"], facts.files["/etc/link"]
    assert ("site", "adm", "root", "12345") == (odd.owner, odd.group, link.owner, link.group)


def test_a_report_keeps_the_digest_of_what_was_placed() -> None:
    facts = Facts(files=Files({"/etc/a": File("f", 0o644, "root", "root", 1, "?", "", "d" * 64)}))

    facts.take(["op\t1\tplace", "file\tf\t640\troot\tadm\t1\t1700000001.0\t\t/etc/a", "loaded\tx.service\tabc"])

    assert File("f", 0o640, "root", "adm", 1, "1700000001.0", "", "d" * 64) == facts.files["/etc/a"]
    assert "abc" == facts.loaded["x.service"]


@pytest.mark.parametrize(
    ("prefixes", "found"),
    [
        (["/etc/x/"], {"/etc/x/a", "/etc/x/sub/b"}),
        (["/etc/x/a"], {"/etc/x/a"}),
        (["/etc/x"], set()),
        ([], set()),
    ],
)
def test_a_slash_at_the_end_means_all_below(prefixes: list[str], found: set[str]) -> None:
    names = {"/etc/x": "d", "/etc/x/a": "f", "/etc/x/sub": "d", "/etc/x/sub/b": "l", "/etc/xy": "f"}
    facts = Facts(files=Files({path: File(kind, 0o644, "root", "root", 0, "1.0") for path, kind in names.items()}))

    assert found == set(facts.under(prefixes))


def test_host_and_laptop_agree_on_what_a_service_has_taken(tmp_path: Path) -> None:
    """The digest that prelude.sh writes is the one that the facts give, so a second run reloads nothing."""
    for name in ("b.conf", "a.conf", "sub/c", "odd name"):
        (tmp_path / "etc" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "etc" / name).write_text(name)
    (tmp_path / "etc/link").symlink_to("a.conf")
    single = tmp_path / "single"
    single.write_text("x")
    found = subprocess.run(
        ["find", tmp_path, "-printf", r"file\t%y\t%m\t%u\t%g\t%s\t%T@\t%l\t%p\0"], capture_output=True, check=True
    ).stdout
    facts = Facts.of(found.decode().split("\0"))

    words = f"box={tmp_path}; exec 3>&1; {_function('digest')} digest {tmp_path}/etc/ {single} {tmp_path}/missing"
    said = subprocess.run(["sh", "-euc", words], capture_output=True, check=True, text=True).stdout

    assert facts.digest([f"{tmp_path}/etc/", str(single), f"{tmp_path}/missing"]) == said.strip()


def _function(name: str) -> str:
    """One function of prelude.sh, as it stands there."""
    text = (SHELL / "prelude.sh").read_text()
    start = text.index(f"\n{name}() {{")
    return text[start : text.index("\n}\n", start) + 3]


def test_only_roots_own_staging_places_are_swept() -> None:
    """Below a directory that a site's user owns nothing is root's to remove, whatever its name and owner."""
    owners = {
        "/etc/haproxy": "root",
        "/etc/haproxy/.gatehouse.aB3dE6gH": "root",
        "/etc/haproxy/.gatehouse.aB3dE6gH9": "root",
        "/etc/haproxy/.gatehouse.short": "root",
        "/etc/haproxy/x.gatehouse.aB3dE6gH": "root",
        "/var/www/a.com": "root",
        "/var/www/a.com/.gatehouse.12345678": "root",
        "/var/www/a.com/.gatehouse.planted0": "a-com",
        "/var/www/a.com/public_html": "a-com",
        "/var/www/a.com/public_html/.gatehouse.abcdefgh": "root",
    }
    facts = Facts(files=Files({path: File("d", 0o700, owner, owner, 0, "1.0") for path, owner in owners.items()}))
    facts.files["/etc/.gatehouse.aLinkFil"] = File("l", 0o777, "root", "root", 0, "1.0", "/etc/ssh")

    facts.files["/etc/haproxy/.gatehouse.aB3dE6gH/haproxy.cfg"] = File("f", 0o644, "root", "root", 0, "1.0")

    facts.set_aside()

    gone = {"/etc/haproxy/.gatehouse.aB3dE6gH", "/var/www/a.com/.gatehouse.12345678"}
    assert gone == set(facts.stale)
    assert owners.keys() - gone | {"/etc/.gatehouse.aLinkFil"} == facts.files.keys()


def test_children_are_what_lies_directly_there() -> None:
    names = ("/a/b", "/a/b.conf", "/a/b/c.conf", "/ab/d.conf", "/a", "/a/b\nc.conf")
    facts = Facts(files=Files(dict.fromkeys(names, File("f", 0, "", "", 0, ""))))

    assert ["/a/b", "/a/b\nc.conf", "/a/b.conf"] == facts.children("/a")
    assert ["/a/b\nc.conf", "/a/b.conf"] == facts.children("/a/", ".conf")
