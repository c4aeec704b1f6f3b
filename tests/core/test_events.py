"""Event names, and which of them a listener hears."""

from __future__ import annotations

import pytest

from duly.core.events import NAMES, Event, known, matches


@pytest.mark.parametrize("name", NAMES)
def test_every_event_is_heard_by_its_own_name_and_by_the_star(name: str) -> None:
    assert known(name)
    assert matches(name, name)
    assert matches("*", name)


def test_a_family_hears_its_members_only() -> None:
    heard = {name for name in NAMES if matches("job.*", name)}
    assert heard == {name for name in NAMES if name.startswith("job.")}
    assert heard


@pytest.mark.parametrize("pattern", ["job.*", "tick.*", "node.*", "*", "online", "disconnected"])
def test_patterns_that_can_match_are_known(pattern: str) -> None:
    assert known(pattern)


@pytest.mark.parametrize("pattern", ["", "job", "job.", "jobs.*", "job.begun", ".*", "tick", "Online", "*.ended"])
def test_patterns_that_never_match_are_not_known(pattern: str) -> None:
    assert not known(pattern)


def test_a_name_hears_no_longer_name_that_begins_with_it() -> None:
    assert not matches("job.end", "job.ended")
    assert not matches("job", "job.ended")


def test_an_event_is_a_value() -> None:
    assert Event("online", {"node": "n"}) == Event("online", {"node": "n"})
    with pytest.raises(AttributeError):
        Event("online", {}).name = "offline"  # type: ignore[misc]
