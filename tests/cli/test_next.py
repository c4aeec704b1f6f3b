"""`duly next`, without any store."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Duly


def test_the_next_moments_in_the_zone_with_its_offset(duly: Duly) -> None:
    said = duly("next", "30 2 * * *", "--timezone", "Europe/Paris", "-n", "3", "--after", "2026-03-28T00:00Z")
    assert said.lines == [
        "at 02:30, Europe/Paris",
        "",
        "moment                     day",
        "2026-03-28 02:30:00+01:00  Sat  in 1 h 30 m",
        "2026-03-29 03:00:00+02:00  Sun  in 1 d 1 h",
        "2026-03-30 02:30:00+02:00  Mon  in 2 d",
    ]


def test_the_literal_rule_leaves_out_what_the_clock_never_shows(duly: Duly) -> None:
    words = ("next", "30 2 * * *", "--tz", "Europe/Paris", "-n", "2", "--after", "2026-03-28T12:00Z", "--json")
    assert [moment["local"] for moment in duly(*words, "--dst", "literal").json] == [
        "2026-03-30T02:30:00+02:00", "2026-03-31T02:30:00+02:00",
    ]  # fmt: skip


def test_programs_get_epoch_seconds(duly: Duly) -> None:
    assert duly("next", "*/10 * * * * *", "-n", "1", "--after", "1000", "--json").json == [
        {"at": 1010.0, "local": "1970-01-01T00:16:50+00:00"}
    ]


def test_an_expression_in_several_words_is_one(duly: Duly) -> None:
    assert duly("next", "0", "9", "*", "*", "MON", "-n", "1").lines[0] == "at 09:00 on Monday, UTC"


def test_without_a_moment_it_counts_from_now(duly: Duly) -> None:
    line = duly("next", "* * * * * *", "-n", "1").lines[-1]
    assert line.endswith(("now", "in 1 s"))


def test_an_expression_that_ends_has_no_more_moments(duly: Duly) -> None:
    said = duly("next", "* * * * *", "--after", "9999-12-31T00:00Z")
    assert (said.code, said.lines[-1]) == (0, "no more moments")


@pytest.mark.parametrize(
    "words",
    [
        ("61 * * * *",), ("0 0 30 2 *",), ("* * * * *", "--tz", "Mars"), ("* * * * *", "--dst", "odd"),
        ("* * * * *", "-n", "0"), ("* * * * *", "--after", "1e300"), ("* * * * *", "--after", "noon"), (),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(duly: Duly, words: tuple[str, ...]) -> None:
    said = duly("next", *words)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
