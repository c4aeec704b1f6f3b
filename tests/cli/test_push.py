"""`duly push`."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from duly import Scheduler
from duly.core import codec
from duly.stores.base import JobRecord
from tests.cli.conftest import ENVIRONMENT, Duly, run_all, using
from tests.waiting import eventually

APPLICATION = """
from duly import Scheduler

scheduler = Scheduler({url!r})

@scheduler.task(queue="mail", keep_result=60)
def send(order_id: int, urgent: bool = False) -> str:
    return f"sent {{order_id}}"
"""


@pytest.fixture
def target(sqlite_url: str, duly: Duly, monkeypatch: pytest.MonkeyPatch) -> str:
    Path("shop_of_push.py").write_text(APPLICATION.format(url=sqlite_url))
    monkeypatch.setattr(sys, "path", [str(Path.cwd()), *sys.path])
    monkeypatch.delitem(sys.modules, "shop_of_push", raising=False)
    return "shop_of_push:scheduler"


def record(url: str, id: str, queue: str = "default") -> JobRecord:
    async def get(scheduler: Scheduler) -> JobRecord:
        found = (await scheduler.shard(queue).get([id]))[0]
        assert found is not None
        return found

    return using(url, get)


def envelope(url: str, id: str, queue: str = "default") -> codec.Envelope:
    return codec.decode(record(url, id, queue).body)


def test_it_prints_the_id_alone(duly: Duly, url: str) -> None:
    said = duly("push", "hello", "--url", url)
    assert (said.code, said.err) == (0, "")
    assert duly("jobs", "show", said.out.strip(), "--url", url).code == 0
    said = duly("push", "hello", "--id", "x", "--queue", "mail", "--url", url, "--json")
    assert said.json == {"id": "x", "queue": "mail", "answer": "created"}


@pytest.mark.parametrize(
    ("words", "args", "kwargs"),
    [
        (("1", "2.5", "true", "null"), [1, 2.5, True, None], {}),
        (('"42"', "order-42", "042", "NaN", ""), ["42", "order-42", "042", "NaN", ""], {}),
        (('{"to": ["a"]}', "--kw", "n=1", "--kw", "who=me=you"), [{"to": ["a"]}], {"n": 1, "who": "me=you"}),
        (("--", "-5", "--url"), [-5, "--url"], {}),
    ],
)
def test_arguments_are_json_and_what_is_not_json_is_text(
    duly: Duly, sqlite_url: str, words: tuple[str, ...], args: list[Any], kwargs: dict[str, Any]
) -> None:
    assert duly("push", "send", "--id", "x", "--url", sqlite_url, *words).code == 0
    found = duly("jobs", "show", "x", "--url", sqlite_url, "--json").json
    assert (found["args"], found["kwargs"]) == (args, kwargs)


def test_every_option_travels(duly: Duly, sqlite_url: str) -> None:
    said = duly(
        "push", "send", "--id", "x", "--url", sqlite_url, "--queue", "mail", "--priority", "3", "--delay", "60",
        "--retry", '{"limit": 7, "delay": 2}', "--timeout", "5", "--lease", "4", "--delivery", "at_least_once",
        "--expires", "90", "--keep-result", "true", "--max-crashes", "9", "--unique", "30", "--retry-timeout", "8",
    )  # fmt: skip
    assert said.code == 0
    found, options = record(sqlite_url, "x", "mail"), envelope(sqlite_url, "x", "mail").options
    assert options is not None
    assert options.retry is not None
    assert (found.priority, found.at - found.enqueued_at - 60_000) in ((3, 0), (3, 1))  # rounded up, never cut short
    assert (options.retry.limit, options.retry.delay, options.timeout, options.lease) == (7, 2, 5, 4)
    assert (options.delivery, options.expires, options.keep_result) == ("at_least_once", 90, 3_600)
    assert (options.max_crashes, options.retry_timeout) == (9, 8)


@pytest.mark.parametrize(
    ("moment", "at"),
    [
        ("2100-03-01T09:00+01:00", 4_107_571_200_000), ("2100-03-01T08:00Z", 4_107_571_200_000),
        ("4107571200.5", 4_107_571_200_500),
    ],
)  # fmt: skip
def test_at_is_a_moment_with_its_zone_or_epoch_seconds(duly: Duly, sqlite_url: str, moment: str, at: int) -> None:
    assert duly("push", "send", "--id", "x", "--at", moment, "--url", sqlite_url).code == 0
    assert record(sqlite_url, "x").at == at


def test_unique_and_replace_say_what_they_found(duly: Duly, url: str) -> None:
    first = duly("push", "send", "1", "--unique", "true", "--url", url).out.strip()
    said = duly("push", "send", "1", "--unique", "true", "--url", url)
    assert (said.code, said.out.strip()) == (0, first)
    assert "nothing was written" in said.err
    assert duly("push", "send", "2", "--unique", "true", "--url", url).out.strip() != first
    key = duly("push", "send", "3", "--unique", "nightly", "--url", url).out
    assert duly("push", "send", "4", "--unique", '{"key": "nightly", "until": "start"}', "--url", url).out == key
    assert duly("push", "send", "1", "--id", "x", "--url", url).code == 0
    assert duly("push", "send", "2", "--id", "x", "--replace", "--url", url).code == 0
    assert duly("jobs", "show", "x", "--url", url, "--json").json["args"] == [2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("send", "-5"), "-5 looks like an option; put -- before the arguments"),
        (("send", "--delay", "-1"), "delay=-1.0"),
        (("send", "--priority", "9"), "priority=9"),
        (("send", "--at", "2026-03-01T09:00"), "has no zone"),
        (("send", "--at", "noon"), "is no moment"),
        (("send", "--at", "1e400"), "at=inf"),
        (("send", "--kw", "n"), "is not NAME=VALUE"),
        (("send", "--retry", '{"limt": 3}'), "Retry has no 'limt'; did you mean 'limit'?"),
        (("send", "--retry", "often"), "retry='often'"),
        (("send", "--delay", "1", "--at", "4107571200"), "both given"),
        (("send", "--replace"), "replace=True needs id="),
        (("send", "[" * 10 + "x" * 1_000_001), "bytes"),
        (("send", "--wait", "soon"), "'soon' is not a valid float"),
    ],
)
def test_what_is_asked_wrongly_is_one_line_and_pushes_nothing(
    duly: Duly, sqlite_url: str, words: tuple[str, ...], sentence: str
) -> None:
    said = duly("push", *words, "--url", sqlite_url)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert sentence in said.err
    duly("push", "other", "--url", sqlite_url)
    assert [job["task"] for job in duly("jobs", "--url", sqlite_url, "--json").json] == ["other"]


def test_with_a_scheduler_the_task_is_known_and_its_arguments_are_checked(duly: Duly, target: str) -> None:
    assert duly("push", "-s", target, "send", "1", "--json").json["queue"] == "mail"
    said = duly("push", "-s", target, "sned", "1")
    assert (said.code, "did you mean 'send'?" in said.err) == (2, True)
    said = duly("push", "-s", target, "send", "1", "--kw", "urgnet=true")
    assert (said.code, said.err.count("\n")) == (2, 1)


# --- waiting ---------------------------------------------------------------------------------------------------------


def test_wait_prints_the_result(duly: Duly, sqlite_url: str, target: str) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "duly", "worker", target, "--queues", "mail"], stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    try:
        said = duly("push", "-s", target, "send", "7", "--wait=30")
        assert (said.code, said.out) == (0, '"sent 7"\n'), said.err
        said = duly("push", "-s", target, "send", "8", "--json", "--wait")
        assert said.json["result"] == "sent 8"
    finally:
        worker.terminate()
        worker.communicate(timeout=20)


def test_wait_gives_up_after_its_time_and_the_job_goes_on(duly: Duly, sqlite_url: str) -> None:
    said = duly("push", "send", "--id", "x", "--wait", "0.05", "--url", sqlite_url)
    assert said.code == 1
    assert "did not end within 0.05 s; it goes on" in said.err
    options = envelope(sqlite_url, "x").options
    assert options is not None
    assert options.keep_result
    run_all(_answering(sqlite_url))
    assert duly("jobs", "result", "x", "--url", sqlite_url).out == "1\n"


def _answering(url: str) -> Scheduler:
    scheduler = Scheduler(url)
    scheduler.bind("send", lambda: 1)
    return scheduler


def test_an_interrupt_while_it_waits_is_130(sqlite_url: str) -> None:
    words = ["push", "send", "--id", "x", "--url", sqlite_url, "--wait"]
    process = subprocess.Popen(
        [sys.executable, "-m", "duly", *words], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )

    async def is_pushed() -> bool:
        async with Scheduler(sqlite_url) as scheduler:
            return await scheduler.jobs.get("x") is not None

    try:
        asyncio.run(eventually(is_pushed, 30))
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Traceback" not in err


# --- many ------------------------------------------------------------------------------------------------------------


def test_many_lines_are_many_jobs(duly: Duly, url: str) -> None:
    lines = "\n".join(["[1]", '{"n": 2}', "", "[3, 4]", *(f"[{i}]" for i in range(5, 2_500))])
    said = duly("push", "send", "--many", "-", "--queue", "mail", "--url", url, stdin=lines)
    assert said.out == "pushed 2,498 jobs of task 'send' to queue 'mail'\n", said.err
    found = duly("jobs", "--limit", "3000", "--url", url, "--json").json
    assert len(found) == 2_498
    assert (found[1]["args"], found[1]["kwargs"]) == ([], {"n": 2})
    assert found[2]["args"] == [3, 4]


def test_many_from_a_file_tells_its_ids_to_programs(duly: Duly, sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("[1]\n[2]\n")
    said = duly("push", "send", "--many", str(tmp_path / "lines"), "--url", sqlite_url, "--json").json
    assert said["pushed"] == 2
    assert [job["id"] for job in duly("jobs", "--url", sqlite_url, "--json").json] == said["ids"]


@pytest.mark.parametrize(("line", "sentence"), [("{", "line 2 is not JSON"), ("7", "line 2 is neither a list")])
def test_a_line_that_cannot_be_read_is_named(duly: Duly, sqlite_url: str, line: str, sentence: str) -> None:
    said = duly("push", "send", "--many", "-", "--url", sqlite_url, stdin=f"[1]\n{line}\n")
    assert said.code == 2
    assert sentence in said.err
    duly("push", "other", "--url", sqlite_url)
    assert len(duly("jobs", "--url", sqlite_url, "--json").json) == 1


@pytest.mark.parametrize("words", [("1",), ("--kw", "n=1"), ("--id", "x"), ("--wait=1",)])
def test_many_goes_with_nothing_that_is_for_one(duly: Duly, sqlite_url: str, words: tuple[str, ...]) -> None:
    said = duly("push", "send", *words, "--many", "-", "--url", sqlite_url, stdin="[1]\n")
    assert (said.code, "--many takes its arguments from the lines" in said.err) == (2, True)
