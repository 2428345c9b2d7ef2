"""A real application that nobody here wrote: WordPress from Debian's package, a site like any other."""

import re
from pathlib import Path

from .conftest import PRESS, Shop
from .wordpress import Browser, install, unpacked

PASSWORD = "correct horse battery staple"


def test_wordpress_is_deployed_installed_published_with_cached_and_purged(shop: Shop, tmp_path: Path) -> None:
    editor, visitor = (Browser(shop.stranger, shop.machine, "press.test") for _ in range(2))
    source = unpacked(shop.machine, tmp_path / "wordpress")
    former = shop.lab.authority.names
    shop.lab.resolve("wordpress.org", None)  # it asks there for news and keys; the lab stays by itself
    try:
        shop.done("site.deploy", "press.test", "--source", str(source))
        install(editor, PRESS, PASSWORD)
        _use(shop, editor, visitor)
    finally:
        shop.lab.authority.set_names(former)


def _use(shop: Shop, editor: Browser, visitor: Browser) -> None:
    assert 200 == editor.log_in("editor", "wrong").status
    assert "is incorrect" in editor.log_in("editor", "wrong").body
    inside = editor.log_in("editor", PASSWORD)
    assert (302, "https://press.test/wp-admin/") == (inside.status, inside.headers["location"][0])
    dashboard = editor.get("/wp-admin/")
    assert ("PASS", 200) == (dashboard.cache, dashboard.status)
    assert "<h1>Dashboard</h1>" in dashboard.body
    assert 302 == visitor.get("/wp-admin/").status

    number, address = editor.write("Opening hours", "We open at nine. Grüße 😀")
    first, second = visitor.get(address), visitor.get(address)
    assert ("MISS", "HIT") == (first.cache, second.cache)
    for page in (first, second):
        assert "We open at nine. Grüße 😀" in page.body
        assert "wpadminbar" not in page.body
    style = re.search(r"https://press\.test/[^'\"]+\.css\?ver=[^'\"]+", first.body)
    assert style is not None
    assert ["MISS", "HIT"] == [editor.get(style[0]).cache, visitor.get(style[0]).cache]

    # Who is logged in sees a page of his own, and nobody else ever sees that one.
    assert ("PASS", True) == ((mine := editor.get(address)).cache, "wpadminbar" in mine.body)
    editor.write("Opening hours", "We open at ten.", number)
    assert "We open at ten." in editor.get(address).body
    assert ("HIT", True) == ((stale := visitor.get(address)).cache, "We open at nine." in stale.body)

    shop.done("varnish.purge", address)
    again = visitor.get(address)
    assert ("MISS", True) == (again.cache, "We open at ten." in again.body)
    assert "HIT" == visitor.get(address).cache
    assert "We open at nine." not in visitor.get(address).body
