"""A domain is a name that every layer can hold, in one spelling; everything else is refused with its reason."""

# ruff: noqa: RUF001  (look-alikes are what is tested here)

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.model.names import SUFFIXES, both_forms, host_name, site_domain, subdomain, unicode_form
from fabfile.model.refusal import Wrong

from .conftest import quick

LABEL63 = "a" * 63


@pytest.mark.fault("F-37")
@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("example.com", "example.com"),
        ("Example.COM", "example.com"),
        ("site-1.example.test", "site-1.example.test"),
        ("4chan.org", "4chan.org"),
        ("1.2.3.4.com", "1.2.3.4.com"),
        (f"{LABEL63}.com", f"{LABEL63}.com"),
        ("sub.example.co.uk", "sub.example.co.uk"),
        ("münchen.de", "xn--mnchen-3ya.de"),
        ("MÜNCHEN.de", "xn--mnchen-3ya.de"),
        (unicodedata.normalize("NFD", "münchen.de"), "xn--mnchen-3ya.de"),
        ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("XN--MNCHEN-3YA.de", "xn--mnchen-3ya.de"),
        ("straße.de", "xn--strae-oqa.de"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("президент.рф", "xn--d1abbgf6aiiy.xn--p1ai"),
        ("ｅｘａｍｐｌｅ．com", "example.com"),
        ("נ.קום", "xn--leb.xn--9dbq2a"),
    ],
)
def test_f37_a_name_is_kept_in_one_spelling(written: str, kept: str) -> None:
    assert host_name(written) == kept


def refuses(written: str, reason: str) -> None:
    with pytest.raises(Wrong) as caught:
        host_name(written)
    assert reason in caught.value.message
    assert caught.value.message.isprintable()


SHELL = [
    ("a;reboot.com", 'it holds ";"'),
    ("$(id).com", 'it holds "$"'),
    ("`id`.com", 'it holds "`"'),
    ("a|b.com", 'it holds "|"'),
    ("a&b.com", 'it holds "&"'),
    ("a b.com", "it holds a space"),
    ("a'b.com", 'it holds "\'"'),
    ('a"b.com', "it holds a double quote"),
    ("a\\b.com", 'it holds "\\\\"'),
    ("example.com\n", "it holds a newline"),
    ("a\nb.com", "it holds a newline"),
    ("a\0b.com", "it holds U+0000"),
    ("a{{ 7*7 }}.com", "it holds a space"),
    ("a%0ab.com", 'it holds "%"'),
    ("-rf.com", "must not begin or end with a hyphen"),
    ("--help.com", "must not begin or end with a hyphen"),
    ("a-.com", "must not begin or end with a hyphen"),
]


@pytest.mark.fault("F-33")
@pytest.mark.parametrize(("written", "reason"), SHELL)
def test_f33_what_a_shell_would_read_is_no_name(written: str, reason: str) -> None:
    refuses(written, reason)


PATHS = [
    ("../../etc", "an empty label"),
    ("a/../../b.com", "an empty label"),
    ("a/b.com", 'it holds "/"'),
    (".example.com", "an empty label"),
    ("a..com", "an empty label"),
    (".", "without the dot at the end"),
    ("/etc/passwd.com", 'it holds "/"'),
    ("example.com/", 'it holds "/"'),
    ("..", "without the dot at the end"),
    ("a.com/../b.com", "an empty label"),
]


@pytest.mark.fault("F-34")
@pytest.mark.parametrize(("written", "reason"), PATHS)
def test_f34_a_path_is_no_name(written: str, reason: str) -> None:
    refuses(written, reason)


FOREIGN = [
    ("a\u200bb.com", "it holds U+200B (zero width space)"),
    ("a\u00adb.com", "it holds U+00AD (soft hyphen)"),
    ("a\u202eb.com", "it holds U+202E (right-to-left override)"),
    ("a\u00a0b.com", "it holds U+00A0 (no-break space)"),
    ("a。。com", "IDNA2008 refuses it"),
    ("ü" * 60 + ".com", "IDNA2008 refuses it"),
    ("ab--cd.com", "-- in its third and fourth place"),
    ("xn--.com", "must not begin or end with a hyphen"),
    ("xn--a.com", "not a valid A-label"),
    ("xn--example.com", "not a valid A-label"),
    ("xn--1ug.com", "not a valid A-label"),
    ("😀.com", "IDNA2008 refuses it"),
    ("℀.com", "IDNA2008 refuses it"),
    ("a\u200db.com", "IDNA2008 refuses it"),
    ("p\u0430ypal.com", "mixes Cyrillic and Latin letters"),
    ("\u03bf\u0430.com", "mixes Cyrillic and Greek letters"),
    ("xn--pypal-4ve.com", "mixes Cyrillic and Latin letters"),
]


