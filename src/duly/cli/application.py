"""From MODULE:ATTRIBUTE to the scheduler of an application; what is not there is said with what is."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from duly.errors import nearest
from duly.scheduler import Scheduler


class ImportFailed(click.ClickException):
    """The application's own code raised while it was imported."""

    exit_code = 1


def find_scheduler(target: str) -> Scheduler:
    """The scheduler that `target` names. Raises click.UsageError if there is none, ImportFailed."""
    name, _, attribute = target.partition(":")
    if not name or not attribute:
        raise click.UsageError(f"{target!r} is not MODULE:ATTRIBUTE, such as app:scheduler")
    if name.endswith(".py"):
        name = name.removesuffix(".py").replace("/", ".")
        raise click.UsageError(f"{target!r} names a file; give its module: {name}:{attribute}")
    module = _import(name)
    found: Any = module
    for step in attribute.split("."):
        found = getattr(found, step, None)
    if isinstance(found, Scheduler):
        return found
    others = [known for known, value in vars(module).items() if isinstance(value, Scheduler)]
    what = f"module {name!r} has no {attribute!r}"
    if found is not None:
        what = f"in module {name!r}, {attribute!r} is {_article(found)}"
    raise click.UsageError(f"{what}; {_hint(attribute, others)}")


def _import(name: str) -> ModuleType:
    """Import it as a program started in the working directory would."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise click.UsageError(
                f"there is no module {error.name!r} in {here} or among the installed packages"
            ) from error
        raise ImportFailed(_told(name, error)) from error
    except Exception as error:
        raise ImportFailed(_told(name, error)) from error


def _told(name: str, error: Exception) -> str:
    """What the application's code raised, and in which of its lines."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    return f"importing {name} failed: {type(error).__name__}: {error}{place}"


def _article(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}, not a Scheduler"


def _hint(attribute: str, schedulers: list[str]) -> str:
    if not schedulers:
        return "it has no Scheduler at all"
    return f"did you mean {schedulers[0]!r}?" if len(schedulers) == 1 else nearest(attribute, schedulers)
