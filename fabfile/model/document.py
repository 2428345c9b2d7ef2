"""
One YAML file as plain data that remembers its lines, and refuses whatever would not mean what it says.

YAML 1.1 readers turn `no` into false, `8.10` into 8.1, `0123` into 83 and `12:30` into 750. This one knows text,
whole numbers, true, false and null; any other plain word that some reader would turn into something else comes out as
a `Trap`, which no schema accepts. Anchors, aliases, merge keys and tags are refused: site files are short, and without
them there is no bomb to defuse. The events come from libyaml where PyYAML has it, which is fifteen times faster.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from .refusal import Problem, Refusal, quoted

SIZE_MAX = 256 * 1024  # bytes of a file; a site file is about 2 KiB
ITEMS_MAX = 1000  # values of a list
DEPTH_MAX = 8  # mappings in mappings; the schema needs four

KeyPath = tuple[str | int, ...]  # the way to a value: ("php", "children"), ("aliases", 0)

_EMPTY = "is empty; write at least one key, or delete the file"

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Control characters, NUL, direction marks and other things that an editor does not show.
_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_TAB_INDENT = re.compile(r"^ *\t[ \t]*[^ \t\r\n#]", re.MULTILINE)

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
# What the words of YAML 1.1 turn into (yaml.org/type); the first that matches names it.
_TRAPS = tuple(
    (re.compile(pattern), reading)
    for pattern, reading in (
        (r"y|Y|yes|Yes|YES|on|On|ON|True|TRUE", "true"),
        (r"n|N|no|No|NO|off|Off|OFF|False|FALSE", "false"),
        (r"Null|NULL", "null"),
        (r"-0", "a number"),
        (r"[-+]?0[0-7_]+", "an octal number"),
        (r"[-+]?0[0-9_]+|\+[0-9][0-9_]*", "a number"),
        (r"[-+]?0o[0-7_]+", "an octal number"),
        (r"[-+]?0x[0-9a-fA-F_]+", "a hexadecimal number"),
        (r"[-+]?0b[01_]+", "a binary number"),
        (r"[-+]?[0-9][0-9_]*", "a number"),
        (r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?", "a number in base 60"),
        (r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?", "a number with a fraction"),
        (r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "a number without an end"),
        (r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?", "a date"),
        (r"<<|=", "a special key"),
    )
)
_MAYBE_TRAP = re.compile(r"[-+.0-9<=]|(?:[yntf]|on|off|yes|no|true|false|null)$", re.IGNORECASE)


class Trap(NamedTuple):
    """A value that was written one way and would be read as another, `reading`; both are empty when there is none."""

    text: str
    reading: str


_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": Trap("", "")}


@dataclass
class Document:
    """The data of a file (None: unreadable), the line of every key in it, and what was wrong with it as YAML."""

    file: Path
    data: dict[str, Any] | None = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: KeyPath) -> int:
        """The line of the key at `path`, or of the nearest one above it that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def says(self, path: KeyPath, message: str, example: str = "", expected: str = "") -> Problem:
        """A problem of this file, at its line."""
        return Problem(message, self.file, self.line(path), shown_key(path), expected, example)


