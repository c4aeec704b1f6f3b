"""The screens as they are read without a script: what they show, what their forms do, and hostile data on them."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from duly import Fail, Scheduler, cron, every
from duly.core.job import NewJob
from duly.dashboard import Access, dashboard
from duly.errors import StoreUnavailable
from duly.monitor import Monitor
from tests.dashboard.asking import PASSWORD, READ_PASSWORD, access, client, form_token, log_in, running_app
from tests.schedulers import shared
from tests.waiting import eventually

LISTS = ["/", "/queues", "/jobs", "/jobs?state=leased", "/jobs?state=dead", "/dead", "/schedules", "/ticks", "/nodes",
         "/locks", "/doctor", "/doctor/summary"]  # fmt: skip
HOSTILE = "\"><script>alert(1)</script>'/../%2e%2e/ü\u202egnp\x9b31m"
LONG = "<b>x</b>" * 120_000


@pytest.fixture
def scheduler() -> Scheduler:
    scheduler = Scheduler(shared("memory://"), lease=2)
    scheduler.bind("*", lambda *args, **kwargs: None)
    return scheduler


@pytest.fixture
async def browser(scheduler: Scheduler) -> AsyncIterator[httpx2.AsyncClient]:
    async with running_app(dashboard(scheduler, access=Access(open=True))) as app, client(app) as browser:
        yield browser


async def send(browser: httpx2.AsyncClient, to: str, **fields: Any) -> httpx2.Response:
    """What the screen shows to which a sent form leads."""
    form = {"csrf": await form_token(browser)} | fields
    answer = await browser.post(to, data=form)
    if answer.status_code != 303:
        return answer
    return await browser.get(answer.headers["location"])


def text_of(response: httpx2.Response) -> str:
    """What people read, in one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", response.text)).split())


def job(queue: str, id: str) -> str:
    return f"/job?{urlencode({'queue': queue, 'id': id})}"


def schedule(queue: str, id: str, **more: Any) -> str:
    return f"/schedule?{urlencode({'queue': queue, 'id': id} | more)}"


async def die(scheduler: Scheduler, *ids: str, queue: str = "default", reason: str = "no way") -> None:
    """Have jobs die, by a node that runs for it."""

    async def fail(*args: Any, **kwargs: Any) -> None:
        raise Fail(reason)

    node = Scheduler(scheduler.store.url, queues=[queue], lease=2)
    node.bind("*", fail)
    await node.start()
    before = (await node.queues.sizes(queue)).dead
    for id in ids:
        await node.push("fails", 1, queue=queue, id=id)

    async def are_dead() -> bool:
        return (await node.queues.sizes(queue)).dead >= len(ids) + before

    await eventually(are_dead)
    await node.stop()


# what is shown


@pytest.mark.parametrize("path", LISTS)
async def test_each_screen_stands_over_an_empty_store(browser: httpx2.AsyncClient, path: str) -> None:
    answer = await browser.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("path", "advice"),
    [("/queues", "duly worker app:scheduler"), ("/jobs", "duly push"), ("/schedules", "@scheduler.cron("),
     ("/nodes", "duly worker"), ("/locks", "scheduler.lock("), ("/dead", "Nothing is dead")],
)  # fmt: skip
async def test_an_empty_screen_says_what_to_do(browser: httpx2.AsyncClient, path: str, advice: str) -> None:
    assert advice in text_of(await browser.get(path))


async def test_nothing_in_a_page_needs_more_than_the_strict_policy_allows(
    scheduler: Scheduler, browser: httpx2.AsyncClient
) -> None:
    await scheduler.schedules.put("s", every(minutes=1), "t")
    await scheduler.push("t", id="j", remote=True)
    for path in [*LISTS, job("default", "j"), schedule("default", "s"), "/nope"]:
        text = (await browser.get(path)).text
        assert not re.search(r"\s(style|on[a-z]+)=", text), path
        assert not re.search(r"<style|<script(?![^>]*\ssrc=)", text), path
        assert not re.search(r'(src|href)="(https?:)?//', text), path


