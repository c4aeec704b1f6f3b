"""The envelope: two bytes of header, then msgpack. Never pickle (DESIGN §2.12).

    byte 0   version of the envelope (1)
    byte 1   flags: 1 signed, 2 encrypted: such a body holds the envelope, and is opened before it comes here
             (stores.sealing); a node without keys, or one that does not know a flag, finds the job unfit
    then     msgpack array [task, args, kwargs?, options?, origin?, headers?], trailing absent parts left out

`options` is a map of those set at push; `origin` is [schedule id, nominal ms] for a tick; `headers` is a map of texts that
travel with the job, such as the context of a trace. A part that comes after those that a node knows is left alone by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from duly.core.job import RUN_OPTIONS, Options
from duly.errors import EncodingError, ResultError, TooLarge, UnfitJob

VERSION = 1
HEADER = bytes((VERSION, 0))
SEALED = {1: "signed", 2: "encrypted", 3: "signed and encrypted"}
"""What the flags of a body say that has to be opened with keys first (stores.sealing)."""
MAX_BYTES = 1_000_000
"""The largest envelope, in bytes."""


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """The tick a job was made for: nominal is epoch ms."""

    schedule: str
    nominal: int


NO_KWARGS = msgspec.Raw(b"\x80")
"""Of an envelope that was written without keyword arguments: this very object."""


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """What travels: arguments are still packed, so that the handler's own types decode them."""

    task: str
    args: msgspec.Raw = msgspec.Raw(b"\x90")
    kwargs: msgspec.Raw = NO_KWARGS
    options: Options | None = None
    origin: Origin | None = None
    headers: dict[str, str] | None = None


def _enc_hook(value: Any) -> Any:
    """Types msgspec does not know by itself: pydantic models travel as their fields."""
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    raise TypeError(f"{type(value).__name__} cannot be encoded")


def _dec_hook(type_: type, value: Any) -> Any:
    validate = getattr(type_, "model_validate", None)
    if validate is not None:
        return validate(value)
    if isinstance(type_, type) and isinstance(value, type_):
        return value
    raise TypeError(f"{type_!r} cannot be decoded")


_encoder = msgspec.msgpack.Encoder(enc_hook=_enc_hook)
_canonical = msgspec.msgpack.Encoder(order="deterministic")
_envelopes = msgspec.msgpack.Decoder(Envelope)
_EMPTY_KWARGS: dict[str, Any] = {}


def encode(task: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, options: bytes | None = None,
           origin: Origin | None = None) -> bytes:  # fmt: skip
    """An envelope. Raises EncodingError naming the argument, or TooLarge; `options` come from `pack_options`."""
    try:
        if options is None and origin is None:
            payload = _encoder.encode((task, args, kwargs) if kwargs else (task, args))
        else:
            packed = msgspec.Raw(options) if options is not None else None
            parts = (task, args, kwargs or _EMPTY_KWARGS, packed)
            payload = _encoder.encode(parts if origin is None else (*parts, origin))
    except (TypeError, OverflowError, ValueError, RecursionError) as error:
        raise _explain(task, args, kwargs or {}, error) from None
    _check_size(task, payload)
    return HEADER + payload


def encode_packed(
    task: str, args: msgspec.Raw, kwargs: msgspec.Raw, options: Options | None, origin: Origin | None
) -> bytes:
    """An envelope of arguments that are packed already (the job of a tick)."""
    return HEADER + _encoder.encode((task, args, kwargs, options, origin))