@pytest.mark.fault("F-37")
@pytest.mark.parametrize(("written", "reason"), FOREIGN)
def test_f37_look_alikes_and_invisible_letters_are_no_name(written: str, reason: str) -> None:
    refuses(written, reason)


SPECIAL_NAMES = [
    ("", "is empty"),
    ("exa_mple.com", 'it holds "_"'),
    ("example.com.", "without the dot at the end"),
    ("*.example.com", "name each subdomain"),
    ("http://example.com", "without http://"),
    ("example.com:8080", "without a port"),
    ("localhost", "one label only"),
    ("com", "one label only"),
    ("a.localhost", ".localhost is reserved"),
    ("a.invalid", ".invalid is reserved"),
    ("printer.local", ".local is reserved"),
    ("a.onion", ".onion is reserved"),
    ("1.168.192.in-addr.arpa", ".arpa is reserved"),
    ("192.168.1.1", "an IP address"),
    ("2001:db8::1", "an IP address"),
    ("[::1]", "an IP address"),
    ("127.1", '"1" cannot be a top-level domain'),
    ("１２７.0.0.1", '"1" cannot be a top-level domain'),
    ("0x7f.0x1", '"0x1" cannot be a top-level domain'),
    ("example.c", '"c" cannot be a top-level domain'),
    ("co.uk", "a public suffix"),
    ("CO.UK", "a public suffix"),
    ("github.io", "a public suffix"),
    (f"a{LABEL63}.com", "at most 63 characters, not 64"),
    (f"{LABEL63}." * 4 + "com", "a host name at most 253"),
    ("x" * 100_000, "has 100000 characters"),
]


@pytest.mark.fault("F-38")
@pytest.mark.parametrize(("written", "reason"), SPECIAL_NAMES)
def test_f38_a_name_that_no_site_can_have_is_refused(written: str, reason: str) -> None:
    refuses(written, reason)



@pytest.mark.fault("F-38")
def test_f38_a_domain_fits_in_a_certificates_first_name() -> None:
    assert site_domain("a" * 60 + ".com")
    with pytest.raises(Wrong, match="it has 65 characters, and a certificate's first name at most 64"):
        site_domain("a" * 61 + ".com")


@pytest.mark.parametrize(("written", "kept"), [("www", "www"), ("a.b", "a.b"), ("WWW", "www"), ("büro", "xn--bro-hoa")])
def test_a_subdomain_is_the_part_in_front(written: str, kept: str) -> None:
    assert subdomain(written) == kept


@pytest.mark.parametrize("written", ["", "_", "@", "*", "www.", ".www", "a b", "a/b", "..", "-a", "a_b", "a" * 64])
def test_what_is_no_subdomain_is_refused(written: str) -> None:
    with pytest.raises(Wrong):
        subdomain(written)


def test_both_forms_are_shown_where_they_differ() -> None:
    assert both_forms("xn--mnchen-3ya.de") == "münchen.de (xn--mnchen-3ya.de)"
    assert both_forms("example.com") == "example.com"


def test_every_public_suffix_is_a_name_otherwise() -> None:
    assert {host_name(f"a.{suffix}") for suffix in SUFFIXES} == {f"a.{suffix}" for suffix in SUFFIXES}


ALPHABET = st.characters() | st.sampled_from("abcxyz019-._ ;$`'\"\\|&<>(){}[]*?!~#%@/:\n\r\t\0üéао例ß。．\u200d\u200b")


@pytest.mark.fault("F-33")
@quick
@given(st.text(ALPHABET, max_size=24).map(lambda text: text + ".com") | st.text(ALPHABET, max_size=80))
def test_f33_an_accepted_name_holds_nothing_but_letters_digits_hyphens_and_dots(text: str) -> None:
    try:
        name = host_name(text)
    except Wrong:
        return
    assert re.fullmatch(r"(?!-)[a-z0-9.-]{4,253}(?<![-.])", name)
    assert all(0 < len(label) <= 63 for label in name.split("."))
    assert host_name(name) == name
    assert host_name(unicode_form(name)) == name
