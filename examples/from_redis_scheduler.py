"""The examples of the AntelopeJS Redis Scheduler, with duly.

    python examples/from_redis_scheduler.py [redis://localhost:6379/0]

Without an address the store is a file, duly.db. It ends after a retry: some six seconds.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from duly import Context, Scheduler

scheduler = Scheduler(namespace="from-redis-scheduler")  # main() says where the store is

# --- setHandler


@dataclass
class Email:
    """What a handler is told has a type; there, it is a text to be parsed."""

    to: str
    subject: str
    body: str


@scheduler.task(name="email", keep_result=True)  # or, at run time: scheduler.bind("email", handler), unbind("email")
async def send_email(email: Email) -> None:
    print(f"email to {email.to}: {email.subject}", flush=True)


# --- enableListener, disableListener


async def start_task_listener() -> None:
    await scheduler.start()  # connects, and listens


async def stop_task_listener() -> None:
    await scheduler.stop()  # or scheduler.stop_executing(): then tasks can still be added


# --- addTask


@dataclass
class Reminder:
    user_id: str
    email_content: str
    created_at: datetime


@scheduler.task(name="email-reminder")
async def remind(reminder: Reminder) -> None:
    print(f"reminder for {reminder.user_id}: {reminder.email_content}", flush=True)


async def schedule_email_reminder(user_id: str, email_content: str) -> Reminder:
    tomorrow = datetime.now(UTC) + timedelta(hours=24)  # or delay=86400, or at= with epoch seconds
    reminder = Reminder(user_id, email_content, created_at=datetime.now(UTC))

    # key() is made of the task and the arguments. As an id it lets the job be found by these. replace: one that waits
    # already gets the new moment. By name: scheduler.push("email-reminder", reminder, …), where an unknown name is refused.
    job = remind.options(at=tomorrow, id=remind.key(reminder), replace=True)
    await job.push(reminder)
    return reminder


# --- removeTask


async def cancel_reminder(reminder: Reminder) -> None:
    [answer] = await scheduler.jobs.cancel(remind.key(reminder))
    print(f"the reminder for {reminder.user_id} is {answer}")


# --- Error handling and retries


@scheduler.task(name="process-payment", keep_result=True)  # no special code: up to three retries, 5 seconds apart
async def process_payment(ctx: Context, amount: float) -> None:
    print(f"payment of {amount}: attempt {ctx.attempt}", flush=True)
    if ctx.attempt == 1:
        raise ConnectionError("the bank does not answer")


# --- Integration example


@dataclass
class Notice:
    type: str
    user_id: str
    template: str


@scheduler.task(name="send-email")
async def send_notice(notice: Notice) -> None:
    print(f"{notice.type} for {notice.user_id}", flush=True)


@scheduler.task(name="process-subscription", keep_result=True)
async def process_subscription(user_id: str) -> None:
    print(f"subscription of {user_id}", flush=True)


async def schedule_subscription_reminder(user_id: str) -> str:
    notice = Notice("subscription-reminder", user_id, template="subscription-reminder")
    job = await send_notice.options(delay=timedelta(days=7), id=send_notice.key(notice), replace=True).push(notice)
    return job.id


async def shutdown_scheduler() -> None:
    await scheduler.stop()  # what runs may end first


async def main(url: str | None = None) -> None:
    scheduler.configure(url)
    await start_task_listener()
    await (await send_email.push(Email("b@example.org", "Hello", "…"))).result()
    await stop_task_listener()
    await start_task_listener()
    await cancel_reminder(await schedule_email_reminder("42", "Do not forget"))
    await (await process_payment.push(9.99)).result()
    await (await process_subscription.push("42")).result()
    print(await scheduler.jobs.why(await schedule_subscription_reminder("42")))
    await scheduler.clear()  # nobody is to be reminded of an example
    await shutdown_scheduler()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))
