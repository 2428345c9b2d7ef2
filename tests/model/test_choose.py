"""A site by the name that was typed."""

from __future__ import annotations

import pytest

from fabfile.model import Refusal, Site, chosen_site

SITES = (Site(domain="example.com", subdomains=("www", "shop")), Site(domain="münchen.de"))


@pytest.mark.parametrize("typed", ["xn--mnchen-3ya.de", "münchen.de", "MÜNCHEN.de.", " münchen.de"])
def test_either_form_of_a_domain_is_the_site(typed: str) -> None:
    assert chosen_site(SITES, typed) is SITES[1]


def test_another_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(Refusal, match=r'vps has no site "exmple.com"\n  for example:  example.com$'):
        chosen_site(SITES, "exmple.com", "vps has")


def test_a_name_of_a_site_leads_to_its_domain() -> None:
    with pytest.raises(Refusal, match=r"it is a name of example\.com"):
        chosen_site(SITES, "shop.example.com")


def test_where_there_is_none_it_says_how_to_make_one() -> None:
    with pytest.raises(Refusal, match=r"inv site\.new example\.com"):
        chosen_site((), "example.com")
