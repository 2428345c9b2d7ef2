"""Templates to text: Jinja2 with undefined names refused, and one filter for each syntax that a value may enter.

A value with a line break or a control character never enters a line of configuration, wherever it stands.

Jinja2 is imported, and templates are read, while a host is awaited (`warm`).
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import threading
from contextlib import suppress
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parents[2] / "templates"
CACHE = Path(cache_from_source(__file__)).parent
_WARMED = threading.Lock()

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


class BadValue(ValueError):
    """A value that would break out of its line."""


def one_line(value: Any) -> Any:
    """The value, when it fits in a line of configuration; raises BadValue when not.

    What is no text is judged as it will be written. Numbers and what can be printed, most of what there is, need no
    closer look.
    """
    if isinstance(value, int | Block) or (isinstance(value, str) and value.isprintable()):
        return value
    if _CONTROL.search(text := str(value)):
        raise BadValue(f"{text!r} holds a line break or a control character")
    return value


class Block(str):
    """Text of several lines that a template may place as it is: it is our own, never an operator's."""


def apache(value: object) -> str:
    """A quoted Apache argument (httpd configuration files: backslash escapes the quote); ${X} would be replaced."""
    if "${" in str(value):
        raise BadValue(f"{value!r} cannot stand in an Apache argument")
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def ini(value: object) -> str:
    """A quoted value for php.ini and FPM, where nothing can be escaped: quotes and dollars are refused."""
    text = str(value)
    if set(text) & set('"$\\'):
        raise BadValue(f"{text!r} cannot stand in an ini value")
    return f'"{text}"'


def php(value: object) -> str:
    """A string of PHP, in which nothing is replaced."""
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def vcl(value: object) -> str:
    """A VCL string; VCL has no escapes, so a quote is refused (vcl(7))."""
    if '"' in str(value):
        raise BadValue(f"{value!r} cannot stand in a VCL string")
    return f'"{value}"'


def haproxy(value: object) -> str:
    """A HAProxy argument within strong quotes (HAProxy configuration manual, 2.2 Quoting and escaping)."""
    return "'" + str(value).replace("'", "'\\''") + "'"


def _kept(directory: Path) -> jinja2.BytecodeCache | None:
    """Where compiled templates are kept, beside this module's own bytecode; None where Python keeps none either.

    Jinja2 knows one by its template and its text. What our filters make of it is compiled in as well, so that another
    version of this module begins anew.
    """
    if sys.dont_write_bytecode or not os.access(directory, os.W_OK):
        return None
    import jinja2

    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return jinja2.FileSystemBytecodeCache(str(directory), f"template-{version}-%s.cache")


@cache
def environment(root: Path = TEMPLATES) -> jinja2.Environment:
    """The one Jinja2 environment of a tree of templates."""
    import jinja2

    env = jinja2.Environment(  # noqa: S701  (configuration files, not HTML: nothing is escaped)
        loader=jinja2.FileSystemLoader(root),
        undefined=jinja2.StrictUndefined,
        finalize=one_line,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,  # a run is too short for templates to change under it; it would ask for each site
        bytecode_cache=_kept(CACHE),
    )
    env.filters.update(apache=apache, ini=ini, php=php, vcl=vcl, haproxy=haproxy)
    # Else a chain of mappings, which would be walked for each site.
    env.make_globals = lambda given: {**env.globals, **(given or {})}  # type: ignore[method-assign,assignment]
    return env


def warm() -> None:
    """Read all templates, so that none is read once the host has answered. What is wrong with one, its step tells.

    Of several hosts that are awaited at once, the first has it done for all.
    """
    if not _WARMED.acquire(blocking=False):
        return
    env = environment()
    with suppress(Exception):
        for name in env.list_templates(extensions=["j2"]):
            env.get_template(name)


def place(path: str, values: dict[str, Any]) -> str:
    """The remote path: `/etc/php/{php}/fpm/pool.d/{site}.conf` with its names filled in."""
    return path.format_map(values) if "{" in path else path


def render(path: str, values: dict[str, Any], root: Path = TEMPLATES) -> str:
    """The text of `templates/PATH.j2`.

    Raises BadValue, naming the template, for a value that would break out, for a name that has no value, and for
    whatever else an expression in it raises.
    """
    name = path.lstrip("/") + ".j2"
    try:
        return environment(root).get_template(name).render(values)
    except Exception as error:
        import jinja2

        line = f":{error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        raise BadValue(f"templates/{name}{line}: {error}") from error
