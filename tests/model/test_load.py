"""All files together: every problem at once, both places of a clash, and which fleet a run is about."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from fabfile.model import (
    PRODUCTION,
    ROLES,
    STAGING,
    Fleet,
    Machine,
    Refusal,
    Site,
    find_fleet,
    load_fleet,
    load_sites,
    owner_of,
)

from .conftest import Folder

PEM = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n"


def refused(path: Path, content: str) -> str:
    path.write_text(content)
    with pytest.raises(Refusal) as caught:
        load_fleet(path)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------- sites


def test_sites_come_in_the_order_of_their_domains(sites: Folder) -> None:
    for domain in ("b.com", "a.com", "c.com"):
        sites.write(f"{domain}.yml", f"domain: {domain}\n")
    sites.write("README.md", "words").write(".a.com.yml.swp", "x").write("a.com.yml~", "x")
    assert [str(site) for site in sites.load()] == ["a.com", "b.com", "c.com"]


def test_problems_of_all_files_are_shown_at_once_in_the_order_of_lines(sites: Folder) -> None:
    sites.write("a.com.yml", "domain: a.com\nphp:\n  childern: 5\n  timeout: x\nttl: 1\n")
    sites.write("b.com.yml", "- b\n").write("c.com.yml", "domain: c.com\n").write("d.com.yml", "domain: d_d.com\n")
    places = [(problem.file and problem.file.name, problem.line, problem.key) for problem in sites.refusal().problems]
    assert places == [
        ("a.com.yml", 3, "php.childern"),
        ("a.com.yml", 4, "php.timeout"),
        ("a.com.yml", 5, "ttl"),
        ("b.com.yml", 1, ""),
        ("d.com.yml", 1, "domain"),
    ]


def test_a_refusal_exits_with_2_and_shows_the_first_problems_of_many(sites: Folder) -> None:
    for number in range(60):
        sites.write(f"s{number:02}.com.yml", "x: 1\n")
    refusal = sites.refusal()
    assert refusal.exit_code == 2
    assert len(refusal.problems) == 120
    assert str(refusal).endswith("... and 95 more problems")


@pytest.mark.fault("F-36")
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            "domain: a.com\naliases: [x.org]",
            "domain: b.com\naliases:\n  - x.org",
            "sites/b.com.yml:3: aliases[0]: x.org is already an alias of a.com, at sites/a.com.yml:2",
        ),
        (
            "domain: a.com\naliases: [b.com]",
            "domain: b.com",
            "sites/b.com.yml:1: domain: b.com is already an alias of a.com, at sites/a.com.yml:2",
        ),
        (
            "domain: a.com",
            "domain: b.com\naliases: [www.A.com]",
            "b.com.yml:2: aliases[0]: www.a.com is already a subdomain of a.com (by default), at sites/a.com.yml:1",
        ),
        (
            "domain: a.com\nsubdomains: [shop]",
            "domain: b.com\naliases: [shop.a.com]",
            "aliases[0]: shop.a.com is already a subdomain of a.com, at sites/a.com.yml:2",
        ),
        (
            "domain: a.com\naliases: [münchen.de]",
            "domain: b.com\naliases: [xn--mnchen-3ya.de]",
            "aliases[0]: münchen.de (xn--mnchen-3ya.de) is already an alias of a.com, at sites/a.com.yml:2",
        ),
        (
            "domain: a.com\nowner: shop",
            "domain: b.com\nowner: shop",
            "sites/b.com.yml:2: owner: shop is already the owner of a.com, at sites/a.com.yml:2",
        ),
        (
            "domain: a.com\nowner: b-com",
            "domain: b.com",
            "sites/b.com.yml:1: owner: b-com is already the owner of a.com, at sites/a.com.yml:2",
        ),
        (
            "domain: a.com",
            "domain: b.com\nowner: a-com",
            "sites/b.com.yml:2: owner: a-com is already the owner of a.com (by default), at sites/a.com.yml:1",
        ),
    ],
)
def test_f36_what_two_sites_claim_names_both_places(sites: Folder, first: str, second: str, message: str) -> None:
    assert message in str(sites.write("a.com.yml", first).write("b.com.yml", second).refusal())


def test_a_site_below_another_site_is_a_site_of_its_own(sites: Folder) -> None:
    sites.write("a.com.yml", "domain: a.com\n").write("shop.a.com.yml", "domain: shop.a.com\n")
    assert [site.owner for site in sites.load()] == ["a-com", "shop-a-com"]


def test_a_file_is_called_after_its_domain(sites: Folder) -> None:
    assert str(sites.write("b.com.yml", "# b\ndomain: a.com\n").refusal()) == (
        'sites/b.com.yml:2: domain: is a.com, but the file is called "b.com.yml"; it must be called "a.com.yml"\n'
        "  next:  mv sites/b.com.yml sites/a.com.yml"
    )


@pytest.mark.parametrize("name", ["münchen.de.yml", "mu\u0308nchen.de.yml", "xn--mnchen-3ya.de.yml"])
def test_a_file_may_be_called_by_either_form_of_an_idn(sites: Folder, name: str) -> None:
    assert [str(site) for site in sites.write(name, "domain: münchen.de\n").load()] == ["xn--mnchen-3ya.de"]


def test_another_ending_is_not_passed_over_in_silence(sites: Folder) -> None:
    assert "sites/a.com.yaml: site files end in .yml\n  next:  mv" in str(
        sites.write("a.com.yaml", "domain: a.com\n").refusal()
    )


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="cannot be listed"):
        load_sites(tmp_path / "nowhere")


def test_a_thousand_sites_load(sites: Folder) -> None:
    example = (Path(__file__).parents[2] / "sites" / "example.com.yml").read_text()
    for number in range(1000):
        domain = f"site-{number}.example.com"
        text = example.replace("domain: example.com", f"domain: {domain}")
        sites.write(f"{domain}.yml", text.replace("owner: example-com", f"owner: {owner_of(domain)}"))

    assert len(sites.load()) == 1000


# ---------------------------------------------------------------------------------------------------- fleet


def test_a_fleet_file_says_what_all_share(sites: Folder, tmp_path: Path) -> None:
    sites.write("a.com.yml", "domain: a.com\n").write("b.com.yml", "domain: b.com\nhosts: [web2]\n")
    (tmp_path / "ca.pem").write_text(PEM)
    (tmp_path / "fleet.yml").write_text(
        "acme:\n  directory: https://pebble:14000/dir\n  ca_bundle: ca.pem\n  email: ops@example.com\n"
        "operators: [203.0.113.7, 2001:db8::/32]\n"
        "hosts:\n  web1: {address: 10.0.0.11}\n  web2: {address: 10.0.0.12}\n"
        "  db1: {address: 10.0.0.13, roles: [database, cache]}\n"
    )
    fleet = load_fleet(tmp_path / "fleet.yml")
    assert fleet.acme.directory == "https://pebble:14000/dir"
    assert fleet.acme.ca_bundle == tmp_path / "ca.pem"
    assert fleet.operators == (ip_network("203.0.113.7"), ip_network("2001:db8::/32"))
    assert fleet.hosts["web2"] == Machine(name="web2", address=ip_address("10.0.0.12"))
    assert fleet.hosts["db1"].roles == ("database", "cache")
    assert (fleet.sites, fleet.file) == (tmp_path / "sites", tmp_path / "fleet.yml")
    served = {host: [str(site) for site in fleet.sites_for(host)] for host in fleet.hosts}
    assert served == {"web1": ["a.com"], "web2": ["a.com", "b.com"], "db1": ["a.com", "b.com"]}


def test_a_host_that_the_fleet_does_not_list_is_refused() -> None:
    fleet = Fleet(hosts={"web1": Machine(name="web1")})
    with pytest.raises(Refusal, match=r"there is no host wbe1; did you mean web1\?"):
        fleet.sites_for("wbe1")


def test_without_a_list_every_host_is_a_web_server() -> None:
    fleet = Fleet().with_sites([Site(domain="b.com"), Site(domain="a.com"), Site(domain="c.com", hosts=("x",))])
    assert [str(site) for site in fleet.sites_for("anything")] == ["a.com", "b.com"]
    assert [str(site) for site in fleet.sites_for("x")] == ["a.com", "b.com", "c.com"]
    assert fleet.machine("x") == Machine(name="x", address=None, roles=("web",))


def test_the_ca_is_lets_encrypt_or_its_staging(tmp_path: Path) -> None:
    assert Fleet().acme.directory == PRODUCTION
    (tmp_path / "fleet.yml").write_text("acme: {staging: true}\n")
    assert load_fleet(tmp_path / "fleet.yml").acme.directory == STAGING


def test_the_cas_contact_is_the_sites_then_the_fleets_then_the_webmaster() -> None:
    plain, own = Site(domain="a.com"), Site.model_validate({"domain": "b.com", "tls": {"email": "me@b.com"}})
    fleet = Fleet.model_validate({"acme": {"email": "ops@x.com"}})
    assert [fleet.email_for(plain), fleet.email_for(own)] == ["ops@x.com", "me@b.com"]
    assert Fleet().email_for(plain) == "webmaster@a.com"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "fleet.yml:1: is empty"),
        ("acme: {staging: true, directory: 'https://x.com/dir'}", "fleet.yml:1: acme.directory: staging: true chooses"),
        ("acme: {directory: 'http://x.com/dir'}", 'acme.directory: must be an https:// URL, not "http://x.com/dir"'),
        ("acme: {ca_bundle: nowhere.pem}", "acme.ca_bundle: nowhere.pem is not a file"),
        ("acme: {ca_bundle: key.pem}", "key.pem holds a private key; a CA bundle has certificates alone"),
        ("acme: {ca_bundle: empty.pem}", "empty.pem holds no PEM certificate"),
        ('acme: {ca_bundle: "a\\0b"}', "acme.ca_bundle: must be a path"),
        ("acme: {ca_bundle: 5}", "acme.ca_bundle: must be the path of a PEM file, or null, not 5"),
        ("operators: 10.0.0.1", "and networks, not \"10.0.0.1\"\n  for example:  operators: [10."),
        ("operators: [0.0.0.0/0]", "operators[0]: 0.0.0.0/0 is too wide for operators"),
        ("operators:\n- 203.0.113.7\n- 203.0.113.7/32", ":3: operators[1]: 203.0.113.7/32 is in the list twice"),
        ("hosts: [web1]", "hosts: must be machines by name, not a list\n  for example:  hosts: {web1: {}}"),
        ("hosts:\n  web1:", "or {} for the defaults\n  for example:  hosts: {web1: {}}"),
        ("hosts:\n  web1: {}\n  a b: {}", "fleet.yml:3: hosts.a b: must be a host's name"),
        ("hosts:\n  no: {}", "fleet.yml:2: hosts.no: YAML reads this key as false\n  for example:  \"no\":"),
        ("hosts:\n  web1: {name: x}", "hosts.web1.name: unknown key; the machine's name is the key above it"),
        ("hosts:\n  web1: {adress: 10.0.0.1}", "hosts.web1.adress: unknown key; did you mean address?"),
        ("hosts:\n  web1: {address: 10.0.0.0/24}", 'hosts.web1.address: must be one IP address, not "10.0.0.0/24"'),
        ("mac: tomoyo", 'fleet.yml:1: mac: must be apparmor or selinux, not "tomoyo"'),
        ("mac: false", "for example:  mac: selinux"),
        ("hosts:\n  web1: {roles: []}", "hosts.web1.roles: must be a list of roles: web, edge"),
        ("hosts:\n  web1: {roles: web}", "for example:  roles: [web]"),
        ("hosts:\n  web1: {roles: [wbe]}", 'hosts.web1.roles[0]: there is no role "wbe"; did you mean web?'),
        ("hosts:\n  web1: {weight: 101}", "hosts.web1.weight: must be a whole number from 0 to 100, not 101"),
        ("hosts:\n  e: {roles: [edge]}", "fleet.yml:2: hosts.e.roles: e is an edge, and no host has the role web"),
        ("hosts:\n  e: {roles: [edge, web], address: 10.0.0.1}\n  b: {}",
         "fleet.yml:3: hosts.b.address: b needs its address on the private network: visitors come to it through e"),
        ("hosts:\n  e: {roles: [edge]}\n  b: {address: 10.0.0.2}",
         "hosts.e.address: e needs its address on the private network: the web servers let nobody else in"),
        ("hosts:\n  e: {roles: [edge], address: 10.0.0.2}\n  b: {address: 10.0.0.2}",
         "fleet.yml:3: hosts.b.address: 10.0.0.2 is already e's"),
        ("sites: nowhere", "sites: nowhere cannot be listed: No such file or directory"),
        ("sites: fleet.yml", "sites: fleet.yml cannot be listed: Not a directory"),
        ("sites: ~no-such-user/sites", "sites: must be a path, and \"~no-such-user/sites\" names a user"),
        (f"sites: {'x' * 300}", "cannot be listed: File name too long"),
        (f"acme: {{ca_bundle: {'x' * 300}}}", "cannot be read: File name too long"),
        ("acme: {ca_bundle: /dev/zero}", "acme.ca_bundle: /dev/zero is not a file"),
        ("operator: []", "operator: unknown key; did you mean operators?"),
        ("staging: true", "staging: unknown key; staging belongs under acme"),
    ],
)  # fmt: skip
def test_a_wrong_fleet_names_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key.pem").write_text(PEM + "-----BEGIN EC PRIVATE KEY-----\n")
    (tmp_path / "empty.pem").write_text("\n")
    assert message in refused(tmp_path / "fleet.yml", content)


def test_problems_of_the_fleet_and_of_its_sites_are_shown_at_once(sites: Folder, tmp_path: Path) -> None:
    sites.write("a.com.yml", "domain: a.com\nx: 1\n").write("b.com.yml", "domain: b.com\nhosts: [web2]\n")
    text = refused(tmp_path / "fleet.yml", "operators: [x]\n")
    assert text.startswith('fleet.yml:1: operators[0]: must be an address or a CIDR network, not "x"')
    assert "sites/a.com.yml:2: x: unknown key" in text


@pytest.mark.parametrize("hosts", ["", "hosts: [web1, web2]\n"])
def test_a_database_lies_on_one_host(sites: Folder, tmp_path: Path, hosts: str) -> None:
    fleet = "hosts: {web1: {}, web2: {}}\n"
    sites.write("a.com.yml", "domain: a.com\ndatabase: true\nhosts: [web1]\n")
    sites.write("b.com.yml", f"domain: b.com\ndatabase: true\n{hosts}")
    text = refused(tmp_path / "fleet.yml", fleet)
    assert "sites/b.com.yml:2: database: a database lies on the site's own host" in text
    assert "this site is on web1 and web2: name one\n  for example:  hosts: [web1]" in text
    assert "a.com.yml" not in text


def test_a_host_of_a_site_must_be_in_the_fleet(sites: Folder, tmp_path: Path) -> None:
    sites.write("b.com.yml", "domain: b.com\nhosts: [web2]\n")
    assert "sites/b.com.yml:2: hosts[0]: there is no host web2 in fleet.yml; did you mean web1?" in refused(
        tmp_path / "fleet.yml", "hosts: {web1: {}}\n"
    )


def test_every_role_of_the_tutorials_has_a_name() -> None:
    assert ROLES == ("web", "edge", "static", "app", "cache", "database", "files", "balancer", "member")


# ---------------------------------------------------------------------------------------------------- finding it


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "a.com.yml").write_text("domain: a.com\n")
    (tmp_path / ".lab").mkdir()
    (tmp_path / ".lab" / "ssh_config").write_text("")
    return tmp_path


def lab_fleet(checkout: Path, text: str = "acme: {email: lab@example.com}\n") -> Path:
    (checkout / ".lab" / "fleet.yml").write_text(text)
    return checkout / ".lab" / "fleet.yml"


def test_without_a_fleet_file_the_defaults_count(checkout: Path) -> None:
    fleet = find_fleet(None, None, checkout)
    assert (fleet.file, fleet.hosts, [str(site) for site in fleet.all_sites]) == (None, {}, ["a.com"])


@pytest.mark.parametrize("path", ["~no-such-user/x", "x" * 300, "a\0b", "."])
def test_a_path_that_cannot_be_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(Refusal):
        find_fleet(None, Path(path), tmp_path)


def test_a_file_name_never_garbles_the_terminal(sites: Folder) -> None:
    assert all(
        line.isprintable() for line in str(sites.write("\033[2J\n.yml", "domain: a.com\nx: 1\n").refusal()).split("\n")
    )


def test_a_directory_without_sites_is_a_fleet_without_sites(tmp_path: Path) -> None:
    assert find_fleet(None, None, tmp_path).all_sites == ()
    (tmp_path / "fleet.yml").write_text("operators: []\n")
    assert find_fleet(None, None, tmp_path).sites_for("vps") == ()


def test_the_fleet_beside_the_ssh_config_goes_before_the_checkouts(checkout: Path) -> None:
    (checkout / "fleet.yml").write_text("acme: {email: real@example.com}\n")
    assert find_fleet(Path(".lab/ssh_config"), None, checkout).acme.email == "real@example.com"
    lab_fleet(checkout)
    assert find_fleet(Path(".lab/ssh_config"), None, checkout).acme.email == "lab@example.com"
    assert find_fleet(None, None, checkout).acme.email == "real@example.com"


def test_a_fleet_without_sites_of_its_own_serves_those_of_the_checkout(checkout: Path) -> None:
    lab_fleet(checkout)
    assert [str(site) for site in find_fleet(Path(".lab/ssh_config"), None, checkout).all_sites] == ["a.com"]
    (checkout / ".lab" / "sites").mkdir()
    assert find_fleet(Path(".lab/ssh_config"), None, checkout).all_sites == ()


def test_sites_are_where_the_fleet_says(checkout: Path) -> None:
    lab_fleet(checkout, "sites: ../sites\n")
    (checkout / ".lab" / "sites").mkdir()
    assert [str(site) for site in find_fleet(Path(".lab/ssh_config"), None, checkout).all_sites] == ["a.com"]


@pytest.mark.parametrize("directory", [".", ".lab"])
def test_a_fleet_of_another_ending_is_not_passed_over_in_silence(checkout: Path, directory: str) -> None:
    (checkout / directory / "fleet.yaml").write_text("operators: []\n")
    with pytest.raises(Refusal, match=r"fleet\.yaml: the fleet's file is called fleet\.yml\n  next:  mv"):
        find_fleet(Path(".lab/ssh_config"), None, checkout)


def test_the_fleet_that_is_asked_for_must_be_there(checkout: Path) -> None:
    assert find_fleet(None, lab_fleet(checkout), checkout).acme.email == "lab@example.com"
    with pytest.raises(Refusal, match=r"other\.yml: there is no such file"):
        find_fleet(Path(".lab/ssh_config"), Path("other.yml"), checkout)


def test_through_an_edge_only_web_servers_are_reached(sites: Folder, tmp_path: Path) -> None:
    sites.write("a.com.yml", "domain: a.com\nhosts: [e]\n")
    text = refused(tmp_path / "fleet.yml", "hosts: {e: {roles: [edge], address: 10.0.0.1}, w: {address: 10.0.0.2}}\n")
    assert "sites/a.com.yml:2: hosts[0]: e has not the role web or app in fleet.yml" in text
    assert "for example:  hosts: [w]" in text


FILES = """\
hosts:
  edge1: {address: 10.0.0.1, roles: [edge]}
  app1: {address: 10.0.0.2, roles: [app]}
  app2: {address: 10.0.0.3, roles: [app]}
  files1: {address: 10.0.0.4, roles: [files]}
