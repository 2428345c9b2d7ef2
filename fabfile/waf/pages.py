"""What the balancer says itself, and what it means to a visitor.  (T3 custom error responses)"""

from __future__ import annotations

from collections.abc import Mapping

from ..engine.render import render

NUMBER, EARLY_NUMBER = "%{reqenv:UNIQUE_ID}", "%{REQUEST_LOG_ID}"
"""Filled in by Apache (ap_expr) as it answers: the request's number, as in the access log and the audit log; and that
of one which Apache refused before it numbers requests, as in the error log."""

EARLY = (400, 408, 414, 417, 431, 501, 505)
"""What is said of requests that never became one; whatever else has these reasons is in the error log as well."""

WAIT = "Please try again in a moment."
PAGES = {
    400: ("Bad Request", "The request could not be understood."),
    401: ("Unauthorized", "A name and a password are needed here."),
    402: ("Payment Required", "This part of the site is for subscribers."),
    403: ("Forbidden", "This request is not allowed."),
    404: ("Not Found", "There is nothing at this address."),
    405: ("Method Not Allowed", "This kind of request is not served here."),
    406: ("Not Acceptable", "There is no version of this page that your browser accepts."),
    407: ("Proxy Authentication Required", "The proxy on the way asks for a name and a password."),
    408: ("Request Timeout", "The request took too long to arrive."),
    409: ("Conflict", "Somebody else has changed this meanwhile."),
    410: ("Gone", "What was here is gone for good."),
    411: ("Length Required", "What you sent must say how long it is."),
    412: ("Precondition Failed", "This has changed since you last saw it."),
    413: ("Content Too Large", "What you sent is larger than this site takes."),
    414: ("URI Too Long", "The address that you asked for is too long."),
    415: ("Unsupported Media Type", "What you sent is of a kind that this site does not take."),
    416: ("Range Not Satisfiable", "The file is shorter than the part that you asked for."),
    417: ("Expectation Failed", "This server cannot do what your browser expects of it."),
    421: ("Misdirected Request", "This server does not serve the name that you asked for."),
    429: ("Too Many Requests", "Too many requests came from your address. Please wait a moment."),
    431: ("Request Header Fields Too Large", "Your browser sent too much. Deleting this site's cookies may help."),
    500: ("Internal Server Error", f"Something went wrong here. {WAIT}"),
    501: ("Not Implemented", "This kind of request is not served here."),
    502: ("Bad Gateway", f"The site gave no valid answer. {WAIT}"),
    503: ("Service Unavailable", f"The site cannot be reached at the moment. {WAIT}"),
    504: ("Gateway Timeout", f"The site took too long to answer. {WAIT}"),
    505: ("HTTP Version Not Supported", "This server does not speak your browser's version of HTTP."),
}
"""By status; the words of 400 to 417 and 500 to 505 may be the balancer's own (`messages:` in fleet.yml)."""


def pages(messages: Mapping[str, str]) -> dict[int, str]:
    """The page of each status as an Apache argument: one line of ASCII within quotes, with its request's number."""
    return {code: _page(code, reason, messages.get(str(code), advice)) for code, (reason, advice) in PAGES.items()}


def _page(code: int, reason: str, advice: str) -> str:
    values = {"code": code, "reason": _plain(reason), "advice": _plain(advice)}
    lines = render("/etc/haproxy/errors/page", values).splitlines()
    lines.insert(-1, f"<p><small>{EARLY_NUMBER if code in EARLY else NUMBER}</small></p>")
    return "".join(lines).replace("\\", "\\\\").replace('"', '\\"')


def _plain(text: str) -> str:
    """Text for HTML within an expression of Apache: its own signs, and whatever is not ASCII, as references."""
    from html import escape

    marked = escape(text).replace("\\", "&#92;").replace("%", "&#37;").replace("$", "&#36;")
    return marked.encode("ascii", "xmlcharrefreplace").decode()
