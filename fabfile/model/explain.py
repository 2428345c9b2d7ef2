"""Pydantic's errors -> Problems: the line, what the key expects in words, and an example that would be accepted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from .document import Document, KeyPath, Trap, plain
from .refusal import Problem, Wrong, quoted

Model = type[BaseModel]

FILE_MAX = 50  # problems of one file that are explained; a machine-made file may have thousands

_SECRET = re.compile("passw|secret|token|hmac|credential|private", re.IGNORECASE)
_BARE = re.compile(r"[A-Za-z0-9/._](?:[A-Za-z0-9/._@+~-]|:(?=[/0-9a-f]))*")  # needs no quotes in YAML


def problems(document: Document, model: Model, error: ValidationError) -> Iterator[Problem]:
    """What `error` says about `document`, leaving out what the document's own problems have said already."""
    said = {problem.key for problem in document.problems}
    # What a factory was not called for follows from another error.
    details = [detail for detail in error.errors(include_url=False) if detail["type"] != "default_factory_not_called"]
    places = [detail["loc"] for detail in details]
    for detail in details[:FILE_MAX]:
        within = detail["loc"]
        if detail["type"] == "too_short" and any(place[: len(within)] == within != place for place in places):
            continue  # pydantic counts only what is right in a list
        problem = _problem(document, model, detail)
        if problem.key not in said:
            yield problem


def _problem(document: Document, model: Model, detail: ErrorDetails) -> Problem:
    loc, kind, given = detail["loc"], detail["type"], detail["input"]
    if kind == "missing":
        field, _ = _field(model, loc)
        return document.says(loc, "is missing", _pair(loc[-1], _example(field)), _expected(field))
    if kind == "extra_forbidden":
        return document.says(loc, _unknown(model, loc))
    wrong = detail.get("ctx", {}).get("error")
    at = wrong.at if isinstance(wrong, Wrong) and wrong.at else ()
    field, key = _field(model, loc)
    owner = _model_at(model, loc[: loc.index(key)]) if key else model
    if isinstance(wrong, Wrong):
        example = _pair(key, _listed(field, wrong.example or _example(field)))
        return document.says((*loc, *at), wrong.message, example, _expected(field))
    remedy = _pair(key, _remedy(owner, field, key, given))
    if isinstance(given, Trap) and not given.reading:
        return document.says(loc, f"has no value; it must be {_expected(field)}, or the key left out", remedy)
    if loc and isinstance(loc[-1], int):
        message = f"{_expected(field)} cannot hold {shown(given)}"
    else:
        message = f"must be {_expected(field)}, not {shown(given)}"
    return document.says(loc, message, remedy, _expected(field))


def shown(value: Any) -> str:
    """A value of the file, as a reader would name it."""
    if isinstance(value, Trap):
        return f"{value.text if value.text.isprintable() else quoted(value.text)}, which YAML reads as {value.reading}"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a mapping"
    return written(value)


def written(value: Any) -> str:
    """`value` in YAML, on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(written(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {written(item)}' for key, item in value.items())}}}"
    text = str(value)
    return text if isinstance(value, int) or (_BARE.fullmatch(text) and plain(text) == text) else quoted(text)


def _pair(key: Any, value: Any) -> str:
    return f"{key}: {written(value)}"


def _field(model: Model, loc: KeyPath) -> tuple[FieldInfo | None, str]:
    """The schema's field that `loc` is in, and its key."""
    field: FieldInfo | None = None
    key = ""
    inside: Model | None = model
    for part in loc:
        if inside is not None and part in inside.model_fields:
            field, key = inside.model_fields[str(part)], str(part)
            inside = _model_in(field.annotation)
    return field, key


def _model_in(annotation: Any) -> Model | None:
    """The model that a field holds: itself, or None, or by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _expected(field: FieldInfo | None) -> str:
    return (field.description if field else None) or "something else"


def _example(field: FieldInfo | None) -> Any:
    return field.examples[0] if field and field.examples else "value"


def _listed(field: FieldInfo | None, example: Any) -> Any:
    """`example` as the whole value of the key, also where it is that of one item."""
    return [example] if isinstance(_example(field), list) and not isinstance(example, list) else example


def _remedy(owner: Model, field: FieldInfo | None, key: str, given: Any) -> Any:
    """What was probably meant, when the schema would accept it; else the field's example."""
    if field is None:
        return _example(field)
    return next((each for each in _guesses(field, given) if _accepts(owner, key, each)), _example(field))


def _accepts(owner: Model, key: str, value: Any) -> bool:
    """Whether `value` could stand at `key`, by all of its model's checks."""
    try:
        owner.model_validate({key: value})
    except ValidationError as error:
        return all(detail["loc"][:1] != (key,) for detail in error.errors(include_url=False))
    return True


def _guesses(field: FieldInfo, given: Any) -> Iterator[Any]:
    text = given.text if isinstance(given, Trap) else given if isinstance(given, str) else written(given)
    if isinstance(_example(field), list):
        yield (text,)
    elif isinstance(_example(field), bool):
        yield {"true": True, "false": False}.get(given.reading if isinstance(given, Trap) else text.lower())
    else:
        yield text
        if text.isascii() and text.isdigit() and len(text) < 10:
            yield int(text)


def _unknown(model: Model, loc: KeyPath) -> str:
    """The nearest right key, here or one level away."""
    word = str(loc[-1])
    if _SECRET.search(word):
        return "unknown key; no secret belongs in this file: those that are needed are made on the host, and stay there"
    _, above = _field(model, loc[:-1])
    here = _model_at(model, loc[:-1])
    keys = [key for key in here.model_fields if key != "name"]
    for key, field in model.model_fields.items():
        inside = _model_in(field.annotation)
        if inside is not None and key != above and word in inside.model_fields:
            return f"unknown key; {word} belongs under {key}"
    if here is not model and word in model.model_fields:
        return f"unknown key; {word} belongs at the left edge, not under {above}"
    near = difflib.get_close_matches(word.lower().replace("-", "_"), keys, 1)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; the keys here are {', '.join(keys)}"


def _model_at(model: Model, loc: KeyPath) -> Model:
    for part in loc:
        if part in model.model_fields:
            model = _model_in(model.model_fields[str(part)].annotation) or model
    return model