def shown_key(path: KeyPath) -> str:
    """`php.children`, `aliases[1]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def read(file: Path) -> Document:
    """Read `file`. What can be read is in `.data`; what is wrong is in `.problems`. Raises nothing."""
    document = Document(file)
    try:
        text = _text(file)
        document.data = _Builder(document).build(text)
    except Refusal as refusal:
        document.problems.extend(refusal.problems)
    except yaml.YAMLError as error:
        document.problems.append(_syntax(file, error))
    return document


def _text(file: Path) -> str:
    """The characters of `file`. Raises Refusal for what is not a small plain text file in UTF-8."""
    try:
        if not file.is_file():
            raise Refusal(Problem("is not a file" if file.exists() else "there is no such file", file))
        with file.open("rb") as stream:
            content = stream.read(SIZE_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Refusal(Problem(f"cannot be read: {reason}", file)) from None
    if len(content) > SIZE_MAX:
        raise Refusal(Problem(f"is larger than {SIZE_MAX // 1024} KiB, which no such file needs", file))
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Refusal(Problem("is UTF-16; save it as UTF-8", file, 1))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Refusal(Problem("is not UTF-8; save it as UTF-8", file, line)) from None
    problems = [
        Problem(f"holds an invisible character, U+{ord(found[0]):04X}; delete it", file, _line_of(text, found.start()))
        for found in list(_HIDDEN.finditer(text))[:3]
    ] + [
        Problem("is indented with a tab; indent with spaces", file, _line_of(text, found.start()))
        for found in list(_TAB_INDENT.finditer(text))[:3]
    ]
    if problems:
        raise Refusal(problems)
    return text


def _line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


class _Builder:
    """libyaml's events -> dicts, tuples and plain values, with the line of each."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.events: Iterator[Any] = iter(())

    def build(self, text: str) -> dict[str, Any]:
        self.events = yaml.parse(text, Loader=_LOADER)
        next(self.events)  # stream start
        if isinstance(next(self.events), yaml.StreamEndEvent):
            raise self.stop(_EMPTY)
        event = next(self.events)
        if isinstance(event, yaml.ScalarEvent) and not event.value and not event.style:
            raise self.stop(_EMPTY)
        if not isinstance(event, yaml.MappingStartEvent):
            kind = "a list" if isinstance(event, yaml.SequenceStartEvent) else "one value"
            raise self.stop(f"must hold keys at the top, not {kind}", event, "key: value")
        data = self.mapping(event, ())
        next(self.events)  # document end
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self.stop("holds a second document (a line ---); one file is one document", event)
        return data

    def value(self, event: Any, path: KeyPath) -> Any:
        if len(path) > DEPTH_MAX:
            raise self.stop(f"is nested deeper than {DEPTH_MAX} levels", event)
        if isinstance(event, yaml.AliasEvent):
            self.problem(path, event, f"*{event.anchor} is an alias, which is not used here; write the value out")
            return Trap(f"*{event.anchor}", "an alias")
        if event.anchor is not None:
            self.problem(path, event, f"&{event.anchor} is an anchor, which is not used here; write the value alone")
        if event.tag is not None:
            self.problem(path, event, f"{_short(event.tag)} is a tag, which is not used here; write the value alone")
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(event, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(path)
        return plain(event.value) if not event.style else event.value

    def mapping(self, start: Any, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            key = self.key(event, path)
            here = (*path, key)
            again = key in data
            if again:
                self.problem(here, event, f"is written twice, in line {self.document.lines[here]} and in line {line}")
            first = self.document.lines.get(here)
            self.document.lines[here] = line
            value = self.value(next(self.events), here)
            if again and first is not None:
                self.document.lines[here] = first
            else:
                data[key] = value
        self.document.lines.setdefault(path, start.start_mark.line + 1)
        return data

    def key(self, event: Any, path: KeyPath) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self.stop("a key must be a plain word", event)
        text = str(event.value)
        if event.anchor is not None or event.tag is not None:
            self.problem((*path, text), event, "anchors and tags are not used here; write the key alone")
        found = text if event.style else plain(text)
        if not isinstance(found, str):
            reading = found.reading if isinstance(found, Trap) else f"{text}, not as text"
            self.problem((*path, text), event, f"YAML reads this key as {reading}", f'"{text}":')
        if not text or not text.isprintable() or len(text) > 255:
            raise self.stop("a key must be a plain word", event)
        return text

    def sequence(self, path: KeyPath) -> tuple[Any, ...]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            if len(items) == ITEMS_MAX:
                raise self.stop(f"holds a list of more than {ITEMS_MAX} values", event)
            here = (*path, len(items))
            self.document.lines[here] = event.start_mark.line + 1
            items.append(self.value(event, here))
        return tuple(items)

    def problem(self, path: KeyPath, event: Any, message: str, example: str = "") -> None:
        line = event.start_mark.line + 1
        self.document.problems.append(Problem(message, self.document.file, line, shown_key(path), example=example))

    def stop(self, message: str, event: Any = None, example: str = "") -> Refusal:
        line = 1 if event is None else event.start_mark.line + 1
        return Refusal([*self._drain(), Problem(message, self.document.file, line, example=example)])

    def _drain(self) -> list[Problem]:
        problems, self.document.problems = self.document.problems, []
        return problems


def plain(text: str) -> Any:
    """A word without quotes: a bool, a whole number, None, text, or a Trap."""
    if text in _WORDS:
        return _WORDS[text]
    if not _MAYBE_TRAP.match(text):
        return text
    if _WHOLE.fullmatch(text):
        return int(text)
    reading = next((reading for pattern, reading in _TRAPS if pattern.fullmatch(text)), None)
    return text if reading is None else Trap(text, _precisely(text, reading))


def _precisely(text: str, reading: str) -> str:
    """`8.10` -> "the number 8.1", where that says more."""
    if reading == "a number with a fraction" and len(text) < 20:
        return f"the number {float(text.replace('_', '')):g}"
    if reading == "an octal number" and len(text) < 20:
        return f"the number {int(re.sub('[_o]', '', text), 8)} (octal)"
    return reading


def _short(tag: str) -> str:
    """A tag as it was probably written: `!!python/object`."""
    core = tag.removeprefix("tag:yaml.org,2002:")
    return quoted(tag if core == tag else f"!!{core}")[1:-1]


def _syntax(file: Path, error: yaml.YAMLError) -> Problem:
    """What libyaml complains of, at the line where the trouble began."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem("is not YAML", file)
    problem, context = error.problem or "", error.context or ""
    mark = error.problem_mark or error.context_mark
    if "quoted scalar" in context and error.context_mark is not None:
        return Problem("a quote is opened here and never closed", file, error.context_mark.line + 1)
    if "flow" in context and error.context_mark is not None:
        return Problem("a [ or { is opened here that lacks a comma or its end", file, error.context_mark.line + 1)
    if "\\t" in problem or "tab" in problem:
        problem = "is indented with a tab; indent with spaces"
    elif "mapping values are not allowed" in problem:
        problem = 'there is a ": " where no key fits; indent each key like its neighbours, or put the value in quotes'
    elif "could not find expected ':'" in problem:
        problem = 'a key without its ": "'
    elif re.search("did not find expected (key|'-')|expected <block end>", problem):
        problem = "the indentation does not fit the lines above"
    elif "cannot start any token" in problem:
        problem = "a value that begins with this character needs quotes"
    return Problem(f"is not YAML: {problem}", file, None if mark is None else mark.line + 1)
