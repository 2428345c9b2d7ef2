"""site.prove-isolation: who attacks whom, and what the host's lines mean."""

from __future__ import annotations

import subprocess

import pytest

from fabfile import isolation
from fabfile.engine import Guarded
from fabfile.isolation.probes import FORMS, Pair, probes, shell
from fabfile.isolation.program import APACHE, CGI, IN_PHP, SHELL, STARTED, UNIT, WAYS, keys, program
from fabfile.model import Refusal

from .recording import Recorded, a_file
from .recording import site as a_site

A, B, C = a_site(), a_site("kiosk.co.test", database=True), a_site("static.test", php=False)
PAIR = Pair(A, B, "gatehouse-proof", "8.4", "canary-0123")
OF_FPM = [way for way in WAYS if way not in (UNIT, STARTED, CGI)]


def lines(got: dict[tuple[str, str], str] | None = None) -> list[str]:
    """A proof in which the other site is denied all that who may gets; but for what is said otherwise."""
    found = []
    for key, one in keys(PAIR).items():
        found += [f"0\t{way}\t{key}\t{(got or {}).get((way, key), 'no')}\tPermission denied" for way in OF_FPM]
        if getattr(one, "may", ""):
            found.append(f"0\t{'root' if one.may == 'root' else 'site'}\t{key}\tgot\t")  # type: ignore[union-attr]
    return [*found, *(f"0\t{way}\tend\tgot\texample-com" for way in OF_FPM), "end"]


def test_every_try_is_called_otherwise_and_can_be_made() -> None:
    names = [f"{one.kind}: {one.name}" for one in probes(PAIR)]

    assert len(names) == len(set(names))
    assert {one.how for one in probes(PAIR)} == {*FORMS, "php"}
    assert len(keys(PAIR)) > 90


def test_the_program_is_shell_and_quotes_what_it_is_told() -> None:
    own = a_site("own.test", runtime="server", command="./x")
    tomcat, cgi = a_site("tomcat.test", runtime="ajp", webapps="w"), a_site("tool.test", runtime="cgi")
    pairs = [(own, A), (C, A), (A, own), (cgi, tomcat), (tomcat, cgi), (a_site("f.test", runtime="fcgid"), own)]
    text = program([PAIR, *(Pair(one, other, "gatehouse-proof", "8.4", "canary-1") for one, other in pairs)])

    assert "" == subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True).stderr
    assert "" == subprocess.run(["sh", "-n"], input=shell(probes(PAIR)), capture_output=True, text=True).stderr


@pytest.mark.parametrize(
    ("keys_", "guises"),
    [
        ({"runtime": "fcgid"}, {SHELL, IN_PHP, STARTED, APACHE}),
        ({"runtime": "cgi"}, {SHELL, STARTED, CGI, APACHE}),
        ({"runtime": "itk"}, {SHELL, IN_PHP, STARTED, APACHE}),
        ({"runtime": "server", "command": "./x"}, {SHELL, UNIT}),
        ({"runtime": "ajp", "webapps": "w"}, {SHELL, UNIT}),
        ({"runtime": "static"}, {SHELL, APACHE}),
    ],
)
def test_the_code_of_each_runtime_tries_where_it_runs(keys_: dict[str, str], guises: set[str]) -> None:
    pair = Pair(a_site("b.test", **keys_), A, "gatehouse-proof", "8.4", "canary-0")

    assert guises == {one.way for one in isolation.judged([pair], ["end"]) if one.result == "untried"}
    assert all(f" {way}\n" in program([pair]) or f" '{way}'\n" in program([pair]) for way in guises - {APACHE})


def test_a_cgi_program_that_was_cut_short_proves_nothing() -> None:
    pair = Pair(a_site("b.test", runtime="cgi"), A, "gatehouse-proof", "8.4", "canary-0")
    said = [f"0\t{CGI}\tfiles: its code\tno\tPermission denied", "end"]

    def untried(lines: list[str]) -> bool:
        return (CGI, "untried") in {(one.way, one.result) for one in isolation.judged([pair], lines)}

    assert untried(said)
    assert not untried([f"0\t{CGI}\tend\tno\tb-test", *said])


def test_a_victim_s_own_programs_are_knocked_at() -> None:
    tomcat = a_site("tomcat.test", runtime="ajp", webapps="w", mounts={"/x": {"runtime": "server", "command": "./x"}})
    names = keys(Pair(A, tomcat, "gatehouse-proof", "8.4", "canary-0"))

    assert {"its program at /", "its program at /x", "its program, by a rule's proxy"} <= {
        name.partition(": ")[2] for name in names if name.startswith("sockets: ")
    }
    assert "the server: the secret of its Tomcat at /" in names


def test_a_proof_that_is_denied_everywhere_has_no_hole() -> None:
    tries = isolation.judged([PAIR], lines())

    assert {"denied"} == {one.result for one in tries}
    assert {*OF_FPM} == {one.way for one in tries}


def test_what_is_got_is_told_by_its_name() -> None:
    tries = isolation.judged([PAIR], lines({(SHELL, "files: its code"): "got"}))

    assert [("files", "its code", SHELL)] == [(one.kind, one.name, one.way) for one in tries if one.result == "reached"]


def test_what_nobody_finds_is_no_denial() -> None:
    said = [line.replace("\tgot\t", "\tno\t") if "\tmail: its mail\t" in line else line for line in lines()]

    absent = {f"{one.kind}: {one.name}" for one in isolation.judged([PAIR], said) if one.result == "absent"}
    assert {"mail: its mail"} == absent


@pytest.mark.parametrize("way", OF_FPM)
def test_a_guise_that_said_nothing_was_not_tried(way: str) -> None:
    said = [line for line in lines() if f"\t{way}\t" not in line]

    assert [(way, "untried")] == [(one.way, one.result) for one in isolation.judged([PAIR], said) if one.way == way]


def test_apache_s_denials_count_only_where_the_page_itself_is_shown() -> None:
    said = [line.replace("end\tgot", "end\tno") for line in lines()]

    assert "untried" in {one.result for one in isolation.judged([PAIR], said) if one.way == APACHE}


def test_each_site_is_attacked_once_and_attacks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, A, B, C, files={f"/etc/apache2/vhost.d/{one}.conf": a_file() for one in (A, B, C)})
    every = {str(one) for one in (A, B, C)}

    pairs = isolation._pairs(host, "", "")

    assert every == {str(pair.victim) for pair in pairs} == {str(pair.attacker) for pair in pairs}
    assert [(C, B)] == [(pair.attacker, pair.victim) for pair in isolation._pairs(host, str(B), str(C))]
    with pytest.raises(Refusal, match="say whom"):
        isolation._pairs(host, "", str(C))
    with pytest.raises(Refusal, match="one site"):
        isolation._pairs(host, str(C), str(C))


def test_one_site_alone_is_a_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Recorded(monkeypatch, A, files={f"/etc/apache2/vhost.d/{A}.conf": a_file()})

    with pytest.raises(Guarded, match="there is none beside it"):
        isolation._pairs(host, "", "")
