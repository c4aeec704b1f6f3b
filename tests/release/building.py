"""Wheel, sdist and fresh environments, as a release makes them; built once for all test processes of a run."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MINUTES = 3
"""What one step may take at most, on a slow machine with a slow network."""


@dataclass(frozen=True)
class Distributions:
    """What a release consists of."""

    wheel: Path
    sdist: Path

    @property
    def version(self) -> str:
        return self.wheel.name.split("-")[1]


@contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Of several test processes one goes in, the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """What it prints; it must succeed."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=dict(env) if env else None, capture_output=True, text=True,
        timeout=60 * MINUTES, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}"
    return done.stdout


def distributions(folder: Path) -> Distributions:
    """Build both from the tree as it is, with a fresh build backend."""
    dist = folder / "dist"
    with alone(folder, "dist"):
        if not dist.exists():
            python = environment(folder / "builder")
            install(python, *build_requirements())
            run(python, "-m", "hatchling", "build", "--directory", folder / "building", cwd=ROOT)
            (folder / "building").rename(dist)
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    return Distributions(wheel, sdist)


def build_requirements() -> list[str]:
    """Those of pyproject.toml."""
    found = re.search(r"\[build-system\]\nrequires = \[(.*)\]", (ROOT / "pyproject.toml").read_text())
    assert found, "pyproject.toml does not begin with its build system"
    return [requirement.strip(' "') for requirement in found[1].split(",")]


def environment(folder: Path, python: str = sys.executable) -> Path:
    """A fresh virtual environment; its interpreter. It has no pip: `install` uses ours, which saves ten seconds."""
    run(python, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    return folder / "bin" / "python"


def install(python: Path, *requirements: str) -> None:
    """Into the environment of that interpreter, from the index that this machine has."""
    pip = (sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check")
    run(*pip, "install", *requirements, cwd=python.parent, env=clean_environ())


def clean_environ(**more: str) -> dict[str, str]:
    """This process's variables, without what would lead into the source tree or another store."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME", "DULY_", "COV_", "PYTEST_")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(ours)}, **more}


def interpreters() -> dict[str, str]:
    """Every Python from 3.11 on that is here, by its minor version: on PATH, or known to pyenv. The first is our own."""
    found = {f"3.{sys.version_info.minor}": sys.executable}
    for minor in range(11, 16):
        name = f"3.{minor}"
        for path in filter(None, (shutil.which(f"python{name}"), from_pyenv(name))):
            asked = subprocess.run([path, "-c", "import sys, venv, ensurepip"], capture_output=True, check=False)
            if name not in found and asked.returncode == 0:
                found[name] = path
    return found


def from_pyenv(name: str) -> str | None:
    if shutil.which("pyenv") is None:
        return None
    asked = subprocess.run(["pyenv", "prefix", name], capture_output=True, text=True, check=False)
    return f"{asked.stdout.strip()}/bin/python{name}" if asked.returncode == 0 else None
