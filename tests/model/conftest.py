"""A sites directory to write into, and what a refusal of it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from fabfile.model import Refusal, Site, load_sites

# The same examples on every machine, and no file left behind.
quick = settings(database=None, deadline=None, max_examples=100, derandomize=True)


class Folder:
    """A directory like sites/, and the two ways of reading it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)

    def write(self, name: str, content: str | bytes) -> Folder:
        data = content.encode() if isinstance(content, str) else content
        (self.path / name).write_bytes(data)
        return self

    def load(self) -> tuple[Site, ...]:
        return load_sites(self.path)

    def refusal(self) -> Refusal:
        with pytest.raises(Refusal) as caught:
            self.load()
        return caught.value


@pytest.fixture
def sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path / "sites")


@pytest.fixture
def said(sites: Folder) -> Callable[[str | bytes], str]:
    """What is said about this content of sites/example.com.yml."""
    return lambda content: str(sites.write("example.com.yml", content).refusal())
