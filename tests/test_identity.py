"""Names that no other process makes: unique, in order, and new after a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest

from duly import identity
from duly.identity import generation, new_job_id, new_name


def test_job_ids_are_unique_and_sort_in_the_order_they_were_made() -> None:
    ids = [new_job_id() for _ in range(20_000)]  # more than one block of ends
    assert len(set(ids)) == len(ids)
    assert all(len(id) == len(ids[0]) and id.isalnum() and id.isascii() for id in ids)
    assert all(a < b for a, b in pairwise(ids))


def test_ids_made_in_many_threads_are_unique() -> None:
    made: list[list[str]] = [[] for _ in range(8)]
    start = threading.Barrier(len(made))

    def make(into: list[str]) -> None:
        start.wait()
        into.extend(new_job_id() for _ in range(10_000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [id for part in made for id in part]
    assert len(set(ids)) == len(ids) == 80_000


def test_a_prefix_that_is_used_up_gives_way_to_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    process = identity._Process()
    first = process.next_id()
    process.middles, process.ids = iter(()), iter(())
    second = process.next_id()
    assert first[: identity._PREFIX] != second[: identity._PREFIX]
    assert len(first) == len(second)


def test_names_are_fresh_each_time() -> None:
    assert len({new_name() for _ in range(1000)}) == 1000


def test_a_process_keeps_its_generation() -> None:
    assert generation() == generation()


def in_a_fork(work: Callable[[], str]) -> str:
    """What `work` returns in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, work().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        found = answer.read()
    assert os.waitpid(child, 0)[1] == 0
    return found


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child_is_another_process_with_ids_of_its_own() -> None:
    before = new_job_id()
    children = [in_a_fork(lambda: f"{generation()} {new_job_id()}") for _ in range(3)]
    generations = {child.split()[0] for child in children}
    prefixes = {child.split()[1][: identity._PREFIX] for child in children}
    assert len(generations | {generation()}) == 4
    assert len(prefixes | {before[: identity._PREFIX]}) == 4
    assert new_job_id()[: identity._PREFIX] == before[: identity._PREFIX]
