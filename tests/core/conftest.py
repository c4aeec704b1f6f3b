"""Under mutation testing alone (`make mutate-core`): nothing is left of the unchanged code, and the quick tests go first."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import Phase, settings

from duly.core import calendar, cron, zone

# Nobody reads the examples that fail, so they need not be made small; and a mutant lives or dies the same each time.
settings.register_profile(
    "mutation", deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
)


def _forget() -> None:
    for cached in (cron.timetable, zone._chunk, calendar._numbers):
        cached.cache_clear()


def pytest_runtest_setup() -> None:
    if os.environ.get("MUTANT_UNDER_TEST") == "stats":
        _forget()  # or only the first test to need a result would count as one that reaches its code


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "__mutmut_" not in os.environ.get("MUTANT_UNDER_TEST", ""):
        return
    _forget()  # each mutant runs in a fork of a process in which the unchanged code has filled the caches
    seconds = json.loads((config.rootpath / "mutmut-stats.json").read_text())["duration_by_test"]
    items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))
    for item in items:  # a mutant may loop for ever
        item.add_marker(pytest.mark.timeout(5 + 3 * seconds.get(item.nodeid, 5.0)))
