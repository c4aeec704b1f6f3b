"""The documentation as a site: pages that are made from the code are up to date, each page has its place, it builds."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import duly
import duly.cluster
import duly.testing
from tools import reference, site

ROOT = Path(__file__).parent.parent
ALSO = ("schedules.Schedules", "handle.Jobs", "handle.Queues", "task.Call", "cluster.redis.RedisDriver")
"""What one gets from the public names without importing it."""


@pytest.mark.parametrize("name", reference.pages())
def test_a_page_made_from_the_code_is_up_to_date(name: str) -> None:
    page = reference.FOLDER / name
    assert page.exists() and page.read_text() == reference.pages()[name], "run python -m tools.reference"  # noqa: PT018


def test_the_made_pages_tell_of_what_there_is() -> None:
    pages = reference.pages()
    assert "## duly worker" in pages["cli.md"]
    assert "### duly jobs why" in pages["cli.md"]
    assert (
        "| `concurrency` | `DULY_CONCURRENCY` | `--concurrency` | `100` | 1 to 100,000 | slots |"
        in pages["settings.md"]
    )
    assert all(f"| `{name}` |" in pages["options.md"] for name in ("delivery", "unique", "executor"))
    assert "## PushUncertain" in pages["errors.md"]
    assert "| `job.dead` |" in pages["events.md"]


def navigation(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    for inner in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from navigation(inner)


def test_every_page_has_one_place_in_the_navigation() -> None:
    listed = list(navigation(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    pages = {site.place(source) for source in site.sources() if source.endswith(".md")}
    reached_from_another = {page for page in pages if page.startswith("decisions/") and not page.endswith("README.md")}
    assert len(listed) == len(set(listed))
    assert set(listed) == pages - reached_from_another, "put it into zensical.toml"


def test_the_reference_has_every_public_name() -> None:
    directives = {
        name
        for page in reference.FOLDER.glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    }
    errors = (reference.FOLDER / "errors.md").read_text()
    for module in (duly, duly.testing, duly.cluster):
        for name in module.__all__:
            at = f"{module.__name__}.{name}"
            is_told = at in directives or f"\n## {name}\n" in errors or name in UNTOLD
            assert is_told, f"docs/reference does not tell of {at}"
    for name in ALSO:
        assert f"duly.{name}" in directives


UNTOLD = {
    "__version__",
    "At", "Cron", "Every",  # what at(), cron() and every() return: see Trigger
    "Group",  # for tests of LocalDriver
    "StuckLoop",
}  # fmt: skip


def test_links_lead_to_where_files_are_on_the_site(tmp_path: Path) -> None:
    for name, text in {
        "README.md": "[a](docs/a.md) [b](docs/sub/) [c](CHANGELOG.md#x) [d](deploy) [e](https://x.test/docs/a.md)",
        "CHANGELOG.md": "# x",
        "docs/a.md": "[up](../README.md) [code](../examples/a.py) [sub](sub/b.md) [gone](gone.md)",
        "docs/sub/README.md": "",
        "docs/sub/b.md": "[a](../a.md#part)",
        "deploy/unit": "",
        "examples/a.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    staged = tmp_path / "staged"
    stage = site.Stage(tmp_path, staged)
    for name in ("README.md", "docs/a.md"):
        stage.add(name)
    assert (staged / "index.md").read_text() == (
        "[a](a.md) [b](sub/README.md) [c](changelog.md#x) [d](deploy/index.md) [e](https://x.test/docs/a.md)"
    )
    assert (staged / "a.md").read_text() == "[up](index.md) [code](examples/a.py) [sub](sub/b.md) [gone](gone.md)"
    assert (staged / "sub" / "b.md").read_text() == "[a](../a.md#part)"
    assert (staged / "examples" / "a.py").exists()
    assert (staged / "deploy" / "index.md").read_text() == "# deploy\n\n- [unit](unit)\n"


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_the_site_builds_without_a_warning() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.site"], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    built = ROOT / "site"
    assert "Nothing accepted is lost" in (built / "index.html").read_text()
    scheduler = (built / "reference" / "duly" / "index.html").read_text()
    assert "Keep the job in the store: to be awaited" in scheduler
    assert "Declare a task and its interval schedule in one" in scheduler, "what Scheduler inherits"
    assert "connected_shards" not in scheduler, "what is not for applications"
    assert 'src="https://' not in scheduler, "nothing is loaded from elsewhere"
