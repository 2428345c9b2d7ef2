"""Requests of an ordinary application: a shop with a forum, a back office and an API.  None of them means harm.

Written for this: names with apostrophes, prices, a forum with Markdown, searches with quotes, uploads, long cookies.
"""

from __future__ import annotations

import json
from urllib.parse import urlencode

BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "de,en-US;q=0.7,en;q=0.3",
    "Accept-Encoding": "gzip, deflate, br",
}
COOKIE = (
    "session="
    + "Zm9vYmFyYmF6" * 40
    + "; lang=de; theme=dark; cart=7%2C12%2C19; seen=1732190400; consent=analytics%3Dno"
)
LONG = "; ".join(f"pref{number}={'a1B2c3D4' * 16}" for number in range(20))
FORMS: dict[str, dict[str, str]] = {
    "/account/register": {
        "name": "Siobhán O'Brien",
        "email": "siobhan.obrien@example.org",
        "street": "St. John's Road 4/2",
    },
    "/account/login": {"user": "d'artagnan", "password": "kor;rekt-Pferd&Batterie#7", "next": "/account/"},
    "/checkout": {
        "note": "Please ring twice; the dog isn't dangerous. 2nd floor, door #5 (left)",
        "total": "1.299,00 €",
    },
    "/forum/new": {
        "title": "What's new in version 2.4?",
        "text": "It's faster, I'd say -- about 30% on my laptop.\n\nGreetings\nJörg",
    },
    "/forum/reply": {"text": 'You\'re right & he is too: 5 < 7, and 7 > 5. "Never again", she said.', "thread": "4711"},
    "/contact": {
        "subject": "Order no. 2026-11/0042",
        "message": "Hello,\r\n\r\nmy parcel hasn't arrived yet. Where is it?\r\n\r\nThanks!",
    },
    "/search": {"q": "men's running shoes size 42 1/2", "sort": "price", "page": "2"},
    "/newsletter": {"email": "a.person+shop@example.co.uk", "agree": "on"},
    "/admin/product/7": {
        "name": 'Kaffee & Kuchen "Deluxe"',
        "price": "4.50",
        "description": "100% Arabica. 8 oz = 227 g; best before: see lid.",
    },
    "/admin/page": {
        "body": "# Opening hours\n\n* Mon-Fri: 9-18\n* Sat: 10-14\n\nSee [our shops](/shops) - it's worth it!"
    },
    "/poll": {"choice[]": "3", "comment": "None of these; I'd like tea."},
    "/calendar": {"from": "2026-11-21T09:00", "to": "2026-11-21T17:30", "title": "Kick-off: Q4/Q1 (all)"},
}
JSON: dict[str, tuple[str, object]] = {
    "/api/cart": ("POST", {"items": [{"sku": "AB-12/3", "count": 2}, {"sku": "XY-9", "count": 1}], "coupon": None}),
    "/api/profile": (
        "PUT",
        {"name": "Zoë D'Angelo", "about": "I'm a baker. I bake 7 days a week & love it.", "age": 41},
    ),
    "/api/profile/avatar": ("DELETE", {}),
    "/api/products/7": ("PATCH", {"price": 12.5, "tags": ["new", "women's", "50% off"], "active": True}),
    "/api/notes": ("POST", {"text": "Buy milk, eggs; don't forget the bread!", "when": "2026-11-22T08:00:00Z"}),
    "/api/events": ("POST", [{"type": "view", "page": "/shoes?size=42", "at": 1795269600.25}] * 20),
    "/api/graphql": ("POST", {"query": "{ product(id: 7) { name price reviews(first: 3) { stars } } }"}),
}
PAGES = (
    "/", "/index.html", "/shoes?size=42&colour=dark%20blue", "/search?q=o%27reilly+book",
    "/blog/2026/11/its-fast_and-small", "/forum/thread-4711?page=2#last", "/assets/app.3f9a1c.js",
    "/assets/style.css?v=1795269600", "/images/logo.svg", "/article/100-tips-for-select-committees",
    "/jobs/union-representative?from=newsletter", "/de/%C3%BCber-uns", "/search?q=%22exact+phrase%22+-draft",
    "/redirect-info?to=%2Faccount%2Forders", "/feed.xml", "/robots.txt", "/favicon.ico",
    "/login?return=%2Fcheckout%3Fstep%3D2", "/map?lat=52.5200&lon=13.4050&zoom=12", "/wiki/C_(language)?action=view",
)  # fmt: skip
PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 600
TEXT = b'Name;Street;Town\r\n"O\'Neill; Sons";"King\'s Rd. 1";York\r\n' * 40
MARK = "----WebKitFormBoundary7MA4YWxkTrZu0gW"


def corpus(name: str, below: str = "") -> dict[str, bytes]:
    """Requests for the site of that name, by what they are, byte by byte; `below` is where the application is."""
    found = {}

    def ask(what: str, method: str, path: str, more: dict[str, str] | None = None, body: bytes = b"") -> None:
        found[what] = request(name, method, below + path, more, body)

    for page in PAGES:
        ask(f"GET {page}", "GET", page)
    ask("HEAD", "HEAD", "/shoes")
    ask("conditional", "GET", "/images/logo.svg", {"If-None-Match": 'W/"5f-3a"'})
    ask("part", "GET", "/films/tour.mp4", {"Range": "bytes=0-1023", "Referer": f"https://{name}/films"})
    ask("long cookies", "GET", "/account/orders", {"Cookie": f"{COOKIE}; {LONG}"})
    ask("preflight", "OPTIONS", "/api/cart", {"Origin": "https://app.example.org"})
    for path, fields in FORMS.items():
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        ask(f"form {path}", "POST", path, kind, urlencode(fields).encode())
    for path, (method, value) in JSON.items():
        kind = {"Content-Type": "application/json", "Accept": "application/json", "X-Requested-With": "XMLHttpRequest"}
        ask(f"{method} {path}", method, path, kind, json.dumps(value, ensure_ascii=False).encode())
    uploads = {"IMG_2041 (1).png": ("image/png", PICTURE), "addresses-2026.csv": ("text/csv", TEXT)}
    for file, (type_, content) in uploads.items():
        kind = {"Content-Type": f"multipart/form-data; boundary={MARK}"}
        ask(f"upload {file}", "POST", "/account/upload", kind, upload(file, type_, content))
    return found


def upload(file: str, kind: str, content: bytes) -> bytes:
    """A form with a title and a file, as a browser sends it."""
    head = (
        f'--{MARK}\r\nContent-Disposition: form-data; name="title"\r\n\r\nMy dog\'s birthday\r\n'
        f'--{MARK}\r\nContent-Disposition: form-data; name="file"; filename="{file}"\r\nContent-Type: {kind}\r\n\r\n'
    )
    return head.encode() + content + f"\r\n--{MARK}--\r\n".encode()


def request(name: str, method: str, path: str, more: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    """As a browser sends it, with a session."""
    headers = {"Host": name, **BROWSER, "Cookie": COOKIE, "Connection": "close", **(more or {})}
    if body or method in ("POST", "PUT", "PATCH"):
        headers["Content-Length"] = str(len(body))
    head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    return f"{method} {path.partition('#')[0]} HTTP/1.1\r\n{head}\r\n".encode() + body
