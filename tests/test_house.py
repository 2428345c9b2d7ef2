"""The house's own rules, so that nobody has to remember them."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FABFILE = ROOT / "fabfile"
COMPOSED = ("__init__.py", "flows.py", "sites.py", "undo.py")
CHAPTERS = sorted(path for path in FABFILE.glob("*.py") if path.name not in COMPOSED)
PURE = ("facts", "changes", "script", "problems")


def imports(path: Path) -> set[str]:
    """The project's own modules that a file imports, as written: `.engine`, `..model`, `.facts`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = "." * node.level + (node.module or "")
            found |= {base} if node.module else {base + name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
    return found


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_knows_the_engine_and_the_model_and_no_other_chapter(path: Path) -> None:
    own = {name for name in imports(path) if name.startswith(".")}

    assert set() == {name for name in own if not re.fullmatch(r"\.(engine|model)(\.\w+)?", name)}


@pytest.mark.parametrize("path", sorted((FABFILE / "engine").glob("*.py")), ids=lambda path: path.stem)
def test_the_engine_knows_no_chapter(path: Path) -> None:
    assert set() == {name for name in imports(path) if name.startswith("..") and not name.startswith("..model")}


@pytest.mark.parametrize("name", PURE)
def test_what_decides_is_pure(name: str) -> None:
    """Facts, changes and script import only the standard library and each other: no Fabric, no wire."""
    wire = {"fabric", "invoke", "paramiko", "socket", "subprocess", "rich", "jinja2", "pydantic"}

    assert set() == imports(FABFILE / "engine" / f"{name}.py") & wire


def test_one_module_touches_the_wire() -> None:
    users = {path.stem for path in FABFILE.rglob("*.py") if "paramiko" in imports(path)}

    assert users <= {"remote", "hostkeys"}  # the latter reads files


@pytest.mark.parametrize("path", sorted((FABFILE / "engine").glob("*.py")), ids=lambda path: path.stem)
def test_the_engine_names_no_service(path: Path) -> None:
    text = path.read_text().lower()

    assert [] == [
        name for name in ("haproxy.cfg", "varnishd", "apache2", "php-fpm", "fail2ban", "lego") if name in text
    ]


def test_what_few_tasks_need_is_not_there_before_they_do() -> None:
    """A run that changes nothing is half imports; what is slow is imported by the function that uses it."""
    slow = ["cryptography.x509", "docker", "http.client", "jinja2", "rich.status", "rich.table", "urllib.request",
            "xml.etree.ElementTree"]  # fmt: skip
    program = f"import sys, fabfile; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()


@pytest.mark.parametrize(("word", "kept"), [("", True), ("1", False)])
def test_python_keeps_what_it_compiled_as_who_runs_it_wants_whatever_invoke_says(word: str, kept: bool) -> None:
    """Invoke has it keep nothing: every run would compile the runbook and its templates."""
    program = "import sys; sys.dont_write_bytecode = True; import fabfile.engine.render as r; print(r._kept(r.CACHE))"
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": word}
    ran = [sys.executable, "-c", program]
    done = subprocess.run(ran, cwd=ROOT, env=env, capture_output=True, text=True, check=True)

    assert kept == ("FileSystemBytecodeCache" in done.stdout)


def test_every_template_stands_where_its_file_will_be() -> None:
    tops = {path.name for path in (ROOT / "templates").iterdir()}

    assert tops <= {"etc", "usr", "var"}
    assert [] == [str(path) for path in (ROOT / "templates").rglob("*") if path.is_file() and path.suffix != ".j2"]


def test_nothing_names_a_registry_or_a_place_of_its_making() -> None:
    hosts = r"deb\.debian\.org|security\.debian\.org|pypi\.org|pythonhosted\.org|registry\.npmjs"
    found = subprocess.run(
        ["git", "grep", "-nIE", hosts, "--", ".", ":!tests/test_house.py"], cwd=ROOT, capture_output=True, text=True
    )

    assert "" == found.stdout
