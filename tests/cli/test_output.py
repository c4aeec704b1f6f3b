"""Tables, records and JSON: what fits, what is folded, and what hostile values cannot do."""

from __future__ import annotations

import json

import pytest
from rich.cells import cell_len

from duly.cli.output import LONG, TEXT_MOST, Column, as_json, show_record, show_table
from duly.views.words import absolute, both, lasting, printable, relative

ID = "0123456789" * 4
COLUMNS = (
    Column("id", lambda row: row[0], kind="id"),
    Column("state", lambda row: row[1]),
    Column("reason", lambda row: row[2], 1, kind="text"),
    Column("node", lambda row: row[3], 2),
)
ROWS = [(ID, "dead", "because " * 10, "n" * 30), ("b", "leased", "", "m")]


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [60, 80, 160, 200])
def test_a_table_is_never_wider_than_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show_table(ROWS, COLUMNS)
    lines = shown(capsys)
    assert max(cell_len(line) for line in lines) <= width
    assert ID in lines[1]


def test_a_narrow_table_drops_what_matters_least_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    show_table(ROWS, COLUMNS)
    lines = shown(capsys)
    assert lines[0].split() == ["id", "state", "reason"]
    assert lines[-1] == "not shown at this width: node (--json has everything)"


def test_an_id_that_does_not_fit_is_folded_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    show_table([(ID, "dead", "", "")], COLUMNS)
    lines = shown(capsys)
    assert max(map(len, lines)) <= 30
    assert "".join(line.split()[0] for line in lines[1:]) == ID


def test_one_very_long_id_leaves_room_for_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(ID * 5, "dead", "because of this and that", "n" * 9)]
    monkeypatch.setenv("COLUMNS", "50")
    show_table(rows, COLUMNS)
    assert shown(capsys)[0].split() == ["id", "state", "reason", "node"]
    monkeypatch.setenv("COLUMNS", "120")
    show_table(rows, COLUMNS)
    lines = shown(capsys)
    assert "because of this and that" in lines[1]
    assert max(map(len, lines)) == 120
    assert "".join(line.split()[0] for line in lines[1:]) == ID * 5


def test_a_long_reason_ends_in_an_ellipsis(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show_table([("a", "dead", "x" * 90, "")], COLUMNS)
    assert shown(capsys)[1].endswith("x…")


def test_a_pipe_gets_one_whole_line_for_each_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    show_table([(ID * 5, "dead", "y" * 1000, "n" * 100)], COLUMNS)
    lines = shown(capsys)
    assert len(lines) == 2
    assert lines[1].split() == [ID * 5, "dead", "y" * (TEXT_MOST - 1) + "…", "n" * 100]


def test_a_column_in_which_nothing_stands_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([("a", "dead", "", "")], COLUMNS)
    assert [line.split() for line in shown(capsys)] == [["id", "state"], ["a", "dead"]]


def test_a_table_without_rows_says_what_there_is_none_of(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([], COLUMNS, "no jobs")
    assert shown(capsys) == ["no jobs"]


def test_a_table_ends_with_its_note(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(ROWS, COLUMNS, note="there are more")
    assert shown(capsys)[-1] == "there are more"


@pytest.mark.parametrize("value", ["[red]x[/red]", "[link=http://a]b", ":warning:", "a🎉b", "[/]"])
def test_values_are_not_taken_for_markup(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_table([(value, "dead", value, value)], COLUMNS)
    show_record([("id", value)])
    assert capsys.readouterr().out.count(value) == 4


def test_control_characters_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    value = "a\x1b[2Jb\rc\nd\u202ee\x00"
    show_table([(value, "", "", "")], COLUMNS)
    out = capsys.readouterr().out
    assert out.splitlines()[1] == "a\\x1b[2Jb\\rc↵d\\u202ee\\x00"


def test_a_record_keeps_line_breaks_and_leaves_out_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    show_record([("trace", "one\n  two\x1b[31m\n"), ("node", ""), ("queue", None), ("n", 0)])
    assert shown(capsys) == ["trace  one", "         two\\x1b[31m", "n      0"]


def test_a_very_long_value_of_a_record_is_cut_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show_record([("args", "z" * 65_536)])
    out = capsys.readouterr().out
    assert out.count("z") == LONG
    assert "… (65,536 characters; --json has them all)" in out


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    show_table(ROWS, COLUMNS)
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    show_table(ROWS, COLUMNS)
    assert "\x1b[31mdead" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    show_table(ROWS, COLUMNS)
    assert "\x1b[31m" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "document"),
    [
        ({"a": b"\x00"}, {"a": "AA=="}),
        ({(1, 2): [{b"k": 1}]}, {"(1, 2)": [{"aw==": 1}]}),
        ("\x1b[31m", "\x1b[31m"),
        (complex(1, 2), "(1+2j)"),
    ],
)
def test_json_has_a_form_for_whatever_was_pushed(value: object, document: object) -> None:
    text = as_json(value)
    assert json.loads(text) == document
    assert "\x1b" not in text


def test_printable_of_none_is_empty() -> None:
    assert printable(None) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"), (12, "12 s"), (60, "1 m"), (200, "3 m 20 s"), (3_600, "1 h"), (3_661, "1 h 1 m"),
        (86_400 * 2 + 3_600 * 5, "2 d 5 h"), (86_400 * 400, "400 d"), (59.6, "1 m"),
    ],
)  # fmt: skip
def test_a_duration_has_its_two_largest_units(seconds: float, words: str) -> None:
    assert lasting(seconds) == words


def test_moments_are_told_from_the_store_s_now() -> None:
    assert relative(1_200, 1_000) == "in 3 m 20 s"
    assert relative(988, 1_000) == "12 s ago"
    assert relative(1_000.3, 1_000) == "now"
    assert both(None, 1_000) == ""


def test_a_moment_is_shown_with_its_offset_and_beyond_all_years_too() -> None:
    assert both(0, 0).startswith("now (19")
    assert absolute(0)[-6] in "+-"
    assert absolute(1e15) == "epoch 1000000000000000"
