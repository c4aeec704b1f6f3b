"""Which objects `schedules.put` takes as they are, and what a task's key wants: checked by mypy, never run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_type

from duly import Scheduler

scheduler = Scheduler("memory://")


@scheduler.task
async def send(order: int, *, to: str = "") -> str:
    return to


@dataclass(frozen=True)
class Attributes:
    id: str
    execute_on: datetime
    on_execute_reschedule_to: float | None = None

    def serialize(self) -> str:
        return self.id


class Properties:
    @property
    def id(self) -> str:
        return "a"

    @property
    def execute_on(self) -> float:
        return 0.0

    on_execute_reschedule_to = 60

    def serialize(self) -> dict[str, int]:
        return {}


class Methods:
    def id(self) -> str:
        return "a"

    def execute_on(self) -> datetime:
        return datetime.now(UTC)

    def on_execute_reschedule_to(self) -> None:
        return None

    def serialize(self) -> int:
        return 1


class TooLittle:
    id = "a"


async def objects_that_say_themselves_when_they_run() -> None:
    assert_type(await scheduler.schedules.put(Attributes("a", datetime.now(UTC))), bool)
    await scheduler.schedules.put(Properties())
    await scheduler.schedules.put(Methods())
    await scheduler.schedules.put(TooLittle())  # type: ignore[arg-type]


async def a_key_takes_what_a_push_takes() -> None:
    assert_type(send.key(5, to="a"), str)
    send.options(delay=5).key(5)
    send.key("5")  # type: ignore[arg-type]
    send.key(5, too="a")  # type: ignore[call-arg]
