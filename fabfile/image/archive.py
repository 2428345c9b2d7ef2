"""What the script of a host carries, and the script itself: the same for the same fleet, checkout and cards."""

from __future__ import annotations

import ast
import base64
import io
import json
import lzma
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine import mark
from ..engine.known import RUNBOOK
from ..engine.remote import connect, spoken, ssh_port
from ..model import Fleet

Cards = dict[str, dict[str, str] | None]
"""What the other hosts say of themselves, by their names; None: one could not be asked."""

BOOT = Path(__file__).with_name("boot.sh")
LINE = 1000
"""Characters of a line of the payload."""

# The steps without the table of contents: it knows every task, and most are for people.
LOADED = """
import sys, types
package = types.ModuleType("fabfile")
package.__path__ = [sys.argv[1]]
sys.modules["fabfile"] = package
import fabfile.image.atboot
print("\\n".join(module.__file__ for name, module in sys.modules.items() if name.startswith("fabfile.")))
"""


def script(fleet: Fleet, host: str, cards: Cards) -> str:
    """The script that makes `host`."""
    files = {**program(), **data(fleet), "manifest.json": manifest(fleet, host, cards)}
    payload = base64.b85encode(lzma.compress(_tar(files), preset=9 | lzma.PRESET_EXTREME)).decode()
    lines = "\n".join(payload[start : start + LINE] for start in range(0, len(payload), LINE))
    return BOOT.read_text().replace("@HOST@", shlex.quote(host)).replace("@PAYLOAD@", lines)


def program() -> dict[str, bytes]:
    """The modules and shell that the steps of `bootstrap` use, without what is written for people; the templates."""
    asked = [sys.executable, "-c", LOADED, str(RUNBOOK / "fabfile")]
    done = subprocess.run(asked, cwd=RUNBOOK, capture_output=True, text=True, check=True)
    modules = [Path(line).resolve() for line in done.stdout.splitlines()]
    files = {str(path.relative_to(RUNBOOK)): _bare(path.read_text()).encode() for path in modules}
    files.setdefault("fabfile/__init__.py", b"")
    trees = [path.parent for path in modules if path.name == "__init__.py"]
    shell = [path for tree in trees for path in (*tree.glob("*.sh"), *tree.glob("shell/*.sh"))]
    templates = [path for path in (RUNBOOK / "templates").rglob("*.j2") if path.is_file()]
    files |= {str(path.relative_to(RUNBOOK)): re.sub(rb"(?m)^ *#(?!!).*\n", b"", path.read_bytes()) for path in shell}
    for path in (*templates, RUNBOOK / "scripts" / "gatehouse-renew"):
        files[str(path.relative_to(RUNBOOK))] = path.read_bytes()
    return {name: content for name, content in files.items() if name != "fabfile/image/boot.sh"}


def data(fleet: Fleet) -> dict[str, bytes]:
    """What fleet.yml and the site files say, as files that lie side by side."""
    said: dict[str, Any] = fleet.model_dump(mode="json", exclude_unset=True)
    files = {f"fleet/sites/{site}.yml": (fleet.sites / f"{site}.yml").read_bytes() for site in fleet.all_sites}
    for machine in said.get("hosts", {}).values():
        machine.pop("name")
    if fleet.acme.ca_bundle:
        said["acme"]["ca_bundle"] = "ca.pem"
        files["fleet/ca.pem"] = fleet.acme.ca_bundle.read_bytes()
    said["sites"] = "sites"
    return {**files, "fleet/sites/.keep": b"", "fleet/fleet.yml": json.dumps(said, indent=1).encode()}


def manifest(fleet: Fleet, host: str, cards: Cards) -> bytes:
    """What else a run from here would know: this checkout's commits, its SSH's words, and what the others say."""
    trees = {"runbook": mark.commit(RUNBOOK), "sites": mark.commit(fleet.sites)}
    beside = fleet.file.parent / "ssh_config" if fleet.file else None
    connection = connect(host, beside if beside and beside.is_file() else None)
    said = {
        "host": host,
        "mark": mark.Mark({name: commit for name, commit in trees.items() if commit}, "image.render").text(),
        "speaks": spoken(),
        "ssh_ports": {name: ssh_port(connection, name) for name in fleet.hosts},
        "cards": cards,
    }
    return json.dumps(said, sort_keys=True).encode()


def _bare(source: str) -> str:
    """A module without its comments and docstrings: a quarter of the script's size."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [each for each in node.body if not _is_text(each)] or [ast.Pass()]
    return ast.unparse(tree) + "\n"


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _tar(files: Mapping[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))
    return raw.getvalue()
