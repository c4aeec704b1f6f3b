"""`duly schedules`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from duly import Scheduler, cron, every
from duly.stores.base import Firing
from tests.cli.conftest import Duly, using
from tests.waiting import eventually

NINE = cron("0 9 * * MON-FRI", timezone="Europe/Paris")


def put(url: str, id: str, trigger: Any = NINE, **options: Any) -> None:
    using(url, lambda s: s.schedules.put(id, trigger, "report", remote=True, **options))


def register(url: str, *queues: str) -> None:
    """Queues become known by a push or a node; a put alone does not do it."""

    async def beat(scheduler: Scheduler) -> None:
        await scheduler.connected_store.beat("", b"", 1, queues)

    using(url, beat)


@pytest.fixture
def two(url: str) -> str:
    register(url, "default", "mail")
    put(url, "nightly")
    put(url, "user:[red]1[/red]", every(seconds=90), queue="mail")
    return url


def test_schedules_of_all_queues_are_listed_in_words(duly: Duly, two: str) -> None:
    lines = duly("schedules", "--url", two).lines
    assert lines[1].startswith("nightly")
    assert "at 09:00 on Monday through Friday, Europe/Paris" in lines[1]
    assert lines[2].startswith("user:[red]1[/red]  every 90 seconds")
    assert "none planned" in lines[2]  # no node has looked at it yet
    assert "mail" in lines[2]


def test_programs_get_the_fields_of_the_trigger_by_name(duly: Duly, two: str) -> None:
    first, second = duly("schedules", "list", "--url", two, "--json").json
    assert first["trigger"] == {
        "kind": "cron", "expression": "0 9 * * MON-FRI", "timezone": "Europe/Paris", "dst": "vixie",
    }  # fmt: skip
    assert (first["id"], first["queue"], first["task"], first["paused"], first["fired"]) == (
        "nightly", "default", "report", None, 0,
    )  # fmt: skip
    assert first["words"] == "at 09:00 on Monday through Friday, Europe/Paris"
    assert second["trigger"]["kind"] == "every"
    assert second["trigger"]["interval"] == 90_000


def test_the_list_can_be_narrowed(duly: Duly, two: str) -> None:
    def ids(*words: str) -> list[str]:
        return [view["id"] for view in duly("schedules", *words, "--url", two, "--json").json]

    assert ids("--queue", "mail") == ids("--prefix", "user:") == ["user:[red]1[/red]"]
    assert ids("--app", "") == ids()
    assert ids("--app", "shop") == []
    assert duly("schedules", "--prefix", "x", "--url", two).out == "no schedules\n"


def test_show_has_everything(duly: Duly, two: str) -> None:
    duly("schedules", "pause", "nightly", "--note", "month end", "--url", two)
    lines = dict(line.split(None, 1) for line in duly("schedules", "show", "nightly", "--url", two).lines)
    assert lines["trigger"] == "0 9 * * MON-FRI"
    assert lines["zone"] == "Europe/Paris"
    assert lines["paused"] == "month end"
    assert duly("schedules", "show", "nightly", "--url", two, "--json").json["trigger"]["timezone"] == "Europe/Paris"


def test_preview_shows_the_next_moments_in_their_zone(duly: Duly, two: str) -> None:
    lines = duly("schedules", "preview", "nightly", "-n", "3", "--url", two).lines
    assert len(lines) == 4
    assert all(" 09:00:00+0" in line for line in lines[1:])
    found = duly("schedules", "preview", "nightly", "-n", "2", "--url", two, "--json").json
    assert [set(moment) for moment in found] == [{"at", "local"}] * 2
    assert found[0]["at"] < found[1]["at"]


def test_pause_and_resume(duly: Duly, two: str) -> None:
    said = duly("schedules", "pause", "nightly", "--note", "month\nend", "--url", two)
    assert said.lines == ["nightly  paused"]
    line = duly("schedules", "--url", two).lines[1]
    assert "paused" in line
    assert "month↵end" in line
    assert duly("schedules", "resume", "nightly", "--url", two, "--json").json["answer"] == "resumed"
    assert "paused" not in duly("schedules", "--url", two).lines[1]


def test_a_backfill_pushes_one_run_for_each_moment(duly: Duly, two: str) -> None:
    # nightly is 9 o'clock in Paris from Monday to Friday; the first is a Friday
    span = ("--from", "2026-03-06T00:00+01:00", "--until", "2026-03-11T00:00+01:00")
    said = duly("schedules", "backfill", "nightly", "--url", two, *span)
    assert (said.code, said.lines) == (0, ["nightly  3 moments pushed"])
    again = duly("schedules", "backfill", "nightly", "--url", two, *span, "--json")
    assert again.json == {"id": "nightly", "queue": "default", "moments": 3}
    jobs = duly("jobs", "list", "--url", two, "--json").json
    assert len({job["id"] for job in jobs if job["id"].startswith("nightly#")}) == len(jobs) == 3
    assert duly("schedules", "backfill", "nightly", "--url", two).code == 2


def test_trigger_prints_the_id_of_the_job(duly: Duly, two: str) -> None:
    id = duly("schedules", "trigger", "nightly", "--url", two).out.strip()
    assert duly("jobs", "show", id, "--url", two, "--json").json["task"] == "report"
    found = duly("schedules", "trigger", "nightly", "--url", two, "--json").json
    assert (found["id"], found["queue"], found["job"] != id) == ("nightly", "default", True)


def test_remove(duly: Duly, two: str) -> None:
    assert duly("schedules", "remove", "nightly", "--url", two).lines == ["nightly  removed"]
    assert len(duly("schedules", "--url", two, "--json").json) == 1


@pytest.mark.parametrize("verb", ["show", "preview", "pause", "resume", "trigger", "remove"])
def test_a_schedule_that_is_not_there_fails(duly: Duly, two: str, verb: str) -> None:
    said = duly("schedules", verb, "nightly", "--queue", "mail", "--url", two)
    assert (said.code, said.out) == (1, "")
    assert said.err == "duly: there is no schedule 'nightly' in queue 'mail' of this namespace\n"


def test_an_audit_says_what_was_fired_and_ends_with_zero(duly: Duly, url: str) -> None:
    async def tick(scheduler: Scheduler) -> None:
        scheduler.bind("note", lambda: None)
        await scheduler.schedules.put("s", every(milliseconds=100), "note", catch_up="all")
        await scheduler.start()

        async def fired() -> bool:
            view = await scheduler.schedules.get("s")
            return view is not None and view.fired >= 3 and view.outcome == "ended"

        await eventually(fired)
        await scheduler.stop()
        await scheduler.schedules.pause("s")

    using(url, tick)
    lines = dict(line.split(None, 1) for line in duly("schedules", "audit", "s", "--url", url).lines)
    assert lines["verdict"] == "each tick once"
    assert int(lines["fired"]) >= 3
    found = duly("schedules", "audit", "s", "--url", url, "--json", "--since", "2026-01-01T00:00:00Z").json
    assert (found["is_clean"], found["missing"], found["doubled"]) == (True, [], [])
    assert "ended" in duly("schedules", "show", "s", "--url", url).out


def test_an_audit_that_finds_a_missing_tick_ends_with_one(duly: Duly, url: str) -> None:
    async def lose(scheduler: Scheduler) -> None:
        """What no rule allows: the mark is moved, and nothing is fired or counted."""
        await scheduler.schedules.put("s", every(milliseconds=10), "note", remote=True)
        shard = scheduler.shard("default")

        async def moments_pass() -> bool:
            (record,) = (await shard.schedules(["s"], "", 1)).items
            return (await shard.sizes()).now > record.mark + 50

        await eventually(moments_pass)
        (record,) = (await shard.schedules(["s"], "", 1)).items
        now = (await shard.sizes()).now
        assert await shard.fire("n", [Firing("s", record.revision, record.mark, now, None, None)]) == ["fired"]

    using(url, lose)
    said = duly("schedules", "audit", "s", "--url", url)
    assert said.code == 1
    assert "missing or doubled" in said.out
    found = duly("schedules", "audit", "s", "--url", url, "--json")
    assert (found.code, len(json.loads(found.out)["missing"]) >= 5) == (1, True)
