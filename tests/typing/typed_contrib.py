"""The integrations as type checkers see them: checked by mypy, never run."""

from __future__ import annotations

from typing import assert_type

from duly import Context, Scheduler, SyncJobHandle
from duly.contrib.django import apush, push_on_commit, scheduler


@scheduler.task
def send_receipt(ctx: Context, order: int) -> str:
    return f"receipt {order}, attempt {ctx.attempt}"


async def pushes_of_django_have_the_signature_of_the_handler() -> None:
    assert_type(scheduler, Scheduler)
    assert_type(push_on_commit(send_receipt, 42), str)
    assert_type(push_on_commit(send_receipt.options(delay=5), order=42), str)
    assert_type(await apush(send_receipt, 42), SyncJobHandle[str])
    push_on_commit(send_receipt, "42")  # type: ignore[arg-type]
    push_on_commit(send_receipt)  # type: ignore[call-arg]
    await apush(send_receipt, 42, 43)  # type: ignore[call-arg]
