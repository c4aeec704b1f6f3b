"""A handler as a node sees it: what it may be called with, how packed arguments become its own types, what policy applies."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from types import GenericAlias
from typing import Any, Protocol

import msgspec

from duly.core import codec
from duly.core.job import RUN_OPTIONS, Options, Policy, make_options, make_policy
from duly.errors import InvalidArguments, InvalidOption, UnfitJob
from duly.runtime.context import Context
from duly.runtime.locate import require_found, target_of

_NO_KWARGS: dict[str, Any] = {}
_values = msgspec.msgpack.Decoder(list[msgspec.Raw])
_named_values = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def is_async(fn: object) -> bool:
    """Whether a function, or an object that is called like one, is to be awaited."""
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


class Handler:
    """A function with its declared options, inspected once."""

    def __init__(self, name: str, fn: Callable[..., Any], options: Options) -> None:
        self.name, self.fn, self.options = name, fn, options
        self.is_async = is_async(fn)
        if self.is_async and options.executor == "thread":
            raise InvalidOption(f"task {name!r} is async: executor='thread' is for functions that are not")
        self.in_process = options.executor == "process"
        self.in_thread = not self.is_async and not self.in_process
        self.target = target_of(name, fn) if self.in_process else ""
        self.policy = make_policy(options)
        self._policies: dict[Options, Policy] = {}
        parameters, hints = _inspect(fn)
        self.wants_context = (
            bool(parameters) and parameters[0].kind in _POSITIONAL and _is_context(parameters[0], hints)
        )
        if self.wants_context:
            parameters = parameters[1:]
        self._positional = [p for p in parameters if p.kind in _POSITIONAL]
        self._required = sum(p.default is p.empty for p in self._positional)
        self._by_keyword = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        self._needed_keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty}
        self._rest = next((p for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self._rest_keywords = next((p for p in parameters if p.kind is p.VAR_KEYWORD), None)
        self._types = {p.name: hints.get(p.name, Any) for p in parameters}
        self._tuples: dict[int, msgspec.msgpack.Decoder[Any]] = {}
        self._plain: dict[int, msgspec.msgpack.Decoder[Any]] = {}
        self._singles: dict[str, msgspec.msgpack.Decoder[Any]] = {}

    def require_importable(self) -> None:
        """Raises ConfigurationError if it is to run in child processes, and they could not find it."""
        if self.in_process:
            require_found(self.name, self.fn, self.target)

    def policy_for(self, pushed: Options | None) -> Policy:
        """The declaration's policy with what the push set over it. Raises UnfitJob("envelope") if that makes no sense."""
        if pushed is None:
            return self.policy
        policy = self._policies.get(pushed)
        if policy is None:
            if len(self._policies) > 1000:
                self._policies.clear()
            try:
                make_options({name: getattr(pushed, name) for name in RUN_OPTIONS})
                policy = make_policy(self.options, pushed)
            except InvalidOption as error:  # damaged, or from a newer duly that allows more
                raise UnfitJob("envelope", f"the envelope's options cannot be used: {error}") from None
            self._policies[pushed] = policy
        return policy

    def check_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise InvalidArguments if the handler could not be called so."""
        fault = self._fault(len(args), kwargs.keys())
        if fault:
            raise InvalidArguments(f"task {self.name!r}{self._shape()} cannot be called so: {fault}")

    def _fault(self, count: int, names: typing.Collection[str]) -> str:
        if not names and self._required <= count <= len(self._positional) and not self._needed_keywords:
            return ""
        if count > len(self._positional) and self._rest is None:
            return f"{count} positional arguments given, at most {len(self._positional)} taken"
        for name in names:
            if name not in self._by_keyword and self._rest_keywords is None:
                return f"it has no argument {name!r}"
        given = {p.name for p in self._positional[:count]}
        twice = given & set(names) & set(self._by_keyword)
        if twice:
            return f"argument {min(twice)!r} is given twice"
        needed = {p.name for p in self._positional if p.default is p.empty} | self._needed_keywords
        missing = needed - given - set(names)
        return f"argument {min(missing)!r} is missing" if missing else ""

    def _shape(self) -> str:
        names = [p.name if p.default is p.empty else f"{p.name}=…" for p in self._positional]
        names += ["*" + self._rest.name] if self._rest else []
        names += [n for n, p in self._by_keyword.items() if p.kind is p.KEYWORD_ONLY]
        names += ["**" + self._rest_keywords.name] if self._rest_keywords else []
        return f"({', '.join(names)})"

    def bind(self, envelope: codec.Envelope) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arguments in the handler's own types. Raises UnfitJob("arguments")."""
        try:
            head = memoryview(envelope.args)[0]
            count = head & 0x0F if head & 0xF0 == 0x90 else len(_values.decode(envelope.args))
            if envelope.kwargs is codec.NO_KWARGS:
                decoder = self._plain.get(count)  # of calls that are known to fit
                if decoder is not None:
                    return decoder.decode(envelope.args), _NO_KWARGS
                raw_kwargs: Mapping[str, msgspec.Raw] = _NO_KWARGS
            else:
                raw_kwargs = _named_values.decode(envelope.kwargs)
            fault = self._fault(count, raw_kwargs.keys())
            if fault:
                raise UnfitJob("arguments", f"task {self.name!r}{self._shape()}: {fault}")
            decoder = self._tuples.get(count) or self._tuple(count)
            if raw_kwargs:
                kwargs = {name: self._single(name).decode(value) for name, value in raw_kwargs.items()}
                return decoder.decode(envelope.args), kwargs
            self._plain[count] = decoder
            return decoder.decode(envelope.args), _NO_KWARGS
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise UnfitJob("arguments", f"the arguments of task {self.name!r} do not fit: {error}") from None
        except UnfitJob:
            raise
        except Exception as error:  # a type's own __post_init__ or validator may raise anything
            raise UnfitJob("arguments", f"the arguments of task {self.name!r} do not fit: {error!r}") from error

    def _tuple(self, count: int) -> msgspec.msgpack.Decoder[Any]:
        types = [self._types[p.name] for p in self._positional[:count]]
        if self._rest is not None:
            types += [self._types[self._rest.name]] * (count - len(types))
        decoder = _decoder(types)
        self._tuples[count] = decoder
        return decoder

    def _single(self, name: str) -> msgspec.msgpack.Decoder[Any]:
        decoder = self._singles.get(name)
        if decoder is None:
            type_ = self._types.get(name, Any)
            if name not in self._types and self._rest_keywords is not None:
                type_ = self._types[self._rest_keywords.name]
            decoder = self._singles[name] = _one(type_)
        return decoder


