"""No accepted value can end a word in Apache, HAProxy, VCL, ini, cron or a shell."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.model import grammars
from fabfile.model.refusal import Wrong

from .conftest import quick

size = grammars.size("16M", "8G")

Check = Callable[[str], object]


@pytest.mark.parametrize(
    ("check", "written", "kept"),
    [
        (size, "128M", "128M"),
        (size, "128m", "128M"),
        (size, "8G", "8G"),
        (size, "16384K", "16384K"),
        (grammars.email, "web.master+x@example.com", "web.master+x@example.com"),
        (grammars.email, "Info@Example.COM", "Info@example.com"),
        (grammars.email, "a@example.com", "a@example.com"),
        (grammars.path_prefix, "/", "/"),
        (grammars.path_prefix, "/wp-admin/", "/wp-admin/"),
        (grammars.path_prefix, "/a/b.php", "/a/b.php"),
        (grammars.cookie_name, "PHPSESSID", "PHPSESSID"),
        (grammars.cookie_name, "__Host-id", "__Host-id"),
        (grammars.php_version, "8.4", "8.4"),
        (grammars.php_version, "8.10", "8.10"),
        (grammars.https_url, "https://acme.example.com:14000/dir", "https://acme.example.com:14000/dir"),
        (grammars.https_url, "https://[fd00::2]:14000/dir", "https://[fd00::2]:14000/dir"),
        (grammars.https_url, "https://pebble/dir", "https://pebble/dir"),
        (grammars.host_alias, "web1", "web1"),
        (grammars.host_alias, "web-1.example.com", "web-1.example.com"),
        (grammars.host_alias, "203.0.113.7", "203.0.113.7"),
    ],
)
def test_a_right_value_is_kept(check: Callable[[str], str], written: str, kept: str) -> None:
    assert check(written) == kept


REFUSED: dict[Check, tuple[str, ...]] = {
    size: (
        "", "128", "128MB", "-1", "0M", "8M", "9G", "1.5G", "128M\n", "128 M", "M", "9999999999G", "\uff11M",
    ),
    grammars.email: (
        "", "x", "@example.com", "x@", "x@localhost", "a b@example.com", "a@b@example.com", '"a"@example.com',
        "-x@example.com", ".x@example.com", "x.@example.com", "x..y@example.com", "x@example.com\n",
        "x@m\u00fcnchen.de", "\u00fc@example.com", "x@10.0.0.1", "x;y@example.com", "x%@example.com", "<x@example.com>",
        "x" * 65 + "@example.com",
    ),
    grammars.path_prefix: (
        "", "admin", "//", "/a//b", "/../etc", "/a/..", "/./a", "/a b", "/a\n", '/a"', "/a;b", "/a{b", "/a%0a", "/a?b",
        "/\u00fc", "/a*", "/" + "a" * 255,
    ),
    grammars.cookie_name: ("", "a b", "a;b", "a=b", "a|b", "a.*", "a\n", "a(", 'a"', "\u00fc", "a" * 129),
    grammars.php_version: ("", "8", "8.4.1", "8.", "8.x", "8.04", "-8.4", "8.4\n", "4.3", "../8.4", "\uff18.4"),
    grammars.https_url: (
        "http://a.com/", "https://", "https://a.com/x?y", "https://a.com/#x", "https://u:p@a.com/", "https://a.com:0/",
        "https://a.com:70000/", "https://a.com/ x", "https://a.com/\n", "https://a.com/$(id)", "file:///etc/passwd",
    ),
    grammars.host_alias: ("", "-oProxyCommand=x", "a b", "ops@web1", "web1:22", "web1\n", "web1.", "a/b", ".."),
    grammars.network: (
        "", "x", "10.0.0.0/33", "0.0.0.0/0", "::/0", "10.0.0.0/7", "203.0.113.7/24", "10.0.0.1 ", "fe80::1%eth0/64",
        "example.com",
    ),
    grammars.address: (
        "", "x", "10.0.0.0/24", "127.0.0.1", "::1", "0.0.0.0", "224.0.0.1", "fe80::1%eth0", "10.0.0.1\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("check", "written"), [(check, text) for check, texts in REFUSED.items() for text in texts])
def test_a_wrong_value_is_refused(check: Check, written: str) -> None:
    with pytest.raises(Wrong) as caught:
        check(written)
    assert caught.value.message.isprintable()


def test_a_network_with_host_bits_offers_both_readings() -> None:
    with pytest.raises(Wrong, match=r"is it 203\.0\.113\.7 or 203\.0\.113\.0/24\?"):
        grammars.network("203.0.113.7/24")


def test_sizes_count_in_1024() -> None:
    assert [grammars.byte_count(text) for text in ("1K", "128M", "2G")] == [1024, 128 * 1024**2, 2 * 1024**3]


RIGHT = ("", "128M", "a@b.com", "/admin/", "PHPSESSID", "8.4", "https://b.com/x", "web1", "10.0.0.1", "fd00::/32")
SHARP = ("\n", " ", ";", "'", '"', "\\", "$(id)", "%", "#", "{", "|")


@pytest.mark.fault("F-35")
@quick
@given(
    st.sampled_from(list(REFUSED)),
    st.sampled_from(RIGHT),
    st.text(max_size=4) | st.sampled_from(SHARP),
    st.sampled_from(RIGHT),
)
def test_f35_no_accepted_value_breaks_out_of_its_line(check: Check, before: str, middle: str, after: str) -> None:
    try:
        kept = str(check(before + middle + after))
    except Wrong:
        return
    assert kept.isascii()
    assert kept.isprintable()
    assert not set(kept) & set(" ;'\"\\$`(){}<>|&*?!#%,=^")
    assert not kept.startswith("-")
