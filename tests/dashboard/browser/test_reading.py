"""The screens in Chromium: by keys, without a script, on a phone, with hostile data."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, expect

from duly import Scheduler, every
from tests.dashboard.browser.conftest import Watched, World
from tests.dashboard.browser.steps import push, say_yes, sizes

STORES = ("sqlite",)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SCREENS = ("Overview", "Queues", "Jobs", "Dead", "Schedules", "Ticks", "Nodes", "Locks", "Doctor")
HOSTILE = "\"><script>alert(1)</script><img/src=x/onerror=alert(2)>'/../ü"


def test_hostile_data_runs_no_script_on_any_screen(page: Page, world: World) -> None:
    async def write(scheduler: Scheduler) -> None:
        given = [f"{HOSTILE}\x1b[2J", "<b>" * 30_000]
        await scheduler.push(HOSTILE, args=given, id=HOSTILE, delay=600, remote=True)
        await scheduler.schedules.put(HOSTILE, every(hours=1), HOSTILE, args=given)
        await scheduler.schedules.pause(HOSTILE, HOSTILE)
        await scheduler.push("fails", HOSTILE, id=f"d{HOSTILE}", remote=True, queue="mail")

    world.ask(write)
    world.eventually(sizes("mail", dead=1), "one is dead")
    where = urlencode({"queue": "default", "id": HOSTILE})
    dead = urlencode({"queue": "mail", "id": f"d{HOSTILE}"})
    for path in ("/", "/queues", "/jobs?state=pending", "/jobs?state=dead", "/dead", "/schedules", "/ticks", f"/job?{where}",
                 f"/job?{dead}", f"/schedule?{where}", f"/jobs?{urlencode({'text': HOSTILE})}"):  # fmt: skip
        page.goto(path)
        expect(page.locator("h1")).to_be_visible()
        assert page.locator("main script, main img, main b b b").count() == 0, path
    page.goto("/jobs?state=pending")
    page.get_by_label("Choose").last.check()
    page.get_by_role("button", name="Cancel").click()
    say_yes(page)
    expect(page.get_by_text("cancelled, or asked to stop")).to_be_visible()


def test_all_of_it_can_be_reached_by_keys(page: Page, world: World) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#page")).to_be_focused()
    for key, screen in (("q", "Queues"), ("s", "Schedules"), ("n", "Nodes"), ("j", "Jobs"), ("o", "Overview")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page.locator("h1")).to_have_text(screen)
    page.keyboard.press("/")
    expect(page.locator("[data-search]")).to_be_focused()
    page.keyboard.press("g")  # typed, not obeyed
    expect(page.locator("[data-search]")).to_have_value("g")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()


def test_a_list_stands_still_while_something_is_chosen(page: Page, world: World) -> None:
    world.ask(push("quick", delay=600, id="one"))
    page.goto("/jobs?state=pending")
    page.get_by_label("Choose one").check()
    world.ask(push("quick", delay=600, id="two"))
    expect(page.locator(".tabs [data-live=pending]")).to_have_text("2")  # the figures go on
    page.wait_for_timeout(3_000)  # longer than lists are left alone; there is nothing else to wait for
    assert page.get_by_label("Choose two").count() == 0
    assert page.get_by_label("Choose one").is_checked()
    page.get_by_label("Choose one").uncheck()
    page.get_by_label("Choose one").blur()
    expect(page.get_by_label("Choose two")).to_be_visible()


def test_the_theme_is_kept(page: Page, world: World) -> None:
    page.emulate_media(color_scheme="light")
    page.goto("/")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="dark").click()
    page.goto("/queues")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_a_dashboard_that_is_gone_is_said_and_heals(browser: Browser, world: World) -> None:
    watched = Watched(browser, world)
    page = watched.page
    page.goto("/queues")
    expect(page.locator("[data-live-state]")).to_have_attribute("data-state", "on")
    watched.context.set_offline(True)
    expect(page.locator("#away")).to_be_visible()
    watched.context.set_offline(False)
    expect(page.locator("#away")).to_be_hidden()
    watched.wrong.clear()  # the browser reports the requests that failed
    watched.end()


def test_everything_is_read_and_steered_without_a_script(browser: Browser, world: World) -> None:
    world.ask(push("quick", delay=600, id="plain"))
    world.ask(lambda scheduler: scheduler.schedules.put("s", every(hours=1), "quick"))
    watched = Watched(browser, world, java_script_enabled=False)
    page = watched.page
    for screen in SCREENS:
        page.goto("/")
        page.get_by_role("link", name=screen).first.click()
        expect(page.locator("h1")).to_have_text(screen)
    page.goto("/schedule?queue=default&id=s&hours=6")
    assert page.locator("svg.timeline .tick").count() >= 1
    page.get_by_label("rule", exact=True).fill("2 h")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview")).to_contain_text("every 2 hours")
    page.goto("/jobs?state=pending")
    page.get_by_label("Choose plain").check()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("h1")).to_have_text("Are you sure?")
    page.get_by_role("button", name="Cancel 1 job").click()
    expect(page.get_by_text("1 job: cancelled")).to_be_visible()
    assert world.ask(sizes(pending=0))
    watched.end()


def test_no_screen_is_wider_than_a_phone(browser: Browser, world: World) -> None:
    world.ask(push("quick", {"a": "x" * 300}, delay=600, id="a-rather-long-id-that-somebody-has-given:" + "x" * 120))
    world.ask(lambda scheduler: scheduler.schedules.put("s" * 150, every(hours=1), "quick"))
    world.ask(push("fails", "why " * 60, id="d", queue="mail"))
    world.eventually(sizes("mail", dead=1), "one is dead")
    watched = Watched(browser, world, viewport={"width": 390, "height": 844})
    page = watched.page
    for path in ("/", "/queues", "/jobs?state=pending", "/jobs?state=dead", "/dead", "/schedules", "/ticks", "/nodes", "/locks",
                 "/doctor", "/job?queue=mail&id=d", "/schedule?" + urlencode({"queue": "default", "id": "s" * 150})):  # fmt: skip
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    watched.end()
