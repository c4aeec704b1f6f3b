"""What several tests of the browser do beside it, and by it."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from duly import Scheduler


def push(task: str, *args: Any, **options: Any) -> Any:
    async def pushed(scheduler: Scheduler) -> None:
        await scheduler.push(task, args=args, remote=True, **options)

    return pushed


def sizes(queue: str = "default", **wanted: Any) -> Any:
    """Whether the queue's sizes are as wanted."""

    async def are(scheduler: Scheduler) -> bool:
        found = await scheduler.queues.sizes(queue)
        return all(getattr(found, name) == value for name, value in wanted.items())

    return are


def say_yes(page: Page) -> None:
    """Answer the question."""
    page.locator("#ask [data-ask-yes]").click()
