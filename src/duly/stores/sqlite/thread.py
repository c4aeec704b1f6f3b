"""The writer: one thread with one connection, and group commit.

Verbs are steps, queued from the event loop. The thread takes all that wait, runs them inside one BEGIN IMMEDIATE …
COMMIT, each in a savepoint so that one that raises undoes itself alone, and answers after the commit, in one call to
the loop. A batch of reads alone takes no write lock. If the transaction fails as a whole (full disk, failed commit),
each step is run again in a transaction of its own: a step must therefore do nothing but read and write the file.

The thread closes its file for the time of a fork (see `forks`), and keeps the log short (see `checkpoint`).

While somebody waits for a token, the thread looks every POLL_SECONDS whether another connection has written.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, TypeVar

from duly.clock import SYSTEM_CLOCK
from duly.errors import StoreError, StoreUnavailable
from duly.stores.sqlite import forks
from duly.stores.sqlite.checkpoint import Checkpointer
from duly.stores.sqlite.file import Place, begin, open_file, roll_back, translated
from duly.stores.sqlite.wake import Bell, Sleeper

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

MOST = 256
"""Steps in one transaction: an answer waits for the commit of all of them."""
POLL_SECONDS = 0.04


class Step(NamedTuple):
    """One verb under way."""

    work: Work
    writes: bool
    future: asyncio.Future[Any]


class Outcome(NamedTuple):
    """What became of a step: an answer or an error."""

    future: asyncio.Future[Any]
    answer: Any = None
    error: BaseException | None = None


class WriterThread:
    """The connection of one store object; belongs to the event loop in which `start` was called."""

    def __init__(self, place: Place, loop: asyncio.AbstractEventLoop) -> None:
        self.place, self._loop, self._pid = place, loop, os.getpid()
        self._steps: deque[Step] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._opened: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self.bell = Bell()
        self._checkpointer = Checkpointer(place)
        self._db: sqlite3.Connection | None = None
        self._forking = self._is_low = False

    # --- from the event loop -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the file, in the thread. Daemon: an unclosed store must not keep the interpreter from ending."""
        threading.Thread(target=self._main, name=f"duly-sqlite {self.place.path}", daemon=True).start()
        await asyncio.shield(self._opened)

    async def stop(self) -> None:
        """Finish what was queued, close the connection, end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        await asyncio.shield(self._ended)

    async def run(self, work: Callable[[sqlite3.Connection], T], *, writes: bool = True) -> T:
        """The answer of a step, after its commit. A caller that is cancelled leaves the step under way."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._check()
        with self._changed:
            self._check()
            self._steps.append(Step(work, writes, future))
            self._changed.notify()
        return await future

    def check(self) -> None:
        """Raise StoreUnavailable where this thread can do nothing; takes no lock, which a fork may have copied taken."""
        self._check()

    @property
    def is_mine(self) -> bool:
        """False in a forked child, which has the object but not the thread."""
        return os.getpid() == self._pid

    @property
    def is_over(self) -> bool:
        return self._stopping

    def _check(self) -> None:
        if not self.is_mine:
            raise StoreUnavailable(
                f"{self.place.url} was opened by the process that forked this one: take store.sibling() and connect it"
            )
        if self._stopping:
            raise StoreUnavailable(f"{self.place.url} is closed: await store.connect() first")

    async def wait(self, shard: tuple[str, str], seconds: float) -> bool:
        """Take the token of a shard, given as (namespace, queue), or wait for it."""
        until = SYSTEM_CLOCK.monotonic() + seconds
        sleeper = Sleeper(shard, until, self._loop.create_future(), self._loop.create_future())
        self._check()
        with self._changed:
            self._check()
            self.bell.add(sleeper)
            self._changed.notify()
        try:
            await sleeper.looked  # a token that lies there is found however short the wait
            async with asyncio.timeout(max(0.0, seconds)):
                await sleeper.roused
        except TimeoutError:
            return self.bell.leave(sleeper)
        except BaseException:
            if self.bell.leave(sleeper):  # it was given to one who is gone: the next one shall have it
                with self._changed:
                    self._steps.append(Step(partial(self.bell.put_back, shard), True, self._loop.create_future()))
                    self._changed.notify()
            raise
        return True

    # --- from the thread that forks ----------------------------------------------------------------------------------

    def lie_low(self) -> None:
        with self._changed:
            self._forking = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_low)  # a step under way ends by itself within a bound

    def go_on(self) -> None:
        with self._changed:
            self._forking = False
            self._changed.notify_all()

    # --- in the thread -----------------------------------------------------------------------------------------------

    def _main(self) -> None:
        forks.enter(self)
        try:
            if self._has_opened():
                while steps := self._next():
                    self._serve(steps if steps is not IDLE else ())
        finally:
            self._stopping = True
            self._refuse(self._steps, StoreUnavailable(f"{self.place.url} was closed"))
            with self._changed:
                self._close_file()
                self._is_low = True
                self._changed.notify_all()
            forks.leave(self)
            self._tell([Outcome(self._ended)])

    def _has_opened(self) -> bool:
        try:
            self._file()
        except BaseException as error:  # told to who waits for it
            self._stopping = True
            self._tell([Outcome(self._opened, error=error)])
            return False
        self._tell([Outcome(self._opened)])
        return True

    def _next(self) -> list[Step] | tuple[Step, ...]:
        """What waits now; IDLE when it is time to look for tokens; empty when all is done."""
        with self._changed:
            while self._forking or (not self._steps and not self._stopping):
                if self._forking:
                    self._wait_for_the_fork()
                elif self.bell.has_new or (
                    not self._changed.wait(POLL_SECONDS if self.bell.sleepers else None) and self.bell.sleepers
                ):
                    return IDLE
            return [self._steps.popleft() for _ in range(min(MOST, len(self._steps)))]

    def _wait_for_the_fork(self) -> None:
        self._close_file()
        self._is_low = True
        self._changed.notify_all()
        self._changed.wait_for(lambda: not self._forking)
        self._is_low = False

    def _file(self) -> sqlite3.Connection:
        """The connection; opened at first, and again after a fork."""
        if self._db is None:
            self._db = open_file(self.place)
        return self._db

    def _close_file(self) -> None:
        self._checkpointer.close()
        if self._db is not None:
            self._db.close()
            self._db = None
            self.bell.forget()

    def _serve(self, steps: Iterable[Step]) -> None:
        steps = [step for step in steps if not step.future.cancelled() or step.writes]
        try:
            db = self._file()
        except StoreError as error:
            self._refuse(steps, error)
            return
        if steps:
            self._tell(self._together(db, steps))
        wrote = any(step.writes for step in steps)
        if self.bell.sleepers or self.bell.has_new:  # new: one who came and left before he was looked at
            self._tell([Outcome(future) for future in self.bell.look(db, wrote=wrote)])
        if wrote:
            self._checkpointer.look(db)

    def _refuse(self, steps: Iterable[Step], error: StoreError) -> None:
        """An error to everybody who waits; those who have been looked for already hear only that their time ran out."""
        self._tell([Outcome(step.future, error=error) for step in steps])
        self._tell([Outcome(sleeper.looked, error=error) for sleeper in self.bell.dismiss()])

    def _together(self, db: sqlite3.Connection, steps: list[Step]) -> list[Outcome]:
        """Run all in one transaction; if that fails as a whole, each in its own."""
        try:
            begin(db, "IMMEDIATE" if any(step.writes for step in steps) else "DEFERRED")
        except sqlite3.Error as error:
            return [Outcome(step.future, error=translated(error, self.place.url)) for step in steps]
        if len(steps) == 1:
            return [self._alone(db, steps[0])]
        try:
            outcomes = [self._one_of_many(db, step) for step in steps]
            db.execute("COMMIT")
            return outcomes
        except sqlite3.Error:
            roll_back(db)
        return [self._together(db, [step])[0] for step in steps]

    def _one_of_many(self, db: sqlite3.Connection, step: Step) -> Outcome:
        if not step.writes:
            try:
                return Outcome(step.future, step.work(db))
            except Exception as error:
                return Outcome(step.future, error=translated(error, self.place.url))
        db.execute("SAVEPOINT step")
        try:
            answer = step.work(db)
        except Exception as error:
            if not db.in_transaction:  # SQLite undid everything
                raise
            db.execute("ROLLBACK TO step")
            db.execute("RELEASE step")
            return Outcome(step.future, error=translated(error, self.place.url))
        db.execute("RELEASE step")
        return Outcome(step.future, answer)

    def _alone(self, db: sqlite3.Connection, step: Step) -> Outcome:
        committing = False
        try:
            answer = step.work(db)
            committing = True
            db.execute("COMMIT")
        except Exception as error:
            roll_back(db)
            return Outcome(step.future, error=translated(error, self.place.url, committing))
        return Outcome(step.future, answer)

    def _tell(self, outcomes: list[Outcome]) -> None:
        """One call to the loop for all."""
        if outcomes:
            try:
                self._loop.call_soon_threadsafe(_resolve, outcomes)
            except RuntimeError:  # the loop was closed: nobody waits any more
                self._stopping = True


IDLE: tuple[Step, ...] = (Step(str, False, None),)  # type: ignore[arg-type]


def _resolve(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.future.done():
            continue
        if outcome.error is None:
            outcome.future.set_result(outcome.answer)
        else:
            outcome.future.set_exception(outcome.error)
