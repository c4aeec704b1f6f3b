"""An example as a process of its own: what it prints, with shorter times where it has to be quick."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.acceptance.nodes import ROOT

EXAMPLES = ROOT / "examples"
ENDS_WITHIN = 45.0


def run(name: str, folder: Path, *arguments: str, instead: Mapping[str, str] | None = None) -> list[str]:
    """The lines that `python examples/NAME.py ARGUMENTS` prints, in a folder of its own; it must end well.

    instead: texts of the program that are replaced, so that it takes less time.
    """
    text = (EXAMPLES / f"{name}.py").read_text()
    for said, other in (instead or {}).items():
        assert said in text, f"examples/{name}.py does not say {said!r} any more"
        text = text.replace(said, other)
    program = folder / f"{name}.py"
    program.write_text(text)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DULY_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program), *arguments],
        cwd=folder, env={**environment, "PYTHONPATH": str(ROOT / "src")}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=ENDS_WITHIN, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
    return done.stdout.splitlines()