async def test_the_overview_counts_what_is_there(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    for number in range(3):
        await scheduler.push("t", number, queue="mail", remote=True)
    await scheduler.queues.pause("mail")
    said = text_of(await browser.get("/"))
    assert "pending 3" in said
    assert "mail 3 0 0 paused" in said
    assert "No node is alive" in said


async def test_a_job_shows_its_arguments_without_secrets_its_reason_and_its_life(
    scheduler: Scheduler, browser: httpx2.AsyncClient
) -> None:
    await scheduler.push("send", kwargs={"to": "ada", "api_key": "k-123"}, id="r/1", delay=3600, remote=True)
    answer = await browser.get(job("default", "r/1"))
    said = text_of(answer)
    assert '"to": "ada"' in said
    assert "k-123" not in answer.text
    assert "pushed" in said
    assert "due" in said
    assert re.search(r'<time datetime="[0-9T:.+-]+" title="[^"]+" data-at="[0-9.]+">in 1 h|in 59 m', answer.text)


async def test_a_dead_job_shows_what_it_died_of(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    await die(scheduler, "x1", reason="the card was declined")
    said = text_of(await browser.get(job("default", "x1")))
    assert "the card was declined" in said
    assert "Retry" in said


async def test_a_job_that_has_ended_shows_its_result(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    node = Scheduler(scheduler.store.url, lease=2)
    node.bind("adds", lambda: {"sum": 42, "token": "hidden-one"}, keep_result=True)
    await node.start()
    await (await node.push("adds", id="a")).result(10)
    page = await browser.get(job("default", "a"))
    assert '"sum": 42' in text_of(page)
    assert "hidden-one" not in page.text
    await node.stop()


async def test_numbers_that_differ_make_no_other_reason(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    for number in (1, 2):
        await die(scheduler, f"x{number}", reason=f"order {number} has no customer")
    assert "order … has no customer fails default" in text_of(await browser.get("/dead"))


async def test_the_dead_are_grouped_by_what_they_died_of(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    await die(scheduler, "x1", "x2", "x3", reason="declined")
    assert re.search(r"declined fails default 3 ", text_of(await browser.get("/dead")))


async def test_jobs_are_found_by_queue_task_and_text(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    await scheduler.push("a", "needle", id="one", remote=True)
    await scheduler.push("b", "hay", id="two", remote=True)
    await scheduler.push("a", "hay", id="three", queue="mail", remote=True)
    for query, found in (("task=a", {"one", "three"}), ("text=needle", {"one"}), ("queue=mail", {"three"})):
        page = (await browser.get(f"/jobs?state=pending&{query}")).text
        assert set(re.findall(r">(one|two|three)</a>", page)) == found, query
    assert "No job matches" in text_of(await browser.get("/jobs?text=nothing+has+this"))


async def test_an_exact_id_leads_to_its_job_or_to_a_choice(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    await scheduler.push("a", id="a/b", remote=True)
    answer = await browser.get("/jobs", params={"id": "a/b"})
    assert answer.status_code == 303
    assert answer.headers["location"] == job("default", "a/b")
    await scheduler.push("a", id="a/b", queue="mail", remote=True)
    assert "default pending a mail pending a" in text_of(await browser.get("/jobs", params={"id": "a/b"}))
    assert "No queue knows this id" in text_of(await browser.get("/jobs?id=unknown"))


async def test_pages_of_jobs_follow_each_other_to_the_last(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    await scheduler.push_many(scheduler.request("t", id=f"n{number}", remote=True) for number in range(120))
    seen: list[str] = []
    path: str | None = "/jobs?state=pending"
    while path:
        page = (await browser.get(path)).text
        seen += re.findall(r">(n\d+)</a>", page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = html.unescape(following[1]) if following else None
    assert len(seen) == len(set(seen)) == 120


async def test_a_filtered_page_says_how_much_it_has_looked_at(
    scheduler: Scheduler, browser: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duly.monitor.LOOKED", 100)
    await scheduler.push_many(scheduler.request("t", id=f"n{number}", remote=True) for number in range(250))
    page = await browser.get("/jobs?state=pending&text=n99")
    assert "looked at 100 of 250 or so" in text_of(page)
    assert "The search goes on" in text_of(page)
    for _ in range(2):
        following = re.search(r'rel="next" href="([^"]+)"', page.text)
        assert following is not None
        page = await browser.get(html.unescape(following[1]))
    assert ">n99</a>" in page.text


async def test_a_schedule_draws_its_ticks_and_lists_them(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    await scheduler.schedules.put("s", every(minutes=5), "t", args=(1,))
    page = await browser.get(schedule("default", "s", hours=6))
    assert page.text.count('class="tick coming"') >= 5
    assert "every 5 minutes" in text_of(page)
    assert "coming" in text_of(page)


async def test_the_ticks_of_a_queue_stand_beside_each_other(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    await scheduler.schedules.put("one", every(minutes=1), "t")
    await scheduler.schedules.put("two", every(minutes=2), "t")
    page = (await browser.get("/ticks?queue=default&hours=0.25")).text
    assert page.count('class="lane-row"') == 2
    assert page.count('class="tick coming"') > 2


async def test_nodes_and_their_rings_are_drawn(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    node = Scheduler(scheduler.store.url, queues=["default", "mail"], lease=2)
    await node.start()
    page = await browser.get("/nodes")
    assert page.text.count('class="arc ') == 2
    found = re.search(r'href="(/node\?id=[^"]+)"', page.text)
    assert found is not None
    assert "100% of its ring" in text_of(await browser.get(found[1]))
    await node.stop()


async def test_a_held_lock_is_listed(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    async with scheduler.lock("report/2026") as lock:
        said = text_of(await browser.get("/locks"))
        assert "report/2026" in said
        assert str(lock.fence) in said


async def test_the_graphs_have_their_numbers_in_a_table(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    minute = int(await Monitor(scheduler).now() // 60)
    store: Any = scheduler.connected_store
    await store.measure(minute, {"mail\nsend": {"started": 7, "succeeded": 5, "failed": 2, "r:40": 7, "l:20": 7}}, 60)
    page = await browser.get("/")
    assert 'data-succeeded="5' in page.text
    assert re.search(r"send mail 7 2 ", text_of(page))
    assert re.search(r"task failed dead send mail 2 0", text_of(page))


async def test_files_from_elsewhere_are_those_that_are_written_down(browser: httpx2.AsyncClient) -> None:
    listed = re.findall(r"`([\w.]+)` \|.*`([0-9a-f]{64})`", (await browser.get("/static/VENDORED.md")).text)
    assert {name for name, _ in listed} == {"htmx.min.js", "uPlot.iife.min.js", "uPlot.min.css"}
    for name, digest in listed:
        assert hashlib.sha256((await browser.get(f"/static/{name}")).content).hexdigest() == digest, name


def luminance(colour: str) -> float:
    """As WCAG 2 defines it, of #rrggbb."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
async def test_text_stands_out_from_what_is_behind_it(browser: httpx2.AsyncClient, theme: int) -> None:
    sheet = (await browser.get("/static/duly.css")).text
    found = {name: pair[theme] for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", sheet)}
    pairs = [(text, behind, 4.5) for text in ("ink", "muted", "accent", "good", "warn", "bad", "info")
             for behind in ("page", "surface", "raised", "hover", "accent-soft")]  # fmt: skip
    pairs += [(state, f"{state}-soft", 4.5) for state in ("good", "info", "warn", "bad", "quiet")]
    for text, behind, least in [*pairs, ("accent-ink", "accent", 4.5), ("control", "surface", 3.0)]:
        lighter, darker = sorted((luminance(found[text]), luminance(found[behind])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= least, f"{text} on {behind}"


# what is wrong


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/nope", 404, "There is no such thing"),
        ("/job?queue=default&id=gone", 404, "knows no job 'gone'"),
        ("/job", 404, "say which job"),
        ("/schedule?queue=default&id=gone", 404, "has no schedule 'gone'"),
        ("/node?id=gone", 404, "no node 'gone' is alive"),
        ("/jobs?state=odd", 422, "give one of leased, pending, dead"),
        ("/jobs?queue=odd", 404, "there is no queue 'odd'"),
        ("/ticks?hours=99", 422, "give one of 0.25, 1, 6, 24"),
        ("/?hours=x", 422, "give one of 1, 6, 12"),
    ],
)
async def test_what_is_not_there_is_said_in_one_sentence(
    scheduler: Scheduler, browser: httpx2.AsyncClient, path: str, status: int, sentence: str
) -> None:
    await scheduler.push("job", delay=60)  # the queue is known
    answer = await browser.get(path)
    assert answer.status_code == status
    assert sentence in text_of(answer)


async def test_a_store_that_does_not_answer_is_tried_again_by_the_page(
    scheduler: Scheduler, browser: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise StoreUnavailable("redis://h:6379 does not answer")

    monkeypatch.setattr(scheduler.store, "registry", away)
    answer = await browser.get("/queues")
    assert answer.status_code == 503
    assert '<meta http-equiv="refresh" content="5">' in answer.text
    assert "redis://h:6379 does not answer" in text_of(answer)


# what forms do


async def test_a_queue_is_paused_resumed_limited_and_cleared(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    await scheduler.push("t", queue="mail", remote=True)
    page = await send(browser, "/queues", queue="mail", action="pause", back="/queues")
    assert "queue 'mail' is paused" in text_of(page)
    assert (await scheduler.queues.sizes("mail")).paused
    await send(browser, "/queues", queue="mail", action="resume", back="/queues")
    assert not (await scheduler.queues.sizes("mail")).paused
    await send(browser, "/queues", queue="mail", action="limit", limit="5", back="/queues")
    assert (await scheduler.queues.sizes("mail")).limit == 5
    await send(browser, "/queues", queue="mail", action="limit", limit="", back="/queues")
    assert (await scheduler.queues.sizes("mail")).limit is None
    asked = await send(browser, "/queues", queue="mail", action="clear", back="/queues")
    assert "Are you sure?" in asked.text
    assert (await scheduler.queues.sizes("mail")).pending == 1
    page = await send(browser, "/queues", queue="mail", action="clear", confirmed="yes", back="/queues")
    assert "removed 1 job of queue 'mail'" in text_of(page)
    assert (await scheduler.queues.sizes("mail")).pending == 0


async def test_chosen_jobs_are_run_now_and_cancelled(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    ids = ["a/../b", "q\"'<"]
    for id in ids:
        await scheduler.push("t", id=id, delay=3600, remote=True)
    page = (await browser.get("/jobs?state=pending")).text
    chosen = [html.unescape(value) for value in re.findall(r'name="job" value="([^"]+)"', page)]
    assert len(chosen) == 2
    said = text_of(await send(browser, "/jobs", job=chosen, action="run", back="/jobs?state=pending"))
    assert "2 jobs: due now" in said
    assert "Are you sure?" in (await send(browser, "/jobs", job=chosen, action="cancel", back="/jobs")).text
    await send(browser, "/jobs", job=chosen, action="cancel", confirmed="yes", back="/jobs")
    assert (await scheduler.queues.sizes()).pending == 0
    said = text_of(await send(browser, "/jobs", job=chosen, action="run", back="/jobs"))
    assert "2 jobs not: no longer in that state" in said


async def test_dead_jobs_are_retried_and_deleted(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    await die(scheduler, "x1", "x2", "x3", "x4")
    await send(browser, "/jobs", job='["default","x1"]', action="retry", back="/jobs")
    await send(browser, "/jobs", job='["default","x2"]', action="delete", confirmed="yes", back="/jobs")
    sizes = await scheduler.queues.sizes()
    assert (sizes.pending, sizes.dead) == (1, 2)
    said = text_of(await send(browser, "/dead", queue="default", action="retry_dead", back="/dead"))
    assert "retried 2 jobs" in said
    assert "Are you sure?" in (await send(browser, "/dead", queue="default", action="delete_dead", back="/dead")).text


async def test_a_schedule_is_paused_with_a_note_resumed_triggered_and_removed(
    scheduler: Scheduler, browser: httpx2.AsyncClient
) -> None:
    await scheduler.schedules.put("s", every(hours=1), "t")
    on = {"queue": "default", "id": "s", "back": schedule("default", "s")}
    said = text_of(await send(browser, "/schedules", action="pause", note="a move <b>", **on))
    assert "Paused: a move <b>" in said
    assert "paused: a move <b>" in text_of(await browser.get("/schedules"))
    await send(browser, "/schedules", action="resume", **on)
    view = await scheduler.schedules.get("s")
    assert view is not None
    assert view.paused is None
    assert "runs once now" in text_of(await send(browser, "/schedules", action="trigger", **on))
    assert (await scheduler.queues.sizes()).pending == 1
    assert "Are you sure?" in (await send(browser, "/schedules", action="remove", **on)).text
    await send(browser, "/schedules", action="remove", confirmed="yes", **on)
    assert await scheduler.schedules.get("s") is None


async def test_a_schedule_gets_another_rule_after_a_preview(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    await scheduler.schedules.put("s", every(hours=1), "t")
    rule = {"kind": "cron", "rule": "0 9 * * mon", "zone": "Europe/Paris"}
    said = text_of(await browser.get("/schedule/preview", params=rule))
    assert "at 09:00 on Monday, Europe/Paris" in said
    assert said.count("Mon 20") == 8
    assert "at 09:00 on Monday" in text_of(await browser.get(schedule("default", "s", preview=1, **rule)))
    on = {"queue": "default", "id": "s", "back": "/schedules"}
    await send(browser, "/schedules", action="edit", revision="1", **on, **rule)
    view = await scheduler.schedules.get("s")
    assert view is not None
    assert view.trigger == cron("0 9 * * mon", timezone="Europe/Paris")
    late = await send(browser, "/schedules", action="edit", revision="1", **on, **rule | {"rule": "1 1 * * *"})
    assert late.status_code == 409  # somebody else was faster


async def test_a_rule_that_cannot_be_read_is_explained_in_the_preview(browser: httpx2.AsyncClient) -> None:
    for rule in (
        {"kind": "cron", "rule": "61 * * * *"},
        {"kind": "every", "rule": "soon"},
        {"kind": "at", "rule": "x"},
    ):
        answer = await browser.get("/schedule/preview", params=rule)
        assert answer.status_code == 200
        assert 'role="alert"' in answer.text, rule


async def test_an_interval_keeps_its_grid_when_it_is_edited(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    await scheduler.schedules.put("s", every(minutes=5, align=60), "t")
    await send(browser, "/schedules", action="edit", queue="default", id="s", revision="1", kind="every",
               rule="1 h 30 m", zone="", back="/schedules")  # fmt: skip
    view = await scheduler.schedules.get("s")
    assert view is not None
    assert view.trigger == every(minutes=90, align=60)


async def test_a_backfill_pushes_one_run_for_each_moment(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    await scheduler.schedules.put("s", cron("0 * * * *", timezone="Europe/Paris"), "t")
    said = text_of(
        await send(browser, "/schedules", action="backfill", queue="default", id="s", zone="Europe/Paris",
                   start="2026-01-01T00:00", end="2026-01-01T06:00", back="/schedules")
    )  # fmt: skip
    assert "6 runs of schedule 's' pushed" in said
    assert (await scheduler.queues.sizes()).pending == 6


async def test_what_a_form_did_is_said_once(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    await scheduler.push("t", remote=True)
    assert "is paused: no node" in text_of(
        await send(browser, "/queues", queue="default", action="pause", back="/queues")
    )
    assert "is paused: no node" not in text_of(await browser.get("/queues"))


@pytest.mark.parametrize(
    "to", ["https://evil.test/", "//evil.test", "/\\evil.test", "\t//evil.test", "javascript:alert(1)"]
)
async def test_a_form_never_leads_to_another_site(scheduler: Scheduler, browser: httpx2.AsyncClient, to: str) -> None:
    await scheduler.push("t", remote=True)
    form = {"csrf": await form_token(browser), "queue": "default", "action": "pause", "back": to}
    answer = await browser.post("/queues", data=form)
    assert answer.headers["location"] == "/"


async def test_a_bad_choice_of_jobs_is_refused_with_a_sentence(browser: httpx2.AsyncClient) -> None:
    for chosen, sentence in (([], "no job was chosen"), (["{"], "cannot be read")):
        answer = await send(browser, "/jobs", job=chosen, action="retry", back="/jobs")
        assert answer.status_code == 422
        assert sentence in text_of(answer)


# who looks


async def test_who_may_only_read_has_nothing_to_press(scheduler: Scheduler) -> None:
    async with running_app(dashboard(scheduler, access=access())) as app, client(app) as browser:
        await log_in(browser, READ_PASSWORD)
        await scheduler.push("t", id="j", remote=True)
        await scheduler.schedules.put("s", every(minutes=1), "t")
        assert "you may look, not change" in text_of(await browser.get("/"))
        for path in ("/queues", "/jobs", "/schedules", "/dead", job("default", "j"), schedule("default", "s")):
            page = await browser.get(path)
            assert page.status_code == 200
            assert 'name="action"' not in page.text, path


async def test_the_log_in_says_what_was_wrong_and_shows_nothing_of_the_store(scheduler: Scheduler) -> None:
    async with running_app(dashboard(scheduler, access=access())) as app, client(app) as browser:
        page = await browser.get("/login?next=/jobs")
        assert 'type="password"' in page.text
        assert scheduler.store.url not in page.text
        assert "not known here" in text_of(await log_in(browser, "wrong password"))
        assert (await log_in(browser, PASSWORD, "/jobs")).headers["location"] == "/jobs"


async def test_mounted_somewhere_every_link_stays_there(scheduler: Scheduler) -> None:
    await scheduler.connect()
    await scheduler.push("t", id="j", remote=True)
    outer = Starlette(routes=[Mount("/in/side", dashboard(scheduler, access=Access(open=True)))])
    async with client(outer) as browser:
        for path in ("/", "/queues", "/jobs", job("default", "j"), "/nope"):
            page = (await browser.get(f"/in/side{path}")).text
            links = re.findall(r'(?:href|src|action|data-root)="([^"#][^"]*)"', page)
            assert links
            assert all(link.startswith("/in/side/") for link in links), links
    await scheduler.close()


# hostile data


async def test_hostile_data_is_shown_as_text_on_every_screen(scheduler: Scheduler, browser: httpx2.AsyncClient) -> None:
    id, queue = HOSTILE, "<img/src=x/onerror=alert(1)>"
    await scheduler.push("<script>t</script>", LONG, kwargs={"k": "\x1b[31m<svg/onload=alert(1)>", "n": ["<i>"]},
                         id=id, queue=queue, delay=60, remote=True)  # fmt: skip
    await scheduler.schedules.put(id, every(minutes=1), "</textarea><script>x</script>", args=(LONG,), queue=queue)
    await scheduler.schedules.pause(id, "<script>note</script>\x1b[2J", queue=queue)
    await die(scheduler, f"dead{HOSTILE}", queue=queue, reason=f"<script>reason</script>\x00\x1b[2J{LONG}")
    await scheduler.store.lock(HOSTILE, "<script>owner</script>", 60_000)
    paths = [*LISTS, job(queue, id), job(queue, f"dead{HOSTILE}"), schedule(queue, id, hours=1), "/nope<script>",
             f"/ticks?{urlencode({'queue': queue})}", f"/jobs?{urlencode({'text': HOSTILE, 'task': '<script>'})}",
             f"/jobs?{urlencode({'id': HOSTILE, 'queue': queue})}", f"/job?{urlencode({'queue': queue, 'id': LONG[:5000]})}",
             f"/schedule/preview?{urlencode({'kind': '<script>', 'rule': HOSTILE})}"]  # fmt: skip
    for path in paths:
        answer = await browser.get(path)
        assert answer.status_code < 500, path
        assert not re.search(r"<(script>|img|svg/|/textarea)", answer.text), path
        assert not re.search(
            r"\son[a-z]+=[^&\"]*alert", re.sub(r'"[^"]*"', '""', re.sub(r">[^<]*<", "><", answer.text))
        )
        shown = re.sub(r'value="[^"]*"', "", answer.text)  # what comes back with a form is as it was
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown), path
        assert len(answer.text) < 200_000, path


async def test_a_hostile_id_can_be_followed_from_the_list_to_its_page(
    scheduler: Scheduler, browser: httpx2.AsyncClient
) -> None:
    await scheduler.push("t", id=HOSTILE, delay=60, remote=True)
    await scheduler.schedules.put(HOSTILE, every(minutes=1), "t")
    for path, screen in (("/jobs?state=pending", "/job?"), ("/schedules", "/schedule?")):
        page = (await browser.get(path)).text
        links = [html.unescape(link) for link in re.findall(r'href="([^"]+)"', page)]
        found = next(link for link in links if link.startswith(screen))
        assert (await browser.get(found)).status_code == 200


async def test_an_envelope_that_cannot_be_read_is_shown_as_such(
    scheduler: Scheduler, browser: httpx2.AsyncClient
) -> None:
    await scheduler.make_known("default")
    await scheduler.shard("default").enqueue("c", 1, [NewJob("broken", b"\xff\xfe<script>\x00")])
    assert "not readable by this version" in text_of(await browser.get("/jobs?state=pending"))
    assert "cannot be read by this version" in text_of(await browser.get(job("default", "broken")))
