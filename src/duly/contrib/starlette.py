"""duly in a Starlette or FastAPI application: connected while it is up, at hand in each request, and a worker if wanted.

app = FastAPI(lifespan=duly_lifespan(scheduler))

@app.post("/orders/{order}")
async def pay(order: int) -> str:
    return (await send_receipt.push(order)).id

@app.get("/jobs/{id}")
async def status(id: str, scheduler: Annotated[Scheduler, Depends(get_scheduler)]) -> str: ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from duly.errors import ConfigurationError
from duly.scheduler import Scheduler

try:
    from starlette.requests import HTTPConnection  # FastAPI reads the annotation of get_scheduler
except ModuleNotFoundError as error:
    raise ConfigurationError("duly.contrib.starlette needs Starlette: pip install starlette") from error

__all__ = ["duly_lifespan", "get_scheduler"]

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def duly_lifespan(scheduler: Scheduler, lifespan: Lifespan | None = None, *, run_jobs: bool = False) -> Lifespan:
    """A lifespan for the application: the scheduler is connected from before its first request to after its last one.

    lifespan: the application's own, inside of it: it may push, and what it yields is the requests' state as ever.
    run_jobs: run jobs, too, in the application's event loop, once its own lifespan has begun. They stop first, with `grace`
    seconds; the server has to wait that long (uvicorn does).
    """

    @asynccontextmanager
    async def both(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(scheduler)
            state = await stack.enter_async_context(lifespan(app)) if lifespan is not None else None
            if run_jobs:
                await scheduler.start()
                stack.push_async_callback(scheduler.stop)
            yield {**(state or {}), "duly": scheduler}

    return both


def get_scheduler(connection: HTTPConnection) -> Scheduler:
    """The connected scheduler of a request or web socket; for `Depends`. Raises ConfigurationError if there is none."""
    found: Any = getattr(connection.state, "duly", None)
    if not isinstance(found, Scheduler):
        raise ConfigurationError("this application has no scheduler: give it lifespan=duly_lifespan(scheduler)")
    return found
