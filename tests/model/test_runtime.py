"""What runs a site's code: what is taken, what is gone, and what contradicts itself or another site of the host."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fabfile.model import GONE, RUNTIMES, Refusal, Site, find_fleet, load_sites
from fabfile.model.document import read

Write = Callable[..., Path]

WHOLE = {
    "fpm": "",
    "fcgid": "",
    "cgi": "php: false\n",
    "itk": "",
    "server": "command: exec ./serve --socket $LISTEN\n",
    "scgi": "command: exec ./serve --socket $LISTEN\nlisten: 10090\n",
    "ajp": "webapps: webapps\n",
    "static": "php: false\n",
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Site files by domain, and perhaps a fleet.yml; returns where they lie."""

    def do(fleet: str = "", **sites: str) -> Path:
        (tmp_path / "sites").mkdir()
        for name, text in sites.items():
            (tmp_path / "sites" / f"{name}.test.yml").write_text(f"domain: {name}.test\n{text}")
        if fleet:
            (tmp_path / "fleet.yml").write_text(fleet)
        return tmp_path

    return do


def refused(directory: Path) -> str:
    with pytest.raises(Refusal) as caught:
        find_fleet(cwd=directory)
    assert 2 == caught.value.exit_code
    return str(caught.value).replace(f"{directory}/", "")


@pytest.mark.parametrize("word", RUNTIMES)
def test_every_runtime_is_one_key(write: Write, word: str) -> None:
    (site,) = load_sites(write(a=f"runtime: {word}\n{WHOLE[word]}") / "sites")

    assert [(word, "/")] == [(zone.runtime, zone.path) for zone in site.zones]
    assert (word in ("fpm", "fcgid", "itk")) == (site.php is not None)


def test_without_the_key_it_is_php_fpm_or_without_php_no_code(write: Write) -> None:
    a, b = load_sites(write(a="", b="php: false\n") / "sites")

    assert ("fpm", "static") == (a.runtime, b.runtime)


def test_paths_of_one_site_may_have_runtimes_of_their_own() -> None:
    site = Site.model_validate(
        {
            "domain": "a.test",
            "mounts": {
                "/wiki/": {"runtime": "scgi", "command": "exec ./wiki"},
                "/wiki-2/x": {"runtime": "server", "command": "exec ./x", "listen": 10090},
                "/wiki/2-x": {"runtime": "cgi"},
            },
        }
    )

    assert [
        ("/", "fpm", "_", None), ("/wiki", "scgi", "wiki", None), ("/wiki-2/x", "server", "wiki--2-x", 10090),
        ("/wiki/2-x", "cgi", "wiki-2--x", None),
    ] == [(zone.path, zone.runtime, zone.name, zone.port) for zone in site.zones]  # fmt: skip
    assert "/run/gatehouse/a-test/wiki.sock" == site.zones[1].socket
    assert site.has("cgi")
    assert not site.has("static")


@pytest.mark.parametrize("word", GONE)
def test_what_is_gone_says_since_when_why_and_what_takes_its_place(write: Write, word: str) -> None:
    why, instead = GONE[word]

    said = refused(write(a=f"runtime: {word}\n"))

    assert said.startswith(f"sites/a.test.yml:2: runtime: {word} is gone: ")
    assert f"{instead} takes its place\n  for example:  runtime: {instead}" in said
    assert re.search(r"\b(19|20)\d\d\b|2[.][024]", why), "since when"


