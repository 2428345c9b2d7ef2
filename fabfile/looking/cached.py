"""Why Varnish had the answer, or had not: read from its own log of the request (vsl(7))."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Records = Sequence[tuple[str, str]]
"""Tags of Varnish's log, and their values."""


class Verdict(NamedTuple):
    """HIT, MISS, PASS or STALE; why; how long an answer is kept from now on, in seconds; what failed behind Varnish."""

    result: str
    why: str
    ttl: float = 0.0
    failed: str = ""


def verdict(log: Sequence[str]) -> Verdict | None:
    """Of the lines of `varnishlog -g request`; None when there are none."""
    records = [(tag, rest.strip()) for line in log for _, tag, rest in [_split(line)] if tag]
    if not records:
        return None
    first = dict(reversed(records))
    request = _headers(records, "ReqHeader")
    failed = next((value for tag, value in records if tag in ("FetchError", "VCL_Error")), "")
    result = request.get("x-cache", "SYNTH")
    ttl = 0.0
    if result in ("HIT", "STALE"):
        ttl, why = _had(records, first, result)
    elif result == "PASS":
        why = _passed(first, request)
    elif result == "MISS":
        ttl, why = _missed(records, first, failed)
    else:
        why = "Varnish answered it itself"
    return Verdict(result, why, ttl, failed)


def _had(records: Records, first: dict[str, str], result: str) -> tuple[float, str]:
    """How old an answer is, and how much longer it is good."""
    left = _number(first.get("Hit", "0 0").split()[1:2])
    if result == "STALE":
        return left, f"it ended {abs(round(left))} s ago, and Apache gave no newer one yet"
    age = _headers(records, "RespHeader").get("age", "0")
    return left, f"{age} s old, good for {max(round(left), 0)} s more"


def _missed(records: Records, first: dict[str, str], failed: str) -> tuple[float, str]:
    """Whether the next one will have it."""
    ttl, kept = _kept(records)
    if failed:
        return 0.0, "it was not there, and Apache gave no answer"
    if kept:
        was = (
            "it had ended, and Apache says it is still the same"
            if first.get("BerespStatus") == "304"
            else "it was not there"
        )
        return ttl, f"{was}; it is kept for {round(ttl)} s from now"
    again = "the last answer could not be kept either; " if "HitMiss" in first or "HitPass" in first else ""
    return 0.0, f"{again}it cannot be kept: {_unkept(_headers(records, 'BerespHeader'), ttl)}"


def _passed(first: dict[str, str], request: dict[str, str]) -> str:
    """Why a request goes past the cache: our own VCL's reasons, then the built-in one's."""
    if request.get("x-site-cache") == "pass":
        return "its path is under the site's bypass (cache: bypass in the site's file)"
    if (method := first.get("ReqMethod", "GET")) not in ("GET", "HEAD"):
        return f"the method is {method}"
    if "authorization" in request:
        return "the request carries a password (Authorization)"
    if cookie := request.get("cookie"):
        names = ", ".join(part.partition("=")[0].strip() for part in cookie.split(";"))
        return f"the request carries a cookie ({names})"
    if "HitPass" in first:
        return "the last answer was not to be kept"
    return "VCL says so"


def _unkept(behind: dict[str, str], ttl: float) -> str:
    """Why an answer is not kept: the built-in VCL's reasons (varnishd -x builtin, vcl_backend_response)."""
    control = behind.get("cache-control", "")
    if "set-cookie" in behind:
        name = behind["set-cookie"].partition("=")[0]
        return f"the site sets a cookie ({name})"
    if control and (ttl <= 0 or any(word in control.lower() for word in ("no-cache", "no-store", "private"))):
        return f"the site says Cache-Control: {control}"
    if behind.get("vary") == "*":
        return "the site says Vary: *"
    if ttl <= 0 and (expires := behind.get("expires")):
        return f"the site says Expires: {expires}"
    return "its status has no lifetime" if ttl <= 0 else "VCL says so"


def _split(line: str) -> tuple[str, str, str]:
    """Level, tag and value of `--  BerespHeader   Vary: *`; no tag where the line is a heading."""
    level, _, rest = line.partition(" ")
    if not level or level.strip("-0123456789"):
        return "", "", ""
    tag, _, value = rest.strip().partition(" ")
    return level, tag, value


def _headers(records: Records, kind: str) -> dict[str, str]:
    """The headers as they were in the end: what VCL took away is gone."""
    found: dict[str, str] = {}
    for tag, value in records:
        name, _, text = value.partition(":")
        if tag == kind:
            found[name.lower()] = text.strip()
        elif tag == kind.replace("Header", "Unset"):
            found.pop(name.lower(), None)
    return found


def _kept(records: Records) -> tuple[float, bool]:
    """The lifetime that an answer got in the end, and whether it may be kept at all."""
    last = [value for tag, value in records if tag == "TTL"]
    if not last:
        return 0.0, False
    ttl = _number(last[-1].split()[1:2])
    return ttl, ttl > 0 and not last[-1].endswith("uncacheable")


def _number(words: Sequence[str]) -> float:
    try:
        return float(words[0])
    except (IndexError, ValueError):
        return 0.0
