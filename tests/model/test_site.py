"""What a site file may say, what follows from it, and what is said about the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from fabfile.model import DISABLED, Cache, Php, Site, Tls

from .conftest import Folder

Said = Callable[[str | bytes], str]


def test_a_domain_alone_is_a_site() -> None:
    site = Site(domain="example.com")
    assert (str(site), site.shown, site.owner, site.root) == (
        "example.com",
        "example.com",
        "example-com",
        "/var/www/example.com",
    )
    assert (site.names, site.labels, site.hosts) == (("example.com", "www.example.com"), 2, ())
    assert (site.php, site.cache, site.tls) == (Php(), Cache(), Tls())


def test_every_name_of_a_site_is_listed_domain_first() -> None:
    site = Site(domain="shop.example.co.uk", subdomains=("www", "a.b"), aliases=("Example.ORG",))
    assert site.names == ("shop.example.co.uk", "www.shop.example.co.uk", "a.b.shop.example.co.uk", "example.org")
    assert site.labels == 4


def test_an_idn_site_is_known_in_both_forms() -> None:
    site = Site(domain="MÜNCHEN.de", aliases=("straße.de",))
    assert (site.domain, site.shown, site.both) == (
        "xn--mnchen-3ya.de",
        "münchen.de",
        "münchen.de (xn--mnchen-3ya.de)",
    )
    assert site.names == ("xn--mnchen-3ya.de", "www.xn--mnchen-3ya.de", "xn--strae-oqa.de")


def test_a_site_cannot_be_changed_and_can_be_a_key() -> None:
    site = Site(domain="example.com")
    with pytest.raises(ValidationError, match="frozen"):
        site.domain = "example.org"
    assert {site: 1}[Site(domain="example.com")] == 1


def test_a_site_without_php_says_so(sites: Folder) -> None:
    sites.write("a.com.yml", "domain: a.com\nphp: false\n").write("b.com.yml", "domain: b.com\nphp: null\n")
    sites.write("c.com.yml", "domain: c.com\nphp: {children: 9}\n")
    assert [site.php for site in sites.load()] == [None, None, Php(children=9)]


def test_the_default_pool_is_the_tutorials() -> None:
    """T1, "PHP-FPM": ondemand, 10 s, 5 children, 4096 requests."""
    php = Php()
    assert (php.idle_timeout, php.children, php.max_requests) == (10, 5, 4096)


def test_functions_stay_off_unless_the_site_names_them() -> None:
    assert Php().disable_functions == DISABLED
    php = Php(functions=("proc_open", "symlink"), allow_url_fopen=True)
    assert {*DISABLED} - {*php.disable_functions} == {"proc_open", "symlink"}
    assert php.loosened == ("allow_url_fopen", "proc_open", "symlink")
    assert Php().loosened == ()


def test_the_functions_that_start_programs_are_off() -> None:
    assert {"exec", "passthru", "shell_exec", "system", "popen", "proc_open", "pcntl_exec", "dl"} <= {*DISABLED}
    assert list(DISABLED) == sorted(set(DISABLED))


@pytest.mark.fault("F-32")
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        # the wrong type, and YAML that would not mean what it says
        ("php: {children: many}", 'php.children: must be a whole number from 1 to 500, not "many"'),
        ("php: {children: 0}", "php.children: must be a whole number from 1 to 500, not 0"),
        ("php: {children: 501}", "not 501\n  for example:  children: 5"),
        ("php: {children: true}", "php.children: must be a whole number from 1 to 500, not true"),
        ("php: {children: '7'}", 'not "7"\n  for example:  children: 7'),
        ("php: {children: null}", "php.children: must be a whole number from 1 to 500, not null"),
        ("php: {children: [5]}", "php.children: must be a whole number from 1 to 500, not a list"),
        ("php: {children: {}}", "php.children: must be a whole number from 1 to 500, not a mapping"),
        ("php: {children: 1e2}", "not 1e2, which YAML reads as the number 100\n  for example:  children: 5"),
        ("php: {timeout: 12:30}", "php.timeout: must be a whole number from 1 to 3600, not 12:30, which YAML reads as"),
        ("php: {timeout: 0123}", "not 0123, which YAML reads as the number 83 (octal)\n  for example:  timeout: 123"),
        ("php: {idle_timeout: 10s}", 'php.idle_timeout: must be a whole number from 1 to 86400, not "10s"'),
        ("php: {version: 8.10}", 'not 8.10, which YAML reads as the number 8.1\n  for example:  version: "8.10"'),
        ("php: {version: 8}", 'must be a version in quotes, or null, not 8\n  for example:  version: "8.4"'),
        ("php: {version: '8'}", 'php.version: must be a PHP version of two numbers, not "8"'),
        ("php: {file_uploads: no}", "not no, which YAML reads as false\n  for example:  file_uploads: false"),
        ("php: {allow_url_fopen: on}", "not on, which YAML reads as true\n  for example:  allow_url_fopen: true"),
        ("php: {file_uploads: 1}", "php.file_uploads: must be true or false, not 1"),
        ("php: {memory_limit: 128}", "php.memory_limit: must be a size from 16M to 8G, not 128"),
        ("php: {memory_limit: -1}", "php.memory_limit: must be a size from 16M to 8G, not -1"),
        ("php: {memory_limit: 128MB}", "php.memory_limit: must be a size from 16M to 8G: a whole number and K, M or G"),
        ("php: {functions: [exce]}", "did you mean exec?\n  for example:  functions: [exec]"),
        ("php: {functions: [strlen]}", 'functions[0]: "strlen" is not a function that is off by default, so there'),
        ("php: yes", "php: must be keys such as children, or false for a site without PHP, not yes"),
        ("php:", "php: has no value; it must be keys such as children, or false for a site without PHP, or"),
        ("subdomains: www", 'a list of names in front of the domain, not "www"\n  for example:  subdomains: [www'),
        ("subdomains: [no]", "cannot hold no, which YAML reads as false\n  for example:  subdomains: [\"no\"]"),
        ("subdomains: [5]", 'a list of names in front of the domain cannot hold 5\n  for example:  subdomains: ["5"]'),
        ("domain: 12", "domain: must be a domain name, not 12\n  for example:  domain: example.com"),
        # unknown keys
        ("php: {childern: 5}", "php.childern: unknown key; did you mean children?"),
        ("php: {Max-Requests: 5}", "php.Max-Requests: unknown key; did you mean max_requests?"),
        ("children: 5", "children: unknown key; children belongs under php"),
        ("cache: {email: a@b.com}", "cache.email: unknown key; email belongs under tls"),
        ("tls: {aliases: []}", "tls.aliases: unknown key; aliases belongs at the left edge, not under tls"),
        ("tls: {zzz: 1}", "tls.zzz: unknown key; the keys here are email, key"),
        # names
        ("subdomains: [www, WWW]", "subdomains[1]: www is in the list twice"),
        ("subdomains: [_]", "subdomains[0]: the bare domain is always served"),
        ("aliases: [www.example.com]", "www.example.com lies below the site's domain; write www under subdomains"),
        ("aliases: [example.org, example.com]", "aliases[1]: example.com is the site's own domain; leave it out"),
        ("aliases: [example.org, a_b.org]", 'aliases[1]: "a_b.org" is not a host name to use: it holds "_"'),
        (f"subdomains: [{'.'.join(['a' * 60] * 4)}]", "is longer than 253 characters"),
        (f"aliases: [{', '.join(f'a{i}.org' for i in range(99))}]", "the site has more than 100 names"),
        (f"subdomains: [{', '.join(f'a{i}' for i in range(101))}]", "subdomains: holds 101 values; at most 100 fit"),
        (f"subdomains: [{', '.join(f'a{i}' for i in range(100))}]", "the site has more than 100 names"),
        # what would break out of its line
        ('cache: {keep_cookies: ["a|b"]}', "cache.keep_cookies[0]: must be a cookie's name"),
        ('cache: {bypass: ["/a\\n/b"]}', "cache.bypass[0]: must be the beginning of a path"),
        ("cache: {bypass: [/a, /a]}", "cache.bypass[1]: /a is in the list twice"),
        ('owner: "x\\nroot"', "owner: must be a user name"),
        ("owner: root", "owner: root is a user or group of Debian or of this stack"),
        ('tls: {email: "a@b.com\\n* * * * * root id"}', "tls.email: must be a plain ASCII e-mail address"),
        ("tls: {key: rsa1024}", 'tls.key: must be ec256, ec384, rsa2048 or rsa4096, not "rsa1024"'),
        ('hosts: ["-oProxyCommand=id"]', "hosts[0]: must be a host's name"),
        (f"cache: {{keep_cookies: [{', '.join('c' * 100 + str(n) for n in range(20))}]}}", "more than 2000 characters"),
        ("cache: {ttl: -1}", "cache.ttl: must be a whole number from 0 to 31536000, not -1"),
    ],
)  # fmt: skip
def test_f32_a_wrong_value_names_its_place_what_is_expected_and_an_example(said: Said, line: str, problem: str) -> None:
    head = "# the site\n" if line.startswith("domain:") else "domain: example.com\n"
    text = said(f"{head}{line}\n")
    assert text.startswith("sites/example.com.yml:2: ")
    assert problem in text


def test_the_form_of_a_problem(said: Said) -> None:
    assert said("domain: example.com\nphp:\n  # workers\n  children: many\n") == (
        'sites/example.com.yml:4: php.children: must be a whole number from 1 to 500, not "many"\n'
        "  for example:  children: 5"
    )


def test_a_site_without_its_domain_is_told_so(said: Said) -> None:
    assert said("owner: x\n") == "sites/example.com.yml:1: domain: is missing\n  for example:  domain: example.com"


def test_www_is_no_part_of_the_domain(sites: Folder) -> None:
    text = str(sites.write("www.example.com.yml", "domain: www.example.com\n").refusal())
    assert "must be the bare domain example.com" in text
    assert text.endswith("for example:  domain: example.com")


def test_an_example_is_said_once_for_neighbours_that_share_it(said: Said) -> None:
    text = said("domain: example.com\naliases: [a_b.com, c_d.com]\n")
    assert [line.split(":")[0] for line in text.split("\n")] == [
        "sites/example.com.yml",
        "sites/example.com.yml",
        "  for example",
    ]
