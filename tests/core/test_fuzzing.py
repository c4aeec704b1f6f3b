"""Whatever text or bytes come in, only errors of duly come out."""

from __future__ import annotations

import contextlib
import itertools

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from duly.core import schedule as planning
from duly.core.schedule import Definition, Standing
from duly.core.trigger import cron, every
from duly.errors import InvalidTrigger

NOW = 1_700_000_000_000
WORDS = ["L-3", "15W", "LW", "5#3", "MON", "jan-dec", "*/5", "1/10", "@daily", "@every 5m", "99", "-1", "²", "٣", "\0"]
fragments = st.sampled_from([*"0159*/,-?LW#@ \t\n", *WORDS])
fields = st.lists(fragments, min_size=4, max_size=7).map(" ".join)
expressions = fields | st.text(max_size=60) | st.lists(fragments, max_size=14).map("".join)
DEFINITION = planning.encode(Definition(cron("*/5 * * * *") | every(seconds=7), "t", times=3))


@given(
    expressions,
    st.sampled_from(["UTC", "Europe/Paris"]) | st.text(max_size=20),
    st.sampled_from(["vixie", "literal", ""]),
)
@example("@", "UTC", "vixie")
@example("0 0 30 2 *", "UTC", "vixie")
@example("* * * * *", "../../etc/passwd", "vixie")
@example("* * * * *", "\0", "vixie")
def test_any_text_is_a_cron_expression_or_refused_in_words(expression: str, timezone: str, dst: str) -> None:
    try:
        trigger = cron(expression, timezone=timezone, dst=dst)  # type: ignore[arg-type]
    except InvalidTrigger:
        return
    moments = list(itertools.islice(trigger.moments(NOW, NOW + 10**9, 0), 3))
    assert moments == sorted(set(moments))


def is_survived(data: bytes) -> None:
    with contextlib.suppress(msgspec.MsgspecError, InvalidTrigger):
        definition = planning.decode(data)
        planning.plan(definition, Standing(NOW - 10_000, 0), NOW)


@settings(max_examples=500)
@given(st.binary(max_size=200))
@example(planning.refused("why"))
@example(b"\xc1\xff")
def test_any_bytes_are_a_definition_or_refused(data: bytes) -> None:
    is_survived(data)


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, len(DEFINITION) - 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_definition_with_bytes_changed_is_refused_or_planned(changes: list[tuple[int, int]]) -> None:
    data = bytearray(DEFINITION)
    for place, byte in changes:
        data[place] = byte
    is_survived(bytes(data))
