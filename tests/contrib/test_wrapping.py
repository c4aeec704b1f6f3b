"""What the integrations share: handlers that are wrapped, settings in capitals, libraries that are missing."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from duly import ConfigurationError, Context, Scheduler
from duly.contrib.settings import read_settings
from duly.contrib.wrapping import wrap_handlers
from tests.schedulers import running, shared


def wrapped(scheduler: Scheduler, log: list[str]) -> Scheduler:
    def around(call: Callable[[], Any]) -> Any:
        log.append("begin")
        try:
            return call()
        finally:
            log.append("end")

    async def around_async(call: Callable[[], Awaitable[Any]]) -> Any:
        log.append("begin async")
        return await call()

    wrap_handlers(scheduler, around, around_async)
    return scheduler


async def test_a_wrapped_handler_keeps_its_arguments_its_context_and_its_errors() -> None:
    log: list[str] = []
    scheduler = wrapped(Scheduler(shared("memory://"), poll=0.1), log)

    @scheduler.task(keep_result=True)
    def add(ctx: Context, a: int, *, b: int = 1) -> tuple[int, int]:
        return ctx.attempt, a + b

    @scheduler.task(keep_result=True)
    async def add_async(a: int) -> int:
        return a + 1

    @scheduler.task(retry=False)
    def fail() -> None:
        raise ValueError("no")

    async with running(scheduler):
        assert await (await add.push(1, b=4)).result(10) == [1, 5]
        assert await (await add_async.push(1)).result(10) == 2
        job = await fail.options(keep_result=True).push()
        with pytest.raises(Exception, match="ValueError: no"):
            await job.result(10)
    assert log == ["begin", "end", "begin async", "begin", "end"]
    assert await add_async(5) == 6  # a direct call
    assert len(log) == 5


def test_a_function_that_is_bound_to_run_in_child_processes_stays_as_it_is() -> None:
    """A child finds it under its own name, and there it is not wrapped: it must be the same in both places."""
    scheduler = wrapped(Scheduler("memory://"), [])
    task = scheduler.bind("dedent", textwrap.dedent, executor="process")
    assert task.handler.fn is textwrap.dedent
    scheduler._book.require_importable()


def test_settings_in_capitals_are_those_of_a_scheduler() -> None:
    assert read_settings({"URL": "memory://", "LEASE": 5}, "DULY_{}") == {"url": "memory://", "lease": 5}
    with pytest.raises(ConfigurationError, match=r"no setting DULY_LEAS; did you mean 'LEASE'"):
        read_settings({"LEAS": 5}, "DULY_{}")


def test_a_framework_that_is_missing_is_named_with_the_command_that_brings_it() -> None:
    program = """
    import sys
    sys.modules.update(flask=None, starlette=None, django=None)
    def said(do):
        try:
            do()
        except Exception as error:
            print(type(error).__name__, error)
    def flask(): import duly.contrib.flask
    def starlette(): import duly.contrib.starlette
    def django(): from duly.contrib.django import scheduler
    for do in (flask, starlette, django): said(do)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == [
        "ConfigurationError duly.contrib.flask needs Flask: pip install flask",
        "ConfigurationError duly.contrib.starlette needs Starlette: pip install starlette",
        "ConfigurationError duly.contrib.django needs Django: pip install django",
    ]