def with_headers(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The envelope in `body` with these headers beside those that it has. Raises EncodingError for one that is no text."""
    envelope = decode(body)
    if not all(isinstance(part, str) for item in headers.items() for part in item):
        raise EncodingError(f"headers {dict(headers)!r} of task {envelope.task!r}: give texts by name")
    merged = {**(envelope.headers or {}), **headers}
    parts = (envelope.task, envelope.args, envelope.kwargs, envelope.options, envelope.origin, merged)
    try:
        payload = _encoder.encode(parts)
    except ValueError as error:  # a lone surrogate
        raise EncodingError(f"headers {merged!r} of task {envelope.task!r} cannot be encoded: {error}") from None
    _check_size(envelope.task, payload)
    return HEADER + payload


def _check_size(task: str, payload: bytes) -> None:
    if len(payload) > MAX_BYTES:
        raise TooLarge(
            f"the job for task {task!r} takes {len(payload):,} bytes; at most {MAX_BYTES:,} are accepted: "
            "keep the data elsewhere and pass a reference to it"
        )


def _explain(task: str, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> EncodingError:
    """The error that names the first argument at fault."""
    for name, value in [
        *((f"argument {i + 1}", v) for i, v in enumerate(args)),
        *((f"argument {k!r}", v) for k, v in kwargs.items()),
    ]:
        try:
            _encoder.encode(value)
        except OverflowError:
            return EncodingError(f"{name} of task {task!r} holds an integer outside 64 bits; pass it as text")
        except RecursionError:
            return EncodingError(f"{name} of task {task!r} is nested too deeply, or holds itself")
        except (TypeError, ValueError) as fault:
            return EncodingError(
                f"{name} of task {task!r} ({type(value).__name__}) cannot be encoded: {fault}; pass plain data "
                "(numbers, text, bytes, lists, dicts, dataclasses, datetime, UUID, Decimal, enums)"
            )
    return EncodingError(f"the arguments of task {task!r} cannot be encoded: {error}")


def sealing_of(data: bytes) -> str | None:
    """How these bytes say that they are sealed, one of SEALED; None if they do not."""
    return SEALED.get(data[1]) if len(data) > 1 and data[0] == VERSION else None


def decode(body: bytes) -> Envelope:
    """The envelope in `body`. Raises UnfitJob when it is newer than this code, or damaged."""
    if not body.startswith(HEADER):
        if len(body) < 2 or body[0] == 0:
            raise UnfitJob("envelope", "the envelope is damaged: it is too short")
        known = f"envelope version {body[0]}, flags {body[1]}; this duly reads version {VERSION}, flags 0"
        if (sealing := sealing_of(body)) is not None:
            known += f". It is {sealing}: give this scheduler its keys, Scheduler(…, keys=Keys(…))"
        raise UnfitJob("envelope", known)
    try:
        return _envelopes.decode(memoryview(body)[2:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnfitJob("envelope", f"the envelope is damaged: {error}") from None


def pack_options(options: Options) -> bytes | None:
    """The options that an envelope carries, or None if none of them is set."""
    chosen = {n: v for n in RUN_OPTIONS if (v := getattr(options, n)) is not None}
    return _encoder.encode(chosen) if chosen else None


def pack(value: Any) -> bytes:
    """Any plain value as msgpack (results, errors). Raises EncodingError."""
    try:
        return _encoder.encode(value)
    except (TypeError, OverflowError, ValueError, RecursionError) as error:
        raise EncodingError(f"a value of type {type(value).__name__} cannot be encoded: {error}") from None


def unpack(data: bytes) -> Any:
    """The plain value that `pack` wrote. Raises ResultError if it is sealed: only those with keys can open it."""
    try:
        return msgspec.msgpack.decode(data)
    except msgspec.DecodeError:
        if (sealing := sealing_of(bytes(data))) is None:  # a msgspec.Raw has no items
            raise
        text = f"this is {sealing}: give this scheduler the keys, Scheduler(…, keys=Keys(…))"
        raise ResultError(text) from None


def canonical(args: msgspec.Raw, kwargs: msgspec.Raw) -> bytes:
    """The same bytes for the same arguments, in whatever order mappings were given."""
    return _canonical.encode((unpack(args), unpack(kwargs)))


def decoder(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    """A decoder that converts to `type_`; raises TypeError where msgspec cannot serve the annotation."""
    return msgspec.msgpack.Decoder(type_, dec_hook=_dec_hook, strict=True)