class Handlers(Protocol):
    """Where a worker finds the handler of a task."""

    def find(self, task: str) -> Handler | None: ...

    def shortest_lease(self) -> float | None: ...

    def names(self) -> Sequence[str]: ...


def _inspect(fn: Callable[..., Any]) -> tuple[list[inspect.Parameter], dict[str, Any]]:
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # a builtin without a signature takes what it is given
        anything = [inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)]
        return [*anything, inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)], {}
    target = fn if inspect.isroutine(fn) or inspect.isclass(fn) else type(fn).__call__
    try:
        return parameters, typing.get_type_hints(target)
    except (
        NameError,
        TypeError,
        AttributeError,
    ):  # names known to type checkers only: such arguments stay as they come
        return parameters, {}


def _is_context(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> bool:
    hint = hints.get(parameter.name, parameter.annotation)
    if isinstance(hint, str):
        return hint.rpartition(".")[2] == "Context"
    return hint is Context


def _one(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    try:
        return codec.decoder(type_)
    except TypeError:  # an annotation that msgspec cannot serve: the value stays as it comes
        return codec.decoder(Any)


def _decoder(types: list[Any]) -> msgspec.msgpack.Decoder[Any]:
    try:
        return codec.decoder(_tuple_of(types))
    except TypeError:
        served = [type_ if _is_served(type_) else Any for type_ in types]
        return codec.decoder(_tuple_of(served))


def _tuple_of(types: list[Any]) -> Any:
    return GenericAlias(tuple, tuple(types))


def _is_served(type_: Any) -> bool:
    try:
        codec.decoder(type_)
    except TypeError:
        return False
    return True


def _unknown() -> None: ...


UNKNOWN = Handler("?", _unknown, Options())
"""Stands for the handler of a job whose task is not known here."""
