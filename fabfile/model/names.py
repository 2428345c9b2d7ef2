"""
Names of hosts: RFC 1123 letters, digits and hyphens; IDNA2008 with the UTS-46 mapping for all other scripts.

What is kept and compared is the A-label form in lower case (`xn--mnchen-3ya.de`); `unicode_form` gives back
what a person reads. Nothing accepted here can mean anything to a shell, Apache, HAProxy, VCL, ini or cron.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata

from .refusal import Wrong, quoted

NAME_MAX, LABEL_MAX = 253, 63  # RFC 1035 section 2.3.4, without the final dot
COMMON_NAME_MAX = 64  # RFC 5280 ub-common-name; Debian's lego puts the first name there

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TOP = re.compile(r"[a-z]{2,63}|xn--[a-z0-9-]{1,59}")
_JOINERS = "\u200c\u200d"  # needed in some scripts; IDNA2008 has rules for where
_LOOKALIKE = {"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU"}

# Names that no public or lab DNS answers for (RFC 6761, RFC 6762, RFC 7686, RFC 9476). `.test` and `.example` are
# left to those who test.
SPECIAL = frozenset({"localhost", "invalid", "local", "onion", "arpa", "alt"})

# Common names under which everybody registers: nobody's own site. Short on purpose; the CA knows the full list.
_SUFFIXES = """
ac.at ac.uk co.at co.id co.il co.in co.jp co.ke co.kr co.nz co.th co.uk co.za com.ar com.au com.br com.cn com.co com.hk
com.mx com.my com.ng com.pk com.pl com.sg com.tr com.tw com.ua com.vn edu.au edu.cn gov.au gov.br gov.in gov.uk gov.za
ltd.uk me.uk ne.jp net.au net.br net.cn net.nz net.uk nhs.uk nom.br or.at or.jp or.kr org.au org.br org.cn org.nz org.pl
org.tr org.uk org.za plc.uk police.uk sch.uk

appspot.com azurewebsites.net blogspot.com cloudfront.net duckdns.org dyndns.org firebaseapp.com fly.dev github.io
gitlab.io herokuapp.com netlify.app ngrok.io onrender.com pages.dev vercel.app web.app workers.dev
"""
SUFFIXES = frozenset(_SUFFIXES.split())

# Common slips, and what to say before the grammar says something true but dull.
_SLIPS = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"://", "write the name alone, without http:// or https://"),
        (r"\*", "wildcards are not used: name each subdomain (HTTP-01 cannot certify a wildcard)"),
        (r":[0-9]+$", "write the name alone, without a port"),
        (r"\.$", "write it without the dot at the end"),
        (r"^\.|\.\.", "it has an empty label (a dot too many)"),
    )
)


def host_name(text: str) -> str:
    """The A-label form, in lower case, of a full host name. Raises Wrong with the reason, in words."""
    _hints(text)
    name = _ascii(text)
    labels = _labels(text, name)
    if len(labels) == 1:
        raise _not_a_name(text, "it has one label only")
    if not _TOP.fullmatch(labels[-1]):
        raise _not_a_name(text, f"{quoted(labels[-1])} cannot be a top-level domain")
    if labels[-1] in SPECIAL:
        raise _not_a_name(text, f".{labels[-1]} is reserved and can never be reached from outside")
    if name in SUFFIXES:
        raise _not_a_name(text, "it is a public suffix, under which everybody registers")
    return name


def site_domain(text: str) -> str:
    """A host name that can be a site's own: it fits in a certificate's common name too. Raises Wrong."""
    name = host_name(text)
    if len(name) > COMMON_NAME_MAX:
        raise _not_a_name(
            text, f"it has {len(name)} characters, and a certificate's first name at most {COMMON_NAME_MAX}"
        )
    return name


def subdomain(text: str) -> str:
    """The A-label form of the part before a site's domain: `www`, or `a.b`. Raises Wrong."""
    if text in {"@", "_"}:
        raise Wrong("the bare domain is always served (from public_html/_): leave it out of this list")
    _hints(text)
    name = _ascii(text)
    _labels(text, name)
    return name


