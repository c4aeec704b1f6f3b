"""The tutorial is followed to the letter: its files are written, its commands run, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.nodes import ROOT, NodeProcess, until

PAGE = ROOT / "docs" / "tutorial.md"
SET_UP = ("mkdir", "cd", "python3 -m venv", ". .venv", "pip install")  # the test's environment stands for these


def blocks() -> Iterator[tuple[str, str]]:
    """(language, text) of each fenced block."""
    for found in re.finditer(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def commands(text: str) -> list[str]:
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


@pytest.mark.slow
def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    worker: NodeProcess | None = None
    said: dict[str, str] = {}
    env = {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100"}
    try:
        for language, text in blocks():
            if language == "python":
                name = re.match(r"# (\w+\.py)\n", text)
                assert name, f"a block of the tutorial does not say its file: {text[:40]}"
                (tmp_path / name[1]).write_text(text)
            elif language == "console":
                for command in commands(text):
                    if command.startswith(SET_UP):
                        continue
                    if command.startswith("duly worker"):
                        arguments = shlex.split(command)[1:]
                        worker = NodeProcess(tmp_path / "worker.log", "-m", "duly", *arguments, env=env, cwd=tmp_path)
                        worker.start().is_up()
                        continue
                    said[command] = run(command, tmp_path, env)
        assert worker is not None
        node = worker
        node.says("receipt for order 46")
        until(lambda: node.output.count("swept") >= 3, 10, "three sweeps")
        assert {f"receipt for order {order}" for order in (42, 43, 45, 46)} <= set(node.output.splitlines())
        assert "receipt for order 44" not in node.output
    finally:
        if worker is not None:
            worker.kill()
    assert "order 42: 9.99 paid at attempt 3" in said["duly push -s app:scheduler charge 42 9.99 --wait 30"]
    assert said["python push.py"].strip() == "order 45: 19.99 paid at attempt 3"
    assert "receipt:44" in said["duly jobs list"]
    assert "it is due in" in said["duly jobs why receipt:44"]
    assert "sweep" in said["duly schedules list"]


def run(command: str, folder: Path, env: dict[str, str]) -> str:
    """What a command prints; it must succeed."""
    program, *arguments = shlex.split(command)
    assert program in ("duly", "python"), command
    done = subprocess.run(
        [sys.executable, *(["-m", "duly"] if program == "duly" else []), *arguments],
        cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
