"""Every site gets a user of its own, the same one for ever."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabfile.model import owner_of
from fabfile.model.owners import RESERVED, is_reserved, owner
from fabfile.model.refusal import Wrong

from .conftest import quick

# useradd(8) and adduser's NAME_REGEX on Debian, and what the stack can hold: at most 32 characters.
VALID = re.compile(r"[a-z][a-z0-9-]{0,31}")


@pytest.mark.fault("F-39")
@pytest.mark.parametrize(
    ("domain", "user"),
    [
        ("example.com", "example-com"),
        ("shop.example.co.uk", "shop-example-co-uk"),
        ("a-b.c.com", "a--b-c-com"),
        ("a.b-c.com", "a-b--c-com"),
        ("xn--mnchen-3ya.de", "xn----mnchen--3ya-de"),
        ("4chan.org", "s4chan-org-5242267373"),
        ("a-very-long-name-of-a-very-long-shop.com", "a--very--long--name-8141410657"),
        ("www.data", "swww-data-0110147176"),
        ("systemd.network", "ssystemd-network-4710387865"),
    ],
)
def test_f39_the_user_of_a_domain_never_changes(domain: str, user: str) -> None:
    assert owner_of(domain) == user


LABEL = st.text("abz019-", min_size=1, max_size=24).map(lambda text: text.strip("-") or "a")
TOP = st.sampled_from(("com", "c", "data", "network", "xn--p1ai"))
DOMAIN = st.builds(lambda labels, top: ".".join((*labels, top)), st.lists(LABEL, min_size=1, max_size=4), TOP)
# Few words, so that two domains differ in little but dots and hyphens.
CLOSE = st.lists(st.sampled_from(("a", "aa", "a-a", "a--a", "1")), min_size=1, max_size=9).map(
    lambda labels: ".".join((*labels, "a"))
)


@pytest.mark.fault("F-39")
@settings(quick, max_examples=40)
@given(st.lists(DOMAIN | CLOSE, min_size=2, max_size=12, unique=True))
def test_f39_no_two_domains_share_a_user_and_every_user_is_valid(domains: list[str]) -> None:
    users = [owner_of(domain) for domain in domains]
    assert len(set(users)) == len(users)
    assert all(VALID.fullmatch(user) and not is_reserved(user) for user in users)
    assert [owner(user) for user in users] == users


@pytest.mark.parametrize("name", ["shop", "example-com", "a", "a1", "a" * 32])
def test_a_user_may_be_named_by_hand(name: str) -> None:
    assert owner(name) == name


@pytest.mark.fault("F-39")
@pytest.mark.parametrize(
    "name",
    [
        "",
        "Shop",
        "1shop",
        "-shop",
        "shop-",
        "shop.de",
        "shop de",
        "shop\n",
        "shop:x",
        "_apt",
        "a" * 33,
        "münchen",
        "$(id)",
    ],
)
def test_f39_what_is_no_user_name_is_refused(name: str) -> None:
    with pytest.raises(Wrong, match="must be a user name"):
        owner(name)


@pytest.mark.fault("F-39")
@pytest.mark.parametrize(
    "name",
    [
        "root",
        "www-data",
        "mysql",
        "redis",
        "vcache",
        "haproxy",
        "nobody",
        "backup",
        "daemon",
        "sshd",
        "ops",
        "systemd-x",
    ],
)
def test_f39_a_user_of_the_system_is_refused(name: str) -> None:
    with pytest.raises(Wrong, match="is a user or group of Debian or of this stack"):
        owner(name)


def test_every_user_and_group_of_debians_base_is_reserved() -> None:
    users = "root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc nobody"
    groups = (
        "adm tty disk kmem dialout fax voice cdrom floppy tape sudo audio dip operator src shadow utmp video sasl "
        "plugdev staff users nogroup"
    )
    assert {*users.split(), *groups.split()} <= RESERVED
