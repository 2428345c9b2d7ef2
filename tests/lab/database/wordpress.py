"""WordPress from Debian's package, and somebody in front of a browser who uses it."""

import io
import itertools
import json
import re
import tarfile
from pathlib import Path

from ..front.visitor import Answer, Visitor
from ..machine import Machine, Stranger

TREE = "/srv/wordpress"

# The package and what it takes from other packages, as files: nothing is installed, no service changes. Its links into
# other packages are followed, so that what comes out stands alone, and Debian's own way to a configuration is left out.
UNPACK = f"""
set -e
mkdir -p {TREE}.parts && cd {TREE}.parts
parts=$(apt-cache depends wordpress | grep -oE '(libjs-|php-getid3|wordpress-theme-)[a-z0-9-]*' | sort -u)
apt-get -q download wordpress $parts > /dev/null 2>&1
for part in *.deb; do dpkg-deb -x "$part" root; done
cd root/usr/share/wordpress
rm wp-config.php .htaccess
cp -rL . {TREE}
rm -rf {TREE}.parts
chmod -R a+rX {TREE}
"""

COUNTER = itertools.count()


class Browser:
    """A visitor with a jar of cookies."""

    def __init__(self, stranger: Stranger, host: Machine, site: str) -> None:
        self.visit, self.site = Visitor(stranger, host), site
        self.jar = f"/tmp/jar-{next(COUNTER)}"
        stranger.exec(f"rm -f {self.jar}")

    def get(self, path: str, *args: str) -> Answer:
        url = path if path.startswith("http") else f"https://{self.site}{path}"
        return self.visit(url, "--cookie", self.jar, "--cookie-jar", self.jar, *args)

    def post(self, path: str, **fields: str) -> Answer:
        """A form, filled in and sent."""
        pairs = (("--data-urlencode", f"{name}={text}") for name, text in fields.items())
        return self.get(path, *(word for pair in pairs for word in pair))

    def log_in(self, user: str, password: str) -> Answer:
        self.get("/wp-login.php")  # sets a cookie, to see whether cookies come back
        fields = {"log": user, "pwd": password, "wp-submit": "Log In", "testcookie": "1"}
        return self.post("/wp-login.php", **fields, redirect_to=f"https://{self.site}/wp-admin/")

    def write(self, title: str, text: str, page: int = 0) -> tuple[int, str]:
        """Publish a page, or change it, as the block editor does; its number and its address."""
        nonce = self.get("/wp-admin/admin-ajax.php?action=rest-nonce").body.strip()
        given = json.dumps({"title": title, "content": f"<p>{text}</p>", "status": "publish"})
        headers = ("-H", f"X-WP-Nonce: {nonce}", "-H", "Content-Type: application/json")
        path = "/?rest_route=/wp/v2/pages" + (f"/{page}" if page else "")
        answer = self.get(path, *headers, "--data-binary", given)
        assert answer.status == (200 if page else 201), answer.body[:2000]
        told = json.loads(answer.body)
        return told["id"], told["link"]


def unpacked(host: Machine, place: Path) -> Path:
    """The application's files, as Debian made them, in a directory here, as an operator's checkout would be."""
    try:
        host.check(UNPACK, timeout=300)
        code, files, err = host.run(["tar", "-cz", "-C", TREE, "."])
        assert code == 0, err
    finally:
        host.exec(f"rm -rf {TREE} {TREE}.parts")
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        archive.extractall(place, filter="data")
    return place


def install(browser: Browser, owner: str, password: str) -> None:
    """WordPress's own installer in the browser, from the first request of an empty site to the first login."""
    first = browser.get("/")
    assert (302, f"https://{browser.site}/wp-admin/setup-config.php") == (first.status, first.headers["location"][0])
    database = {"dbname": owner, "uname": owner, "pwd": "", "dbhost": "localhost", "prefix": "wp_"}
    configured = browser.post("/wp-admin/setup-config.php?step=2", **database, language="", submit="Submit")
    assert "install.php" in configured.body, text_of(configured)
    about = {"weblog_title": "Blog of the lab", "user_name": "editor", "admin_email": "editor@blog.test"}
    words = {"admin_password": password, "admin_password2": password, "pw_weak": "on"}
    done = browser.post("/wp-admin/install.php?step=2", **about, **words, blog_public="1", Submit="Install")
    assert "Success!" in done.body, text_of(done)


def text_of(answer: Answer) -> str:
    """What a person would read of it."""
    plain = re.sub(r"(?s)<(script|style).*?</\1>|<[^>]*>", " ", answer.body)
    return f"{answer.status}: {' '.join(plain.split())[:2000]}"
