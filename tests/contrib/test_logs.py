"""What is logged says which job it is about: on the loop, in threads, in child processes; and JSON stays one line."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duly import Context, Scheduler
from duly.contrib.logs import JobFilter, JsonFormatter, TextFormatter
from tests.schedulers import running
from tests.waiting import eventually

ROOT = Path(__file__).parent.parent.parent
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Lines:
    """A logger of the test's own, and what came out of it."""

    def __init__(self) -> None:
        self.logger = logging.Logger("shop")  # noqa: LOG001 - of this test alone
        self._out = io.StringIO()
        handler = logging.StreamHandler(self._out)
        handler.setFormatter(JsonFormatter())
        handler.addFilter(JobFilter())
        self.logger.addHandler(handler)

    @property
    def found(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.getvalue().splitlines()]


@pytest.fixture
def lines() -> Lines:
    return Lines()


async def test_records_made_in_a_handler_say_its_job_on_the_loop_and_in_threads(lines: Lines) -> None:
    scheduler = Scheduler(f"memory://{uuid.uuid4().hex}", logger=logging.getLogger("duly"))
    scheduler.headers(lambda _: {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    nodes: list[str] = []

    @scheduler.task
    async def loop(ctx: Context) -> None:
        nodes.append(ctx.node)
        lines.logger.info("here")
        await asyncio.to_thread(lines.logger.info, "beside")

    @scheduler.task
    def thread() -> None:
        lines.logger.info("there")

    lines.logger.info("outside")
    async with running(scheduler):
        first, second = await loop.push(), await thread.push()
        await eventually(lambda: len(lines.found) == 4)
    by_message = {line["message"]: line for line in lines.found}
    assert "job_id" not in by_message["outside"]
    for message, job, task in (("here", first, "loop"), ("beside", first, "loop"), ("there", second, "thread")):
        line = by_message[message]
        assert [line[name] for name in ("job_id", "task", "queue", "attempt", "node", "trace_id")] == [
            job.id, task, "default", 1, nodes[0], TRACE,
        ]  # fmt: skip


def test_a_line_has_what_the_record_has(lines: Lines) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        lines.logger.exception("order %d", 42, extra={"order": 42, "customer": Path("a/b"), "job_id": "mine"})
    (line,) = lines.found
    assert (line["level"], line["logger"], line["message"]) == ("ERROR", "shop", "order 42")
    assert (line["order"], line["customer"], line["job_id"]) == (42, repr(Path("a/b")), "mine")
    assert "Traceback" in line["exception"]
    assert line["exception"].endswith("ValueError: broken")
    assert line["time"].endswith("+00:00")
    assert line["process"] == os.getpid()


class Sly:
    """A value that does not want to be logged."""

    def __repr__(self) -> str:
        raise ValueError("no")


@given(st.text() | st.just("\ud800") | st.just("a\nb\r\x00"), st.recursive(
    st.none() | st.floats() | st.integers() | st.text() | st.binary() | st.builds(object) | st.builds(Sly),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=5,
))  # fmt: skip
def test_whatever_is_logged_is_one_json_object_on_one_line(text: str, value: Any) -> None:
    record = logging.LogRecord("n", logging.INFO, "p", 1, "%s", (text,), None)
    record.extra_value = value
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert isinstance(json.loads(line), dict)


def test_a_line_for_people_names_the_job_once() -> None:
    def line(message: str, **bound: Any) -> str:
        record = logging.LogRecord("n", logging.INFO, "p", 1, message, None, None)
        vars(record).update(bound)
        return TextFormatter().format(record)

    assert line("hello").endswith("INFO hello")
    assert line("hello", job_id="7").endswith("INFO hello [job 7]")
    assert line("job 7 failed", job_id="7").endswith("INFO job 7 failed")


# --- duly worker -----------------------------------------------------------------------------------------------------


def worker(url: str, *flags: str, **environment: str) -> list[str]:
    """What a worker of three jobs writes to stderr."""
    command = [sys.executable, "-m", "duly", "worker", "tests.contrib.logging_application:scheduler", "--max-jobs=3"]
    done = subprocess.run(
        [*command, f"--url={url}", *flags], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False, timeout=50,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


async def pushed(url: str) -> dict[str, str]:
    """One job for each of the application's tasks: its id by task."""
    async with Scheduler(url) as scheduler:
        return {
            task: (await scheduler.push(task, f"said by {task}", remote=True)).id
            for task in ("async", "thread", "process")
        }


@pytest.mark.parametrize("by_environment", [False, True])
async def test_a_worker_and_its_children_log_json_by_option(tmp_path: Path, by_environment: bool) -> None:
    url = f"sqlite:///{tmp_path}/duly.db"
    ids = await pushed(url)
    given: Any = ([], {"DULY_LOG_FORMAT": "json"}) if by_environment else (["--log-format=json"], {})
    lines = [json.loads(line) for line in await asyncio.to_thread(worker, url, *given[0], **given[1])]
    said = {line["task"]: line for line in lines if line["message"].startswith("said by")}
    assert {task: line["job_id"] for task, line in said.items()} == ids
    assert said["process"]["process"] != said["thread"]["process"]
    assert len({line["node"] for line in said.values()}) == 1


async def test_a_worker_and_its_children_log_for_people_otherwise(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/duly.db"
    ids = await pushed(url)
    lines = await asyncio.to_thread(worker, url)
    for task, id in ids.items():
        assert any(line.endswith(f" said by {task} [job {id}]") for line in lines), lines