"""


def test_two_users_with_one_number_are_refused_where_hosts_share_files(sites: Folder, tmp_path: Path) -> None:
    sites.write("a.com.yml", "domain: a.com\nuid: 300000\n").write("b.com.yml", "domain: b.com\nuid: 300000\n")

    text = refused(tmp_path / "fleet.yml", FILES)

    assert "sites/b.com.yml:2: uid: 300000 is already the number of a-com, the user of a.com" in text
    assert "uid: 200000" in text
    (tmp_path / "fleet.yml").write_text("hosts: {web1: {}}\n")
    assert load_fleet(tmp_path / "fleet.yml").all_sites


def test_what_outlives_releases_is_not_written_on_two_hosts_with_a_tree_each(sites: Folder, tmp_path: Path) -> None:
    sites.write("a.com.yml", "domain: a.com\ndeploy: {shared: [uploads]}\n")

    text = refused(tmp_path / "fleet.yml", FILES + "files: {mount: sync}\n")

    assert "sites/a.com.yml:2: deploy.shared: with files: {mount: sync} each host has a tree of its own" in text
    assert "hosts: [app1]" in text
    (tmp_path / "fleet.yml").write_text(FILES)
    assert load_fleet(tmp_path / "fleet.yml").all_sites
    (tmp_path / "fleet.yml").write_text(FILES + "files: {mount: sync}\n")
    sites.write("a.com.yml", "domain: a.com\nhosts: [app2]\ndeploy: {shared: [uploads]}\n")
    assert load_fleet(tmp_path / "fleet.yml").all_sites
