"""The public surface as pyright sees it: the second opinion on tests/typing, beside mypy's in `make check`.

Every `type: ignore` there must be one that pyright needs, too: what is an error to the one is an error to both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "typing"
COLD = 300
"""Seconds: at its first run pyright fetches its own program."""


def check(folder: Path) -> list[str]:
    """What pyright finds in the folder of a pyrightconfig.json."""
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--project", str(folder), "--pythonpath", sys.executable, "--outputjson"],
        capture_output=True, text=True, timeout=COLD, check=False, env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )  # fmt: skip
    assert done.returncode in (0, 1), f"pyright did not run:\n{done.stdout}{done.stderr}"
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] > 0, "pyright has looked at nothing"
    return [
        f"{Path(one['file']).name}:{one['range']['start']['line'] + 1}: {one['message']} ({one.get('rule')})"
        for one in report["generalDiagnostics"]
    ]


@pytest.mark.slow
@pytest.mark.timeout(COLD + 30)
def test_pyright_agrees_with_what_mypy_is_shown() -> None:
    assert check(FOLDER) == []


@pytest.mark.slow
@pytest.mark.timeout(COLD + 30)
def test_pyright_sees_wrong_arguments_and_ignores_that_nobody_needs(tmp_path: Path) -> None:
    config = json.loads((FOLDER / "pyrightconfig.json").read_text())
    config["extraPaths"] = [str(FOLDER.parent.parent / "src")]
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    (tmp_path / "wrong.py").write_text(
        "from duly import Scheduler\n"
        "scheduler = Scheduler()\n"
        "@scheduler.task\n"
        "async def send(order: int, *, to: str = '') -> str: return to\n"
        "send.push_sync('42')\n"
        "send.push_sync(42, too='a@b')\n"
        "send.push_sync(42)  # type: ignore[arg-type]\n"
        "send.push_sync(42).result().upper()\n"
    )
    assert [found.split(":")[1] for found in check(tmp_path)] == ["5", "6", "7"]
