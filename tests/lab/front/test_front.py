"""HAProxy as the Internet sees it, on both releases: names, TLS, headers, refusals. (T1, "HAProxy")"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..lab import Lab
from ..machine import Machine
from .visitor import Visitor

# ---------------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["example.com", "EXAMPLE.com", "example.com:80", "example.com.", "kiosk.test"])
def test_a_known_name_is_led_to_https_with_its_path_and_query(ask: Visitor, name: str) -> None:
    answer = ask(f"http://{ask.host.ip}/a/b?c=d&e", "-H", f"Host: {name}")
    plain = name.lower().removesuffix(":80").rstrip(".")
    assert (answer.status, answer.headers["location"]) == (301, [f"https://{plain}/a/b?c=d&e"])
    assert "strict-transport-security" not in answer.headers


def test_the_challenge_path_leads_to_lego_and_to_nobody_else(ask: Visitor) -> None:
    """Without an order nobody listens there: HAProxy says so itself, at once."""
    for scheme in ("http", "https"):
        answer = ask(f"{scheme}://example.com/.well-known/acme-challenge/x")
        assert (answer.status, answer.cache) == (503, "")


def test_ipv6_and_both_protocols_serve(ask: Visitor) -> None:
    for version in ("--http1.1", "--http2"):
        for address in (ask.host.ip, f"[{ask.host.ip6}]"):
            assert ask("https://example.com/front.php", version, to=address).status == 200


# ---------------------------------------------------------------------- TLS


def test_sslyze_finds_mozillas_intermediate_guideline_kept(host: Machine, lab: Lab) -> None:
    with lab.pointing(host):
        done = subprocess.run(
            [str(Path(sys.executable).parent / "sslyze"), "--mozilla_config=intermediate", "--sni=example.com",
             f"--certinfo_ca_file={lab.ca_bundle}", f"{host.ip}:443"],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert "Compliant." in done.stdout, done.stdout[-3000:]
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("wish", "held"),
    [
        ("-groups X25519", True),
        ("-groups P-256", True),
        ("-groups P-384", True),
        ("-groups P-521", False),
        ("-groups X448", False),
        ("-tls1_2", True),
        ("-tls1_1 -cipher DEFAULT@SECLEVEL=0", False),
        ("-tls1_2 -cipher DHE:kRSA:AES128-SHA:ECDHE+AES+SHA", False),
    ],
)
def test_only_what_the_guideline_names_is_spoken(ask: Visitor, wish: str, held: bool) -> None:
    done = ask.stranger.exec(f"openssl s_client -connect {ask.host.ip}:443 -servername example.com {wish} </dev/null")
    assert ("Server certificate" in done.out) is held, done.out + done.err


def test_the_hybrid_group_is_first_on_debian_13(ask: Visitor) -> None:
    seen = ask.stranger.exec(f"openssl s_client -connect {ask.host.ip}:443 -servername example.com -brief </dev/null")
    assert ("X25519MLKEM768" in seen.out + seen.err) is (ask.host.release == "trixie")


# ---------------------------------------------------------------------- headers


def test_a_writing_request_may_name_its_real_method(ask: Visitor, page: str) -> None:
    """WordPress and others tunnel PUT and DELETE through POST, which is never cached."""
    assert ask(page, "-d", "x=1", "-H", "X-HTTP-Method-Override: PUT").seen["HTTP_X_HTTP_METHOD_OVERRIDE"] == "PUT"


def test_the_number_of_a_request_is_the_one_in_the_log(ask: Visitor, page: str) -> None:
    number = ask(page).seen["HTTP_X_REQUEST_ID"]
    line = ask.host.check(f"journalctl -q -u haproxy -o cat --since -1min | grep {number}")
    assert line.startswith(f"{ask.stranger.ip}:")
    assert " 200 " in line
    assert "{example.com|" in line
    assert "{MISS}" in line


def test_a_site_that_says_so_itself_is_heard(ask: Visitor, page: str) -> None:
    assert ask(f"{page}&frame=DENY").headers["x-frame-options"] == ["DENY"]


def test_an_upload_of_many_buffers_arrives_whole(ask: Visitor, page: str) -> None:
    ask.stranger.check("head -c 5000000 /dev/zero > /tmp/upload")
    for version in ("--http1.1", "--http2"):
        assert ask(page, version, "-H", "Expect:", "--data-binary", "@/tmp/upload").seen["CONTENT_LENGTH"] == "5000000"


def test_a_change_of_protocol_is_not_offered(ask: Visitor, page: str) -> None:
    upgrade = ("-H", "Connection: Upgrade, HTTP2-Settings", "-H", "Upgrade: h2c", "-H", "HTTP2-Settings: AAMAAABk")
    answer = ask(page, "--http1.1", *upgrade)
    assert answer.status == 200
    assert "HTTP_UPGRADE" not in answer.seen
    prior = ask.stranger.curl("--http2-prior-knowledge", "http://example.com/")
    assert prior.rc != 0


# ---------------------------------------------------------------------- on the host


def test_sockets_of_operators_are_roots_and_haproxys(host: Machine) -> None:
    modes = host.check("stat -c '%a %U' /run/haproxy/admin.sock /run/haproxy-master.sock /run/varnish/purge.sock")
    assert modes.split("\n")[:3] == ["660 root", "700 root", "600 root"]
    assert host.exec("ls -l /etc/varnish/secret").out.startswith("-rw------- 1 root root")


def test_both_run_in_a_sandbox_as_users_of_their_own(host: Machine) -> None:
    workers = host.check("ps -C haproxy,cache-main,varnishd -o user=,comm= | sort -u").split("\n")
    assert {line.split()[0] for line in workers if line} == {"haproxy", "root", "vcache"}
    for unit, ceiling in (("haproxy", 4.0), ("varnish", 4.5)):
        told = host.check(f"systemd-analyze security --no-pager {unit} | tail -n 1")
        assert float(re.findall(r"\d+\.\d+", told)[0]) <= ceiling, told


def test_after_a_reboot_varnish_listens_before_haproxy_asks(host: Machine) -> None:
    host.restart()
    order = host.check("systemctl show -p ActiveEnterTimestampMonotonic --value varnish haproxy").split()
    assert int(order[0]) <= int(order[1])
    said = host.check("journalctl -q -u haproxy -o cat --since -1min | grep -c 'varnish is DOWN' || :")
    assert said == "0\n"


def test_on_call_the_servers_are_told_in_a_moment(host: Machine) -> None:
    done = host.fab("haproxy.servers", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["server"]: row for row in json.loads(done.stdout)}
    assert (rows["varnish/varnish"]["status"], rows["varnish/varnish"]["weight"]) == ("UP", 100)
    assert "acme/lego" in rows


def test_again_nothing_changes(host: Machine) -> None:
    done = host.fab("haproxy", "varnish")
    assert done.returncode == 0
    assert re.findall(r" 0 changed, 0 failed", done.stdout) == [" 0 changed, 0 failed"] * 2
