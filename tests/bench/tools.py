"""The tools that are measured: how each is installed, and what a person types to bring a host to its manifest."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..lab.errors import LabError
from ..lab.machine import CHECKOUT

PEERS = Path(__file__).parent / "peers"
HOME = CHECKOUT / ".lab" / "bench"
"""What the bench makes for itself on this machine."""


@dataclass(frozen=True)
class Place:
    """Where a tool shall work: an ssh_config, the host's name in it (or several), the manifest's directory."""

    config: Path
    host: str
    manifest: Path


Line = Callable[[Place], list[str]]


@dataclass(frozen=True)
class Tool:
    """A tool: its name, what is typed, and what it says when nothing was changed.

    packages: which version is asked of its virtual environment, of what is named there; needs: what it wants on a host
    before it can begin, and most providers' images have.
    """

    name: str
    line: Line
    unchanged: str
    packages: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """What is measured, for people."""
        found = (_version(venv(self.name) / "bin" / "python", package) for package in self.packages)
        return ", ".join(found) or {"gatehouse": _commit(), "shell": "peers/setup.sh"}.get(self.name, _ssh())

    def kept_all(self, said: str) -> bool:
        """Whether a run changed nothing, by its own words."""
        return re.search(self.unchanged, said) is not None


def venv(name: str) -> Path:
    """Where a peer lives."""
    return HOME / "venv" / name


def install(name: str) -> Path:
    """A virtual environment with exactly what its requirements name, made once; returns its bin/."""
    wanted = PEERS / f"requirements-{name}.txt"
    place = venv(name)
    mark = place / "gatehouse"
    if not mark.exists() or mark.read_text() != wanted.read_text():
        print(f"installing {name}", file=sys.stderr, flush=True)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        pip = [str(place / "bin" / "pip"), "install", "-qq", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*pip, "--require-hashes", "-r", str(wanted)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise LabError(f"pip could not install {wanted.name}:\n{done.stderr[-2000:]}")
        mark.write_text(wanted.read_text())
    return place / "bin"


def _version(python: Path, package: str) -> str:
    asked = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([str(python), "-c", asked], capture_output=True, text=True, check=False)
    return f"{package} {done.stdout.strip()}"


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else "no commit"


def _ssh() -> str:
    done = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False)
    return done.stderr.partition(",")[0].strip()


def _gatehouse(place: Place) -> list[str]:
    return [str(Path(sys.executable).parent / "fab"), "-S", str(place.config), "-H", place.host, "bootstrap"]


def _true(place: Place) -> list[str]:
    return ["ssh", "-F", str(place.config), place.host, "true"]


def _shell(place: Place) -> list[str]:
    there = 'sudo sh -c "mkdir -p /root/setup && tar -C /root/setup -xzf - && sh /root/setup/setup.sh"'
    ssh = shlex.join(["ssh", "-F", str(place.config), place.host, there])
    tar = f"tar -cz -C {shlex.quote(str(PEERS))} setup.sh -C {shlex.quote(str(place.manifest))} ."
    return ["bash", "-o", "pipefail", "-c", f"{tar} | {ssh}"]


def _ansible(name: str) -> Line:
    def line(place: Place) -> list[str]:
        tool = str(venv(name) / "bin" / "ansible-playbook")
        common = f"--ssh-common-args=-F {place.config}"
        # Kept connections are known by the host's name alone: one of the short line would serve the long one.
        kept = f"ansible_control_path_dir={place.config.parent}/kept"
        given = ["-e", f"manifest={place.manifest}", "-e", kept]
        return [tool, "-i", f"{place.host},", common, *given, str(PEERS / "site.yml")]

    return line


def _pyinfra(place: Place) -> list[str]:
    data = {"manifest": place.manifest, "ssh_config_file": place.config,
            "ssh_known_hosts_file": place.config.parent / "known_hosts"}  # fmt: skip
    given = [word for key, value in data.items() for word in ("--data", f"{key}={value}")]
    hosts = ",".join(f"@ssh/{host}" for host in place.host.split(","))
    return [str(venv("pyinfra") / "bin" / "pyinfra"), "-y", *given, hosts, str(PEERS / "deploy.py")]


def _settings(name: str) -> dict[str, str]:
    return {"ANSIBLE_CONFIG": str(PEERS / "ansible.cfg"), "ANSIBLE_HOME": str(HOME / name)}


def _mitogen() -> dict[str, str]:
    (found,) = (*venv("mitogen").glob("lib/python3*/site-packages/ansible_mitogen/plugins/strategy"), Path())[:1]
    return {"ANSIBLE_STRATEGY_PLUGINS": str(found), "ANSIBLE_STRATEGY": "mitogen_linear"}


NOTHING = {
    "gatehouse": " kept, 0 changed, 0 failed ",
    "ansible": r"(?s)\A(?!.*(changed|unreachable|failed)=[1-9]).* changed=0 ",
    "pyinfra": r"Grand total +\d+ +- +- +\d+",
}
"""What a tool's last lines are when nothing had to be changed."""


PYTHON = ("python3", "python3-apt")
"""What Ansible's modules are run by, and its apt."""


def floor() -> Tool:
    """What nobody can be faster than: one login."""
    return Tool("ssh host true", _true, "^")


def tools() -> dict[str, Tool]:
    """All tools, installed."""
    for name in ("ansible", "mitogen", "pyinfra"):
        install(name)
    ansible, mitogen = _settings("ansible"), _settings("mitogen") | _mitogen()
    found = (
        Tool("gatehouse", _gatehouse, NOTHING["gatehouse"]),
        Tool("shell", _shell, "^"),
        Tool("mitogen", _ansible("mitogen"), NOTHING["ansible"], ("mitogen", "ansible-core"), mitogen, PYTHON),
        Tool("pyinfra", _pyinfra, NOTHING["pyinfra"], ("pyinfra", "paramiko")),
        Tool("ansible", _ansible("ansible"), NOTHING["ansible"], ("ansible-core",), ansible, PYTHON),
    )
    return {tool.name: tool for tool in found}
