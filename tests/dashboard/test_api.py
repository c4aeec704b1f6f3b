"""The HTTP API over real stores: what it tells, what it refuses, and what hostile data does to it (nothing)."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
import pytest

from duly import Retry, Scheduler, every
from duly.core.job import NewJob
from duly.dashboard import dashboard
from duly.dashboard.api.types import plain
from duly.errors import StoreUnavailable
from tests.dashboard.asking import WRITES, access, asking, client, running_app
from tests.schedulers import running, shared
from tests.waiting import eventually

HOSTILE = "a/b/../c?d#e%2F&é\u202e'\"<script>"
QUEUE = {"queue": "default"}


@pytest.fixture
def scheduler(store_url: str) -> Scheduler:
    return Scheduler(shared(store_url), poll=0.1, lease=2)


async def told(asks: httpx2.AsyncClient, path: str, **asked: Any) -> Any:
    response = await asks.get(f"/api/{path}", params=asked)
    assert response.status_code == 200, response.text
    return response.json()


async def refused(asks: httpx2.AsyncClient, path: str, **asked: Any) -> tuple[int, str]:
    response = await asks.get(f"/api/{path}", params=asked)
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem = response.json()
    assert problem["status"] == response.status_code
    return response.status_code, problem["detail"]


async def test_jobs_are_listed_by_state_and_told_one_by_one(scheduler: Scheduler) -> None:
    async with asking(scheduler) as asks:
        await scheduler.push("mail", {"to": "a@b", "password": "hunter2"}, id=HOSTILE, remote=True)
        await scheduler.push("other", 1, delay=60, remote=True)
        listed = await told(asks, "jobs", state="pending")
        assert {job["id"] for job in listed["jobs"]} > {HOSTILE}
        assert [job["task"] for job in (await told(asks, "jobs", task="mail"))["jobs"]] == ["mail"]
        assert (await told(asks, "jobs", state="dead"))["jobs"] == []
        detail = await told(asks, "jobs/one", queue="default", id=HOSTILE)
        assert detail["job"]["args"] == [{"to": "a@b", "password": "•••"}]
        assert detail["reasons"][0]["code"] == "no_node"
        assert detail["why"] == (await told(asks, "jobs/why", queue="default", id=HOSTILE))["why"]
        assert [job["queue"] for job in await told(asks, "jobs/find", id=HOSTILE)] == ["default"]
        overview = await told(asks, "overview")
        assert (overview["pending"], overview["queues"][0]["queue"]) == (2, "default")


async def test_a_walk_in_small_pages_sees_every_job_once(scheduler: Scheduler) -> None:
    async with asking(scheduler) as asks:
        for queue in ("a", "b"):
            for n in range(7):
                await scheduler.push("t", id=f"{queue}{n}", queue=queue, remote=True)
        seen, cursor = [], ""
        while True:
            page = await told(asks, "jobs", limit=3, cursor=cursor)
            seen += [job["id"] for job in page["jobs"]]
            cursor = page["cursor"]
            if not cursor:
                break
        assert sorted(seen) == [f"{queue}{n}" for queue in "ab" for n in range(7)]


async def test_a_run_is_told_with_its_result_and_counted(scheduler: Scheduler) -> None:
    @scheduler.task(keep_result=True)
    def add(a: int, b: int) -> dict[str, Any]:
        return {"sum": a + b, "token": "hunter2"}

    @scheduler.task(retry=Retry(limit=0))
    def fail() -> None:
        raise ValueError("<b>no</b>\nsecond line")

    async with asking(scheduler) as asks, running(scheduler):
        job = await add.options(id="sum").push(1, 2)
        await job.result(timeout=10)
        broken = await fail.push()
        await eventually(lambda: _is_dead(scheduler, broken.id))
        detail = await told(asks, "jobs/one", queue="default", id="sum")
        assert detail["result"] == {
            "ending": "returned",
            "value": {"sum": 3, "token": "•••"},
            "reason": "",
            "error": "",
        }
        assert next(happening["verb"] for happening in detail["happenings"]) == "enqueue"
        (group,) = (await told(asks, "dead"))["groups"]
        assert (group["task"], group["count"], group["ids"]) == (broken_name(fail), 1, [broken.id])
        assert "<b>no</b>" in group["why"]
        (node,) = await told(asks, "nodes")
        assert (await told(asks, "ring"))["queues"]["default"] == {node["node"]["id"]: 1.0}
        assert next(one["verb"] for one in await told(asks, "history", queue="default")) == "enqueue"
        measures = await told(asks, "measures", hours=0.05)
        assert len(measures["points"]) == 3


def broken_name(task: Any) -> str:
    name: str = task.name
    return name


async def _is_dead(scheduler: Scheduler, id: str) -> bool:
    job = await scheduler.jobs.get(id)
    return job is not None and job.state == "dead"


async def test_what_was_counted_is_told_over_time_and_by_task(scheduler: Scheduler) -> None:
    async with asking(scheduler) as asks:
        store: Any = scheduler.connected_store
        minute = int((await store.registry()).now // 60_000)
        counts = {
            "mail\nsend": {"started": 9, "succeeded": 8, "failed": 1, "r:40": 9},
            "other\nsend": {"started": 1, "dead": 1},
        }
        await store.measure(minute, counts, 60)
        await scheduler.push("t", queue="mail", remote=True)
        found = await told(asks, "measures", hours=1)
        assert found["is_kept"]
        assert (len(found["points"]), found["points"][-1]["started"]) in ((60, 10), (60, 0))
        assert (found["sum"]["started"], found["sum"]["ended"], found["sum"]["dead"]) == (10, 10, 1)
        assert [(one["queue"], one["task"], one["sum"]["started"]) for one in found["tasks"]] == [
            ("mail", "send", 9), ("other", "send", 1),
        ]  # fmt: skip
        assert found["sum"]["run"]["p99"] == found["sum"]["run"]["p50"] > 0
        assert found["sum"]["late"] is None
        assert (await told(asks, "measures", queue="mail"))["sum"]["started"] == 9


async def test_locks_are_told_with_who_holds_them(scheduler: Scheduler) -> None:
    async with asking(scheduler) as asks, scheduler.lock("report", ttl=60) as lock:
        seen, cursor = [], ""
        while True:
            page = await told(asks, "locks", cursor=cursor)
            seen += page["locks"]
            if not (cursor := page["cursor"]):
                break
        (found,) = seen
        assert (found["name"], found["held"], found["holders"][0]["fence"]) == ("report", 1, lock.fence)
        assert found["holders"][0]["until"] > page["now"]


async def test_schedules_are_told_with_their_moments(scheduler: Scheduler) -> None:
    scheduler.bind("t", lambda **_given: None)
    async with asking(scheduler) as asks:
        await scheduler.schedules.put("minutely", every(minutes=1), "t", kwargs={"api_key": "hunter2"})
        (listed,) = (await told(asks, "schedules"))["schedules"]
        assert (listed["id"], listed["words"], listed["trigger"]["kind"]) == ("minutely", "every minute", "every")
        detail = await told(asks, "schedules/one", queue="default", id="minutely", coming=3)
        assert [tick["state"] for tick in detail["ticks"]] == ["coming"] * 3
        assert detail["kwargs"] == {"api_key": "•••"}
        (lane,) = (await told(asks, "schedules/ticks", queue="default", coming=2))["lanes"]
        assert (lane["schedule"]["id"], len(lane["ticks"])) == ("minutely", 2)
        preview = await told(asks, "schedules/preview", cron="0 9 * * mon", timezone="Europe/Paris", n=2)
        assert preview["moments"][1] - preview["moments"][0] == pytest.approx(7 * 86_400, abs=3600)
        assert await told(asks, "findings")


async def test_what_is_not_there_is_a_404_with_a_sentence(scheduler: Scheduler) -> None:
    async with asking(scheduler) as asks:
        await scheduler.push("t", remote=True)
        assert await refused(asks, "jobs/one", queue="default", id="x") == (404, await scheduler.jobs.why("x"))
        assert (await refused(asks, "schedules/one", queue="default", id="x"))[0] == 404
        for path in ("jobs", "schedules", "measures", "dead"):
            code, detail = await refused(asks, path, queue="nobody's")
            assert (code, 'there is no queue "nobody\'s"' in detail) == (404, True)
        assert (await refused(asks, "nowhere"))[0] == 404


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("jobs", {"state": "ended"}, "state"),
    ("jobs", {"limit": "0"}, "limit"),
    ("jobs", {"limit": "201"}, "limit"),
    ("jobs", {"limit": "many"}, "limit"),
    ("jobs", {"stat": "dead"}, "stat"),
    ("jobs", {"cursor": "default\ngarbage"}, "cursor"),
    ("jobs", {"cursor": "default\n0 \0"}, "cursor"),
    ("jobs/one", {"queue": "default"}, "id"),
    ("measures", {"hours": "nan"}, "hours"),
    ("measures", {"hours": "-1"}, "hours"),
    ("schedules/preview", {}, "give one of cron"),
    ("schedules/preview", {"cron": "* * *"}, "* * *"),
    ("schedules/preview", {"cron": "* * * * *", "every": "5"}, "cron and every"),
    ("schedules/preview", {"cron": "* * * * *", "timezone": "Mars/Crater"}, "Mars/Crater"),
    ("schedules/preview", {"cron": "* * * * *", "timezone": "../../etc/passwd"}, "etc/passwd"),
    ("schedules/preview", {"at": "2026-03-01T09:00"}, "epoch seconds"),
    ("schedules/preview", {"at": "1e300"}, "at"),
]


@pytest.mark.parametrize(("path", "asked", "named"), BAD)
async def test_bad_input_is_one_sentence_that_names_it(path: str, asked: dict[str, Any], named: str) -> None:
    scheduler = Scheduler(shared("memory://"))
    async with asking(scheduler) as asks:
        await scheduler.push("t", remote=True)
        code, detail = await refused(asks, path, **asked)
        assert (code, named in detail, "\n" in detail) == (422, True, False), detail


async def test_a_parameter_given_twice_is_refused() -> None:
    async with asking(Scheduler(shared("memory://"))) as asks:
        response = await asks.get("/api/jobs?state=dead&state=pending")
        assert (response.status_code, "twice" in response.json()["detail"]) == (422, True)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"queue": "\\ud800"}', b'{"queue": "a' + b"[" * 10_000])
async def test_a_body_that_is_no_json_is_a_400(body: bytes) -> None:
    async with asking(Scheduler(shared("memory://"))) as asks:
        response = await asks.post("/api/queues/pause", content=body)
        assert response.status_code == 400
        assert response.json()["detail"]


@pytest.mark.parametrize(
    "body", ['"x"', "[]", "{}", '{"queue": 1}', '{"queue": ""}', '{"queue": "x", "more": 1}', "[" * 900 + "]" * 900]
)
async def test_a_body_of_another_shape_is_a_422(body: str) -> None:
    async with asking(Scheduler(shared("memory://"))) as asks:
        response = await asks.post("/api/queues/pause", content=body.encode())
        assert response.status_code == 422, response.text


async def test_methods_that_a_place_does_not_take_are_a_405() -> None:
    async with asking(Scheduler(shared("memory://"))) as asks:
        assert (await asks.post("/api/overview")).status_code == 405
        assert (await asks.get("/api/queues/pause")).json()["detail"] == "this place does not take that method"


async def test_hostile_data_in_the_store_is_told_as_far_as_it_can_be_read(scheduler: Scheduler) -> None:
    bodies = {
        "no envelope": b"\xc1\xff\x00",
        "bad utf-8": msgspec.msgpack.encode("t").replace(b"t", b"\xff"),
        "deep": b"\x91" * 5_000,
        "empty": b"",
        "other": msgspec.msgpack.encode({"a": 1}),
    }
    async with asking(scheduler) as asks:
        shard = scheduler.connected_store.shard("default")
        await scheduler.push("t", "\x00\x1b[31m\u202e</script>" + "x" * 990_000, id="long", remote=True)
        await scheduler.push("<img src=x onerror=alert(1)>", id="markup", remote=True)
        await scheduler.push("t", {1: 2, b"\xff": b"\xff", None: float("nan")}, id="keys", remote=True)
        await shard.enqueue("client", 1, [NewJob(id, body) for id, body in bodies.items()])
        jobs = (await told(asks, "jobs", limit=200))["jobs"]
        assert {job["id"] for job in jobs} == {"long", "markup", "keys", *bodies}
        for id in ("long", "markup", "keys", *bodies):
            detail = await told(asks, "jobs/one", queue="default", id=id)
            assert len(str(detail["job"]["args"])) < 10_000
            assert (detail["job"]["task"] is None) == (id in bodies)
        assert (await told(asks, "jobs", text="990,0"))["jobs"]
        assert "\x1b" not in (await asks.get("/api/jobs")).text


async def test_a_store_that_does_not_answer_is_a_503_and_asked_again() -> None:
    scheduler = Scheduler("redis://127.0.0.1:1/0", start_timeout=0.1)
    app = dashboard(scheduler, access=access())
    async with running_app(app), client(app, headers=WRITES) as asks:
        response = await asks.get("/api/overview")
        assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        assert (await asks.post("/api/queues/pause", json=QUEUE)).status_code == 503
        assert (await asks.get("/health/ready")).status_code == 503
        assert (await asks.get("/health/live")).status_code == 200
        assert (await asks.get("/")).status_code == 503


async def test_a_store_that_goes_away_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = Scheduler(shared("memory://"))
    async with asking(scheduler) as asks:

        async def away() -> Any:
            raise StoreUnavailable("gone")

        monkeypatch.setattr(scheduler.connected_store, "registry", away)
        response = await asks.get("/api/overview")
        assert (response.status_code, response.json()["detail"]) == (503, "gone")


async def test_metrics_are_those_of_the_cluster(scheduler: Scheduler) -> None:
    async with asking(scheduler) as asks:
        await scheduler.push("t", remote=True)
        response = await asks.get("/metrics")
        assert response.status_code == 200, response.text
        assert 'queue="default"' in response.text
        assert response.headers["content-type"].startswith("text/plain; version=")


def test_a_trigger_is_told_by_the_names_of_its_fields() -> None:
    found = plain(every(minutes=1) | every(hours=1))
    assert (found["kind"], [part["interval"] for part in found["triggers"]]) == ("anyof", [60_000, 3_600_000])
