"""Sites' own programs on a lab host: servers, SCGI and Tomcat under the site's user; T4's "Multiple web servers"."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Bare
from .corner import A, as_user
from .lab import Lab
from .machine import Stranger
from .runtimes import SERVE
from .shop import DOMAIN, OWNER, ROOT, Shop, bootstrapped, opened, visiting

Seen = Callable[[str], None]

PROGRAMS = {
    "serve_py": SERVE,
    "apps__id_sh": "id -un",
    "apps__code_sh": "touch version.txt 2> /dev/null && echo writes; touch cache/x $TMPDIR/x && echo writes its own",
    "apps__little_sh": "python3 -c 'print(len(bytes(100 << 20).replace(bytes(1), b\"x\")))'",
    "apps__much_sh": "python3 -c 'print(len(bytes(700 << 20).replace(bytes(1), b\"x\")))'",
    "apps__busy_sh": "for n in 1 2; do timeout 2 sh -c 'while :; do :; done' & done; wait; echo busy",
    "cache__keep_txt": "x",
}
THROTTLED = "find /sys/fs/cgroup/ -path '*/gatehouse-shop:test.slice/cpu.stat' -exec sed -n 's/^nr_throttled //p' {} +"
OWN = """
runtime: server
command: exec python3 serve.py http
writable: [cache]
mounts:
  /wiki: {runtime: scgi, command: exec python3 serve.py scgi}
  /blog: {runtime: server, command: exec python3 serve.py http, listen: 10090}
"""


@pytest.fixture(params=["trixie", "bookworm"])
def shop(
    request: pytest.FixtureRequest, lab: Lab, bare: Bare, stranger: Stranger, tmp_path: Path
) -> Iterator[Shop]:
    host = bootstrapped(lab, bare(request.param))
    with lab.pointing(host), opened(lab, host, stranger, tmp_path) as shop:
        yield shop


@pytest.mark.demand
def test_a_site_s_own_programs_run_as_its_user_and_change_places_without_a_lost_request(shop: Shop, seen: Seen) -> None:
    assert 0 == shop.deploy("one", **PROGRAMS).returncode
    with visiting(shop.stranger, shop.host, f"{DOMAIN}/version.php", "example.com/") as visits:
        shop.says(OWN + "deploy: {smoke: /version}\n")
        shop.done("site.apply", DOMAIN)
        shop.says()
        shop.done("site.apply", DOMAIN)
        shop.says(OWN + "deploy: {smoke: /version}\n")
        shop.done("site.apply", DOMAIN)
    assert [] == visits.failed(), "fpm, server, fpm, server"

    for place in ("", "/wiki", "/blog"):
        assert f"200 {OWNER}\n" == shop.get(f"{place}/id"), place
        as_user(shop.host, OWNER, f"echo echo dropped > {ROOT}/public_html/_app/apps/new.sh")
        assert "200 dropped\n" == shop.get(f"{place}/new"), "a new program answers with no reload"
        assert "200 writes its own\n" == shop.get(f"{place}/code")
        as_user(shop.host, OWNER, f"rm {ROOT}/public_html/_app/apps/new.sh")
    sockets = shop.host.check(f"find /run/gatehouse/{OWNER} -type s").split()
    assert 3 == len(sockets)
    knock = "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Peer => shift) or die \"$!\\n\"'"
    assert [1, 1, 1] == [as_user(shop.host, A, f"{knock} {path} 2>&1 | grep denied && exit 1").rc for path in sockets]
    assert 0 != as_user(shop.host, A, "bash -c 'exec 3<> /dev/tcp/127.0.0.1/10090'").rc
    slices = shop.host.check("systemctl show -p MemoryMax,TasksMax,CPUQuotaPerSecUSec gatehouse-shop:test.slice")
    assert {"MemoryMax=536870912", "TasksMax=128", "CPUQuotaPerSecUSec=1s"} == {*slices.split()}
    assert ["200 104857600\n", "200 "] == [shop.get("/little"), shop.get("/much")], "the kernel ends who takes too much"
    before = max(map(int, shop.host.check(THROTTLED).split()))
    assert "200 busy\n" == shop.get("/busy")
    assert max(map(int, shop.host.check(THROTTLED).split())) > before, "two busy programs have one processor's time"
    assert f"200 {OWNER}\n" == shop.get("/id")

    pages = [f"{DOMAIN}{place}/version" for place in ("", "/wiki", "/blog")]
    with visiting(shop.stranger, shop.host, *pages) as visits:
        told = shop.deploy("two", **PROGRAMS)
        assert 0 == told.returncode, told.stdout + told.stderr
    assert [] == visits.failed()
    assert {"200 one", "200 two"} == {said for *_, said in visits.seen}
    assert [[], [], []] == [visits.stale(page, "one", "two") for page in pages]
    broken = shop.deploy("three", **PROGRAMS | {"serve_py": "exit(1)"})
    assert 1 == broken.returncode
    assert "200 two" == shop.get("/version"), "what does not start does not serve"
    kept = shop.done("site.apply", DOMAIN)
    assert not re.search(r"changed  runtime", kept), kept

    shop.says()
    shop.done("site.apply", DOMAIN)
    assert "" == shop.host.check("systemctl list-units --all --plain --no-legend 'gatehouse-shop-test:*'")
    assert "200 two" == shop.get("/version.php")
    seen(f"{len(visits.seen)} requests during a deploy, none lost; programs are {OWNER} in three ways")
