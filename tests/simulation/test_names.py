"""Names from a given source of chance, so that a run can be played again."""

from __future__ import annotations

import random

from duly.identity import generation, names_from, new_job_id, new_name


def some(seed: int) -> list[str]:
    with names_from(random.Random(seed).randbytes):
        return [new_job_id(), new_name(), new_job_id(), new_name()]


def test_the_same_source_gives_the_same_names_and_another_gives_others() -> None:
    assert some(1) == some(1)
    assert not set(some(1)) & set(some(2))


def test_names_are_fresh_again_afterwards_and_the_process_is_the_same() -> None:
    before, given = generation(), set(some(1))
    assert generation() == before
    assert not given & {new_job_id(), new_name()}
