"""A site comes, gets releases, rests and goes; its neighbours notice nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .corner import ask, status
from .lab import Lab
from .machine import CHECKOUT, Machine, Stranger
from .shop import DOMAIN, OWNER, ROOT, Shop, opened, visiting

NEIGHBOURS = "example.com/", "kiosk.co.test/"
BROKEN = "<?php\nnobody_made_this();\n"


@pytest.fixture(scope="module", params=["vps", pytest.param("vps12", marks=pytest.mark.demand)])
def made(
    request: pytest.FixtureRequest, lab: Lab, stranger: Stranger, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    host: Machine = request.getfixturevalue(request.param)
    with lab.pointing(host), opened(lab, host, stranger, tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def shop(made: Shop) -> Shop:
    """shop.test, which serves the version `one`."""
    made.says()
    if made.host.exec(f"test -d {ROOT}").rc:
        made.done("site.apply", DOMAIN)
    if made.get() != "200 one":
        assert 0 == made.deploy("one").returncode
    return made


def test_a_site_is_applied_and_no_other_is_touched(made: Shop) -> None:
    kiosk = made.directory / "sites" / "kiosk.co.test.yml"
    former = kiosk.read_text()
    look = "find /etc/apache2 /etc/php /etc/gatehouse/certs -name '*kiosk*' -printf '%p %T@\\n' | sort"
    before = made.host.check(look)
    try:
        kiosk.write_text(former + "php:\n  children: 3\n")  # somebody is at work on it
        told = made.done("site.apply", DOMAIN)
    finally:
        kiosk.write_text(former)

    assert " 0 changed, 0 failed" in told
    assert before == made.host.check(look)
    assert "This site is being prepared." in made.get("/")
    assert {"domain": DOMAIN, "state": "served", "user": OWNER}.items() <= next(
        row for row in json.loads(made.done("site.list", "--json")) if row["domain"] == DOMAIN
    ).items()


def test_releases_change_under_visitors_and_none_is_lost_or_late(shop: Shop) -> None:
    """Every page asks all the time: of PHP uncached, of PHP in Varnish, a file in Varnish; and both neighbours."""
    pages = [f"{DOMAIN}/{page}" for page in ("version.php", "", "version.txt", "index.php?x=1")]
    with visiting(shop.stranger, shop.host, *pages, *NEIGHBOURS) as visits:
        time.sleep(1)
        assert 0 == shop.deploy("two").returncode
        time.sleep(0.5)
    with visiting(shop.stranger, shop.host, *pages, *NEIGHBOURS) as back:
        time.sleep(0.5)
        shop.done("site.rollback", DOMAIN)
        time.sleep(0.5)

    for seen, old, new in ((visits, "one", "two"), (back, "two", "one")):
        assert [] == seen.failed()
        for page in pages:
            assert {f"200 {old}", f"200 {new}"} == {said for what, _, _, said in seen.seen if what == page}, page
            assert [] == seen.stale(page, old, new), page


def test_a_small_change_is_a_small_transfer_and_what_is_shared_stays(shop: Shop) -> None:
    shop.says("deploy:\n  shared: [uploads, .env]\n  keep: 2\n")
    big = "".join(f"{number * 7919 % 1_000_003} " for number in range(60_000))
    assert 0 == shop.deploy("three", big_txt=big, uploads__first_txt="first", _env="SECRET=1").returncode
    shop.host.check(f"echo theirs > {ROOT}/public_html/_/uploads/visitor.txt", user=OWNER)

    told = shop.deploy("four", big_txt=big + "x", uploads__first_txt="other")

    assert 0 == told.returncode, told.stderr
    sent = re.search(r"files, ([\d.,]+)(K?) bytes sent", told.stdout)
    assert sent
    assert float(sent[1].replace(",", "")) * (1000 if sent[2] else 1) < 20_000, told.stdout
    assert "200 theirs\n" == shop.get("/uploads/visitor.txt")
    assert "200 first" == shop.get("/uploads/first.txt")
    assert "SECRET=1" == shop.host.check(f"cat {ROOT}/public_html/_app/.env")
    assert "403" == shop.get("/.env")[:3]
    assert 2 == len(shop.releases())
    assert f"{OWNER}\n" == shop.host.check(f"find -L {ROOT}/public_html/ {ROOT}/shared/ -printf '%u\\n' | sort -u")


def test_a_release_that_does_not_answer_goes_back_by_itself_and_says_whose_fault_it_is(shop: Shop) -> None:
    former = shop.serves()

    told = shop.deploy("five", index_php=BROKEN)

    assert 1 == told.returncode
    assert "answered 500, and 200 is expected" in told.stderr
    assert f"{former} serves again" in told.stderr
    assert "Call to undefined function nobody_made_this()" in told.stderr
    assert f"fab -H {shop.host.name} site.deploy {DOMAIN} --source" in told.stderr
    assert former == shop.serves()
    assert "200 one" == shop.get()
    assert ["unfinished", False] == [shop.releases()[0][key] for key in ("source", "serves")]


@pytest.mark.demand
def test_commands_are_the_site_s_and_bounded(shop: Shop) -> None:
    lines = [
        "id -un > who.txt; pwd >> who.txt; test ! -r /etc/gatehouse/secrets",
        'test "$HOME" = /var/www/shop.test && php -r "file_put_contents(\'made.txt\', 6 * 7);"',
    ]
    shop.says("deploy:\n  before:\n" + "".join(f"    - {json.dumps(line)}\n" for line in lines))
    told = shop.deploy("six")
    assert 0 == told.returncode, told.stdout + told.stderr
    assert f"200 {OWNER}\n{ROOT}/releases/{shop.serves()}/_app\n" == shop.get("/who.txt")
    assert "200 42" == shop.get("/made.txt")
    former = shop.serves()

    shop.says("deploy:\n  timeout: 1\n  before:\n    - echo half a word; (sleep 777 &) ; sleep 778\n")
    told = shop.deploy("seven")

    assert 1 == told.returncode
    assert "half a word" in told.stderr
    assert "(it may take 1 s and 640 MB): echo half a word" in told.stderr
    assert former == shop.serves()
    assert 1 == shop.host.exec("pgrep -f 'sleep 77[78]'").rc


@pytest.mark.parametrize("moment", ["the files travel", pytest.param("a command runs", marks=pytest.mark.demand)])
def test_a_deploy_that_is_cut_off_leaves_the_former_release(shop: Shop, moment: str) -> None:
    """The controller is killed; the next deploy sweeps up."""
    former, source = shop.serves(), shop.source("eight")
    if moment == "a command runs":
        shop.says('deploy:\n  before: ["touch begun; sleep 4"]\n')
        sign = "begun"
    else:
        with (Path(source) / "large").open("wb") as large:
            large.truncate(400 << 20)
        sign = ".large.*"
    fab = Path(sys.executable).parent / "fab"
    line = [str(fab), "-S", f"{shop.directory}/ssh_config", "-H", shop.host.name]
    line += ["site.deploy", DOMAIN, "--source", source]
    nowhere = subprocess.DEVNULL
    run = subprocess.Popen(line, cwd=CHECKOUT, stdout=nowhere, stderr=nowhere, start_new_session=True)
    try:
        shop.host.check(f"for i in $(seq 300); do ls -A {ROOT}/releases/*/_app/{sign} && exit; sleep 0.1; done; exit 1")
        os.killpg(run.pid, signal.SIGKILL)
    finally:
        run.kill()
        run.wait()
    half = next(one["id"] for one in shop.releases() if one["source"] == "unfinished")

    assert former == shop.serves()
    assert "200 one" == shop.get()
    shop.says()
    shop.host.check("timeout 60 flock /run/gatehouse.lock true")  # what the host is at, it ends by itself
    assert former == shop.serves()
    assert 0 == shop.deploy("nine").returncode
    assert "200 nine" == shop.get()
    assert half not in [one["id"] for one in shop.releases()]
    assert 1 == shop.host.exec(f"test -e {ROOT}/releases/{half}").rc


@pytest.mark.demand
def test_public_html_of_an_earlier_gatehouse_becomes_a_release_without_a_gap(shop: Shop) -> None:
    public = f"{ROOT}/public_html"
    shop.host.check(f"cp -aL {public}/. {ROOT}/was && rm {public} && mv {ROOT}/was {public}")
    shop.host.check(f"chown -h {OWNER}:www-data {public}")
    assert "200 one" == shop.get()

    with visiting(shop.stranger, shop.host, f"{DOMAIN}/version.php", f"{DOMAIN}/", *NEIGHBOURS) as visits:
        time.sleep(0.5)
        told = shop.deploy("ten")
        time.sleep(0.5)

    assert 0 == told.returncode, told.stderr
    assert [] == visits.failed()
    assert [] == visits.stale(f"{DOMAIN}/version.php", "one", "ten")
    assert "200 ten" == shop.get()
    shop.done("site.rollback", DOMAIN)
    assert "200 one" == shop.get()
    assert "what public_html was" in next(str(one["source"]) for one in shop.releases() if one["serves"])


def test_a_suspended_site_says_so_alone_and_comes_back(shop: Shop) -> None:
    assert "200 one" == shop.get("/")
    assert "200 one" == shop.get("/")  # of the cache
    try:
        with visiting(shop.stranger, shop.host, f"{DOMAIN}/", *NEIGHBOURS) as visits:
            time.sleep(0.5)
            shop.done("site.suspend", DOMAIN)
            time.sleep(0.5)
        head = shop.stranger.curl("--head", f"https://{DOMAIN}/", to=shop.host).out
        challenge = shop.get("/.well-known/acme-challenge/x")
        refused = shop.deploy("eleven")
        again = shop.fab("check")
        renewed = shop.fab("cert.renew", DOMAIN, "--force")
    finally:
        shop.done("site.resume", DOMAIN)

    assert [] == [one for one in visits.failed() if not re.match(f"{DOMAIN}/: 503 <!DOCTYPE html>", one)]
    assert "HTTP/2 503" in head
    assert "retry-after: 600" in head
    assert "Down for maintenance" not in challenge
    assert (2, True) == (refused.returncode, f"next:  fab -H {shop.host.name} site.resume {DOMAIN}" in refused.stderr)
    assert 0 == again.returncode, again.stdout
    assert 0 == renewed.returncode, renewed.stdout + renewed.stderr
    assert "200 one" == shop.get()


def test_bad_input_is_refused_with_the_right_candidates(shop: Shop) -> None:
    source, serves = shop.source("twelve"), shop.releases()
    here = next(str(one["id"]) for one in serves if one["serves"])
    for words, told in {
        ("site.deploy", "shpo.test", "--source", source): DOMAIN,
        ("site.deploy", DOMAIN, "--source", f"{source}/index.php"): "is not a directory",
        ("site.rollback", DOMAIN, "--to", "20010101-000000"): here,
        ("site.remove", "nobody.test", "--yes"): "without a file in sites/",
    }.items():
        refused = shop.fab(*words)
        assert (2, True) == (refused.returncode, told in refused.stderr), (words, refused.stderr)
    assert 3 == shop.fab("site.remove", DOMAIN, "--yes").returncode, "its file is there"
    assert serves == shop.releases()


def test_a_site_goes_for_good_once_its_file_is_gone_and_all_of_it_is_kept(shop: Shop) -> None:
    (shop.directory / "sites" / f"{DOMAIN}.yml").unlink()
    with visiting(shop.stranger, shop.host, *NEIGHBOURS) as visits:
        asked = shop.fab("site.remove", DOMAIN)
        left = next(row for row in json.loads(shop.done("site.list", "--json")) if row["domain"] == DOMAIN)
        told = shop.done("site.remove", DOMAIN, "--yes")
    archive = re.search(r"/var/backups/gatehouse/\S+\.tar\.gz", told)
    assert archive
    kept = shop.host.check(f"stat -c '%a %U' {archive[0]}; tar -tzf {archive[0]}")
    found = shop.host.check(
        f"find / -xdev '(' -path /etc/.git -o -path /proc -o -path '/var/lib/gatehouse/former*' ')' -prune -o "
        f"'(' -name '*{DOMAIN}*' -o -name '*{OWNER}*' ')' ! -path '/var/backups/*' -print"
    )
    named = shop.host.check(f"grep -rlF -e {DOMAIN} -e {OWNER} /etc --exclude-dir=.git --exclude='*-' || :")

    assert (3, True) == (asked.returncode, "--yes" in asked.stderr)
    assert "served" == left["state"] or "gone" == left["state"]
    assert "600 root\n" == kept[:9]
    assert re.search(rf"^{DOMAIN}/releases/\d+-\d+/_app/version\.php$", kept, re.MULTILINE)
    assert "" == found
    assert "" == named
    assert [] == visits.failed()
    assert 200 == status(ask(shop.host, "kiosk.co.test", "/"))
