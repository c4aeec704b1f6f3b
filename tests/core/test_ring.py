"""Rendezvous hashing: who owns a key."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duly.core.ring import Ring, hash64, mix64, owner

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


# --- a ring, with weights ---------------------------------------------------------------------------------------------

TEN = [f"node {n}" for n in range(10)]
KEYS = [f"name {n}" for n in range(10_000)]
WEIGHTS = st.dictionaries(st.text(min_size=1), st.sampled_from([0.5, 1.0, 2.0, 10.0]), min_size=1, max_size=8)


def owned(ring: Ring) -> dict[str, str]:
    return {key: ring.owner(key) for key in KEYS}


def test_a_number_is_stirred_as_others_stir_it() -> None:
    """The first outputs of splitmix64 from 0: its state grows by the golden ratio."""
    golden = 0x9E3779B97F4A7C15
    found = [mix64(golden * n & 2**64 - 1) for n in (1, 2, 3)]
    assert found == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_a_ring_is_the_same_in_every_process_and_version() -> None:
    equal, unequal = Ring(["a", "b", "c"]), Ring({"a": 1, "b": 2.5, "c": 0.25})
    assert "".join(equal.owner(str(key)) for key in range(20)) == "bcacaaccaccabbacbbcb"
    assert "".join(unequal.owner(str(key)) for key in range(20)) == "bbabaaabbcbabbbbbbcb"


@given(st.text(), WEIGHTS)
def test_the_owner_is_the_first_of_all_in_whichever_order_they_come(key: str, weights: dict[str, float]) -> None:
    ranked = Ring(weights).ranked(key)
    assert sorted(ranked) == sorted(weights)
    assert Ring(weights).owner(key) == ranked[0]
    assert Ring(dict(reversed(weights.items()))).ranked(key) == ranked


@given(st.text(), WEIGHTS)
def test_whoever_leaves_the_order_of_the_others_stays(key: str, weights: dict[str, float]) -> None:
    ranked = Ring(weights).ranked(key)
    for gone in weights:
        rest = Ring({name: weight for name, weight in weights.items() if name != gone})
        assert rest.ranked(key) == [name for name in ranked if name != gone]


@given(WEIGHTS, st.floats(0.01, 100))
def test_only_the_proportion_of_weights_counts(weights: dict[str, float], factor: float) -> None:
    same = Ring({name: weight * factor for name, weight in weights.items()})
    assert [same.owner(str(key)) for key in range(20)] == [Ring(weights).owner(str(key)) for key in range(20)]


def test_ten_nodes_have_a_fair_share_of_ten_thousand_names_within_15_percent() -> None:
    counts = Counter(owned(Ring(TEN)).values())
    assert len(counts) == 10
    assert all(850 < count < 1150 for count in counts.values())


def test_names_that_differ_in_a_digit_are_spread_as_well() -> None:
    counts = Counter(Ring(["10.0.0.1", "10.0.0.2", "10.0.0.3"]).owner(str(n)) for n in range(3_000))
    assert all(850 < count < 1150 for count in counts.values())


def test_when_a_node_leaves_only_its_names_move_and_to_all_others() -> None:
    before, after = owned(Ring(TEN)), owned(Ring(TEN[1:]))
    moved = {key for key in KEYS if before[key] != after[key]}
    assert moved == {key for key in KEYS if before[key] == TEN[0]}
    assert len({after[key] for key in moved}) == 9


def test_when_a_node_joins_a_tenth_of_the_names_moves_to_it() -> None:
    before, after = owned(Ring(TEN[1:])), owned(Ring(TEN))
    moved = {key for key in KEYS if before[key] != after[key]}
    assert {after[key] for key in moved} == {TEN[0]}
    assert 850 < len(moved) < 1150


def test_a_share_is_as_large_as_the_weight_says() -> None:
    ring = Ring({"small": 1, "large": 3, "half": 0.5})
    counts = Counter(owned(ring).values())
    for name, weight in ring.weights.items():
        assert ring.share(name) == pytest.approx(weight / 4.5)
        assert counts[name] == pytest.approx(10_000 * weight / 4.5, rel=0.1)


def test_a_weight_that_grows_takes_names_from_all_others_and_moves_no_other() -> None:
    before, after = owned(Ring(dict.fromkeys(TEN, 1.0))), owned(Ring({**dict.fromkeys(TEN, 1.0), TEN[0]: 2.0}))
    moved = {key for key in KEYS if before[key] != after[key]}
    assert {after[key] for key in moved} == {TEN[0]}
    assert len({before[key] for key in moved}) == 9


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=r"the weight of 'a' is .*: give a positive number"):
        Ring({"a": weight})


def test_nobody_owns_what_is_in_an_empty_ring() -> None:
    assert Ring({}).ranked("key") == []
    with pytest.raises(ValueError, match="nobody is there to own 'key'"):
        Ring([]).owner("key")
