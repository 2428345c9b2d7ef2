"""What the door to the world is like, whichever server it is: TLS, what may pass, and what it says itself."""

from __future__ import annotations

from ..model import Site

# Mozilla Server Side TLS 6.0, "intermediate": no DHE, no CBC, the client's order.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
CIPHERSUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
CURVES = ("X25519", "prime256v1", "secp384r1")
# The hybrid group wants OpenSSL 3.5, the keyword for curves towards servers HAProxy 3.0: Debian 13 has both.
POST_QUANTUM = "X25519MLKEM768"

# What a request may look like: bytes of its URL (RFC 9110, 4.1, wants 8000), bytes and number of its headers; and bytes
# of all when its body comes without a length, well below the 15360 that HAProxy's buffer takes.
MOST = {"url": 8000, "head": 12000, "headers": 80, "unmeasured": 10_000, "buffered": 8000}
USUAL_BODY = Site(domain="example.com").body_limit

# What the door says itself, and what it means to a visitor.
PAGES = {
    400: ("Bad Request", "The request could not be understood."),
    403: ("Forbidden", "This request is not allowed."),
    405: ("Method Not Allowed", "This kind of request is not served here."),
    408: ("Request Timeout", "The request took too long to arrive."),
    413: ("Content Too Large", "What you sent is larger than this site takes."),
    429: ("Too Many Requests", "Too many requests came from your address. Please wait a moment."),
    500: ("Internal Server Error", "Something went wrong here. Please try again later."),
    501: ("Not Implemented", "This kind of request is not served here."),
    502: ("Bad Gateway", "The site gave no valid answer. Please try again in a moment."),
    503: ("Service Unavailable", "The site cannot be reached at the moment. Please try again in a moment."),
    504: ("Gateway Timeout", "The site took too long to answer. Please try again in a moment."),
}
HEADERS = {
    405: {"Allow": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"},
    429: {"Retry-After": "20"},  # the present ten seconds, and those before, which its rates remember
    503: {"Retry-After": "10"},
}
# The same, for codes of which HAProxy 2.6 has no page.
RETURNED = {
    411: ("Length Required", "What you sent is too large to come without its length."),
    414: ("URI Too Long", "The address that you asked for is too long."),
    421: ("Misdirected Request", "This server does not serve the name that you asked for."),
    431: ("Request Header Fields Too Large", "Your browser sent too much. Deleting this site's cookies may help."),
}
SUSPENDED = {"code": 503, "reason": "Down for maintenance", "advice": "This site is being worked on. Please come back."}
# Methods that ask for a tunnel, an echo, or a look into the cache.
REFUSED_METHODS = ("CONNECT", "TRACE", "TRACK", "PURGE", "BAN", "REFRESH", "PRI")
# Where somebody could claim another address, host, protocol or path than it has; X-Forwarded-* goes as a family.
FORGEABLE = (
    "CF-Connecting-IP",
    "CF-Connecting-IPv6",
    "Client-IP",
    "Fastly-Client-IP",
    "Forwarded",
    "Forwarded-For",
    "Front-End-Https",
    "HTTP2-Settings",
    "Proxy",
    "Surrogate-Capability",
    "True-Client-IP",
    "Upgrade",
    "Via",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Host",
    "X-Original-Host",
    "X-Original-URL",
    "X-Originating-IP",
    "X-ProxyUser-IP",
    "X-Real-IP",
    "X-Remote-Addr",
    "X-Remote-IP",
    "X-Rewrite-URL",
    "X-Scheme",
    "X-Site-Cache",
    "X-Url-Scheme",
)
# What is between the client and us (RFC 9110, 7.6.1). Connection could name headers that the next server would drop.
HOP_BY_HOP = ("Connection", "Keep-Alive", "Proxy-Connection", "TE")
# What tells strangers which programs to look up (OWASP Secure Headers Project, "headers to remove").
TALKATIVE = ("Server", "Via", "X-Varnish", "X-Powered-By", "X-Generator", "X-Redirect-By")
# OWASP's set as far as it breaks no ordinary site; a site that sets its own keeps it.
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Permitted-Cross-Domain-Policies": "none",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Content-Security-Policy": "frame-ancestors 'self'",
}
