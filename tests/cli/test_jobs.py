"""`duly jobs`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from duly import Scheduler
from tests.cli.conftest import Duly, make_dead, run_all, using
from tests.schedulers import running
from tests.waiting import eventually


def push(url: str, task: str, *args: Any, **options: Any) -> str:
    return using(url, lambda s: s.push(task, args=args, remote=True, **options)).id


def test_jobs_of_all_states_and_queues_are_listed(duly: Duly, url: str) -> None:
    make_dead(url, "broken", error="no [red]paper[/red]\nleft")
    push(url, "send", id="later", delay=200, queue="mail")
    push(url, "send", id="now", queue="mail")
    lines = duly("jobs", "--url", url).lines
    assert [line.split()[0] for line in lines] == ["id", "now", "later", "broken"]
    assert "due, waits" in lines[1]
    assert "due in 3 m" in lines[2]
    assert "died" in lines[3]
    assert "no [red]paper[/red]↵left" in lines[3]


def test_a_job_that_runs_is_listed_with_its_node_and_can_be_asked_to_end(duly: Duly, url: str) -> None:
    scheduler = Scheduler(url)
    begun, may_end = asyncio.Event(), asyncio.Event()

    @scheduler.task
    async def hold() -> None:
        begun.set()
        await may_end.wait()

    async def run() -> None:
        async with running(scheduler):
            await hold.options(id="held").push()
            await begun.wait()
            listed = await asyncio.to_thread(lambda: duly("jobs", "list", "--state", "leased", "--url", url))
            assert "held  leased  hold  default  lease ends in" in listed.lines[1]
            assert scheduler._node is not None
            assert scheduler._node.id[:8] in listed.lines[1]
            shown = await asyncio.to_thread(lambda: duly("jobs", "show", "held", "--url", url))
            assert scheduler._node.id in shown.out
            asked = await asyncio.to_thread(lambda: duly("jobs", "cancel", "held", "--url", url))
            assert "its node was asked to cancel it" in asked.lines[1]

            async def is_gone() -> bool:
                return not (await scheduler.queues.sizes()).leased

            await eventually(is_gone)

    asyncio.run(run())


def test_the_list_can_be_narrowed(duly: Duly, url: str) -> None:
    make_dead(url, "broken")
    for i in range(5):
        push(url, "send" if i % 2 else "print", id=f"j{i}", queue="mail")

    def ids(*words: str) -> list[str]:
        return [job["id"] for job in duly("jobs", "list", *words, "--url", url, "--json").json]

    assert ids("--state", "dead") == ["broken"]
    assert ids("--state", "pending", "--task", "send") == ["j1", "j3"]
    assert ids("--queue", "default") == ["broken"]
    assert ids("--limit", "3") == ["j0", "j1", "j2"]
    assert "there are more: --limit 30 shows them" in duly("jobs", "--limit", "3", "--url", url).out
    assert "there are more" not in duly("jobs", "--limit", "6", "--url", url).out
    assert duly("jobs", "--state", "leased", "--url", url).out == "no jobs are leased\n"


def test_a_task_is_looked_for_on_every_page(duly: Duly, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duly.cli.jobs.PAGE", 2)
    for i in range(7):
        push(sqlite_url, "send" if i in (2, 6) else "print", id=f"j{i}")
    assert [j["id"] for j in duly("jobs", "--task", "send", "--url", sqlite_url, "--json").json] == ["j2", "j6"]


def test_show_has_everything(duly: Duly, url: str) -> None:
    make_dead(url, "broken")
    lines = dict(line.split("  ", 1) for line in duly("jobs", "show", "broken", "--url", url).lines if "  " in line)
    assert {"id", "state", "queue", "task", "pushed", "died", "attempts", "reason", "trace"} <= lines.keys()
    assert lines["state"].strip() == "dead"
    assert "ago" in lines["died"] or "now" in lines["died"]
    push(url, "send", {"to": "a"}, id="x", kwargs={"n": 1})
    said = duly("jobs", "show", "x", "--url", url, "--json").json
    assert (said["args"], said["kwargs"], said["state"], said["queue"]) == (
        [{"to": "a"}],
        {"n": 1},
        "pending",
        "default",
    )
    assert isinstance(said["at"], float)
    assert '"to": "a"' in duly("jobs", "show", "x", "--url", url).out


def test_show_cuts_enormous_arguments_and_json_does_not(duly: Duly, sqlite_url: str) -> None:
    push(sqlite_url, "send", "x" * 65_536, id="big")
    assert len(duly("jobs", "show", "big", "--url", sqlite_url).out) < 6_000
    assert duly("jobs", "show", "big", "--url", sqlite_url, "--json").json["args"] == ["x" * 65_536]


@pytest.mark.parametrize("verb", ["show", "why", "result"])
def test_a_job_that_is_not_there_fails(duly: Duly, url: str, verb: str) -> None:
    push(url, "send")
    said = duly("jobs", verb, "nosuch", "--url", url)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "'nosuch' in any queue" in said.err


@pytest.mark.parametrize("verb", ["show", "why", "cancel"])
def test_an_id_of_several_queues_wants_a_queue(duly: Duly, url: str, verb: str) -> None:
    push(url, "send", id="twin", queue="a")
    push(url, "send", id="twin", queue="b")
    said = duly("jobs", verb, "twin", "--url", url)
    assert said.code == 1
    assert "in several queues (a, b); say which with --queue" in said.err
    assert duly("jobs", verb, "twin", "--queue", "b", "--url", url).code == 0


def test_cancel_says_what_became_of_each(duly: Duly, url: str) -> None:
    push(url, "send", id="one", queue="a")
    push(url, "send", id="two", queue="b")
    make_dead(url, "broken")
    assert duly("jobs", "cancel", "one", "--url", url).code == 0
    said = duly("jobs", "cancel", "one", "two", "broken", "nosuch", "--url", url)
    assert said.code == 1
    told = {line.split()[0]: line for line in said.out.splitlines()}
    assert "it has ended already" in told["one"]
    assert "cancelled" in told["two"]
    assert "it is dead already" in told["broken"]
    assert "there is no such job" in told["nosuch"]
    said = duly("jobs", "cancel", "nosuch", "--url", url, "--json")
    assert (said.code, '"answer": "unknown"' in said.out) == (1, True)


def test_retry_runs_dead_jobs_again(duly: Duly, url: str) -> None:
    make_dead(url, "broken", "other")
    assert "it will run again" in duly("jobs", "retry", "broken", "--url", url).out
    assert duly("jobs", "show", "broken", "--url", url, "--json").json["state"] == "pending"
    said = duly("jobs", "retry", "broken", "--url", url)
    assert said.code == 1
    assert "it is not dead" in said.out


@pytest.mark.parametrize("step", [2, 200])
def test_retry_of_all_goes_through_every_queue(
    duly: Duly, url: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duly.cli.jobs.STEP", step)
    make_dead(url, *(f"a{i}" for i in range(5)), queue="a")
    make_dead(url, "b0", queue="b")
    assert duly("jobs", "retry", "--all-dead", "--queue", "b", "--url", url).out == "1 dead job will run again\n"
    assert duly("jobs", "retry", "--all-dead", "--url", url, "--json").json == {"retried": 5}
    assert duly("jobs", "--state", "dead", "--url", url, "--json").json == []


def test_delete_removes_dead_jobs_and_leaves_others_alone(duly: Duly, url: str) -> None:
    make_dead(url, "broken")
    push(url, "send", id="waits", delay=60)
    said = duly("jobs", "delete", "broken", "waits", "nobody", "--url", url)
    assert said.code == 1
    words = [" ".join(line.split()) for line in said.out.splitlines()[1:]]
    assert words == ["broken default deleted", "waits default it is not dead: cancel it", "nobody there is no such job"]
    assert using(url, lambda s: s.jobs.get("broken")) is None
    assert using(url, lambda s: s.jobs.get("waits")).state == "pending"


def test_delete_of_all_goes_through_every_queue(duly: Duly, url: str) -> None:
    for queue in ("a", "b"):
        for n in range(3):
            make_dead(url, f"{queue}{n}", queue=queue)
    push(url, "send", id="waits", queue="a", delay=60)
    assert duly("jobs", "delete", "--all-dead", "--queue", "b", "--url", url).out == "3 dead jobs deleted\n"
    assert duly("jobs", "delete", "--all-dead", "--url", url, "--json").json == {"deleted": 3}
    assert duly("jobs", "--state", "dead", "--url", url, "--json").json == []
    assert using(url, lambda s: s.queues.sizes("a")).pending == 1
    assert duly("jobs", "delete", "--url", url).code == 2


@pytest.mark.parametrize("words", [(), ("x", "--all-dead")])
def test_retry_wants_ids_or_all(duly: Duly, sqlite_url: str, words: tuple[str, ...]) -> None:
    push(sqlite_url, "send")
    assert duly("jobs", "retry", *words, "--url", sqlite_url).code == 2


def test_why_tells_every_reason_the_most_decisive_first(duly: Duly, url: str) -> None:
    push(url, "send", id="x", delay=100)
    using(url, lambda s: s.queues.pause())
    lines = duly("jobs", "why", "x", "--url", url).lines
    assert lines[0].startswith("x  it is due in 1 m ")
    assert lines[1].startswith("   queue 'default' is paused, since ")
    assert lines[2:] == ["   no live node serves queue 'default'"]
    said = duly("jobs", "why", "x", "--url", url, "--json").json
    assert said["queue"] == "default"
    assert "it is due in" in said["why"]
    assert [reason["code"] for reason in said["reasons"]] == ["not_due", "paused", "no_node"]
    assert [reason["text"] for reason in said["reasons"]] == said["why"].split("; ")
    assert isinstance(said["reasons"][0]["until"], float)
    assert "node" not in said["reasons"][0]  # what is not known is left out


def test_why_of_a_unique_key_tells_who_holds_it(duly: Duly, url: str) -> None:
    push(url, "send", id="x", unique="user:7", delay=100, queue="mail")
    lines = duly("jobs", "why", "--unique", "user:7", "--url", url).lines
    assert lines[0] == "x  unique key 'user:7' of queue 'mail' is taken by job 'x', which waits"
    assert "it is due in" in lines[1]
    said = duly("jobs", "why", "--unique", "user:7", "--url", url, "--json").json
    assert (said["id"], said["queue"], said["reasons"][0]["code"]) == ("x", "mail", "key_taken")
    free = duly("jobs", "why", "--unique", "user:8", "--url", url)
    assert (free.code, free.err.count("\n")) == (1, 1)
    assert "no job that holds the unique key 'user:8' in any queue" in free.err


@pytest.mark.parametrize("words", [(), ("x", "--unique", "user:7")])
def test_why_wants_an_id_or_a_key(duly: Duly, sqlite_url: str, words: tuple[str, ...]) -> None:
    push(sqlite_url, "send", id="x")
    said = duly("jobs", "why", *words, "--url", sqlite_url)
    assert (said.code, said.err) == (2, "duly: give the id of a job, or --unique KEY (one of the two)\n")


def test_a_result_is_printed_as_json(duly: Duly, url: str) -> None:
    scheduler = Scheduler(url)

    @scheduler.task(keep_result=True, name="double", retry=0)
    def double(n: int) -> dict[str, int]:
        if n < 0:
            raise ValueError("below zero")
        return {"n": 2 * n}

    push(url, "double", 21, id="good", keep_result=True)
    push(url, "double", -1, id="bad", keep_result=True)
    said = duly("jobs", "result", "good", "--url", url)
    assert (said.code, said.err) == (1, "duly: job 'good' has not ended, it is pending; --wait SECONDS waits for it\n")
    assert duly("jobs", "result", "good", "--wait", "0.05", "--url", url).code == 1
    run_all(scheduler)
    assert duly("jobs", "result", "good", "--url", url).out == '{\n  "n": 42\n}\n'
    assert duly("jobs", "result", "good", "--url", url, "--json").json["result"] == {"n": 42}
    said = duly("jobs", "result", "bad", "--url", url)
    assert said.code == 1
    assert "below zero" in said.err


def test_an_unknown_subcommand_is_answered_with_the_nearest(duly: Duly) -> None:
    said = duly("jobs", "retyr")
    assert (said.code, said.err) == (2, "duly: there is no command 'retyr'; did you mean 'retry'?\n")
