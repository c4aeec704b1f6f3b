"""Writes the life-cycle diagram into docs/life-of-a-job.md from the transition table; `--check` only compares."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from duly.core.lifecycle import TRANSITIONS

PAGE = Path(__file__).parent.parent / "docs" / "life-of-a-job.md"
PLACE = re.compile(r"<!-- transitions -->\n.*?<!-- /transitions -->", re.DOTALL)


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for (state, verb), following in TRANSITIONS.items():
        source = "[*]" if state == "new" else state
        target = "[*]" if following == "new" else following
        lines.append(f"    {source} --> {target}: {verb}")
    return "\n".join([*lines, "```"])


def updated(page: str) -> str:
    """The page with the diagram put in its place."""
    return PLACE.sub(lambda _: f"<!-- transitions -->\n{diagram()}\n<!-- /transitions -->", page)


def main() -> None:
    page = PAGE.read_text()
    if updated(page) != page:
        if "--check" in sys.argv:
            raise SystemExit(f"{PAGE.name} is behind the transition table: run tools/lifecycle_diagram.py")
        PAGE.write_text(updated(page))


if __name__ == "__main__":
    main()
