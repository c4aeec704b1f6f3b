"""What the documentation says is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from duly.stores.redis import scripts
from tools import dst_table, lifecycle_diagram

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_life_cycle_diagram_is_that_of_the_transition_table() -> None:
    page = lifecycle_diagram.PAGE.read_text()
    assert lifecycle_diagram.updated(page) == page, "run tools/lifecycle_diagram.py"
    assert "leased --> ended: settle end" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_the_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_guarantees_name_tests_that_exist() -> None:
    sources = "\n".join(
        path.read_text() for folder in ("tests", "src/duly/testing") for path in (ROOT / folder).rglob("*.py")
    )
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "guarantees.md").read_text()))
    assert len(named) > 30
    missing = sorted(name for name in named if f"def {name}(" not in sources)
    assert not missing, f"docs/guarantees.md names tests that do not exist: {missing}"


def test_every_key_of_a_script_is_in_the_data_model() -> None:
    page = (ROOT / "docs" / "data-model.md").read_text()
    keys = {key for name in scripts.names() for key in scripts.script(name).keys}
    missing = [
        key
        for key in sorted(keys - {"pending", "nodes", "queues", "lock"})
        if f"| `{key}`" not in page and f"`{key}`" not in page
    ]
    assert not missing


def test_on_the_days_of_the_table_our_moments_are_those_of_cronsim() -> None:
    """Not that the page is as it would be written today: the rules of a zone change with its government."""
    rows = [line for line in dst_table.updated(dst_table.PAGE.read_text()).splitlines() if line.startswith("| ")][1:]
    assert len(rows) == sum(len(texts) for *_, texts in dst_table.CASES)
    assert [row for row in rows if not row.endswith("| the same |")] == []
    assert dst_table.PAGE.read_text().count("| the same |") == len(rows)
