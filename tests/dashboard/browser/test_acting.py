"""Every screen and every action in Chromium, over a node on SQLite and on Redis; what it did is read from the store."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from duly import every
from tests.dashboard.browser.conftest import World
from tests.dashboard.browser.steps import push, say_yes, sizes

STORES = ("sqlite", "redis")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SCREENS = ("Overview", "Queues", "Jobs", "Dead", "Schedules", "Ticks", "Nodes", "Locks", "Doctor")


def test_every_screen_opens_and_figures_come_in_live(page: Page, world: World) -> None:
    page.goto("/")
    expect(page.locator(".u-wrap").first).to_be_visible()  # the graphs
    expect(page.locator("#findings .badge").first).to_be_visible()  # the doctor
    for screen in SCREENS:
        page.get_by_role("link", name=screen).first.click()
        expect(page.locator("h1")).to_have_text(screen)
    page.goto("/")
    expect(page.locator("[data-live-state]")).to_have_attribute("data-state", "on")
    world.ask(push("quick", delay=600))
    expect(page.locator(".tile [data-live=pending]")).to_have_text("1")


def test_a_queue_is_paused_resumed_limited_and_cleared(page: Page, world: World) -> None:
    for number in range(3):
        world.ask(push("quick", number, delay=600))
    page.goto("/queues")
    row = page.locator("tr", has=page.get_by_role("link", name="default", exact=True))
    row.get_by_role("button", name="Pause").click()
    expect(row.get_by_text("paused")).to_be_visible()
    assert world.ask(sizes(paused=True))
    row.get_by_role("button", name="Resume").click()
    expect(row.get_by_role("button", name="Pause")).to_be_visible()
    row.get_by_label("limit of default").fill("3")
    row.get_by_role("button", name="Set").click()
    expect(page.get_by_text("runs at most 3 jobs at once")).to_be_visible()
    assert world.ask(sizes(limit=3, paused=False))
    row.get_by_role("button", name="Clear").click()
    expect(page.locator("#ask")).to_contain_text("3 pending jobs")
    page.get_by_role("button", name="Leave it").click()
    assert world.ask(sizes(pending=3))
    row.get_by_role("button", name="Clear").click()
    say_yes(page)
    expect(page.get_by_text("removed 3 jobs")).to_be_visible()
    assert world.ask(sizes(pending=0))


def test_chosen_jobs_are_run_now_or_cancelled(page: Page, world: World) -> None:
    for number in range(4):
        world.ask(push("quick", number, delay=600, id=f"later/{number}"))
    page.goto("/jobs?state=pending")
    page.get_by_label("Choose later/0").check()
    page.get_by_label("Choose later/1").check()
    expect(page.get_by_text("2 chosen")).to_be_visible()
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_text("2 jobs: due now")).to_be_visible()
    world.eventually(sizes(pending=2, leased=0), "the two have run")
    expect(page.get_by_label("Choose later/0")).to_have_count(0)  # the list has followed
    page.get_by_label("Choose all").check()
    page.get_by_role("button", name="Cancel").click()
    say_yes(page)
    expect(page.get_by_text("Nothing waits")).to_be_visible()
    assert world.ask(sizes(pending=0))


def test_a_running_job_shows_its_progress_and_can_be_cancelled(page: Page, world: World) -> None:
    world.ask(push("slow", id="slow/1", queue="media"))
    page.goto("/jobs?state=leased")
    page.get_by_role("link", name="slow/1").click()
    expect(page.get_by_text("step ", exact=False).first).to_be_visible()
    first = page.get_by_text("step ", exact=False).first.inner_text()
    expect(page.get_by_text("step ", exact=False).first).not_to_have_text(first)  # it goes on by itself
    page.locator(".life a").first.click()
    expect(page.get_by_text("What it runs")).to_be_visible()
    page.get_by_role("link", name="slow/1").click()
    page.get_by_role("button", name="Ask to cancel").click()
    say_yes(page)
    world.eventually(sizes("media", leased=0), "the job has ended")


def test_dead_jobs_are_read_retried_and_deleted(page: Page, world: World) -> None:
    for number in range(3):
        world.ask(push("fails", "the card was declined", id=f"card/{number}", queue="mail"))
    world.eventually(sizes("mail", dead=3), "three are dead")
    page.goto("/dead")
    expect(page.get_by_text("the card was declined").first).to_be_visible()
    page.get_by_role("link", name="card/").first.click()
    expect(page.locator("h1")).to_contain_text("card/")
    page.get_by_role("button", name="Delete").click()
    say_yes(page)
    expect(page.get_by_text("1 job: deleted")).to_be_visible()
    assert world.ask(sizes("mail", dead=2))
    page.goto("/dead")
    page.get_by_role("button", name="Retry all").click()
    say_yes(page)
    expect(page.get_by_text("retried 2 jobs")).to_be_visible()
    world.eventually(sizes("mail", dead=2, pending=0, leased=0), "they have died again")
    page.get_by_role("button", name="Delete all").click()
    say_yes(page)
    expect(page.get_by_text("Nothing is dead")).to_be_visible()
    assert world.ask(sizes("mail", dead=0))


def test_a_schedule_is_steered_and_given_another_rule(page: Page, world: World) -> None:
    world.ask(lambda scheduler: scheduler.schedules.put("s/1", every(hours=1), "quick"))

    def view() -> Any:
        return world.ask(lambda scheduler: scheduler.schedules.get("s/1"))

    page.goto("/schedules")
    page.get_by_role("link", name="s/1").click()
    page.get_by_label("Note: why it is paused").fill("a move")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused: a move")).to_be_visible()
    assert view().paused == "a move"
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("goes on from now")).to_be_visible()
    page.get_by_role("button", name="Run once").click()
    expect(page.get_by_text("runs once now")).to_be_visible()
    page.get_by_label("kind").select_option("cron")
    page.get_by_label("rule", exact=True).fill("0 9 * * mon")
    page.get_by_label("time zone").fill("Europe/Paris")
    expect(page.locator("#preview")).to_contain_text("at 09:00 on Monday, Europe/Paris")
    expect(page.locator("#preview li")).to_have_count(8)
    page.get_by_label("rule", exact=True).fill("0 99 * * mon")
    expect(page.locator("#preview [role=alert]")).to_be_visible()
    page.get_by_label("rule", exact=True).fill("0 9 * * tue")
    page.get_by_role("button", name="Change the rule").click()
    say_yes(page)
    expect(page.locator(".head")).to_contain_text("at 09:00 on Tuesday")
    assert view().trigger.expression == "0 9 * * tue"
    page.get_by_label("from").fill("2026-01-06T00:00")
    page.get_by_label("to, not including").fill("2026-01-21T00:00")
    page.get_by_role("button", name="Backfill").click()
    say_yes(page)
    expect(page.get_by_text("3 runs of schedule")).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    say_yes(page)
    expect(page.get_by_text("is gone")).to_be_visible()
    assert view() is None
