"""The history of /etc: whose doing each entry was, and what an undo makes of one."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

import pytest

from fabfile import history, undo
from fabfile.engine import Guarded
from fabfile.engine.changes import MakeDirectory, PutFile, PutLink, Remove
from fabfile.engine.facts import File, User
from fabfile.model import Refusal

from .recording import Recorded, a_file

COMMIT = "5089ce5" + "0" * 33


def entry(subject: str, *body: str) -> history.Entry:
    lines = [f"entry\t{COMMIT}\t5089ce5\t1795245328\tops", *(f"text\t{text}" for text in (subject, "", *body))]
    return next(history.read(lines))


@pytest.mark.parametrize(
    ("subject", "kind", "task", "who", "end"),
    [
        ("gatehouse bootstrap by ann@laptop", "gatehouse", "bootstrap", "ann@laptop", ""),
        ("gatehouse undo 5089ce5 by ann@laptop (failed)", "gatehouse", "undo 5089ce5", "ann@laptop", "failed"),
        ("gatehouse a run by a@b (broken off: by c@d)", "gatehouse", "a run", "a@b", "broken off: by c@d"),
        ("gatehouse check by a@b since 2026-11-21 06:40:00 UTC: check", "gatehouse", "check", "a@b", ""),
        ('committing changes in /etc made by "apt-get install x"', "apt", "apt-get install x", "ops", ""),
        ("committing changes in /etc after apt run", "apt", "apt run", "ops", ""),
        ("as found before gatehouse bootstrap", "found", "as found before gatehouse bootstrap", "", ""),
        ("daily autocommit", "found", "daily autocommit", "", ""),
        ("raised the limits", "person", "raised the limits", "ops", ""),
    ],
)
def test_whose_doing_it_was(subject: str, kind: str, task: str, who: str, end: str) -> None:
    found = entry(subject)

    assert (kind, task, who, end) == (found.kind, found.task, found.who, found.end)


def test_what_a_run_did_beside_etc_and_from_where() -> None:
    body = ("Gatehouse-Beside: install lego", "Gatehouse-From: 203.0.113.9", f"Gatehouse-Base: {COMMIT}")
    found = entry("gatehouse cert by ann@laptop", *body)

    assert (["install lego"], "203.0.113.9") == (found.beside, found.address)


def test_a_mode_that_changed_is_a_change_although_git_does_not_see_it() -> None:
    lines = [
        f"entry\t{COMMIT}\t5089ce5\t1\tops", "text\tdaily autocommit", "file\tM\tmotd",
        'file\tA\t"a\\303\\244\\"b"',
        "meta\t-chmod 0644 './issue'", "meta\t+chmod 0600 './issue'", "meta\t+chown 'redis' './issue'",
        "meta\t+chmod 0755 'new-directory'",
    ]  # fmt: skip
    [found] = history.read(lines)

    assert [
        ('/etc/aä"b', "new"),
        ("/etc/issue", "mode 0644 -> 0600; owner root -> redis"),
        ("/etc/motd", "changed"),
    ] == [(file.path, file.how) for file in found.files]


def test_an_entry_that_is_not_there_is_refused_with_the_nearest() -> None:
    answer = f"unknown\nentry\t{COMMIT}\t5089ce5\t1795245328\tops\ntext\tgatehouse check by a@b"

    with pytest.raises(Refusal, match=r"(?s)no 5089ce6.*5089ce5  2026-11-21 07:15  gatehouse check"):
        history.known(answer, "5089ce6")


@pytest.mark.parametrize("text", ["HEAD", "-x", "main", "508", "5089CE5", "5089;b", "5089ce5^"])
def test_what_is_no_id_is_refused(text: str) -> None:
    assert "5089" == history.entry_id("5089")
    with pytest.raises(Refusal, match="3f2a1b9"):
        history.entry_id(text)


# ---------------------------------------------------------------------- undo


def blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


NONE = "0" * 40
WAS, IS = b"was\n", b"is\n"


def answer(*lines: str, contents: Iterable[bytes] = (WAS,), subject: str = "gatehouse apache by a@b") -> str:
    """What the host says of an entry."""
    stream = b"".join(b"%s blob %d\n%s\n" % (blob(one).encode(), len(one), one) for one in contents)
    head = (f"entry\t{COMMIT}\t5089ce5\t1795245328\tops", f"text\t{subject}")
    return "\n".join([*head, *lines, "blobs\t" + base64.b64encode(stream).decode()])


def a_host(monkeypatch: pytest.MonkeyPatch, **files: File) -> Recorded:
    users = {"root": User("root", 0, 0, "/root", "/bin/sh"), "redis": User("redis", 9, 9, "/", "")}
    return Recorded(monkeypatch, files={f"/etc/{name}": file for name, file in files.items()}, users=users)


def wishes(host: Recorded, plan: undo.Plan) -> list[object]:
    undo._put_back(host, plan, plan.pieces)
    return list(host._pending)


def test_files_come_back_with_their_modes_and_owners_and_those_that_it_made_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = a_host(monkeypatch, one=a_file(), two=a_file(), link=a_file(kind="l"), dir=a_file(kind="d", mode=0o755))
    text = answer(
        f"raw\t:100644 100644 {blob(WAS)} {blob(IS)} M\tone",
        f"raw\t:000000 100644 {NONE} {blob(IS)} A\ttwo",
        f"raw\t:120000 000000 {blob(b'../there')} {NONE} D\tlink",
        f"raw\t:100644 000000 {blob(WAS)} {NONE} D\tthree",
        "before\tchmod 0640 'one'", "before\tchgrp 'redis' 'one'", "after\tchmod 0644 'one'",
        "before\tchmod 0750 './dir'", "after\tchmod 0755 './dir'",
        contents=(WAS, b"../there"),
    )  # fmt: skip
    plan = undo.read(text, "", host)

    assert [
        PutFile("/etc/one", WAS, 0o640, "root", "redis", "", "changed", secret=True),
        Remove("/etc/two"),
        PutLink("/etc/link", "../there", "", "changed"),
        PutFile("/etc/three", WAS, 0o644, "root", "root"),
        MakeDirectory("/etc/dir", 0o750, "root", "root", "mode 0755 -> 0750"),
    ] == wishes(host, plan)


def test_accounts_and_what_packages_brought_stay_and_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    apt = '437e0f9\tops\tcommitting changes in /etc made by "apt-get install x"'
    text = answer(
        f"raw\t:100644 100644 {blob(WAS)} {blob(IS)} M\tpasswd",
        f"raw\t:000000 100644 {NONE} {blob(IS)} A\tx.conf",
        f"raw\t:000000 100644 {NONE} {blob(IS)} A\tours.conf",
        f"way\t{apt}", "way-name\tpasswd", "way-name\tx.conf",
        "way\t1111111\tops\tgatehouse apache by a@b", "way-name\tours.conf",
    )  # fmt: skip
    plan = undo.read(text, "", a_host(monkeypatch))

    assert ["/etc/ours.conf"] == [piece.path for piece in plan.pieces]
    assert ["what packages brought: /etc/x.conf", "users and groups"] == plan.stays


CHANGED = (
    f"raw\t:100644 100644 {blob(WAS)} {blob(IS)} M\tone",
    "before\tchmod 0644 'one'",
    "after\tchmod 0644 'one'",
    f"now\t{blob(IS)}\tone",
    "since\t7777777\tbob\traised it",
    "since-name\tone",
)
ONE = File("f", 0o644, "root", "root", 3, "1.0")


@pytest.mark.parametrize(
    ("line", "other"),
    [("", ""), (f"now\t{blob(IS)}", f"now\t{blob(b'x')}"), ("after\tchmod 0644", "after\tchmod 0600")],
    ids=["nothing", "content", "mode"],
)
def test_somebody_else_s_work_is_not_gone_over(monkeypatch: pytest.MonkeyPatch, line: str, other: str) -> None:
    host = a_host(monkeypatch, one=ONE)
    plan = undo.read(answer(*CHANGED).replace(line, other), "", host)

    if not line:
        undo._guard(host, plan, plan.pieces)
        return
    with pytest.raises(Guarded, match=r"by somebody else: /etc/one \(7777777, raised it, by bob\)"):
        undo._guard(host, plan, plan.pieces)


def test_a_run_that_installed_packages_is_taken_back_only_by_who_wants_it_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = a_host(monkeypatch, one=ONE)
    plan = undo.read(answer("text\tGatehouse-Beside: install apache2", *CHANGED), "", host)

    with pytest.raises(Guarded, match="5089ce5 did install apache2: that stays"):
        undo._guard(host, plan, plan.pieces)


@pytest.mark.parametrize(
    ("owner", "path", "said"),
    [("gone", "one", "before the user gone went with all it had"), ("root", "iptables/rules.v4", "open to the world")],
)
def test_what_cannot_be_brought_back_is_said(
    monkeypatch: pytest.MonkeyPatch, owner: str, path: str, said: str
) -> None:
    before = f"100644 100644 {blob(WAS)}" if owner == "gone" else f"000000 100644 {NONE}"
    host = a_host(monkeypatch)
    plan = undo.read(answer(f"raw\t:{before} {blob(IS)} M\t{path}", f"before\tchown '{owner}' '{path}'"), "", host)

    with pytest.raises(Guarded, match=said):
        undo._possible(host, plan.pieces, plan)


def test_a_site_that_was_removed_does_not_come_back_by_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    former = b"root:x:0:0::/root:/bin/sh\nshop:x:990:990::/var/www/shop:/bin/false\n"
    text = answer(
        f"raw\t:100644 100644 {blob(former)} {blob(IS)} M\tpasswd",
        f"raw\t:100644 000000 {blob(WAS)} {NONE} D\tapache2/vhost.d/shop.conf",
        contents=(former, WAS),
    )
    host = a_host(monkeypatch)
    plan = undo.read(text, "", host)

    with pytest.raises(Guarded, match="before the user shop went"):
        undo._possible(host, plan.pieces, plan)


def test_every_service_s_files_are_judged_by_its_own_check(monkeypatch: pytest.MonkeyPatch) -> None:
    host = a_host(monkeypatch)
    paths = ("haproxy/haproxy.cfg", "varnish/gatehouse.vcl", "apache2/ports.conf", "php/8.4/fpm/x", "fail2ban/x")
    plan = undo.read(answer(*(f"raw\t:100644 100644 {blob(WAS)} {blob(IS)} M\t{path}" for path in paths)), "", host)

    checks = [wish.check.split()[0] for wish in wishes(host, plan) if isinstance(wish, PutFile)]

    assert ["haproxy", "varnishd", "apache2ctl", "php-fpm8.4", "fail2ban-client"] == checks
