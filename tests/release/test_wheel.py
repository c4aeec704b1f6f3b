"""What is released: the files in the wheel and the sdist, and that the wheel works where nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.release.building import ROOT, Distributions, clean_environ, environment, install, interpreters, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SHIPPED = {".py", ".lua", ".sql", ".html", ".css", ".js", ".svg", ".typed", ".txt", ".md", ".json", ".woff2"}
PYTHONS = interpreters() if os.environ.get("PYTHONS") == "all" else {f"3.{sys.version_info.minor}": sys.executable}


def tracked(*folders: str) -> set[str]:
    """The files of the repository, and those that are about to be: not what is ignored."""
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    files = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())  # an unpacked sdist
    return {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: Distributions) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
    info = f"duly-{built.version}.dist-info"
    package = {name.removeprefix("src/") for name in tracked("src/duly")}
    assert {name for name in names if not name.startswith(info)} == package
    assert f"{info}/licenses/LICENSE" in names
    for needed in ("py.typed", "stores/redis/lua/claim.lua", "stores/sqlite/schema.sql"):
        assert f"duly/{needed}" in names
    assert any(name.startswith("duly/dashboard/templates/") for name in names)
    assert any(name.startswith("duly/dashboard/static/") for name in names)
    assert any("licen" in name.lower() for name in names if name.startswith("duly/dashboard/static/")), "of htmx, uPlot"


def test_the_wheel_says_what_it_is(built: Distributions) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        metadata = wheel.read(f"duly-{built.version}.dist-info/METADATA").decode()
        scripts = wheel.read(f"duly-{built.version}.dist-info/entry_points.txt").decode()
    for line in ("Name: duly", f"Version: {built.version}", "License-Expression: MIT", "Requires-Python: >=3.11"):
        assert line in metadata.splitlines()
    assert "duly = duly.cli:main" in scripts
    assert "file:" not in metadata
    assert str(ROOT) not in metadata


def test_a_wheel_can_be_built_from_the_sdist_alone(built: Distributions, tmp_path: Path, shared_folder: Path) -> None:
    with tarfile.open(built.sdist) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    inside = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    assert tracked("src", "tests", "docs", "examples", "benchmarks", "tools") <= inside
    assert {"README.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml"} <= inside
    python = shared_folder / "builder" / "bin" / "python"
    run(python, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path / "again", cwd=tree)
    (again,) = (tmp_path / "again").iterdir()
    with zipfile.ZipFile(again) as one, zipfile.ZipFile(built.wheel) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


def test_the_version_comes_from_one_place(built: Distributions) -> None:
    said: dict[str, str] = {}
    exec((ROOT / "src" / "duly" / "version.py").read_text(), said)
    assert built.version == said["__version__"]
    assert built.sdist.name == f"duly-{built.version}.tar.gz"
    text = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in text
    assert built.version not in text.split("[project.optional-dependencies]")[0].replace("dynamic", "")


@pytest.mark.parametrize("name", PYTHONS)
def test_the_wheel_works_in_an_environment_of_its_own(name: str, built: Distributions, tmp_path: Path) -> None:
    python, env = environment(tmp_path / "venv", PYTHONS[name]), clean_environ()
    install(python, f"duly @ {built.wheel.as_uri()}")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run(python, "-I", "-c", "import duly; print(duly.__version__)", cwd=empty, env=env).strip() == built.version
    installed = "import importlib.metadata as m; print(m.version('duly'))"
    assert run(python, "-I", "-c", installed, cwd=empty, env=env).strip() == built.version
    assert run(python.parent / "duly", "--version", cwd=empty, env=env).split()[-1] == built.version
    says_what_its_optional_modules_need(python, empty)
    if PYTHONS[name] != sys.executable:  # on ours, test_new_user runs it
        assert "Everything went as promised" in run(python.parent / "duly", "demo", cwd=empty, env=env)
    assert list(empty.iterdir()) == [], "it leaves nothing behind"


def says_what_its_optional_modules_need(python: Path, folder: Path) -> None:
    """The environment has none of the extras."""
    for module in ("duly.contrib.flask", "duly.contrib.opentelemetry", "duly.contrib.prometheus"):
        asked = [str(python), "-I", "-c", f"import {module}"]
        done = subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=False)
        assert "pip install" in done.stderr.splitlines()[-1], f"{module}: {done.stderr}"
    push = [str(python.parent / "duly"), "push", "t", "--url", "redis://localhost:1"]
    done = subprocess.run(push, cwd=folder, env=clean_environ(), capture_output=True, text=True, check=False)
    assert "pip install 'duly[redis]'" in done.stderr
