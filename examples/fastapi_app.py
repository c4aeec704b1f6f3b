"""A shop's API on FastAPI: a request pushes a job, another one says what has become of it.

    uvicorn examples.fastapi_app:app                   # pip install fastapi 'duly[redis,dashboard]'
    duly worker examples.fastapi_app:scheduler         # in another terminal; as many as you like, anywhere

With SHOP_RUN_JOBS=1 the API's process runs the jobs, too: nothing else to start, on one machine. With a password in
DULY_DASHBOARD_PASSWORD the dashboard is at /duly.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException

from duly import Retry, Scheduler
from duly.contrib.starlette import duly_lifespan, get_scheduler
from duly.dashboard import dashboard

scheduler = Scheduler(app="shop")
Duly = Annotated[Scheduler, Depends(get_scheduler)]


@scheduler.task(retry=Retry(limit=5, delay=2, backoff=2), keep_result=True)
async def send_receipt(order: int) -> str:
    return f"receipt for order {order}"


@asynccontextmanager
async def resources(_app: FastAPI) -> AsyncIterator[dict[str, str]]:
    """The application's own lifespan; what it yields is `request.state`, as without duly."""
    yield {"currency": "EUR"}


app = FastAPI(
    lifespan=duly_lifespan(scheduler, resources, run_jobs=os.environ.get("SHOP_RUN_JOBS") == "1"),
)

if os.environ.get("DULY_DASHBOARD_PASSWORD"):  # without one, dashboard() would refuse: it is not for everybody
    app.mount("/duly", dashboard(scheduler))


@app.post("/orders/{order}/pay", status_code=202)
async def pay(order: int) -> dict[str, str]:
    # However often the customer presses the button: the id makes it one receipt.
    job = await send_receipt.options(id=f"receipt:{order}").push(order)
    return {"job": job.id, "answer": job.answer}


@app.get("/jobs/{id}")
async def status(id: str, duly: Duly) -> dict[str, str]:
    job = await duly.jobs.get(id)
    if job is None:
        raise HTTPException(404, f"there is no job {id!r}")
    return {"state": job.state, "why": await duly.jobs.why(id)}