CONTRADICTIONS = {
    "runtime: fpm\nphp: false\n": ("a.test.yml:2: runtime: fpm runs PHP", "php: {}"),
    "php: {upload_limit: 64M}\nlimits: {tmp_mb: 32}\n": ("a.test.yml:3: limits.tmp_mb: is less than", "tmp_mb: 128"),
    "runtime: static\nphp: {children: 3}\n": ("a.test.yml:3: php: is how PHP runs, and none does", "php: false"),
    "runtime: server\n": ("a.test.yml:2: runtime: server is a program of the site's own", "command: exec ./serve"),
    "runtime: ajp\n": ("a.test.yml:2: runtime: ajp is Tomcat", "webapps: webapps"),
    "command: exec ./x\n": ("a.test.yml:2: command: is for server and scgi, and this is fpm", "runtime: server"),
    "listen: 10090\n": ("a.test.yml:2: listen: is for server, scgi and ajp", "runtime: server"),
    "webapps: w\n": ("a.test.yml:2: webapps: is for ajp, and this is fpm", "runtime: ajp"),
    "writable: [cache]\n": ("a.test.yml:2: writable: is for programs of the site's own", ""),
    "runtime: modphp\n": ("a.test.yml:2: runtime: must be one of fpm, fcgid", "runtime: fcgid"),
    "listen: 80\n": ("a.test.yml:2: listen: must be a port from 10000 to 19999", "listen: 10090"),
    "mounts:\n  /: {runtime: cgi}\n": ("a.test.yml:3: mounts./: / is the site itself", "mounts:"),
    "mounts:\n  wiki: {runtime: cgi}\n": ("a.test.yml:3: mounts.wiki: must be a path", "mounts:"),
    "mounts:\n  /a/../b: {runtime: cgi}\n": ("a.test.yml:3: mounts./a/../b: must be a path", "mounts:"),
    "mounts:\n  /a: {runtime: cgi}\n  /a/: {runtime: fpm}\n": ("a.test.yml:4: mounts./a/: /a is", "mounts:"),
    "mounts:\n  /a: cgi\n": ("a.test.yml:3: mounts./a: /a must be keys such as runtime", "mounts:"),
    "mounts:\n  /a: {}\n": ("a.test.yml:3: mounts./a.runtime: is missing", "runtime: fcgid"),
    "mounts:\n  /a/:\n    runtime: scgi\n": ("a.test.yml:4: mounts./a/.runtime: scgi is a program", "command: exec"),
    "mounts:\n  /a: {runtime: itk}\n": ("a.test.yml:3: mounts./a.runtime: itk is chosen for a whole site", "fcgid"),
    "runtime: itk\nmounts:\n  /a: {runtime: cgi}\n": ("a.test.yml:4: mounts./a.runtime: an itk site has", "static"),
    "php: false\nmounts:\n  /a: {runtime: fpm}\n": ("a.test.yml:4: mounts./a.runtime: fpm runs PHP", "php: {}"),
}


@pytest.mark.parametrize("text", CONTRADICTIONS)
def test_what_contradicts_itself_is_refused(write: Write, text: str) -> None:
    place, example = CONTRADICTIONS[text]

    said = refused(write(a=text))

    assert said.startswith(f"sites/{place}")
    assert example in said


def test_two_programs_may_have_one_port(write: Write) -> None:
    """Each has a loopback of its own."""
    scgi = "runtime: scgi\ncommand: exec ./x\nlisten: 10090\n"

    assert 2 == len(load_sites(write(a=scgi, b=scgi) / "sites"))


# ---------------------------------------------------------------------- ITK and the others


def test_itk_beside_event_is_refused_without_a_fleet(write: Write) -> None:
    said = refused(write(a="runtime: itk\n", b=""))

    assert said.startswith("sites/a.test.yml:2: runtime: itk wants Apache's prefork MPM, and b.test on the same")
    assert "(sites/b.test.yml:1)" in said
    assert "without fleet.yml all sites are on one host" in said


@pytest.mark.parametrize("other", ["fcgid", "cgi", "fpm"])
def test_itk_beside_event_on_a_host_names_one_that_could_take_it(write: Write, other: str) -> None:
    sites = {"a": "runtime: itk\nhosts: [web1]\n", "b": f"runtime: {other}\n{WHOLE[other]}hosts: [web1]\n"}

    said = refused(write(fleet="hosts: {web1: {}, web2: {}}\n", **sites))

    assert "b.test on web1 is " + other in said
    assert "; web2 could take it\n  for example:  hosts: [web2]" in said


def test_itk_that_no_host_could_take_says_so(write: Write) -> None:
    said = refused(write(fleet="hosts: {web1: {}, web2: {}}\n", a="runtime: itk\nhosts: [web1]\n", b=""))

    assert "no host of fleet.yml could take it: add one, and name it here as hosts" in said


@pytest.mark.parametrize("beside", ["itk", "static", "server", "scgi", "ajp"])
def test_itk_may_have_beside_it_what_needs_no_other_apache(write: Write, beside: str) -> None:
    directory = write(a="runtime: itk\n", b=f"runtime: {beside}\n{WHOLE[beside]}")

    assert 2 == len(find_fleet(cwd=directory).all_sites)


def test_itk_and_event_on_two_hosts_are_taken(write: Write) -> None:
    fleet = "hosts: {web1: {}, web2: {}}\n"

    found = find_fleet(cwd=write(fleet=fleet, a="runtime: itk\nhosts: [web1]\n", b="hosts: [web2]\n"))

    assert ["itk"] == [site.runtime for site in found.sites_for("web1")]


def test_the_example_names_every_runtime() -> None:
    text = (Path(__file__).parents[2] / "sites" / "example.com.yml").read_text()
    said = text[text.index("runtime: fpm") : text.index("command: null")]

    assert read(Path(__file__).parents[2] / "sites" / "example.com.yml").data
    assert {*RUNTIMES} <= {*re.findall("[a-z]+", said)}
