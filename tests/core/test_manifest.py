"""Which version of an application's declared schedules is in force while a deploy rolls, and what is still declared."""

from __future__ import annotations

import pytest

from duly.core.manifest import Manifest, declared_by_any, in_force, make_manifest, place_of

NOW = 1_800_000_000_000
DECLARED = [("mail", "daily", b"one"), ("default", "hourly", b"two")]


def made(
    *declared: tuple[str, str, bytes], app: str = "shop", live: tuple[Manifest, ...] = (), now: int = NOW
) -> Manifest:
    return make_manifest(app, declared or DECLARED, live, now)


def test_a_manifest_says_what_is_declared_since_when_and_by_which_application() -> None:
    found = made()
    assert (found.app, found.since) == ("shop", NOW)
    assert set(found.places) == {place_of("mail", "daily"), place_of("default", "hourly")}


def test_the_order_of_declarations_means_nothing() -> None:
    assert made(*DECLARED) == made(*reversed(DECLARED))


@pytest.mark.parametrize(
    "other",
    [
        [("mail", "daily", b"one")],
        [("mail", "daily", b"one"), ("default", "hourly", b"TWO")],
        [("mail", "daily", b"one"), ("slow", "hourly", b"two")],
        [("mail", "daily", b"one"), ("default", "weekly", b"two")],
        [("mail", "daily", b"oned"), ("efault", "hourly", b"two")],  # the same letters, cut elsewhere
        [("maild", "aily", b"one"), ("default", "hourly", b"two")],
        [("mail", "dailyo", b"ne"), ("default", "hourly", b"two")],
    ],
)
def test_every_difference_in_what_is_declared_is_another_version(other: list[tuple[str, str, bytes]]) -> None:
    assert made(*other).digest != made().digest


def test_a_place_is_a_queue_and_an_id_and_is_written_in_twelve_digits() -> None:
    assert place_of("mail", "daily") != place_of("maild", "aily")
    assert place_of("mail", "daily") == place_of("mail", "daily")
    assert len(place_of("mail", "daily")) == 12
    assert int(place_of("mail", "daily"), 16) >= 0


def test_manifests_are_the_same_in_every_version_of_duly() -> None:
    """Nodes of two versions compare them during a deploy."""
    found = made()
    assert found.digest == "bb4c84b44530d473b52a0f5d"
    assert found.places == ("0feed9130f1d", "772efb9c5cec")


def test_a_node_that_starts_beside_its_like_is_as_old_as_the_oldest_of_them() -> None:
    old, older = made(now=NOW - 5_000), made(now=NOW - 9_000)
    assert made(live=(old, older)).since == NOW - 9_000
    assert made(live=(old,), now=NOW - 7_000).since == NOW - 7_000


def test_the_age_of_another_version_or_of_another_application_is_nothing_to_a_node() -> None:
    other_version = made(("mail", "daily", b"new"), now=NOW - 5_000)
    other_app = made(app="desk", now=NOW - 5_000)
    assert made(live=(other_version, other_app)).since == NOW


def test_the_version_first_seen_last_is_in_force_whoever_asks() -> None:
    old, new = made(now=NOW - 5_000), made(("mail", "daily", b"new"))
    assert in_force(old, [new]) == in_force(new, [old]) == new.digest


def test_an_old_version_that_starts_again_in_the_middle_of_a_deploy_changes_nothing() -> None:
    old, new = made(now=NOW - 5_000), made(("mail", "daily", b"new"), now=NOW - 1_000)
    again = made(live=(old, new))
    assert in_force(again, [old, new]) == new.digest


def test_a_rollback_is_in_force_once_its_version_is_new_to_the_cluster_or_alone() -> None:
    new = made(("mail", "daily", b"new"), now=NOW - 1_000)
    back = made(live=(new,))
    assert in_force(back, [new]) == back.digest
    assert in_force(new, []) == new.digest


def test_of_two_versions_first_seen_in_the_same_millisecond_all_nodes_choose_the_same() -> None:
    one, other = made(), made(("mail", "daily", b"new"))
    assert in_force(one, [other]) == in_force(other, [one]) == max(one.digest, other.digest)


def test_another_application_is_never_in_force_and_declares_nothing_here() -> None:
    mine, theirs = made(now=NOW - 5_000), made(("mail", "theirs", b""), app="desk")
    assert in_force(mine, [theirs]) == mine.digest
    assert declared_by_any(mine, [theirs]) == frozenset(mine.places)


def test_what_any_live_version_declares_is_still_declared() -> None:
    mine, other = made(("mail", "daily", b"one")), made(("default", "hourly", b"two"))
    assert declared_by_any(mine, [other]) == {*mine.places, *other.places}
