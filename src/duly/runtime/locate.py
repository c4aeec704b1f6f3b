"""How a child process finds a handler: by the module and name under which it can be imported, as `module:name`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from duly.errors import ConfigurationError

MAIN = "__main__"

is_loading = False
"""Whether this process is a child that imports a handler just now."""


def require_guarded() -> None:
    """Raises ConfigurationError where an import in a child would start a node."""
    if is_loading:
        raise ConfigurationError(
            "a child process imports this module for its handler, and the import starts a scheduler: "
            "put what starts it under  if __name__ == '__main__':"
        )


def target_of(task: str, fn: Callable[..., Any]) -> str:
    """`module:name` of a function. Raises ConfigurationError if it has none: a lambda, a nested function, an object."""
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    if not module or not name or "<" in name:
        raise _refusal(task, fn, "is not a named function at the top of a module")
    return f"{module}:{name}"


def require_found(task: str, fn: Callable[..., Any], target: str) -> None:
    """Raises ConfigurationError, naming the task, if `target` leads to anything but this function."""
    if target.startswith(f"{MAIN}:") and not hasattr(sys.modules[MAIN], "__file__"):
        raise _refusal(task, fn, "was typed in, and stands in no file")
    try:
        found = find(target)
    except (ImportError, AttributeError) as error:
        raise _refusal(task, fn, f"cannot be found as {target}: {error}") from None
    if found is not fn:
        raise _refusal(task, fn, f"is not what is found as {target}")


def find(target: str) -> Callable[..., Any]:
    """The function behind `module:name`. Raises what the import of its module raises, or AttributeError.

    A declared task stands there in the place of its function, and a decorator may stand around the task.
    """
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    step = found
    while step is not None:
        declared: Callable[..., Any] | None = getattr(getattr(step, "handler", None), "fn", None)
        if declared is not None:
            return declared
        step = getattr(step, "__wrapped__", None)
    return found  # type: ignore[no-any-return]


def _refusal(task: str, fn: Callable[..., Any], why: str) -> ConfigurationError:
    return ConfigurationError(
        f"task {task!r} cannot run with executor='process': its handler {fn!r} {why}. "
        "A child process imports it: make it a function at the top of a module"
    )
