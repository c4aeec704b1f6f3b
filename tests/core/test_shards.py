"""Where jobs and schedules live: slots, places, and the map."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duly.core import shards
from duly.core.job import Hold, NewJob
from duly.core.shards import (
    SLOTS,
    Former,
    Place,
    ShardMap,
    Spread,
    place_of,
    slot_of,
    slot_of_job,
    slot_of_key,
    with_slot,
)

QUEUES = st.text(st.characters(exclude_characters="{}"), min_size=1)
SLOT = st.integers(0, SLOTS - 1)


@pytest.mark.parametrize(
    ("place", "name", "shown"),
    [
        (Place("mail"), "mail", "mail"),
        (Place("mail", 3), "mail{3}", "mail:3"),
        (Place("mail", 0, 2), "mail{0@2}", "mail on server 2"),
        (Place("mail", 12, 10), "mail{12@10}", "mail:12 on server 10"),
    ],
)
def test_a_place_has_a_name_and_a_way_to_be_read(place: Place, name: str, shown: str) -> None:
    assert (place.name, place.shown) == (name, shown)
    assert place_of(name) == place


@given(QUEUES, st.integers(0, 300), st.integers(0, 300))
def test_a_name_says_its_place(queue: str, partition: int, server: int) -> None:
    assert place_of(Place(queue, partition, server).name) == (queue, partition, server)


@given(st.text(), SLOT)
def test_an_id_may_carry_its_slot(id: str, slot: int) -> None:
    carrying = with_slot(id, slot)
    assert carrying[:-3] == id
    assert carrying[-3] == "~"
    assert slot_of(carrying) == slot


@pytest.mark.parametrize(("id", "slot"), [("a~00", 0), ("~01", 1), ("a~0z", 61), ("a~10", 62), ("a~zz", SLOTS - 1)])
def test_slots_are_written_in_two_digits(id: str, slot: int) -> None:
    assert slot_of(id) == slot
    assert with_slot(id[:-3], slot) == id


@pytest.mark.parametrize("id", ["", "a", "a~", "a~0", "~0", "a~0é", "a~é0", "a~000", "a-00", "a~0_", "a~+1", "a 00"])
def test_an_id_that_carries_none_has_the_slot_of_its_hash(id: str) -> None:
    assert slot_of(id) == slot_of_key(id)


@given(st.text())
def test_a_slot_is_one_of_all(key: str) -> None:
    assert 0 <= slot_of_key(key) < SLOTS
    assert 0 <= slot_of(key) < SLOTS


@pytest.mark.parametrize(
    "id",
    [
        "s@1750000000000",
        "s#1750000000000",
        "s@-62135596800000",
        "s!0123456789ABCDEF",
        "s!abcdefghijklmnopqrstuvwxyz",
        "s@123456789",
    ],
)
def test_runs_of_a_schedule_lie_beside_it(id: str) -> None:
    assert slot_of(id) == slot_of_key("s") != slot_of_key(id)


@pytest.mark.parametrize(
    "id", ["s@12345678", "s@x1750000000000", "s!0123456789ABCDE", "@1750000000000", "s@1750000000000 "]
)
def test_what_looks_like_a_run_and_is_none_has_the_slot_of_its_hash(id: str) -> None:
    assert slot_of(id) == slot_of_key(id)


def test_the_id_of_a_schedule_may_look_like_anything() -> None:
    assert slot_of("a\nb@c@1750000000000") == slot_of_key("a\nb@c")


def test_a_run_that_carries_a_slot_has_that_one() -> None:
    assert slot_of("s!0123456789ABCDEF~01") == 1


def test_a_job_with_a_unique_key_lies_where_the_key_does() -> None:
    job = NewJob("id", b"")
    assert slot_of_job(job) == slot_of("id")
    assert slot_of_job(NewJob("id", b"", unique=Hold("key", "end"))) == slot_of_key("key") != slot_of("id")
    assert slot_of_job(NewJob(with_slot("id", 7), b"")) == 7


def test_a_queue_in_one_place_has_everything_there() -> None:
    spread = Spread("mail", 1, 1)
    assert spread.places == (Place("mail"),)
    assert {spread.place(slot) for slot in range(SLOTS)} == {Place("mail")}


def test_places_are_counted_server_by_server() -> None:
    assert Spread("mail", 2, 3).places == tuple(Place("mail", p, s) for s in (0, 1) for p in (0, 1, 2))


@pytest.mark.parametrize(("servers", "partitions"), [(2, 1), (1, 2), (3, 1), (1, 6), (2, 3), (3, 2)])
def test_slots_are_spread_evenly_over_all_places(servers: int, partitions: int) -> None:
    spread = Spread("mail", servers, partitions)
    counts = Counter(spread.place(slot) for slot in range(SLOTS))
    fair = SLOTS / (servers * partitions)
    assert set(counts) == set(spread.places)
    assert all(0.85 * fair < count < 1.15 * fair for count in counts.values())


def test_a_slot_belongs_to_the_same_place_in_every_process_and_version() -> None:
    spread = Spread("mail", 2, 2)
    assert "".join(f"{spread.places.index(spread.place(slot))}" for slot in range(24)) == "322000321032221000221021"


@pytest.mark.parametrize("more", [(3, 2), (2, 3)])
def test_places_more_take_only_what_is_theirs(more: tuple[int, int]) -> None:
    before, after = Spread("mail", 2, 2), Spread("mail", *more)
    moved = {slot for slot in range(SLOTS) if before.place(slot) != after.place(slot)}
    assert {after.place(slot) for slot in moved} == set(after.places) - set(before.places)


def test_a_map_that_has_not_changed_has_no_former_places() -> None:
    assert ShardMap(servers=2).former("mail") == []
    assert ShardMap(servers=2).is_moving is False


def test_former_places_are_those_of_queues_that_have_moved() -> None:
    changed = ShardMap(1, 2, {"mail": 3, "other": 2}, (Former(2, {"mail": 2, "other": 2}),))
    (former,) = changed.former("mail")
    assert former.places == Spread("mail", 2, 2).places
    assert changed.former("other") == []
    assert changed.former("unknown") == []


def test_of_several_changes_each_former_place_counts_once_the_last_first() -> None:
    was = Former(1, {}, until=5), Former(1, {"mail": 4}, until=7), Former(1, {"mail": 2}, until=8), Former(1, {})
    changed = ShardMap(4, 1, {"mail": 2}, was)
    assert [len(former.places) for former in changed.former("mail")] == [1, 4]
    assert changed.is_moving is True
    assert ShardMap(4, 1, {"mail": 2}, was[:3]).is_moving is False


@pytest.mark.parametrize(
    ("former", "count"), [(Former(2, {}), 2), (Former(3, {"mail": 4}), 12), (Former(1, {"mail": 3}), 3)]
)
def test_a_queue_lay_on_the_servers_and_in_the_partitions_that_there_were(former: Former, count: int) -> None:
    (found,) = ShardMap(1, 3, {"mail": 3}, (former,)).former("mail")
    assert len(found.places) == count
    assert {place.queue for place in found.places} == {"mail"}


def test_a_map_comes_out_as_it_went_in_and_equal_ones_are_equal_bytes() -> None:
    found = ShardMap(2, 3, {"b": 2, "a": 4}, (Former(2, {"a": 2}, 1_750_000_000_000),))
    assert shards.decode(shards.encode(found)) == found
    assert shards.encode(ShardMap(2, 3, {"a": 4, "b": 2})) == shards.encode(ShardMap(2, 3, {"b": 2, "a": 4}))
