"""The envelope: what goes in comes out, what cannot go in is named, what is damaged or newer is unfit and nothing else."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import numbers
import uuid
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duly.core import codec
from duly.core.codec import HEADER, MAX_BYTES, VERSION, Envelope, Origin
from duly.core.job import OPTION_NAMES, RUN_OPTIONS, Options, Unique, make_options
from duly.core.retry import Retry
from duly.errors import EncodingError, ResultError, TooLarge, UnfitJob
from duly.runtime.handler import Handler
from duly.stores.base import JobRecord
from duly.views.jobs import view

int64 = st.integers(-(2**63), 2**64 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.none() | st.booleans() | int64 | st.floats(allow_nan=False) | texts | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | int64, inner, max_size=4),
    max_leaves=15,
)
names = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=40)
run_options = st.fixed_dictionaries(
    {},
    optional={
        "retry": st.builds(Retry, limit=st.none() | st.integers(0, 9), delay=st.floats(0, 99), on_false=st.booleans()),
        "timeout": st.floats(0.001, 1e6),
        "lease": st.floats(1, 1e6),
        "expires": st.floats(0.001, 1e6),
        "keep_result": st.floats(0, 1e6) | st.booleans(),
        "max_crashes": st.integers(1, 1000),
    },
)


def unpacked(envelope: Envelope) -> tuple[Any, Any]:
    return codec.unpack(envelope.args), codec.unpack(envelope.kwargs)


# --- round trips -----------------------------------------------------------------------------------------------------


@given(names, st.lists(plain, max_size=4).map(tuple), st.dictionaries(names, plain, max_size=4))
def test_arguments_come_out_as_they_went_in(task: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    envelope = codec.decode(codec.encode(task, args, kwargs))
    assert envelope.task == task
    assert unpacked(envelope) == (list(args), kwargs)
    assert (envelope.options, envelope.origin) == (None, None)


@given(run_options, st.none() | st.builds(Origin, schedule=names, nominal=st.integers(0, 2**53)))
def test_options_and_origin_come_out_as_they_went_in(given_options: dict[str, Any], origin: Origin | None) -> None:
    options = make_options(given_options)
    packed = codec.pack_options(options)
    envelope = codec.decode(codec.encode("t", (1,), {"a": 2}, packed, origin))
    assert (envelope.options, envelope.origin) == (options if packed else None, origin)
    assert unpacked(envelope) == ([1], {"a": 2})


@given(run_options, st.lists(plain, max_size=3).map(tuple))
def test_the_job_of_a_tick_is_the_same_envelope_from_packed_parts(
    given_options: dict[str, Any], args: tuple[Any, ...]
) -> None:
    origin = Origin("s", 1_000)
    first = codec.decode(codec.encode("t", args, {"k": 1}, codec.pack_options(make_options(given_options)), origin))
    again = codec.decode(codec.encode_packed(first.task, first.args, first.kwargs, first.options, first.origin))
    assert again == first


def test_only_options_of_the_run_travel_and_only_those_that_were_set() -> None:
    every_other = {
        "queue": "q",
        "priority": 0,
        "delay": 1,
        "id": "i",
        "unique": True,
        "name": "n",
        "executor": "process",
    }
    assert set(every_other) | set(RUN_OPTIONS) | {"at", "replace"} == set(OPTION_NAMES)
    assert codec.pack_options(make_options(every_other)) is None
    packed = codec.pack_options(make_options({**every_other, "timeout": 3}))
    assert packed is not None
    assert codec.unpack(packed) == {"timeout": 3.0}


def test_an_option_set_to_zero_is_set() -> None:
    packed = codec.pack_options(make_options({"keep_result": False}))
    assert codec.decode(codec.encode("t", (), {}, packed)).options == Options(keep_result=0.0)


def test_a_plain_envelope_is_small() -> None:
    assert len(codec.encode("send", (42,))) == len(HEADER) + 1 + 5 + 2
    packed = codec.pack_options(make_options({"timeout": 5}))
    assert [len(codec.unpack(body[len(HEADER) :])) for body in (
        codec.encode("t", (1,)), codec.encode("t", (1,), {"a": 1}), codec.encode("t", (1,), {}, packed),
        codec.encode("t", (1,), {}, packed, Origin("s", 1)),
    )] == [2, 3, 4, 5]  # fmt: skip


class Colour(enum.Enum):
    RED = "red"


class Point(msgspec.Struct):
    x: int
    y: int


@pytest.mark.parametrize(
    ("value", "travels_as"),
    [
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2026-01-02T03:04:05Z"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.timedelta(minutes=1), "PT60S"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.10"), "1.10"),
        (Colour.RED, "red"),
        (Point(1, 2), {"x": 1, "y": 2}),
        ({1, 2} - {2}, [1]),
        ((1, 2), [1, 2]),
        (bytearray(b"x"), b"x"),
    ],
)
def test_rich_values_travel_as_plain_ones(value: Any, travels_as: Any) -> None:
    found = codec.unpack(codec.decode(codec.encode("t", (value,))).args)[0]
    if isinstance(found, dt.datetime):  # msgpack has a moment of its own
        assert found == value
    else:
        assert found == travels_as


class Model:
    """Looks like a pydantic model."""

    def __init__(self, a: int) -> None:
        self.a = a

    def model_dump(self, *, mode: str) -> dict[str, int]:
        assert mode == "json"
        return {"a": self.a}

    @classmethod
    def model_validate(cls, value: dict[str, int]) -> Model:
        return cls(value["a"])


def test_pydantic_models_travel_as_their_fields() -> None:
    assert codec.unpack(codec.decode(codec.encode("t", (Model(5),))).args) == [{"a": 5}]
    assert codec.decoder(Model).decode(codec.pack({"a": 5})).a == 5


def test_a_type_that_is_neither_plain_nor_a_model_takes_what_is_one_of_it_already() -> None:
    assert codec.decoder(numbers.Number).decode(codec.pack(5)) == 5
    with pytest.raises(msgspec.ValidationError, match="Number"):
        codec.decoder(numbers.Number).decode(codec.pack("five"))


def test_a_text_is_no_number() -> None:
    assert codec.decoder(int).decode(codec.pack(5)) == 5
    with pytest.raises(msgspec.ValidationError, match="int"):
        codec.decoder(int).decode(codec.pack("5"))


def test_the_same_arguments_are_the_same_bytes_in_whatever_order_they_were_given() -> None:
    def canonical(args: list[Any], kwargs: dict[str, Any]) -> bytes:
        return codec.canonical(msgspec.Raw(codec.pack(args)), msgspec.Raw(codec.pack(kwargs)))

    one = canonical([1, {"a": 1, "b": 2}], {"x": 1, "y": {"c": 3, "d": 4}})
    assert one == canonical([1, {"b": 2, "a": 1}], {"y": {"d": 4, "c": 3}, "x": 1})
    others = [
        canonical([2, {"a": 1, "b": 2}], {"x": 1, "y": {"c": 3, "d": 4}}),
        canonical([1, {"a": 1, "b": 2}], {"x": 2, "y": {"c": 3, "d": 4}}),
        canonical([{"a": 1, "b": 2}, 1], {"x": 1, "y": {"c": 3, "d": 4}}),
    ]
    assert one not in others


# --- what cannot go in -----------------------------------------------------------------------------------------------


def test_an_envelope_of_the_largest_size_is_taken_and_one_byte_more_is_not() -> None:
    rest = len(codec.encode("t", (b"x" * 70_000,))) - len(HEADER) - 70_000
    assert len(codec.encode("t", (b"x" * (MAX_BYTES - rest),))) == len(HEADER) + MAX_BYTES
    with pytest.raises(TooLarge) as refused:
        codec.encode("big", (b"x" * (MAX_BYTES - rest + 1),))
    assert "'big'" in str(refused.value)
    assert f"at most {MAX_BYTES:,}" in str(refused.value)


def holding_itself() -> list[Any]:
    own: list[Any] = []
    own.append(own)
    return own


def deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ((1, 2**64), {}, "argument 2 of task 'send' holds an integer outside 64 bits"),
        ((-(2**63) - 1,), {}, "argument 1 of task 'send' holds an integer outside 64 bits"),
        ((), {"n": [2**70]}, "argument 'n' of task 'send' holds an integer outside 64 bits"),
        ((holding_itself(),), {}, "argument 1 of task 'send' is nested too deeply, or holds itself"),
        ((), {"tree": deep(5000)}, "argument 'tree' of task 'send' is nested too deeply"),
        ((1, object()), {}, "argument 2 of task 'send' (object) cannot be encoded"),
        ((), {"file": open}, "argument 'file' of task 'send' (builtin_function_or_method) cannot be encoded"),
        ((lambda: 1,), {}, "argument 1 of task 'send' (function) cannot be encoded"),
        (("\ud800",), {}, "argument 1 of task 'send' (str) cannot be encoded"),
        (({1j: 1},), {}, "argument 1 of task 'send' (dict) cannot be encoded"),
        (([1, {"deep": open}],), {}, "argument 1 of task 'send' (list) cannot be encoded: builtin_function_or_method"),
    ],
)
def test_what_cannot_travel_is_named(args: tuple[Any, ...], kwargs: dict[str, Any], named: str) -> None:
    with pytest.raises(EncodingError) as refused:
        codec.encode("send", args, kwargs)
    assert named in str(refused.value)


def test_a_task_whose_name_cannot_travel_is_named() -> None:
    with pytest.raises(EncodingError, match=r"task '.ud800'.*surrogate"):
        codec.encode("\ud800", (1,))


@pytest.mark.parametrize("value", [2**64, object(), holding_itself(), "\ud800"])
def test_a_result_that_cannot_be_kept_says_its_type(value: Any) -> None:
    with pytest.raises(EncodingError, match=type(value).__name__):
        codec.pack(value)


# --- what does not come out ------------------------------------------------------------------------------------------

BODY = codec.encode(
    "send", (1, "two"), {"three": [3.0]}, codec.pack_options(make_options({"timeout": 5})), Origin("s", 9)
)


def unfit(body: bytes) -> UnfitJob:
    with pytest.raises(UnfitJob) as found:
        codec.decode(body)
    assert found.value.reason == "envelope"
    return found.value


def test_an_envelope_of_a_newer_version_is_unfit() -> None:
    for rest in (BODY[2:], b""):
        assert f"version {VERSION + 1}, flags 0" in str(unfit(bytes((VERSION + 1, 0)) + rest))


@pytest.mark.parametrize("flags", [1, 2, 3, 255])
def test_an_envelope_with_flags_nobody_knows_is_unfit(flags: int) -> None:
    assert f"flags {flags}" in str(unfit(bytes((VERSION, flags)) + BODY[2:]))


@pytest.mark.parametrize("body", [b"", b"\x01", b"\x00", b"\x00\x00", b"\x01\x00", b"\x01\x00\xc1", b"\x01\x00\x90"])
def test_an_envelope_too_short_to_be_one_is_unfit(body: bytes) -> None:
    assert "damaged" in str(unfit(body))


@pytest.mark.parametrize("length", range(len(BODY)))
def test_an_envelope_cut_anywhere_is_unfit(length: int) -> None:
    unfit(BODY[:length])


def test_an_envelope_with_something_behind_it_is_unfit() -> None:
    unfit(BODY + b"\xc0")


def test_a_later_part_that_this_code_does_not_know_is_left_alone() -> None:
    task, args, kwargs, options, origin = msgspec.msgpack.decode(BODY[2:])
    parts = [task, args, kwargs, {**options, "colour": "red"}, [*origin, 7], None, "later"]
    longer = HEADER + msgspec.msgpack.encode(parts)
    found = codec.decode(longer)
    assert (found.task, found.options, found.origin) == ("send", Options(timeout=5.0), Origin("s", 9))


class Former(msgspec.Struct, frozen=True, array_like=True):
    """What a node reads that does not know of headers."""

    task: str
    args: msgspec.Raw
    kwargs: msgspec.Raw
    options: Options | None = None
    origin: Origin | None = None


HEADERS = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1"}


@pytest.mark.parametrize("body", [BODY, codec.encode("t", (1,)), codec.encode("t", (1,), {"a": 1})])
def test_headers_travel_behind_all_else_and_a_node_that_does_not_know_them_reads_the_rest(body: bytes) -> None:
    before, longer = codec.decode(body), codec.with_headers(body, HEADERS)
    found = codec.decode(longer)
    assert found.headers == HEADERS
    assert before.headers is None
    assert msgspec.structs.replace(found, headers=None) == before
    former = msgspec.msgpack.decode(longer[len(HEADER) :], type=Former)
    assert [getattr(former, name) for name in Former.__struct_fields__] == [
        getattr(before, name) for name in Former.__struct_fields__
    ]


def test_headers_are_added_to_those_that_are_there() -> None:
    body = codec.with_headers(codec.with_headers(BODY, {"a": "1", "b": "2"}), {"b": "3"})
    assert codec.decode(body).headers == {"a": "1", "b": "3"}


@pytest.mark.parametrize("headers", [{"a": 1}, {1: "a"}, {"a": None}, {"a": "\ud800"}])
def test_headers_that_are_no_texts_are_refused(headers: Any) -> None:
    with pytest.raises(EncodingError, match=r"headers .* of task 'send'"):
        codec.with_headers(BODY, headers)


def test_the_envelope_of_a_tick_ends_with_its_origin() -> None:
    body = codec.encode_packed("t", msgspec.Raw(b"\x90"), msgspec.Raw(b"\x80"), None, Origin("s", 1))
    assert body == HEADER + msgspec.msgpack.encode(["t", [], {}, None, ["s", 1]])


def handler() -> Handler:
    def send(a: int, b: str, *, three: list[float]) -> None: ...

    return Handler("send", send, Options())


HANDLER = handler()


def is_survived(body: bytes) -> None:
    """A node and a person look at the body: unfit, or read; nothing else."""
    with contextlib.suppress(UnfitJob):
        envelope = codec.decode(body)
        policy = HANDLER.policy_for(envelope.options)
        assert int((policy.lease or 0) * 1000) >= 0
        HANDLER.bind(envelope)
    view(JobRecord("j", "pending", body, 0, 0), "q")


@given(st.binary(max_size=200))
@example(b"\x01\x00\x93\xa1t\x90\xc0")  # kwargs that are none
@example(b"\x01\x00\x92\xa1t\xc0")  # arguments that are none
@example(b"\x01\x00\x92\xa1t\x91\xa1\xff")  # arguments that are no UTF-8
@example(b"\x01\x00\x93\xa1t\x90\x81\x90\x01")  # a keyword that is a list
@example(b"\x01\x00\x93\xa1t\x90\x81\xa1\xff\x01")  # a keyword that is no UTF-8
@example(b"\x01\x00\x92\xa1\xff\x90")  # a task that is no UTF-8
@example(HEADER + b"\x92\xa1t" + b"\x91" * 100_000)
@example(HEADER + b"\x92\xa1t" + b"\x91" * 500 + b"\x90")
@example(HEADER + msgspec.msgpack.encode(["send", [1, "b"], {"three": []}, {"lease": float("inf")}]))
@example(HEADER + msgspec.msgpack.encode(["send", [1, "b"], {"three": []}, {"expires": float("nan")}]))
@example(HEADER + msgspec.msgpack.encode(["send", [1, "b"], {"three": []}, {"retry": {"limit": -5}}]))
@example(HEADER + msgspec.msgpack.encode(["send", [1, "b"], {"three": []}, {"max_crashes": -1, "unique": Unique()}]))
def test_bytes_from_nowhere_are_unfit_and_nothing_worse(body: bytes) -> None:
    is_survived(body)
    is_survived(HEADER + body)


@given(st.lists(st.tuples(st.integers(2, len(BODY) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_an_envelope_with_bytes_changed_is_unfit_or_read_and_nothing_worse(changes: list[tuple[int, int]]) -> None:
    body = bytearray(BODY)
    for place, byte in changes:
        body[place] = byte
    is_survived(bytes(body))


@pytest.mark.parametrize("flags", [1, 2, 3])
def test_what_is_sealed_says_that_it_needs_keys(flags: int) -> None:
    assert "give this scheduler its keys" in str(unfit(bytes((VERSION, flags)) + BODY[2:]))
    with pytest.raises(ResultError, match="give this scheduler the keys"):
        codec.unpack(bytes((VERSION, flags)) + b"anything")


@pytest.mark.parametrize("data", [b"", b"\x01\x04x", b"\x92\x01", msgspec.Raw(b"\xc1")])
def test_bytes_that_are_no_value_are_not_taken_for_sealed_ones(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        codec.unpack(data)


@given(st.integers(200, 1200))
def test_nesting_near_the_limit_of_recursion_is_unfit_or_read_and_nothing_worse(levels: int) -> None:
    is_survived(HEADER + b"\x92\xa4send" + b"\x91" * levels + b"\x90")