def unicode_form(name: str) -> str:
    """What a person reads: `xn--mnchen-3ya.de` -> `münchen.de`. `name` is one that `host_name` returned."""
    if "xn--" not in name:
        return name
    import idna

    return idna.decode(name)


def both_forms(name: str) -> str:
    """`münchen.de (xn--mnchen-3ya.de)`: what a person reads and what the machines compare."""
    shown = unicode_form(name)
    return name if shown == name else f"{shown} ({name})"


def _hints(text: str) -> None:
    """Refuse what needs no grammar: nothing, too much, the invisible, addresses, and the common slips."""
    if not text:
        raise Wrong("is empty")
    if len(text) > 4 * NAME_MAX:
        raise Wrong(f"has {len(text)} characters; a host name has at most {NAME_MAX}")
    for character in text:
        if unicodedata.category(character)[0] in "CZ" and character not in _JOINERS:
            raise _not_a_name(text, f"it holds {_character(character)}")
    if _is_address(text):
        raise _not_a_name(text, "it is an IP address")
    for slip, reason in _SLIPS:
        if slip.search(text):
            raise _not_a_name(text, reason)


def _ascii(text: str) -> str:
    """Lower-case A-labels; the characters of an ASCII name are judged by `_labels`."""
    if text.isascii():
        return text.lower()
    import idna

    _one_script(text)
    try:
        return idna.encode(unicodedata.normalize("NFC", text), uts46=True, std3_rules=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise _not_a_name(text, f"IDNA2008 refuses it ({error})") from None


def _labels(text: str, name: str) -> list[str]:
    """The labels of `name`, each judged. `text` is what was written, for the message."""
    if len(name) > NAME_MAX:
        raise _not_a_name(text, f"it has {len(name)} characters, and a host name at most {NAME_MAX}")
    labels = name.split(".")
    for label in labels:
        if len(label) > LABEL_MAX:
            raise _not_a_name(text, f"a label has at most {LABEL_MAX} characters, not {len(label)}")
        if not _LABEL.fullmatch(label):
            raise _not_a_name(text, _fault(label))
        if label[2:4] == "--":
            _punycode(text, label)
    return labels


def _punycode(text: str, label: str) -> None:
    """Hyphens in the third and fourth place belong to A-labels (RFC 5891), which must decode and come back."""
    if not label.startswith("xn--"):
        raise _not_a_name(text, f"{quoted(label)} has -- in its third and fourth place, which only xn-- may")
    import idna

    try:
        shown = idna.decode(label)
        same = idna.encode(shown).decode("ascii") == label
    except (idna.IDNAError, UnicodeError) as error:
        raise _not_a_name(text, f"{quoted(label)} is not a valid A-label ({error})") from None
    if not same:
        raise _not_a_name(text, f"{quoted(label)} is not a valid A-label")
    _one_script(shown)


def _fault(label: str) -> str:
    """Why an ASCII label is refused."""
    if not label:
        return "it has an empty label (a dot too many)"
    for character in label:
        if not re.fullmatch(r"[a-z0-9-]", character):
            return f"it holds {_character(character)}"
    return "a label must not begin or end with a hyphen"


def _one_script(text: str) -> None:
    """Refuse a label that mixes Latin with a script of look-alikes (Unicode TR 39): paypal with a Cyrillic a."""
    for label in text.split("."):
        scripts = {unicodedata.name(character, "?").split()[0] for character in label if character.isalpha()}
        other = scripts & _LOOKALIKE
        if other and (len(other) > 1 or "LATIN" in scripts):
            mixed = " and ".join(sorted(script.title() for script in {*other, *(scripts & {"LATIN"})}))
            raise _not_a_name(text, f"{quoted(label)} mixes {mixed} letters, which look alike")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _not_a_name(text: str, reason: str) -> Wrong:
    return Wrong(f"{quoted(text)} is not a host name to use: {reason}")


def _character(character: str) -> str:
    if character == "\n":
        return "a newline"
    if character == " ":
        return "a space"
    if character.isascii() and character.isprintable():
        return "a double quote" if character == '"' else quoted(character)
    return f"U+{ord(character):04X} ({unicodedata.name(character, 'a control character').lower()})"
