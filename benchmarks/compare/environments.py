"""A virtual environment for each peer, made when it is missing and kept: its packages do not have to agree with another's."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEPT = ROOT / ".peers"


class Peer(NamedTuple):
    """One column of the comparison."""

    name: str
    module: str
    packages: list[str]
    shown: list[str]
    promise: str
    environment: str

    @property
    def python(self) -> str:
        """The interpreter of its environment."""
        return str(KEPT / self.environment / "bin" / "python")

    def versions(self) -> dict[str, str]:
        listed = subprocess.run([self.python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
        installed = {package["name"].lower(): package["version"] for package in json.loads(listed.stdout)}
        return {name: installed[name.lower()] for name in self.shown}


def peers() -> dict[str, Peer]:
    """All that peers.toml names, in its order."""
    read = tomllib.loads((HERE / "peers.toml").read_text())
    return {
        name: Peer(
            name=name,
            module=given.get("module", f"peers.{name}"),
            packages=given["packages"],
            shown=given["shown"],
            promise=given["promise"],
            environment=given.get("environment", name),
        )
        for name, given in read.items()
    }


def ensure(peer: Peer) -> None:
    """Its environment exists and holds what peers.toml asks for now."""
    folder = KEPT / peer.environment
    asked, stamp = "\n".join(peer.packages), folder / "installed"
    if stamp.exists() and stamp.read_text() == asked:
        return
    print(f"making the environment of {peer.name} …", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    arguments = [word for package in peer.packages for word in package.split(" ", 1)]
    install = [peer.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(install, cwd=ROOT, check=True)
    stamp.write_text(asked)
