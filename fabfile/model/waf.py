"""What fleet.yml says of the balancer's limits, its brake and its web application firewall.  (T3)

The numbers of Limits are T3's.  Whatever is looser on one route than on the others has a reason, which stands in the
configuration of the host as well.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from . import grammars
from .fields import FROZEN, choice, number, switch, unique, words
from .refusal import Wrong, quoted

PUNCTUATION = "|./_-"
STATUSES = (*range(400, 418), *range(500, 506))
"""T3 lists a page for each of these."""

EXCLUDABLE = ((911000, 948999), (950000, 958999))
"""The rules of the core rule set that look for something.  The others count, and decide by the sum."""


def _reason(text: str) -> str:
    if not text.strip() or len(text) > 200 or not text.isprintable():
        raise Wrong(f"must be one line that says why, at most 200 characters, not {quoted(text)}")
    return text.strip()


def _punctuation(text: str) -> str:
    if not all(33 <= ord(each) < 127 and not each.isalnum() for each in text) or "/" not in text:
        raise Wrong(
            f"must be ASCII punctuation, with the / that every path has, not {quoted(text)}; null lets all pass",
            PUNCTUATION,
        )
    return "".join(dict.fromkeys(text))


def _rule(number: int) -> int:
    if not any(low <= number <= high for low, high in EXCLUDABLE):
        raise Wrong(f"{number} is no rule of the core rule set that looks for something: 911000 to 958999", 942100)
    return number


def _argument(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.\[\]-]{1,100}", text):
        raise Wrong(f"must be the name of a parameter: letters, digits and _ . [ ] -, not {quoted(text)}", "comment")
    return text


def _message(text: str) -> str:
    if not text.strip() or len(text) > 500 or not text.isprintable():
        raise Wrong(f"must be one line of text, at most 500 characters, not {quoted(text)}")
    return text.strip()


def _status(text: str) -> str:
    if not (text.isdecimal() and int(text) in STATUSES):
        raise Wrong(f"{quoted(text)} is no status with a page: 400 to 417, 500 to 505", "404")
    return text


def _as_text(value: Any) -> Any:
    """YAML reads `404:` as a number; as a key it is a name."""
    if not isinstance(value, dict):
        return value
    return {str(key) if type(key) is int else key: text for key, text in value.items()}


Reason = Annotated[str, AfterValidator(_reason)]
Punctuation = Annotated[str, AfterValidator(_punctuation)]
Message = Annotated[str, AfterValidator(_message)]


class Limits(BaseModel):
    """How large a request may be, and what its path may hold; anything else never reaches a backend."""

    model_config = FROZEN

    body: int = number(102_400, 0, 2**31 - 1, "bytes of a request's body, with a length or chunked")
    fields: int = number(40, 1, 1000, "header fields of a request")
    field_size: int = number(1000, 100, 60_000, "bytes of one header field, name and value")
    line: int = number(1000, 100, 60_000, "bytes of the request line: method, address and version")
    punctuation: Punctuation | None = Field(
        default=PUNCTUATION,
        title="what a path may hold beside letters and digits, once decoded; null for anything",
        description="characters, or null",
        examples=[PUNCTUATION + "~"],
    )


class Loosened(BaseModel):
    """What one route takes otherwise than the others, and why."""

    model_config = FROZEN

    reason: Reason = Field(title="why", description="one line of text", examples=["photographs are sent here"])
    body: int | None = Field(default=None, ge=0, le=2**31 - 1, title="bytes of a request's body",
                             description="a whole number of bytes", examples=[10_485_760])  # fmt: skip
    fields: int | None = Field(default=None, ge=1, le=1000, title="header fields of a request",
                               description="a whole number from 1 to 1000", examples=[60])  # fmt: skip
    field_size: int | None = Field(default=None, ge=100, le=60_000, title="bytes of one header field",
                                   description="a whole number from 100 to 60000", examples=[8000])  # fmt: skip
    line: int | None = Field(default=None, ge=100, le=60_000, title="bytes of the request line",
                             description="a whole number from 100 to 60000", examples=[8000])  # fmt: skip
    punctuation: Punctuation | Literal["any"] | None = Field(
        default=None,
        title="what a path may hold beside letters and digits, once decoded; any for anything",
        description="characters, or any",
        examples=[PUNCTUATION + "~@"],
    )

    def over(self, limits: Limits) -> Limits:
        """The limits of this route: its own, else the balancer's."""
        own = {key: value for key, value in self if key != "reason" and value is not None}
        if own.get("punctuation") == "any":
            own["punctuation"] = None
        return limits.model_copy(update=own)


class Exclusion(BaseModel):
    """Rules of the core rule set that are not asked on one route, or not about some parameters, and why."""

    model_config = FROZEN

    rules: Annotated[tuple[Annotated[int, AfterValidator(_rule)], ...], Field(min_length=1), unique] = Field(
        title="their numbers; `waf.report` shows them", description="a list of rule numbers", examples=[[942100]]
    )
    parameters: Annotated[tuple[Annotated[str, AfterValidator(_argument)], ...], unique] = words(
        "of these parameters alone; none means of the whole request", "a list of names", "comment"
    )
    reason: Reason = Field(title="why", description="one line of text", examples=["editors write about SQL here"])


class Evasive(BaseModel):
    """Whom mod_evasive shuts out, and for how long.  Each child process counts for itself: see docs/decisions.md."""

    model_config = FROZEN

    enabled: bool = switch(True, "whether a flood is refused")
    whitelist: Annotated[tuple[grammars.Network, ...], unique] = words(
        "addresses and networks that are never refused, beside the operators'", "a list of networks", "10.10.10.2"
    )
    page_count: int = number(20, 1, 1_000_000, "requests for one page in page_interval, beyond which it is a flood")
    page_interval: int = number(1, 1, 3600, "seconds")
    site_count: int = number(200, 1, 1_000_000, "requests for anything in site_interval, beyond which it is a flood")
    site_interval: int = number(1, 1, 3600, "seconds")
    blocking_period: int = number(30, 1, 86400, "seconds without a further request until the address is free again")


class Waf(BaseModel):
    """mod_security with the OWASP core rule set."""

    model_config = FROZEN

    engine: Literal["block", "detect"] = choice("block", "detect", "whether what the rules find is refused or logged")
    paranoia: int = number(1, 1, 4, "the core rule set's paranoia level")
    inbound: int = number(5, 1, 10_000, "the score at which a request is refused; one critical finding is 5")
    outbound: int = number(4, 1, 10_000, "the score at which an answer is refused; one error finding is 4")
    responses: bool = switch(False, "whether the answers of backends are read as well")
    exclusions: tuple[Exclusion, ...] = Field(
        default=(),
        title="rules that are not asked on any route",
        description="a list of exclusions",
        examples=[[{"rules": (942100,), "reason": "editors write about SQL here"}]],
    )


Messages = Annotated[dict[Annotated[str, AfterValidator(_status)], Message], BeforeValidator(_as_text)]
"""What the page of a status says, in the balancer's own words: by status."""
