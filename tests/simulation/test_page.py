"""The examples of docs/testing.md do what the page says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "testing.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
NAMES = re.findall(r"def (test_\w+)", "".join(BLOCKS))


def test_the_page_has_examples() -> None:
    assert len(NAMES) >= 6


@pytest.mark.parametrize("name", [name for name in NAMES if f"async def {name}" in "".join(BLOCKS)])
async def test_an_example_holds(name: str) -> None:
    await _examples()[name]()


@pytest.mark.parametrize("name", [name for name in NAMES if f"async def {name}" not in "".join(BLOCKS)])
def test_a_plain_example_holds(name: str) -> None:
    assert not inspect.iscoroutinefunction(_examples()[name])
    _examples()[name]()


def _examples() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "example"}
    exec("\n".join(BLOCKS), names)
    return names
