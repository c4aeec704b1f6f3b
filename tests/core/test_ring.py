"""Rendezvous hashing: who owns a key."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duly.core.ring import hash64, owner

NAMES = st.lists(st.text(min_size=1), min_size=1, max_size=8, unique=True)


@pytest.mark.parametrize(
    ("text", "number"),
    [("", 16476032584258269876), ("default", 18345607124885091234), ("é\ud800", 5476222202089734271)],
)
def test_a_hash_is_the_same_in_every_process_and_version(text: str, number: int) -> None:
    assert hash64(text) == number


def test_an_owner_is_the_same_in_every_process_and_version() -> None:
    owners = [owner(str(key), ["a", "b", "c"]) for key in range(20)]
    assert "".join(owners) == "accbacbabbbbabbbbcac"


@given(st.text(), NAMES)
def test_an_owner_is_the_same_in_whichever_order_they_come(key: str, names: list[str]) -> None:
    assert {owner(key, names), owner(key, reversed(names)), owner(key, iter(sorted(names)))} == {owner(key, names)}


@given(st.text(), NAMES, st.text(min_size=1))
def test_one_more_takes_over_only_what_it_owns_and_one_less_leaves_only_what_it_owned(
    key: str, names: list[str], more: str
) -> None:
    assert owner(key, [*names, more]) in (owner(key, names), more)


def test_names_and_keys_do_not_run_into_each_other() -> None:
    """`a` with `bc` and `ab` with `c` are two questions."""
    weights = {hash64(f"{name}\0{key}") for name, key in (("a", "bc"), ("ab", "c"), ("abc", ""))}
    assert len(weights) == 3


def test_ten_own_about_a_tenth_each() -> None:
    owners = Counter(owner(f"key {n}", [f"node {i}" for i in range(10)]) for n in range(10_000))
    assert len(owners) == 10
    assert all(850 < count < 1150 for count in owners.values())


def test_nobody_owns_what_there_is_nobody_for() -> None:
    with pytest.raises(ValueError, match="empty"):
        owner("key", [])
